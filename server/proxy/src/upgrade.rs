//! After a `101` on both sides: bytes, both ways, until both are done.
//!
//! Nothing of the client's is forwarded before the API server has agreed (CVE-2018-1002105): the client's side of the
//! connection is only taken over when our own `101` has been sent, and that is written after the API server's has been
//! read. What the client sent too early waits in the listener's buffer, which is bounded, and is never forwarded if the answer was
//! anything else.

use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::time::timeout;

use crate::running::Running;

/// How long the listener may take to send our `101`.
const SWITCH_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes on their way in each direction.
const BUFFER: usize = 16 * 1024;

/// Carries an upgraded connection to its end. A side that has said everything is closed for writing at the other (half-close);
/// a side that breaks ends both; ended access ends both at once, and so does a server that stops when they carry a `watch`.
pub(crate) async fn splice(client: OnUpgrade, server: Upgraded, mut running: Running, watch: bool) {
    let ending = running.ending(watch);
    let copy = async {
        let client = match timeout(SWITCH_DEADLINE, client).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return tracing::debug!(%error, "client did not switch protocols"),
            Err(_) => return tracing::debug!("client did not switch protocols in time"),
        };
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        match copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await {
            Ok((up, down)) => tracing::debug!(up, down, "upgraded connection ended"),
            Err(error) => tracing::debug!(%error, "upgraded connection broke"),
        }
    };
    tokio::select! {
        biased;
        ending = ending => running.end(ending),
        () = copy => {}
    }
}
