//! A cluster's life at the server: registration, what may change about its identity, and its end.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use base64::Engine as _;
use cattle_harness::{ControlPlane, ControlPlaneOptions, wait_for};
use cattle_tests::{Agent, Member, Relay, Server, Way, claims, condition, resign, sha256};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
/// Agents back off up to 30 s, and a probe follows.
const EVENTUALLY: Duration = Duration::from_secs(120);
const CLUSTERS: &str = "/apis/management.cattle.io/v3/clusters";

#[tokio::test]
async fn a_cluster_registers_with_a_manifest_and_nobody_else_in_its_place() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (member, foreign) = tokio::try_join!(Member::join(&server, "prod"), ControlPlane::start(options("foreign")))?;
    let mut member = member;
    let token = server.add_registration_token(&member.id).await?;
    let expiring = expiring_token(&server, &member.id).await?;
    let env = json!({ "spec": { "agentEnvVars": [{ "name": "NO_PROXY", "value": "localhost" }] } });
    server.patch(&format!("{CLUSTERS}/{}", member.id), &env).await?;
    let manifest = server.manifest(&member.id, &token).await?;
    ensure!(manifest.contains("NO_PROXY"), "the agents' environment does not stand in the manifest: {manifest}");

    applying_it_again_changes_nothing(&server, &member).await?;
    the_import_path_tells_strangers_nothing(&server, &member.id).await?;
    doctor_names_what_is_wrong(&server, &member).await?;
    two_agents_serve_and_one_is_enough(&server, &mut member, &token).await?;

    foreign.kubectl(["apply", "-f", "-"]).stdin(manifest).ok().await?;
    let mut intruder = Agent::start(&foreign, &server, &member.id, &token).await?;
    let refusal = refused(&server, &member, "IdentityMismatch").await?;
    ensure!(refusal.contains("belongs to the cluster whose kube-system has UID"), "{refusal}");
    wait_log(&intruder, "code=\"IdentityMismatch\"").await?;
    claim_uid(&member.control_plane, &foreign).await?;
    intruder.restart(&foreign).await?;
    let refusal = refused(&server, &member, "CertificateAuthorityChanged").await?;
    ensure!(refusal.contains("cattle cluster rebind --ca-sha256"), "{refusal}");
    intruder.process().kill().await?;
    let bound = member.record(&server).await?;
    ensure!(bound["status"]["identity"]["caCert"] == member.control_plane.ca_pem().as_str(), "the intruder's CA is in");

    wrong_tokens_are_named(&server, &mut member).await?;
    let path = format!("/v3/import/{expiring}_{}.yaml", member.id);
    let unknown = import(&server, &format!("/v3/import/{}_{}.yaml", "b".repeat(54), member.id)).await?;
    wait_for("the registration token to expire", Duration::from_secs(75), async || {
        let answer = import(&server, &path).await?;
        ensure!(answer == unknown, "{answer:?}");
        Ok(())
    })
    .await?;
    a_registration_token_is_shown_once(&server, &member.id, &[&token, &expiring]).await
}

