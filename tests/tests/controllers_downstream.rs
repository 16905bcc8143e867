//! The controllers against a real API server, as the account and with the rights that the import manifest gives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test is the point")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cattle_api::Secret;
use cattle_api::condition::{self, ConditionType};
use cattle_api::ext::{Token, TokenSpec};
use cattle_api::management::cluster::RefusalReason;
use cattle_api::management::{
    Cluster, ClusterRegistrationToken, ClusterRegistrationTokenSpec, ClusterRoleTemplateBinding,
    ClusterRoleTemplateBindingFields, ClusterSpec, GlobalRoleBinding, GlobalRoleBindingFields, RoleTemplate,
    RoleTemplateFields, User, UserFields,
};
use cattle_audit::MemorySink;
use cattle_auth::UserInfo;
use cattle_controllers::clusters::BoxFuture;
use cattle_controllers::nodes::HostBook;
use cattle_controllers::registration::{Attempt, Bound, Registrations, Trust};
use cattle_controllers::{
    AskError, Bearer, ClusterControllers, Clusters, Context, IssuerKeys, Link, ProbeError, ServerCredential,
};
use cattle_harness::{ControlPlane, ControlPlaneOptions, wait_for};
use cattle_manifest::ImportManifest;
use cattle_proto::handshake::ClusterClaim;
use cattle_proto::id::{ClusterId, NodeName};
use cattle_store::{Store, Typed};
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const CLUSTER: &str = "c-abcde";
const SOON: Duration = Duration::from_secs(30);
const OURS: &str = "app.kubernetes.io/managed-by=cattle-server";

/// The way into the one cluster: no tunnel, the same TLS and the same account.
struct Direct {
    url: String,
    ca: String,
    links: watch::Sender<u64>,
}

impl Direct {
    fn connect(&self, bearer: &Bearer) -> kube::Client {
        let header = bearer.authorization().unwrap();
        let token = header.to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        let options = kube::config::KubeConfigOptions::default();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{ "name": "x", "cluster": { "server": self.url, "certificate-authority-data": self.ca } }],
            "users": [{ "name": "x", "user": { "token": token } }],
            "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
        });
        let kubeconfig: kube::config::Kubeconfig = serde_json::from_value(kubeconfig).unwrap();
        let config =
            futures_util::future::FutureExt::now_or_never(kube::Config::from_custom_kubeconfig(kubeconfig, &options));
        kube::Client::try_from(config.unwrap().unwrap()).unwrap()
    }
}

impl Clusters for Direct {
    fn client(&self, _: &ClusterId, bearer: &Bearer) -> Option<kube::Client> {
        Some(self.connect(bearer))
    }

    fn probe<'a>(&'a self, _: &'a ClusterId, bearer: &'a Bearer) -> BoxFuture<'a, Result<(), ProbeError>> {
        let client = self.connect(bearer);
        Box::pin(async move {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            let answer = client.request_text(request).await;
            answer.map(drop).map_err(|error| ProbeError::Unreachable(error.to_string()))
        })
    }

    fn link(&self, _: &ClusterId) -> Link {
        Link { connected: *self.links.borrow() > 0, ..Link::default() }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.links.subscribe()
    }

    fn control_plane_nodes(&self, _: &ClusterId, _: BTreeSet<String>) {}

    fn place_agent(&self, _: &ClusterId, _: &str, _: &NodeName) {}

    fn request_credential<'a>(&'a self, _: &'a ClusterId) -> BoxFuture<'a, Result<ServerCredential, AskError>> {
        Box::pin(async { Err(AskError::NotConnected) })
    }
}

/// Verifying tokens is the gateway's; here it is enough that the token names the issuer that the API server names.
struct Issuer;

impl Trust for Issuer {
    fn is_agent_of(&self, cluster: &ClusterId, keys: &IssuerKeys, token: &Secret) -> bool {
        use base64::Engine as _;
        let payload = token.expose_str().and_then(|token| token.split('.').nth(1)).unwrap_or_default();
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
        let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
        claims["iss"] == keys.issuer.as_str() && claims["aud"] == json!([format!("cattle:{cluster}:server-1")])
    }

