//! One line of the audit log.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::{RequestInfo, redacted_uri};

/// Longest request URI and user agent that a line holds, in bytes; more is cut off.
const TEXT_LIMIT: usize = 4096;

/// The id of one request in every audit log that it passes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AuditId(Uuid);

impl AuditId {
    /// A fresh id.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default that differs each time would surprise")]
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }

    /// One that was written down as text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(Self)
    }
}

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Who does it.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Actor {
    username: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

impl Actor {
    /// An actor of whom only the name is known, e.g. the login name of a sign-in that may fail.
    #[must_use]
    pub fn named(username: impl Into<String>) -> Self {
        Self { username: username.into(), groups: Vec::new(), extra: BTreeMap::new() }
    }

    /// The actor in these groups and with these extras.
    #[must_use]
    pub fn with(mut self, groups: &[String], extra: &BTreeMap<String, Vec<String>>) -> Self {
        self.groups = groups.to_vec();
        self.extra = extra.clone();
        self
    }
}

/// How far the request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Stage {
    /// Nothing has happened yet.
    RequestReceived,
    /// The answer has begun and will last: an exec session.
    ResponseStarted,
    /// It is over.
    ResponseComplete,
}

/// The object a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// Plural resource name, `pods`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Namespace; empty if there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name; empty for a collection.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group; empty for the core group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// API version, `v1`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Subresource, `exec`; empty if there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// One event, as `audit.k8s.io/v1` has it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    kind: &'static str,
    api_version: &'static str,
    level: &'static str,
    #[serde(rename = "auditID", serialize_with = "display")]
    audit_id: AuditId,
    stage: Stage,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: Actor,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<IpAddr>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<ResponseStatus>,
    #[serde(serialize_with = "micros")]
    request_received_timestamp: Timestamp,
    #[serde(serialize_with = "micros")]
    stage_timestamp: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Clone, Debug, Serialize)]
struct ResponseStatus {
    metadata: BTreeMap<String, String>,
    code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Event {
    /// A request that has arrived, at stage [`Stage::RequestReceived`]. `uri` is redacted here.
    #[must_use]
    pub fn request(id: AuditId, actor: Actor, request: &RequestInfo, uri: &str) -> Self {
        let now = Timestamp::now();
        Self {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: "Metadata",
            audit_id: id,
            stage: Stage::RequestReceived,
            request_uri: cut(redacted_uri(uri)),
            verb: request.verb().to_owned(),
            user: actor,
            source_ips: Vec::new(),
            user_agent: String::new(),
            object_ref: request.object().cloned(),
            response_status: None,
            request_received_timestamp: now,
            stage_timestamp: now,
            annotations: BTreeMap::new(),
        }
    }

    /// Adds where the request came from.
    #[must_use]
    pub fn from_address(mut self, address: IpAddr) -> Self {
        self.source_ips.push(address);
        self
    }

    /// Adds what the client calls itself.
    #[must_use]
    pub fn user_agent(mut self, agent: &str) -> Self {
        self.user_agent = cut(agent.to_owned());
        self
    }

    /// Adds a fact of our own, e.g. `cattle.io/cluster`. Never a secret: a token's name, not its value.
    #[must_use]
    pub fn annotate(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.annotations.insert(key, cut(value.into()));
        self
    }

    /// The same request when its answer begins with this HTTP status.
    #[must_use]
    pub fn response_started(&self, code: u16) -> Self {
        self.at(Stage::ResponseStarted, code, None)
    }

    /// The same request when it is over, with the HTTP status it had.
    #[must_use]
    pub fn completed(&self, code: u16) -> Self {
        self.at(Stage::ResponseComplete, code, None)
    }

    /// Like [`completed`](Self::completed), with a machine-readable reason, e.g. `StreamRevoked`.
    #[must_use]
    pub fn completed_because(&self, code: u16, reason: impl Into<String>) -> Self {
        self.at(Stage::ResponseComplete, code, Some(reason.into()))
    }

    /// The id, to be sent downstream.
    #[must_use]
    pub fn id(&self) -> AuditId {
        self.audit_id
    }

    /// How far the request is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The event as one line, with its newline. Everything that a terminal or a line reader could take for more than
    /// text is a JSON escape.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(1024);
        let mut serializer = serde_json::Serializer::with_formatter(&mut line, EscapeControls);
        match self.serialize(&mut serializer) {
            Ok(()) => line.push(b'\n'),
            // Maps with string keys into memory cannot fail; if they ever do, the caller must see an unusable line.
            Err(_) => line.clear(),
        }
        line
    }

