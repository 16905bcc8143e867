//! `cattle-server`: see `cattle-server --help`.

use cattle_server::{args::Args, command};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    command::run(Args::parse())
}