    fn hop(&self, _: &kube::Error) -> RefusalReason {
        RefusalReason::ApiServerUnreachable
    }
}

fn matches(_: &str, presented: &Secret, sealed: &Secret) -> bool {
    presented.expose() == sealed.expose()
}

/// A server's store and controllers beside a real control plane.
struct Rig {
    cluster: ControlPlane,
    store: Arc<dyn Store>,
    audit: Arc<MemorySink>,
    direct: Arc<Direct>,
    controllers: Arc<ClusterControllers>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Rig {
    async fn start() -> anyhow::Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let cluster = ControlPlane::start(ControlPlaneOptions::default()).await?;
        cluster.kubectl(["apply", "--server-side", "-f", "-"]).stdin(manifest()).ok().await?;
        let ca = {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(cluster.ca_pem())
        };
        let direct = Arc::new(Direct { url: cluster.url(), ca, links: watch::Sender::new(0) });
        let store: Arc<dyn Store> = cattle_store::testing::memory();
        let audit = Arc::new(MemorySink::default());
        let context = Context {
            store: Arc::clone(&store),
            clusters: Arc::clone(&direct) as Arc<dyn Clusters>,
            hosts: HostBook::default(),
            audit: Arc::clone(&audit) as _,
        };
        let controllers = Arc::new(ClusterControllers::new(context, Vec::new()));
        let rig =
            Self { cluster, store, audit, direct, controllers, stop: CancellationToken::new(), tasks: JoinSet::new() };
        rig.fill().await?;
        Ok(rig)
    }

    /// A cluster record, roles, and three users with tokens; one of them is an administrator.
    async fn fill(&self) -> anyhow::Result<()> {
        let spec = ClusterSpec { display_name: "prod".into(), ..ClusterSpec::default() };
        self.typed().create(&Cluster::new(CLUSTER, spec), vec![]).await?;
        for template in cattle_api::builtin::role_templates() {
            self.typed().create(&template, vec![]).await?;
        }
        for (user, login) in [("u-alice", "alice"), ("u-bob", "bob"), ("u-root", "root")] {
            let fields = UserFields { username: login.into(), ..UserFields::default() };
            self.typed().create(&User::new(user, fields), vec![]).await?;
        }
        let fields = GlobalRoleBindingFields {
            global_role_name: "admin".into(),
            user_name: "u-root".into(),
            ..GlobalRoleBindingFields::default()
        };
        self.typed().create(&GlobalRoleBinding::new("grb-root", fields), vec![]).await?;
        self.join("u-alice", "cluster-owner").await
    }

    fn typed<K: cattle_api::Kind>(&self) -> Typed<K> {
        Typed::new(Arc::clone(&self.store))
    }

    async fn join(&self, user: &str, template: &str) -> anyhow::Result<()> {
        let fields = ClusterRoleTemplateBindingFields {
            cluster_name: CLUSTER.into(),
            role_template_name: template.into(),
            user_name: user.into(),
            ..ClusterRoleTemplateBindingFields::default()
        };
        let mut binding = ClusterRoleTemplateBinding::new(&format!("{user}-{template}"), fields);
        binding.metadata.namespace = Some(CLUSTER.into());
        self.typed().create(&binding, vec![]).await?;
        Ok(())
    }

    async fn leave(&self, user: &str, template: &str) -> anyhow::Result<()> {
        let name = format!("{user}-{template}");
        ensure!(self.typed::<ClusterRoleTemplateBinding>().delete(Some(CLUSTER), &name).await?);
        Ok(())
    }

    /// What the agent does: claims, requests a token for the server, shows its own. The registration token is as old as the
    /// record.
    async fn register(&self) -> anyhow::Result<Result<Bound, RefusalReason>> {
        let uid = self.cluster.kubectl(["get", "ns", "kube-system", "-o", "jsonpath={.metadata.uid}"]).ok().await?;
        self.register_as(&uid, &self.cluster.ca_pem()).await
    }

