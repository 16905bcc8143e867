//! Every way in which a credential can be wrong, over a real store.

use cattle_api::ext::TokenSpec;
use cattle_api::management::UserFields;
use cattle_store::{Typed, Write, testing};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::issue::{IssuedToken, TokenKind, TokenRequest, issue};

struct World {
    store: Arc<dyn Store>,
    authenticator: Authenticator,
}

impl World {
    async fn new() -> Self {
        let store: Arc<dyn Store> = testing::memory();
        let world = Self { authenticator: Authenticator::new(Arc::clone(&store)), store };
        world.users().create(&user("u-annaa", "ann"), Vec::new()).await.unwrap();
        world
    }

    fn users(&self) -> Typed<User> {
        Typed::new(Arc::clone(&self.store))
    }

    fn tokens(&self) -> Typed<Token> {
        Typed::new(Arc::clone(&self.store))
    }

    async fn token(&self, scope: Option<&str>) -> IssuedToken {
        let request =
            TokenRequest { user: "u-annaa", kind: TokenKind::Session, description: "", scope, ttl_ms: 3_600_000 };
        issue(&*self.store, &request).await.unwrap()
    }

    async fn try_bearer(&self, bearer: &str) -> Result<UserInfo, AuthenticateError> {
        self.authenticator.authenticate(&headers(bearer)).await
    }

    async fn is_refused(&self, bearer: &str) -> bool {
        matches!(self.try_bearer(bearer).await, Err(AuthenticateError::Refused))
    }
}

fn user(name: &str, login: &str) -> User {
    User::new(name, UserFields { username: login.to_owned(), ..UserFields::default() })
}

fn headers(bearer: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {bearer}")).unwrap());
    headers
}

fn bearer(issued: &IssuedToken) -> &str {
    issued.bearer.expose_str().unwrap()
}

fn name(issued: &IssuedToken) -> &str {
    issued.token.metadata.name.as_deref().unwrap()
}

#[tokio::test]
async fn a_good_token_is_its_user_and_nobody_else() {
    let world = World::new().await;
    let issued = world.token(None).await;
    let info = world.try_bearer(bearer(&issued)).await.unwrap();
    assert_eq!(info.name(), "u-annaa");
    assert_eq!(info.username(), "ann");
    assert_eq!(info.token().as_str(), name(&issued));
    assert_eq!(info.cluster_scope(), None);
    assert!(info.expires_at().is_some());
    let scoped = world.token(Some("c-abcde")).await;
    assert_eq!(world.try_bearer(bearer(&scoped)).await.unwrap().cluster_scope(), Some("c-abcde"));
}

#[tokio::test]
async fn wrong_halves_are_refused_alike() {
    let world = World::new().await;
    let (one, two) = (world.token(None).await, world.token(None).await);
    let (_, other_secret) = bearer(&two).split_once(':').unwrap();
    let unknown = world.try_bearer(&format!("token-zzzzz:{other_secret}")).await.unwrap_err();
    let wrong = world.try_bearer(&format!("{}:{other_secret}", name(&one))).await.unwrap_err();
    assert!(matches!(unknown, AuthenticateError::Refused) && matches!(wrong, AuthenticateError::Refused));
    assert_eq!(unknown.to_string(), wrong.to_string());
    assert_eq!(unknown.status(), wrong.status());
    assert!(world.try_bearer(bearer(&one)).await.is_ok(), "a wrong guess spoils nothing");
    assert!(world.is_refused(&format!("{}:{other_secret}", name(&one))).await, "nor does a right one help");
}

/// What was authenticated a moment ago, and is therefore remembered, is refused with the next request.
#[tokio::test]
async fn whatever_ends_a_token_ends_it_at_once() {
    let world = World::new().await;
    let good = world.token(None).await;
    assert!(world.try_bearer(bearer(&good)).await.is_ok());
    world.tokens().delete(None, name(&good)).await.unwrap();
    assert!(world.is_refused(bearer(&good)).await, "deleted");

    let good = world.token(None).await;
    assert!(world.try_bearer(bearer(&good)).await.is_ok());
    world.tokens().modify(None, name(&good), |token| token.spec.enabled = Some(false)).await.unwrap();
    assert!(world.is_refused(bearer(&good)).await, "disabled");

    let good = world.token(None).await;
    assert!(world.try_bearer(bearer(&good)).await.is_ok());
    world.tokens().modify(None, name(&good), |token| token.spec.ttl = 1).await.unwrap();
    assert!(world.is_refused(bearer(&good)).await, "expired");

    let good = world.token(None).await;
    assert!(world.try_bearer(bearer(&good)).await.is_ok());
    world.users().modify(None, "u-annaa", |user| user.spec.must_change_password = true).await.unwrap();
    let refused = world.try_bearer(bearer(&good)).await;
    assert!(matches!(refused, Err(AuthenticateError::PasswordChangeRequired)));
    world.users().modify(None, "u-annaa", |user| user.spec.must_change_password = false).await.unwrap();
    assert!(world.try_bearer(bearer(&good)).await.is_ok());
    world.users().modify(None, "u-annaa", |user| user.spec.enabled = Some(false)).await.unwrap();
    assert!(world.is_refused(bearer(&good)).await, "user disabled");
    world.users().modify(None, "u-annaa", |user| user.spec.enabled = Some(true)).await.unwrap();
    assert!(world.try_bearer(bearer(&good)).await.is_ok());
    world.users().delete(None, "u-annaa").await.unwrap();
    assert!(world.is_refused(bearer(&good)).await, "user deleted");
}

