//! `ClusterRegistrationToken`: the token is made here, shown once, and kept as a hash.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use cattle_api::management::cluster_registration_token::DEFAULT_TTL_MINUTES;
use cattle_api::management::setting::known;
use cattle_api::{Secret, names, sealed};
use jiff::SignedDuration;
use serde_json::Value;

use super::lookup::{cluster_of, setting};
use super::{Admission, Checked, Draft, Strategy, default_name, set, set_default, text};
use crate::status::StatusError;
use crate::verb::seconds;

pub(super) struct RegistrationTokenStrategy;

impl Strategy for RegistrationTokenStrategy {
    fn defaults(&self, _: &Admission<'_>, object: &mut Value) {
        default_name(object, "crt-");
        let cluster = text(object, "/metadata/namespace").to_owned();
        set_default(object, "/spec/clusterName", &cluster);
    }

    fn create<'a>(&'a self, admission: &'a Admission<'a>, draft: &'a mut Draft) -> Checked<'a> {
        Box::pin(async move {
            let (_, require) = cluster_of(admission, &draft.object).await?;
            draft.writes.push(require);
            let cluster = text(&draft.object, "/metadata/namespace").to_owned();
            let minutes = match draft.object.pointer("/spec/ttlMinutes").and_then(Value::as_i64) {
                Some(minutes) => minutes,
                None => {
                    let default = setting(admission.store, known::REGISTRATION_TOKEN_TTL_MINUTES).await?;
                    default.parse().unwrap_or(DEFAULT_TTL_MINUTES)
                }
            };
            let ends = admission.now.checked_add(SignedDuration::from_mins(minutes)).unwrap_or(admission.now);
            set(&mut draft.object, "/status/clusterName", Value::from(cluster.as_str()));
            set(&mut draft.object, "/status/expiresAt", Value::from(seconds(ends)));
            let token = names::secret();
            let hash = registration_token_hash(&cluster, &token);
            draft.sealed.push((sealed::REGISTRATION_TOKEN_HASH.to_owned(), hash));
            show(admission, draft, &cluster, token).await
        })
    }
}

/// The token, and what to do with it, for the answer to the create.
async fn show(admission: &Admission<'_>, draft: &mut Draft, cluster: &str, token: Secret) -> Result<(), StatusError> {
    let url = setting(admission.store, known::SERVER_URL).await?;
    let private_ca = !setting(admission.store, known::CA_CERTS).await?.is_empty();
    if let Some(text) = token.expose_str().filter(|_| !url.is_empty()) {
        let manifest = format!("{}/v3/import/{text}_{cluster}.yaml", url.trim_end_matches('/'));
        // kubectl refuses a server whose certificate it cannot check, and there is no line here that skips the check.
        let command = if private_ca {
            format!("cattle cluster manifest {cluster} | kubectl apply -f -")
        } else {
            format!("kubectl apply -f {manifest}")
        };
        draft.reveal.push(("/status/manifestUrl", Secret::from(manifest)));
        draft.reveal.push(("/status/command", Secret::from(command)));
    }
    draft.reveal.push(("/status/token", token));
    Ok(())
}

/// What is sealed of a registration token: SHA-256 over a version, the cluster and the token. A slow hash would add nothing
/// to 257 random bits.
#[must_use]
pub fn registration_token_hash(cluster: &str, token: &Secret) -> Secret {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"cattle registration token v1\0");
    context.update(cluster.as_bytes());
    context.update(b"\0");
    context.update(token.expose());
    Secret::from(context.finish().as_ref().to_vec())
}

/// Whether a presented token is the one whose hash was sealed. Takes the same time for every token.
#[must_use]
pub fn registration_token_matches(cluster: &str, presented: &Secret, sealed: &Secret) -> bool {
    let hash = registration_token_hash(cluster, presented);
    verify_slices_are_equal(hash.expose(), sealed.expose()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_own_cluster_only() {
        let (token, other) = (names::secret(), names::secret());
        let sealed = registration_token_hash("c-aaaaa", &token);
        assert!(registration_token_matches("c-aaaaa", &token, &sealed));
        assert!(!registration_token_matches("c-bbbbb", &token, &sealed));
        assert!(!registration_token_matches("c-aaaaa", &other, &sealed));
        assert!(!registration_token_matches("c-aaaaa", &token, &Secret::from(Vec::new())));
    }
}