#[tokio::test]
async fn keys_and_authority_of_a_cluster_may_change() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut member = Member::join(&server, "rebuilt").await?;
    let admin = server.admin().clone();
    member.kubectl(&server, &admin, ["get", "namespaces"]).await?;

    // Keys rotated while the agent was away: nothing that the server or the agent holds is good any more, and the token
    // that bound the cluster, although it has hours to live, must not bring other keys.
    member.agent.process().kill().await?;
    member.control_plane.rotate_service_account_keys(false).await?;
    member.agent.refresh_files(&member.control_plane).await?;
    member.agent.start_again(&member.control_plane)?;
    wait_log(&member.agent, "code=\"UnknownSigningKey\"").await?;
    let refusal = refused(&server, &member, "RegistrationTokenSpent").await?;
    ensure!(refusal.contains("cattle cluster manifest"), "{refusal}");
    wait_log(&member.agent, "code=\"RegistrationTokenSpent\"").await?;
    let fresh = server.add_registration_token(&member.id).await?;
    member.agent.set_registration_token(&fresh)?;
    member.agent.restart(&member.control_plane).await?;
    works(&server, &member).await.context("after the keys were rotated")?;

    // Another CA only: the agent is believed, but nobody gets through to an API server that does not prove itself.
    member.agent.process().kill().await?;
    member.control_plane.rotate_ca().await?;
    member.agent.refresh_files(&member.control_plane).await?;
    member.agent.start_again(&member.control_plane)?;
    wait_condition(&server, &member, "Ready", "CertificateMismatch").await?;
    let answer = server.get(&member.path("/api/v1/namespaces"), &admin).await?;
    ensure!(answer.status() == 502, "a new CA was accepted by itself, or somebody waited: {}", answer.status());
    ensure!(answer.text().await?.contains("\"CertificateMismatch\""), "the hop is not named");
    let shown = server.kubectl_in(&member.id, &admin, ["get", "namespaces"]).await?.output().await?;
    ensure!(
        !shown.status.success() && shown.error().contains("does not prove itself"),
        "kubectl says {}",
        shown.error()
    );
    rebind(&server, &member).await?;
    works(&server, &member).await.context("after the CA was rotated")?;
    let record = member.record(&server).await?;
    ensure!(record["spec"].get("rebind").is_none(), "the consent is good for more than once: {}", record["spec"]);

    // A rebuilt PKI: keys and CA. The agent has to register, which is refused until an administrator consents.
    member.agent.process().kill().await?;
    member.control_plane.rotate_ca().await?;
    member.control_plane.rotate_service_account_keys(false).await?;
    member.agent.refresh_files(&member.control_plane).await?;
    member.agent.start_again(&member.control_plane)?;
    let refusal = refused(&server, &member, "CertificateAuthorityChanged").await?;
    let sum = ca_sha256(&member.control_plane);
    ensure!(refusal.contains(&sum), "the refusal does not name the sum to consent to: {refusal}");
    rebind(&server, &member).await?;
    member.agent.restart(&member.control_plane).await?;
    works(&server, &member).await.context("after the PKI was rebuilt")
}

#[tokio::test]
async fn a_deleted_cluster_keeps_nothing_of_ours_and_can_register_elsewhere() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let member = Member::join(&server, "first").await?;
    let user = server.add_user("alice").await?;
    server.add_member(&member.id, &user, "cluster-owner").await?;
    let admin = server.admin().clone();
    wait_for("the member's rights", SOON, async || member.kubectl(&server, &user, ["get", "pods", "-A"]).await).await?;
    member.kubectl(&server, &admin, ["create", "configmap", "mine"]).await?;
    ensure!(!ours(&member.control_plane).await?.is_empty(), "nothing was labelled in the first place");

    let first = member.id.clone();
    server.kubectl(&admin, ["delete", "clusters.management.cattle.io", &first]).await?.ok().await?;
    wait_gone(&server, &first).await?;
    nothing_left(&member.control_plane).await?;
    wait_log(&member.agent, "code=\"ClusterDeleted\"").await?;
    let answer = server.get(&member.path("/api"), &admin).await?;
    ensure!(answer.status() == 404, "a deleted cluster answers {}", answer.status());
    member.control_plane.kubectl(["get", "configmap", "mine"]).ok().await?;

    // The same Kubernetes as another cluster, which is then forgotten while it is away.
    let Member { control_plane, agent, .. } = member;
    drop(agent);
    let mut member = Member::join_with(&server, "second", control_plane).await?;
    ensure!(member.id != first, "the id was given out again");
    works(&server, &member).await?;
    // So that the members' bindings and impersonators are among what is left behind.
    server.add_member(&member.id, &user, "cluster-owner").await?;
    wait_for("the member's rights", SOON, async || member.kubectl(&server, &user, ["get", "pods", "-A"]).await).await?;
    member.agent.process().kill().await?;
    let path = format!("{CLUSTERS}/{}", member.id);
    server.patch(&path, &json!({ "metadata": { "annotations": { "cattle.io/forget": "true" } } })).await?;
    let resource = "clusters.management.cattle.io";
    server.kubectl(&admin, ["delete", resource, &member.id, "--wait=false"]).await?.ok().await?;
    wait_gone(&server, &member.id).await?;
    member.agent.start_again(&member.control_plane)?;
    wait_for("the forgotten cluster's agent to be told", SOON, async || {
        ensure!(member.agent.log().contains("code=\"ClusterDeleted\""), "not yet");
        Ok(())
    })
    .await?;
    member.agent.process().kill().await?;
    // The lines that --forget prints, as they are printed.
    for line in cattle_manifest::cleanup::commands() {
        let words: Vec<_> = line.split_whitespace().collect();
        ensure!(words[0] == "kubectl", "{line}");
        member.control_plane.kubectl(words[1..].iter().copied()).ok().await.context(line.clone())?;
    }
    nothing_left(&member.control_plane).await?;
    let third = Member::join_with(&server, "third", member.control_plane).await?;
    works(&server, &third).await?;
    server.kubectl(&admin, ["delete", resource, &third.id]).await?.ok().await?;
    wait_gone(&server, &third.id).await?;
    nothing_left(&third.control_plane).await
}

