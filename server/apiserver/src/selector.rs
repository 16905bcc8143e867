//! Label and field selectors: the query grammar of Kubernetes, parsed once, then pure matching.

use std::collections::BTreeMap;

use serde_json::Value;

/// Longest selector, in bytes; more is a mistake or an attack.
const SELECTOR_MAX: usize = 16 * 1024;

/// What to keep of a list or watch, by labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
    Greater(i64),
    Less(i64),
}

/// What to keep of a list or watch, by a closed list of fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: String,
    value: String,
    equal: bool,
}

/// Why a selector was not understood; the sentence is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SelectorError {
    /// The text does not follow the grammar.
    #[error("unable to parse requirement: {0}")]
    Grammar(String),
    /// The field cannot be selected on.
    #[error("field label not supported: {0}")]
    Field(String),
    /// The text is too long.
    #[error("selector is longer than {SELECTOR_MAX} bytes")]
    TooLong,
}

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.
    ///
    /// # Errors
    /// Names the part that does not follow the grammar.
    pub(crate) fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > SELECTOR_MAX {
            return Err(SelectorError::TooLong);
        }
        split_outside_parentheses(text)?
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(Requirement::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether everything matches.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub(crate) fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels.and_then(|labels| labels.get(&requirement.key))))
    }
}

impl Requirement {
    fn parse(part: &str) -> Result<Self, SelectorError> {
        let (key, test) = if let Some(key) = part.strip_prefix('!') {
            (key.trim(), Test::Missing)
        } else if let Some((key, values)) = set_operator(part, "notin") {
            (key, Test::NotIn(set_values(values)?))
        } else if let Some((key, values)) = set_operator(part, "in") {
            (key, Test::In(set_values(values)?))
        } else if let Some((key, value)) = part.split_once("!=") {
            (key.trim(), Test::NotIn(vec![label_value(value)?]))
        } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (key.trim(), Test::In(vec![label_value(value)?]))
        } else if let Some((key, value)) = part.split_once('>') {
            (key.trim(), Test::Greater(number(value)?))
        } else if let Some((key, value)) = part.split_once('<') {
            (key.trim(), Test::Less(number(value)?))
        } else {
            (part, Test::Exists)
        };
        if !is_label_key(key) {
            return Err(SelectorError::Grammar(format!("invalid label key {key:?}")));
        }
        Ok(Self { key: key.to_owned(), test })
    }

    fn matches(&self, value: Option<&String>) -> bool {
        let as_number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::Greater(bound) => as_number().is_some_and(|value| value > *bound),
            Test::Less(bound) => as_number().is_some_and(|value| value < *bound),
        }
    }
}

impl FieldSelector {
    /// Parses `a=b,c!=d` where each field is `metadata.name`, `metadata.namespace` or one of `supported`.
    ///
    /// # Errors
    /// Names the field that cannot be selected on, or the part that does not follow the grammar.
    pub(crate) fn parse(text: &str, supported: &[String]) -> Result<Self, SelectorError> {
        if text.len() > SELECTOR_MAX {
            return Err(SelectorError::TooLong);
        }
        let mut terms = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (field, value, equal) = if let Some((field, value)) = part.split_once("!=") {
                (field, value, false)
            } else if let Some((field, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (field, value, true)
            } else {
                return Err(SelectorError::Grammar(format!("invalid field selector: {part:?}")));
            };
            let known =
                matches!(field, "metadata.name" | "metadata.namespace") || supported.iter().any(|one| one == field);
            if !known {
                return Err(SelectorError::Field(field.to_owned()));
            }
            terms.push(Term { field: field.to_owned(), value: value.to_owned(), equal });
        }
        Ok(Self(terms))
    }

    /// Whether everything matches.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one name that is asked for, if the selection is by name.
    #[must_use]
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.iter().find(|term| term.equal && term.field == "metadata.name").map(|term| term.value.as_str())
    }

    /// Whether an object (as JSON) is selected. A field that is absent is the empty text, as in Kubernetes.
    #[must_use]
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|term| {
            let pointer = format!("/{}", term.field.replace('.', "/"));
            let equal = match object.pointer(&pointer) {
                None | Some(Value::Null) => term.value.is_empty(),
                Some(Value::String(text)) => *text == term.value,
                Some(Value::Bool(flag)) => term.value == if *flag { "true" } else { "false" },
                Some(Value::Number(number)) => number.to_string() == term.value,
                Some(Value::Array(_) | Value::Object(_)) => false,
            };
            equal == term.equal
        })
    }
}

