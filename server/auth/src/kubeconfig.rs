//! The kubeconfig that leads to clusters through the server.
//!
//! Pure: it renders what it is given, by a serializer, so that no name can add a key or a line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cattle_api::Secret;
use serde::Serialize;

/// What a kubeconfig is made of.
pub struct KubeconfigParts<'a> {
    /// The setting `server-url`, `https://host[:port]`.
    pub server_url: &'a str,
    /// The CA of the server's certificate, PEM; empty when it chains to public roots.
    pub ca_pem: &'a str,
    /// The clusters, in the order in which they appear.
    pub clusters: &'a [KubeconfigCluster<'a>],
    /// The cluster (its id) whose context is the current one; the first when `None`.
    pub current: Option<&'a str>,
}

/// One cluster of a kubeconfig.
pub struct KubeconfigCluster<'a> {
    /// The cluster's id, `c-xxxxx`.
    pub id: &'a str,
    /// What people call it; the id when empty. Two of the same name get their ids appended.
    pub display_name: &'a str,
    /// Whose token: `name:secret`.
    pub token: &'a Secret,
}

/// Renders the file. It holds the tokens' secrets.
///
/// # Errors
/// None for text; the serializer's otherwise.
pub fn render(parts: &KubeconfigParts<'_>) -> Result<Secret, serde_saphyr::ser::Error> {
    let names: Vec<String> = parts.clusters.iter().map(|cluster| entry_name(cluster, parts.clusters)).collect();
    let ca = (!parts.ca_pem.is_empty()).then(|| STANDARD.encode(parts.ca_pem));
    let host = parts.server_url.trim_end_matches('/');
    let named = |index: usize| names[index].as_str();
    let current = parts.current.and_then(|id| parts.clusters.iter().position(|cluster| cluster.id == id)).unwrap_or(0);
    let config = Config {
        api_version: "v1",
        kind: "Config",
        clusters: parts
            .clusters
            .iter()
            .enumerate()
            .map(|(index, cluster)| NamedCluster {
                name: named(index),
                cluster: Cluster {
                    server: format!("{host}/k8s/clusters/{}", cluster.id),
                    certificate_authority_data: ca.as_deref(),
                },
            })
            .collect(),
        users: parts
            .clusters
            .iter()
            .enumerate()
            .map(|(index, cluster)| NamedUser {
                name: named(index),
                user: User { token: cluster.token.expose_str().unwrap_or_default() },
            })
            .collect(),
        contexts: (0..names.len())
            .map(|index| NamedContext {
                name: named(index),
                context: Context { cluster: named(index), user: named(index) },
            })
            .collect(),
        current_context: names.get(current).map_or("", String::as_str),
    };
    serde_saphyr::to_string(&config).map(Secret::from)
}

fn entry_name(cluster: &KubeconfigCluster<'_>, all: &[KubeconfigCluster<'_>]) -> String {
    let name = if cluster.display_name.is_empty() { cluster.id } else { cluster.display_name };
    let taken =
        |other: &KubeconfigCluster<'_>| other.id != cluster.id && (other.display_name == name || other.id == name);
    if all.iter().any(taken) { format!("{name}-{}", cluster.id) } else { name.to_owned() }
}

#[derive(Serialize)]
struct Config<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'a str,
    kind: &'a str,
    clusters: Vec<NamedCluster<'a>>,
    users: Vec<NamedUser<'a>>,
    contexts: Vec<NamedContext<'a>>,
    #[serde(rename = "current-context")]
    current_context: &'a str,
}

#[derive(Serialize)]
struct NamedCluster<'a> {
    name: &'a str,
    cluster: Cluster<'a>,
}

#[derive(Serialize)]
struct Cluster<'a> {
    server: String,
    #[serde(rename = "certificate-authority-data", skip_serializing_if = "Option::is_none")]
    certificate_authority_data: Option<&'a str>,
}

#[derive(Serialize)]
struct NamedUser<'a> {
    name: &'a str,
    user: User<'a>,
}

#[derive(Serialize)]
struct User<'a> {
    token: &'a str,
}

#[derive(Serialize)]
struct NamedContext<'a> {
    name: &'a str,
    context: Context<'a>,
}

#[derive(Serialize)]
struct Context<'a> {
    cluster: &'a str,
    user: &'a str,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn parse(yaml: &Secret) -> Value {
        serde_saphyr::from_str(yaml.expose_str().unwrap()).unwrap()
    }

    fn render_one(display_name: &str, ca_pem: &str) -> Secret {
        let token = Secret::from("kubeconfig-u-abcdexxxxx:secret".to_owned());
        let clusters = [KubeconfigCluster { id: "c-abcde", display_name, token: &token }];
        let server_url = "https://cattle.example:8443/";
        render(&KubeconfigParts { server_url, ca_pem, clusters: &clusters, current: None }).unwrap()
    }

    #[test]
    fn the_file_has_the_documented_shape() {
        let config = parse(&render_one("prod", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"));
        assert_eq!(config["apiVersion"], "v1");
        assert_eq!(config["kind"], "Config");
        assert_eq!(config["current-context"], "prod");
        assert_eq!(config["clusters"][0]["name"], "prod");
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://cattle.example:8443/k8s/clusters/c-abcde");
        let ca = config["clusters"][0]["cluster"]["certificate-authority-data"].as_str().unwrap();
        assert!(STANDARD.decode(ca).unwrap().starts_with(b"-----BEGIN"));
        assert_eq!(config["users"][0]["user"]["token"], "kubeconfig-u-abcdexxxxx:secret");
        assert_eq!(config["contexts"][0]["context"]["cluster"], "prod");
        assert_eq!(config["contexts"][0]["context"]["user"], "prod");
        assert!(parse(&render_one("prod", ""))["clusters"][0]["cluster"].get("certificate-authority-data").is_none());
    }

    #[test]
    fn no_name_adds_a_key() {
        let hostile = [
            "a\"\nusers: []",
            "a: b",
            "- x",
            "!!binary x",
            "&a *a",
            "# no",
            "'",
            "\u{1b}[31m",
            "null",
            "true",
            "1e3",
            "{}",
            "a\r\nb",
            "---",
            "ä€𝄞",
            "%TAG",
            " lead",
            "trail ",
            "\u{2028}",
        ];
        for name in hostile {
            let yaml = render_one(name, "");
            let config = parse(&yaml);
            assert_eq!(config.as_object().unwrap().len(), 6, "{name:?}");
            for entry in ["clusters", "users", "contexts"] {
                assert_eq!(config[entry].as_array().unwrap().len(), 1, "{name:?}");
                assert_eq!(config[entry][0].as_object().unwrap().len(), 2, "{name:?}");
                assert_eq!(config[entry][0]["name"], name, "{name:?}");
            }
            assert_eq!(config["current-context"], name);
            assert!(config["users"][0]["user"].get("exec").is_none());
        }
    }

    #[test]
    fn clusters_of_one_name_are_told_apart() {
        let token = Secret::from("t:s".to_owned());
        let cluster = |id, display_name| KubeconfigCluster { id, display_name, token: &token };
        let clusters = [cluster("c-aaaaa", "prod"), cluster("c-bbbbb", "prod"), cluster("c-ccccc", "")];
        let parts =
            KubeconfigParts { server_url: "https://x", ca_pem: "", clusters: &clusters, current: Some("c-bbbbb") };
        let config = parse(&render(&parts).unwrap());
        let names: Vec<_> = config["contexts"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
        assert_eq!(names, ["prod-c-aaaaa", "prod-c-bbbbb", "c-ccccc"]);
        assert_eq!(config["current-context"], "prod-c-bbbbb");
    }
}
