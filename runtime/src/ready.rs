//! Readiness and liveness: which components are there, and which of them are all right.
//!
//! A component takes a [`ReadyHandle`] while the process is built and spends it with [`ReadyHandle::release`] when it
//! can serve. A handle that is merely dropped (an early return, an error path) is not readiness: it is a component
//! that will never come, and the process ends with its name. What changes over time is not stored but asked for at
//! each request, through the check given to [`ReadyHandle::release_with`] or [`Liveness::check`].

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::shutdown::Shutdown;

/// Answer of a check: `Err` carries why not, in words for an operator and without secrets.
pub type Check = Result<(), Cow<'static, str>>;

type CheckFn = Arc<dyn Fn() -> Check + Send + Sync>;

/// What an operator should look at although the process works.
pub type Warning = Option<Cow<'static, str>>;

type WarningFn = Arc<dyn Fn() -> Warning + Send + Sync>;

/// Whether the process should get work. Clones are the same.
#[derive(Clone)]
pub struct Readiness {
    components: Arc<Mutex<Vec<Component>>>,
    warnings: Arc<Mutex<Vec<(&'static str, WarningFn)>>>,
    lost: watch::Sender<Option<&'static str>>,
    shutdown: Shutdown,
}

struct Component {
    name: &'static str,
    state: State,
}

enum State {
    Starting,
    Released,
    Checked(CheckFn),
    Lost,
}

impl Readiness {
    /// Ready at once, until components are added; not ready any more once `shutdown` drains.
    pub fn new(shutdown: Shutdown) -> Self {
        let (components, warnings) = (Arc::default(), Arc::default());
        Self { components, warnings, lost: watch::Sender::new(None), shutdown }
    }

    /// Adds something that may have to be looked at. `warning` is called at each `/readyz` and must not block; it makes nothing
    /// unready.
    pub fn warn_with(&self, name: &'static str, warning: impl Fn() -> Warning + Send + Sync + 'static) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push((name, Arc::new(warning)));
    }

    /// Adds a component that the process has to wait for.
    pub fn component(&self, name: &'static str) -> ReadyHandle {
        let mut components = self.lock();
        components.push(Component { name, state: State::Starting });
        ReadyHandle { readiness: Some(self.clone()), index: components.len() - 1 }
    }

    /// Every component with its state now.
    pub fn report(&self) -> Report {
        let mut lines = Vec::new();
        if self.shutdown.is_draining() {
            lines.push(("shutdown", Err(Cow::Borrowed("draining"))));
        }
        // Checks are the components' own code: they run after the lock is gone.
        let states: Vec<(&'static str, Result<Option<CheckFn>, &'static str>)> = self
            .lock()
            .iter()
            .map(|component| {
                let state = match &component.state {
                    State::Starting => Err("starting"),
                    State::Lost => Err("ended before it was ready"),
                    State::Released => Ok(None),
                    State::Checked(check) => Ok(Some(Arc::clone(check))),
                };
                (component.name, state)
            })
            .collect();
        lines.extend(states.into_iter().map(|(name, state)| {
            let answer = match state {
                Ok(check) => check.map_or(Ok(()), |check| check()),
                Err(reason) => Err(Cow::Borrowed(reason)),
            };
            (name, answer)
        }));
        let warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let warnings = warnings.into_iter().filter_map(|(name, warning)| Some((name, warning()?))).collect();
        Report { lines, warnings }
    }

    /// Resolves with the error of the first component whose handle was dropped unreleased; otherwise never.
    ///
    /// A handle that is dropped while the process drains is no error. Cancel safe.
    pub async fn lost(&self) -> ComponentLost {
        let mut lost = self.lost.subscribe();
        match lost.wait_for(Option::is_some).await.map(|name| *name) {
            Ok(Some(name)) => ComponentLost { name },
            // `self` holds the sender, so the channel cannot close while this future lives.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    fn set(&self, index: usize, state: State) {
        if let Some(component) = self.lock().get_mut(index) {
            component.state = state;
        }
    }

    fn lose(&self, index: usize) {
        if self.shutdown.is_draining() {
            return;
        }
        self.set(index, State::Lost);
        let name = self.lock().get(index).map(|component| component.name);
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            *lost = lost.or(name);
            first
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Component>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("report", &self.report()).finish()
    }
}

/// A component's promise to become ready; see the [module](self).
#[must_use = "a handle that is dropped without `release` ends the process"]
#[derive(Debug)]
pub struct ReadyHandle {
    readiness: Option<Readiness>,
    index: usize,
}

impl ReadyHandle {
    /// The component is ready, and stays so.
    pub fn release(mut self) {
        if let Some(readiness) = self.readiness.take() {
            readiness.set(self.index, State::Released);
        }
    }

