//! The settings that this server has: name, default, what a value must be, and who may set it.
//!
//! Names and defaults are those of Rancher's documentation where it has the setting.

/// A setting that this server has.
#[derive(Debug)]
pub struct Known {
    /// `metadata.name`.
    pub name: &'static str,
    /// The value when none is set.
    pub default: &'static str,
    /// What a value must be.
    pub rule: Rule,
    /// Only the server writes it.
    pub read_only: bool,
    /// Shown to everybody, signed in or not (agents and browsers need it).
    pub public: bool,
    /// One sentence for `kubectl describe` and the documentation.
    pub description: &'static str,
}

/// What a setting's value must be.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// A whole number in a closed range.
    Integer {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// `true` or `false`.
    Boolean,
    /// An `https://` URL without path, query and user.
    HttpsUrl,
    /// `host[:port][/path]` of an image registry.
    ImagePrefix,
    /// PEM certificates.
    Pem,
    /// Any text of at most so many bytes.
    Text {
        /// The longest, in bytes.
        max: usize,
    },
}

/// Where agents and users reach the server; follows `--url`.
pub const SERVER_URL: &str = "server-url";
/// The CA that agents and users must trust, PEM; empty when it is a public one.
pub const CA_CERTS: &str = "cacerts";
/// The server's version.
pub const SERVER_VERSION: &str = "server-version";
/// The server's install id.
pub const INSTALL_UUID: &str = "install-uuid";
/// Registry prefix of the images in every manifest.
pub const SYSTEM_DEFAULT_REGISTRY: &str = "system-default-registry";
/// Minutes that a sign-in lasts.
pub const AUTH_USER_SESSION_TTL_MINUTES: &str = "auth-user-session-ttl-minutes";
/// The longest life of an API token, in minutes; 0 is no limit.
pub const AUTH_TOKEN_MAX_TTL_MINUTES: &str = "auth-token-max-ttl-minutes";
/// Minutes that a token in a kubeconfig lasts.
pub const KUBECONFIG_DEFAULT_TOKEN_TTL_MINUTES: &str = "kubeconfig-default-token-ttl-minutes";
/// Whether a generated kubeconfig holds a token; otherwise it asks the CLI for one.
pub const KUBECONFIG_GENERATE_TOKEN: &str = "kubeconfig-generate-token";
/// The shortest password, in characters.
pub const PASSWORD_MIN_LENGTH: &str = "password-min-length";
/// Minutes that running streams get to end when an agent leaves or is replaced.
pub const AGENT_DRAIN_MINUTES: &str = "agent-drain-minutes";
/// Seconds that running streams, watches aside, get to end when the server stops.
pub const SERVER_DRAIN_SECONDS: &str = "server-drain-seconds";
/// Minutes that a registration token is good for when nothing else is asked.
pub const REGISTRATION_TOKEN_TTL_MINUTES: &str = "crt-default-ttl-minutes";

const YEAR_MINUTES: i64 = 365 * 24 * 60;

/// All settings, by name.
pub static ALL: &[Known] = &[
    Known {
        name: AGENT_DRAIN_MINUTES,
        default: "10",
        rule: Rule::Integer { min: 0, max: 60 },
        read_only: false,
        public: false,
        description: "Minutes that running streams get to end when an agent leaves or is replaced.",
    },
    Known {
        name: AUTH_TOKEN_MAX_TTL_MINUTES,
        default: "129600",
        rule: Rule::Integer { min: 0, max: 10 * YEAR_MINUTES },
        read_only: false,
        public: false,
        description: "The longest life of an API token in minutes; 0 is no limit.",
    },
    Known {
        name: AUTH_USER_SESSION_TTL_MINUTES,
        default: "960",
        rule: Rule::Integer { min: 1, max: YEAR_MINUTES },
        read_only: false,
        public: false,
        description: "Minutes that a sign-in lasts.",
    },
    Known {
        name: CA_CERTS,
        default: "",
        rule: Rule::Pem,
        read_only: true,
        public: true,
        description: "The CA that agents and users must trust; empty when the server's certificate chains to public roots.",
    },
    Known {
        name: REGISTRATION_TOKEN_TTL_MINUTES,
        default: "1440",
        rule: Rule::Integer { min: 1, max: 30 * 24 * 60 },
        read_only: false,
        public: false,
        description: "Minutes that a registration token is good for when nothing else is asked.",
    },
    Known {
        name: INSTALL_UUID,
        default: "",
        rule: Rule::Text { max: 64 },
        read_only: true,
        public: true,
        description: "The server's install id; it is part of the audience of agents' tokens.",
    },
    Known {
        name: KUBECONFIG_DEFAULT_TOKEN_TTL_MINUTES,
        default: "43200",
        rule: Rule::Integer { min: 0, max: 10 * YEAR_MINUTES },
        read_only: false,
        public: false,
        description: "Minutes that the token in a generated kubeconfig lasts; 0 is as long as auth-token-max-ttl-minutes allows.",
    },
    Known {
        name: KUBECONFIG_GENERATE_TOKEN,
        default: "true",
        rule: Rule::Boolean,
        read_only: false,
        public: false,
        description: "Whether a generated kubeconfig holds a token; otherwise kubectl asks the CLI for one.",
    },
    Known {
        name: PASSWORD_MIN_LENGTH,
        default: "12",
        rule: Rule::Integer { min: 8, max: 256 },
        read_only: false,
        public: false,
        description: "The shortest password that is accepted, in characters.",
    },
    Known {
        name: SERVER_DRAIN_SECONDS,
        default: "60",
        rule: Rule::Integer { min: 0, max: 3600 },
        read_only: false,
        public: false,
        description: "Seconds that running streams, watches aside, get to end when the server stops.",
    },
    Known {
        name: SERVER_URL,
        default: "",
        rule: Rule::HttpsUrl,
        read_only: true,
        public: true,
        description: "Where agents and users reach the server; set with --url.",
    },
    Known {
        name: SERVER_VERSION,
        default: "",
        rule: Rule::Text { max: 64 },
        read_only: true,
        public: true,
        description: "The server's version.",
    },
    Known {
        name: SYSTEM_DEFAULT_REGISTRY,
        default: "",
        rule: Rule::ImagePrefix,
        read_only: false,
        public: false,
        description: "Registry prefix of the images in every manifest; empty is the public default.",
    },
];

