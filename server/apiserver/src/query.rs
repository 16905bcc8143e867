//! Query parameters, parsed into what they ask for. Unknown parameters are ignored, as Kubernetes does.

use std::time::Duration;

use crate::selector::{FieldSelector, LabelSelector};
use crate::status::StatusError;

/// Longest query string, in bytes.
const QUERY_MAX: usize = 64 * 1024;
/// Longest name of a field manager, in characters; Kubernetes' limit.
const FIELD_MANAGER_MAX: usize = 128;

/// The decoded pairs of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// Options of list, watch and deletecollection.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListOptions {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    pub(crate) limit: Option<u32>,
    pub(crate) continue_token: Option<String>,
    pub(crate) version: Version,
    pub(crate) version_match: Option<VersionMatch>,
    pub(crate) watch: bool,
    pub(crate) bookmarks: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) send_initial_events: Option<bool>,
}

/// What `resourceVersion` asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Version {
    /// Not given: the newest.
    #[default]
    Unset,
    /// `0`: any.
    Any,
    /// This one.
    At(u64),
}

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// Options of create, update and patch.
#[derive(Debug, Clone)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_manager: Option<String>,
    pub(crate) field_validation: FieldValidation,
    pub(crate) force: bool,
}

/// What to do with fields that the schema does not know or that occur twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

impl Query {
    pub(crate) fn parse(raw: Option<&str>) -> Result<Self, StatusError> {
        let raw = raw.unwrap_or_default();
        if raw.len() > QUERY_MAX {
            return Err(StatusError::bad_request("the query string is too long"));
        }
        Ok(Self(url::form_urlencoded::parse(raw.as_bytes()).into_owned().collect()))
    }

    /// The first value, if it is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, StatusError> {
        match self.0.iter().find(|(key, _)| key == name) {
            None => Ok(None),
            // A parameter without a value is on: `?watch`.
            Some((_, value)) => match value.as_str() {
                "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
                other => Err(bad_parameter(name, other, "a boolean")),
            },
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>, StatusError> {
        self.get(name).map(|value| value.parse().map_err(|_| bad_parameter(name, value, "a number"))).transpose()
    }

    pub(crate) fn watches(&self) -> Result<bool, StatusError> {
        Ok(self.flag("watch")?.unwrap_or(false))
    }

    /// `dryRun=All` is the only directive that exists.
    pub(crate) fn dry_run(&self) -> Result<bool, StatusError> {
        let mut dry = false;
        for value in self.all("dryRun") {
            if value != "All" {
                return Err(bad_parameter("dryRun", value, "\"All\""));
            }
            dry = true;
        }
        Ok(dry)
    }

    pub(crate) fn version(&self) -> Result<Version, StatusError> {
        Ok(match self.number("resourceVersion")? {
            None => Version::Unset,
            Some(0) => Version::Any,
            Some(version) => Version::At(version),
        })
    }

    pub(crate) fn list_options(&self, selectable: &[String]) -> Result<ListOptions, StatusError> {
        let selector = |error: crate::selector::SelectorError| StatusError::bad_request(error.to_string());
        let version_match = match self.get("resourceVersionMatch") {
            None => None,
            Some("Exact") => Some(VersionMatch::Exact),
            Some("NotOlderThan") => Some(VersionMatch::NotOlderThan),
            Some(other) => {
                return Err(bad_parameter("resourceVersionMatch", other, "\"Exact\" or \"NotOlderThan\""));
            }
        };
        let options = ListOptions {
            labels: LabelSelector::parse(self.get("labelSelector").unwrap_or_default()).map_err(selector)?,
            fields: FieldSelector::parse(self.get("fieldSelector").unwrap_or_default(), selectable)
                .map_err(selector)?,
            limit: self
                .number("limit")?
                .filter(|limit| *limit > 0)
                .map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
            continue_token: self.get("continue").map(str::to_owned),
            version: self.version()?,
            version_match,
            watch: self.watches()?,
            bookmarks: self.flag("allowWatchBookmarks")?.unwrap_or(false),
            timeout: self.number("timeoutSeconds")?.filter(|seconds| *seconds > 0).map(Duration::from_secs),
            send_initial_events: self.flag("sendInitialEvents")?,
        };
        options.check()?;
        Ok(options)
    }

    pub(crate) fn write_options(&self) -> Result<WriteOptions, StatusError> {
        let field_validation = match self.get("fieldValidation") {
            None => FieldValidation::default(),
            Some("Ignore") => FieldValidation::Ignore,
            Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                return Err(bad_parameter("fieldValidation", other, "\"Ignore\", \"Warn\" or \"Strict\""));
            }
        };
        let field_manager = self.get("fieldManager").map(str::to_owned);
        if let Some(manager) = &field_manager
            && (manager.chars().count() > FIELD_MANAGER_MAX || manager.chars().any(char::is_control))
        {
            return Err(bad_parameter("fieldManager", "", "at most 128 printable characters"));
        }
        Ok(WriteOptions {
            dry_run: self.dry_run()?,
            field_manager,
            field_validation,
            force: self.flag("force")?.unwrap_or(false),
        })
    }
}

