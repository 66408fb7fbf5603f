//! The files that pages load. The name of each holds its hash, so that a browser keeps it for ever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::super::problem::Problem;

/// A file that pages load.
pub(super) struct Asset {
    /// The path, with the hash of the content.
    pub path: String,
    kind: &'static str,
    content: &'static str,
}

/// The style of all pages.
pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("css", "text/css; charset=utf-8", include_str!("../../../assets/pages/page.css")));
/// What keeps a page fresh.
pub(super) static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("js", "text/javascript; charset=utf-8", include_str!("../../../assets/pages/page.js")));
/// The icon of the browser's tab.
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("svg", "image/svg+xml", include_str!("../../../assets/pages/icon.svg")));

impl Asset {
    fn new(extension: &str, kind: &'static str, content: &'static str) -> Asset {
        let hash = Sha256::digest(content.as_bytes());
        let hash: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Asset { path: format!("/assets/page-{hash}.{extension}"), kind, content }
    }
}

/// `/assets/NAME`
pub(super) async fn asset(Path(name): Path<String>) -> Result<Response, Problem> {
    let path = format!("/assets/{name}");
    let asset = [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(|asset| asset.path == path);
    let asset = asset.ok_or_else(|| Problem::not_found("there is no such file; load the page again"))?;
    let headers = [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, asset.content).into_response())
}
