//! A small server that speaks as much of the protocol of S3 as is used here, on a real socket, and
//! fails as it is told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use object_store::aws::AmazonS3Builder;

use super::{Bucket, Service};

/// The secret key, which must not be seen anywhere.
pub(crate) const SECRET: &str = "a-secret-that-nobody-sees";

/// What it does instead of what it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// It answers 503.
    Unavailable,
    /// It refuses the credentials, and repeats them.
    Refuses,
    /// It ends bodies in the middle.
    Cuts,
    /// It changes a byte of what it returns.
    Changes,
    /// It keeps less than it was sent.
    Shortens,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<usize, Vec<u8>>,
    fault: Fault,
    read_bytes: usize,
}

/// The server.
#[derive(Clone, Default)]
pub(crate) struct FakeS3(Arc<Mutex<Inner>>);

impl FakeS3 {
    /// Starts it; returns its bucket, too.
    pub(crate) async fn start() -> (Self, Bucket) {
        let fake = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let builder = AmazonS3Builder::new().with_endpoint(endpoint).with_allow_http(true);
        let builder = builder.with_access_key_id("AKIA-ID").with_secret_access_key(SECRET);
        (fake, Bucket::Service(Service::s3(builder, "bucket", "a/b").unwrap()))
    }

    pub(crate) fn fail(&self, fault: Fault) {
        self.0.lock().unwrap().fault = fault;
    }

    /// The names of the objects.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().objects.keys().cloned().collect()
    }

    /// Changes or removes an object.
    pub(crate) fn with_object(&self, name: &str, change: impl FnOnce(&mut Vec<u8>) -> bool) {
        let mut inner = self.0.lock().unwrap();
        let object = inner.objects.get_mut(name).unwrap();
        if !change(object) {
            inner.objects.remove(name);
        }
    }

    /// How many bytes of objects were asked for.
    pub(crate) fn read_bytes(&self) -> usize {
        self.0.lock().unwrap().read_bytes
    }
}

async fn answer(State(fake): State<FakeS3>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut inner = fake.0.lock().unwrap();
    match inner.fault {
        Fault::Unavailable => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Fault::Refuses => {
            let text = format!("<Error><Code>AccessDenied</Code><Signed>{SECRET}</Signed></Error>");
            return (StatusCode::FORBIDDEN, text).into_response();
        }
        _ => (),
    }
    let name = head.uri.path().strip_prefix("/bucket").unwrap().trim_start_matches('/').to_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    match (head.method, query.as_str()) {
        (Method::GET, query) if query.contains("list-type") => listing(&inner),
        (Method::GET | Method::HEAD, _) => object(&mut inner, &name, &head.headers),
        (Method::POST, query) if query.contains("uploads") => {
            inner.parts.clear();
            "<R><UploadId>1</UploadId></R>".into_response()
        }
        (Method::POST, _) => {
            let whole = std::mem::take(&mut inner.parts).into_values().flatten().collect();
            inner.objects.insert(name, whole);
            "<R><ETag>\"x\"</ETag></R>".into_response()
        }
        (Method::PUT, query) => {
            let kept = body.len() - usize::from(inner.fault == Fault::Shortens);
            let number = query.split('&').find_map(|part| part.strip_prefix("partNumber="));
            match number {
                Some(number) => inner.parts.insert(number.parse().unwrap(), body[..kept].to_vec()),
                None => inner.objects.insert(name, body[..kept].to_vec()),
            };
            ([("etag", "\"x\"")], "").into_response()
        }
        (Method::DELETE, query) if query.contains("uploadId") => {
            inner.parts.clear();
            StatusCode::NO_CONTENT.into_response()
        }
        (Method::DELETE, _) => {
            inner.objects.remove(&name);
            StatusCode::NO_CONTENT.into_response()
        }
        (method, query) => panic!("{method} {name} {query}"),
    }
}

fn listing(inner: &Inner) -> Response {
    let mut text = "<L>".to_owned();
    for (name, object) in &inner.objects {
        let size = object.len();
        write!(
            text,
            "<Contents><Key>{name}</Key><Size>{size}</Size>\
             <LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        )
        .unwrap();
    }
    (text + "</L>").into_response()
}

fn object(inner: &mut Inner, name: &str, headers: &HeaderMap) -> Response {
    let Some(object) = inner.objects.get(name).cloned() else {
        return (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>").into_response();
    };
    let range = headers.get("range").and_then(|range| range.to_str().ok());
    let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let (from, to) = match range {
        Some((from, last)) => (from.parse().unwrap(), last.parse::<usize>().unwrap() + 1),
        None => (0, object.len()),
    };
    let to = to.min(object.len());
    let mut bytes = object[from..to].to_vec();
    inner.read_bytes += bytes.len();
    if inner.fault == Fault::Changes {
        bytes[0] ^= 1;
    }
    let response = Response::builder()
        .status(if range.is_some() { 206 } else { 200 })
        .header("content-length", bytes.len())
        .header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        .header("etag", "\"x\"");
    let response = match range {
        Some(_) => {
            let range = format!("bytes {from}-{}/{}", to - 1, object.len());
            response.header("content-range", range)
        }
        None => response,
    };
    let body = if inner.fault == Fault::Cuts {
        let half = Bytes::from(bytes).slice(..to.saturating_sub(from) / 2);
        let cut = futures_util::stream::iter([Ok(half), Err(std::io::Error::other("cut"))]);
        Body::from_stream(cut)
    } else {
        Body::from(bytes)
    };
    response.body(body).unwrap()
}
