//! Commands against a small server with a CA of its own: trust, exit codes, what is sent and what is kept.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "server/exec.rs"]
mod exec;
#[path = "../src/golden.rs"]
mod golden;
#[path = "server/looks.rs"]
mod looks;
#[path = "server/process.rs"]
mod process;
#[path = "server/support.rs"]
mod support;

use cattle_cli::trust::CaChecksum;
use serde_json::json;

use support::{Answer, Done, Machine, Server};

const LOGIN: &str = "/v3-public/localProviders/local?action=login";
const SELF: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn server() -> Server {
    let server = Server::start().await;
    server.on(
        "POST",
        LOGIN,
        Answer::json(201, json!({ "token": "token-abcde:s3cret", "expiresAt": "2030-01-01T00:00:00Z" })),
    );
    let review = json!({ "status": { "userInfo": {
        "username": "u-annaa", "groups": ["system:authenticated"], "extra": { "username": ["ann"] },
    } } });
    server.on("POST", SELF, Answer::json(201, review));
    server
}

fn checksum(server: &Server) -> String {
    CaChecksum::of(server.ca_pem()).to_string()
}

async fn signed_in(server: &Server, machine: &Machine) {
    let checksum = checksum(server);
    let args = ["login", server.url(), "--username", "ann", "--password-stdin", "--ca-checksum", &checksum];
    let done = machine.run(&args, "correct horse\n").await;
    assert_eq!(done.code, 0, "{}", done.err);
}

#[tokio::test]
async fn a_sign_in_with_the_right_checksum_pins_the_ca() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    let config = machine.config();
    assert!(config.contains("token-abcde:s3cret") && config.contains("BEGIN CERTIFICATE"));
    assert!(!config.contains("correct horse"), "the password is not kept");
    let me = machine.run(&["whoami"], "").await;
    assert_eq!(me.code, 0, "{}", me.err);
    assert!(me.out.contains("username: ann") && me.out.contains("id:       u-annaa"), "{}", me.out);
    let asked = server.requests();
    let last = asked.last().unwrap();
    assert_eq!(last.authorization.as_deref(), Some("Bearer token-abcde:s3cret"));
    let before = asked.iter().filter(|request| ![SELF, "/version"].contains(&request.path.as_str()));
    assert!(before.into_iter().all(|request| request.authorization.is_none()));
}

/// Whoever stands in between sees a request for the CA, and nothing that is worth anything.
#[tokio::test]
async fn a_wrong_checksum_sends_no_credential() {
    let (server, machine) = (server().await, Machine::new());
    let wrong = "0".repeat(64);
    let args = ["login", server.url(), "--username", "ann", "--password-stdin", "--ca-checksum", &wrong];
    let done = machine.run(&args, "correct horse\n").await;
    assert_eq!(done.code, 6, "{}", done.err);
    assert!(done.err.contains(&checksum(&server)) && done.err.contains(&wrong), "{}", done.err);
    let asked = server.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("GET", "/v3/settings/cacerts"));
    assert!(asked[0].authorization.is_none() && asked[0].body.is_empty());
    assert_eq!(machine.config(), "");
}

#[tokio::test]
async fn an_unknown_ca_is_shown_and_not_trusted_where_nobody_can_confirm_it() {
    let (server, machine) = (server().await, Machine::new());
    let done = machine.run(&["login", server.url(), "--username", "ann", "--password-stdin"], "correct horse\n").await;
    assert_eq!(done.code, 6, "{}", done.err);
    assert!(done.err.contains(&format!("--ca-checksum {}", checksum(&server))), "{}", done.err);
    assert!(server.requests().iter().all(|request| request.path == "/v3/settings/cacerts"));
}

/// A CA that anybody could show, on a connection whose certificate it did not sign.
#[tokio::test]
async fn a_ca_that_did_not_sign_the_servers_certificate_is_refused() {
    let (real, liar, machine) = (server().await, server().await, Machine::new());
    liar.show_ca(real.ca_pem());
    let checksum = checksum(&real);
    let args = ["login", liar.url(), "--username", "ann", "--password-stdin", "--ca-checksum", &checksum];
    let done = machine.run(&args, "correct horse\n").await;
    assert_eq!(done.code, 6, "{}", done.err);
    assert!(liar.requests().iter().all(|request| request.path == "/v3/settings/cacerts"));
}

