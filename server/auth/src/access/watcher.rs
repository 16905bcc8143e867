//! Keeps an [`Access`] in step with the store, and tells what was taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cattle_api::ext::Token;
use cattle_api::resource;
use cattle_store::{EventKind, Page, Revision, Store, StoreError, WatchError, WatchEvent};
use futures_util::stream::{SelectAll, select_all};
use futures_util::{StreamExt, stream::BoxStream};
use jiff::Timestamp;
use kube::core::DynamicObject;
use tokio::time::sleep;

use super::{Access, AccessIndex, Kind, is_live};
use crate::authenticate::expiry;
use crate::revocation::{Revocations, Revoked};
use crate::user::TokenName;

/// The first pause after the store failed; it doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The longest sleep until a token's end, so that a clock that was set is noticed.
const MAX_SLEEP: Duration = Duration::from_secs(30);

/// Feeds an [`Access`] and its [`Revocations`] from a store. The server owns the task that [runs](Self::run) it.
pub struct AccessWatcher {
    store: Arc<dyn Store>,
    access: Access,
    revocations: Revocations,
    live: Live,
}

/// What is good now besides the index: tokens with their end, and clusters.
#[derive(Default)]
struct Live {
    tokens: BTreeMap<TokenName, Option<Timestamp>>,
    ends: BTreeSet<(Timestamp, TokenName)>,
    clusters: BTreeSet<String>,
}

type Events = SelectAll<BoxStream<'static, (Kind, Result<WatchEvent, WatchError>)>>;

/// Why following the store stopped.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the store cannot be listed or watched")]
    Store(#[source] StoreError),
    #[error("a watch ended")]
    Watch(#[source] WatchError),
    #[error("a watch ended without a reason")]
    Ended,
}

impl AccessWatcher {
    /// A watcher of `store` that feeds `access` and tells `revocations`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, access: Access, revocations: Revocations) -> Self {
        Self { store, access, revocations, live: Live::default() }
    }

    /// Follows the store until it is dropped. [`Access`] is ready after the first complete list and denies everything
    /// while a list has to be made again. Cancel safe.
    pub async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let lost = match self.list().await {
                Ok(events) => {
                    pause = FIRST_PAUSE;
                    self.follow(events).await
                }
                Err(error) => Lost::Store(error),
            };
            self.access.out_of_sync();
            if matches!(lost, Lost::Store(StoreError::Closed)) {
                return;
            }
            tracing::warn!(
                error = &lost as &dyn std::error::Error,
                "access rules are read again; until then all is denied"
            );
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Reads everything, publishes it, and starts to watch from there.
    async fn list(&mut self) -> Result<Events, StoreError> {
        let before = self.access.grants();
        let mut index = AccessIndex::default();
        let mut live = Live::default();
        let mut watches = Vec::new();
        for kind in Kind::ALL {
            let listing = self.store.list(kind.resource(), None, Page::ALL).await?;
            for object in &listing.items {
                live.apply(kind, object);
            }
            index.reset(kind, &listing.items);
            watches.push(self.watch(kind, listing.revision).await?);
        }
        let taken = before.lost(&index.grants());
        let gone = self.live.lost(&live);
        self.live = live;
        self.access.publish(index);
        for revoked in taken.into_iter().chain(gone) {
            self.revocations.tell(revoked);
        }
        Ok(select_all(watches))
    }

    async fn watch(
        &self,
        kind: Kind,
        after: Revision,
    ) -> Result<BoxStream<'static, (Kind, Result<WatchEvent, WatchError>)>, StoreError> {
        let events = self.store.watch(kind.resource(), None, after).await?;
        // `select_all` forgets a stream that ends: its end must be an event.
        let ended = futures_util::stream::once(std::future::ready(Err(WatchError::Expired)));
        Ok(events.chain(ended).map(move |event| (kind, event)).boxed())
    }

    async fn follow(&mut self, mut events: Events) -> Lost {
        loop {
            let until_end = self.live.until_next_end(Timestamp::now());
            tokio::select! {
                event = events.next() => match event {
                    Some((kind, Ok(event))) => self.apply(kind, &event),
                    Some((_, Err(error))) => return Lost::Watch(error),
                    None => return Lost::Ended,
                },
                () = sleep(until_end) => {
                    for token in self.live.take_ended(Timestamp::now()) {
                        self.revocations.tell(Revoked::Token(token));
                    }
                }
            }
        }
    }

    fn apply(&mut self, kind: Kind, event: &WatchEvent) {
        let object: &DynamicObject = &event.object;
        let gone = event.kind == EventKind::Deleted;
        match kind {
            Kind::Token | Kind::Cluster => {
                let revoked = if gone { self.live.delete(kind, object) } else { self.live.apply(kind, object) };
                if let Some(revoked) = revoked {
                    self.revocations.tell(revoked);
                }
            }
            Kind::User
            | Kind::GlobalRole
            | Kind::GlobalRoleBinding
            | Kind::RoleTemplate
            | Kind::ClusterRoleTemplateBinding => {
                let lost = self.access.change(|index| {
                    let before = index.grants();
                    if gone {
                        let name = object.metadata.name.as_deref().unwrap_or_default();
                        index.delete(kind, object.metadata.namespace.as_deref(), name);
                    } else {
                        index.apply(kind, object);
                    }
                    before.lost(&index.grants())
                });
                for revoked in lost {
                    self.revocations.tell(revoked);
                }
            }
        }
    }
}

