//! `GET /v3/import/<token>_<cluster>.yaml`: the manifest that connects a cluster, as Rancher's documentation has it.
//!
//! The path carries a registration token, so it is never logged. Whatever is wrong with it (unknown or expired token, unknown
//! or deleted cluster) has one answer: strangers learn nothing.

use std::sync::Arc;

use axum::body::Body;
use cattle_api::{
    Secret,
    management::{Cluster, setting::known},
};
use cattle_controllers::registration::{Registrations, TokenRefused};
use cattle_manifest::{EnvVar, Image, ImportManifest, Registry};
use cattle_proto::id::ClusterId;
use cattle_store::Typed;
use http::{Response, StatusCode};

use crate::{
    installation::{Settings, checksum},
    status,
};

/// Where the route begins.
pub const PREFIX: &str = "/v3/import/";

/// The node agents' image of this version, without a registry.
const NODE_AGENT_IMAGE: &str = concat!("cattle/node-agent:v", env!("CARGO_PKG_VERSION"));
/// The cluster agent's image of this version, without a registry.
const AGENT_IMAGE: &str = concat!("cattle/cluster-agent:v", env!("CARGO_PKG_VERSION"));

/// Renders import manifests.
pub struct Import {
    registrations: Arc<Registrations>,
    clusters: Typed<Cluster>,
    settings: Settings,
    server_url: String,
    server_id: String,
    ca_certs: String,
}

/// Why no manifest can be rendered although the token is good; a defect or a setting that was changed by hand.
#[derive(Debug, thiserror::Error)]
enum RenderError {
    #[error("a parameter cannot stand in a manifest")]
    Parameter(#[from] cattle_manifest::ParameterError),
    #[error("the manifest cannot be written")]
    Yaml(#[from] cattle_manifest::YamlError),
    #[error("the settings or the record cannot be read")]
    Store(#[from] cattle_store::StoreError),
}

impl Import {
    /// Manifests for this installation.
    #[must_use]
    pub fn new(
        registrations: Arc<Registrations>,
        clusters: Typed<Cluster>,
        settings: Settings,
        server_url: String,
        server_id: String,
        ca_certs: String,
    ) -> Self {
        Self { registrations, clusters, settings, server_url, server_id, ca_certs }
    }

    /// Answers a request for the rest of the path behind [`PREFIX`].
    pub async fn answer(&self, rest: &str) -> Response<Body> {
        let Some((token, cluster)) = parse(rest) else { return unknown() };
        match self.registrations.check(&cluster, &token).await {
            Ok(_) => {}
            Err(TokenRefused::Store(error)) => {
                tracing::warn!(%cluster, error = &error as &dyn std::error::Error, "a registration token cannot be checked");
                let message = "registration tokens cannot be checked now; try again";
                return status::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message);
            }
            Err(refused) => {
                tracing::debug!(%cluster, reason = %refused, "an import manifest was refused");
                return unknown();
            }
        }
        match self.render(&token, &cluster).await {
            Ok(yaml) => status::text(StatusCode::OK, "text/plain; charset=utf-8", yaml),
            Err(error) => {
                tracing::error!(%cluster, error = &error as &dyn std::error::Error, "no manifest");
                let message = "the manifest could not be made; the server's log says why";
                status::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
            }
        }
    }

    async fn render(&self, token: &Secret, cluster: &ClusterId) -> Result<String, RenderError> {
        let registry = self.settings.value(known::SYSTEM_DEFAULT_REGISTRY).await?;
        let registry: Option<Registry> = if registry.is_empty() { None } else { Some(registry.parse()?) };
        let record = self.clusters.get(None, cluster.as_str()).await?;
        let variables = record.map(|record| record.spec.agent_env_vars).unwrap_or_default();
        let manifest = ImportManifest {
            server_url: self.server_url.parse()?,
            ca_checksum: checksum(&self.ca_certs).map(|sum| sum.parse()).transpose()?,
            cluster_id: cluster.as_str().parse()?,
            server_id: self.server_id.parse()?,
            registration_token: token.expose_str().unwrap_or_default().parse()?,
            image: AGENT_IMAGE.parse::<Image>()?,
            node_image: NODE_AGENT_IMAGE.parse::<Image>()?,
            registry,
            agent_env: variables.iter().map(|env| EnvVar::new(&env.name, &env.value)).collect::<Result<_, _>>()?,
        };
        Ok(manifest.build()?.to_yaml()?)
    }
}

/// `<token>_<cluster>.yaml`; tokens have no underscore.
fn parse(rest: &str) -> Option<(Secret, ClusterId)> {
    let (token, cluster) = rest.strip_suffix(".yaml")?.split_once('_')?;
    let plain = token.len() <= 128 && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| Some((Secret::from(token.to_owned()), cluster.parse().ok()?)))?
}

fn unknown() -> Response<Body> {
    status::failure(StatusCode::NOT_FOUND, "NotFound", "cluster not found or invalid token")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_and_a_cluster_make_a_path() {
        let (token, cluster) = parse("abc123_c-abcde.yaml").unwrap();
        assert_eq!((token.expose_str(), cluster.as_str()), (Some("abc123"), "c-abcde"));
        for bad in [
            "",
            "abc",
            "abc.yaml",
            "abc_.yaml",
            "abc_c-abcde",
            "a/b_c-abcde.yaml",
            "abc_c-abc/de.yaml",
            "abc_../c-abcde.yaml",
            "a%5f_c-abcde.yaml",
            "abc_c-abcde.yaml.yaml",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert!(parse(&format!("{}_c-abcde.yaml", "a".repeat(129))).is_none());
    }

    #[test]
    fn any_path_is_a_token_and_a_cluster_or_none() {
        let samples = ["abc123_c-abcde.yaml", "bcdfghjklmnpqrstvwxz2456789_c-m-abcdefgh.yaml"];
        cattle_matrix::Decoder::new("import path", samples).memory(4096).hammer_text(|rest| {
            let parsed = parse(rest);
            if let Some((token, cluster)) = &parsed {
                let token = token.expose_str().unwrap();
                assert_eq!(format!("{token}_{cluster}.yaml"), rest, "what is read is all that is there");
                assert!(!rest.contains(['/', '%', '\\', '?']) && !rest.contains(".."));
            }
            parsed
        });
    }
}
