//! Every rule of a message, broken alone.

use bincode::Options;
use cattle_proto::codec::{self, DecodeError, Message};
use cattle_proto::control::{AgentMessage, ServerMessage};
use cattle_proto::handshake::{Hello, HelloReply};
use cattle_proto::limits;
use cattle_proto::stream::{OpenReply, StreamHeader};
use cattle_proto::testing::samples;
use serde::Serialize;

/// A `Hello` without rules: what anybody can put on the wire. `credential` 0 is a service account, 1 a registration.
#[derive(Clone, Serialize)]
struct Loose {
    oldest: u16,
    newest: u16,
    capabilities: u64,
    kind: u8,
    software: String,
    instance: [u8; 16],
    credential: u8,
    cluster: String,
    registration: Option<Claim>,
    token: String,
}

#[derive(Clone, Serialize)]
struct Claim {
    registration_token: String,
    uid: String,
    ca: String,
    server_name: String,
}

fn loose() -> Loose {
    Loose {
        oldest: 1,
        newest: 1,
        capabilities: 3,
        kind: 0,
        software: "agent".to_owned(),
        instance: [1; 16],
        credential: 0,
        cluster: "c-abcde".to_owned(),
        registration: None,
        token: "token".to_owned(),
    }
}

fn claim() -> Claim {
    Claim {
        registration_token: "r".to_owned(),
        uid: "8c6a9f0e-57a7-4a2e-9b3e-1d2c3b4a5f60".to_owned(),
        ca: "-----BEGIN CERTIFICATE-----".to_owned(),
        server_name: "kubernetes.default.svc".to_owned(),
    }
}

impl Loose {
    fn bytes(&self) -> Vec<u8> {
        let start = (self.oldest, self.newest, self.capabilities, self.kind, &self.software, self.instance);
        let mut bytes = raw(&(start, self.credential, &self.cluster));
        if let Some(claim) = &self.registration {
            bytes.extend(raw(claim));
        }
        bytes.extend(raw(&self.token));
        bytes
    }
}

fn raw<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::DefaultOptions::new().serialize(value).unwrap()
}

#[test]
fn the_loose_hello_is_a_hello() {
    assert!(codec::decode::<Hello>(&loose().bytes()).is_ok());
    let registration = Loose { credential: 1, registration: Some(claim()), ..loose() };
    assert!(codec::decode::<Hello>(&registration.bytes()).is_ok());
}

#[test]
fn every_rule_of_a_hello() {
    type Break = fn(&mut Loose);
    let rules: [(&str, Break); 18] = [
        ("oldest version is zero", |h| h.oldest = 0),
        ("newest version is zero", |h| (h.oldest, h.newest) = (0, 0)),
        ("versions run backwards", |h| (h.oldest, h.newest) = (2, 1)),
        ("unknown kind", |h| h.kind = 2),
        ("software is empty", |h| h.software = String::new()),
        ("software too long", |h| h.software = "a".repeat(limits::SOFTWARE + 1)),
        ("software with an escape", |h| h.software = "\u{1b}[2J".to_owned()),
        ("unknown credential", |h| h.credential = 2),
        ("cluster id is empty", |h| h.cluster = String::new()),
        ("cluster id climbs", |h| h.cluster = "c-../../etc".to_owned()),
        ("cluster id with a zero byte", |h| h.cluster = "c-abcde\0".to_owned()),
        ("cluster id too long", |h| h.cluster = format!("c-{}", "a".repeat(41))),
        ("cluster id in upper case", |h| h.cluster = "c-ABCDE".to_owned()),
        ("token is empty", |h| h.token = String::new()),
        ("token with a line break", |h| h.token = "a\r\nX-Evil: 1".to_owned()),
        ("token with a space", |h| h.token = "a b".to_owned()),
        ("token too long", |h| h.token = "a".repeat(limits::TOKEN + 1)),
        ("token not ASCII", |h| h.token = "tökên".to_owned()),
    ];
    for (name, break_it) in rules {
        let mut hello = loose();
        break_it(&mut hello);
        refused::<Hello>(name, &hello.bytes());
    }
}

