//! What the process does: serve, back up, restore, give the administrator a new password.

mod offline;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use cattle_runtime::{Runtime, log};

use crate::{
    app::App,
    args::{Args, Command, ServeArgs},
    config::Config,
};

/// Runs what the command line asks for; the exit code says whether it was done. The cause of a failure is the last line of
/// the log.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    if let Err(error) = log::init(&args.log) {
        // Nothing else in this process sets a subscriber, so this is a defect; serving without a log would hide the next.
        let _ = writeln!(io::stderr(), "cattle-server: {error}");
        return ExitCode::FAILURE;
    }
    // A second provider in the process would make rustls panic at its first use; there is one.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no threads");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        match args.command {
            None => serve(&args.serve).await,
            Some(Command::Backup(backup)) => offline::backup(&backup).await,
            Some(Command::Restore(restore)) => offline::restore(&restore).await,
            Some(Command::ResetAdmin(data)) => offline::reset_admin(&data).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause: Vec<String> = error.chain().map(ToString::to_string).collect();
            tracing::error!(error = cause.join(": "), "cattle-server failed");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let config = Config::resolve(args)?;
    let mut runtime = Runtime::new("cattle-server", env!("CARGO_PKG_VERSION"))?;
    let app = Box::pin(App::build(&config, runtime.registry())).await?;
    let admin = runtime.serve_admin(config.admin_listen).await?;
    // Whoever signs in for the first time compares the checksum with this line.
    tracing::info!(url = %app.url(), listen = %app.address(), %admin, data_dir = %config.data_dir.display(), ca_checksum = app.ca_checksum().as_deref(), "cattle-server serves");
    let grace = app.drain_time().await + std::time::Duration::from_secs(30);
    Box::pin(app.start(&mut runtime)).await;
    runtime.run(grace).await?;
    Ok(())
}
