//! Forms with a file in them, read with bounds.

use crate::http::error::ApiError;
use axum::extract::Multipart;
use axum::http::StatusCode;
use std::collections::HashMap;

/// The most bytes of one field: a private key has less than 4 KiB.
const FIELD_BYTES: usize = 32 * 1024;

/// The fields of a form by name; of a field and its file (`NAME` and `NAME_file`) the one that is not empty is read with
/// [`Fields::or_file`].
pub struct Fields(HashMap<String, String>);

impl Fields {
    /// Reads a form to its end.
    pub async fn read(mut form: Multipart) -> Result<Self, ApiError> {
        let wrong = |detail: String| ApiError::new(StatusCode::BAD_REQUEST, "form.invalid", detail);
        let mut fields = HashMap::new();
        while let Some(field) = form.next_field().await.map_err(|e| wrong(e.body_text()))? {
            let name = field.name().unwrap_or("").to_owned();
            let bytes = field.bytes().await.map_err(|e| wrong(e.body_text()))?;
            if bytes.len() > FIELD_BYTES {
                return Err(wrong(format!("The field {name} exceeds {FIELD_BYTES} bytes.")));
            }
            let text =
                String::from_utf8(bytes.to_vec()).map_err(|_| wrong(format!("The field {name} is not text.")))?;
            if fields.insert(name.clone(), text).is_some() {
                return Err(wrong(format!("The field {name} was sent twice.")));
            }
        }
        Ok(Self(fields))
    }

    /// A field; empty where it was not sent.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A field, or the file in its stead.
    pub fn or_file(&self, name: &str) -> &str {
        match self.get(name).trim() {
            "" => self.get(&format!("{name}_file")),
            text => text,
        }
    }
}
