//! Weights files over HTTP: parts of uploads for `weights/upload`, downloads in ranges. It must
//! never hold a whole file in memory, nor trust a length or a hash that the chain does not name.
//!
//! The two range headers are parsed here: one form of each is served, and a crate for them would
//! bring in six others.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use soma_codes::Code;
use soma_protocol::Hash;
use soma_sdk::api::text::Text;
use soma_sdk::api::{ApiError, Upload as UploadState};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::api::{Api, Path};
use super::lane::Running;
use super::pace;
use super::permits::Permitted;
use super::problem::Problem;
use crate::error::NodeError;
use crate::weights::{CHUNK_BYTES, Progress, Upload, WeightsFile};

/// How many pieces may be read from the network before they are written to disk.
const PIECES_AHEAD: usize = 8;

/// Runs work on files on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NodeError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Problem::from),
        Err(_) => Err(Problem::busy("the node is stopping")),
    }
}

impl From<Progress> for UploadState {
    fn from(progress: Progress) -> Self {
        Self {
            received: Text(progress.received_bytes),
            size_bytes: Text(progress.size_bytes),
            complete: progress.complete,
        }
    }
}

/// Progress of an upload of an encrypted file
#[utoipa::path(get, path = soma_sdk::api::routes::UPLOAD, tag = "files",
    params(("hash" = String, Path, description = "BLAKE3 of the encrypted file, as committed"),
        ("size_bytes" = u64, Query, description = "bytes of the encrypted file, as committed"),
        ("Authorization" = String, Header,
        description = "`Soma ADDRESS VALID_UNTIL_MS SIGNATURE` of the account that committed; in \
                       `Soma-Permit` if a server in front of the node needs this header")),
    responses((status = 200, body = UploadState), (status = 400, body = ApiError),
        (status = 403, body = ApiError), (status = 404, body = ApiError)))]
pub(super) async fn upload_progress(
    State(api): State<Api>,
    Permitted { file, uploader }: Permitted,
) -> Result<Json<UploadState>, Problem> {
    let weights = Arc::clone(&api.weights);
    let progress = blocking(move || weights.finish_upload(file, uploader)).await?;
    Ok(Json(progress.into()))
}

/// Upload the encrypted file of a commit, or resume the upload
#[utoipa::path(put, path = soma_sdk::api::routes::UPLOAD, tag = "files",
    params(("hash" = String, Path, description = "BLAKE3 of the encrypted file, as committed"),
        ("size_bytes" = u64, Query, description = "bytes of the encrypted file, as committed"),
        ("Authorization" = String, Header,
        description = "`Soma ADDRESS VALID_UNTIL_MS SIGNATURE` of the account that committed; in \
                       `Soma-Permit` if a server in front of the node needs this header"),
        ("Content-Range" = Option<String>, Header,
        description = "`bytes FROM-LAST/SIZE`; without it, the whole file")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = UploadState), (status = 400, body = ApiError),
        (status = 403, body = ApiError), (status = 404, body = ApiError),
        (status = 408, body = ApiError), (status = 409, body = ApiError),
        (status = 413, body = ApiError),
        (status = 422, body = ApiError), (status = 507, body = ApiError)))]
pub(super) async fn upload(
    State(api): State<Api>,
    Extension(running): Extension<Arc<Running>>,
    Permitted { file, uploader }: Permitted,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<UploadState>, Problem> {
    let offset = upload_offset(&headers, file.size_bytes)?;
    let progress = api.weights.progress(&file, &uploader);
    if progress.complete {
        return Ok(Json(progress.into()));
    }
    let weights = Arc::clone(&api.weights);
    let upload = blocking(move || weights.upload(file, uploader, offset)).await?;
    let progress = receive(&api, &running, upload, body).await?;
    Ok(Json(progress.into()))
}

/// Feeds the body to a thread that writes it, until the sender ends, fails or falls silent.
async fn receive(
    api: &Api,
    running: &Running,
    mut upload: Upload,
    body: Body,
) -> Result<Progress, Problem> {
    let (sender, mut pieces) = mpsc::channel::<Bytes>(PIECES_AHEAD);
    let writer = tokio::task::spawn_blocking(move || {
        while let Some(piece) = pieces.blocking_recv() {
            upload.write(&piece)?;
        }
        upload.finish()
    });
    let mut body = body.into_data_stream();
    let (begun, mut received) = (Instant::now(), 0_u64);
    let mut stalled = false;
    loop {
        let until = Instant::now().min(begun + pace::time_for(received)) + pace::SILENCE_MAX;
        match timeout_at(until, body.next()).await {
            Ok(Some(Ok(piece))) => {
                received = received.saturating_add(piece.len() as u64);
                if let Some(pace) = running.pace() {
                    pace.moved(piece.len());
                }
                api.metrics.upload_bytes.inc_by(piece.len() as u64);
                // The writer has stopped; its error says why.
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Ok(Some(Err(_))) | Err(_) => {
                stalled = true;
                break;
            }
        }
    }
    drop(sender);
    let progress = writer.await.map_err(|_| Problem::busy("the node is stopping"))??;
    if stalled && !progress.complete { Err(NodeError::UploadStalled.into()) } else { Ok(progress) }
}

/// The first byte of a `Content-Range: bytes FROM-LAST/SIZE`, whose size must be the committed one.
fn upload_offset(headers: &HeaderMap, size_bytes: u64) -> Result<u64, Problem> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else {
        return Ok(0);
    };
    let parse = || -> Option<(u64, u64)> {
        let (range, size) = value.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
        Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()?))
    };
    match parse() {
        Some((from, size)) if size == size_bytes => Ok(from),
        Some((_, size)) => Err(Problem::bad_request(format!(
            "the commit names {size_bytes} bytes, the request {size}"
        ))),
        None => Err(Problem::bad_request("Content-Range must read `bytes FROM-LAST/SIZE`")),
    }
}

