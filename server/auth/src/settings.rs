//! The settings that concern tokens and passwords.

use cattle_api::management::Setting;
use cattle_api::management::setting::Known;
use cattle_api::resource;
use cattle_store::{Key, Store, StoreError};

/// A setting as a number; its default when it is not set, or set to what is no number.
pub(crate) async fn number(store: &dyn Store, name: &'static str) -> Result<i64, StoreError> {
    let key = Key { resource: &resource::SETTING, namespace: None, name: name.to_owned() };
    let object = store.get(&key).await?;
    let setting: Option<Setting> = object.and_then(|object| resource::decode(&object).ok());
    let set = setting.and_then(|setting| setting.spec.effective().parse().ok());
    Ok(set.unwrap_or_else(|| Known::find(name).and_then(|known| known.default.parse().ok()).unwrap_or(0)))
}
