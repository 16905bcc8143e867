//! What the process does: serve, back up, restore, give the administrator a new password.

mod offline;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use cattle_runtime::{ErrorChain as _, Runtime, descriptors, log};

use crate::{
    app::App,
    args::{Args, Command, ServeArgs},
    config::{Config, ConfigError, ConfigFile},
};

/// What a process may have open where nobody has said otherwise.
const USUAL_DESCRIPTORS: u64 = 1024;
/// Fewer descriptors than this are few for a server.
const FEW_DESCRIPTORS: u64 = 8192;
/// Time for parts to end after what they wait for has.
const STOP_MARGIN: Duration = Duration::from_secs(30);

/// Runs what the command line asks for; the exit code says whether it was done. The cause of a failure is the last line of
/// the log.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    // The file says how to log, too: what is wrong with it is logged in the way that flags and environment ask for.
    let file = ConfigFile::of(&args.serve);
    let log = args.log.clone().or(file.as_ref().map(ConfigFile::log).unwrap_or_default());
    if let Err(error) = log::init(&log) {
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
            None => serve(&args.serve, file).await,
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

async fn serve(args: &ServeArgs, file: Result<ConfigFile, ConfigError>) -> anyhow::Result<()> {
    let config = Config::resolve(args, file?)?;
    let descriptors = raise_descriptors();
    let mut runtime = Runtime::new("cattle-server", env!("CARGO_PKG_VERSION"))?;
    let app = Box::pin(App::build(&config, descriptors, &mut runtime)).await?;
    let admin = runtime.serve_admin(config.admin_listen).await?;
    // Whoever signs in for the first time compares the checksum with this line.
    tracing::info!(url = %app.url(), listen = %app.address(), %admin, data_dir = %config.data_dir.display(), ca_checksum = app.ca_checksum().as_deref(), open_files = descriptors, "cattle-server serves");
    let drain = app.drain_times();
    app.start(&mut runtime);
    runtime.run(async move { drain.of_stop().await + STOP_MARGIN }).await?;
    Ok(())
}

/// How many files and connections may be open, as many as the system allows.
fn raise_descriptors() -> u64 {
    let limit = descriptors::raise().unwrap_or_else(|error| {
        tracing::warn!(error = %error.chain(), "the process stays with the limit that it has");
        USUAL_DESCRIPTORS
    });
    if limit < FEW_DESCRIPTORS {
        let connections = limit / 2;
        tracing::warn!(
            limit,
            connections,
            "few files may be open, so few connections are served at once: raise the hard limit (LimitNOFILE= of a systemd unit, ulimit -Hn of a shell)"
        );
    }
    limit
}
