//! A server with users, and a client that speaks to it without a network.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use cattle_api::management::{GlobalRoleBinding, GlobalRoleBindingFields, User, UserFields};
use cattle_api::{Resource, builtin, resource};
use cattle_apiserver::{ApiServer, AuditSink, AuditUnavailable, Change, Decorate, Hooks, Recomputed};
use cattle_auth::{Access, AccessWatcher, Authenticator, Passwords, Revocations, UserInfo};
use cattle_store::testing::TestStore;
use cattle_store::{Store, Transaction, Write};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

/// Longest wait for anything in these tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const ADMIN: &str = "u-admin";
pub(crate) const BOB: &str = "u-bobby";
pub(crate) const EVE: &str = "u-evess";
pub(crate) const MANAGEMENT: &str = "/apis/management.cattle.io/v3";
pub(crate) const EXT: &str = "/apis/ext.cattle.io/v1";

/// A server on a store of its own.
pub(crate) struct World {
    pub(crate) api: ApiServer,
    pub(crate) store: Arc<TestStore>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) computed: Arc<Computed>,
    _tasks: JoinSet<()>,
}

/// What a request got.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

#[derive(Default)]
pub(crate) struct Audit {
    pub(crate) full: AtomicBool,
    pub(crate) seen: std::sync::Mutex<Vec<(String, u16)>>,
}

/// Conditions that a test can change.
pub(crate) struct Computed {
    pub(crate) ready: AtomicBool,
    /// What changes all the time, and is no news.
    pub(crate) streams: AtomicU64,
    changes: broadcast::Sender<Recomputed>,
}

impl AuditSink for Audit {
    fn before<'a>(&'a self, _: &'a Change) -> BoxFuture<'a, Result<(), AuditUnavailable>> {
        let full = self.full.load(Ordering::SeqCst);
        let answer = if full { Err(AuditUnavailable { sentence: "the audit log is full".into() }) } else { Ok(()) };
        Box::pin(std::future::ready(answer))
    }

    fn after(&self, change: &Change, code: u16) {
        let what = format!("{} {} {}", change.verb, change.resource, change.name.as_deref().unwrap_or_default());
        self.seen.lock().unwrap().push((what, code));
    }
}

impl Computed {
    pub(crate) fn set_ready(&self, cluster: &str, ready: bool) {
        self.ready.store(ready, Ordering::SeqCst);
        let one = Recomputed::One { namespace: None, name: cluster.to_owned() };
        drop(self.changes.send(one));
    }
}

impl Computed {
    pub(crate) fn announce_all(&self) {
        drop(self.changes.send(Recomputed::Any));
    }
}

