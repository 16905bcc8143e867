//! Real kubectl against the server. `CATTLE_TEST_KUBECTL` names the program (several with `:` between); else the one in the
//! path is used, and without any the test says so and passes.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use axum::body::Body;
use cattle_apiserver::ApiServer;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::support::{ADMIN, DEADLINE, World, person};

/// A server on loopback, and one kubectl.
struct Kubectl {
    program: PathBuf,
    server: String,
    home: TempDir,
    _tasks: JoinSet<()>,
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Kubectl {
    async fn start(program: &Path, api: ApiServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, api));
        Self { program: program.to_owned(), server, home: tempfile::tempdir().unwrap(), _tasks: tasks }
    }

    async fn run(&self, args: &[&str], stdin: &str) -> Ran {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin")
            .env("KUBE_EDITOR", "sed -i s/edit-me/edited/")
            .arg("--server")
            .arg(&self.server)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(stdin.as_bytes()).await.unwrap();
        drop(input);
        let output = tokio::time::timeout(DEADLINE * 2, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("kubectl {args:?} did not end")).unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn check(&self, args: &[&str], ran: Ran, wanted: &str) -> String {
        let Ran { code, stdout, stderr } = ran;
        let program = self.program.display();
        assert!(code == 0 && stdout.contains(wanted), "{program} {args:?}: {code}\n{stdout}\n{stderr}");
        stdout
    }

    async fn ok(&self, args: &[&str], wanted: &str) -> String {
        let ran = self.run(args, "").await;
        self.check(args, ran, wanted)
    }

    async fn ok_with(&self, args: &[&str], stdin: &str, wanted: &str) -> String {
        let ran = self.run(args, stdin).await;
        self.check(args, ran, wanted)
    }

    async fn fails(&self, args: &[&str], wanted: &str) {
        let ran = self.run(args, "").await;
        assert!(ran.code != 0 && ran.stderr.contains(wanted), "{args:?}: {}\n{}\n{}", ran.code, ran.stdout, ran.stderr);
    }
}

async fn listen(listener: TcpListener, api: ApiServer) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let api = api.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let api = api.clone();
                async move { Ok::<_, std::convert::Infallible>(api.serve(request.map(Body::new), person(ADMIN)).await) }
            });
            drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

fn programs() -> Vec<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a test without a command line of its own")]
    let named = std::env::var("CATTLE_TEST_KUBECTL").unwrap_or_default();
    if !named.is_empty() {
        return named.split(':').map(PathBuf::from).collect();
    }
    let found =
        ["/usr/local/bin/kubectl", "/usr/bin/kubectl"].into_iter().map(PathBuf::from).find(|path| path.exists());
    found.into_iter().collect()
}

const MANIFEST: &str = r"apiVersion: management.cattle.io/v3
kind: Cluster
metadata:
  name: c-apply
spec:
  displayName: applied
---
apiVersion: management.cattle.io/v3
kind: ClusterRegistrationToken
metadata:
  name: default
  namespace: c-apply
spec:
  clusterName: c-apply
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_works() {
    let programs = programs();
    if programs.is_empty() {
        println!("skipped: there is no kubectl here, and CATTLE_TEST_KUBECTL does not name one");
    }
    for program in programs {
        let world = World::new().await;
        let kubectl = Kubectl::start(&program, world.api.clone()).await;
        reads(&kubectl, &world).await;
        changes(&kubectl).await;
        waits(&kubectl, &world).await;
        if minor(&kubectl).await >= 28 {
            recent(&kubectl).await;
        }
    }
}

async fn minor(kubectl: &Kubectl) -> u32 {
    let version: Value = serde_json::from_str(&kubectl.ok(&["version", "--client", "-o", "json"], "").await).unwrap();
    let minor = version["clientVersion"]["minor"].as_str().unwrap();
    minor.trim_end_matches('+').parse().unwrap()
}

async fn reads(kubectl: &Kubectl, world: &World) {
    world.cluster("c-reads").await;
    kubectl.ok(&["api-resources"], "clusterregistrationtokens").await;
    kubectl.ok(&["api-versions"], "management.cattle.io/v3").await;
    let table = kubectl.ok(&["get", "clusters"], "display c-reads").await;
    assert!(table.starts_with("NAME") && table.contains("DISPLAY NAME") && table.contains("AGE"), "{table}");
    kubectl.ok(&["get", "clusters", "-o", "wide"], "REASON").await;
    kubectl.ok(&["get", "cluster", "c-reads", "-o", "yaml"], "displayName: display c-reads").await;
    kubectl.ok(&["get", "cluster", "c-reads", "-o", "jsonpath={.spec.displayName}"], "display c-reads").await;
    kubectl.ok(&["get", "crtb", "-A"], "c-reads").await;
    kubectl.ok(&["get", "crtb", "-n", "c-reads"], "cluster-owner").await;
    kubectl.ok(&["get", "cattle", "-A"], "cluster.management.cattle.io/c-reads").await;
    kubectl.ok(&["get", "users", "--chunk-size=1"], "u-bobby").await;
    kubectl.ok(&["describe", "cluster", "c-reads"], "Display Name:").await;
    kubectl.ok(&["explain", "cluster.spec.displayName"], "The name that people see").await;
    kubectl.ok(&["explain", "user.metadata.labels"], "selectors").await;
    kubectl.fails(&["get", "cluster", "c-none0"], "clusters.management.cattle.io \"c-none0\" not found").await;
    kubectl.fails(&["get", "nothings"], "the server doesn't have a resource type").await;
}

