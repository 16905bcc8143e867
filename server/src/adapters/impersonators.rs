//! The controllers' impersonators, as the proxy asks for them.

use cattle_api::Secret;
use cattle_auth::UserInfo;
use cattle_controllers::{ImpersonationError, Impersonators};
use cattle_proto::id::ClusterId;
use cattle_proxy::{DialError, Diagnosis, ImpersonatorError};
use futures_util::future::BoxFuture;

/// Tokens from the controllers.
pub struct ControllersImpersonators(pub Impersonators);

impl cattle_proxy::Impersonators for ControllersImpersonators {
    fn token<'a>(
        &'a self,
        cluster: &'a ClusterId,
        user: &'a UserInfo,
    ) -> BoxFuture<'a, Result<Secret, ImpersonatorError>> {
        Box::pin(async move {
            let granted = self.0.token(cluster, user).await.map_err(|error| match error {
                ImpersonationError::NotConnected => {
                    ImpersonatorError::Unreachable(DialError::NotConnected { since: None })
                }
                other => ImpersonatorError::Missing(chain(&other)),
            })?;
            Ok(granted.token)
        })
    }

    fn recently_written(&self, cluster: &ClusterId, user: &UserInfo) -> bool {
        self.0.recently_written(cluster, user.name())
    }

    fn diagnose<'a>(&'a self, cluster: &'a ClusterId, user: &'a UserInfo) -> BoxFuture<'a, Diagnosis> {
        Box::pin(async move {
            // The controllers watch the objects: what was deleted by hand is being written again.
            match self.0.token(cluster, user).await {
                Ok(_) if self.0.recently_written(cluster, user.name()) => Diagnosis::Rewritten,
                Ok(_) => Diagnosis::Intact,
                Err(error) => Diagnosis::Missing(chain(&error)),
            }
        })
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
