//! How long what runs may go on when its end has come: settings, read each time, so that a change counts at once.
//!
//! | who goes | setting | why |
//! |---|---|---|
//! | an agent leaves or is replaced | `agent-drain-minutes` | others carry the traffic, so there is time |
//! | the server stops | `server-drain-seconds` | until it is back it serves nobody, so there is little |
//!
//! Watches are not waited for: they would never end, and their clients watch again.

use std::{fmt, time::Duration};

use cattle_api::management::setting::known;
use cattle_gateway::DrainTime;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use crate::installation::Settings;

/// How long the store may take to say it; the default counts then.
const PATIENCE: Duration = Duration::from_secs(2);

/// The times of a drain. Clones are the same.
#[derive(Clone)]
pub struct DrainTimes {
    settings: Settings,
}

impl DrainTimes {
    /// From these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// How long running requests may go on when the server stops. Never fails: what cannot be read is the default.
    pub async fn of_stop(&self) -> Duration {
        Duration::from_secs(self.number(known::SERVER_DRAIN_SECONDS).await)
    }

    /// How long streams may go on when their agent leaves or is replaced. Never fails.
    pub async fn of_agent(&self) -> Duration {
        Duration::from_secs(self.number(known::AGENT_DRAIN_MINUTES).await * 60)
    }

    async fn number(&self, name: &str) -> u64 {
        let value = match timeout(PATIENCE, self.settings.value(name)).await {
            Ok(Ok(value)) => value.parse().ok(),
            Ok(Err(_)) | Err(_) => None,
        };
        value.or_else(|| known::Known::find(name)?.default.parse().ok()).unwrap_or_default()
    }
}

impl fmt::Debug for DrainTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainTimes").finish_non_exhaustive()
    }
}

impl DrainTime for DrainTimes {
    fn drain_time(&self) -> BoxFuture<'_, Duration> {
        Box::pin(self.of_agent())
    }
}