#[test]
fn every_rule_of_a_claim() {
    type Break = fn(&mut Claim);
    let rules: [(&str, Break); 9] = [
        ("registration token is empty", |c| c.registration_token = String::new()),
        ("uid is empty", |c| c.uid = String::new()),
        ("uid is no uuid", |c| c.uid = "kube-system".to_owned()),
        ("uid in upper case", |c| c.uid = c.uid.to_uppercase()),
        ("ca is no pem", |c| c.ca = "certificate".to_owned()),
        ("ca too large", |c| c.ca.push_str(&"A".repeat(limits::CA_PEM))),
        ("server name with a port", |c| c.server_name = "kubernetes:6443".to_owned()),
        ("server name with a wildcard", |c| c.server_name = "*.svc".to_owned()),
        ("server name too long", |c| c.server_name = ["a"; 130].join(".")),
    ];
    for (name, break_it) in rules {
        let mut claim = claim();
        break_it(&mut claim);
        refused::<Hello>(name, &Loose { credential: 1, registration: Some(claim), ..loose() }.bytes());
    }
}

#[test]
fn every_message_ends_where_it_ends() {
    fn ends<M: Message>(messages: samples::Named<M>) {
        for (name, message) in messages {
            let body = codec::encode(&message).unwrap();
            for length in 0..body.len() {
                refused::<M>(&format!("{name} cut at {length}"), &body[..length]);
            }
            refused::<M>(&format!("{name} with a byte after it"), &[&body[..], &[0]].concat());
        }
    }
    ends(samples::hellos());
    ends(samples::hello_replies());
    ends(samples::stream_headers());
    ends(samples::open_replies());
    ends(samples::agent_messages());
    ends(samples::server_messages());
}

#[test]
fn other_rules() {
    refused::<HelloReply>("unknown reply", &[2]);
    refused::<HelloReply>("version zero", &[&[0, 0][..], &[0; 30]].concat());
    refused::<HelloReply>("code beyond 16 bits", &[1, 252, 0, 0, 1, 0, 0]);
    refused::<StreamHeader>("unknown target", &[1, 0]);
    refused::<StreamHeader>("an option that is neither", &[0, 2]);
    refused::<OpenReply>("unknown answer", &[2]);
    refused::<AgentMessage>("unknown message", &[6]);
    refused::<AgentMessage>("facts are no object", &[1, 2, b'[', b']']);
    refused::<AgentMessage>("facts are no JSON", &[1, 1, b'{']);
    refused::<AgentMessage>("facts are no UTF-8", &[1, 2, 0xff, 0xfe]);
    let large = format!("{{\"a\":\"{}\"}}", "a".repeat(limits::FACTS));
    refused::<AgentMessage>("facts too large", &[&[1][..], &raw(&large)].concat());
    refused::<AgentMessage>("a text of 2^60 bytes", &[1, 253, 0, 0, 0, 0, 0, 0, 0, 16]);
    refused::<ServerMessage>("unknown message", &[4]);
}

#[test]
fn a_length_is_checked_before_anything_is_allocated() {
    fn check<M: Message>() {
        let too_large = u32::try_from(M::LIMIT + 1).unwrap();
        let error = DecodeError::TooLarge { message: M::NAME, size: M::LIMIT + 1, limit: M::LIMIT };
        assert_eq!(codec::body_size::<M>(too_large.to_be_bytes()), Err(error));
        assert_eq!(codec::decode_frame::<M>(&too_large.to_be_bytes()).map(|_| ()), Err(error));
        assert_eq!(codec::decode::<M>(&vec![0; M::LIMIT + 1]).map(|_| ()), Err(error));
        assert_eq!(codec::body_size::<M>((too_large - 1).to_be_bytes()), Ok(M::LIMIT));
    }
    check::<Hello>();
    check::<HelloReply>();
    check::<StreamHeader>();
    check::<OpenReply>();
    check::<AgentMessage>();
    check::<ServerMessage>();
}

#[test]
fn a_message_beyond_its_limit_is_not_sent() {
    let (_, mut hello) = samples::hellos().remove(0);
    hello.credential = cattle_proto::handshake::Credential::ServiceAccount {
        cluster: "c-abcde".parse().unwrap(),
        token: samples::secret(&"a".repeat(limits::HANDSHAKE_FRAME)),
    };
    assert!(codec::encode_frame(&hello).is_err());
}

fn refused<M: Message>(name: &str, body: &[u8]) {
    let malformed = DecodeError::Malformed { message: M::NAME };
    assert_eq!(codec::decode::<M>(body).map(|_| ()), Err(malformed), "{name}");
}
