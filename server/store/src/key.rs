//! Where an object is, and when.

use std::fmt;

use cattle_api::resource::Resource;

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Its kind.
    pub resource: &'static Resource,
    /// Its namespace; `None` exactly when the kind has none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Key of an object without a namespace.
    #[must_use]
    pub fn cluster(resource: &'static Resource, name: impl Into<String>) -> Self {
        Self { resource, namespace: None, name: name.into() }
    }

    /// Key of an object in a namespace.
    #[must_use]
    pub fn namespaced(resource: &'static Resource, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { resource, namespace: Some(namespace.into()), name: name.into() }
    }
}

/// `clusters.management.cattle.io/c-abcde`, or `….cattle.io/namespace/name`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.resource)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// A point in the store's history: the number of changes before and at it. `resourceVersion` on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Reads a `resourceVersion`; `None` when it is not a number that this store wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // A sign or leading zeros would make two texts of one revision.
        let canonical = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
        canonical.then(|| text.parse().ok()).flatten().map(Self)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_version_has_one_spelling() {
        assert_eq!(Revision::parse("42"), Some(Revision(42)));
        assert_eq!(Revision::parse("0"), Some(Revision(0)));
        for bad in ["", "+1", "-1", "01", " 1", "1 ", "abc", "99999999999999999999"] {
            assert_eq!(Revision::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn any_text_is_a_revision_in_its_one_spelling_or_none() {
        cattle_matrix::Decoder::new("revision", ["0", "42", "18446744073709551615"]).hammer_text(|text| {
            let parsed = Revision::parse(text);
            assert!(parsed.is_none_or(|revision| revision.0.to_string() == text));
            parsed
        });
    }
}