fn split_outside_parentheses(text: &str) -> Result<Vec<&str>, SelectorError> {
    let (mut parts, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        match (character, inside) {
            ('(', false) => inside = true,
            (')', true) => inside = false,
            ('(', true) | (')', false) => {
                return Err(SelectorError::Grammar(format!("unexpected {character:?}")));
            }
            (',', false) => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(SelectorError::Grammar("missing ')'".to_owned()));
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn set_operator<'a>(part: &'a str, operator: &str) -> Option<(&'a str, &'a str)> {
    let (head, values) = part.split_once('(')?;
    let key = head.trim_end().strip_suffix(operator)?;
    let key_end = key.chars().next_back()?;
    key_end.is_whitespace().then(|| (key.trim(), values))
}

fn set_values(values: &str) -> Result<Vec<String>, SelectorError> {
    let Some(values) = values.trim_end().strip_suffix(')') else {
        return Err(SelectorError::Grammar("missing ')'".to_owned()));
    };
    values.split(',').map(label_value).collect()
}

fn label_value(value: &str) -> Result<String, SelectorError> {
    let value = value.trim();
    if is_label_value(value) {
        Ok(value.to_owned())
    } else {
        Err(SelectorError::Grammar(format!("invalid label value {value:?}")))
    }
}

fn number(value: &str) -> Result<i64, SelectorError> {
    value.trim().parse().map_err(|_| SelectorError::Grammar(format!("{value:?} is not an integer")))
}

/// Whether `value` may be the value of a label.
pub(crate) fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_label_name(value)
}

/// Whether `key` may be the key of a label or annotation: `[prefix/]name`.
pub(crate) fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_name(name),
        None => is_label_name(key),
    }
}

/// RFC 1123 subdomain, at most 253 bytes.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && !text.is_empty() && text.split('.').all(is_dns_label_of_any_length)
}

fn is_dns_label_of_any_length(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_label_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn label_selectors_select_as_documented() {
        let object = labels(&[("env", "prod"), ("tier", "3"), ("a.b/c", "x")]);
        for (selector, wanted) in [
            ("", true),
            ("env=prod", true),
            ("env==prod", true),
            ("env=dev", false),
            ("env!=dev", true),
            ("env!=prod", false),
            ("missing!=x", true),
            ("env in (dev, prod)", true),
            ("env notin (dev)", true),
            ("missing notin (x)", true),
            ("env notin (prod,dev)", false),
            ("env", true),
            ("!env", false),
            ("!missing", true),
            ("tier>2", true),
            ("tier<3", false),
            ("env=prod,tier=3", true),
            ("env in (prod),!tier", false),
            ("a.b/c=x", true),
            ("env in (prod),tier in (1,3)", true),
            ("inner", false),
            ("env=", false),
        ] {
            let parsed = LabelSelector::parse(selector).unwrap();
            assert_eq!(parsed.matches(Some(&object)), wanted, "{selector}");
        }
        assert!(LabelSelector::parse("!x").unwrap().matches(None));
        assert!(!LabelSelector::parse("x").unwrap().matches(None));
    }

    #[test]
    fn label_selectors_outside_the_grammar_are_errors() {
        for bad in ["a in (b", "a in b)", "a=b)", "a b=c", "=x", "a=b c", "a in ((b))", "a>x", "!", "a/b/c=d"] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(LabelSelector::parse(&"a".repeat(SELECTOR_MAX + 1)), Err(SelectorError::TooLong));
    }

    #[test]
    fn field_selectors_know_a_closed_list() {
        let supported = ["spec.userID".to_owned()];
        let object = json!({"metadata": {"name": "a"}, "spec": {"userID": "u-1"}});
        for (selector, wanted) in [
            ("metadata.name=a", true),
            ("metadata.name!=a", false),
            ("metadata.namespace=", true),
            ("spec.userID=u-1,metadata.name==a", true),
            ("spec.userID=u-2", false),
        ] {
            let parsed = FieldSelector::parse(selector, &supported).unwrap();
            assert_eq!(parsed.matches(&object), wanted, "{selector}");
        }
        assert_eq!(FieldSelector::parse("spec.other=x", &supported), Err(SelectorError::Field("spec.other".into())));
        assert!(FieldSelector::parse("metadata.name", &supported).is_err());
    }
}
