//! What to say when this program and the server are of different versions.

use semver::Version;

use crate::api::Client;
use crate::output::text;

const OWN: &str = env!("CARGO_PKG_VERSION");

/// The version of the server, or nothing when it does not say.
pub(crate) async fn server_version(client: &Client) -> Option<String> {
    own_part(&text(&client.get("/version").await.ok()?, "/gitVersion"))
}

/// `v1.33.0+cattle0.1.0`: which Kubernetes it behaves as, and which server it is.
fn own_part(git_version: &str) -> Option<String> {
    let (_, own) = git_version.split_once("+cattle")?;
    Version::parse(own).ok().map(|version| version.to_string())
}

/// A remark when the two may not understand each other.
pub(crate) fn note(server: &str) -> Option<String> {
    let (ours, theirs) = (Version::parse(OWN).ok()?, Version::parse(server).ok()?);
    // A patch changes nothing that the other side could see.
    if (ours.major, ours.minor) == (theirs.major, theirs.minor) {
        return None;
    }
    let older = if ours < theirs { "this program" } else { "the server" };
    Some(format!("note: this is cattle {OWN} and the server is {server}: upgrade {older} if something does not work"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_may_not_fit_are_remarked_on() {
        let own = Version::parse(OWN).unwrap();
        let with = |major: u64, minor: u64, patch: u64| note(&Version::new(major, minor, patch).to_string());
        assert_eq!(with(own.major, own.minor, own.patch), None);
        assert_eq!(with(own.major, own.minor, own.patch + 7), None);
        assert!(with(own.major, own.minor + 1, 0).unwrap().contains("upgrade this program"));
        assert!(with(own.major + 1, 0, 0).unwrap().contains("upgrade this program"));
        assert!(note("0.0.9").unwrap().contains("upgrade the server"));
        assert_eq!(note("nonsense"), None);
    }

    #[test]
    fn the_servers_own_version_is_told_from_the_one_that_it_behaves_as() {
        assert_eq!(own_part("v1.33.0+cattle0.2.7").as_deref(), Some("0.2.7"));
        for other in ["", "v1.33.0", "v1.33.0+k3s1", "v1.33.0+cattle", "v1.33.0+cattle\u{fffd}"] {
            assert_eq!(own_part(other), None, "{other}");
        }
    }
}
