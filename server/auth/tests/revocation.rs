//! What runs on the strength of a right ends when the right does: store, watcher and revocations together.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cattle_api::builtin;
use cattle_api::management::{
    Cluster, ClusterRoleTemplateBinding, ClusterRoleTemplateBindingFields, ClusterSpec, User, UserFields,
};
use cattle_auth::{
    Access, AccessWatcher, Authenticator, Revocations, Revoked, TokenKind, TokenRequest, UserInfo, issue,
};
use cattle_store::{Store, Typed, testing};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const DEADLINE: Duration = Duration::from_secs(20);

struct World {
    store: Arc<dyn Store>,
    access: Access,
    revocations: Revocations,
    authenticator: Arc<Authenticator>,
    _watcher: JoinSet<()>,
}

impl World {
    /// Ann and Bob are members of c-abcde.
    async fn new() -> Self {
        let store: Arc<dyn Store> = testing::memory();
        for role in builtin::role_templates() {
            typed(&store).create(&role, Vec::new()).await.unwrap();
        }
        let cluster =
            Cluster::new("c-abcde", ClusterSpec { display_name: "prod".to_owned(), ..ClusterSpec::default() });
        typed(&store).create(&cluster, Vec::new()).await.unwrap();
        for name in ["ann", "bob"] {
            let user =
                User::new(&format!("u-{name}"), UserFields { username: name.to_owned(), ..UserFields::default() });
            typed(&store).create(&user, Vec::new()).await.unwrap();
            let fields = ClusterRoleTemplateBindingFields {
                cluster_name: "c-abcde".to_owned(),
                role_template_name: builtin::CLUSTER_MEMBER.to_owned(),
                user_name: format!("u-{name}"),
                ..ClusterRoleTemplateBindingFields::default()
            };
            let mut binding = ClusterRoleTemplateBinding::new(&format!("crtb-{name}"), fields);
            binding.metadata.namespace = Some("c-abcde".to_owned());
            typed(&store).create(&binding, Vec::new()).await.unwrap();
        }
        let access = Access::new();
        let authenticator = Arc::new(Authenticator::new(Arc::clone(&store)));
        let revocations = Revocations::new(access.clone(), Arc::clone(&authenticator));
        let mut watcher = JoinSet::new();
        watcher.spawn(AccessWatcher::new(Arc::clone(&store), access.clone(), revocations.clone()).run());
        let world = Self { store, access, revocations, authenticator, _watcher: watcher };
        world.until(|access| access.is_synced()).await;
        world
    }

    async fn until(&self, reached: impl Fn(&Access) -> bool) {
        let wait = async {
            while !reached(&self.access) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(DEADLINE, wait).await.expect("the index follows the store");
    }

    async fn sign_in(&self, user: &str, ttl_ms: i64) -> UserInfo {
        let request = TokenRequest { user, kind: TokenKind::Session, description: "", scope: None, ttl_ms };
        let issued = issue(&*self.store, &request).await.unwrap();
        let mut headers = HeaderMap::new();
        let bearer = format!("Bearer {}", issued.bearer.expose_str().unwrap());
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&bearer).unwrap());
        self.authenticator.authenticate(&headers).await.unwrap()
    }

    /// Runs `change` while something runs for Ann and for Bob in the cluster, and answers what ended Ann's. Bob's goes on.
    async fn ends_anns<F: Future<Output = ()>>(&self, change: impl FnOnce(UserInfo) -> F) -> Revoked {
        let (ann, bob) = (self.sign_in("u-ann", 3_600_000).await, self.sign_in("u-bob", 3_600_000).await);
        let anns = self.revocations.ended(&ann, Some("c-abcde"));
        let bobs = self.revocations.ended(&bob, Some("c-abcde"));
        tokio::pin!(anns, bobs);
        let started = timeout(Duration::from_millis(50), anns.as_mut()).await;
        assert!(started.is_err(), "nothing was revoked yet: {started:?}");
        change(ann.clone()).await;
        let ended = tokio::select! {
            ended = timeout(DEADLINE, anns) => ended.expect("it ends"),
            revoked = bobs => panic!("Bob's ended: {revoked:?}"),
        };
        assert!(ended.concerns(&ann, Some("c-abcde")));
        ended
    }
}

