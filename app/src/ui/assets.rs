//! Styles, the script and the icon, built into the program. Their addresses hold a digest of their content, so browsers
//! may keep them for ever and still see a new version at once.

use crate::http::error::ApiError;
use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Assets;

/// The address of an asset.
pub fn address(name: &str) -> String {
    let digest = Assets::get(name).map(|file| hex::encode(file.metadata.sha256_hash())).unwrap_or_default();
    format!("/assets/{}/{name}", digest.get(..16).unwrap_or("none"))
}

/// Serves one. An address with another digest still gets the file, but may not keep it.
pub async fn serve(Path((digest, name)): Path<(String, String)>) -> Response {
    let Some(file) = Assets::get(&name) else { return ApiError::not_found().into_response() };
    let kind = match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let current = address(&name).split('/').nth(2) == Some(digest.as_str());
    let keep = if current { "public, max-age=31536000, immutable" } else { "no-store" };
    let mut response = file.data.into_owned().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    response
}
