//! What a script learns from the exit code.

use std::process::ExitCode;

/// How a command ended. The numbers are a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Ok,
    /// 1: failed, for a reason that has no code of its own.
    Failure,
    /// 2: the command line is wrong.
    Usage,
    /// 3: what was named does not exist, or is not yours to see.
    NotFound,
    /// 4: not signed in, or not permitted.
    Denied,
    /// 5: not ready in time; try again.
    NotReady,
    /// 6: the server cannot be reached, or its certificate is not trusted.
    Unreachable,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Denied => 4,
            Self::NotReady => 5,
            Self::Unreachable => 6,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