fn typed<K: cattle_api::Kind>(store: &Arc<dyn Store>) -> Typed<K> {
    Typed::new(Arc::clone(store))
}

#[tokio::test]
async fn a_deleted_token_ends_what_runs_with_it() {
    let world = World::new().await;
    let store = &world.store;
    let ended = world.ends_anns(|ann| async move {
        typed::<cattle_api::ext::Token>(store).delete(None, ann.token().as_str()).await.unwrap();
    });
    assert!(matches!(ended.await, Revoked::Token(_)));
}

#[tokio::test]
async fn a_disabled_or_deleted_user_ends_everything_of_theirs() {
    let world = World::new().await;
    let users = typed::<User>(&world.store);
    let ended = world.ends_anns(|_| async {
        users.modify(None, "u-ann", |user| user.spec.enabled = Some(false)).await.unwrap();
    });
    assert_eq!(ended.await, Revoked::User("u-ann".to_owned()));
    users.modify(None, "u-ann", |user| user.spec.enabled = Some(true)).await.unwrap();
    world.until(|access| access.entrants("c-abcde").is_some_and(|who| who.len() == 2)).await;
    let ended = world.ends_anns(|_| async {
        users.delete(None, "u-ann").await.unwrap();
    });
    assert_eq!(ended.await, Revoked::User("u-ann".to_owned()));
}

#[tokio::test]
async fn a_removed_member_loses_what_runs_in_that_cluster() {
    let world = World::new().await;
    let bindings = typed::<ClusterRoleTemplateBinding>(&world.store);
    let ended = world.ends_anns(|_| async {
        bindings.delete(Some("c-abcde"), "crtb-ann").await.unwrap();
    });
    let expected = Revoked::UserInCluster { user: "u-ann".to_owned(), cluster: "c-abcde".to_owned() };
    assert_eq!(ended.await, expected);
    world.until(|access| access.entrants("c-abcde") == Some(vec!["u-bob".to_owned()])).await;
}

#[tokio::test]
async fn a_deleted_cluster_ends_everything_in_it() {
    let world = World::new().await;
    let ann = world.sign_in("u-ann", 3_600_000).await;
    let ended = world.revocations.ended(&ann, Some("c-abcde"));
    let clusters = typed::<Cluster>(&world.store);
    let deleted = async {
        // `ended` is polled first, so that it listens by now.
        clusters.delete(None, "c-abcde").await.unwrap();
    };
    let (ended, ()) = timeout(DEADLINE, async { tokio::join!(biased; ended, deleted) }).await.expect("it ends");
    assert_eq!(ended, Revoked::Cluster("c-abcde".to_owned()));
}

#[tokio::test]
async fn a_token_that_expires_ends_what_runs_with_it() {
    let world = World::new().await;
    let ann = world.sign_in("u-ann", 2_000).await;
    let ended = timeout(DEADLINE, world.revocations.ended(&ann, None)).await.expect("it ends");
    assert_eq!(ended, Revoked::Token(ann.token().clone()));
}

/// Between the check of a request and the start of its stream there is a moment, and something can be revoked in it.
#[tokio::test]
async fn a_revocation_from_before_the_stream_counts() {
    let world = World::new().await;
    let ann = world.sign_in("u-ann", 3_600_000).await;
    let bindings = typed::<ClusterRoleTemplateBinding>(&world.store);
    bindings.delete(Some("c-abcde"), "crtb-ann").await.unwrap();
    world.until(|access| !access.may_enter(&ann, "c-abcde")).await;
    let ended = timeout(DEADLINE, world.revocations.ended(&ann, Some("c-abcde"))).await.expect("it ends");
    assert!(matches!(ended, Revoked::UserInCluster { .. }));
}
