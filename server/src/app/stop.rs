//! The end of what runs when the server stops.

use std::time::Duration;

use cattle_proxy::Proxy;
use cattle_runtime::Shutdown;
use tokio::time::sleep;

use crate::drain::DrainTimes;

/// Watches have ended after this time: what runs then is waited for, and an operator wants to know.
pub(super) const WATCHES_END: Duration = Duration::from_secs(2);

/// Waits until nothing runs through the proxy.
pub(super) async fn settled(proxy: &Proxy) {
    while !proxy.streams().is_empty() {
        sleep(Duration::from_millis(100)).await;
    }
}

/// Ends watches when the server stops, and resolves when everything else must end, too.
pub(super) async fn time_is_up(shutdown: &Shutdown, proxy: &Proxy, drain: &DrainTimes) {
    shutdown.draining().await;
    proxy.streams().drain();
    let time = drain.of_stop().await;
    let watches_end = time.min(WATCHES_END);
    sleep(watches_end).await;
    tracing::info!(running = proxy.streams().len(), seconds = time.as_secs(), "waiting for what runs");
    sleep(time.saturating_sub(watches_end)).await;
    tracing::info!(running = proxy.streams().len(), "the time is over: what runs is ended");
}