    async fn register_as(&self, uid: &str, ca: &str) -> anyhow::Result<Result<Bound, RefusalReason>> {
        let request = ["create", "token", "cattle", "-n", "cattle-system", "--duration", "1h"];
        let token = self.cluster.kubectl(request).ok().await?.trim().to_owned();
        let now = Timestamp::now();
        let credential =
            ServerCredential::new(Secret::from(token), now, now.checked_add(SignedDuration::from_hours(1))?);
        let audience = format!("cattle:{CLUSTER}:server-1");
        let agent = self.cluster.service_account_token("cattle-system", "cattle-cluster-agent", &audience).await?;
        let claim = ClusterClaim {
            kube_system_uid: uid.parse()?,
            ca_pem: ca.parse()?,
            server_name: "kubernetes.default.svc".parse()?,
        };
        let registrations =
            Registrations::new(Arc::clone(&self.store), Arc::new(Issuer), matches, Arc::clone(&self.audit) as _);
        let attempt = Attempt {
            cluster: &id(),
            token_made_at: Timestamp::UNIX_EPOCH,
            claim: &claim,
            client: self.direct.connect(&Bearer::fixed(credential.clone())),
            credential,
            agent_token: &Secret::from(agent),
        };
        Ok(registrations.complete(attempt).await.map_err(|error| error.reason))
    }

    fn run(&mut self) {
        let (controllers, stop) = (Arc::clone(&self.controllers), self.stop.clone());
        self.tasks.spawn(async move { controllers.run(stop).await });
        self.direct.links.send_modify(|links| *links += 1);
    }

    /// Impersonates `user` with the token of their impersonator, as the proxy does.
    async fn whoami(&self, user: &str, login: &str) -> anyhow::Result<Value> {
        let granted = self.controllers.impersonators().token(&id(), &UserInfo::for_test(user, login)).await?;
        let request = http_client(&self.cluster)?
            .post(format!("{}/apis/authentication.k8s.io/v1/selfsubjectreviews", self.cluster.url()))
            .bearer_auth(granted.token.expose_str().unwrap())
            .header("Impersonate-User", user)
            .header("Impersonate-Group", "system:authenticated")
            .header("Impersonate-Group", "system:cattle:authenticated")
            .header("Impersonate-Extra-Principalid", format!("local://{user}"))
            .header("Impersonate-Extra-Username", login)
            .json(&json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" }));
        let answer: Value = request.send().await?.json().await?;
        ensure!(answer["status"]["userInfo"]["username"] == user, "{answer}");
        Ok(answer["status"]["userInfo"].clone())
    }

    /// Waits until a user can act: RBAC caches of the API server follow a write by a moment.
    async fn whoami_soon(&self, user: &str, login: &str) -> anyhow::Result<Value> {
        wait_for("the user to be impersonated", SOON, async || self.whoami(user, login).await).await
    }

    async fn names(&self, kinds: &str, selector: &str) -> anyhow::Result<Vec<String>> {
        let list = self.cluster.kubectl(["get", kinds, "-A", "-l", selector, "-o", "name"]).ok().await?;
        Ok(list.lines().map(str::to_owned).collect())
    }

    /// The audit log, as verb, code and reason.
    fn deeds(&self) -> Vec<String> {
        let line = |line: &Value| {
            let status = &line["responseStatus"];
            let parts = [line["verb"].as_str(), status["reason"].as_str()].map(Option::unwrap_or_default);
            let code = status["code"].as_u64().map(|code| code.to_string()).unwrap_or_default();
            format!("{} {code} {}", parts[0], parts[1]).trim().to_owned()
        };
        self.audit.lines().iter().map(line).collect()
    }

    async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.cluster.kubectl(arguments.iter().copied()).ok().await
    }

    async fn end(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        self.cluster.stop().await
    }
}

fn id() -> ClusterId {
    CLUSTER.parse().unwrap()
}