fn options(name: &str) -> ControlPlaneOptions {
    ControlPlaneOptions { name: name.to_owned(), ..ControlPlaneOptions::default() }
}

async fn applying_it_again_changes_nothing(server: &Server, member: &Member) -> anyhow::Result<()> {
    // The token is the one thing that differs between two manifests.
    let token = server.add_registration_token(&member.id).await?;
    let manifest = server.manifest(&member.id, &token).await?;
    let apply = || member.control_plane.kubectl(["apply", "-f", "-"]).stdin(manifest.clone());
    apply().ok().await?;
    let version = async |control_plane: &ControlPlane| {
        let budget =
            ["get", "pdb", "-n", "cattle-system", "cattle-cluster-agent", "-o", "jsonpath={.metadata.generation}"];
        control_plane.kubectl(budget).ok().await
    };
    let budget_before = version(&member.control_plane).await?;
    let again = apply().ok().await?;
    let changed: Vec<_> = again.lines().filter(|line| !line.ends_with(" unchanged")).collect();
    // kubectl replaces a budget's selector whole, and calls it configured when the API server finds nothing to change.
    let budget = "poddisruptionbudget.policy/cattle-cluster-agent configured";
    ensure!(changed.iter().all(|line| *line == budget) && again.lines().count() >= 10, "{again}");
    ensure!(version(&member.control_plane).await? == budget_before, "the budget was changed");
    Ok(())
}

/// Status, content type and body.
type Answer = (u16, String, String);

async fn import(server: &Server, path: &str) -> anyhow::Result<Answer> {
    let answer = server.http().get(format!("{}{path}", server.url())).send().await?;
    let status = answer.status().as_u16();
    let kind = answer.headers().get("content-type").context("no content type")?.to_str()?.to_owned();
    Ok((status, kind, answer.text().await?))
}

