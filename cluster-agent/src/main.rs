//! The binary; everything it does is in the library.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use cattle_cluster_agent::{App, Args, Command, Config, OutputFormat, doctor};
use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    cattle_runtime::log::init(&args.log)?;
    // One provider for the process. Only a second call could fail, and there is none.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let command = args.command.unwrap_or(Command::Run);
    let config = Config::try_from(args)?;
    // One thread relays a gigabit per second and keeps an idle agent small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    runtime.block_on(async {
        match command {
            Command::Run => run(config).await,
            Command::Doctor { output } => examine(config, output).await,
        }
    })
}

async fn run(config: Config) -> anyhow::Result<ExitCode> {
    App::build(config).await?.run().await?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

async fn examine(config: Config, output: OutputFormat) -> anyhow::Result<ExitCode> {
    let report = doctor::examine(config).await?;
    let text = match output {
        OutputFormat::Table => report.to_string(),
        OutputFormat::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
