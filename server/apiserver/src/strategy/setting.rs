//! `Setting`: known names only, never deleted; an empty value is the default.

use cattle_api::management::setting::Known;
use futures_util::future::ready;
use serde_json::Value;

use super::{Admission, Along, Checked, Draft, Strategy, set, text};
use crate::field::FieldError;

pub(super) struct SettingStrategy;

impl Strategy for SettingStrategy {
    fn defaults(&self, _: &Admission<'_>, object: &mut Value) {
        if let Some(known) = Known::find(text(object, "/metadata/name")) {
            set(object, "/default", Value::from(known.default));
        }
        complete(object);
        set(object, "/source", Value::from(""));
    }

    fn update<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value, draft: &'a mut Draft) -> Checked<'a> {
        let (was, wanted) = (text(old, "/value"), text(&draft.object, "/value"));
        let source = text(old, "/source").to_owned();
        if !source.is_empty() && was != wanted {
            let detail = format!("comes from the server's {source} and cannot be changed here");
            let error = admission.invalid(old, FieldError::forbidden("value", detail));
            return Box::pin(ready(Err(error)));
        }
        set(&mut draft.object, "/source", Value::from(source));
        complete(&mut draft.object);
        Box::pin(ready(Ok(())))
    }

    fn delete<'a>(&'a self, admission: &'a Admission<'a>, old: &'a Value) -> Along<'a> {
        let error = admission.forbidden(old, "settings are not deleted: an empty value brings the default back");
        Box::pin(ready(Err(error)))
    }
}

fn complete(object: &mut Value) {
    let customized = !text(object, "/value").is_empty();
    set(object, "/customized", Value::from(customized));
}
