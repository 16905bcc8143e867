//! Deadlines.

use std::time::Duration;

use tokio::time::timeout;

/// What happens at all on a busy machine happens within this.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.expect("it did not happen in time")
}
