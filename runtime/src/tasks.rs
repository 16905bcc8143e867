//! Every task of a process has a name and an owner that joins it.
//!
//! A detached task that dies takes its work with it in silence. Here an *essential* task that ends before the
//! process was asked to stop ends the process, with its error; a panic counts as such an end.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::log::ErrorChain;
use crate::shutdown::Shutdown;

/// The process's top-level tasks. Tasks may themselves own `JoinSet`s; nothing else spawns.
#[derive(Debug)]
pub struct Tasks {
    shutdown: Shutdown,
    running: JoinSet<Result<(), BoxError>>,
    kinds: HashMap<Id, Entry>,
}

type BoxError = Box<dyn Error + Send + Sync>;

#[derive(Debug)]
struct Entry {
    name: &'static str,
    kind: Kind,
    handle: AbortHandle,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// Must run until draining begins, and is waited for.
    Essential,
    /// May end whenever it is done; is waited for.
    Finite,
    /// Serves the others to the very end; dropped after them.
    Last,
}

impl Tasks {
    /// An empty set whose tasks are expected to end once `shutdown` drains.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, running: JoinSet::new(), kinds: HashMap::new() }
    }

    /// Runs a task without which the process is pointless. It has to end by itself after draining has begun; ending
    /// earlier, even with `Ok`, ends the process.
    pub fn essential<E>(&mut self, name: &'static str, task: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Into<BoxError> + 'static,
    {
        self.spawn(name, Kind::Essential, task);
    }

    /// Runs a task that may end when its work is done. An error or a panic of it still ends the process.
    pub fn finite<E>(&mut self, name: &'static str, task: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Into<BoxError> + 'static,
    {
        self.spawn(name, Kind::Finite, task);
    }

    /// Runs a task that serves the others until they have all ended, and is dropped then (the admin listener, which
    /// still answers probes during a drain). It must not end before.
    pub fn last<E>(&mut self, name: &'static str, task: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Into<BoxError> + 'static,
    {
        self.spawn(name, Kind::Last, task);
    }

    /// Joins all tasks. Drains by itself when a task fails; aborts what is left `grace` after draining began, or on
    /// [`Shutdown::abort`]. Returns the first failure. `grace` is asked for when draining begins, and has to answer soon.
    pub async fn run(mut self, grace: impl Future<Output = Duration>) -> Result<(), TaskError> {
        let shutdown = self.shutdown.clone();
        let mut first_error = None;
        let deadline = async {
            shutdown.draining().await;
            let grace = grace.await;
            tokio::time::sleep(grace).await;
            grace
        };
        tokio::pin!(deadline);
        while self.waited_for() > 0 {
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => {
                    if let Err(error) = self.judge(ended) {
                        tracing::error!(error = %error.chain(), "a task failed: draining the process");
                        first_error.get_or_insert(error);
                        shutdown.drain();
                    }
                }
                grace = &mut deadline => {
                    let late = TaskError::GraceExceeded { grace, left: self.names() };
                    return self.abort(first_error, late);
                }
                () = shutdown.aborting() => {
                    let aborted = TaskError::Aborted { left: self.names() };
                    return self.abort(first_error, aborted);
                }
            }
        }
        self.running.shutdown().await;
        first_error.map_or(Ok(()), Err)
    }

    fn spawn<E>(&mut self, name: &'static str, kind: Kind, task: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Into<BoxError> + 'static,
    {
        let handle = self.running.spawn(async move { task.await.map_err(Into::into) });
        self.kinds.insert(handle.id(), Entry { name, kind, handle });
    }

    fn waited_for(&self) -> usize {
        self.kinds.values().filter(|entry| entry.kind != Kind::Last).count()
    }

    fn names(&self) -> String {
        let mut names: Vec<_> =
            self.kinds.values().filter(|entry| entry.kind != Kind::Last).map(|entry| entry.name).collect();
        names.sort_unstable();
        names.join(", ")
    }

    fn judge(&mut self, ended: Result<(Id, Result<(), BoxError>), JoinError>) -> Result<(), TaskError> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(Entry { name, kind, .. }) = self.kinds.remove(&id) else {
            return Ok(());
        };
        tracing::debug!(task = name, "ended");
        match ended {
            Err(error) if error.is_panic() => Err(TaskError::Panicked { name }),
            Err(_) => Ok(()),
            Ok((_, Err(source))) => Err(TaskError::Failed { name, source }),
            Ok((_, Ok(()))) if kind == Kind::Finite || self.shutdown.is_draining() => Ok(()),
            Ok((_, Ok(()))) => Err(TaskError::Ended { name }),
        }
    }

    /// Drops every task and says why, unless a task had failed before: the cause is worth more than the symptom.
    fn abort(self, first_error: Option<TaskError>, reason: TaskError) -> Result<(), TaskError> {
        for entry in self.kinds.values() {
            entry.handle.abort();
        }
        Err(first_error.unwrap_or(reason))
    }
}

/// Why a process ended otherwise than by a finished drain.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A task returned an error.
    #[error("task {name} failed")]
    Failed {
        /// Which task.
        name: &'static str,
        /// What it returned.
        source: BoxError,
    },
    /// A task that has to run for ever ended.
    #[error("task {name} ended although nobody asked it to")]
    Ended {
        /// Which task.
        name: &'static str,
    },
    /// A task panicked; the message is in the log above.
    #[error("task {name} panicked")]
    Panicked {
        /// Which task.
        name: &'static str,
    },
    /// Tasks were still running when the grace period was over.
    #[error("not drained within {}s, still running: {left}", grace.as_secs())]
    GraceExceeded {
        /// How long they were given.
        grace: Duration,
        /// Their names.
        left: String,
    },
    /// A second signal came.
    #[error("aborted by a second signal, still running: {left}")]
    Aborted {
        /// Names of the tasks that were dropped.
        left: String,
    },
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{pending, ready};
    use std::io;

    use tokio::sync::oneshot;

    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    async fn until_drained(shutdown: Shutdown) -> Result<(), Infallible> {
        shutdown.draining().await;
        Ok(())
    }

    #[tokio::test]
    async fn an_essential_task_that_ends_drains_the_others_and_names_itself() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        let (stopped, others_stopped) = oneshot::channel();
        let drained = shutdown.clone();
        tasks.essential("other", async move {
            drained.draining().await;
            stopped.send(()).ok();
            Ok::<_, Infallible>(())
        });
        tasks.essential("quitter", async { Ok::<_, Infallible>(()) });
        let error = tasks.run(ready(GRACE)).await.unwrap_err();
        assert!(matches!(error, TaskError::Ended { name: "quitter" }), "{error}");
        others_stopped.await.expect("the other task was drained, not dropped");
    }

    #[tokio::test]
    async fn a_failure_keeps_its_source_and_a_panic_its_name() {
        let mut tasks = Tasks::new(Shutdown::new());
        tasks.finite("disk", async { Err(io::Error::other("full")) });
        let error = tasks.run(ready(GRACE)).await.unwrap_err();
        assert_eq!(error.chain().to_string(), "task disk failed: full");

        let mut tasks = Tasks::new(Shutdown::new());
        tasks.finite("bug", async { if GRACE.is_zero() { Ok::<_, Infallible>(()) } else { panic!("on purpose") } });
        assert!(matches!(tasks.run(ready(GRACE)).await, Err(TaskError::Panicked { name: "bug" })));
    }

    #[tokio::test]
    async fn a_drain_ends_well_and_last_tasks_outlive_it() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.last("admin", pending::<Result<(), Infallible>>());
        tasks.finite("once", async { Ok::<_, Infallible>(()) });
        tasks.essential("server", until_drained(shutdown.clone()));
        shutdown.drain();
        tasks.run(ready(GRACE)).await.unwrap();
    }

    #[tokio::test]
    async fn what_does_not_drain_is_aborted_and_named() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.essential("stuck", pending::<Result<(), Infallible>>());
        shutdown.drain();
        let error = tasks.run(ready(Duration::ZERO)).await.unwrap_err();
        assert_eq!(error.to_string(), "not drained within 0s, still running: stuck");

        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.essential("stuck", pending::<Result<(), Infallible>>());
        shutdown.abort();
        assert!(matches!(tasks.run(ready(GRACE)).await, Err(TaskError::Aborted { .. })));
    }
}
