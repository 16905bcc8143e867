//! How many files and connections the process may have open.
//!
//! Linux starts a process with a soft limit of 1,024 descriptors, for programs that use `select`, and a hard limit far above.
//! A server has one descriptor for each connection, so it takes what it is given.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More is of no use to any process of ours, and some systems name a hard limit of a billion.
const ENOUGH: u64 = 1 << 20;

/// Raises the soft limit to the hard one, and answers with the limit that holds from now on.
///
/// # Errors
/// When the system refuses; the old limit holds.
pub fn raise() -> Result<u64, LimitError> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(LimitError)?;
    let wanted = wanted(soft, hard);
    if wanted != soft {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).map_err(LimitError)?;
    }
    Ok(wanted)
}

/// The limit cannot be read or raised.
#[derive(Debug, thiserror::Error)]
#[error("the limit of open files (RLIMIT_NOFILE) cannot be raised")]
pub struct LimitError(#[source] Errno);

/// Never less than what is there.
fn wanted(soft: u64, hard: u64) -> u64 {
    hard.min(ENOUGH).max(soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_limit_is_taken_within_reason() {
        assert_eq!(wanted(1024, 4096), 4096);
        assert_eq!(wanted(1024, u64::MAX), ENOUGH);
        assert_eq!(wanted(u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(wanted(4096, 4096), 4096);
    }

    #[test]
    fn raising_twice_changes_nothing_more() {
        let raised = raise().unwrap();
        assert_eq!(raise().unwrap(), raised);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, raised);
    }
}