/// The encrypted file of a commit
#[utoipa::path(get, path = soma_sdk::api::routes::CIPHERTEXT, tag = "files",
    params(("hash" = String, Path, description = "BLAKE3 of the encrypted file"),
        ("Range" = Option<String>, Header, description = "one range: `bytes=FROM-LAST`")),
    responses((status = 200, content_type = "application/octet-stream"),
        (status = 206, content_type = "application/octet-stream"),
        (status = 404, body = ApiError), (status = 416, body = ApiError)))]
pub(super) async fn ciphertext(
    State(api): State<Api>,
    Path(hash): Path<Text<Hash>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let weights = Arc::clone(&api.weights);
    let file = blocking(move || weights.ciphertext(&hash)).await?;
    serve(file, &hash, &headers)
}

/// Revealed weights, decrypted
#[utoipa::path(get, path = soma_sdk::api::routes::WEIGHTS, tag = "files",
    params(("hash" = String, Path, description = "BLAKE3 of the weights file"),
        ("Range" = Option<String>, Header, description = "one range: `bytes=FROM-LAST`")),
    responses((status = 200, content_type = "application/octet-stream"),
        (status = 206, content_type = "application/octet-stream"),
        (status = 404, body = ApiError), (status = 416, body = ApiError)))]
pub(super) async fn weights(
    State(api): State<Api>,
    Path(hash): Path<Text<Hash>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let turn = api.weights.turn(&hash).await;
    let weights = Arc::clone(&api.weights);
    // A client that leaves does not end the work, and so not its turn.
    let file = blocking(move || {
        let _turn = turn;
        weights.plaintext(&hash)
    });
    let file = file.await?;
    serve(file, &hash, &headers)
}

/// The half-open range of a `Range: bytes=FROM-LAST`; `None` without one, or with a form that may
/// be ignored.
fn requested(headers: &HeaderMap, size_bytes: u64) -> Result<Option<(u64, u64)>, Problem> {
    let Some(text) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    let Some((from, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Ok(None);
    };
    let range = match (from.parse::<u64>(), last.parse::<u64>()) {
        (Ok(from), Ok(last)) if from <= last => (from, size_bytes.min(last.saturating_add(1))),
        (Ok(from), Err(_)) if last.is_empty() => (from, size_bytes),
        (Err(_), Ok(tail)) if from.is_empty() => (size_bytes.saturating_sub(tail), size_bytes),
        _ => return Ok(None),
    };
    if range.0 < range.1 {
        return Ok(Some(range));
    }
    let message = format!("the file has {size_bytes} bytes");
    Err(Problem::new(Code::RangeNotSatisfiable, message))
}

fn serve(file: WeightsFile, hash: &Hash, headers: &HeaderMap) -> Result<Response, Problem> {
    let size_bytes = file.size_bytes();
    let range = requested(headers, size_bytes)?;
    let (from, to) = range.unwrap_or((0, size_bytes));
    let mut response = Body::from_stream(pieces(file, from, to)).into_response();
    let mut set = |name, value: String| {
        // Digits, hex and fixed words always make a header value.
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, "application/octet-stream".to_owned());
    set(header::CONTENT_LENGTH, (to - from).to_string());
    set(header::ACCEPT_RANGES, "bytes".to_owned());
    set(header::ETAG, format!("\"{hash}\""));
    set(header::CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned());
    if range.is_some() {
        set(header::CONTENT_RANGE, format!("bytes {from}-{}/{size_bytes}", to - 1));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// The bytes from `from` to `to`, with one chunk in memory at a time, read once the client has
/// taken the previous one.
fn pieces(
    file: WeightsFile,
    from: u64,
    to: u64,
) -> impl stream::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::try_unfold((file, from), move |(mut file, at)| {
        read_piece(move || {
            let left = usize::try_from(to - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            if left == 0 {
                return Ok(None);
            }
            let mut piece = vec![0; left];
            file.read_at(at, &mut piece)?;
            Ok(Some((Bytes::from(piece), (file, at + left as u64))))
        })
    })
}

async fn read_piece<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NodeError> + Send + 'static,
) -> Result<T, std::io::Error> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?;
    done.map_err(|error| {
        tracing::error!(%error, "a download was interrupted");
        std::io::Error::other(error)
    })
}
