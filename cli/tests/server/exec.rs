//! `cattle token exec` as kubectl runs it.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::support::{Answer, Machine};
use super::{LOGIN, checksum, server, signed_in};

const V1: &str =
    r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false}}"#;
const V1BETA1: &str = r#"{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential","spec":{}}"#;

async fn exec(machine: &Machine, server: &str, info: Option<&str>) -> (Option<i32>, String, String) {
    let mut program = machine.program(&["token", "exec", "--server", server]);
    if let Some(info) = info {
        program.env("KUBERNETES_EXEC_INFO", info);
    }
    let output = program.stdin(std::process::Stdio::null()).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn kubectl_gets_the_session_of_the_server_that_it_asks_for_and_nothing_else() {
    let (one, two, machine) = (server().await, server().await, Machine::new());
    two.on("POST", LOGIN, Answer::json(201, json!({ "token": "token-other:s3cret" })));
    signed_in(&one, &machine).await;
    signed_in(&two, &machine).await;
    for (info, version) in [(Some(V1), "v1"), (Some(V1BETA1), "v1beta1"), (None, "v1beta1")] {
        let (code, out, err) = exec(&machine, one.url(), info).await;
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let said: Value = serde_json::from_str(&out).unwrap();
        let wanted = json!({
            "apiVersion": format!("client.authentication.k8s.io/{version}"), "kind": "ExecCredential",
            "status": { "token": "token-abcde:s3cret", "expirationTimestamp": "2030-01-01T00:00:00Z" },
        });
        assert_eq!(said, wanted);
    }
    let (_, out, _) = exec(&machine, two.url(), Some(V1)).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["status"], json!({ "token": "token-other:s3cret" }));
    let asked: usize = [&one, &two].map(|server| server.requests().len()).iter().sum();
    assert_eq!(asked, 6, "a session that is there needs no request: two sign-ins are all");
}

#[tokio::test]
async fn many_at_once_get_the_same() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    let all = join_all((0..50).map(|_| exec(&machine, server.url(), Some(V1)))).await;
    assert!(all.iter().all(|one| one == &all[0] && one.0 == Some(0)), "{all:?}");
}

#[tokio::test]
async fn without_a_session_or_a_terminal_it_says_how_to_sign_in() {
    let (server, machine) = (server().await, Machine::new());
    let wanted = format!("next: sign in: cattle login {}", server.url());
    let refused = async || {
        let (code, out, err) = exec(&machine, server.url(), Some(V1)).await;
        assert_eq!((code, out.as_str()), (Some(4), ""), "{err}");
        assert!(err.contains(&wanted), "{err}");
    };
    refused().await;
    signed_in(&server, &machine).await;
    assert_eq!(exec(&machine, server.url(), Some(V1)).await.0, Some(0));
    machine.edit_config(|config| config.replace("2030-01-01", "2020-01-01"));
    refused().await;
    server.on("POST", "/v3/tokens?action=logout", Answer::json(200, json!({})));
    signed_in(&server, &machine).await;
    assert_eq!(machine.run(&["logout"], "").await.code, 0);
    refused().await;
    assert!(machine.config().contains("BEGIN CERTIFICATE"), "what was pinned stays: {}", checksum(&server));
}

#[tokio::test]
async fn what_kubectl_says_must_be_understood() {
    let (server, machine) = (server().await, Machine::new());
    signed_in(&server, &machine).await;
    for info in ["{", r#"{"apiVersion":"client.authentication.k8s.io/v1alpha1","kind":"ExecCredential"}"#] {
        let (code, out, err) = exec(&machine, server.url(), Some(info)).await;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains("KUBERNETES_EXEC_INFO") && err.contains("v1beta1"), "{err}");
    }
}