impl ListOptions {
    fn check(&self) -> Result<(), StatusError> {
        if self.continue_token.is_some() && (self.version != Version::Unset || self.version_match.is_some()) {
            return Err(StatusError::bad_request("specifying resource version is not allowed when using continue"));
        }
        if self.watch {
            return self.check_watch();
        }
        if self.send_initial_events.is_some() {
            return Err(StatusError::bad_request(
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
            ));
        }
        match (self.version_match, self.version) {
            (Some(_), Version::Unset) => Err(StatusError::bad_request(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            )),
            (Some(VersionMatch::Exact), Version::Any) => Err(StatusError::bad_request(
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
            )),
            _ => Ok(()),
        }
    }

    fn check_watch(&self) -> Result<(), StatusError> {
        match (self.send_initial_events, self.version_match) {
            (Some(_), Some(VersionMatch::NotOlderThan)) | (None, None) => Ok(()),
            (Some(_), _) => Err(StatusError::bad_request(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
            (None, Some(_)) => Err(StatusError::bad_request(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
        }
    }
}

fn bad_parameter(name: &str, value: &str, wanted: &str) -> StatusError {
    StatusError::bad_request(format!("invalid value {value:?} for query parameter {name}: must be {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(query: &str) -> Result<ListOptions, StatusError> {
        Query::parse(Some(query))?.list_options(&[])
    }

    #[test]
    fn list_options_are_read() {
        let options = list("limit=5&resourceVersion=7&resourceVersionMatch=NotOlderThan&labelSelector=a%3Db").unwrap();
        assert_eq!(options.limit, Some(5));
        assert_eq!(options.version, Version::At(7));
        assert!(!options.labels.is_empty());
        assert!(list("watch").unwrap().watch);
        assert!(list("watch=true&allowWatchBookmarks=1").unwrap().bookmarks);
        assert_eq!(list("limit=0").unwrap().limit, None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "limit=x",
            "limit=-1",
            "resourceVersion=abc",
            "watch=maybe",
            "resourceVersionMatch=Exact",
            "resourceVersion=0&resourceVersionMatch=Exact",
            "resourceVersion=1&resourceVersionMatch=Newer",
            "continue=abc&resourceVersion=1",
            "sendInitialEvents=true",
            "watch=1&sendInitialEvents=true",
            "watch=1&resourceVersion=1&resourceVersionMatch=NotOlderThan",
            "fieldSelector=spec.x%3Dy",
            "labelSelector=a%20b%3Dc",
        ] {
            let error = list(bad).unwrap_err();
            assert_eq!(error.code(), 400, "{bad}");
        }
        let write = |query: &str| Query::parse(Some(query)).unwrap().write_options();
        assert!(write("dryRun=All&fieldValidation=Strict&force=true").unwrap().dry_run);
        for bad in ["dryRun=Some", "fieldValidation=Never", "force=2"] {
            assert_eq!(write(bad).unwrap_err().code(), 400, "{bad}");
        }
        assert!(write(&format!("fieldManager={}", "m".repeat(129))).is_err());
        assert!(Query::parse(Some(&"a".repeat(QUERY_MAX + 1))).is_err());
    }
}
