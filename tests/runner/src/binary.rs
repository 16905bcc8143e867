//! The test binaries of the workspace.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use serde::Deserialize;
use tokio::process::Command;

/// One program with tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binary {
    /// As cargo is told which: `cattle-store --test crash`.
    pub(crate) name: String,
    pub(crate) executable: PathBuf,
    /// Its package: where it runs.
    pub(crate) directory: PathBuf,
    /// Whether its tests share nothing and are long, so that each is run and remembered alone.
    pub(crate) end_to_end: bool,
}

#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds them all.
pub(crate) async fn build(root: &Path) -> anyhow::Result<Vec<Binary>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--no-run", "--workspace", "--locked", "--message-format=json-render-diagnostics"]);
    let output = cargo.current_dir(root).stderr(Stdio::inherit()).kill_on_drop(true).output().await;
    let output = output.context("cargo cannot be run")?;
    anyhow::ensure!(output.status.success(), "the tests cannot be built");
    read(&String::from_utf8(output.stdout)?, root)
}

/// What cargo says it has made, one JSON object a line.
fn read(messages: &str, root: &Path) -> anyhow::Result<Vec<Binary>> {
    let mut binaries = Vec::new();
    for line in messages.lines() {
        // Other messages have other fields.
        let Ok(artifact) = serde_json::from_str::<Artifact>(line) else { continue };
        let (true, Some(executable)) = (artifact.profile.test, artifact.executable) else { continue };
        let directory = artifact.manifest_path.parent().context("a manifest without a folder")?.to_owned();
        let Target { name, kind } = artifact.target;
        let package = package(&artifact.manifest_path)?;
        let kind = kind.first().map(String::as_str);
        let option = match kind {
            Some("test") => format!("--test {name}"),
            Some("bin") => format!("--bin {name}"),
            Some("bench") => format!("--bench {name}"),
            Some("example") => format!("--example {name}"),
            _ => "--lib".to_owned(),
        };
        let end_to_end = kind == Some("test") && directory.starts_with(root.join("tests"));
        binaries.push(Binary { name: format!("{package} {option}"), executable, directory, end_to_end });
    }
    binaries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(binaries)
}

/// The name in a manifest: messages have it only inside an opaque id.
fn package(manifest: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(manifest).with_context(|| format!("{}", manifest.display()))?;
    let name = text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    Ok(name.with_context(|| format!("{} names no package", manifest.display()))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_are_found_among_cargos_messages() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let message = |folder: &str, kind: &str, name: &str, test: bool, executable: &str| {
            let manifest = root.join(folder).join("Cargo.toml");
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":{manifest:?},"target":{{"name":"{name}","kind":["{kind}"]}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let messages = [
            message("tests", "test", "faults", true, r#""/t/faults""#),
            message("server/store", "test", "crash", true, r#""/t/crash""#),
            message("server/store", "lib", "cattle_store", true, r#""/t/store""#),
            message("server/store", "lib", "cattle_store", false, "null"),
            message("server", "bin", "cattle-server", true, r#""/t/server""#),
            message("server", "bin", "cattle-server", false, r#""/t/cattle-server""#),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
            "no JSON".to_owned(),
        ];
        let binaries = read(&messages.join("\n"), &root).unwrap();
        let found: Vec<_> = binaries.iter().map(|binary| (binary.name.as_str(), binary.end_to_end)).collect();
        let wanted = [
            ("cattle-server --bin cattle-server", false),
            ("cattle-store --lib", false),
            ("cattle-store --test crash", false),
            ("cattle-tests --test faults", true),
        ];
        assert_eq!(found, wanted);
        assert_eq!(binaries[2].executable, Path::new("/t/crash"));
        assert_eq!(binaries[2].directory, root.join("server/store"));
    }
}