impl Known {
    /// The setting of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|known| known.name == name)
    }
}

impl Rule {
    /// Whether `value` is allowed.
    ///
    /// # Errors
    /// What it must be, in a sentence.
    pub fn check(self, value: &str) -> Result<(), String> {
        let (allowed, what) = match self {
            Self::Integer { min, max } => (
                value.parse::<i64>().is_ok_and(|number| (min..=max).contains(&number)),
                format!("must be a whole number from {min} to {max}"),
            ),
            Self::Boolean => (matches!(value, "true" | "false"), "must be `true` or `false`".to_owned()),
            Self::HttpsUrl => (is_https_origin(value), "must be an https:// URL without a path".to_owned()),
            Self::ImagePrefix => (is_image_prefix(value), "must be host[:port][/path], without a scheme".to_owned()),
            Self::Pem => (value.contains("-----BEGIN CERTIFICATE-----"), "must be PEM certificates".to_owned()),
            Self::Text { max } => (value.len() <= max, format!("must have at most {max} bytes")),
        };
        if allowed { Ok(()) } else { Err(what) }
    }
}

fn is_https_origin(value: &str) -> bool {
    let Some(authority) = value.strip_prefix("https://") else {
        return false;
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    !authority.is_empty()
        && authority.parse::<http::uri::Authority>().is_ok_and(|parsed| !parsed.as_str().contains('@'))
}

fn is_image_prefix(value: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b))
    };
    let (host, path) = value.split_once('/').map_or((value, None), |(host, path)| (host, Some(path)));
    host.parse::<http::uri::Authority>().is_ok_and(|parsed| !parsed.as_str().contains('@'))
        && path.is_none_or(|path| path.split('/').all(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_pass_their_own_rules() {
        assert!(ALL.is_sorted_by(|a, b| a.description != b.description && a.name != b.name));
        for known in ALL {
            assert!(known.default.is_empty() || known.rule.check(known.default).is_ok(), "{}", known.name);
            assert!(Known::find(known.name).is_some_and(|found| std::ptr::eq(found, known)), "{} twice", known.name);
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let check = |name: &str, value: &str| Known::find(name).expect("known").rule.check(value).is_ok();
        assert!(check(PASSWORD_MIN_LENGTH, "8") && check(PASSWORD_MIN_LENGTH, "256"));
        for bad in ["7", "257", "-1", "", "12 ", "twelve", "99999999999999999999"] {
            assert!(!check(PASSWORD_MIN_LENGTH, bad), "{bad}");
        }
        assert!(check(SERVER_URL, "https://cattle.example.com") && check(SERVER_URL, "https://10.0.0.1:8443/"));
        for bad in ["http://cattle.example.com", "https://", "https://a/b", "https://user@a", "cattle.example.com"] {
            assert!(!check(SERVER_URL, bad), "{bad}");
        }
        assert!(check(SYSTEM_DEFAULT_REGISTRY, "registry.example.com:5000/mirror/cattle"));
        for bad in ["https://registry.example.com", "registry.example.com/", "a b", "registry.example.com/../x y"] {
            assert!(!check(SYSTEM_DEFAULT_REGISTRY, bad), "{bad}");
        }
        assert!(check(KUBECONFIG_GENERATE_TOKEN, "false") && !check(KUBECONFIG_GENERATE_TOKEN, "no"));
    }
}
