//! Compiles Kubernetes for the tests, once, and prints where it is.

use std::io::Write as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let assets = cattle_harness::Assets::ready().await?;
    writeln!(std::io::stdout(), "{}", assets.directory().display())?;
    Ok(())
}