impl Live {
    /// Takes in a token or cluster as it is now; answers what it revokes.
    fn apply(&mut self, kind: Kind, object: &DynamicObject) -> Option<Revoked> {
        match kind {
            Kind::Cluster if is_live(object) => {
                self.clusters.extend(object.metadata.name.clone());
                None
            }
            Kind::Token => {
                let token: Option<Token> = resource::decode(object).ok();
                match token.filter(|token| is_live(object) && token.spec.is_enabled()) {
                    Some(token) => self.set_token(&token),
                    None => self.delete(kind, object),
                }
            }
            Kind::Cluster
            | Kind::User
            | Kind::GlobalRole
            | Kind::GlobalRoleBinding
            | Kind::RoleTemplate
            | Kind::ClusterRoleTemplateBinding => self.delete(kind, object),
        }
    }

    fn delete(&mut self, kind: Kind, object: &DynamicObject) -> Option<Revoked> {
        let name = object.metadata.name.as_deref()?;
        match kind {
            Kind::Cluster => self.clusters.remove(name).then(|| Revoked::Cluster(name.to_owned())),
            Kind::Token => {
                let name = TokenName::parse(name)?;
                let end = self.tokens.remove(&name)?;
                if let Some(end) = end {
                    self.ends.remove(&(end, name.clone()));
                }
                Some(Revoked::Token(name))
            }
            Kind::User
            | Kind::GlobalRole
            | Kind::GlobalRoleBinding
            | Kind::RoleTemplate
            | Kind::ClusterRoleTemplateBinding => None,
        }
    }

    fn set_token(&mut self, token: &Token) -> Option<Revoked> {
        let name = TokenName::parse(token.metadata.name.as_deref()?)?;
        let end = expiry(token);
        if let Some(Some(old)) = self.tokens.insert(name.clone(), end) {
            self.ends.remove(&(old, name.clone()));
        }
        self.ends.extend(end.map(|end| (end, name)));
        None
    }

    fn until_next_end(&self, now: Timestamp) -> Duration {
        let next = self.ends.first().map(|(end, _)| end.duration_since(now));
        next.map_or(MAX_SLEEP, |left| Duration::try_from(left).unwrap_or_default().min(MAX_SLEEP))
    }

    fn take_ended(&mut self, now: Timestamp) -> Vec<TokenName> {
        let mut ended = Vec::new();
        while self.ends.first().is_some_and(|(end, _)| *end <= now) {
            let Some((_, name)) = self.ends.pop_first() else { break };
            self.tokens.remove(&name);
            ended.push(name);
        }
        ended
    }

    /// What is not in `after` any more.
    fn lost(&self, after: &Self) -> Vec<Revoked> {
        let tokens = self.tokens.keys().filter(|name| !after.tokens.contains_key(*name));
        let clusters = self.clusters.difference(&after.clusters);
        tokens.cloned().map(Revoked::Token).chain(clusters.cloned().map(Revoked::Cluster)).collect()
    }
}
