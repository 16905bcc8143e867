//! The controllers' impersonators, as the proxy asks for them.

use cattle_api::Secret;
use cattle_auth::UserInfo;
use cattle_controllers::{ImpersonationError, Impersonators};
use cattle_proto::id::ClusterId;
use cattle_proxy::{Diagnosis, ImpersonatorError, Refused};
use cattle_runtime::ErrorChain as _;
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
            match self.0.token(cluster, user).await {
                Ok(granted) => Ok(granted.token),
                Err(ImpersonationError::NotConnected) => Err(ImpersonatorError::Away),
                Err(other) => Err(ImpersonatorError::Missing(other.chain().to_string())),
            }
        })
    }

    fn recently_written(&self, cluster: &ClusterId, user: &UserInfo) -> bool {
        self.0.recently_written(cluster, user.name())
    }

    fn diagnose<'a>(
        &'a self,
        cluster: &'a ClusterId,
        user: &'a UserInfo,
        refused: Refused,
    ) -> BoxFuture<'a, Diagnosis> {
        Box::pin(async move {
            // What the API server has refused is not believed again before somebody has looked.
            match refused {
                Refused::Token => self.0.token_refused(cluster, user.name()),
                Refused::Right => self.0.distrust(cluster, user.name()),
            }
            match self.0.token(cluster, user).await {
                Ok(_) if self.0.recently_written(cluster, user.name()) => Diagnosis::Rewritten,
                Ok(_) => Diagnosis::Intact,
                Err(error) => Diagnosis::Missing(error.chain().to_string()),
            }
        })
    }
}