    /// The component is ready whenever `check` says so. `check` is called at each `/readyz` and must not block.
    pub fn release_with(mut self, check: impl Fn() -> Check + Send + Sync + 'static) {
        if let Some(readiness) = self.readiness.take() {
            readiness.set(self.index, State::Checked(Arc::new(check)));
        }
    }
}

impl Drop for ReadyHandle {
    fn drop(&mut self) {
        if let Some(readiness) = self.readiness.take() {
            readiness.lose(self.index);
        }
    }
}

/// A component went away before it was ready.
#[derive(Debug, thiserror::Error)]
#[error("component {name} ended before it was ready")]
pub struct ComponentLost {
    name: &'static str,
}

/// Whether the process is stuck and should be restarted. Clones are the same.
///
/// Fails only for the process's own fault: a server that is down or refuses is no reason to restart an agent.
#[derive(Clone, Default)]
pub struct Liveness {
    checks: Arc<Mutex<Vec<(&'static str, CheckFn)>>>,
}

impl Liveness {
    /// Adds a check; it is called at each `/healthz` and must not block.
    pub fn check(&self, name: &'static str, check: impl Fn() -> Check + Send + Sync + 'static) {
        self.lock().push((name, Arc::new(check)));
    }

    /// Every check with its answer now.
    pub fn report(&self) -> Report {
        let checks = self.lock().clone();
        Report { lines: checks.into_iter().map(|(name, check)| (name, check())).collect(), warnings: Vec::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(&'static str, CheckFn)>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Liveness").field("report", &self.report()).finish()
    }
}

/// Names with their answers; `Display` is the body of the verbose probes, one check on each line.
#[derive(Clone, Debug)]
pub struct Report {
    lines: Vec<(&'static str, Check)>,
    warnings: Vec<(&'static str, Cow<'static, str>)>,
}

impl Report {
    /// Whether every check passed.
    pub fn is_ok(&self) -> bool {
        self.lines.iter().all(|(_, answer)| answer.is_ok())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, answer) in &self.lines {
            match answer {
                Ok(()) => writeln!(f, "[+] {name}: ok")?,
                Err(reason) => writeln!(f, "[-] {name}: {}", crate::log::Escaped(reason))?,
            }
        }
        for (name, warning) in &self.warnings {
            writeln!(f, "[!] {name}: {}", crate::log::Escaped(warning))?;
        }
        f.write_str(if self.is_ok() { "ok" } else { "failed" })?;
        f.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn ready_when_every_handle_is_released_and_every_check_passes() {
        let readiness = Readiness::new(Shutdown::new());
        let store = readiness.component("store");
        let tunnel = readiness.component("tunnel");
        assert!(!readiness.report().is_ok());
        store.release();
        assert_eq!(readiness.report().to_string(), "[+] store: ok\n[-] tunnel: starting\nfailed\n");

        let up = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&up);
        tunnel.release_with(move || if seen.load(Ordering::Relaxed) { Ok(()) } else { Err("no session".into()) });
        assert!(readiness.report().to_string().contains("[-] tunnel: no session"));
        up.store(true, Ordering::Relaxed);
        assert!(readiness.report().is_ok());
    }

    #[test]
    fn a_warning_is_shown_and_makes_nothing_unready() {
        let readiness = Readiness::new(Shutdown::new());
        readiness.component("store").release();
        let soon = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&soon);
        readiness.warn_with("certificate", move || seen.load(Ordering::Relaxed).then(|| "ends soon".into()));
        assert_eq!(readiness.report().to_string(), "[+] store: ok\nok\n");
        soon.store(true, Ordering::Relaxed);
        assert!(readiness.report().is_ok());
        assert_eq!(readiness.report().to_string(), "[+] store: ok\n[!] certificate: ends soon\nok\n");
    }

    #[tokio::test]
    async fn a_dropped_handle_is_an_error_that_names_the_component() {
        let readiness = Readiness::new(Shutdown::new());
        drop(readiness.component("listener"));
        let error = timeout(Duration::from_secs(10), readiness.lost()).await.unwrap();
        assert_eq!(error.to_string(), "component listener ended before it was ready");
        assert!(!readiness.report().is_ok());
    }

    #[tokio::test]
    async fn draining_is_not_ready_and_forgives_dropped_handles() {
        let shutdown = Shutdown::new();
        let readiness = Readiness::new(shutdown.clone());
        let handle = readiness.component("listener");
        shutdown.drain();
        drop(handle);
        assert!(timeout(Duration::ZERO, readiness.lost()).await.is_err());
        assert!(readiness.report().to_string().starts_with("[-] shutdown: draining\n"));
    }

    #[test]
    fn liveness_asks_at_each_report() {
        let liveness = Liveness::default();
        assert!(liveness.report().is_ok());
        liveness.check("loop", || Err("no attempt for 300s".into()));
        assert_eq!(liveness.report().to_string(), "[-] loop: no attempt for 300s\nfailed\n");
    }
}