#[tokio::test]
async fn a_token_whose_scope_or_owner_was_edited_is_refused() {
    let world = World::new().await;
    let scoped = world.token(Some("c-abcde")).await;
    world.tokens().modify(None, name(&scoped), |token| token.spec.cluster_name.clear()).await.unwrap();
    assert!(world.is_refused(bearer(&scoped)).await, "the scope taken away");
    let plain = world.token(None).await;
    world.tokens().modify(None, name(&plain), |token| token.spec.user_id = "u-gone".to_owned()).await.unwrap();
    assert!(world.is_refused(bearer(&plain)).await, "an owner who does not exist");
}

#[tokio::test]
async fn a_hash_that_is_copied_to_another_token_does_not_verify() {
    let world = World::new().await;
    let (one, two) = (world.token(None).await, world.token(None).await);
    let hash = world.tokens().unseal(None, name(&one), sealed::TOKEN_HASH).await.unwrap();
    world.tokens().seal(None, name(&two), sealed::TOKEN_HASH, hash).await.unwrap();
    let (_, secret) = bearer(&one).split_once(':').unwrap();
    assert!(world.is_refused(&format!("{}:{secret}", name(&two))).await);
}

#[tokio::test]
async fn a_token_without_a_hash_has_no_secret_that_fits() {
    let world = World::new().await;
    let issued = world.token(None).await;
    world.tokens().seal(None, name(&issued), sealed::TOKEN_HASH, None).await.unwrap();
    assert!(world.is_refused(bearer(&issued)).await);
}

#[tokio::test]
async fn a_new_user_of_an_old_name_does_not_inherit_tokens() {
    let world = World::new().await;
    let token = world.token(None).await.token;
    let owner = world.users().get(None, "u-annaa").await.unwrap().unwrap();
    let at = |text: &str| Some(Time(text.parse().unwrap()));
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
    let judged = |made: &str, born: &str| {
        let (mut token, mut owner) = (token.clone(), owner.clone());
        token.metadata.creation_timestamp = at(made);
        owner.metadata.creation_timestamp = at(born);
        judge(&TokenName::parse("token-aaaaa").unwrap(), &token, Some(&owner), now).map(|identity| identity.user)
    };
    assert!(judged("2026-01-01T00:00:01Z", "2026-01-01T00:00:01Z").is_ok());
    assert_eq!(judged("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"), Err(Refusal::OlderThanUser));
}

#[test]
fn lives_that_no_calendar_holds_are_over() {
    let with = |ttl: i64, made: Option<&str>| {
        let mut token = Token::new("token-aaaaa", TokenSpec { ttl, ..TokenSpec::default() });
        token.metadata.creation_timestamp = made.map(|text| Time(text.parse().unwrap()));
        expiry(&token)
    };
    let made = Some("2026-01-01T00:00:00Z");
    assert_eq!(with(0, made), None);
    assert_eq!(with(1000, made), Some("2026-01-01T00:00:01Z".parse().unwrap()));
    assert_eq!(with(-1, made), Some("2026-01-01T00:00:00Z".parse().unwrap()), "over when it begins");
    assert_eq!(with(i64::MAX, made), Some(Timestamp::UNIX_EPOCH));
    assert_eq!(with(i64::MIN, made), Some("2026-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!(with(1000, None), Some("1970-01-01T00:00:01Z".parse().unwrap()), "no time of birth: long over");
}

#[tokio::test]
async fn a_check_again_follows_the_store() {
    let world = World::new().await;
    let issued = world.token(None).await;
    let info = world.try_bearer(bearer(&issued)).await.unwrap();
    assert!(world.authenticator.check_again(&info).await.is_ok());
    let key = Key::cluster(&resource::TOKEN, name(&issued));
    world.store.commit(Write::Delete { key, uid: None, revision: None }.into()).await.unwrap();
    assert!(matches!(world.authenticator.check_again(&info).await, Err(AuthenticateError::Refused)));
}

#[tokio::test]
async fn the_memory_of_identities_is_bounded() {
    let world = World::new().await;
    let issued = world.token(None).await;
    let info = Identity { user: world.try_bearer(bearer(&issued)).await.unwrap(), must_change_password: false };
    for n in 0..2 * MAX_CACHED {
        let name = TokenName::parse(&format!("token-{n}")).unwrap();
        let hash = Arc::new(TokenHash::nobody());
        world.authenticator.remember(&name, hash, None, info.clone(), world.store.revision());
    }
    assert!(world.authenticator.known.lock().len() <= MAX_CACHED);
}

/// The design's second: nobody is believed longer without a look.
#[test]
fn an_identity_is_believed_for_a_second_at_most() {
    assert!(MAX_AGE <= Duration::from_secs(1));
}
