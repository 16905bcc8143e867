//! `cattle`: see `cattle --help`.

use std::process::ExitCode;

use cattle_cli::args::Cli;
use cattle_cli::console::Console;
use cattle_cli::exit::Exit;
use clap::Parser as _;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let no_color = cli.no_color || cli.no_color_env.as_ref().is_some_and(|value| !value.is_empty());
    let mut console = Console::real(no_color);
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cattle_cli::run(&cli, &mut console)).into(),
        Err(error) => {
            console.say(&format!("error: cannot start: {error}"));
            Exit::Failure.into()
        }
    }
}
