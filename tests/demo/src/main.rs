//! `make demo`: a real cluster behind a real server on one machine, by the commands that a user would type.
//!
//! [`start`] makes a cluster (or takes the one of `KUBECONFIG`), starts the server, registers the cluster by applying its
//! manifest, shows kubectl through the server, and leaves everything running. [`stop`] removes it. What it owns stands in
//! one directory, [`place::Place`], with a ledger of everything outside of it.

mod foreign;
mod own;
mod place;
mod registration;
mod server;
mod stage;
mod tour;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use place::Place;
use stage::Stage;

/// Shows Cattle at work on this machine.
#[derive(Parser)]
#[command(name = "cattle-demo", version)]
struct Args {
    /// Where the demo keeps everything; two in different places do not disturb each other
    #[arg(long, global = true, hide = true)]
    directory: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start it, and leave it running
    Start {
        /// A cluster to use instead of an own one; then --image-prefix and --url are needed
        #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
        kubeconfig: Option<String>,
        #[command(flatten)]
        reach: foreign::Reach,
    },
    /// Remove all that is running
    Stop,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Stage::new().failed(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let place = Place::new(args.directory)?;
    match args.command {
        Command::Start { kubeconfig, reach } => {
            let kubeconfig = kubeconfig.filter(|path| !path.is_empty());
            // Interrupted, it drops what it has made, which removes it.
            tokio::select! {
                result = start(&place, kubeconfig, reach) => result,
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted; what was made is removed"),
            }
        }
        Command::Stop => stop(&place).await,
    }
}

async fn start(place: &Place, kubeconfig: Option<String>, reach: foreign::Reach) -> anyhow::Result<()> {
    let stage = Stage::new();
    stage.heading(&format!("A clean place: {}", place.directory().display()));
    stop(place).await?;
    let run = place.open()?;
    match kubeconfig {
        None => {
            let cluster = own::start(&stage, place, &run).await?;
            let server = server::start(&stage, place, &run, &own::server_address(&cluster)).await?;
            registration::register(&stage, place, &server, &own::downstream(&cluster), None).await?;
            tour::show(&stage, place, Some(cattle_harness::TOOLBOX_IMAGE)).await?;
            cluster.leave_running();
            server.leave_running();
        }
        Some(kubeconfig) => {
            let target = foreign::check(&stage, place, &kubeconfig, &reach).await?;
            let server = server::start(&stage, place, &run, &target.server_address()?).await?;
            registration::register(&stage, place, &server, &target.kubeconfig, Some(&target.image_prefix)).await?;
            place.remember_foreign(&kubeconfig)?;
            tour::show(&stage, place, None).await?;
            server.leave_running();
        }
    }
    tour::how_to_go_on(&stage, place);
    Ok(())
}

async fn stop(place: &Place) -> anyhow::Result<()> {
    if place.is_foreign() {
        // The cluster is somebody's: it is left as it was found.
        registration::withdraw(&Stage::new(), place).await?;
    }
    place.remove()
}
