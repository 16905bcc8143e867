//! The settings that concern tokens and passwords.

use cattle_api::management::Setting;
use cattle_api::management::setting::Known;
use cattle_api::resource;
use cattle_store::{Key, Store, StoreError};

/// A setting as a number; its default when it is not set, or set to what is no number.
pub(crate) async fn number(store: &dyn Store, name: &'static str) -> Result<i64, StoreError> {
    let set = read(store, name).await?.and_then(|setting| setting.spec.effective().parse().ok());
    Ok(set.unwrap_or_else(|| Known::find(name).and_then(|known| known.default.parse().ok()).unwrap_or(0)))
}

/// A setting as text; empty when it is not set.
pub(crate) async fn text(store: &dyn Store, name: &'static str) -> Result<String, StoreError> {
    Ok(read(store, name).await?.map(|setting| setting.spec.effective().to_owned()).unwrap_or_default())
}

async fn read(store: &dyn Store, name: &'static str) -> Result<Option<Setting>, StoreError> {
    let key = Key { resource: &resource::SETTING, namespace: None, name: name.to_owned() };
    Ok(store.get(&key).await?.and_then(|object| resource::decode(&object).ok()))
}
