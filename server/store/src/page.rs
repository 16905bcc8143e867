//! Lists in pages, all of one revision.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cattle_api::resource::Resource;
use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};

use crate::key::Revision;

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// At most so many objects; all when absent or 0.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub from: Option<Continue>,
}

impl Page {
    /// Everything at once.
    pub const ALL: Self = Self { limit: None, from: None };
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The objects, by namespace and name.
    pub items: Vec<DynamicObject>,
    /// The revision that the whole list shows; watch from here.
    pub revision: Revision,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Continue>,
    /// How many objects come after this page; `None` at the end.
    pub remaining: Option<u64>,
}

/// Where a page of a list ended. Opaque to clients: `metadata.continue` on the wire.
///
/// It is no secret and no permission: a client that makes one up gets what a list from there would give it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continue {
    #[serde(rename = "k")]
    pub(crate) resource: String,
    #[serde(rename = "r")]
    pub(crate) revision: u64,
    #[serde(rename = "s")]
    pub(crate) namespace: String,
    #[serde(rename = "n")]
    pub(crate) name: String,
}

impl Continue {
    /// Longest text that is read, in bytes: two names and what is around them.
    const MAX_TEXT: usize = 2048;

    pub(crate) fn after(resource: &Resource, revision: Revision, last: &DynamicObject) -> Self {
        Self {
            resource: resource.to_string(),
            revision: revision.0,
            namespace: last.metadata.namespace.clone().unwrap_or_default(),
            name: last.metadata.name.clone().unwrap_or_default(),
        }
    }

    /// Reads the text that [`Display`](fmt::Display) wrote.
    ///
    /// # Errors
    /// When it is not such a text, or is of another resource.
    pub fn parse(text: &str, resource: &Resource) -> Result<Self, ContinueError> {
        if text.len() > Self::MAX_TEXT {
            return Err(ContinueError);
        }
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| ContinueError)?;
        let parsed: Self = serde_json::from_slice(&json).map_err(|_| ContinueError)?;
        if parsed.resource == resource.to_string() { Ok(parsed) } else { Err(ContinueError) }
    }
}

impl fmt::Display for Continue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        f.write_str(&URL_SAFE_NO_PAD.encode(json))
    }
}

/// The text is not where a list of this resource ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the continue token is malformed or of another list")]
pub struct ContinueError;

#[cfg(test)]
mod tests {
    use cattle_api::resource;

    use super::*;

    #[test]
    fn a_token_is_good_for_its_own_list_only() {
        let token = Continue {
            resource: resource::USER.to_string(),
            revision: 7,
            namespace: String::new(),
            name: "u-abcde".to_owned(),
        };
        let text = token.to_string();
        assert_eq!(Continue::parse(&text, &resource::USER), Ok(token));
        assert_eq!(Continue::parse(&text, &resource::SETTING), Err(ContinueError));
        for bad in ["", "!", "e30", &text[1..], &"A".repeat(5000)] {
            assert_eq!(Continue::parse(bad, &resource::USER), Err(ContinueError), "{bad}");
        }
    }

    #[test]
    fn any_text_is_a_token_or_is_refused() {
        let token = |name: &str, namespace: &str| {
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            Continue { resource: resource::USER.to_string(), revision: 70_000, namespace, name }.to_string()
        };
        // What is inside is reached with texts that are encoded after they are changed.
        let inside = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let samples = [token("u-abcde", ""), token("é\"", "c-aaaaa")];
        let plain = cattle_matrix::Decoder::new("continue token", samples.clone());
        plain.hammer_text(|text| Continue::parse(text, &resource::USER));
        let decoder = cattle_matrix::Decoder::new("inside a continue token", samples.map(|text| inside(&text)));
        decoder.hammer_as(
            |bytes| URL_SAFE_NO_PAD.encode(bytes),
            |text| {
                let parsed = Continue::parse(text, &resource::USER);
                if let Ok(token) = &parsed {
                    assert_eq!(Continue::parse(&token.to_string(), &resource::USER).as_ref(), Ok(token));
                }
                parsed
            },
        );
    }
}
