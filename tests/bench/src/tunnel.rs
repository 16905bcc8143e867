//! The tunnel alone, against two others with the same load and the same hops.
//!
//! ```text
//!  load ─ TCP ─► server ═══ one TLS connection, dialled by the agent ═══► agent ─ TCP ─► target
//! ```
//!
//! *tlspair* has a TLS connection of its own for each stream in place of the tunnel: the same hops and the same encryption,
//! no WebSocket and no multiplexer. *remotedialer* is the tunnel of Rancher. Every part is a process of its own; in a round
//! the three stand side by side, and each figure is taken of one after the other.

mod load;
mod measure;
mod part;
mod path;
mod product;
mod promise;
mod role;
mod section;
mod target;
mod tlspair;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub(crate) use self::path::Kind;
pub(crate) use self::role::Role;
pub(crate) use self::section::section;

use self::path::{Path, Stage};

/// Figures by their names.
pub(crate) type Values = BTreeMap<&'static str, f64>;

/// What came of all rounds.
pub(crate) struct Run {
    /// One entry for each round and way.
    pub(crate) rounds: Vec<BTreeMap<Kind, Values>>,
    /// Figures that are taken once, in processes of their own.
    pub(crate) once: BTreeMap<Kind, Values>,
}

/// Measures everything. `peer` is the program with remotedialer's two ends.
pub(crate) async fn run(rounds: usize, peer: PathBuf) -> anyhow::Result<Run> {
    let stage = Stage::set(peer).await?;
    let mut run = Run { rounds: Vec::new(), once: BTreeMap::new() };
    for number in 0..rounds {
        let mut paths = Vec::new();
        for kind in Kind::ALL {
            paths.push(Path::start(kind, &stage).await?);
        }
        // Nobody always comes first.
        paths.rotate_left(number % Kind::ALL.len());
        run.rounds.push(measure::round(&paths).await?);
    }
    for kind in Kind::ALL {
        run.once.insert(kind, measure::once(kind, &stage).await?);
    }
    Ok(run)
}
