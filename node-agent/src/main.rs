//! The binary; everything it does is in the library.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use cattle_node_agent::{App, Args, Command, Config, NodeFile, OutputFormat, doctor};
use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    cattle_runtime::log::init(&args.log)?;
    // One provider for the process. Only a second call could fail, and there is none.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // One thread relays a gigabit per second and keeps an idle agent small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    match args.command {
        Command::Run(args) => runtime.block_on(run(args.try_into()?)),
        Command::Doctor { args, output } => runtime.block_on(examine(args.try_into()?, output)),
        Command::Inspect { root, file } => {
            let node = NodeFile::inspect(&root)?;
            tracing::info!(?node, "this node");
            node.write(&file).with_context(|| format!("cannot write {}", file.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
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
