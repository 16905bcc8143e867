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

use cattle_harness::Run;
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
            start(&place, kubeconfig, reach).await
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
        None => until_interrupted(on_own(&stage, place, &run)).await?,
        Some(kubeconfig) => on_somebodys(&stage, place, &run, &kubeconfig, &reach).await?,
    }
    tour::how_to_go_on(&stage, place);
    Ok(())
}

async fn on_own(stage: &Stage, place: &Place, run: &Run) -> anyhow::Result<()> {
    let cluster = own::start(stage, place, run).await?;
    let server = server::start(stage, place, run, &own::server_address(&cluster)).await?;
    registration::register(stage, place, &server, &own::downstream(&cluster), None).await?;
    tour::show(stage, place, Some(cattle_harness::TOOLBOX_IMAGE)).await?;
    cluster.leave_running();
    server.leave_running();
    Ok(())
}

async fn on_somebodys(
    stage: &Stage,
    place: &Place,
    run: &Run,
    kubeconfig: &str,
    reach: &foreign::Reach,
) -> anyhow::Result<()> {
    let prepare = async {
        let target = foreign::check(stage, place, kubeconfig, reach).await?;
        let server = server::start(stage, place, run, &target.server_address()?).await?;
        anyhow::Ok((target, server))
    };
    let (target, server) = until_interrupted(prepare).await?;
    // From here on something is in a cluster that is not ours.
    place.remember_foreign(&target.kubeconfig)?;
    let register = async {
        registration::register(stage, place, &server, &target.kubeconfig, Some(&target.image_prefix)).await?;
        tour::show(stage, place, None).await
    };
    if let Err(error) = until_interrupted(register).await {
        // The server that can undo it ends with this function.
        return match registration::withdraw(stage, place, &target.kubeconfig).await {
            Ok(()) => place.forget_foreign().and(Err(error)),
            Err(left) => Err(left.context(error)),
        };
    }
    server.leave_running();
    Ok(())
}

/// Interrupted, it drops what it has made, which removes it.
async fn until_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted; what was made is removed"),
    }
}

async fn stop(place: &Place) -> anyhow::Result<()> {
    if let Some(kubeconfig) = place.foreign_cluster()? {
        // The cluster is somebody's: it is left as it was found.
        registration::withdraw(&Stage::new(), place, &kubeconfig).await?;
    }
    place.remove()
}
