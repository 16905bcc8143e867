//! What breaks and comes back by itself: agent, server, network, API server.

use std::time::Duration;

use anyhow::{Context, ensure};
use cattle_harness::{ControlPlane, ControlPlaneOptions, wait_for};
use cattle_matrix::Matrix;
use cattle_tests::{Agent, LateWatches, Member, Relay, Server, User, Way};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Agents back off up to 30 s, and a probe follows.
const BACK: Duration = Duration::from_secs(90);
/// A dead session is noticed after 15 s of silence.
const NOTICED: Duration = Duration::from_secs(45);
/// Longer than any deadline of the server for a single request.
const OUTAGE: Duration = Duration::from_secs(30);
/// An answer has to begin within 90 s.
const SAID_NOTHING: Duration = Duration::from_secs(240);

#[tokio::test]
async fn the_tunnel_is_back_after_every_fault() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let mut member = Member::join(&server, "prod").await?;
    let relay = Relay::start(server.url().trim_start_matches("https://").parse()?).await?;
    member.agent.process().kill().await?;
    let outage = outage(&server, &member).await?;
    ensure!(outage.contains("is not connected: no agent of it has been since 20"), "{outage}");
    member.agent.set_env("CATTLE_SERVER", format!("https://{}", relay.address()));
    member.agent.start_again(&member.control_plane)?;
    back(&server, &member).await.context("after the agent was killed")?;

    relay.cut();
    back(&server, &member).await.context("after the connection was cut")?;

    relay.set(Way::Shut);
    self::outage(&server, &member).await.context("while the network refuses")?;
    relay.set(Way::Open);
    back(&server, &member).await.context("after the network refused")?;

    relay.set(Way::Silent);
    let silent = tokio::time::sleep(OUTAGE);
    let outage = self::outage(&server, &member).await.context("while the network is silent")?;
    ensure!(outage.contains(&member.id), "{outage}");
    wait_for("the dead session to be noticed", NOTICED, async || {
        let (code, message) = status(&server, &member, server.admin()).await?;
        ensure!(code == 503 && message.contains("is not connected"), "{code}: {message}");
        Ok(())
    })
    .await?;
    silent.await;
    relay.set(Way::Open);
    back(&server, &member).await.context("after the network was silent for 30 s")?;

    member.agent.process().pause()?;
    wait_for("the stopped agent to be noticed", NOTICED, async || {
        let (code, message) = status(&server, &member, server.admin()).await?;
        ensure!(code == 503 && message.contains("is not connected"), "{code}: {message}");
        Ok(())
    })
    .await?;
    member.agent.process().resume()?;
    back(&server, &member).await.context("after the agent was stopped and continued")?;

    the_api_server_goes_and_comes(&server, &mut member).await?;

    server.process().kill().await?;
    server.start_again().await?;
    back(&server, &member).await.context("after the server was killed")?;
    server.process().stop(Duration::from_secs(45)).await?;
    server.start_again().await?;
    back(&server, &member).await.context("after the server was restarted")
}

/// Nobody waits for ever for an API server that accepts connections and says nothing: new connections are given up in the TLS
/// handshake, and those that were open when no answer begins.
#[tokio::test]
async fn an_api_server_that_says_nothing_is_named_in_time() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut member = Member::join(&server, "mute").await?;
    // Leaves connections for others.
    parallel(&server, &member, server.admin(), 4).await?;
    member.control_plane.apiserver().pause()?;
    let root = reqwest::Certificate::from_pem(server.ca_pem().as_bytes())?;
    let patient = reqwest::Client::builder().tls_certs_only([root]).timeout(SAID_NOTHING).build()?;
    let url = format!("{}{}", server.url(), member.path("/api/v1/namespaces/kube-system"));
    let answers = join_all((0..32).map(|_| async {
        let answer = patient.get(&url).bearer_auth(&server.admin().token).send().await?;
        let code = answer.status();
        let body: Value = answer.json().await?;
        ensure!(code == 504 && body["kind"] == "Status" && body["reason"] == "Timeout", "{code}: {body}");
        body["message"].as_str().map(str::to_owned).context("no message")
    }));
    let answers = answers.await.into_iter().collect::<anyhow::Result<Vec<_>>>();
    member.control_plane.apiserver().resume()?;
    let answers = answers?;
    for hop in ["did not finish the TLS handshake in time", "did not begin its answer in time"] {
        ensure!(answers.iter().any(|answer| answer.contains(hop)), "nobody was told that it {hop}: {answers:?}");
    }
    ensure!(answers.iter().all(|answer| answer.contains(&member.id)), "{answers:?}");
    back(&server, &member).await.context("after the API server said nothing for a while")
}

