use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use prometheus_client::registry::Registry;

use crate::admin::{Admin, BindError};
use crate::metrics;
use crate::ready::{Liveness, Readiness};
use crate::shutdown::{Shutdown, Signals};
use crate::tasks::{TaskError, Tasks};

/// One process: its signals, tasks, readiness and metrics. See the [crate](crate) for the order of use.
#[derive(Debug)]
pub struct Runtime {
    shutdown: Shutdown,
    readiness: Readiness,
    liveness: Liveness,
    registry: Registry,
    tasks: Tasks,
}

impl Runtime {
    /// Takes over the termination signals and begins the metrics. `service` is the binary's name.
    pub fn new(service: &'static str, version: &'static str) -> Result<Self, StartError> {
        let signals = Signals::listen().map_err(StartError)?;
        let mut runtime = Self::without_signals(service, version);
        let shutdown = runtime.shutdown();
        runtime.tasks.last("signals", async move {
            signals.watch(shutdown).await;
            std::future::pending::<Result<(), io::Error>>().await
        });
        Ok(runtime)
    }

    /// A runtime that leaves the process's signals alone, for several of them in one test process.
    pub fn without_signals(service: &'static str, version: &'static str) -> Self {
        let shutdown = Shutdown::new();
        let readiness = Readiness::new(shutdown.clone());
        let mut tasks = Tasks::new(shutdown.clone());
        let watched = readiness.clone();
        tasks.last("readiness", async move { Err(watched.lost().await) });
        Self {
            shutdown,
            readiness,
            liveness: Liveness::default(),
            registry: metrics::registry(service, version),
            tasks,
        }
    }

    /// The process's shutdown, to clone into components.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Where components announce themselves.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Where components say how to see that they are stuck.
    pub fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// Where components register their metrics; before [`Runtime::serve_admin`].
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// The process's tasks.
    pub fn tasks(&mut self) -> &mut Tasks {
        &mut self.tasks
    }

    /// Binds the admin listener and serves it to the end of the process; returns the bound address. What is registered
    /// with [`Runtime::registry`] after this is not served.
    pub async fn serve_admin(&mut self, listen: SocketAddr) -> Result<SocketAddr, BindError> {
        let registry = std::mem::take(&mut self.registry);
        let admin = Admin::bind(listen, registry, self.readiness.clone(), self.liveness.clone()).await?;
        let address = admin.address();
        self.tasks.last("admin", admin.run());
        Ok(address)
    }

    /// Runs until all tasks have ended; see [`Tasks::run`].
    pub async fn run(self, grace: impl Future<Output = Duration>) -> Result<(), TaskError> {
        self.tasks.run(grace).await
    }
}

/// The process's signal handlers cannot be installed.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for SIGTERM, SIGINT and SIGHUP")]
pub struct StartError(#[source] io::Error);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn a_dropped_ready_handle_ends_the_process_with_its_name() {
        let mut runtime = Runtime::without_signals("cattle-test", "0");
        let handle = runtime.readiness().component("listener");
        let shutdown = runtime.shutdown();
        runtime.tasks().essential("listener", async move {
            drop(handle);
            shutdown.draining().await;
            Ok::<_, Infallible>(())
        });
        let error = runtime.run(std::future::ready(Duration::from_secs(30))).await.unwrap_err();
        assert_eq!(
            crate::ErrorChain::chain(&error).to_string(),
            "task readiness failed: component listener ended before it was ready"
        );
    }
}
