//! How much of each matrix this run is for.

use std::ffi::OsStr;

/// How much of each matrix is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// A seeded slice: for every change.
    Short,
    /// All of it: before something is called done.
    Long,
}

impl Tier {
    /// The variable that asks for all of it.
    pub const VARIABLE: &'static str = "CATTLE_LONG";

    /// What the environment asks for.
    #[must_use]
    pub fn of_this_run() -> Self {
        Self::of(std::env::var_os(Self::VARIABLE).as_deref())
    }

    /// The one of two values that belongs to this tier.
    #[must_use]
    pub fn pick<T>(self, long: T, short: T) -> T {
        match self {
            Self::Long => long,
            Self::Short => short,
        }
    }

    /// `CATTLE_LONG=` and `CATTLE_LONG=0` are off, as in most tools.
    fn of(value: Option<&OsStr>) -> Self {
        match value {
            Some(value) if !value.is_empty() && value != "0" => Self::Long,
            _ => Self::Short,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_value_asks_for_all() {
        for (value, tier) in [
            (None, Tier::Short),
            (Some(""), Tier::Short),
            (Some("0"), Tier::Short),
            (Some("1"), Tier::Long),
            (Some("yes"), Tier::Long),
        ] {
            assert_eq!(Tier::of(value.map(OsStr::new)), tier, "{value:?}");
        }
        assert_eq!((Tier::Long.pick(2, 1), Tier::Short.pick(2, 1)), (2, 1));
    }
}