#[tokio::test]
async fn a_pinned_server_that_changes_its_ca_gets_no_token() {
    let (server, other, machine) = (server().await, server().await, Machine::new());
    signed_in(&server, &machine).await;
    machine.edit_config(|config| config.replace(server.url(), other.url()));
    let done = machine.run(&["whoami"], "").await;
    assert_eq!(done.code, 6, "{}", done.err);
    assert!(done.err.contains("not trusted"), "{}", done.err);
    assert!(other.requests().is_empty(), "the handshake ended before a request");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (server, elsewhere, machine) = (server().await, server().await, Machine::new());
    signed_in(&server, &machine).await;
    server.on("POST", SELF, Answer::redirect(&format!("{}{SELF}", elsewhere.url())));
    let done = machine.run(&["whoami"], "").await;
    assert_eq!(done.code, 1, "{}", done.err);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn the_first_sign_in_sets_another_password_from_the_second_line() {
    let (server, machine) = (server().await, Machine::new());
    let must_change = json!({ "token": "token-abcde:s3cret", "mustChangePassword": true });
    server.on("POST", LOGIN, Answer::json(201, must_change));
    server.on("POST", "/v3/users?action=changepassword", Answer::json(200, json!({})));
    let checksum = checksum(&server);
    let args = ["login", server.url(), "--username", "admin", "--password-stdin", "--ca-checksum", &checksum];
    let one_line = machine.run(&args, "bootstrap\n").await;
    assert_eq!(one_line.code, 4, "{}", one_line.err);
    let two_lines = machine.run(&args, "bootstrap\na better one\n").await;
    assert_eq!(two_lines.code, 0, "{}", two_lines.err);
    let asked = server.requests();
    let change = asked.iter().find(|request| request.path.contains("changepassword")).unwrap();
    assert_eq!(change.json(), json!({ "currentPassword": "bootstrap", "newPassword": "a better one" }));
    assert_eq!(change.authorization.as_deref(), Some("Bearer token-abcde:s3cret"));
}

#[tokio::test]
async fn exit_codes_are_what_the_help_promises() {
    let (server, machine) = (server().await, Machine::new());
    assert_eq!(machine.run(&["whoami"], "").await.code, 4, "nobody is signed in");
    assert_eq!(machine.run(&["login", "http://x.example"], "").await.code, 2, "only https");
    assert_eq!(machine.run(&["login", "127.0.0.1:1", "--ca-checksum", &"0".repeat(64)], "").await.code, 6);
    signed_in(&server, &machine).await;
    let clusters = "/apis/management.cattle.io/v3/clusters";
    server.on("GET", clusters, Answer::json(200, json!({ "items": [] })));
    assert_eq!(machine.run(&["cluster", "status", "gone"], "").await.code, 3);
    assert_eq!(machine.run(&["cluster", "list"], "").await.code, 0);
    for (status, code) in [(401, 4), (403, 4), (404, 3), (409, 1), (500, 1), (503, 5)] {
        let body = json!({ "kind": "Status", "message": "no \u{1b}[2J", "reason": "x" });
        server.on("GET", clusters, Answer::json(status, body));
        let done = machine.run(&["cluster", "list"], "").await;
        assert_eq!(done.code, code, "{status}");
        assert!(done.err.contains("no \u{fffd}[2J") && !done.err.contains('\u{1b}'), "{}", done.err);
        assert_eq!(done.out, "");
    }
}

#[tokio::test]
async fn a_refused_sign_in_says_what_to_check_and_keeps_nothing() {
    let (server, machine) = (server().await, Machine::new());
    server.on("POST", LOGIN, Answer::json(401, json!({ "code": "Unauthorized", "message": "authentication failed" })));
    let checksum = checksum(&server);
    let args = ["login", server.url(), "--username", "ann", "--password-stdin", "--ca-checksum", &checksum];
    let done = machine.run(&args, "wrong horse\n").await;
    assert_eq!(done.code, 4, "{}", done.err);
    assert!(done.err.contains("authentication failed") && done.err.contains("check the name"), "{}", done.err);
    assert!(!done.err.contains("wrong horse"));
    assert_eq!(machine.config(), "");
}

#[tokio::test]
async fn a_sign_out_forgets_the_token_even_when_the_server_is_gone() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    server.on("POST", "/v3/tokens?action=logout", Answer::json(200, json!({})));
    assert_eq!(machine.run(&["logout"], "").await.code, 0);
    assert!(!machine.config().contains("s3cret"));
    signed_in(&server, &machine).await;
    machine.edit_config(|config| config.replace(server.url(), "https://127.0.0.1:1"));
    let done = machine.run(&["logout"], "").await;
    assert_eq!(done.code, 6, "{}", done.err);
    assert!(!machine.config().contains("s3cret"));
}

