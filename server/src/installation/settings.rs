//! The server's own use of its settings.

use std::sync::Arc;

use cattle_api::management::{
    Setting,
    setting::{SettingFields, known},
};
use cattle_store::{Store, StoreError, Typed};

/// The settings in the store.
#[derive(Clone)]
pub struct Settings {
    objects: Typed<Setting>,
}

impl Settings {
    /// The settings in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { objects: Typed::new(store) }
    }

    /// Makes every known setting that is missing and corrects defaults that an older server wrote.
    ///
    /// # Errors
    /// The store's.
    pub async fn seed(&self) -> Result<(), StoreError> {
        for known in known::ALL {
            match self.objects.get(None, known.name).await? {
                None => {
                    let fields = SettingFields { default: known.default.to_owned(), ..SettingFields::default() };
                    self.objects.create(&Setting::new(known.name, fields), Vec::new()).await?;
                }
                Some(setting) if setting.spec.default != known.default => {
                    let correct = |setting: &mut Setting| setting.spec.default = known.default.to_owned();
                    self.objects.modify(None, known.name, correct).await?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The value, or the default; empty when there is neither.
    ///
    /// # Errors
    /// The store's.
    pub async fn value(&self, name: &str) -> Result<String, StoreError> {
        let setting = self.objects.get(None, name).await?;
        Ok(setting.map(|setting| setting.spec.effective().to_owned()).unwrap_or_default())
    }

    /// Sets a value on the server's own behalf; writes nothing when it is there already.
    ///
    /// # Errors
    /// The store's.
    pub async fn assign(&self, name: &str, value: &str) -> Result<(), StoreError> {
        if self.objects.get(None, name).await?.is_some_and(|setting| setting.spec.value == value) {
            return Ok(());
        }
        self.objects.modify(None, name, |setting| setting.spec.value = value.to_owned()).await?;
        Ok(())
    }
}