fn http_client(cluster: &ControlPlane) -> anyhow::Result<reqwest::Client> {
    let ca = reqwest::Certificate::from_pem(cluster.ca_pem().as_bytes())?;
    Ok(reqwest::Client::builder().tls_certs_only([ca]).build()?)
}

fn manifest() -> String {
    let input = ImportManifest {
        server_url: "https://cattle.example.com".parse().unwrap(),
        ca_checksum: Some("0123456789abcdef".repeat(4).parse().unwrap()),
        cluster_id: CLUSTER.parse().unwrap(),
        server_id: "server-1".parse().unwrap(),
        registration_token: "b".repeat(54).parse().unwrap_or_else(|_| panic!("a token")),
        image: "cattle/cluster-agent:v0.1.0".parse().unwrap(),
        node_image: "cattle/node-agent:v0.1.0".parse().unwrap(),
        registry: None,
        agent_env: vec![],
    };
    input.build().unwrap().to_yaml().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_registers_once() -> anyhow::Result<()> {
    let rig = Rig::start().await?;
    // A foreign UID is seen before the record is asked.
    let foreign = rig.register_as("00000000-57a7-4a2e-9b3e-1d2c3b4a5f60", &rig.cluster.ca_pem()).await?;
    assert_eq!(foreign, Err(RefusalReason::ClaimMismatch));
    rig.audit.set_full(true);
    assert_eq!(rig.register().await?, Err(RefusalReason::Internal), "no line, no change");
    rig.audit.set_full(false);
    // Two replicas at once, with one token.
    let (one, other) = tokio::join!(rig.register(), rig.register());
    let both = [one?, other?];
    assert!(both.contains(&Ok(Bound::Now)) && both.contains(&Ok(Bound::Again)), "{both:?}");
    assert_eq!(rig.register().await?, Ok(Bound::Again));
    let record: Cluster = rig.typed().get(None, CLUSTER).await?.context("no record")?;
    let identity = record.status.unwrap().identity.unwrap();
    assert_eq!((identity.issuer.as_str(), identity.ca_cert), (rig.cluster.issuer(), rig.cluster.ca_pem()));

    // The same UID behind another CA.
    let mut other = ControlPlane::start(ControlPlaneOptions { controllers: false, ..Default::default() }).await?;
    let uid = rig.kubectl(&["get", "ns", "kube-system", "-o", "jsonpath={.metadata.uid}"]).await?;
    let changed = rig.register_as(&uid, &other.ca_pem()).await?;
    assert_eq!(changed, Err(RefusalReason::CertificateAuthorityChanged));
    let record: Cluster = rig.typed().get(None, CLUSTER).await?.context("no record")?;
    let conditions = rig.controllers.conditions(&record);
    let registered = condition::find(&conditions, ConditionType::Registered).context("no condition")?;
    assert!(registered.message.contains("--ca-sha256"), "{}", registered.message);
    assert_eq!(rig.register_as(&uid, &other.ca_pem()).await?, Err(RefusalReason::CertificateAuthorityChanged));
    let deeds = rig.deeds();
    let times = |line: &str| deeds.iter().filter(|deed| *deed == line).count();
    assert_eq!(times("register"), times("register 200"), "{deeds:?}");
    assert!((1..=2).contains(&times("register 200")), "two replicas may both announce it: {deeds:?}");
    // What an agent tries again has no second line.
    for refused in ["register 403 ClaimMismatch", "register 403 CertificateAuthorityChanged"] {
        assert_eq!(times(refused), 1, "{deeds:?}");
    }
    other.apiserver();
    other.stop().await?;
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn impersonators_come_stay_and_go() -> anyhow::Result<()> {
    let mut rig = Rig::start().await?;
    assert_eq!(rig.register().await?, Ok(Bound::Now));
    let token = TokenSpec { user_id: "u-alice".into(), ..TokenSpec::default() };
    rig.typed().create(&Token::new("token-alice", token), vec![]).await?;
    rig.run();

    // Before the first request: alice has signed in, bob and root have not.
    let impersonator = "cattle-impersonation-u-alice";
    let selector = "authz.cluster.cattle.io/impersonator=true,cattle.io/creator=norman";
    let four = wait_for("alice's four", SOON, async || {
        let found = rig.names("clusterroles,clusterrolebindings,serviceaccounts,secrets", selector).await?;
        ensure!(found.len() == 4, "{found:?}");
        Ok(found)
    });
    assert!(four.await?.iter().all(|name| name.contains(impersonator)));
    let info = rig.whoami_soon("u-alice", "alice").await?;
    assert_eq!(info["groups"], json!(["system:authenticated", "system:cattle:authenticated"]));
    assert_eq!(info["extra"], json!({ "principalid": ["local://u-alice"], "username": ["alice"] }));

    // The account by itself may do nothing.
    let granted = rig.controllers.impersonators().token(&id(), &UserInfo::for_test("u-alice", "alice")).await?;
    let bare = http_client(&rig.cluster)?.get(format!("{}/api/v1/namespaces", rig.cluster.url()));
    assert_eq!(bare.bearer_auth(granted.token.expose_str().unwrap()).send().await?.status(), 403);

    // Whatever is deleted or changed by hand comes back.
    for damage in [
        &["delete", "clusterrole", impersonator][..],
        &["delete", "clusterrolebinding", impersonator],
        &["delete", "serviceaccount", "-n", "cattle-impersonation-system", impersonator],
        &["delete", "secret", "-n", "cattle-impersonation-system", "-l", OURS],
        &["label", "clusterrole", impersonator, "app.kubernetes.io/managed-by-"],
        &["patch", "clusterrole", impersonator, "--type=json", "-p", r#"[{"op":"remove","path":"/rules/0"}]"#],
        &["delete", "namespace", "cattle-impersonation-system"],
    ] {
        rig.kubectl(damage).await?;
        let rules = wait_for("the repair", SOON, async || {
            rig.whoami("u-alice", "alice").await?;
            let role = rig.cluster.kubectl(["get", "clusterrole", impersonator, "-o", "json"]).json().await?;
            ensure!(role["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "cattle-server", "{role}");
            ensure!(role["rules"].as_array().is_some_and(|rules| rules.len() == 4), "{role}");
            Ok(())
        });
        rules.await.with_context(|| format!("after {damage:?}"))?;
    }

    // Access ends.
    rig.leave("u-alice", "cluster-owner").await?;
    wait_for("the end of alice's four", SOON, async || {
        let found = rig.names("clusterroles,clusterrolebindings,serviceaccounts,secrets", selector).await?;
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    })
    .await?;
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_first_requests_make_one_impersonator() -> anyhow::Result<()> {
    let mut rig = Rig::start().await?;
    assert_eq!(rig.register().await?, Ok(Bound::Now));
    rig.run();
    let impersonators = rig.controllers.impersonators();
    let user = UserInfo::for_test("u-alice", "alice");
    wait_for("the unit", SOON, async || Ok(impersonators.token(&id(), &UserInfo::for_test("u-root", "root")).await?))
        .await?;
    let cluster = id();
    let granted = join_all((0..50).map(|_| impersonators.token(&cluster, &user))).await;
    let tokens: Vec<_> = granted.into_iter().collect::<Result<_, _>>()?;
    assert!(tokens.iter().all(|one| one.token.expose() == tokens[0].token.expose()));
    let secrets = rig.names("secrets", OURS).await?;
    assert_eq!(
        secrets.iter().filter(|name| name.contains("cattle-impersonation-u-alice-token-")).count(),
        1,
        "{secrets:?}"
    );
    rig.whoami_soon("u-alice", "alice").await?;
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_get_what_their_roles_say() -> anyhow::Result<()> {
    let mut rig = Rig::start().await?;
    assert_eq!(rig.register().await?, Ok(Bound::Now));
    // A template whose name is taken downstream, and one that stands for a role of Kubernetes.
    rig.kubectl(&["create", "clusterrole", "taken", "--verb=get", "--resource=secrets"]).await?;
    let external = RoleTemplateFields { context: "cluster".into(), external: true, ..RoleTemplateFields::default() };
    rig.typed().create(&RoleTemplate::new("view", external), vec![]).await?;
    let taken = RoleTemplateFields {
        context: "cluster".into(),
        role_template_names: vec!["view".into()],
        ..RoleTemplateFields::default()
    };
    rig.typed().create(&RoleTemplate::new("taken", taken), vec![]).await?;
    rig.join("u-bob", "taken").await?;
    rig.run();

    let may = async |user: &str, verb: &str, resource: &str, want: bool| {
        wait_for(&format!("{user} {verb} {resource}: {want}"), SOON, async || {
            let check = ["auth", "can-i", verb, resource, "--as", user, "--as-group", "system:authenticated"];
            let answer = rig.cluster.kubectl(check).output().await?.text();
            ensure!((answer.trim() == "yes") == want, "{answer}");
            Ok(())
        })
        .await
    };
    may("u-alice", "delete", "nodes", true).await?;
    may("u-root", "delete", "nodes", true).await?;
    may("u-bob", "list", "pods", true).await?;
    may("u-bob", "get", "secrets", false).await?;
    let taken = rig.cluster.kubectl(["get", "clusterrole", "taken", "-o", "json"]).json().await?;
    assert!(taken["metadata"]["labels"].is_null() && taken["rules"].as_array().is_some_and(|rules| rules.len() == 1));

    // Whoever may not sign in keeps nothing downstream, and has it all again afterwards.
    for user in ["u-alice", "u-root"] {
        for enabled in [false, true] {
            let switch = |record: &mut User| record.spec.enabled = Some(enabled);
            rig.typed().modify(None, user, switch).await?.context("no such user")?;
            may(user, "delete", "nodes", enabled).await?;
        }
    }

    // Drift is repaired, and an end is an end.
    rig.kubectl(&["delete", "clusterrolebindings", "-l", "authz.cluster.cattle.io/rtb-owner-updated"]).await?;
    rig.kubectl(&["delete", "clusterrole", "cluster-owner"]).await?;
    may("u-alice", "delete", "nodes", true).await?;
    rig.leave("u-alice", "cluster-owner").await?;
    may("u-alice", "delete", "nodes", false).await?;
    wait_for("the role's end", SOON, async || {
        let roles = rig.names("clusterroles", OURS).await?;
        ensure!(!roles.iter().any(|role| role.ends_with("/cluster-owner")), "{roles:?}");
        Ok(())
    })
    .await?;
    rig.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_cluster_keeps_nothing_of_ours() -> anyhow::Result<()> {
    let mut rig = Rig::start().await?;
    assert_eq!(rig.register().await?, Ok(Bound::Now));
    let spec = ClusterRegistrationTokenSpec { cluster_name: CLUSTER.into(), ttl_minutes: None };
    let mut token = ClusterRegistrationToken::new("crt-1", spec);
    token.metadata.namespace = Some(CLUSTER.into());
    rig.typed().create(&token, vec![]).await?;
    rig.run();
    rig.whoami_soon("u-alice", "alice").await?;

    assert!(rig.typed::<Cluster>().delete(None, CLUSTER).await?);
    wait_for("the record's end", SOON, async || {
        let record: Option<Cluster> = rig.typed().get(None, CLUSTER).await?;
        let conditions = record.as_ref().map(|record| rig.controllers.conditions(record));
        ensure!(record.is_none(), "{conditions:?}");
        Ok(())
    })
    .await?;
    let left: (Vec<ClusterRegistrationToken>, _) = rig.typed().list(None).await?;
    assert!(left.0.is_empty());
    let left: (Vec<ClusterRoleTemplateBinding>, _) = rig.typed().list(None).await?;
    assert!(left.0.is_empty());
    wait_for("the end of everything of ours", SOON, async || {
        let left =
            rig.names("clusterroles,clusterrolebindings,priorityclasses,namespaces,serviceaccounts", OURS).await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    rig.end().await
}
