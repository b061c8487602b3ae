//! Uploads and downloads, against a real server on this machine that fails and sends wrong bytes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use soma_codes::{Coded as _, Exit};
use soma_sdk::api::permit::UploadPermit;
use soma_sdk::api::routes;
use soma_sdk::api::{ApiError, Upload};
use soma_sdk::protocol::{Hash, SecretKey};
use soma_sdk::transfer::{Remote, Uploader};
use soma_sdk::{Client, SdkError, Text};

/// How the server behaves, and what it received.
#[derive(Default)]
struct Server {
    content: Vec<u8>,
    /// Serve no more than this in one answer, then interrupt it.
    break_after: Option<usize>,
    ignores_ranges: bool,
    requests: AtomicU32,
    received: Mutex<Vec<u8>>,
    expected: u64,
    /// Interrupt this many uploads after half of their piece.
    breaks: AtomicU32,
}

async fn download(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    server.requests.fetch_add(1, Ordering::SeqCst);
    let range = headers.get(header::RANGE).filter(|_| !server.ignores_ranges);
    let from = range.map_or(0, |range| {
        let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
        range.strip_suffix('-').unwrap().parse::<usize>().unwrap()
    });
    let size = server.content.len();
    if from >= size {
        return refusal(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable");
    }
    let to = server.break_after.map_or(size, |limit| size.min(from + limit));
    let promised = size - from;
    let body = server.content[from..to].to_vec();
    let pieces: Vec<Result<Bytes, std::io::Error>> = if to < size {
        vec![Ok(body.into()), Err(std::io::Error::other("the line is cut"))]
    } else {
        vec![Ok(body.into())]
    };
    let body = Body::from_stream(futures_util::stream::iter(pieces).then_slowly());
    let mut response = Response::builder().header(header::CONTENT_LENGTH, promised);
    if range.is_some() {
        let range = format!("bytes {from}-{}/{size}", size - 1);
        response =
            response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
    }
    response.body(body).unwrap()
}

/// Lets what was sent arrive before the connection is closed.
trait ThenSlowly: futures_util::Stream + Sized {
    fn then_slowly(self) -> impl futures_util::Stream<Item = Self::Item>
    where
        Self::Item: Send,
    {
        futures_util::StreamExt::then(self, |item| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            item
        })
    }
}

impl<S: futures_util::Stream> ThenSlowly for S {}

fn refusal(status: StatusCode, code: &str) -> Response {
    let error =
        ApiError { code: Text(code.parse().unwrap()), message: code.to_owned(), hint: None };
    (status, axum::Json(error)).into_response()
}

fn upload_state(server: &Server) -> Upload {
    let received = server.received.lock().unwrap().len() as u64;
    let complete = received == server.expected;
    Upload { received: Text(received), size_bytes: Text(server.expected), complete }
}

async fn look(State(server): State<Arc<Server>>, Path(_): Path<String>) -> Response {
    axum::Json(upload_state(&server)).into_response()
}

fn uploader() -> Uploader<'static> {
    static KEY: LazyLock<SecretKey> = LazyLock::new(|| SecretKey::from_bytes(&[1; 32]));
    Uploader { key: &KEY, chain: Hash([2; 32]) }
}

/// Whether the request carries a permit for this file.
fn permitted(headers: &HeaderMap, hash: &str) -> bool {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let permit: Option<UploadPermit> = header.and_then(|text| text.parse().ok());
    permit.is_some_and(|permit| permit.permits(&Hash([2; 32]), &hash.parse().unwrap(), 0))
}

