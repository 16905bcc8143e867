//! Objects as bytes in rows, with a digest that finds damage.

use aws_lc_rs::digest;
use cattle_api::resource::Resource;
use kube::core::DynamicObject;

use crate::error::{Invalid, StoreError};

/// The largest object, in bytes of JSON. Kubernetes' own limit is about the same.
pub(super) const MAX_OBJECT: usize = 1 << 20;

const DIGEST_LENGTH: usize = 16;

/// An object as it is stored.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) revision: i64,
    pub(super) json: Vec<u8>,
    pub(super) digest: Vec<u8>,
}

impl Row {
    /// The row of an object that has its name and revision.
    pub(super) fn encode(resource: &Resource, object: &DynamicObject, revision: i64) -> Result<Self, StoreError> {
        let json = serde_json::to_vec(object).map_err(|error| StoreError::Io(Box::new(error)))?;
        if json.len() > MAX_OBJECT {
            return Err(Invalid::TooLarge { size: json.len(), max: MAX_OBJECT }.into());
        }
        let mut row = Self {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
            revision,
            json,
            digest: Vec::new(),
        };
        row.digest = row.compute(resource);
        Ok(row)
    }

    /// The object, if the row is what was written there: not damaged, and not another object's row.
    pub(super) fn decode(&self, resource: &Resource) -> Result<DynamicObject, StoreError> {
        let corrupt = || StoreError::Corrupt { what: format!("{resource}/{}/{}", self.namespace, self.name) };
        if self.digest != self.compute(resource) {
            return Err(corrupt());
        }
        let mut object: DynamicObject = serde_json::from_slice(&self.json).map_err(|_| corrupt())?;
        object.metadata.resource_version = Some(self.revision.to_string());
        Ok(object)
    }

    fn compute(&self, resource: &Resource) -> Vec<u8> {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [resource.group, resource.plural, &self.namespace, &self.name] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.update(&self.revision.to_be_bytes());
        context.update(&self.json);
        context.finish().as_ref()[..DIGEST_LENGTH].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use cattle_api::resource;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn sample() -> Row {
        let object = serde_json::from_value(json!({
            "apiVersion": "management.cattle.io/v3",
            "kind": "User",
            "metadata": {"name": "u-abcde", "labels": {"a": "b"}},
            "username": "somebody",
        }));
        Row::encode(&resource::USER, &object.expect("an object"), 7).expect("small")
    }

    #[test]
    fn an_object_comes_back_with_its_revision() {
        let object = sample().decode(&resource::USER).expect("whole");
        assert_eq!(object.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(object.data["username"], "somebody");
    }

    #[test]
    fn a_row_of_another_object_or_revision_is_damage() {
        let other_resource = sample().decode(&resource::SETTING);
        let other_name = Row { name: "u-other".to_owned(), ..sample() }.decode(&resource::USER);
        let other_revision = Row { revision: 8, ..sample() }.decode(&resource::USER);
        for result in [other_resource, other_name, other_revision] {
            assert!(matches!(result, Err(StoreError::Corrupt { .. })), "{result:?}");
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let row = sample();
        for bit in 0..row.json.len() * 8 {
            let mut json = row.json.clone();
            json[bit / 8] ^= 1 << (bit % 8);
            let changed = Row { json, ..sample() };
            assert!(changed.decode(&resource::USER).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_object_that_is_too_large_is_refused() {
        let mut object = sample().decode(&resource::USER).expect("whole");
        object.data["description"] = json!("x".repeat(MAX_OBJECT));
        let refused = Row::encode(&resource::USER, &object, 8);
        assert!(matches!(refused, Err(StoreError::Invalid(Invalid::TooLarge { .. }))), "{refused:?}");
    }

    proptest! {
        #![proptest_config(cattle_matrix::proptest_config(10_000))]

        /// Behind a right digest the JSON decoder sees any bytes: it may refuse them and must not panic.
        #[test]
        fn random_rows_never_panic(json in random_json(), revision in any::<i64>()) {
            let mut row = Row { json, revision, ..sample() };
            row.digest = row.compute(&resource::USER);
            let _ = row.decode(&resource::USER);
            row.digest = vec![0; 3];
            prop_assert!(row.decode(&resource::USER).is_err());
        }
    }

    /// Bytes, and mutations of a good row, which get further.
    fn random_json() -> impl Strategy<Value = Vec<u8>> {
        let mutated =
            (any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>()).prop_map(|(at, byte, cut)| {
                let mut json = sample().json;
                let at = at.index(json.len());
                json[at] = byte;
                json.truncate(cut.index(json.len() * 2).max(at + 1));
                json
            });
        prop_oneof![prop::collection::vec(any::<u8>(), 0..300), mutated]
    }
}