async fn the_import_path_tells_strangers_nothing(server: &Server, cluster: &str) -> anyhow::Result<()> {
    let live = server.add_registration_token(cluster).await?;
    let deleted = server.add_registration_token(cluster).await?;
    delete_token_of(server, cluster, &deleted).await?;
    let gone = server.add_cluster("gone").await?;
    let of_gone = server.add_registration_token(&gone).await?;
    ensure!(import(server, &format!("/v3/import/{of_gone}_{gone}.yaml")).await?.0 == 200, "the token is not good");
    let resource = "clusters.management.cattle.io";
    server.kubectl(server.admin(), ["delete", resource, &gone]).await?.ok().await?;
    wait_gone(server, &gone).await?;
    let unknown = import(server, &format!("/v3/import/{}_{cluster}.yaml", "b".repeat(54))).await?;
    ensure!(unknown.0 == 404, "{unknown:?}");
    for (what, path) in [
        ("another cluster's name", format!("/v3/import/{live}_c-zzzzz.yaml")),
        ("deleted token", format!("/v3/import/{deleted}_{cluster}.yaml")),
        ("deleted cluster", format!("/v3/import/{of_gone}_{gone}.yaml")),
        ("no token", format!("/v3/import/_{cluster}.yaml")),
        ("traversal", "/v3/import/..%2f..%2fetc_c-abcde.yaml".to_owned()),
    ] {
        let answer = import(server, &path).await?;
        ensure!(answer == unknown, "{what}: {answer:?} instead of {unknown:?}");
    }
    ensure!(import(server, &format!("/v3/import/{live}_{cluster}.yaml")).await?.0 == 200, "the good token is refused");
    Ok(())
}

/// Deletes the registration token objects of a cluster one by one until this token is not good any more.
async fn delete_token_of(server: &Server, cluster: &str, token: &str) -> anyhow::Result<()> {
    let list = server.get(&tokens_path(cluster), server.admin()).await?.error_for_status()?;
    let list: Value = list.json().await?;
    let mut names: Vec<_> =
        list["items"].as_array().context("no items")?.iter().map(|item| &item["metadata"]).collect();
    names.sort_by_key(|metadata| metadata["resourceVersion"].as_str().and_then(|text| text.parse::<u64>().ok()));
    let newest = names.last().and_then(|metadata| metadata["name"].as_str()).context("no tokens")?;
    let url = format!("{}{}/{newest}", server.url(), tokens_path(cluster));
    server.http().delete(url).bearer_auth(&server.admin().token).send().await?.error_for_status()?;
    let answer = import(server, &format!("/v3/import/{token}_{cluster}.yaml")).await?;
    ensure!(answer.0 == 404, "the deleted token is still good");
    Ok(())
}

fn tokens_path(cluster: &str) -> String {
    format!("/apis/management.cattle.io/v3/namespaces/{cluster}/clusterregistrationtokens")
}

/// A registration token of one minute, the shortest.
async fn expiring_token(server: &Server, cluster: &str) -> anyhow::Result<String> {
    let token = json!({
        "apiVersion": "management.cattle.io/v3", "kind": "ClusterRegistrationToken",
        "metadata": { "generateName": "crt-", "namespace": cluster },
        "spec": { "clusterName": cluster, "ttlMinutes": 1 },
    });
    let made = server.create(&tokens_path(cluster), &token).await?;
    let token = made["status"]["token"].as_str().context("no token")?;
    ensure!(import(server, &format!("/v3/import/{token}_{cluster}.yaml")).await?.0 == 200, "it is not good at first");
    Ok(token.to_owned())
}

async fn a_registration_token_is_shown_once(server: &Server, cluster: &str, tokens: &[&str]) -> anyhow::Result<()> {
    let mut shown = Vec::new();
    let list = server.get(&tokens_path(cluster), server.admin()).await?.error_for_status()?.text().await?;
    for item in serde_json::from_str::<Value>(&list)?["items"].as_array().context("no items")? {
        let name = item["metadata"]["name"].as_str().context("no name")?;
        let path = format!("{}/{name}", tokens_path(cluster));
        shown.push((path.clone(), server.get(&path, server.admin()).await?.error_for_status()?.text().await?));
    }
    ensure!(shown.len() >= 2, "the tokens are not listed");
    shown.push(("the list".to_owned(), list));
    let yaml = server.kubectl(server.admin(), ["get", "crt", "-n", cluster, "-o", "yaml"]).await?.ok().await?;
    shown.push(("kubectl get -o yaml".to_owned(), yaml));
    shown.push((
        "the server's log".to_owned(),
        std::fs::read_to_string(server.scope().directory().join("cattle-server.log"))?,
    ));
    shown.push(("the audit log".to_owned(), std::fs::read_to_string(server.data_dir().join("audit.log"))?));
    ensure!(shown[shown.len() - 1].1.contains("clusterregistrationtokens"), "the audit log has no line of a token");
    for (place, text) in &shown {
        for token in tokens {
            ensure!(!text.contains(token), "a registration token stands in {place}");
        }
    }
    Ok(())
}