#[tokio::test]
async fn a_cluster_is_made_and_the_lines_to_register_it_are_printed() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    let made = json!({ "metadata": { "name": "c-abcde" }, "spec": { "displayName": "my prod" } });
    server.on("POST", "/apis/management.cattle.io/v3/clusters", Answer::json(201, made));
    let token = json!({ "status": { "token": "bcdfgh2", "expiresAt": "2030-01-01T00:00:00Z" } });
    let tokens = "/apis/management.cattle.io/v3/namespaces/c-abcde/clusterregistrationtokens";
    server.on("POST", tokens, Answer::json(201, token));
    server.on("GET", "/ping", Answer::json(200, json!("pong")));
    let done = machine.run(&["cluster", "create", "my prod"], "").await;
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("cattle cluster manifest 'my prod' | kubectl apply -f -\n"), "{}", done.out);
    assert!(done.out.contains(&format!("'{}/v3/import/bcdfgh2_c-abcde.yaml' <<'EOF'", server.url())), "{}", done.out);
    assert!(done.out.contains("--cacert /dev/stdin") && done.out.contains("--pinnedpubkey 'sha256//"));
    assert!(!done.out.contains("kubectl apply -f https"), "kubectl would refuse this server");
}

#[tokio::test]
async fn the_doctor_names_the_step_that_fails_and_tries_no_other() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    server.on("GET", "/version", Answer::json(200, json!({ "gitVersion": "v0.1.0" })));
    let step = |done: &Done| {
        let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        let steps = report["steps"].as_array().unwrap();
        assert!(steps.iter().rev().skip(1).all(|step| step["passed"] == true), "{report}");
        steps.last().map(|step| (step["name"].as_str().unwrap().to_owned(), step["passed"] == false)).unwrap()
    };
    let doctor = ["doctor", "-o", "json"];
    // A load balancer that knows no upgrade: what arrives is an ordinary request, and the answer names no subprotocol.
    server.on("GET", "/v3/connect", Answer::text(400, "a WebSocket upgrade is required"));
    let done = machine.run(&doctor, "").await;
    assert_eq!((done.code, step(&done)), (6, ("upgrade".to_owned(), true)), "{}", done.err);
    assert!(done.err.contains("next: let the load balancer"), "{}", done.err);
    // Another server at the address, and nobody at all.
    let other = Server::start().await;
    for (url, failed) in [(other.url(), "tls"), ("https://127.0.0.1:1", "tcp")] {
        machine.edit_config(|config| config.replace(server.url(), url));
        let done = machine.run(&doctor, "").await;
        assert_eq!((done.code, step(&done)), (6, (failed.to_owned(), true)), "{}", done.err);
        machine.edit_config(|config| config.replace(url, server.url()));
    }
    assert!(other.requests().is_empty());
}