async fn take(
    Path(hash): Path<String>,
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    server.requests.fetch_add(1, Ordering::SeqCst);
    assert!(permitted(&headers, &hash), "every piece is signed");
    let range = headers[header::CONTENT_RANGE].to_str().unwrap().to_owned();
    let from = range.strip_prefix("bytes ").unwrap().split('-').next().unwrap();
    let mut received = server.received.lock().unwrap();
    if from.parse::<usize>().unwrap() != received.len() {
        return refusal(StatusCode::CONFLICT, "upload_offset");
    }
    let breaks = |left: u32| left.checked_sub(1);
    if server.breaks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, breaks).is_ok() {
        received.extend_from_slice(&body[..body.len() / 2]);
        return refusal(StatusCode::BAD_GATEWAY, "http_error");
    }
    received.extend_from_slice(&body);
    drop(received);
    axum::Json(upload_state(&server)).into_response()
}

async fn serve(server: Server) -> (Arc<Server>, Client) {
    let server = Arc::new(server);
    let router = Router::new()
        .route(routes::WEIGHTS, get(download))
        .route(routes::UPLOAD, get(look).put(take))
        .layer(DefaultBodyLimit::disable())
        .with_state(server.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (server, client)
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 7 + at / 256) % 256).unwrap()).collect()
}

fn remote(content: &[u8]) -> Remote {
    Remote::weights(Hash::of_bytes(content), content.len() as u64)
}

#[tokio::test]
async fn an_interrupted_download_is_resumed() {
    let content = content(200_000);
    let server =
        Server { content: content.clone(), break_after: Some(70_000), ..Server::default() };
    let (server, client) = serve(server).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("weights");
    let mut steps = Vec::new();
    let progress = &mut |done, total| steps.push((done, total));
    client.download(&remote(&content), &to, progress).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), content);
    assert_eq!(server.requests.load(Ordering::SeqCst), 3);
    assert!(steps.is_sorted(), "nothing is fetched twice");
    assert_eq!(steps.last(), Some(&(200_000, 200_000)));
    assert!(!folder.path().join("weights.part").exists());
}

