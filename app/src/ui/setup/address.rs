//! This instance's address: as the settings have it, and as the browser sees it. Only the first one is ever used; the second
//! is a header's and shown for comparison.

use crate::config::is_loopback;
use crate::context::Context;
use axum::http::{HeaderMap, header};

/// Both addresses.
pub struct Address {
    /// What GitHub is told: `RIVET_PUBLIC_URL`.
    pub public: String,
    /// What the browser asked for, where it is another one.
    pub seen: Option<String>,
    /// Nobody else can reach it.
    pub local: bool,
}

impl Address {
    /// Of this request.
    pub fn of(context: &Context, headers: &HeaderMap) -> Self {
        let url = &context.config.public_url;
        let public = context.link("");
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let host = text(header::HOST.as_str()).unwrap_or("");
        // A proxy that says so knows by which scheme it was asked; without one the request itself was plain.
        let scheme = match text("x-forwarded-proto") {
            Some(proto) if proto.eq_ignore_ascii_case("https") => "https",
            Some(_) => "http",
            // Behind a proxy that says nothing only the host can be compared.
            None => url.scheme(),
        };
        let seen = format!("{scheme}://{host}");
        let same = seen.trim_end_matches('/').eq_ignore_ascii_case(&url.origin().ascii_serialization());
        let seen = (!host.is_empty() && !same).then(|| super::super::text::clean(&seen));
        Self { public, seen, local: is_loopback(url) }
    }
}
