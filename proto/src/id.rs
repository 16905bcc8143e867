//! Names of things on the wire. Each can only be made from a text or bytes that keep its rule.

use serde::{Deserialize, Serialize};

use crate::limits;

/// Defines a text newtype with a rule.
macro_rules! text {
    ($(#[$meta:meta])* $name:ident, $rule:path) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                if $rule(&text) { Ok(Self(text)) } else { Err(InvalidName(stringify!($name))) }
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if $rule(text) { Ok(Self(text.to_owned())) } else { Err(InvalidName(stringify!($name))) }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// Defines an id of 16 random bytes, shown as 32 lower-case hexadecimal digits.
macro_rules! random_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; 16]);

        impl $name {
            /// An id from bytes that the caller drew at random.
            #[must_use]
            pub const fn new(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes on the wire.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

text! {
    /// A cluster's id, which is also the name of its `Cluster` object: `c-` and 5 to 40 of `[a-z0-9-]`, a DNS label.
    ClusterId, is_cluster_id
}
text! {
    /// Name of a node: a DNS subdomain, as Kubernetes has it.
    NodeName, is_dns_name
}
text! {
    /// Name of a pod: a DNS subdomain, as Kubernetes has it.
    PodName, is_dns_name
}
text! {
    /// The name that the API server's certificate must bear, for example `kubernetes.default.svc`. Never an address to dial.
    ServerName, is_dns_name
}
text! {
    /// UID of the namespace `kube-system`, the identity of a cluster: a UUID in lower case.
    KubeSystemUid, is_uuid
}
text! {
    /// Software and version of an agent, for people: printable ASCII.
    Software, is_software
}
text! {
    /// One or more certificates in PEM.
    CaPem, is_ca_pem
}

random_id! {
    /// One session: drawn by the server at each `Welcome`. For logs at both ends.
    SessionId
}
random_id! {
    /// One process of an agent: drawn when it starts, the same in all its sessions.
    InstanceId
}

/// The text breaks the rule of the named type. The text itself is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {0}")]
pub struct InvalidName(pub &'static str);

fn is_cluster_id(text: &str) -> bool {
    text.strip_prefix("c-").is_some_and(|rest| {
        (5..=40).contains(&rest.len())
            && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !rest.ends_with('-')
    })
}

fn is_dns_name(text: &str) -> bool {
    text.len() <= limits::NAME && text.split('.').all(is_dns_label)
}

fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
        })
}

fn is_software(text: &str) -> bool {
    (1..=limits::SOFTWARE).contains(&text.len()) && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

fn is_ca_pem(text: &str) -> bool {
    text.len() <= limits::CA_PEM && text.is_ascii() && text.contains("-----BEGIN CERTIFICATE-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids() {
        for good in ["c-abcde", "c-12345", "c-a-b-c", "c-m-abcdefgh", &format!("c-{}", "a".repeat(40))] {
            assert_eq!(good.parse::<ClusterId>().map(String::from).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "c-",
            "c-abcd",
            "abcdefg",
            "C-abcde",
            "c-abcdE",
            "c-abcde-",
            "c-abc/de",
            "c-../../x",
            "c-abc.de",
            "c-äbcde",
            "local",
            "c-abcde\n",
            "c-abcde\0",
            &format!("c-{}", "a".repeat(41)),
        ] {
            assert_eq!(bad.parse::<ClusterId>(), Err(InvalidName("ClusterId")), "{bad:?}");
        }
    }

    #[test]
    fn names() {
        assert!("node-1.example.com".parse::<NodeName>().is_ok());
        for bad in ["", ".", "a..b", "-a", "a-", "A", "a_b", "a b", &"a".repeat(64), &["a"; 130].join(".")] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?}");
        }
        assert!("8c6a9f0e-57a7-4a2e-9b3e-1d2c3b4a5f60".parse::<KubeSystemUid>().is_ok());
        assert!("8C6A9F0E-57a7-4a2e-9b3e-1d2c3b4a5f60".parse::<KubeSystemUid>().is_err());
        assert!("8c6a9f0e57a7-4a2e-9b3e-1d2c3b4a5f60-".parse::<KubeSystemUid>().is_err());
        assert!("agent\u{1b}[31m".parse::<Software>().is_err());
        assert!("no pem".parse::<CaPem>().is_err());
    }

    #[test]
    fn ids_are_shown_as_hex() {
        assert_eq!(SessionId::new([0xab; 16]).to_string(), "ab".repeat(16));
    }
}
