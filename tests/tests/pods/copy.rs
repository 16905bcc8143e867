//! `kubectl cp`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cattle_tests::sha256;

use crate::exec::random;
use crate::object::idle;
use crate::rig::{PROGRAMS, Rig, compare, with_rig};

const NAMESPACE: &str = "copy";
const BYTES: usize = 50_000_000;
const LONG: Duration = Duration::from_secs(300);

#[test]
fn large_files_arrive_whole_both_ways() -> anyhow::Result<()> {
    with_rig(async |rig| {
        rig.namespace(NAMESPACE).await?;
        rig.apply(NAMESPACE, &[idle("idle")]).await?;
        rig.wait(NAMESPACE, "condition=Ready", &["pod/idle"]).await?;
        let files = tempfile::tempdir()?;
        let (bytes, file) = (random(BYTES)?, files.path().join("large"));
        std::fs::write(&file, &bytes)?;
        let sum = sha256(&bytes);
        drop(bytes);
        for program in PROGRAMS {
            copied(rig, program, &file, &sum).await.context(program)?;
            let missing = files.path().join("missing").display().to_string();
            rig.same(program, NAMESPACE, &["cp", &missing, "idle:/tmp/x"], None, 1).await?;
        }
        Ok(())
    })
}

/// One way after the other: both at once would only wait for each other.
async fn copied(rig: &Rig, program: &str, file: &Path, sum: &str) -> anyhow::Result<()> {
    let (local, back) = (file.display().to_string(), file.with_file_name("back"));
    let mut outputs = Vec::new();
    for way in 0..2 {
        let there = rig.clients(program, NAMESPACE, &["cp", &local, "idle:/tmp/large"]);
        let up = there[way].clone().deadline(LONG).output().await?;
        let there = rig.admin(NAMESPACE, &["exec", "idle", "--", "sha256sum", "/tmp/large"]).await?;
        ensure!(there.starts_with(sum), "other bytes arrived: {there}, {}", up.error());
        let line = ["cp", "idle:/tmp/large", &back.display().to_string()];
        let down = rig.clients(program, NAMESPACE, &line)[way].clone().deadline(LONG).output().await?;
        ensure!(sha256(&std::fs::read(&back)?) == sum, "other bytes came back: {}", down.error());
        std::fs::remove_file(&back)?;
        rig.admin(NAMESPACE, &["exec", "idle", "--", "rm", "/tmp/large"]).await?;
        outputs.push((up, down));
    }
    compare(&outputs[0].0, &outputs[1].0, 0)?;
    compare(&outputs[0].1, &outputs[1].1, 0)
}
