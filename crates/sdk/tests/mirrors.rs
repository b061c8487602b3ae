//! Encrypted files from mirrors, on real sockets: only what has the right hash is kept, and a
//! mirror that lies is named and left alone.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use soma_protocol::Hash;
use soma_sdk::mirrors::Mirrors;
use soma_sdk::transfer::Remote;
use soma_sdk::{SdkError, Trust};

/// A server of static files that has one, under any name that ends with its hash.
async fn mirror(name: Hash, file: Option<Vec<u8>>) -> (String, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let answer = async move |uri: Uri, headers: HeaderMap| -> Response {
        count.fetch_add(1, Ordering::SeqCst);
        assert_eq!(uri.path(), format!("/bucket/files/{name}"));
        let Some(file) = file.clone() else {
            return (StatusCode::FORBIDDEN, "<Error>AccessDenied</Error>").into_response();
        };
        let from = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
        let from = from.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let Some(from) = from.map(|from| from.parse::<usize>().unwrap()) else {
            return file.into_response();
        };
        let range = format!("bytes {from}-{}/{}", file.len() - 1, file.len());
        let response = Response::builder().status(206).header(header::CONTENT_RANGE, range);
        response.body(Body::from(file[from..].to_vec())).unwrap()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/bucket/files/", listener.local_addr().unwrap());
    let app = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, asked)
}

/// Downloads from mirrors; returns whether it came, and what was told.
async fn download(mirrors: &Mirrors, remote: &Remote, to: &std::path::Path) -> (bool, String) {
    let told = Mutex::new(String::new());
    let tell = |text: &str| *told.lock().unwrap() += text;
    let came = mirrors.download(remote, to, &mut |_, _| (), &tell).await;
    (came, told.into_inner().unwrap())
}

#[tokio::test]
async fn a_file_comes_from_the_first_mirror_that_has_it_and_one_that_lies_is_named_and_dropped() {
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let hash = Hash::of_bytes(&content);
    let remote = Remote::ciphertext(hash, content.len() as u64);
    let mut wrong = content.clone();
    wrong[700_000] ^= 1;
    let (empty_url, empty) = mirror(hash, None).await;
    let (liar_url, liar) = mirror(hash, Some(wrong)).await;
    let (honest_url, honest) = mirror(hash, Some(content.clone())).await;
    let urls = [empty_url, liar_url.clone(), honest_url];
    let mirrors = Mirrors::new(&urls, &Trust::system()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("file");
    let (came, told) = download(&mirrors, &remote, &to).await;
    assert!(came, "{told}");
    assert_eq!(std::fs::read(&to).unwrap(), content);
    let named = liar_url.trim_end_matches('/');
    assert!(told.contains(named) && told.matches("mirror").count() == 1, "{told}");

    std::fs::remove_file(&to).unwrap();
    // What an earlier attempt has left is continued.
    std::fs::write(folder.path().join("file.part"), &content[..500_000]).unwrap();
    let (came, told) = download(&mirrors, &remote, &to).await;
    assert!(came && told.is_empty(), "{told}");
    assert_eq!(std::fs::read(&to).unwrap(), content);
    let asked = [&empty, &liar, &honest].map(|asked| asked.load(Ordering::SeqCst));
    assert_eq!(asked, [2, 1, 2], "the liar was left alone");
}

#[tokio::test]
async fn without_a_mirror_that_has_the_file_the_node_is_to_be_asked() {
    let hash = Hash::of_bytes(b"file");
    let (url, _) = mirror(hash, None).await;
    let nowhere = "http://127.0.0.1:1/x".to_owned();
    let mirrors = Mirrors::new(&[url, nowhere.clone()], &Trust::system()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("file");
    let (came, told) = download(&mirrors, &Remote::ciphertext(hash, 4), &to).await;
    assert!(!came && told.contains(&nowhere) && !to.exists(), "{told}");
    let bad = Mirrors::new(&["ftp://host".to_owned()], &Trust::system()).unwrap_err();
    assert!(matches!(bad, SdkError::Url { .. }));
}
