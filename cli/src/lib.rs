//! `cattle`, the command line.
//!
//! A thin client: what it shows and changes are objects of the server's Kubernetes-style API, and the few requests around
//! signing in. It links nothing of the server.
//!
//! | module | is |
//! |---|---|
//! | [`args`] | the command line, with its help |
//! | [`trust`] | how a server comes to be trusted: the system's roots, or one pinned CA |
//! | [`api`] | requests, and what their failures mean |
//! | [`config`] | servers and tokens, in a file that nobody else can read |
//! | [`login`], [`cluster`], [`user`], [`token`], [`kubeconfig`], [`doctor`] | the commands |
//! | [`console`], [`output`] | what people and scripts see |
//! | [`exit`] | the exit codes |
//!
//! Rules: secrets come from a terminal or standard input and never stand on the command line; nothing secret leaves before
//! the server is trusted; what a server says is cleaned before it reaches a terminal; results go to standard output and
//! everything else to standard error.

pub mod api;
pub mod args;
pub mod cluster;
pub mod config;
pub mod console;
pub mod doctor;
mod error;
pub mod exit;
#[cfg(test)]
mod golden;
pub mod kubeconfig;
pub mod login;
pub mod output;
mod skew;
pub mod token;
pub mod trust;
pub mod user;

use clap::CommandFactory as _;

use crate::api::Client;
use crate::args::{Cli, Command, TokenCommand};
use crate::config::{ConfigFile, Server};
use crate::console::Console;
pub use crate::error::CliError;
use crate::exit::Exit;
use crate::trust::client_config;

/// Runs a command line to its end and says how it went; errors are told on standard error, with the next step.
pub async fn run(cli: &Cli, console: &mut Console) -> Exit {
    match dispatch(cli, console).await.and_then(|()| console.flush().map_err(CliError::from)) {
        Ok(()) => Exit::Ok,
        // `cattle cluster list | head -1` is no failure.
        Err(CliError::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            console.say(&format!("error: {}", chain(&error)));
            if let Some(next) = error.next_step() {
                console.say(&format!("next: {next}"));
            }
            error.exit()
        }
    }
}

async fn dispatch(cli: &Cli, console: &mut Console) -> Result<(), CliError> {
    if let Command::Completion { shell } = &cli.command {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Cli::command(), "cattle", &mut script);
        return Ok(console.raw(&String::from_utf8_lossy(&script))?);
    }
    let file = ConfigFile::find(cli.config.as_deref())?;
    if let Command::Login(args) = &cli.command {
        return login::login(&file, args, console).await;
    }
    if let Command::Token(TokenCommand::Exec { info }) = &cli.command {
        return token::exec::run(&file, cli.server.as_deref(), info.as_deref(), console).await;
    }
    let config = file.load()?;
    let server = match (config.server(cli.server.as_deref()), &cli.server) {
        (Some(server), _) => server,
        (None, Some(named)) => return Err(CliError::NotSignedIn(console::clean(named))),
        (None, None) => return Err(CliError::NoServer),
    };
    if let Command::Logout = &cli.command {
        return login::logout(&file, server, console).await;
    }
    let client = connect(server)?;
    let done = if let Command::Doctor { cluster, output } = &cli.command {
        doctor::run(server, &client, cluster.as_deref(), *output, console).await
    } else {
        ask(&client, &cli.command, console).await
    };
    if done.as_ref().is_err_and(CliError::may_be_skew)
        && let Some(note) = skew::server_version(&client).await.and_then(|version| skew::note(&version))
    {
        console.say(&note);
    }
    done
}

/// The commands that ask a server as somebody.
async fn ask(client: &Client, command: &Command, console: &mut Console) -> Result<(), CliError> {
    match command {
        // These have been seen to.
        Command::Login(_) | Command::Completion { .. } | Command::Logout | Command::Doctor { .. } => Ok(()),
        Command::Whoami(output) => login::whoami(client, *output, console).await,
        Command::Cluster(command) => cluster::run(client, command, console).await,
        Command::Kubeconfig(args) => kubeconfig::run(client, args, console).await,
        Command::User(command) => user::run(client, command, console).await,
        Command::Token(command) => token::run(client, command, console).await,
    }
}

/// A client for whoever is signed in.
pub(crate) fn connect(server: &Server) -> Result<Client, CliError> {
    let token = server.token.as_deref().ok_or_else(|| CliError::NotSignedIn(server.url.to_string()))?;
    Ok(Client::anonymous(server.url.clone(), client_config(&server.trust())?)?.with_token(token)?)
}

/// The error and what caused it, on one line.
fn chain(error: &CliError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Transparent variants show their source's own text.
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    console::clean(&text)
}
