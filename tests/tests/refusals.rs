//! Every reason of the protocol to refuse has a named test that reaches it, where it is given.
//!
//! A code that is added to the protocol fails here until it has one.

#[path = "budgets/source.rs"]
#[expect(dead_code, reason = "shared with the test of budgets, which looks at more")]
mod source;

use std::collections::BTreeSet;

use cattle_proto::control::CredentialFailureCode;
use cattle_proto::handshake::RejectCode;
use cattle_proto::stream::RefusedCode;
use source::Source;

/// Where a reason is reached.
#[derive(Clone, Copy, Debug)]
enum Case {
    /// By this test of this file.
    Test(&'static str, &'static str),
    /// Nowhere: the protocol has the number, and nothing here sends it.
    Reserved(&'static str),
}
use Case::{Reserved, Test};

const AGENTS: &str = "server/src/adapters/agents/tests.rs";
const GATEWAY: &str = "server/gateway/tests/gateway.rs";
const TOKENS: &str = "server/gateway/tests/token.rs";
const HANDSHAKE: &str = "tunnel/tests/handshake.rs";

const REJECTED: &[(RejectCode, Case)] = &[
    (RejectCode::Unauthenticated, Test(GATEWAY, "refusals_have_their_codes_and_are_remembered")),
    (RejectCode::UnknownSigningKey, Test(TOKENS, "only_the_key_that_the_token_names_counts")),
    (RejectCode::TokenExpired, Test(TOKENS, "every_broken_rule_has_its_name")),
    (RejectCode::WrongAudience, Test(TOKENS, "every_broken_rule_has_its_name")),
    (RejectCode::ClockSkew, Test(TOKENS, "every_broken_rule_has_its_name")),
    (RejectCode::NotRegistered, Test(AGENTS, "an_agent_of_a_cluster_that_is_not_bound_is_told_what_to_do")),
    (RejectCode::ClusterDeleted, Test(AGENTS, "a_cluster_that_never_was_and_one_that_was_deleted_have_one_answer")),
    (RejectCode::RegistrationTokenUnknown, Test(AGENTS, "a_registration_token_is_good_for_its_time_and_cluster")),
    (RejectCode::RegistrationTokenExpired, Test(AGENTS, "a_registration_token_is_good_for_its_time_and_cluster")),
    (RejectCode::IdentityMismatch, Test(AGENTS, "every_refusal_of_a_registration_has_its_code")),
    (RejectCode::VersionUnsupported, Test(GATEWAY, "refusals_have_their_codes_and_are_remembered")),
    (RejectCode::Busy, Test(GATEWAY, "a_registration_that_a_stop_interrupts_is_to_be_tried_again")),
    (RejectCode::Malformed, Test(HANDSHAKE, "what_is_no_hello_gets_a_malformed_reject")),
    (RejectCode::Internal, Test(AGENTS, "every_refusal_of_a_registration_has_its_code")),
    (RejectCode::WrongSubject, Test(TOKENS, "every_broken_rule_has_its_name")),
    (RejectCode::WrongIssuer, Test(TOKENS, "every_broken_rule_has_its_name")),
    (RejectCode::WrongKind, Test(GATEWAY, "refusals_have_their_codes_and_are_remembered")),
    (RejectCode::ApiServerUnreachable, Test(GATEWAY, "a_registration_without_a_credential_is_refused_by_name")),
    (RejectCode::ApiServerUntrusted, Test(AGENTS, "every_refusal_of_a_registration_has_its_code")),
    (RejectCode::CredentialRefused, Test(GATEWAY, "a_registration_without_a_credential_is_refused_by_name")),
    (RejectCode::ClaimMismatch, Test(GATEWAY, "a_registration_binds_through_its_own_session_and_carries_nothing_else")),
    (RejectCode::RegistrationTokenSpent, Test(AGENTS, "every_refusal_of_a_registration_has_its_code")),
    (RejectCode::Timeout, Test(HANDSHAKE, "a_peer_that_says_nothing_or_too_little_is_given_ten_seconds")),
];

const RELAY: &str = "agent/src/relay.rs";
const STREAMS: &str = "agent/tests/it/supervise.rs";

const REFUSED: &[(RefusedCode, Case)] = &[
    (RefusedCode::UnknownTarget, Reserved("version 1 has one target: a header with another one is malformed")),
    (RefusedCode::ConnectionRefused, Test(RELAY, "every_failure_of_a_dial_has_its_code")),
    (RefusedCode::DialTimeout, Test(RELAY, "every_failure_of_a_dial_has_its_code")),
    (RefusedCode::Unreachable, Test(RELAY, "every_failure_of_a_dial_has_its_code")),
    (RefusedCode::Busy, Test(STREAMS, "more_streams_than_the_cap_are_refused_as_busy")),
    (RefusedCode::Draining, Test(STREAMS, "a_draining_agent_says_so_and_lets_streams_finish")),
    (RefusedCode::Malformed, Test("tunnel/tests/hostile.rs", "a_malformed_stream_header_is_refused_by_name")),
    (RefusedCode::Internal, Reserved("an agent of ours that fails ends its session")),
];

const CREDENTIAL: &str = "cluster-agent/tests/it/kubernetes.rs";
const FAILED: &[(CredentialFailureCode, Case)] = &[
    (CredentialFailureCode::Unreachable, Test(CREDENTIAL, "an_api_server_that_is_not_the_clusters_gets_no_token")),
    (CredentialFailureCode::Forbidden, Test(CREDENTIAL, "what_the_api_server_refuses_has_a_code")),
    (CredentialFailureCode::ServiceAccountMissing, Test(CREDENTIAL, "what_the_api_server_refuses_has_a_code")),
    (CredentialFailureCode::Internal, Test(CREDENTIAL, "what_the_api_server_refuses_has_a_code")),
];

#[test]
fn every_reason_to_reject_has_a_case() {
    check(RejectCode::ALL, RejectCode::name, REJECTED);
}

#[test]
fn every_reason_to_refuse_a_stream_has_a_case() {
    check(RefusedCode::ALL, RefusedCode::name, REFUSED);
}

#[test]
fn every_reason_for_no_credential_has_a_case() {
    check(CredentialFailureCode::ALL, CredentialFailureCode::name, FAILED);
}

/// Each code is in the table, and its test is there and names it.
fn check<C: Copy + PartialEq + std::fmt::Debug>(all: &[C], name: fn(C) -> &'static str, table: &[(C, Case)]) {
    for code in all {
        let (_, case) = table.iter().find(|(known, _)| known == code).unwrap_or_else(|| {
            panic!("{code:?} is new: write a test that reaches it where it is given, and name it in this file")
        });
        match case {
            Reserved(why) => assert!(!why.is_empty(), "{code:?}"),
            Test(file, test) => {
                let names = names_in(file, test);
                assert!(names.contains(name(*code)), "{file}: {test} does not name {code:?}: it does not reach it");
            }
        }
    }
    assert_eq!(table.len(), all.len(), "a code is there twice");
}

/// The identifiers in a test's body.
fn names_in(file: &str, test: &str) -> BTreeSet<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let function = Source::new(file, &text).functions().into_iter().find(|function| function.name == test);
    let function = function.unwrap_or_else(|| panic!("{file} has no test {test}"));
    let (before, body): (Vec<_>, Vec<_>) = text.lines().enumerate().partition(|(number, _)| number + 1 < function.line);
    let attributes =
        before.iter().rev().map(|(_, line)| line.trim()).take_while(|line| !line.is_empty() && *line != "}");
    assert!(
        attributes.clone().any(|line| line.starts_with("#[") && line.contains("test")),
        "{file}: {test} is no test"
    );
    let words = body
        .iter()
        .take(function.lines)
        .flat_map(|(_, line)| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned));
    words.collect()
}