async fn two_agents_serve_and_one_is_enough(server: &Server, member: &mut Member, token: &str) -> anyhow::Result<()> {
    let second = Agent::start_replica(&member.control_plane, server, &member.id, token, 1).await?;
    wait_metric(server, "cattle_gateway_sessions", 2).await?;
    an_agent_that_is_cut_off_carries_nothing(server, member).await?;
    let admin = server.admin().clone();
    member.agent.process().kill().await?;
    member.kubectl(server, &admin, ["get", "namespaces"]).await.context("with the second agent only")?;
    member.agent.start_again(&member.control_plane)?;
    drop(second);
    works(server, member).await
}

/// One of two agents loses its API server without a word, as behind a network that drops packets: its session lives, it
/// still accepts streams, and users must not notice.
async fn an_agent_that_is_cut_off_carries_nothing(server: &Server, member: &mut Member) -> anyhow::Result<()> {
    let relay = Relay::start(format!("{}:6443", member.control_plane.address()).parse()?).await?;
    member.agent.set_env("CATTLE_KUBERNETES_ADDRESS", relay.address().to_string());
    member.agent.restart(&member.control_plane).await?;
    wait_metric(server, "cattle_gateway_sessions", 2).await?;
    relay.set(Way::Silent);
    wait_metric(server, "cattle_gateway_sessions_failing", 1).await?;
    let path = member.path("/api/v1/namespaces/kube-system");
    for round in 0..5 {
        // Together they are more than any pool holds: new streams are opened in every round.
        let requests = (0..40).map(|_| server.get(&path, server.admin()));
        for answer in futures_util::future::join_all(requests).await {
            let status = answer?.status();
            ensure!(status == 200, "round {round}: {status}");
        }
    }
    relay.set(Way::Open);
    wait_metric(server, "cattle_gateway_sessions_failing", 0).await?;
    member.agent.set_env("CATTLE_KUBERNETES_ADDRESS", format!("{}:6443", member.control_plane.address()));
    member.agent.restart(&member.control_plane).await?;
    wait_metric(server, "cattle_gateway_sessions", 2).await
}

/// Waits until one of the gateway's gauges has this value.
async fn wait_metric(server: &Server, gauge: &str, wanted: i64) -> anyhow::Result<()> {
    wait_for(&format!("{gauge} to be {wanted}"), EVENTUALLY, async || {
        let metrics = reqwest::get(format!("{}/metrics", server.admin_url())).await?.text().await?;
        let mut lines = metrics.lines().filter_map(|line| line.rsplit_once(' '));
        let found = lines.find(|(key, _)| *key == gauge);
        let (_, value) = found.with_context(|| format!("no {gauge} in {metrics}"))?;
        ensure!(value == wanted.to_string(), "{value}");
        Ok(())
    })
    .await
}

