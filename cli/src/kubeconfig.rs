//! `cattle kubeconfig`: a kubeconfig for a cluster or for the server itself, printed, written to a file, or merged into the one that kubectl uses.

mod document;
mod edit;
mod file;
mod merge;

use std::path::{Path, PathBuf};

use serde_json::json;

pub use self::file::WriteError;
use self::merge::Holds;
pub use self::merge::{MergeError, Merged, merge};
use crate::api::{Client, segment};
use crate::args::KubeconfigArgs;
use crate::cluster::find_cluster;
use crate::console::{Console, clean};
use crate::error::CliError;

const KUBECONFIGS: &str = "/apis/ext.cattle.io/v1/kubeconfigs";

/// Runs the command.
///
/// # Errors
/// See [`CliError`].
pub async fn run(client: &Client, args: &KubeconfigArgs, console: &mut Console) -> Result<(), CliError> {
    let clusters = match &args.cluster {
        Some(name) => vec![find_cluster(client, name).await?.id],
        // The server then gives the entry for itself.
        None => Vec::new(),
    };
    let request = json!({
        "apiVersion": "ext.cattle.io/v1",
        "kind": "Kubeconfig",
        "metadata": { "generateName": "kubeconfig-" },
        "spec": {
            "clusters": clusters,
            "currentContext": clusters.first().map_or("", String::as_str),
            "description": "made by the cattle command line",
            "ttl": args.ttl.map_or(0, |ttl| ttl.as_secs()),
        },
    });
    let answer = client.post(KUBECONFIGS, &request).await?;
    let text = answer["status"]["value"].as_str().ok_or(CliError::Answer("kubeconfig"))?;
    let kept = keep(args, text, console);
    if kept.is_err()
        && let Some(name) = answer["metadata"]["name"].as_str()
    {
        // Nobody has it, so its token shall not be good either. What is told is why it was not kept.
        let _ = client.delete(&format!("{KUBECONFIGS}/{}", segment(name))).await;
    }
    kept
}

/// Puts it where it was asked for.
fn keep(args: &KubeconfigArgs, text: &str, console: &mut Console) -> Result<(), CliError> {
    let renamed;
    let text = match &args.context {
        Some(context) => {
            renamed = merge::rename(text, context)?;
            &renamed
        }
        None => text,
    };
    match target(args, text)? {
        Target::Stdout => console.raw(text)?,
        Target::File(path) => {
            file::write_new(&path, text)?;
            console.say(&format!("written to {}", path.display()));
        }
        Target::Merge(path) => {
            let context = file::change(&path, |existing| merge(existing, text, args.r#use))?;
            console.say(&format!("context {:?} is in {}", clean(&context), path.display()));
            let what = if args.cluster.is_some() { "nodes" } else { "clusters" };
            console.say(&format!("next: kubectl --context {} get {what}", quoted(&context)));
        }
    }
    Ok(())
}

enum Target {
    Stdout,
    File(PathBuf),
    Merge(PathBuf),
}

fn target(args: &KubeconfigArgs, text: &str) -> Result<Target, CliError> {
    if let Some(path) = &args.file {
        return Ok(Target::File(path.clone()));
    }
    if !args.merge {
        return Ok(Target::Stdout);
    }
    let listed: Vec<PathBuf> = args
        .kubeconfig
        .as_deref()
        .map(|list| std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect())
        .unwrap_or_default();
    // kubectl takes all of them together, and of two entries with one name the first.
    let mut ours = None;
    for path in &listed {
        match file::read(path)?.map(|existing| merge::holds(&existing, text)).transpose() {
            Ok(Some(Holds::Ours)) => ours = ours.or(Some(path)),
            Ok(Some(Holds::None) | None) => {}
            Err(error) => return Err(WriteError::Merge { path: path.clone(), error }.into()),
        }
    }
    // As kubectl chooses: where it is already, else the first file that exists, else the last of the list, else the default.
    match ours.or_else(|| listed.iter().find(|path| path.exists())).or_else(|| listed.last()) {
        Some(path) => Ok(Target::Merge(path.clone())),
        None => {
            let home = etcetera::home_dir().map_err(|_| CliError::Config(crate::config::ConfigError::NoHome))?;
            Ok(Target::Merge(home.join(".kube").join("config")))
        }
    }
}

/// A word for a POSIX shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./:@".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", clean(word).replace('\'', r"'\''"))
}

/// Whether a path is on this machine and its directory exists; for messages.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_the_shell_are_one_word() {
        assert_eq!(quoted("prod-1.eu"), "prod-1.eu");
        assert_eq!(quoted("my prod"), "'my prod'");
        assert_eq!(quoted("it's; rm -rf /"), r"'it'\''s; rm -rf /'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("a\nb"), "'a\u{fffd}b'");
    }
}