    fn at(&self, stage: Stage, code: u16, reason: Option<String>) -> Self {
        let response_status = Some(ResponseStatus { metadata: BTreeMap::new(), code, reason });
        Self { stage, stage_timestamp: Timestamp::now(), response_status, ..self.clone() }
    }
}

/// Writes JSON strings with every character escaped that is not plainly visible text.
struct EscapeControls;

impl serde_json::ser::Formatter for EscapeControls {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut plain = 0;
        for (at, character) in fragment.char_indices().filter(|(_, character)| is_hidden(*character)) {
            writer.write_all(&fragment.as_bytes()[plain..at])?;
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain = at + character.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[plain..])
    }
}

/// C1 controls and DEL (C0 is escaped by JSON itself), line and paragraph separators, bidirectional controls, zero-width
/// characters and the byte order mark.
fn is_hidden(character: char) -> bool {
    matches!(character,
        '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_LIMIT));
    text
}

fn display<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn micros<S: Serializer>(value: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(uri: &str) -> Event {
        let info = RequestInfo::parse("POST", "/api/v1/namespaces/shop/pods", None);
        Event::request(AuditId::new(), Actor::named("u-abcde"), &info, uri)
    }

    #[test]
    fn a_line_has_the_shape_of_the_kubernetes_audit_log() {
        let extra = BTreeMap::from([("username".to_owned(), vec!["ann".to_owned()])]);
        let actor = Actor::named("u-abcde").with(&["system:authenticated".to_owned()], &extra);
        let info = RequestInfo::parse("POST", "/apis/apps/v1/namespaces/shop/deployments", None);
        let event = Event::request(AuditId::new(), actor, &info, "/apis/apps/v1/namespaces/shop/deployments")
            .from_address(IpAddr::from([192, 0, 2, 7]))
            .user_agent("kubectl/v1.34.0")
            .annotate("cattle.io/cluster", "c-abcde");
        let value: serde_json::Value = serde_json::from_slice(&event.completed(201).to_line()).unwrap();
        assert_eq!(value["kind"], "Event");
        assert_eq!(value["apiVersion"], "audit.k8s.io/v1");
        assert_eq!(value["level"], "Metadata");
        assert_eq!(value["stage"], "ResponseComplete");
        assert_eq!(value["auditID"], event.id().to_string());
        assert_eq!(value["verb"], "create");
        assert_eq!(value["user"]["username"], "u-abcde");
        assert_eq!(value["user"]["extra"]["username"][0], "ann");
        assert_eq!(value["sourceIPs"][0], "192.0.2.7");
        assert_eq!(value["objectRef"]["apiGroup"], "apps");
        assert_eq!(value["objectRef"]["resource"], "deployments");
        assert_eq!(value["responseStatus"]["code"], 201);
        assert_eq!(value["annotations"]["cattle.io/cluster"], "c-abcde");
        let stamp = value["stageTimestamp"].as_str().unwrap();
        assert_eq!(stamp.len(), "2026-01-01T00:00:00.000000Z".len(), "{stamp}");
    }

    #[test]
    fn no_value_can_forge_a_line_or_repaint_a_terminal() {
        let evil = "a\nb\r\u{1b}[2Jc\u{9b}d\u{202e}e\u{2028}f\u{7f}g\u{e0041}h\u{feff}";
        let line = event("/x").user_agent(evil).annotate("cattle.io/cluster", evil).to_line();
        let text = std::str::from_utf8(&line).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.ends_with('\n'));
        assert!(!text.trim_end().chars().any(|c| c.is_control() || is_hidden(c)), "{text}");
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["userAgent"], evil, "escaping loses nothing");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let line = event("/x").user_agent(&"ä".repeat(5000)).to_line();
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["userAgent"].as_str().unwrap().len(), TEXT_LIMIT);
    }

    #[test]
    fn a_registration_token_is_not_in_the_line() {
        let line = event("/v3/import/verysecrettoken_c-abcde.yaml").to_line();
        assert!(!String::from_utf8(line).unwrap().contains("verysecrettoken"));
    }
}
