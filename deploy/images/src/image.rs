use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::layer::Layer;
use crate::name::Name;

/// A processor that images are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

/// The text names no [`Architecture`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no architecture that images are made for: amd64 or arm64")]
pub struct UnknownArchitecture(String);

/// What a container of the image runs, unless its pod says otherwise.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Arguments that a pod's `args` replace.
    pub arguments: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// `uid:gid`; root when empty.
    pub user: String,
    /// Where it starts; `/` when empty.
    pub directory: String,
}

/// An image for one platform.
#[derive(Clone, Debug)]
pub struct Image {
    /// Under which references a runtime finds it; at least one.
    pub names: Vec<Name>,
    /// The processor of the programs inside.
    pub architecture: Architecture,
    /// From the bottom to the top. Several images may share one.
    pub layers: Vec<Arc<Layer>>,
    /// What it runs.
    pub process: Process,
    /// `org.opencontainers.image.…` and others.
    pub labels: BTreeMap<String, String>,
}

impl Image {
    /// The image configuration as the OCI specification writes it, without any time.
    pub(crate) fn configuration(&self) -> Value {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| layer.diff_id().to_string()).collect();
        let mut config = serde_json::Map::new();
        let mut set = |key: &str, value: Value| {
            let empty = value.as_str().is_some_and(str::is_empty)
                || value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(serde_json::Map::is_empty);
            if !empty {
                config.insert(key.to_owned(), value);
            }
        };
        set("Entrypoint", json!(self.process.entrypoint));
        set("Cmd", json!(self.process.arguments));
        set("Env", json!(self.process.environment));
        set("User", json!(self.process.user));
        set("WorkingDir", json!(self.process.directory));
        set("Labels", json!(self.labels));
        json!({
            "architecture": self.architecture.to_string(),
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        })
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;

    fn from_str(text: &str) -> Result<Self, UnknownArchitecture> {
        match text {
            "amd64" => Ok(Self::Amd64),
            "arm64" => Ok(Self::Arm64),
            other => Err(UnknownArchitecture(other.to_owned())),
        }
    }
}
