//! `make test` runs the tests with nodes beside the others, by their names.

#![allow(clippy::unwrap_used, reason = "a failed test is the point")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[test]
fn every_test_with_nodes_is_in_the_list_of_the_makefile() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let makefile = std::fs::read_to_string(root.join("Makefile")).unwrap();
    let listed = makefile.lines().find_map(|line| line.strip_prefix("NODE_TESTS := ")).unwrap();
    let listed: BTreeSet<String> = listed.split_whitespace().map(str::to_owned).collect();
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
    assert_eq!(listed, using, "NODE_TESTS in the Makefile, and the test targets that ask for nodes");
}

/// The target's file and those of its modules.
fn sources(target: &Path) -> Vec<String> {
    let modules: Vec<PathBuf> = std::fs::read_dir(target.with_extension(""))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    let files = modules.iter().map(PathBuf::as_path).chain([target]);
    files.filter(|file| file.is_file()).map(|file| std::fs::read_to_string(file).unwrap()).collect()
}
