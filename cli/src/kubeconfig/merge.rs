//! Putting one kubeconfig into another. Pure: text in, text out.
//!
//! What is in the existing file stays, also what we know nothing about, in its order; comments do not survive. An entry of
//! ours is replaced only when it leads to the same server as before: a context that somebody else made under the same name
//! is never overwritten.

use super::document::Node;

/// The result of a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The whole file.
    pub text: String,
    /// The context to use.
    pub context: String,
}

/// Why two kubeconfigs cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The existing file is not a kubeconfig. It is left alone.
    #[error("the existing file is not a kubeconfig that can be merged into")]
    Existing,
    /// The server's is not one.
    #[error("the server's answer is not a kubeconfig")]
    Incoming,
    /// An entry of this name leads somewhere else.
    #[error("there is another {kind} {name:?} in the file already")]
    Taken {
        /// `cluster`, `user` or `context`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

impl MergeError {
    /// What the person can do now.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Taken { .. } => Some("choose another name with --context NAME; nothing was changed".to_owned()),
            Self::Existing => Some("nothing was changed; write to another file with --file FILE".to_owned()),
            Self::Incoming => None,
        }
    }
}

/// The lists of a kubeconfig, and the key of an entry's content.
const LISTS: [(&str, &str); 3] = [("clusters", "cluster"), ("users", "user"), ("contexts", "context")];

/// Puts `incoming` into `existing`. The current context changes only when there is none, or when `make_current`.
///
/// # Errors
/// See [`MergeError`].
pub fn merge(existing: Option<&str>, incoming: &str, make_current: bool) -> Result<Merged, MergeError> {
    let incoming = parse(incoming).ok_or(MergeError::Incoming)?;
    let context = incoming.get("current-context").and_then(Node::as_text).ok_or(MergeError::Incoming)?.to_owned();
    let existing = existing.filter(|text| !text.trim().is_empty());
    let mut merged = match existing {
        Some(text) => parse(text).filter(is_kubeconfig).ok_or(MergeError::Existing)?,
        None => Node::Map(vec![("apiVersion".to_owned(), Node::text("v1")), ("kind".to_owned(), Node::text("Config"))]),
    };
    for (list, kind) in LISTS {
        check_free(&merged, &incoming, list, kind)?;
    }
    for (list, kind) in LISTS {
        let mut entries = merged.get(list).map(|entries| entries.items().to_vec()).unwrap_or_default();
        for entry in incoming.get(list).map_or(&[][..], Node::items) {
            put(&mut entries, entry, kind);
        }
        merged.set(list, Node::List(entries));
    }
    let has_current = merged.get("current-context").and_then(Node::as_text).is_some_and(|name| !name.is_empty());
    if make_current || !has_current {
        merged.set("current-context", Node::text(&context));
    }
    let text = serde_saphyr::to_string(&merged).map_err(|_| MergeError::Incoming)?;
    Ok(Merged { text, context })
}

/// Gives the one cluster, user and context of a kubeconfig another name.
///
/// # Errors
/// [`MergeError::Incoming`] when there is not exactly one of each.
pub(super) fn rename(kubeconfig: &str, name: &str) -> Result<String, MergeError> {
    let mut config = parse(kubeconfig).ok_or(MergeError::Incoming)?;
    for (list, kind) in LISTS {
        let Some(Node::List(entries)) = config.get_mut(list) else { return Err(MergeError::Incoming) };
        let [entry] = entries.as_mut_slice() else { return Err(MergeError::Incoming) };
        entry.set("name", Node::text(name));
        if kind == "context" {
            let context = entry.get_mut("context").ok_or(MergeError::Incoming)?;
            context.set("cluster", Node::text(name));
            context.set("user", Node::text(name));
        }
    }
    config.set("current-context", Node::text(name));
    serde_saphyr::to_string(&config).map_err(|_| MergeError::Incoming)
}

/// `yes`, `no` and `y` stay the words that they are, and numbers with leading zeros the text: what is only carried through
/// must not change its meaning.
fn parse(text: &str) -> Option<Node> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    };
    serde_saphyr::from_str_with_options(text, options).ok().filter(|node| matches!(node, Node::Map(_)))
}

fn is_kubeconfig(node: &Node) -> bool {
    let kind = node.get("kind").is_none_or(|kind| kind.as_text() == Some("Config"));
    kind && LISTS.iter().all(|(list, _)| matches!(node.get(list), None | Some(Node::Null | Node::List(_))))
}

