use std::fs::File;
use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns};

use crate::nodes::ip;
use crate::process::Program;
use crate::run::Scope;

/// A network namespace with nothing but a loopback of its own, and what a test listens on in there.
///
/// It lets a process use an address that means something else to another one. It ends with its scope.
#[derive(Clone, Debug)]
pub struct Seclusion {
    name: String,
}

impl Seclusion {
    /// Whether this user may make one: root may.
    #[must_use]
    pub fn is_possible() -> bool {
        nix::unistd::geteuid().is_root()
    }

    /// A new one; at most one for each scope.
    ///
    /// # Errors
    /// When this user may not, or `ip` fails.
    pub async fn create(scope: &Scope) -> anyhow::Result<Self> {
        let name = format!("cattle-{}-alone", scope.id());
        scope.record("netns", &name, "")?;
        ip(&format!("netns add {name}")).await?;
        ip(&format!("-n {name} link set lo up")).await?;
        Ok(Self { name })
    }

    /// The same program, in there.
    #[must_use]
    pub fn enter(&self, program: Program) -> Program {
        program.under("/usr/bin/nsenter", [format!("--net={}", self.path())])
    }

    /// A listener in there, for this process. What it accepts can be relayed to anywhere outside.
    ///
    /// # Errors
    /// When the address is taken or the namespace cannot be entered.
    pub fn listen(&self, address: SocketAddr) -> anyhow::Result<TcpListener> {
        let namespace = File::open(self.path()).context("no such namespace")?;
        // A socket stays where it was made. The thread goes in, and ends there.
        let thread = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
            TcpListener::bind(address).with_context(|| format!("{address} is taken"))
        });
        thread.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
}
