//! Merging, on files as people have them.

use super::*;
use crate::golden::golden;

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
# what my editor keeps here
extensions:
- name: x
  extension: {a: '007', b: 1.50, c: null, d: [yes, 'no', true], e: 12345678901234567890, f: 007, g: 1_000}
current-context: minikube
users:
- name: minikube
  user: {client-certificate: /home/ann/.minikube/client.crt, client-key: /home/ann/.minikube/client.key}  # mine

# the one of work
- name: prod
  user: {token: 'kubeconfig-u-abcde:old', as: somebody}
clusters:
- name: minikube
  cluster: {server: https://192.0.2.1:8443, insecure-skip-tls-verify: true, proxy-url: socks5://x}
- name: prod
  cluster: {server: https://cattle.example/k8s/clusters/c-abcde, tls-server-name: keep-me}
contexts:
- name: minikube
  context:
    # not the default one
    cluster: minikube
    user: minikube
    namespace: 'dev'
- name: prod
  context: {cluster: prod, user: prod, namespace: team-a, extensions: [{name: y}]}
";

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
    let comments = |text: &str| text.lines().filter(|line| line.contains('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(comments(&merged.text), comments(EXISTING));
}

/// In every usual layout all lines stay, and ours are added.
#[test]
fn lines_of_others_stay_as_they_are() {
    let indented = "# top\nkind: Config\nclusters:\n  # first\n  - cluster:\n      server: https://a.example # here\n    name: a\n\n\
                    contexts: []\nusers:\n\n# end\n";
    let kubectls = "apiVersion: v1\nclusters:\n- cluster:\n    server: https://a.example\n  name: a\ncontexts:\n\
                    - context:\n    cluster: a\n    user: \"\"\n  name: a\ncurrent-context: \"\"\nkind: Config\nusers: null\n";
    let ends_in_list = "contexts:\n- name: a\n  context: {cluster: a}\n  # after";
    for existing in [indented, kubectls, ends_in_list, "# nothing yet\nkind: Config\n"] {
        let merged = merge(Some(existing), INCOMING, false).unwrap();
        let after = merge_data(parse(existing).unwrap(), &parse(INCOMING).unwrap(), None);
        assert_eq!(parse(&merged.text), Some(after));
        let mut lines = merged.text.lines();
        for line in existing.lines().filter(|line| !line.is_empty()) {
            let replaced = ["contexts: []", "users: null", "current-context: \"\""].contains(&line);
            assert!(replaced || lines.any(|other| other == line), "{line:?} is gone from\n{}", merged.text);
        }
        let again = merge(Some(&merged.text), &INCOMING.replace(":new", ":newer"), false).unwrap();
        assert_eq!(again.text, merged.text.replace(":new", ":newer"), "a second time changes the token alone");
    }
}

/// Where the text cannot be changed in its place, the data are still right.
#[test]
fn unusual_layouts_lose_no_data() {
    let flow = "{kind: Config, clusters: [{name: a, cluster: {server: 'https://a'}}], users: [], contexts: []} # x\n";
    let anchors = "clusters: &c\n- name: a\n  cluster: {server: 'https://a'}\nextensions: *c\n";
    let documents = "---\nkind: Config\nclusters:\n- {name: a, cluster: {server: 'https://a'}}\n";
    let odd_key = "\"clusters\":\n- name: a\n  cluster: {server: 'https://a'}\n";
    let block_text =
        "clusters:\n- name: a\n  cluster:\n    server: |-\n      https://a\nnote: |\n  users:\n  - name: b\n";
    for existing in [flow, anchors, documents, odd_key, block_text] {
        let merged = merge(Some(existing), INCOMING, true).unwrap();
        let after = merge_data(parse(existing).unwrap(), &parse(INCOMING).unwrap(), Some("prod"));
        assert_eq!(parse(&merged.text), Some(after), "{existing}");
    }
}

#[test]
fn a_name_of_another_file_is_seen() {
    assert_eq!(holds("", INCOMING), Ok(Holds::None));
    assert_eq!(holds(EXISTING, INCOMING), Ok(Holds::Ours));
    let other_server = EXISTING.replace("https://cattle.example/k8s/clusters/c-abcde", "https://other.example");
    assert_eq!(holds(&other_server, INCOMING), Err(MergeError::Taken { kind: "cluster", name: "prod".to_owned() }));
    assert_eq!(holds("- a", INCOMING), Err(MergeError::Existing));
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
