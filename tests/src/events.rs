//! What a watch of one ConfigMap shows.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde_json::Value;

/// The values of the key `n` that a watch sees, until it has seen so many changes.
///
/// # Errors
/// When the watch ends before, or shows something else than a change.
pub async fn changes(
    mut body: impl Stream<Item = reqwest::Result<Bytes>> + Unpin,
    count: usize,
) -> anyhow::Result<Vec<String>> {
    let (mut seen, mut buffer) = (Vec::new(), Vec::new());
    while seen.len() < count {
        buffer.extend_from_slice(&body.next().await.context("a watch ended early")??);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line)?;
            ensure!(event["type"] == "MODIFIED", "{event}");
            seen.push(event["object"]["data"]["n"].as_str().unwrap_or_default().to_owned());
        }
    }
    Ok(seen)
}
