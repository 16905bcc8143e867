//! The script that installs packages: it simulates first, and never removes anything.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

/// A machine that has a shell and nothing else, and an apt-get that writes down how it is called and answers with `plan`.
fn run(directory: &Path, user: u32, plan: &str) -> (Output, String) {
    let bin = directory.join("bin");
    fs::create_dir_all(&bin).expect("a directory for programs");
    for program in ["awk", "grep", "mkdir", "chmod", "rm", "sort", "printf"] {
        let found =
            ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(program)).into_iter().find(|path| path.exists());
        symlink(found.expect("the machine has it"), bin.join(program)).expect("a link");
    }
    let log = directory.join("calls");
    let scripts = [
        ("id", format!("echo {user}")),
        ("apt-cache", "echo '  Candidate: 2:1.30-1'".to_owned()),
        ("dpkg", "exit 1".to_owned()),
        ("apt-get", format!("echo \"$*\" >>{}\ncat <<'END'\n{plan}\nEND", log.display())),
    ];
    symlink("/bin/cat", bin.join("cat")).expect("a link");
    for (name, script) in scripts {
        fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("an executable script");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kubernetes/packages");
    let mut command = Command::new("/bin/sh");
    command.arg(script).env_clear().env("PATH", &bin).env("HOME", directory).env("CATTLE_CACHE", directory);
    let output = command.env("POLICY_RC_D", directory.join("policy")).output().expect("the script runs");
    (output, fs::read_to_string(log).unwrap_or_default())
}

#[test]
fn it_stops_when_something_would_be_removed() {
    let directory = tempfile::tempdir().unwrap();
    let plan = "Remv docker-ce [5:24]\nInst containerd (1.6 Debian)";
    let (output, calls) = run(directory.path(), 0, plan);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("would remove packages of yours") && error.contains("docker-ce"), "{error}");
    assert!(calls.lines().all(|call| call.starts_with("-s install ")), "{calls}");
    assert!(!directory.path().join("packages-installed").exists());
}

#[test]
fn it_installs_what_it_has_simulated_and_remembers_what_is_new() {
    let directory = tempfile::tempdir().unwrap();
    let plan = "Inst git [1:2.39] (1:2.40 Debian)\nInst containerd (1.6 Debian)\nConf containerd (1.6 Debian)";
    let (output, calls) = run(directory.path(), 0, plan);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("containerd: runs the pods of the demo's nodes"), "{said}");
    let calls: Vec<_> = calls.lines().collect();
    let [simulated, installed] = calls.as_slice() else { panic!("two calls expected: {calls:?}") };
    assert_eq!(simulated.replace("-s install", "install -y"), *installed);
    let remembered = fs::read_to_string(directory.path().join("packages-installed")).unwrap();
    assert_eq!(remembered, "containerd\n", "git was there before and was only renewed");
    assert!(!directory.path().join("policy").exists(), "services may start again");
}

#[test]
fn without_root_it_says_what_needs_it() {
    let directory = tempfile::tempdir().unwrap();
    let (output, calls) = run(directory.path(), 1000, "");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("sudo make packages"));
    assert_eq!(calls, "");
}
