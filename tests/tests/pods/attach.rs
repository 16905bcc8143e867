//! `kubectl attach` and `kubectl run`: of each way and program there is a pod, and its name is replaced before comparing.

use anyhow::ensure;
use cattle_harness::{Client, Output, TOOLBOX_IMAGE};
use futures_util::future::try_join_all;
use serde_json::json;

use crate::object::pod;
use crate::rig::{PROGRAMS, WORKER, compare, with_rig};
use crate::terminal::Terminal;

const LISTENS: &str = "while read -r line; do echo got $line; echo about $line >&2; done; echo end; exit 5";
/// An attached client gets what has left the container when it ends, and what is on its way then may be lost, by any way: so it
/// stays for a moment.
const RUNS: &str = "cat; echo end >&2; sleep 10; exit 3";

#[test]
fn attached_to_a_container() -> anyhow::Result<()> {
    with_rig(async |rig| {
        rig.namespace("attach").await?;
        let mut pods = Vec::new();
        for number in 0..4 {
            let mut listens = pod(&name(number), LISTENS);
            listens["spec"]["containers"][0]["stdin"] = json!(true);
            listens["spec"]["containers"][0]["stdinOnce"] = json!(true);
            pods.push(listens);
        }
        for number in 0..2 {
            let mut terminal = pod(&format!("terminal-{number}"), LISTENS);
            terminal["spec"]["containers"][0]["stdin"] = json!(true);
            terminal["spec"]["containers"][0]["tty"] = json!(true);
            pods.push(terminal);
        }
        rig.apply("attach", &pods).await?;
        rig.wait("attach", "condition=Ready", &["pod", "--all"]).await?;
        let outputs = all(async |number, program, way| {
            let client = &rig.clients(program, "attach", &["attach", "-i", &name(number)])[way];
            Ok(client.clone().stdin("one\ntwo\n"))
        })
        .await?;
        for ways in outputs.chunks(2) {
            compare(&ways[0], &ways[1], 0)?;
            ensure!(ways[0].text() == "got one\ngot two\nend\n", "{}", ways[0].text());
            ensure!(ways[0].error().contains("about one\nabout two\n"), "{}", ways[0].error());
        }
        // On a terminal, which the container has: what is typed appears once, as the container shows it.
        let mut screens = Vec::new();
        for way in 0..2 {
            let client = &rig.clients("kubectl", "attach", &["attach", "-it", &format!("terminal-{way}")])[way];
            let mut terminal = Terminal::open(client, (30, 90))?;
            // kubectl says so, and takes the terminal then: what is typed between is shown by the terminal as well.
            terminal.shows("press").await?;
            terminal.is_taken().await?;
            terminal.types("hello\r").await?;
            terminal.shows("about hello").await?;
            terminal.types("\x04").await?;
            screens.push(terminal.finish().await?);
        }
        ensure!(screens[0] == screens[1], "the ways differ: {screens:?}");
        ensure!(screens[0].0.contains("hello\r\ngot hello\r\nabout hello\r\nend\r\n"), "{screens:?}");
        Ok(())
    })
}

#[test]
fn run_and_removed() -> anyhow::Result<()> {
    with_rig(async |rig| {
        rig.namespace("run").await?;
        let overrides =
            json!({ "apiVersion": "v1", "spec": { "nodeName": WORKER, "terminationGracePeriodSeconds": 0 } });
        let overrides = format!("--overrides={overrides}");
        let input: String = (0..5_000).map(|number| format!("line {number}\n")).collect();
        let outputs = all(async |number, program, way| {
            let (name, image) = (name(number), format!("--image={TOOLBOX_IMAGE}"));
            let line = ["run", &name, "--rm", "-i", "--restart=Never", &image, "--image-pull-policy=Never", &overrides];
            let line = [&line[..], &["--command", "--", "sh", "-c", RUNS]].concat();
            Ok(rig.clients(program, "run", &line)[way].clone().stdin(input.clone()))
        })
        .await?;
        for ways in outputs.chunks(2) {
            compare(&ways[0], &ways[1], 3)?;
            ensure!(ways[0].text().starts_with(&input), "{}", ways[0].text());
        }
        let left = rig.admin("run", &["get", "pods", "-o", "name"]).await?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}

fn name(number: usize) -> String {
    format!("runner-{number}")
}

/// Runs four clients at the same time, program by program through the server and direct, each with a pod of its own.
async fn all(make: impl AsyncFn(usize, &'static str, usize) -> anyhow::Result<Client>) -> anyhow::Result<Vec<Output>> {
    let runs = (0..4).map(|number| {
        let make = &make;
        async move {
            let output = make(number, PROGRAMS[number / 2], number % 2).await?.output().await?;
            let named = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace(&name(number), "<pod>").into_bytes();
            anyhow::Ok(Output { status: output.status, stdout: named(output.stdout), stderr: named(output.stderr) })
        }
    });
    try_join_all(runs).await
}