/// Every entry that would be replaced leads to the same server already.
fn check_free(existing: &Node, incoming: &Node, list: &str, kind: &'static str) -> Result<(), MergeError> {
    for entry in incoming.get(list).map_or(&[][..], Node::items) {
        let name = name_of(entry).ok_or(MergeError::Incoming)?;
        let Some(known) = find(existing, list, name) else { continue };
        let ours = match kind {
            "cluster" => content(known, "cluster", "server") == content(entry, "cluster", "server"),
            "context" => content(known, "context", "cluster") == content(entry, "context", "cluster"),
            // A user of this name is ours when the context of this name uses it and its cluster is the same.
            _ => {
                let context = find(existing, "contexts", name);
                context.is_some_and(|context| content(context, "context", "user") == Some(name))
                    && find(existing, "clusters", name).is_some()
            }
        };
        if !ours {
            return Err(MergeError::Taken { kind, name: name.to_owned() });
        }
    }
    Ok(())
}

fn put(entries: &mut Vec<Node>, entry: &Node, kind: &str) {
    let Some(known) = entries.iter_mut().find(|known| name_of(known) == name_of(entry)) else {
        entries.push(entry.clone());
        return;
    };
    let new = entry.get(kind).cloned().unwrap_or(Node::Null);
    match (known.get_mut(kind), new) {
        // Other credentials of the same user would be mixed with ours; what else is in the entry stays.
        (Some(old), new) if kind == "user" => *old = new,
        (Some(old @ Node::Map(_)), Node::Map(fields)) => {
            for (key, value) in fields {
                old.set(&key, value);
            }
        }
        (_, new) => known.set(kind, new),
    }
}

fn find<'a>(config: &'a Node, list: &str, name: &str) -> Option<&'a Node> {
    config.get(list)?.items().iter().find(|entry| name_of(entry) == Some(name))
}

fn name_of(entry: &Node) -> Option<&str> {
    entry.get("name").and_then(Node::as_text)
}

fn content<'a>(entry: &'a Node, kind: &str, field: &str) -> Option<&'a str> {
    entry.get(kind)?.get(field)?.as_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INCOMING: &str = "apiVersion: v1