impl Decorate for Computed {
    fn decorate(&self, kind: &'static Resource, object: &mut DynamicObject) {
        if kind == &resource::CLUSTER {
            let status = if self.ready.load(Ordering::SeqCst) { "True" } else { "False" };
            object.data["status"]["conditions"] = json!([{
                "type": "Ready", "status": status, "reason": "Test", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]);
            object.data["status"]["agents"] = json!([{
                "pod": "agent", "since": "2026-01-01T00:00:00Z", "state": "InUse", "streams": self.streams.load(Ordering::SeqCst),
            }]);
        }
    }

    fn calm(&self, _: &'static Resource, object: &mut Value) {
        object["status"]["agents"][0]["streams"].take();
    }

    fn changes(&self, kind: &'static Resource) -> BoxStream<'static, Recomputed> {
        if kind != &resource::CLUSTER {
            return futures_util::stream::pending().boxed();
        }
        let receiver = self.changes.subscribe();
        futures_util::stream::unfold(receiver, |mut receiver| async move {
            match receiver.recv().await {
                Ok(change) => Some((change, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((Recomputed::Any, receiver)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
        .boxed()
    }
}

impl World {
    /// A server with the builtin roles, an administrator, an ordinary user and one without any role.
    pub(crate) async fn new() -> Self {
        Self::over(cattle_store::testing::memory()).await
    }

    pub(crate) async fn over(store: Arc<TestStore>) -> Self {
        seed(store.as_ref()).await;
        let mut tasks = JoinSet::new();
        let access = Access::new();
        let authenticator = Arc::new(Authenticator::new(store.clone()));
        let revocations = Revocations::new(access.clone(), authenticator);
        let watcher = AccessWatcher::new(store.clone(), access.clone(), revocations);
        tasks.spawn(watcher.run());
        wait("the access index", || access.is_synced()).await;
        let (changes, _) = broadcast::channel(16);
        let computed = Arc::new(Computed { ready: AtomicBool::new(false), streams: AtomicU64::new(0), changes });
        let audit = Arc::new(Audit::default());
        let hooks = Hooks {
            authorizer: Arc::new(access),
            audit: audit.clone(),
            passwords: Passwords::cheap(),
            decorate: computed.clone(),
            version: "0.1.0".into(),
        };
        Self { api: ApiServer::new(store.clone(), hooks), store, audit, computed, _tasks: tasks }
    }

    pub(crate) async fn raw(&self, user: &str, request: Request<Body>) -> Response<Body> {
        self.api.serve(request, person(user)).await
    }

    /// A request as a client sends it. `kind` is the content type.
    pub(crate) async fn send(&self, user: &str, method: &str, uri: &str, kind: &str, body: impl Into<Body>) -> Answer {
        let request =
            Request::builder().method(method).uri(uri).header("content-type", kind).body(body.into()).unwrap();
        read(self.raw(user, request).await).await
    }

    pub(crate) async fn get(&self, user: &str, uri: &str) -> Answer {
        self.send(user, "GET", uri, "application/json", Body::empty()).await
    }

    pub(crate) async fn get_as(&self, user: &str, uri: &str, accept: &str) -> Answer {
        let request = Request::builder().uri(uri).header("accept", accept).body(Body::empty()).unwrap();
        read(self.raw(user, request).await).await
    }

    pub(crate) async fn post(&self, user: &str, uri: &str, body: &Value) -> Answer {
        self.send(user, "POST", uri, "application/json", body.to_string()).await
    }

    pub(crate) async fn put(&self, user: &str, uri: &str, body: &Value) -> Answer {
        self.send(user, "PUT", uri, "application/json", body.to_string()).await
    }

    pub(crate) async fn merge(&self, user: &str, uri: &str, body: &Value) -> Answer {
        self.send(user, "PATCH", uri, "application/merge-patch+json", body.to_string()).await
    }

    pub(crate) async fn apply(&self, user: &str, uri: &str, body: &Value) -> Answer {
        self.send(user, "PATCH", uri, "application/apply-patch+yaml", body.to_string()).await
    }

    pub(crate) async fn delete(&self, user: &str, uri: &str) -> Answer {
        self.send(user, "DELETE", uri, "application/json", Body::empty()).await
    }

    /// A cluster made by the administrator.
    pub(crate) async fn cluster(&self, name: &str) -> Value {
        let made =
            self.post(ADMIN, &format!("{MANAGEMENT}/clusters"), &cluster(name, &format!("display {name}"))).await;
        made.expect(201)
    }

    /// Makes a user the owner of a cluster.
    pub(crate) async fn bind(&self, user: &str, cluster: &str, role: &str) {
        let body = json!({
            "apiVersion": "management.cattle.io/v3", "kind": "ClusterRoleTemplateBinding",
            "metadata": {"name": format!("{user}-{role}")}, "userName": user, "roleTemplateName": role,
        });
        let uri = format!("{MANAGEMENT}/namespaces/{cluster}/clusterroletemplatebindings");
        self.post(ADMIN, &uri, &body).await.expect(201);
        let uri = format!("{MANAGEMENT}/clusters/{cluster}");
        eventually("the binding", || async { self.get(user, &uri).await.code == 200 }).await;
    }
}

impl Answer {
    /// The body, if the code is the expected one.
    #[track_caller]
    pub(crate) fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.text);
        self.body
    }

    /// The message, if this is a `Status` of this code and reason.
    #[track_caller]
    pub(crate) fn refused(self, code: u16, reason: &str) -> String {
        assert_eq!((self.code, self.body["reason"].as_str()), (code, Some(reason)), "{}", self.text);
        assert_eq!((self.body["kind"].as_str(), self.body["code"].as_u64()), (Some("Status"), Some(u64::from(code))));
        self.body["message"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) fn cluster(name: &str, display: &str) -> Value {
    json!({
        "apiVersion": "management.cattle.io/v3", "kind": "Cluster", "metadata": {"name": name},
        "spec": {"displayName": display},
    })
}

pub(crate) fn person(name: &str) -> UserInfo {
    UserInfo::for_test(name, name)
}

pub(crate) async fn read(response: Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = tokio::time::timeout(DEADLINE, body.collect()).await.unwrap().unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { code: parts.status.as_u16(), headers: parts.headers, text, body }
}

pub(crate) async fn wait(what: &str, is: impl Fn() -> bool) {
    eventually(what, || std::future::ready(is())).await;
}

pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, is: impl Fn() -> F) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for {what}");
}

async fn seed(store: &dyn Store) {
    let mut writes = Vec::new();
    let mut make = |object: DynamicObject| writes.push(Write::Create { object, sealed: Vec::new() });
    for role in builtin::role_templates() {
        make(resource::encode(&role).unwrap());
    }
    for role in builtin::global_roles() {
        make(resource::encode(&role).unwrap());
    }
    for user in [ADMIN, BOB, EVE] {
        let fields = UserFields { username: user.to_owned(), ..UserFields::default() };
        make(resource::encode(&User::new(user, fields)).unwrap());
    }
    for (user, role) in [(ADMIN, builtin::ADMIN), (BOB, builtin::USER)] {
        let fields = GlobalRoleBindingFields {
            global_role_name: role.to_owned(),
            user_name: user.to_owned(),
            ..GlobalRoleBindingFields::default()
        };
        make(resource::encode(&GlobalRoleBinding::new(&format!("grb-{user}"), fields)).unwrap());
    }
    store.commit(Transaction::new(writes)).await.unwrap();
}
