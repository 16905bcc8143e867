//! Questions about oneself: `kubectl auth can-i` and `kubectl auth whoami`. Nothing is stored and nobody else is asked about.

pub(crate) mod protobuf;

use cattle_api::resource::{self, Verb};
use cattle_auth::{Attributes, Decision, UserInfo};
use serde_json::{Value, json};

use crate::authorize::Authorizer;
use crate::path::ResourcePath;
use crate::status::StatusError;
use crate::strategy::text;

/// A group whose only resources are reviews.
pub(crate) struct ReviewGroup {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    /// Plural and kind.
    pub(crate) reviews: &'static [(&'static str, &'static str)],
}

/// Every review that is served.
pub(crate) const GROUPS: [ReviewGroup; 2] = [
    ReviewGroup {
        group: "authentication.k8s.io",
        version: "v1",
        reviews: &[("selfsubjectreviews", "SelfSubjectReview")],
    },
    ReviewGroup {
        group: "authorization.k8s.io",
        version: "v1",
        reviews: &[
            ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
            ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
        ],
    },
];

/// Whether a path names a review.
pub(crate) fn is_review(path: &ResourcePath) -> bool {
    kind_of(path).is_some()
}

/// Answers a review: the object that was sent, with its status.
pub(crate) fn answer(
    path: &ResourcePath,
    mut review: Value,
    user: &UserInfo,
    authorizer: &dyn Authorizer,
) -> Result<Value, StatusError> {
    let kind = kind_of(path).ok_or_else(StatusError::no_such_resource)?;
    if path.name.is_some() || path.namespace.is_some() {
        return Err(StatusError::no_such_resource());
    }
    if !review.is_object() || text(&review, "/kind") != kind {
        return Err(StatusError::bad_request(format!("the body must be a {kind}")));
    }
    let status = match kind {
        "SelfSubjectReview" => whoami(user),
        "SelfSubjectAccessReview" => can_i(&review, user, authorizer)?,
        _ => rules(text(&review, "/spec/namespace"), user, authorizer),
    };
    review["status"] = status;
    if review.get("metadata").is_none_or(Value::is_null) {
        review["metadata"] = json!({});
    }
    review["metadata"]["creationTimestamp"] = Value::Null;
    Ok(review)
}

fn kind_of(path: &ResourcePath) -> Option<&'static str> {
    let group = GROUPS
        .iter()
        .find(|group| group.group == path.group_version.group && group.version == path.group_version.version)?;
    group.reviews.iter().find(|(plural, _)| *plural == path.resource).map(|(_, kind)| *kind)
}

fn whoami(user: &UserInfo) -> Value {
    json!({"userInfo": {"username": user.name(), "groups": user.groups(), "extra": user.extra()}})
}

fn can_i(review: &Value, user: &UserInfo, authorizer: &dyn Authorizer) -> Result<Value, StatusError> {
    let Some(wanted) = review.pointer("/spec/resourceAttributes") else {
        if review.pointer("/spec/nonResourceAttributes").is_none() {
            return Err(StatusError::bad_request(
                "spec: exactly one of resourceAttributes or nonResourceAttributes must be specified",
            ));
        }
        // Documents about the API are all that is served here beside resources, to everybody.
        let (path, verb) =
            (text(review, "/spec/nonResourceAttributes/path"), text(review, "/spec/nonResourceAttributes/verb"));
        return Ok(json!({"allowed": crate::path::owns(path) && verb == "get"}));
    };
    let some = |value: &'static str| Some(text(wanted, value)).filter(|value| !value.is_empty());
    let resource = text(wanted, "/resource");
    let (group, found) = (text(wanted, "/group"), resource::find(text(wanted, "/group"), resource));
    let namespaced = found.is_none_or(|found| found.namespaced);
    let attributes = Attributes {
        verb: text(wanted, "/verb"),
        group,
        resource,
        subresource: some("/subresource"),
        namespace: some("/namespace").filter(|_| namespaced),
        name: some("/name"),
    };
    Ok(match authorizer.authorize(user, &attributes) {
        Decision::Allow => json!({"allowed": true}),
        // What is filtered may be asked for; what is shown is the caller's own.
        Decision::Filtered => json!({"allowed": true, "reason": "the answer shows only what belongs to the user"}),
        Decision::Deny(denied) => json!({"allowed": false, "reason": denied.to_string()}),
    })
}

/// What the authorizer allows, found by asking it about every verb of every resource.
fn rules(namespace: &str, user: &UserInfo, authorizer: &dyn Authorizer) -> Value {
    let mut rules = Vec::new();
    for kind in resource::ALL {
        let allowed = |verb: &Verb, subresource: Option<&'static str>| {
            let wanted = Attributes {
                verb: verb.as_str(),
                group: kind.group,
                resource: kind.plural,
                subresource,
                namespace: Some(namespace).filter(|namespace| kind.namespaced && !namespace.is_empty()),
                name: None,
            };
            !matches!(authorizer.authorize(user, &wanted), Decision::Deny(_))
        };
        for (subresource, name) in [(None, kind.plural.to_owned()), (Some("status"), format!("{}/status", kind.plural))]
        {
            if subresource.is_some() && !kind.has_status {
                continue;
            }
            let served = kind.verbs.iter().filter(|verb| subresource.is_none() || **verb == Verb::Get);
            let verbs: Vec<&str> = served.filter(|verb| allowed(verb, subresource)).map(|verb| verb.as_str()).collect();
            if !verbs.is_empty() {
                rules.push(json!({"verbs": verbs, "apiGroups": [kind.group], "resources": [name]}));
            }
        }
    }
    for group in &GROUPS {
        for (plural, _) in group.reviews {
            rules.push(json!({"verbs": ["create"], "apiGroups": [group.group], "resources": [plural]}));
        }
    }
    let documents =
        json!([{"verbs": ["get"], "nonResourceURLs": ["/api", "/apis", "/apis/*", "/openapi/*", "/version"]}]);
    let mut answer = json!({"resourceRules": rules, "nonResourceRules": documents, "incomplete": false});
    if authorizer.may_grant_global(user).is_err() {
        // kubectl prints this as a warning.
        answer["incomplete"] = Value::Bool(true);
        answer["evaluationError"] =
            Value::from("rights that hold for single objects, such as your clusters, are not listed");
    }
    answer
}