async fn doctor_names_what_is_wrong(server: &Server, member: &Member) -> anyhow::Result<()> {
    let fine = member.agent.doctor(&[]).await?;
    let table = fine.text();
    ensure!(fine.status.success() && !table.contains("FAILED"), "{table}{}", fine.error());
    for stage in ["dns", "tcp", "trust", "tls", "upgrade", "identity", "authentication", "cluster", "credential"] {
        ensure!(
            table.lines().any(|line| line.starts_with(stage) && line.contains(" ok ")),
            "{stage} is not in\n{table}"
        );
    }
    let wrong = member.agent.pod_token(&member.control_plane, "somebody-else").await?;
    let file = member.control_plane.directory().join("wrong-audience");
    std::fs::write(&file, wrong)?;
    let file = file.display().to_string();
    let port = server.url().rsplit(':').next().context("no port")?.to_owned();
    let nowhere = format!("https://no-such-host.invalid:{port}");
    let closed = format!("https://127.0.0.1:{}", free_port()?);
    let checksum = "0".repeat(64);
    for (variable, value, stage, code) in [
        ("CATTLE_CA_CHECKSUM", checksum.as_str(), "trust", "ca_checksum_mismatch"),
        ("CATTLE_SERVER", &nowhere, "dns", "dns_"),
        ("CATTLE_SERVER", &closed, "tcp", "tcp_refused"),
        ("CATTLE_TOKEN_FILE", &file, "authentication", "WrongAudience"),
    ] {
        let output = member.agent.doctor(&[(variable, value)]).await?;
        let table = output.text();
        ensure!(!output.status.success(), "{variable}={value} is fine:\n{table}");
        let mut failed = table.lines().skip_while(|line| !line.contains("FAILED"));
        let line = failed.next().with_context(|| format!("nothing failed:\n{table}"))?;
        ensure!(line.starts_with(stage), "{variable}={value}: {table}");
        ensure!(failed.next().is_some_and(|line| line.contains(&format!("code: {code}"))), "{table}");
        ensure!(failed.next().is_some_and(|line| line.contains("next step: ")), "{table}");
    }
    Ok(())
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn wrong_tokens_are_named(server: &Server, member: &mut Member) -> anyhow::Result<()> {
    let good = member.agent.token()?;
    let key = member.control_plane.directory().join("sa-0.key");
    let shifted = |seconds: i64| -> anyhow::Result<String> {
        let mut claims = claims(&good)?;
        for claim in ["iat", "nbf", "exp"] {
            claims[claim] = json!(claims[claim].as_i64().context("no time")? + seconds);
        }
        resign(&good, &claims, Path::new(&key))
    };
    // The clock of whoever signs is two hours slow, so that the token has ended; ten minutes fast; and a thief's audience.
    for (code, token) in [
        ("TokenExpired", shifted(-7200)?),
        ("ClockSkew", shifted(600)?),
        ("WrongAudience", member.agent.pod_token(&member.control_plane, "cattle:c-other:server").await?),
    ] {
        member.agent.process().kill().await?;
        member.agent.set_token(&token)?;
        member.agent.start_again(&member.control_plane)?;
        wait_log(&member.agent, &format!("code=\"{code}\"")).await?;
    }
    member.agent.process().kill().await?;
    member.agent.set_token(&good)?;
    member.agent.start_again(&member.control_plane)?;
    works(server, member).await
}

async fn wait_log(agent: &Agent, text: &str) -> anyhow::Result<()> {
    wait_for(&format!("the agent to log {text}"), EVENTUALLY, async || {
        let log = agent.log();
        let tail: Vec<_> = log.lines().rev().take(10).collect();
        ensure!(log.contains(text), "its log ends with {tail:#?}");
        Ok(())
    })
    .await
}

/// Waits until the last refusal of the cluster has this reason; answers with its message, which a condition shows as well.
async fn refused(server: &Server, member: &Member, reason: &str) -> anyhow::Result<String> {
    wait_for(&format!("the refusal {reason}"), EVENTUALLY, async || {
        let record = member.record(server).await?;
        let refusal = &record["status"]["registration"]["lastRefusal"];
        ensure!(refusal["reason"] == reason, "{refusal}");
        let message = refusal["message"].as_str().context("no message")?;
        let shown = condition(&record, "Registered").context("no condition")?["message"].as_str().unwrap_or_default();
        ensure!(shown.contains(message), "the condition says {shown}");
        Ok(message.to_owned())
    })
    .await
}

async fn wait_condition(server: &Server, member: &Member, kind: &str, reason: &str) -> anyhow::Result<()> {
    wait_for(&format!("{kind} to be {reason}"), EVENTUALLY, async || {
        let record = member.record(server).await?;
        let found = condition(&record, kind).context("no such condition")?;
        ensure!(found["reason"] == reason, "{found}");
        Ok(())
    })
    .await
}

/// The cluster is Ready and the administrator's kubectl works.
async fn works(server: &Server, member: &Member) -> anyhow::Result<()> {
    wait_for("kubectl to work", EVENTUALLY, async || {
        member.kubectl(server, server.admin(), ["get", "namespace", "kube-system", "-o", "name"]).await
    })
    .await?;
    member.wait_ready(server).await
}

fn ca_sha256(control_plane: &ControlPlane) -> String {
    sha256(control_plane.ca_pem().as_bytes())
}

async fn rebind(server: &Server, member: &Member) -> anyhow::Result<()> {
    let consent = json!({ "spec": { "rebind": { "caSha256": ca_sha256(&member.control_plane) } } });
    server.patch(&format!("{CLUSTERS}/{}", member.id), &consent).await.map(drop)
}

async fn wait_gone(server: &Server, cluster: &str) -> anyhow::Result<()> {
    wait_for("the record to be gone", SOON, async || {
        let answer = server.get(&format!("{CLUSTERS}/{cluster}"), server.admin()).await?;
        let status = answer.status();
        ensure!(status == 404, "{status}: {}", answer.text().await?);
        Ok(())
    })
    .await
}

/// Everything that carries one of our labels, of every kind that there is.
async fn ours(control_plane: &ControlPlane) -> anyhow::Result<Vec<String>> {
    let kinds = control_plane.kubectl(["api-resources", "--verbs=list", "-o", "name"]).ok().await?;
    let kinds: Vec<_> = kinds.lines().filter(|kind| !kind.starts_with("events")).collect();
    let mut found = Vec::new();
    for label in ["app.kubernetes.io/managed-by=cattle-server", "cattle.io/creator=norman"] {
        let arguments = ["get", &kinds.join(","), "-A", "-l", label, "-o", "name", "--ignore-not-found"];
        let listed = control_plane.kubectl(arguments).ok().await?;
        found.extend(listed.lines().map(str::to_owned));
    }
    Ok(found)
}

async fn nothing_left(control_plane: &ControlPlane) -> anyhow::Result<()> {
    wait_for("nothing of ours to be left", SOON, async || {
        let left = ours(control_plane).await?;
        ensure!(left.is_empty(), "left: {left:?}");
        let all = ["get", "namespaces,clusterroles,clusterrolebindings,priorityclasses", "-o", "name"];
        let all = control_plane.kubectl(all).ok().await?;
        let named: Vec<_> = all.lines().filter(|name| name.contains("cattle")).collect();
        ensure!(named.is_empty(), "left: {named:?}");
        Ok(())
    })
    .await
}

/// Gives namespace kube-system of one cluster the UID of another's, underneath its API server.
async fn claim_uid(from: &ControlPlane, to: &ControlPlane) -> anyhow::Result<()> {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let key = base64("/registry/namespaces/kube-system");
    let client = reqwest::Client::new();
    let range = client.post(format!("http://{}:2379/v3/kv/range", from.address()));
    let range: Value = range.body(json!({ "key": key }).to_string()).send().await?.error_for_status()?.json().await?;
    let put = json!({ "key": key, "value": range["kvs"][0]["value"] });
    let request = client.post(format!("http://{}:2379/v3/kv/put", to.address())).body(put.to_string());
    request.send().await?.error_for_status()?;
    let uid = async |cluster: &ControlPlane| {
        cluster.kubectl(["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]).ok().await
    };
    let wanted = uid(from).await?;
    wait_for("the foreign cluster to have the UID", SOON, async || {
        let now = uid(to).await?;
        ensure!(now == wanted, "{now}");
        Ok(())
    })
    .await
}