async fn changes(kubectl: &Kubectl) {
    let create = "apiVersion: management.cattle.io/v3\nkind: Cluster\nmetadata:\n  generateName: c-\nspec:\n  displayName: made\n";
    kubectl.ok_with(&["create", "-f", "-"], create, "created").await;
    kubectl
        .ok_with(
            &["apply", "--dry-run=server", "-f", "-"],
            &MANIFEST[..MANIFEST.find("---").unwrap()],
            "server dry run",
        )
        .await;
    kubectl
        .ok_with(&["apply", "-f", "-"], MANIFEST, "clusterregistrationtoken.management.cattle.io/default created")
        .await;
    let again = kubectl.ok_with(&["apply", "-f", "-"], MANIFEST, "unchanged").await;
    assert_eq!(again.matches("unchanged").count(), 2, "{again}");
    let changed = MANIFEST.replace("displayName: applied", "displayName: applied\n  description: edit-me");
    kubectl.ok_with(&["apply", "-f", "-"], &changed, "c-apply configured").await;
    kubectl.ok_with(&["diff", "-f", "-"], &changed, "").await;
    kubectl.ok(&["edit", "cluster", "c-apply"], "edited").await;
    kubectl.ok(&["get", "cluster", "c-apply", "-o", "jsonpath={.spec.description}"], "edited").await;
    kubectl.ok(&["label", "cluster", "c-apply", "env=prod"], "labeled").await;
    kubectl.ok(&["annotate", "cluster", "c-apply", "note=yes"], "annotate").await;
    kubectl.ok(&["get", "clusters", "-l", "env=prod", "-o", "name"], "cluster.management.cattle.io/c-apply").await;
    kubectl
        .ok(&["patch", "cluster", "c-apply", "--type=merge", "-p", r#"{"spec":{"description":"merged"}}"#], "patched")
        .await;
    let json = r#"[{"op":"replace","path":"/spec/description","value":"json"}]"#;
    kubectl.ok(&["patch", "cluster", "c-apply", "--type=json", "-p", json], "patched").await;
    let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    kubectl.ok_with(&args, &changed, "serverside-applied").await;
    let wrong =
        "apiVersion: management.cattle.io/v3\nkind: Cluster\nmetadata:\n  name: c-wrong\nspec:\n  displayNam: x\n";
    let ran = kubectl.run(&["apply", "-f", "-"], wrong).await;
    assert!(ran.code != 0 && ran.stderr.contains("displayNam"), "{}{}", ran.stdout, ran.stderr);
    let invalid =
        "apiVersion: management.cattle.io/v3\nkind: Cluster\nmetadata:\n  name: c-wrong\nspec:\n  displayName: ''\n";
    let ran = kubectl.run(&["create", "-f", "-"], invalid).await;
    assert!(ran.code != 0 && ran.stderr.contains("spec.displayName: Required value"), "{}{}", ran.stdout, ran.stderr);
}

async fn waits(kubectl: &Kubectl, world: &World) {
    let wait = ["wait", "--for=condition=Ready", "cluster/c-apply", "--timeout=20s"];
    let become_ready = async {
        world.computed.set_ready("c-apply", true);
        kubectl.run(&wait, "").await
    };
    let ran = become_ready.await;
    kubectl.check(&wait, ran, "condition met");
    kubectl.fails(&["wait", "--for=condition=Never", "cluster/c-apply", "--timeout=1s"], "timed out").await;
    kubectl.ok(&["delete", "crt", "default", "-n", "c-apply"], "deleted").await;
    kubectl.ok(&["delete", "cluster", "c-apply"], "deleted").await;
    kubectl.fails(&["get", "cluster", "c-apply"], "not found").await;
    kubectl.ok(&["delete", "clusters", "--all"], "deleted").await;
    kubectl.ok(&["auth", "can-i", "create", "clusters"], "yes").await;
    kubectl.ok(&["auth", "can-i", "--list"], "clusters.management.cattle.io").await;
}

/// What older kubectl does not have.
async fn recent(kubectl: &Kubectl) {
    kubectl.ok(&["auth", "whoami"], ADMIN).await;
    kubectl.ok(&["explain", "cluster", "--recursive"], "displayName").await;
}
