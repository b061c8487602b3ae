//! The page: dashboard and explorer, built from `page/` and compiled into this program. It asks the
//! API like any other client, and every page's path is that of its JSON without `/v1`.
//!
//! It must load nothing from another host and run nothing that is not in its files: text from the
//! chain is never markup, and the policy below says so to the browser.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use include_dir::{Dir, include_dir};
use soma_codes::Code;
use soma_sdk::api::routes;

use super::problem::Problem;

/// What `npm run build` in `page/` wrote.
static BUILT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/page");
/// The document that all pages begin with.
const DOCUMENT: &str = "index.html";
/// The folder of the files whose names contain a hash of their content.
const ASSETS: &str = "assets";

/// Answers of the API that have a page.
const PAGES: [&str; 17] = [
    routes::STATUS,
    routes::MODELS,
    routes::MODEL,
    routes::TARGETS,
    routes::TARGET,
    routes::SUBMISSION,
    routes::EPOCH,
    routes::BLOCKS,
    routes::BLOCK,
    routes::TRANSACTION,
    routes::ACCOUNT,
    routes::VALIDATORS,
    routes::VALIDATOR,
    routes::PARAMS,
    routes::GOVERNANCE,
    routes::ARCHITECTURE,
    routes::GENESIS,
];

/// Pages that show no answer of the API: they work on what the reader gives them.
const TOOLS: [&str; 2] = ["/runs", "/trial"];

/// Nothing is loaded or asked but from this node, nothing is run but files, no text becomes markup
/// (Svelte's own templates apart), and nobody shows the page in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types svelte-trusted-html";

/// A file as it is sent.
struct Served {
    path: &'static str,
    kind: &'static str,
    plain: &'static [u8],
    gzip: Vec<u8>,
    tag: HeaderValue,
}

/// The files, compressed once.
static FILES: LazyLock<Vec<Served>> = LazyLock::new(|| {
    let assets = BUILT.get_dir(ASSETS).into_iter().flat_map(Dir::files);
    BUILT.files().chain(assets).filter_map(Served::of).collect()
});

impl Served {
    /// `None` for a file that is not part of the page.
    fn of(file: &'static include_dir::File<'static>) -> Option<Self> {
        let path = file.path().to_str()?;
        let kind = match file.path().extension()?.to_str()? {
            "html" => "text/html; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => return None,
        };
        let plain = file.contents();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).ok()?;
        let hash = blake3::hash(plain).to_hex();
        let tag = HeaderValue::from_str(&format!("\"{}\"", &hash[..32])).ok()?;
        Some(Self { path, kind, plain, gzip: encoder.finish().ok()?, tag })
    }

    fn named(path: &str) -> Option<&'static Self> {
        FILES.iter().find(|file| file.path == path)
    }

    fn response(&self, asked: &HeaderMap) -> Response {
        let names = |name: HeaderName, what: &str| {
            let values = asked.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).any(|value| value.trim() == what)
        };
        // The name of an asset changes with its content.
        let lasting = if self.path.starts_with(ASSETS) {
            HeaderValue::from_static("public, max-age=31536000, immutable")
        } else {
            HeaderValue::from_static("no-cache")
        };
        let common = [
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (header::VARY, HeaderValue::from_static("accept-encoding")),
            (header::CACHE_CONTROL, lasting),
            (header::ETAG, self.tag.clone()),
        ];
        let tag = self.tag.to_str().unwrap_or_default();
        if names(header::IF_NONE_MATCH, tag) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(self.kind))];
        if names(header::ACCEPT_ENCODING, "gzip") {
            let coding = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
            return (common, kind, coding, self.gzip.clone()).into_response();
        }
        (common, kind, self.plain).into_response()
    }
}

/// The routes of the page.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let router = Router::new().route("/", get(document)).route("/assets/{name}", get(asset));
    let of_answers = PAGES.iter().filter_map(|path| path.strip_prefix("/v1"));
    of_answers.chain(TOOLS).fold(router, |router, path| router.route(path, get(document)))
}

async fn document(headers: HeaderMap) -> Response {
    match Served::named(DOCUMENT) {
        Some(file) => file.response(&headers),
        None => no_file(DOCUMENT).into_response(),
    }
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match Served::named(&format!("{ASSETS}/{name}")) {
        Some(file) => file.response(&headers),
        None => no_file(&name).into_response(),
    }
}

fn no_file(name: &str) -> Problem {
    Problem::new(Code::NoSuchRoute, format!("the page has no file {name:?}"))
}

/// The document for a browser that asks for a page that does not exist; `None` for others.
pub(super) fn not_found(path: &str, headers: &HeaderMap) -> Option<Response> {
    let accepts = headers.get(header::ACCEPT)?.to_str().ok()?;
    if path.starts_with("/v1/") || !accepts.contains("text/html") {
        return None;
    }
    // Nothing is there that the browser could have already.
    let mut headers = headers.clone();
    headers.remove(header::IF_NONE_MATCH);
    let mut response = Served::named(DOCUMENT)?.response(&headers);
    *response.status_mut() = StatusCode::NOT_FOUND;
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::{ASSETS, DOCUMENT, FILES, Served};

    /// What the browser loads before the first picture, on a line that is not this machine's.
    const GZIP_BYTES_MAX: usize = 100 << 10;

    #[test]
    fn the_document_names_every_asset_and_all_are_small() {
        let document = std::str::from_utf8(Served::named(DOCUMENT).unwrap().plain).unwrap();
        let assets: Vec<_> = FILES.iter().filter(|file| file.path.starts_with(ASSETS)).collect();
        assert!(assets.len() >= 3);
        for asset in assets {
            assert!(document.contains(asset.path), "{} is left over", asset.path);
        }
        let all: usize = FILES.iter().map(|file| file.gzip.len()).sum();
        assert!(all < GZIP_BYTES_MAX, "{all} bytes");
        assert!(!document.contains("<style") && !document.contains("<script>"));
    }
}
