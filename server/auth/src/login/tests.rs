//! Signing in over a real store, with an index that a watcher feeds.

use std::net::IpAddr;
use std::time::Duration;

use cattle_api::builtin;
use cattle_api::ext::Token;
use cattle_api::management::setting::known;
use cattle_api::management::{ClusterRoleTemplateBinding, ClusterRoleTemplateBindingFields, User, UserFields};
use cattle_store::{Page, Typed, testing};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use tokio::task::JoinSet;

use super::*;
use crate::bootstrap::{BootstrapAdmin, ensure_admin, must_change_password, password_changed, reset_admin};
use crate::password::PasswordRules;
use crate::{AccessWatcher, Revocations};

struct World {
    store: Arc<dyn Store>,
    access: Access,
    login: Login,
    authenticator: Arc<Authenticator>,
    admin: BootstrapAdmin,
    _watcher: JoinSet<()>,
}

impl World {
    async fn new() -> Self {
        let store: Arc<dyn Store> = testing::memory();
        for role in builtin::global_roles() {
            Typed::new(Arc::clone(&store)).create(&role, Vec::new()).await.unwrap();
        }
        for role in builtin::role_templates() {
            Typed::new(Arc::clone(&store)).create(&role, Vec::new()).await.unwrap();
        }
        let passwords = Passwords::cheap();
        let admin = ensure_admin(&*store, &passwords).await.unwrap().unwrap();
        let access = Access::new();
        let authenticator = Arc::new(Authenticator::new(Arc::clone(&store)));
        let revocations = Revocations::new(access.clone(), Arc::clone(&authenticator));
        let mut watcher = JoinSet::new();
        watcher.spawn(AccessWatcher::new(Arc::clone(&store), access.clone(), revocations).run());
        let login = Login::new(Arc::clone(&store), access.clone(), Arc::clone(&authenticator), passwords);
        let world = Self { store, access, login, authenticator, admin, _watcher: watcher };
        world.until(|world| world.access.user_by_login("admin").is_some()).await;
        world
    }