#[tokio::test]
async fn a_download_of_an_earlier_process_is_resumed() {
    let content = content(50_000);
    let (server, client) = serve(Server { content: content.clone(), ..Server::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("weights");
    std::fs::write(folder.path().join("weights.part"), &content[..20_000]).unwrap();
    let mut first = None;
    let progress = &mut |done, _| first = first.or(Some(done));
    client.download(&remote(&content), &to, progress).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), content);
    assert!(first.unwrap() > 20_000);
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_download_to_a_link_replaces_what_it_names_and_a_device_is_refused_at_once() {
    let content = content(50_000);
    let (server, client) = serve(Server { content: content.clone(), ..Server::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let [real, link] = ["real", "link"].map(|name| folder.path().join(name));
    std::os::unix::fs::symlink("real", &link).unwrap();
    client.download(&remote(&content), &link, &mut |_, _| {}).await.unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::read(&real).unwrap(), content);
    let device = std::path::Path::new("/dev/null");
    let refused = client.download(&remote(&content), device, &mut |_, _| {}).await.unwrap_err();
    assert_eq!(refused.code().as_str(), "not_a_file");
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_damaged_part_is_downloaded_again_from_the_start() {
    let content = content(50_000);
    let (_, client) = serve(Server { content: content.clone(), ..Server::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("weights");
    for damaged in [vec![1; 20_000], vec![1; 50_000], vec![1; 60_000]] {
        std::fs::write(folder.path().join("weights.part"), damaged).unwrap();
        client.download(&remote(&content), &to, &mut |_, _| {}).await.unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), content);
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_start() {
    let content = content(50_000);
    let server = Server { content: content.clone(), ignores_ranges: true, ..Server::default() };
    let (_, client) = serve(server).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("weights");
    std::fs::write(folder.path().join("weights.part"), &content[..20_000]).unwrap();
    client.download(&remote(&content), &to, &mut |_, _| {}).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), content);
}

#[tokio::test]
async fn a_client_without_retries_fails_at_the_first_error_and_keeps_the_part() {
    let content = content(50_000);
    let (server, client) =
        serve(Server { content: content.clone(), break_after: Some(20_000), ..Server::default() })
            .await;
    let client = client.without_retries();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("weights");
    for requests in 1..=2 {
        let error = client.download(&remote(&content), &to, &mut |_, _| {}).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert_eq!(server.requests.load(Ordering::SeqCst), requests);
    }
    client.download(&remote(&content), &to, &mut |_, _| {}).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), content);
}

#[tokio::test]
async fn corrupted_bytes_are_rejected_and_nothing_is_kept() {
    let honest = content(50_000);
    let mut corrupted = honest.clone();
    corrupted[40_000] ^= 1;
    let (_, client) = serve(Server { content: corrupted, ..Server::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("weights");
    let error = client.download(&remote(&honest), &to, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(error, SdkError::WrongHash { .. }));
    assert_eq!(error.exit(), Exit::Verification);
    assert_eq!(error.exit().number(), 7);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_longer_or_shorter_than_expected_is_rejected() {
    let honest = content(50_000);
    for served in [content(60_000), content(40_000)] {
        let (_, client) = serve(Server { content: served, ..Server::default() }).await;
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("weights");
        let error = client.download(&remote(&honest), &to, &mut |_, _| {}).await.unwrap_err();
        assert!(matches!(error, SdkError::WrongSize { .. }), "{error:?}");
        assert_eq!(error.exit(), Exit::Verification);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_download_by_another_process_is_waited_for_and_shared() {
    let content = content(50_000);
    let nobody = Client::new("http://127.0.0.1:1").unwrap().without_retries();
    let folder = tempfile::tempdir().unwrap();
    let (to, part_path) = (folder.path().join("weights"), folder.path().join("weights.part"));
    let part = std::fs::File::create(&part_path).unwrap();
    part.lock().unwrap();
    let other = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        std::fs::write(&part_path, &content).unwrap();
        std::fs::rename(&part_path, &to).unwrap();
        drop(part);
    };
    let remote = remote(&content);
    let progress = &mut |_, _| {};
    let (downloaded, ()) = tokio::join!(nobody.download(&remote, &to, progress), other);
    downloaded.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), content);
}

#[tokio::test]
async fn many_downloads_of_one_file_at_once_bring_it_once() {
    let content = content(50_000);
    let (_, client) = serve(Server { content: content.clone(), ..Server::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let (to, remote) = (folder.path().join("weights"), remote(&content));
    let download = async |_| client.download(&remote, &to, &mut |_, _| {}).await.unwrap();
    futures_util::future::join_all((0..8).map(download)).await;
    assert_eq!(std::fs::read(&to).unwrap(), content);
}

#[tokio::test]
async fn an_upload_continues_from_the_bytes_that_the_node_has() {
    let piece = usize::try_from(routes::UPLOAD_PIECE_BYTES).unwrap();
    let content = content(2 * piece + 1_000);
    let server = Server {
        expected: content.len() as u64,
        received: Mutex::new(content[..1_234].to_vec()),
        breaks: AtomicU32::new(2),
        ..Server::default()
    };
    let (server, client) = serve(server).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cipher");
    std::fs::write(&path, &content).unwrap();
    let mut last = 0;
    let hash = Hash::of_bytes(&content);
    client.upload(&path, hash, &uploader(), &mut |done, _| last = done).await.unwrap();
    assert!(*server.received.lock().unwrap() == content);
    assert_eq!(last, content.len() as u64);

    let requests = server.requests.load(Ordering::SeqCst);
    client.upload(&path, hash, &uploader(), &mut |_, _| {}).await.unwrap();
    assert_eq!(server.requests.load(Ordering::SeqCst), requests, "what is there is not sent again");
}

#[tokio::test]
async fn a_file_of_another_length_than_committed_is_not_uploaded() {
    let (server, client) = serve(Server { expected: 10, ..Server::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cipher");
    std::fs::write(&path, b"too long by far").unwrap();
    let error =
        client.upload(&path, Hash::default(), &uploader(), &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(error, SdkError::WrongSize { expected: 10, found: 15, .. }));
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
}
