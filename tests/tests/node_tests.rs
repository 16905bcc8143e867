//! `make test` runs the tests with nodes one after the other, by their names.

#![allow(clippy::unwrap_used, reason = "a failed test is the point")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[test]
fn every_test_with_nodes_is_in_the_runners_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let runner = std::fs::read_to_string(root.join("tests/runner/src/slice.rs")).unwrap();
    let listed = runner.lines().find(|line| line.starts_with("const NODES: ")).unwrap();
    // What stands in quotes.
    let listed: BTreeSet<String> = listed.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let mut using = BTreeSet::new();
    for package in ["tests", "tests/harness", "tests/demo", "tests/bench"] {
        let Ok(targets) = std::fs::read_dir(root.join(package).join("tests")) else { continue };
        for target in targets.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some()) {
            let name = target.file_stem().unwrap().to_str().unwrap().to_owned();
            if name != "node_tests" && sources(&target).iter().any(|text| text.contains("Nodes::unavailable()")) {
                using.insert(name);
            }
        }
    }
    assert_eq!(listed, using, "the runner's NODES, and the test targets that ask for nodes");
}

/// The target's file and those of its modules.
fn sources(target: &Path) -> Vec<String> {
    let modules: Vec<PathBuf> = std::fs::read_dir(target.with_extension(""))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    let files = modules.iter().map(PathBuf::as_path).chain([target]);
    files.filter(|file| file.is_file()).map(|file| std::fs::read_to_string(file).unwrap()).collect()
}
