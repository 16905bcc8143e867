//! Objects as YAML: a serializer writes them, never a template.

use serde::Serialize;
use serde_json::Value;

/// An object of the manifest: typed when built, plain JSON from then on.
#[derive(Clone, PartialEq)]
pub struct Object(Value);

impl Object {
    pub(crate) fn new<K: k8s_openapi::Resource + Serialize>(object: &K) -> Self {
        #[expect(clippy::expect_used, reason = "types of k8s-openapi have string keys only; nothing else can fail")]
        Self(serde_json::to_value(object).expect("Kubernetes types serialize"))
    }

    /// `kind`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap_or_default()
    }

    /// `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.0["apiVersion"].as_str().unwrap_or_default()
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// `metadata.namespace`; none for cluster-scoped objects.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.0["metadata"]["namespace"].as_str()
    }

    /// The whole object.
    #[must_use]
    pub fn as_json(&self) -> &Value {
        &self.0
    }
}

/// The objects in the order in which `kubectl apply` must see them.
#[derive(Clone, PartialEq)]
pub struct Manifest(Vec<Object>);

impl Manifest {
    pub(crate) fn new(objects: Vec<Object>) -> Self {
        Self(objects)
    }

    /// The objects, namespaces first.
    #[must_use]
    pub fn objects(&self) -> &[Object] {
        &self.0
    }

    /// One YAML document for each object.
    ///
    /// Every string is quoted: readers of YAML 1.1 (kubectl) and 1.2 then agree on every value.
    ///
    /// # Errors
    /// [`YamlError`] when the serializer fails; no parameter is known to cause it.
    pub fn to_yaml(&self) -> Result<String, YamlError> {
        let mut text = String::new();
        for object in &self.0 {
            let options = serde_saphyr::ser_options! { quote_all: true, prefer_block_scalars: false };
            text.push_str("---\n");
            text.push_str(&serde_saphyr::to_string_with_options(&object.0, options).map_err(|_| YamlError)?);
            if !text.ends_with('\n') {
                text.push('\n');
            }
        }
        Ok(text)
    }
}

/// The serializer failed. Its own message is left out, since it may quote a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the manifest cannot be written as YAML")]
pub struct YamlError;
