//! What happens to a cluster without a user's request, as the audit log has it.

use cattle_api::management::cluster::RefusalReason;
use cattle_api::resource;
use cattle_audit::{Actor, AuditId, Event, ObjectReference, RequestInfo};
use cattle_proto::id::ClusterId;

use crate::registration::Bound;

/// An agent with a registration token. Who it is has been checked by nobody when its attempt is refused.
const AGENT: &str = "system:cattle:cluster-agent";
/// The server itself.
const SERVER: &str = "system:cattle:server";
/// Where agents register.
const CONNECT: &str = "/v3/connect";

/// One thing that happens to a cluster's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It is bound to a cluster, or its keys are renewed.
    Register(Bound),
    /// An attempt to register is refused.
    Refuse(RefusalReason),
    /// It goes, with everything downstream removed before.
    Remove,
    /// It goes, and what is downstream stays.
    Forget,
}

impl Deed {
    /// The event of its beginning.
    pub(crate) fn event(self, cluster: &ClusterId) -> Event {
        let (actor, verb) = match self {
            Self::Register(Bound::NewCa) => (AGENT, "rebind"),
            Self::Register(Bound::Now | Bound::Again | Bound::Renewed) | Self::Refuse(_) => (AGENT, "register"),
            Self::Remove => (SERVER, "remove"),
            Self::Forget => (SERVER, "forget"),
        };
        let kind = &resource::CLUSTER;
        let object = ObjectReference {
            resource: kind.plural.to_owned(),
            name: cluster.as_str().to_owned(),
            api_group: kind.group.to_owned(),
            api_version: kind.version.to_owned(),
            ..ObjectReference::default()
        };
        let uri = match self {
            Self::Register(_) | Self::Refuse(_) => CONNECT.to_owned(),
            Self::Remove | Self::Forget => format!("/apis/{}/{}/{cluster}", kind.api_version(), kind.plural),
        };
        let event = Event::request(AuditId::new(), Actor::named(actor), &RequestInfo::on(verb, object), &uri)
            .annotate("cattle.io/cluster", cluster.as_str());
        match self {
            Self::Register(bound) => event.annotate("cattle.io/bound", format!("{bound:?}")),
            Self::Refuse(_) | Self::Remove | Self::Forget => event,
        }
    }

    /// The event of its end, for what needs no announcement.
    pub(crate) fn done(self, cluster: &ClusterId) -> Event {
        match self {
            Self::Refuse(reason) => self.event(cluster).completed_because(403, format!("{reason:?}")),
            Self::Register(_) | Self::Remove | Self::Forget => self.event(cluster).completed(200),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: &Event) -> serde_json::Value {
        serde_json::from_slice(&event.to_line()).unwrap()
    }

    #[test]
    fn each_deed_says_who_what_and_how_it_ended() {
        let cluster = "c-abcde".parse().unwrap();
        let table = [
            (Deed::Register(Bound::Now), "register", AGENT, 200, None),
            (Deed::Register(Bound::NewCa), "rebind", AGENT, 200, None),
            (Deed::Refuse(RefusalReason::IdentityMismatch), "register", AGENT, 403, Some("IdentityMismatch")),
            (Deed::Remove, "remove", SERVER, 200, None),
            (Deed::Forget, "forget", SERVER, 200, None),
        ];
        for (deed, verb, actor, code, reason) in table {
            let line = line(&deed.done(&cluster));
            assert_eq!((&line["verb"], &line["user"]["username"]), (&verb.into(), &actor.into()));
            assert_eq!(line["responseStatus"]["code"], code);
            assert_eq!(line["responseStatus"]["reason"].as_str(), reason);
            assert_eq!(
                (&line["objectRef"]["resource"], &line["objectRef"]["name"]),
                (&"clusters".into(), &"c-abcde".into())
            );
        }
    }
}