#[tokio::test]
async fn what_a_killed_server_has_acknowledged_is_there() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let matrix = Matrix::of_this_run("kill -9 of a writing server");
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    for round in matrix.slice(20, 3) {
        let moment = matrix.random_at(round).u64(20_000..160_000);
        let mut writers = JoinSet::new();
        for writer in 0..4 {
            let (http, url, token) = (server.http().clone(), server.url().to_owned(), server.admin().token.clone());
            writers.spawn(async move {
                let mut made = Vec::new();
                for number in 0.. {
                    let display = format!("round {round} writer {writer} number {number}");
                    let cluster = json!({
                        "apiVersion": "management.cattle.io/v3", "kind": "Cluster",
                        "metadata": { "generateName": "c-" }, "spec": { "displayName": display },
                    });
                    let request = http.post(format!("{url}/apis/management.cattle.io/v3/clusters"));
                    let Ok(answer) = request.bearer_auth(&token).json(&cluster).send().await else { break };
                    if answer.status() != 201 {
                        break;
                    }
                    let Ok(object) = answer.json::<Value>().await else { break };
                    made.push((object["metadata"]["name"].as_str().unwrap_or_default().to_owned(), display));
                }
                made
            });
        }
        // Somewhere in the middle of the writes, at another point each round.
        let log = server.data_dir().join("audit.log");
        let begun = std::fs::metadata(&log)?.len();
        wait_for("writes to be under way", BACK, async || {
            let grown = std::fs::metadata(&log)?.len().saturating_sub(begun);
            ensure!(grown > moment, "{grown} bytes of audit log");
            Ok(())
        })
        .await?;
        server.process().kill().await?;
        let before = acknowledged.len();
        while let Some(made) = writers.join_next().await {
            acknowledged.extend(made?);
        }
        ensure!(acknowledged.len() > before, "nothing was acknowledged in round {round}");
        server.start_again().await?;
        let list = server.get("/apis/management.cattle.io/v3/clusters", server.admin()).await?;
        let list: Value = list.error_for_status()?.json().await?;
        let items = list["items"].as_array().context("no items")?;
        for (name, display) in &acknowledged {
            let found = items.iter().find(|item| item["metadata"]["name"] == name.as_str());
            let found = found.with_context(|| format!("{name} ({display}) was acknowledged and is lost"))?;
            ensure!(found["spec"]["displayName"] == display.as_str(), "{found}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn two_api_servers_that_disagree_never_show_our_own_account() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let options = ControlPlaneOptions { name: "pair".to_owned(), ..ControlPlaneOptions::default() };
    let mut control_plane = ControlPlane::start(options).await?;
    let late = LateWatches::start(control_plane.etcd_address(), "/registry/clusterrole").await?;
    let other = control_plane.second_apiserver_behind(late.address()).await?;
    let mut member = Member::join_with(&server, "pair", control_plane).await?;
    // One agent at each API server, so that requests meet both.
    let token = server.add_registration_token(&member.id).await?;
    let mut second = Agent::start_replica(&member.control_plane, &server, &member.id, &token, 1).await?;
    second.set_env("CATTLE_KUBERNETES_ADDRESS", other.url().trim_start_matches("https://"));
    second.restart(&member.control_plane).await?;
    wait_for("two sessions", BACK, async || {
        let metrics = reqwest::get(format!("{}/metrics", server.admin_url())).await?.text().await?;
        let line = metrics.lines().find(|line| line.contains("sessions ") && !line.starts_with('#'));
        ensure!(line.is_some_and(|line| line.ends_with(" 2")), "{line:?}");
        Ok(())
    })
    .await?;
    for number in Matrix::of_this_run("users of two API servers").slice(12, 3) {
        let refused = retries(&server).await?;
        // From here on one API server learns of no role and no binding: not of the new user's impersonator, either.
        late.hold(true);
        let user = server.add_user(&format!("user-{number}")).await?;
        server.add_member(&member.id, &user, "cluster-owner").await?;
        let asking = async {
            for (code, body) in parallel(&server, &member, &user, 16).await? {
                ensure!(code == 200 || code == 201 && body.contains(&user.name), "{code}: {body}");
            }
            anyhow::Ok(())
        };
        let caught_up = async {
            wait_for("an API server to refuse the impersonator", BACK, async || {
                let now = retries(&server).await?;
                ensure!(now > refused, "{now} requests were repeated, {refused} of them before");
                Ok(())
            })
            .await?;
            late.hold(false);
            anyhow::Ok(())
        };
        tokio::try_join!(asking, caught_up)?;
    }
    member.agent.process().kill().await?;
    back(&server, &member).await.context("through the second API server only")
}

/// Requests that the server has repeated because an API server refused their impersonator.
async fn retries(server: &Server) -> anyhow::Result<u64> {
    let metrics = reqwest::get(format!("{}/metrics", server.admin_url())).await?.text().await?;
    let value = metrics.lines().find_map(|line| line.strip_prefix("cattle_proxy_impersonation_retries_total "));
    Ok(value.context("no such metric")?.parse()?)
}

/// Requests of one user at the same moment, half of them with a body, each of them one that everybody may make.
async fn parallel(server: &Server, member: &Member, user: &User, count: usize) -> anyhow::Result<Vec<(u16, String)>> {
    let mut requests = JoinSet::new();
    for number in 0..count {
        let review = if number % 2 == 0 {
            let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
            let path = member.path("/apis/authentication.k8s.io/v1/selfsubjectreviews");
            server.http().post(format!("{}{path}", server.url())).json(&body)
        } else {
            server.http().get(format!("{}{}", server.url(), member.path("/version")))
        };
        let request = review.bearer_auth(&user.token);
        requests.spawn(async move {
            let answer = request.send().await.with_context(|| format!("request {number} has no answer"))?;
            let code = answer.status().as_u16();
            anyhow::Ok((code, answer.text().await.with_context(|| format!("the answer {code} is cut"))?))
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = requests.join_next().await {
        answers.push(answer??);
    }
    Ok(answers)
}

async fn the_api_server_goes_and_comes(server: &Server, member: &mut Member) -> anyhow::Result<()> {
    member.control_plane.kill_apiserver().await?;
    let outage = outage(server, member).await.context("while the API server is away")?;
    ensure!(outage.contains("API server"), "{outage}");
    wait_for("the refused connection to be named", NOTICED, async || {
        let (code, message) = status(server, member, server.admin()).await?;
        ensure!(code == 502 && message.contains("cannot reach its API server"), "{code}: {message}");
        Ok(())
    })
    .await?;
    member.control_plane.start_apiserver().await?;
    back(server, member).await.context("after the API server was restarted")
}

/// Asks until the cluster does not answer; answers with the sentence, which has to be a `Status` of the right code.
async fn outage(server: &Server, member: &Member) -> anyhow::Result<String> {
    wait_for("the outage", NOTICED, async || {
        let (code, message) = status(server, member, server.admin()).await?;
        ensure!(code != 200, "the cluster answers");
        ensure!(matches!(code, 502..=504), "{code}: {message}");
        Ok(message)
    })
    .await
}

/// Code and message of a request into the cluster; whatever is no answer of Kubernetes must be a `Status`.
async fn status(server: &Server, member: &Member, user: &User) -> anyhow::Result<(u16, String)> {
    let answer = server.get(&member.path("/api/v1/namespaces/kube-system"), user).await?;
    let code = answer.status().as_u16();
    let body: Value = answer.json().await.context("an answer is no JSON")?;
    if code == 200 {
        return Ok((code, String::new()));
    }
    ensure!(body["kind"] == "Status" && body["code"] == code, "no Status: {body}");
    Ok((code, body["message"].as_str().context("no message")?.to_owned()))
}

/// The cluster is Ready again and kubectl works, without anybody having done anything.
async fn back(server: &Server, member: &Member) -> anyhow::Result<()> {
    wait_for("kubectl to work", BACK, async || {
        member.kubectl(server, server.admin(), ["get", "namespace", "kube-system", "-o", "name"]).await
    })
    .await
    .with_context(|| format!("the agent says:\n{}", tail(&member.agent.log())))?;
    member.wait_ready(server).await
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