/// What kubectl on some other machine would trust is not what this one happens to trust.
#[tokio::test]
async fn only_a_server_without_an_authority_of_its_own_gets_a_line_for_kubectl_alone() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    let made = json!({ "metadata": { "name": "c-abcde" }, "spec": { "displayName": "prod" } });
    server.on("POST", "/apis/management.cattle.io/v3/clusters", Answer::json(201, made));
    let tokens = "/apis/management.cattle.io/v3/namespaces/c-abcde/clusterregistrationtokens";
    server.on("POST", tokens, Answer::json(201, json!({ "status": { "token": "bcdfgh2" } })));
    server.on("GET", "/ping", Answer::text(200, "pong"));
    let roots = machine.path("roots.pem");
    std::fs::write(&roots, server.ca_pem()).unwrap();
    let line = format!("kubectl apply -f {}/v3/import/bcdfgh2_c-abcde.yaml\n", server.url());
    for (trusted, shown, public) in [(true, "", true), (false, "", false), (true, server.ca_pem(), false)] {
        server.show_ca(shown);
        let mut program = machine.program(&["cluster", "create", "prod"]);
        if trusted {
            program.env("SSL_CERT_FILE", &roots);
        }
        let done = program.output().await.unwrap();
        let out = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!((out.contains(&line), out.contains("curl ")), (public, !public), "{trusted}: {out}");
    }
}

/// A name that stands for one server never comes to stand for another, and one server is not known twice.
#[tokio::test]
async fn names_and_servers_are_not_mixed_up() {
    let (one, two, machine) = (server().await, server().await, Machine::new());
    let login = async |server: &Server, name: Option<&str>| {
        let checksum = checksum(server);
        let mut args = vec!["login", server.url(), "--username", "ann", "--password-stdin", "--ca-checksum", &checksum];
        args.extend(name.map(|name| ["--name", name]).into_iter().flatten());
        machine.run(&args, "correct horse\n").await
    };
    assert_eq!(login(&one, Some("work")).await.code, 0);
    let taken = login(&two, Some("work")).await;
    assert_eq!(taken.code, 2, "{}", taken.err);
    assert!(taken.err.contains(one.url()) && taken.err.contains("--name"), "{}", taken.err);
    assert!(two.requests().is_empty());
    assert_eq!(login(&one, None).await.code, 0);
    assert_eq!(machine.config().matches("- name:").count(), 1, "{}", machine.config());
    assert!(machine.config().contains("name: work") && machine.config().contains("current: work"));
    assert_eq!(login(&one, Some("home")).await.code, 0);
    assert!(!machine.config().contains("work"), "{}", machine.config());
}

/// A session that cannot be remembered is not begun.
#[tokio::test]
async fn a_configuration_that_cannot_be_written_is_found_out_before_the_password_is_sent() {
    let (server, machine) = (server().await, Machine::new());
    let checksum = checksum(&server);
    std::fs::write(machine.path("file"), "").unwrap();
    let args = ["login", server.url(), "--username", "ann", "--password-stdin", "--ca-checksum", &checksum];
    let mut program = machine.program(&args);
    program.env("CATTLE_CLI_CONFIG", machine.path("file/config.yaml")).stdin(std::process::Stdio::null());
    let done = program.output().await.unwrap();
    let error = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{error}");
    assert!(error.contains("config.yaml cannot be") && error.contains("next: "), "{error}");
    assert!(server.requests().iter().all(|request| request.path != LOGIN));
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_kept_is_ended_at_the_server() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    offer_kubeconfig(&server);
    std::fs::write(machine.path("taken"), "kind: Pod\n").unwrap();
    let path = machine.path("taken");
    let merge = ["kubeconfig", "prod", "--merge", "--kubeconfig", path.to_str().unwrap()];
    let file = ["kubeconfig", "prod", "--file", path.to_str().unwrap()];
    for args in [&merge[..], &file[..]] {
        let done = machine.run(args, "").await;
        assert_eq!(done.code, 1, "{}", done.err);
        assert!(done.err.contains("taken") && done.err.contains("next: "), "{}", done.err);
        let asked = server.requests();
        let last = asked.last().unwrap();
        assert_eq!((last.method.as_str(), last.path.rsplit('/').next()), ("DELETE", Some("kubeconfig-abcde")));
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "kind: Pod\n");
}

