//! `kubectl logs`.

use futures_util::future::try_join_all;
use serde_json::json;

use crate::object::{pod, web};
use crate::rig::{PROGRAMS, Rig, compare, with_rig};
use crate::session::Session;

const NAMESPACE: &str = "logs";
/// What the talking pod says after it was told to.
const LINES: usize = 60;
const COUNTS: &str = "seq 1 2000; for line in one two three; do echo $line >&2; done";
const TALKS: &str = "echo begin; until [ -e /tmp/go ]; do sleep 0.05; done; seq 1 60 | while read -r line; do echo $line; sleep 0.05; done";
/// Ends once and then goes on.
const CRASHES: &str =
    "if [ -e /data/again ]; then echo second; exec sleep 1000000; fi; : >/data/again; seq 1 20; echo first; exit 1";

/// Each with the exit code.
const READS: [(&str, i32); 12] = [
    ("logs counts", 0),
    ("logs counts --tail=7", 0),
    ("logs counts --tail=0", 0),
    ("logs counts --timestamps --tail=100", 0),
    ("logs counts --limit-bytes=100", 0),
    ("logs counts --since=1h --tail=2", 0),
    ("logs -l app=counts --prefix --tail=3", 0),
    ("logs counts -c nope", 1),
    ("logs nope", 1),
    ("logs crashes", 0),
    ("logs crashes --previous", 0),
    ("logs crashes -p --tail=2 --timestamps", 0),
];

#[test]
fn logs_are_the_same() -> anyhow::Result<()> {
    with_rig(async |rig| {
        rig.namespace(NAMESPACE).await?;
        let mut crashes = pod("crashes", CRASHES);
        crashes["spec"]["restartPolicy"] = json!("OnFailure");
        crashes["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
        crashes["spec"]["volumes"] = json!([{ "name": "data", "emptyDir": {} }]);
        rig.apply(NAMESPACE, &[pod("counts", COUNTS), pod("talks", TALKS), crashes, web("web")]).await?;
        rig.wait(NAMESPACE, "jsonpath={.status.phase}=Succeeded", &["pod/counts"]).await?;
        rig.wait(NAMESPACE, "condition=Ready", &["pod/talks"]).await?;
        rig.wait(NAMESPACE, "jsonpath={.status.containerStatuses[0].restartCount}=1", &["pod/crashes"]).await?;
        rig.wait(NAMESPACE, "condition=Ready", &["pod/crashes"]).await?;
        for program in PROGRAMS {
            for (line, exit) in READS {
                let words: Vec<&str> = line.split(' ').collect();
                let seen = rig.same(program, NAMESPACE, &words, None, exit).await?;
                let lines = seen.text().lines().count();
                match line {
                    "logs counts" => assert_eq!(lines, 2003),
                    "logs crashes --previous" => assert!(seen.text().ends_with("20\nfirst\n"), "{}", seen.text()),
                    _ => {}
                }
            }
        }
        followed(rig).await
    })
}

/// All read the beginning, then the pod goes on and ends, and so do they.
async fn followed(rig: &Rig) -> anyhow::Result<()> {
    let clients = PROGRAMS.map(|program| rig.clients(program, NAMESPACE, &["logs", "-f", "talks"]));
    let mut sessions = clients.iter().flatten().map(Session::start).collect::<anyhow::Result<Vec<_>>>()?;
    for session in &mut sessions {
        assert_eq!(session.line().await?, "begin\n");
    }
    rig.admin(NAMESPACE, &["exec", "talks", "--", "sh", "-c", ": >/tmp/go"]).await?;
    let all = try_join_all(sessions.into_iter().map(Session::finish)).await?;
    for ways in all.chunks(2) {
        compare(&ways[0], &ways[1], 0)?;
        assert_eq!(ways[0].text().lines().count(), LINES + 1);
    }
    Ok(())
}