    async fn until(&self, reached: impl Fn(&Self) -> bool) {
        let wait = async {
            while !reached(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the index follows the store");
    }

    async fn user(&self, name: &str, login: &str, password: &str) {
        let user = User::new(name, UserFields { username: login.to_owned(), ..UserFields::default() });
        let accepted = PasswordRules::new(8, "").accept(&secret(password), login, "").ok().unwrap();
        let hash = Passwords::cheap().hash(&accepted).await.unwrap();
        let sealed = vec![(sealed::PASSWORD_HASH.to_owned(), hash)];
        Typed::new(Arc::clone(&self.store)).create(&user, sealed).await.unwrap();
        self.until(|world| world.access.user_by_login(login).is_some()).await;
    }

    async fn try_in(&self, username: &str, password: &str, wanted: Wanted<'_>) -> Result<SignedIn, LoginError> {
        let password = secret(password);
        let attempt = Attempt { username, password: &password, description: "", wanted, ttl_ms: 0 };
        self.login.sign_in(&attempt, source(1)).await
    }

    async fn sign_in(&self, username: &str, password: &str) -> http::HeaderMap {
        let signed_in = self.try_in(username, password, Wanted::Session).await.ok().unwrap();
        headers(&signed_in)
    }

    async fn tokens(&self) -> Vec<String> {
        let tokens = self.store.list(&resource::TOKEN, None, Page::ALL).await.unwrap();
        tokens.items.into_iter().filter_map(|token| token.metadata.name).collect()
    }
}

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

fn source(n: u32) -> Source {
    Source::new(IpAddr::V4(n.into()))
}

fn headers(signed_in: &SignedIn) -> http::HeaderMap {
    let bearer = signed_in.issued.bearer.expose_str().unwrap();
    let mut headers = http::HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {bearer}")).unwrap());
    headers
}

#[tokio::test]
async fn a_wrong_name_and_a_wrong_password_get_one_answer() {
    let world = World::new().await;
    world.user("u-annaa", "ann", "correct horse").await;
    let unknown = world.try_in("nobody", "correct horse", Wanted::Session).await.err().unwrap();
    let wrong = world.try_in("ann", "wrong horse", Wanted::Session).await.err().unwrap();
    assert!(matches!(unknown, LoginError::Failed) && matches!(wrong, LoginError::Failed));
    assert_eq!(wire::ErrorBody::from(&unknown), wire::ErrorBody::from(&wrong));
    assert!(world.tokens().await.is_empty(), "no token was made");
    let info = world.authenticator.authenticate(&world.sign_in("ANN", "correct horse").await).await.unwrap();
    assert_eq!(info.name(), "u-annaa");
}

#[tokio::test]
async fn a_disabled_user_is_told_so_only_with_the_right_password() {
    let world = World::new().await;
    world.user("u-annaa", "ann", "correct horse").await;
    let users: Typed<User> = Typed::new(Arc::clone(&world.store));
    users.modify(None, "u-annaa", |user| user.spec.enabled = Some(false)).await.unwrap();
    assert!(matches!(world.try_in("ann", "wrong", Wanted::Session).await, Err(LoginError::Failed)));
    assert!(matches!(world.try_in("ann", "correct horse", Wanted::Session).await, Err(LoginError::Disabled)));
}

#[tokio::test]
async fn the_bootstrap_password_is_good_for_one_thing() {
    let world = World::new().await;
    let password = world.admin.password.expose_str().unwrap().to_owned();
    let signed_in = world.try_in("admin", &password, Wanted::Session).await.ok().unwrap();
    assert!(signed_in.must_change_password);
    let first = headers(&signed_in);
    let refused = world.authenticator.authenticate(&first).await;
    assert!(matches!(refused, Err(AuthenticateError::PasswordChangeRequired)));
    let change = |current: &str, new: &str| {
        let (current, new, first) = (secret(current), secret(new), first.clone());
        let login = &world.login;
        async move { login.change_password(&first, &current, new, source(2)).await }
    };
    assert!(matches!(change("wrong", "a better one!").await, Err(ChangePasswordError::Wrong)));
    assert!(matches!(change(&password, "short").await, Err(ChangePasswordError::Rejected(_))));
    assert!(matches!(change(&password, &password).await, Err(ChangePasswordError::Rejected(_))));
    assert!(must_change_password(&*world.store, &world.admin.user).await.unwrap());
    change(&password, "a better one!").await.unwrap();
    password_changed(&*world.store, &world.admin.user).await.unwrap();
    let info = world.authenticator.authenticate(&first).await.expect("the session goes on");
    world.until(|world| world.access.may_enter(&info, "c-abcde")).await;
    assert!(matches!(world.try_in("admin", &password, Wanted::Session).await, Err(LoginError::Failed)));
    world.sign_in("admin", "a better one!").await;
    let again = ensure_admin(&*world.store, &Passwords::cheap()).await.unwrap();
    assert!(again.is_none(), "it is never made again");
}

#[tokio::test]
async fn an_administrator_who_is_locked_out_gets_back_in_and_nobody_else_stays() {
    let world = World::new().await;
    let users: Typed<User> = Typed::new(Arc::clone(&world.store));
    users.modify(None, &world.admin.user, |user| user.spec.enabled = Some(false)).await.unwrap();
    let reset = reset_admin(&*world.store, &Passwords::cheap()).await.unwrap();
    assert_eq!(reset.user, world.admin.user);
    assert!(world.tokens().await.is_empty());
    let old = world.admin.password.expose_str().unwrap();
    assert!(matches!(world.try_in("admin", old, Wanted::Session).await, Err(LoginError::Failed)));
    let signed_in = world.try_in("admin", reset.password.expose_str().unwrap(), Wanted::Session).await.ok().unwrap();
    assert!(signed_in.must_change_password);
    users.delete(None, &world.admin.user).await.unwrap();
    let made = reset_admin(&*world.store, &Passwords::cheap()).await.unwrap();
    assert_ne!(made.user, world.admin.user, "with no administrator left, one is made");
}

#[tokio::test]
async fn a_changed_password_ends_other_sessions_and_keeps_api_tokens() {
    let world = World::new().await;
    world.user("u-annaa", "ann", "correct horse").await;
    world.user("u-bobbb", "bob", "correct horse").await;
    let (here, there) = (world.sign_in("ann", "correct horse").await, world.sign_in("ann", "correct horse").await);
    let bob = world.sign_in("bob", "correct horse").await;
    let request =
        TokenRequest { user: "u-annaa", kind: TokenKind::Api, description: "ci", scope: None, ttl_ms: 1_000_000 };
    let api = issue(&*world.store, &request).await.unwrap();
    let (current, new) = (secret("correct horse"), secret("battery staple"));
    world.login.change_password(&here, &current, new, source(2)).await.unwrap();
    assert!(world.authenticator.authenticate(&here).await.is_ok());
    assert!(world.authenticator.authenticate(&bob).await.is_ok());
    assert!(matches!(world.authenticator.authenticate(&there).await, Err(AuthenticateError::Refused)));
    let tokens: Typed<Token> = Typed::new(Arc::clone(&world.store));
    assert!(tokens.get(None, api.token.metadata.name.as_deref().unwrap()).await.unwrap().is_some());
}

#[tokio::test]
async fn only_administrators_set_the_passwords_of_others() {
    let world = World::new().await;
    world.user("u-annaa", "ann", "correct horse").await;
    world.user("u-bobbb", "bob", "correct horse").await;
    let (ann, bob) = (world.sign_in("ann", "correct horse").await, world.sign_in("bob", "correct horse").await);
    let refused = world.login.set_password(&ann, "u-bobbb", secret("battery staple"), true).await;
    assert!(matches!(refused, Err(ChangePasswordError::Forbidden)));
    let password = world.admin.password.clone();
    let admin = world.sign_in("admin", password.expose_str().unwrap()).await;
    let too_early = world.login.set_password(&admin, "u-bobbb", secret("battery staple"), true).await;
    assert!(matches!(too_early, Err(ChangePasswordError::Authenticate(AuthenticateError::PasswordChangeRequired))));
    world.login.change_password(&admin, &password, secret("a better one!"), source(2)).await.unwrap();
    let info = world.authenticator.authenticate(&admin).await.unwrap();
    world.until(|world| world.access.may_grant_global(&info).is_ok()).await;
    world.login.set_password(&admin, "u-bobbb", secret("battery staple"), true).await.unwrap();
    assert!(matches!(world.authenticator.authenticate(&bob).await, Err(AuthenticateError::Refused)));
    let missing = world.login.set_password(&admin, "u-gone", secret("battery staple"), true).await;
    assert!(matches!(missing, Err(ChangePasswordError::NoSuchUser)));
    assert!(world.try_in("bob", "battery staple", Wanted::Session).await.ok().unwrap().must_change_password);
}

#[tokio::test]
async fn signing_out_ends_the_token() {
    let world = World::new().await;
    world.user("u-annaa", "ann", "correct horse").await;
    let session = world.sign_in("ann", "correct horse").await;
    assert_eq!(world.login.sign_out(&session).await.unwrap().name(), "u-annaa");
    assert!(matches!(world.authenticator.authenticate(&session).await, Err(AuthenticateError::Refused)));
    assert!(matches!(world.login.sign_out(&session).await, Err(AuthenticateError::Refused)));
}

#[tokio::test]
async fn a_kubeconfig_token_is_for_clusters_that_may_be_entered() {
    let world = World::new().await;
    world.user("u-annaa", "ann", "correct horse").await;
    let binding = ClusterRoleTemplateBindingFields {
        cluster_name: "c-abcde".to_owned(),
        role_template_name: builtin::CLUSTER_MEMBER.to_owned(),
        user_name: "u-annaa".to_owned(),
        ..ClusterRoleTemplateBindingFields::default()
    };
    let mut binding = ClusterRoleTemplateBinding::new("crtb-1", binding);
    binding.metadata.namespace = Some("c-abcde".to_owned());
    Typed::new(Arc::clone(&world.store)).create(&binding, Vec::new()).await.unwrap();
    world.until(|world| world.access.user_may_enter("u-annaa", "c-abcde")).await;
    let wanted = Wanted::Kubeconfig(Some("c-abcde"));
    let signed_in = world.try_in("ann", "correct horse", wanted).await.ok().unwrap();
    let name = signed_in.issued.token.metadata.name.clone().unwrap();
    assert!(name.starts_with("kubeconfig-u-annaa.c-abcde"), "{name}");
    let info = world.authenticator.authenticate(&headers(&signed_in)).await.unwrap();
    assert_eq!(info.cluster_scope(), Some("c-abcde"));
    assert!(world.access.may_enter(&info, "c-abcde") && !world.access.may_enter(&info, "c-other"));
    let elsewhere = world.try_in("ann", "correct horse", Wanted::Kubeconfig(Some("c-other"))).await;
    assert!(matches!(elsewhere, Err(LoginError::NoSuchCluster)));
    let (session, current) = (headers(&signed_in), secret("correct horse"));
    let own = world.login.change_password(&session, &current, secret("battery staple"), source(3)).await;
    assert!(matches!(own, Err(ChangePasswordError::Forbidden)), "a scoped token changes no password");
}

/// Names and passwords are typed on keyboards that write the same characters in different ways.
#[tokio::test]
async fn who_somebody_is_does_not_depend_on_the_keyboard() {
    let world = World::new().await;
    world.user("u-reneb", "Ren\u{e9}", "caf\u{e9} au lait, s'il vous pla\u{ee}t").await;
    world.sign_in("rene\u{301}", "cafe\u{301} au\u{a0}lait, s'il vous plai\u{302}t").await;
    let headers = world.sign_in("REN\u{c9}", "caf\u{e9} au lait, s'il vous pla\u{ee}t").await;
    let (old, same) = ("caf\u{e9} au lait, s'il vous pla\u{ee}t", "cafe\u{301} au lait, s'il vous plai\u{302}t");
    let unchanged = world.login.change_password(&headers, &secret(old), secret(same), source(1)).await;
    assert!(matches!(unchanged, Err(ChangePasswordError::Rejected(crate::PasswordRejected::Unchanged))));
}

#[tokio::test]
async fn a_chosen_password_is_measured_against_the_names_of_the_user_and_the_server() {
    let world = World::new().await;
    let url = cattle_api::management::Setting::new(
        known::SERVER_URL,
        cattle_api::management::SettingFields {
            value: "https://herd.acme-farms.example".to_owned(),
            ..Default::default()
        },
    );
    Typed::new(Arc::clone(&world.store)).create(&url, Vec::new()).await.unwrap();
    world.user("u-annaa", "annabelle-smith", "correct horse").await;
    let headers = world.sign_in("annabelle-smith", "correct horse").await;
    for easy in ["annabelle-smith1", "acme-farms-2026", "Password1234!"] {
        let refused = world.login.change_password(&headers, &secret("correct horse"), secret(easy), source(1)).await;
        let rejected = matches!(refused, Err(ChangePasswordError::Rejected(crate::PasswordRejected::TooEasy)));
        assert!(rejected, "{easy}");
    }
}

#[tokio::test]
async fn guesses_are_limited_before_they_are_checked() {
    let world = World::new().await;
    let mut throttled = 0;
    for _ in 0..20 {
        if let Err(LoginError::Throttled(_)) = world.try_in("admin", "guess", Wanted::Session).await {
            throttled += 1;
        }
    }
    assert_eq!(throttled, 14);
}

#[tokio::test]
async fn nobody_signs_in_before_it_is_known_who_exists() {
    let store: Arc<dyn Store> = testing::memory();
    let authenticator = Arc::new(Authenticator::new(Arc::clone(&store)));
    let login = Login::new(store, Access::new(), authenticator, Passwords::cheap());
    let password = secret("x");
    let attempt =
        Attempt { username: "admin", password: &password, description: "", wanted: Wanted::Session, ttl_ms: 0 };
    assert!(matches!(login.sign_in(&attempt, source(1)).await, Err(LoginError::NotReady)));
}

#[tokio::test]
async fn the_routes_speak_the_documented_json() {
    use axum::body::Body;
    use http::{Method, Request, StatusCode};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    let world = World::new().await;
    world.user("u-annaa", "ann", "correct horse").await;
    let World { login, authenticator, _watcher, .. } = world;
    let routes = crate::routes(Arc::new(login));
    let send = |path: &'static str, with_source: bool, body: &'static str| {
        let mut request = Request::builder().method(Method::POST).uri(path).body(Body::from(body)).unwrap();
        if with_source {
            request.extensions_mut().insert(source(9));
        }
        let routes = routes.clone();
        async move {
            let response = routes.oneshot(request).await.unwrap();
            assert_eq!(response.headers()["cache-control"], "no-store");
            let status = response.status();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice::<serde_json::Value>(&bytes).unwrap())
        }
    };
    const LOGIN: &str = "/v3-public/localProviders/local?action=login";
    const GOOD: &str = r#"{"username":"ann","password":"correct horse"}"#;
    let (status, body) = send(LOGIN, true, GOOD).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(
        (&body["type"], &body["userId"], &body["authProvider"]),
        (&"token".into(), &"u-annaa".into(), &"local".into())
    );
    let mut headers = http::HeaderMap::new();
    let bearer = format!("Bearer {}", body["token"].as_str().unwrap());
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&bearer).unwrap());
    assert_eq!(authenticator.authenticate(&headers).await.unwrap().name(), "u-annaa");
    let (status, body) = send(LOGIN, true, r#"{"username":"ann","password":"wrong"}"#).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!((&body["code"], &body["message"]), (&"Unauthorized".into(), &"authentication failed".into()));
    assert_eq!(send(LOGIN, false, GOOD).await.0, StatusCode::INTERNAL_SERVER_ERROR, "no source, no sign-in");
    assert_eq!(send("/v3-public/localProviders/local?action=x", true, GOOD).await.0, StatusCode::NOT_FOUND);
    for bad in ["", "[]", r#"{"username":"ann"}"#, r#"{"username":"ann","password":"a","password":"b"}"#] {
        assert_eq!(send(LOGIN, true, bad).await.0, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    assert_eq!(send("/v3/tokens?action=logout", true, "").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(
        send("/v3/users?action=changepassword", true, r#"{"currentPassword":"a","newPassword":"b"}"#).await.0,
        StatusCode::UNAUTHORIZED
    );
}