kind: Config
clusters:
- name: prod
  cluster: {server: https://cattle.example/k8s/clusters/c-abcde, certificate-authority-data: QUFB}
users:
- name: prod
  user: {token: 'kubeconfig-u-abcde:new'}
contexts:
- name: prod
  context: {cluster: prod, user: prod}
current-context: prod
";

    const EXISTING: &str = "# my own file
apiVersion: v1
kind: Config
preferences: {colors: true}
extensions:
- name: x
  extension: {a: '007', b: 1.50, c: null, d: [yes, 'no', true], e: 12345678901234567890, f: 007, g: 1_000}
current-context: minikube
users:
- name: minikube
  user: {client-certificate: /home/ann/.minikube/client.crt, client-key: /home/ann/.minikube/client.key}
- name: prod
  user: {token: 'kubeconfig-u-abcde:old', as: somebody}
clusters:
- name: minikube
  cluster: {server: https://192.0.2.1:8443, insecure-skip-tls-verify: true, proxy-url: socks5://x}
- name: prod
  cluster: {server: https://cattle.example/k8s/clusters/c-abcde, tls-server-name: keep-me}
contexts:
- name: minikube
  context: {cluster: minikube, user: minikube, namespace: dev}
- name: prod
  context: {cluster: prod, user: prod, namespace: team-a, extensions: [{name: y}]}
";

    fn golden(name: &str, text: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{name}: run with UPDATE_GOLDEN=1 after a look");
    }

    #[test]
    fn nothing_of_an_existing_file_is_lost() {
        let merged = merge(Some(EXISTING), INCOMING, false).unwrap();
        golden("merged.yaml", &merged.text);
        let (before, after) = (parse(EXISTING).unwrap(), parse(&merged.text).unwrap());
        assert_eq!(after.get("current-context"), Some(&Node::text("minikube")), "the current context stays");
        for key in ["apiVersion", "kind", "preferences", "extensions"] {
            assert_eq!(after.get(key), before.get(key), "{key}");
        }
        for list in ["clusters", "users", "contexts"] {
            assert_eq!(find(&after, list, "minikube"), find(&before, list, "minikube"), "{list}");
        }
        let prod = |list| find(&after, list, "prod").unwrap();
        assert_eq!(content(prod("users"), "user", "token"), Some("kubeconfig-u-abcde:new"));
        assert_eq!(content(prod("users"), "user", "as"), None, "credentials are not mixed");
        assert_eq!(content(prod("clusters"), "cluster", "tls-server-name"), Some("keep-me"));
        assert_eq!(content(prod("contexts"), "context", "namespace"), Some("team-a"));
        assert_eq!(prod("contexts").get("context").unwrap().get("extensions").unwrap().items().len(), 1);
    }

    #[test]
    fn merging_twice_is_merging_once() {
        let once = merge(Some(EXISTING), INCOMING, false).unwrap();
        assert_eq!(merge(Some(&once.text), INCOMING, false).unwrap(), once);
    }

    #[test]
    fn an_empty_or_missing_file_becomes_the_new_one() {
        for existing in [None, Some(""), Some("\n\n")] {
            let merged = merge(existing, INCOMING, false).unwrap();
            let after = parse(&merged.text).unwrap();
            assert_eq!(after.get("current-context"), Some(&Node::text("prod")));
            assert_eq!(after.get("apiVersion"), Some(&Node::text("v1")));
            assert_eq!(merged.context, "prod");
        }
    }

    #[test]
    fn the_current_context_changes_only_when_asked() {
        let merged = merge(Some(EXISTING), INCOMING, true).unwrap();
        assert_eq!(parse(&merged.text).unwrap().get("current-context"), Some(&Node::text("prod")));
    }

    #[test]
    fn somebody_elses_entry_of_the_same_name_is_not_overwritten() {
        let taken = |kind| Err(MergeError::Taken { kind, name: "prod".to_owned() });
        let other_server = EXISTING.replace("https://cattle.example/k8s/clusters/c-abcde", "https://other.example");
        assert_eq!(merge(Some(&other_server), INCOMING, false), taken("cluster"));
        let other_cluster = EXISTING.replace("{cluster: prod, user: prod,", "{cluster: minikube, user: prod,");
        assert_eq!(merge(Some(&other_cluster), INCOMING, false), taken("context"));
        let only_user = "users:\n- name: prod\n  user: {token: mine}\n";
        assert_eq!(merge(Some(only_user), INCOMING, false), taken("user"));
    }

    #[test]
    fn what_is_no_kubeconfig_is_left_alone() {
        for existing in ["- a\n- b\n", "kind: Pod\n", "clusters: 7\n", "a: [", "just text", "\u{0}"] {
            assert_eq!(merge(Some(existing), INCOMING, false), Err(MergeError::Existing), "{existing:?}");
        }
        for incoming in ["", "[]", "kind: Config\n"] {
            assert_eq!(merge(Some(EXISTING), incoming, false), Err(MergeError::Incoming), "{incoming:?}");
        }
    }

    #[test]
    fn lists_that_are_null_are_empty() {
        let null = "apiVersion: v1\nkind: Config\nclusters: null\nusers: null\ncontexts:\ncurrent-context: ''\n";
        let merged = merge(Some(null), INCOMING, false).unwrap();
        let after = parse(&merged.text).unwrap();
        assert_eq!(after.get("clusters").unwrap().items().len(), 1);
        assert_eq!(after.get("current-context"), Some(&Node::text("prod")));
    }

    #[test]
    fn a_new_name_is_in_every_place() {
        let renamed = rename(INCOMING, "eu: 1").unwrap();
        let merged = merge(Some(EXISTING), &renamed, true).unwrap();
        let after = parse(&merged.text).unwrap();
        let context = find(&after, "contexts", "eu: 1").unwrap();
        assert_eq!(content(context, "context", "cluster"), Some("eu: 1"));
        assert_eq!(content(context, "context", "user"), Some("eu: 1"));
        assert!(find(&after, "clusters", "eu: 1").is_some() && find(&after, "users", "eu: 1").is_some());
        assert_eq!(after.get("current-context"), Some(&Node::text("eu: 1")));
        assert!(find(&after, "clusters", "prod").is_some());
    }

    #[test]
    fn any_file_is_merged_or_left_alone() {
        let decoder = cattle_matrix::Decoder::new("kubeconfig", [EXISTING, INCOMING, "users: []\n", ""]);
        decoder.memory(64 << 20).hammer_text(|text| {
            let merged = merge(Some(text), INCOMING, false);
            if let Ok(merged) = &merged {
                let after = parse(&merged.text).expect("what is written can be read");
                assert!(find(&after, "contexts", "prod").is_some());
            }
            merged
        });
        let decoder = cattle_matrix::Decoder::new("kubeconfig of the server", [INCOMING]);
        decoder.memory(64 << 20).hammer_text(|text| merge(Some(EXISTING), text, true));
    }
}