/// kubectl reads all files of `KUBECONFIG` as one; the entry is changed where it is, and hides nobody else's.
#[tokio::test]
async fn of_several_kubeconfigs_the_one_that_has_the_cluster_is_changed() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    offer_kubeconfig(&server);
    let (first, second) = (machine.path("first"), machine.path("second"));
    let both = format!("{}:{}", first.display(), second.display());
    let merge = ["kubeconfig", "prod", "--merge", "--kubeconfig", &both];
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let nothing = "# mine\nkind: Config\n";
    let older = "kind: Config\nclusters:\n- name: prod\n  cluster: {server: 'https://x/k8s/clusters/c-abcde'}\n\
                 contexts:\n- name: prod\n  context: {cluster: prod, user: prod}\n";
    std::fs::write(&first, nothing).unwrap();
    std::fs::write(&second, older).unwrap();
    let done = machine.run(&merge, "").await;
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(read(&first), nothing);
    assert!(read(&second).contains("kubeconfig-a:b"));
    // The same name for something else in the second file would be hidden by an entry in the first.
    let others = older.replace("https://x/", "https://elsewhere/");
    std::fs::write(&second, &others).unwrap();
    let refused = machine.run(&merge, "").await;
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("second") && refused.err.contains("--context"), "{}", refused.err);
    assert_eq!((read(&first), read(&second)), (nothing.to_owned(), others));
    let renamed = machine.run(&[&merge[..], &["--context", "eu"]].concat(), "").await;
    assert_eq!(renamed.code, 0, "{}", renamed.err);
    assert!(read(&first).starts_with("# mine\nkind: Config\n") && read(&first).contains("name: eu"));
}

fn offer_kubeconfig(server: &Server) {
    let cluster = json!({ "metadata": { "name": "c-abcde" }, "spec": { "displayName": "prod" } });
    server.on("GET", "/apis/management.cattle.io/v3/clusters", Answer::json(200, json!({ "items": [cluster] })));
    let answer = json!({ "metadata": { "name": "kubeconfig-abcde" }, "status": { "value": KUBECONFIG } });
    server.on("POST", "/apis/ext.cattle.io/v1/kubeconfigs", Answer::json(201, answer));
}

const KUBECONFIG: &str = "apiVersion: v1
kind: Config
clusters:
- name: prod
  cluster: {server: 'https://x/k8s/clusters/c-abcde'}
users:
- name: prod
  user: {token: 'kubeconfig-a:b'}
contexts:
- name: prod
  context: {cluster: prod, user: prod}
current-context: prod
";

#[tokio::test]
async fn a_kubeconfig_is_merged_into_the_file_that_kubectl_uses() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    offer_kubeconfig(&server);
    let file = machine.path("kube/config");
    let path = file.to_str().unwrap();
    let done = machine.run(&["kubeconfig", "prod", "--merge", "--kubeconfig", path], "").await;
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(done.out, "");
    assert!(std::fs::read_to_string(&file).unwrap().contains("kubeconfig-a:b"));
    let printed = machine.run(&["kubeconfig", "prod"], "").await;
    assert_eq!(printed.out, KUBECONFIG, "to the byte");
    let renamed = machine.run(&["kubeconfig", "prod", "--context", "eu"], "").await;
    assert!(renamed.out.contains("current-context: eu"), "{}", renamed.out);
}

/// With the record goes the owner's right to see it: the server's answer to the last look is 403.
#[tokio::test]
async fn an_owner_who_may_not_look_any_more_has_deleted_the_cluster() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    let clusters = "/apis/management.cattle.io/v3/clusters";
    let item = json!({ "metadata": { "name": "c-abcde" }, "spec": { "displayName": "prod" } });
    server.on("GET", clusters, Answer::json(200, json!({ "items": [item] })));
    server.on("DELETE", &format!("{clusters}/c-abcde"), Answer::json(200, json!({})));
    let status = json!({ "kind": "Status", "reason": "Forbidden", "message": "no", "code": 403 });
    server.on("GET", &format!("{clusters}/c-abcde"), Answer::json(403, status));
    let done = machine.run(&["cluster", "delete", "prod", "--yes", "--timeout", "60s"], "").await;
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("was deleted"), "{}", done.err);
}
