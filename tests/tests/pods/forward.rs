//! `kubectl port-forward` and `kubectl proxy`.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use cattle_harness::Client;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::object::web;
use crate::rig::{PROGRAMS, Rig, SOON, with_rig};
use crate::session::Session;

/// Through the server; direct is asked a few times for comparison.
const REQUESTS: usize = 1_000;
const A_FEW: usize = 20;
const AT_ONCE: usize = 16;

#[test]
fn a_thousand_connections_through_a_forwarded_port() -> anyhow::Result<()> {
    with_rig(async |rig| {
        rig.namespace("forward").await?;
        rig.apply("forward", &[web("web")]).await?;
        rig.wait("forward", "condition=Ready", &["pod/web"]).await?;
        for program in PROGRAMS {
            let line = ["port-forward", "--address=127.0.0.1", "pod/web", ":8080"];
            let [through, direct] = rig.clients(program, "forward", &line);
            let (through, direct) = tokio::join!(forwarded(&through, REQUESTS), forwarded(&direct, A_FEW));
            let through = through.with_context(|| format!("{program} through the server"))?;
            let direct = direct.with_context(|| format!("{program} direct"))?;
            ensure!(through[..A_FEW] == direct, "{program}: answers differ");

            let refused = ["port-forward", "--address=127.0.0.1", "pod/nope", ":8080"];
            rig.same(program, "forward", &refused, None, 1).await?;
        }
        Ok(())
    })
}

/// Answers to so many requests, each on a connection of its own.
async fn forwarded(client: &Client, count: usize) -> anyhow::Result<Vec<String>> {
    let mut session = Session::start(client)?;
    let line = session.line().await?;
    let address = line.trim_end().strip_prefix("Forwarding from ").and_then(|line| line.strip_suffix(" -> 8080"));
    let address: SocketAddr = address.with_context(|| line.clone())?.parse()?;
    let requests = (0..count).map(|number| async move {
        let answer = timeout(SOON, ask(address, number)).await.context("no answer").flatten();
        answer.with_context(|| format!("request {number}"))
    });
    let answers: Vec<String> = stream::iter(requests).buffered(AT_ONCE).try_collect().await?;
    for (number, answer) in answers.iter().enumerate() {
        ensure!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        ensure!(answer.ends_with(&format!("\r\n\r\nrequest {number}")), "{answer}");
    }
    let output = session.stop().await?;
    let handled = output.text().lines().filter(|line| line.starts_with("Handling connection for ")).count();
    ensure!(handled == count && output.stderr.is_empty(), "{handled} handled; {}", output.error());
    Ok(answers.iter().map(|answer| without_date(answer)).collect())
}

async fn ask(address: SocketAddr, number: usize) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET /echo?msg=request%20{number} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn without_date(answer: &str) -> String {
    answer.lines().filter(|line| !line.starts_with("Date: ")).collect()
}

#[test]
fn a_local_proxy_leads_into_pods() -> anyhow::Result<()> {
    with_rig(async |rig| {
        rig.namespace("proxy").await?;
        rig.apply("proxy", &[web("web")]).await?;
        rig.admin("proxy", &["expose", "pod", "web", "--port=80", "--target-port=8080"]).await?;
        rig.wait("proxy", "condition=Ready", &["pod/web"]).await?;
        for program in PROGRAMS {
            let (through, direct) = tokio::join!(proxied(rig, program, 0), proxied(rig, program, 1));
            let (through, direct) = (through?, direct?);
            ensure!(through == direct, "{program}: answers differ\n{through:?}\n{direct:?}");
            let codes: Vec<u16> = through.iter().map(|(code, _, _)| *code).collect();
            ensure!(codes == [200, 200, 201, 404, 503], "{program}: {through:?}");
            ensure!(through[0].2 == "one" && through[1].2 == "web", "{through:?}");
        }
        Ok(())
    })
}

/// Status, content type and body of what pods answer.
async fn proxied(rig: &Rig, program: &str, way: usize) -> anyhow::Result<Vec<(u16, Option<String>, String)>> {
    // A new kubectl drops the path of its kubeconfig's server unless it is told not to, an old one always.
    let (line, prefix): (&[&str], _) = match (program, way) {
        ("kubectl", _) => (&["proxy", "--port=0", "--append-server-path"], String::new()),
        (_, 0) => (&["proxy", "--port=0"], format!("/k8s/clusters/{}", rig.cluster)),
        _ => (&["proxy", "--port=0"], String::new()),
    };
    let mut session = Session::start(&rig.clients(program, "proxy", line)[way])?;
    let begun = session.line().await?;
    let base = format!("http://{}{prefix}/api/v1/namespaces/proxy", begun.trim_end().rsplit(' ').next().context("no")?);
    let paths = [
        "pods/web:8080/proxy/echo?msg=one",
        "services/web:80/proxy/hostname",
        "pods/web:8080/proxy/echo?msg=made&code=201",
        "pods/nope:8080/proxy/",
        "pods/web:8081/proxy/",
    ];
    let mut answers = Vec::new();
    for path in paths {
        let answer = reqwest::get(format!("{base}/{path}")).await?;
        let kind = answer.headers().get("content-type").and_then(|value| value.to_str().ok()).map(str::to_owned);
        answers.push((answer.status().as_u16(), kind, answer.text().await?));
    }
    session.stop().await?;
    Ok(answers)
}
