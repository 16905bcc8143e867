//! What every process of Cattle needs and no protocol knows: logs, signals, owned tasks, readiness, metrics and the
//! admin listener.
//!
//! # How a process is built
//!
//! `main.rs` reads like a table of contents: parse the arguments, [`log::init`], [`Runtime::new`], build the
//! components (each binds its sockets and registers its metrics while it is built), then [`Runtime::run`].
//!
//! ```no_run
//! # async fn example(logs: cattle_runtime::LogArgs, admin: cattle_runtime::AdminArgs) -> Result<(), Box<dyn std::error::Error>> {
//! use cattle_runtime::Runtime;
//!
//! cattle_runtime::log::init(&logs)?;
//! let mut runtime = Runtime::new("cattle-example", env!("CARGO_PKG_VERSION"))?;
//! let serving = runtime.readiness().component("listener");
//! // build the parts: bind, register metrics with `runtime.registry()` …
//! let shutdown = runtime.shutdown();
//! runtime.tasks().essential("listener", async move {
//!     serving.release();
//!     shutdown.draining().await;
//!     Ok::<(), std::io::Error>(())
//! });
//! let admin = runtime.serve_admin(admin.admin_listen).await?;
//! tracing::info!(%admin, "serving");
//! runtime.run(async { std::time::Duration::from_secs(30) }).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Who ends when
//!
//! The first SIGTERM or SIGINT *drains*: [`Shutdown::draining`] resolves, `/readyz` turns to 503, and every task
//! finishes what it has begun. The second signal, or the end of the grace period, *aborts*: the remaining tasks are
//! dropped and [`Runtime::run`] returns an error. An essential task that ends before anybody asked for it drains the
//! others and becomes the error of the process. Nothing here calls `exit`: only `main` ends the process.
//!
//! # The admin listener
//!
//! Plain HTTP on its own address (see [`admin`]): `/healthz` (is the process stuck?), `/readyz` (should it get
//! work?), `/metrics` (OpenMetrics). `?verbose` lists every check by name.

pub mod admin;
pub mod args;
pub mod descriptors;
pub mod log;
pub mod metrics;
pub mod ready;
pub mod shutdown;
pub mod socket;
pub mod tasks;

mod runtime;

pub use args::{AdminArgs, LogArgs};
pub use log::ErrorChain;
pub use ready::{Liveness, Readiness, ReadyHandle};
pub use runtime::{Runtime, StartError};
pub use shutdown::Shutdown;
pub use tasks::{TaskError, Tasks};
