//! The client and servers that speak TLS, or should.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod issuer;

use std::path::PathBuf;

use issuer::{Issuer, listen, ok, serve_plain};
use soma_codes::{Code, Coded as _, Exit};
use soma_sdk::keys::PeerKey;
use soma_sdk::protocol::{ConsensusKey, Hash, Params, SecretKey};
use soma_sdk::transfer::Remote;
use soma_sdk::{Client, SdkError, Trust};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

/// A folder with the certificate of an issuer.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join("ca.pem");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn trust(&self, issuer: &Issuer) -> Trust {
        Trust::with_file(&self.write(issuer.pem())).unwrap()
    }
}

fn params() -> String {
    ok(&serde_json::to_string(&Params::local()).unwrap())
}

async fn fails(url: &str, trust: &Trust) -> SdkError {
    Client::trusting(url, trust).unwrap().params().await.unwrap_err()
}

#[tokio::test]
async fn a_certificate_of_the_systems_or_the_named_issuers_is_needed() {
    let (files, issuer) = (Files::new(), Issuer::new());
    let (port, heads) = issuer.issue("localhost").serve(params()).await;
    let url = format!("https://localhost:{port}");
    let error = fails(&url, &Trust::system()).await;
    assert_eq!((error.code(), error.exit()), (UNKNOWN, Exit::Verification));
    assert!(error.to_string().contains(&url) && error.hint().contains("--ca"));
    for other in [Issuer::new(), Issuer::with_other_kind_of_key()] {
        assert_eq!(fails(&url, &files.trust(&other)).await.code(), UNKNOWN);
    }
    assert!(heads.lock().unwrap().is_empty(), "the request was sent");
    let client = Client::trusting(&url, &files.trust(&issuer)).unwrap();
    assert_eq!(client.params().await.unwrap(), Params::local());
}

const UNKNOWN: Code = Code::CertificateUnknownIssuer;

#[tokio::test]
async fn a_certificate_is_for_the_name_and_the_time_of_the_question() {
    let (files, issuer) = (Files::new(), Issuer::new());
    let trust = files.trust(&issuer);
    let cases = [
        (issuer.issue("node.example"), Code::CertificateOtherName, "is for node.example"),
        (issuer.issue_for_years("localhost", 2019..2020), Code::CertificateNotValidNow, "expired "),
        (
            issuer.issue_for_years("localhost", 2090..2100),
            Code::CertificateNotValidNow,
            "is not valid yet",
        ),
    ];
    for (issued, code, said) in cases {
        let (port, heads) = issued.serve(params()).await;
        let error = fails(&format!("https://localhost:{port}"), &trust).await;
        assert_eq!((error.code(), error.exit()), (code, Exit::Verification));
        assert!(error.to_string().contains(said), "{error}");
        assert!(!error.is_transient() && error.is_passing());
        assert!(heads.lock().unwrap().is_empty(), "the request was sent");
        if code == Code::CertificateNotValidNow {
            assert!(error.hint().contains("clock"));
        }
    }
}

#[tokio::test]
async fn an_address_is_a_name_too() {
    let (files, issuer) = (Files::new(), Issuer::new());
    let (port, _) = issuer.issue("127.0.0.1").serve(params()).await;
    let client = Client::trusting(&format!("https://127.0.0.1:{port}"), &files.trust(&issuer));
    client.unwrap().params().await.unwrap();
}

#[tokio::test]
async fn a_server_that_speaks_the_other_of_tls_and_plain_http_is_named() {
    let issuer = Issuer::new();
    let (tls, _) = issuer.issue("localhost").serve(params()).await;
    let (plain, _) = listen(|mut stream, _| async move {
        let _hello = stream.read(&mut [0; 64]).await;
        let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        let _gone = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
        let _rest = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    for (url, hint) in [
        (format!("https://127.0.0.1:{plain}"), "http://"),
        (format!("http://127.0.0.1:{tls}"), "https://"),
    ] {
        let error = fails(&url, &Trust::system()).await;
        assert_eq!((error.code(), error.exit()), (Code::TlsFailed, Exit::Network), "{error}");
        assert!(error.hint().contains(hint), "{}", error.hint());
    }
}

#[tokio::test]
async fn a_handshake_that_is_interrupted_passes() {
    let (port, _) = listen(|stream, _| async move { drop(stream) }).await;
    let error = fails(&format!("https://127.0.0.1:{port}"), &Trust::system()).await;
    assert_eq!(error.code(), Code::Network);
    assert!(error.is_transient());
}

#[tokio::test]
async fn every_request_goes_below_the_path_of_the_url_and_shows_its_login() {
    let (files, issuer) = (Files::new(), Issuer::new());
    let (port, heads) = issuer.issue("localhost").serve(params()).await;
    for base in ["/soma", "/soma/"] {
        let url = format!("https://bob:secret%20word@localhost:{port}{base}");
        let client = Client::trusting(&url, &files.trust(&issuer)).unwrap();
        client.params().await.unwrap();
        assert!(!format!("{client:?} {}", client.url()).contains("secret"));
        let head = heads.lock().unwrap().pop().unwrap();
        assert!(head.starts_with("GET /soma/v1/params HTTP/1.1\r\n"), "{head}");
        // bob:secret word
        assert!(head.contains("\r\nauthorization: Basic Ym9iOnNlY3JldCB3b3Jk\r\n"), "{head}");
    }
}

#[tokio::test]
async fn a_permit_and_a_login_do_not_exclude_each_other() {
    let (files, issuer) = (Files::new(), Issuer::new());
    let none = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    let (port, heads) = issuer.issue("localhost").serve(none).await;
    let key = SecretKey::from_bytes(&[1; 32]);
    for (login, permit) in [("bob:secretword@", "soma-permit"), ("", "authorization")] {
        let url = format!("https://{login}localhost:{port}");
        let peer =
            PeerKey { key: key.clone(), chain: Hash([1; 32]), server: ConsensusKey([2; 32]) };
        let client = Client::trusting(&url, &files.trust(&issuer)).unwrap();
        let client = client.as_peer(peer).without_retries();
        let remote = Remote::ciphertext(Hash([3; 32]), 10);
        let to = files.0.path().join("file");
        client.download(&remote, &to, &mut |_, _| ()).await.unwrap_err();
        let head = heads.lock().unwrap().pop().unwrap();
        assert!(head.contains(&format!("\r\n{permit}: SomaPeer ")), "{head}");
        assert_eq!(head.matches("\r\nauthorization: ").count(), 1, "{head}");
    }
}

#[tokio::test]
async fn a_redirection_is_refused_and_the_url_of_the_node_is_named() {
    let moved = |location: &str| {
        format!(
            "HTTP/1.1 308 Permanent Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
        )
    };
    for (location, hint) in [
        ("https://node.example/soma/v1/params", "--url https://node.example/soma"),
        ("https://bob:secretword@node.example/login", "if what the message names is the node"),
        ("/soma/v1/params", "/soma"),
    ] {
        let (port, heads) = serve_plain(moved(location)).await;
        let url = format!("http://127.0.0.1:{port}");
        let error = Client::new(&url).unwrap().params().await.unwrap_err();
        assert_eq!((error.code(), error.exit()), (Code::RedirectRefused, Exit::Network));
        assert!(error.hint().contains(hint) && !error.hint().ends_with("params"), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("secretword"));
        assert!(!error.is_transient() && error.is_passing());
        assert_eq!(heads.lock().unwrap().len(), 1, "it was followed or asked again");
    }
}

#[test]
fn a_file_of_trusted_certificates_that_holds_none_is_refused() {
    let files = Files::new();
    let good = Issuer::new().pem();
    let broken = good.replacen("MI", "AA", 1);
    for text in ["", "no certificate", &good[..good.len() / 2], &broken] {
        let error = Trust::with_file(&files.write(text)).unwrap_err();
        assert_eq!((error.code(), error.exit()), (Code::BadCaFile, Exit::Config), "{text}");
        assert!(error.to_string().contains("ca.pem"), "{error}");
    }
    let error = Trust::with_file(&files.write([0x30, 0x82, 0xff, 0xff])).unwrap_err();
    assert_eq!(error.code(), Code::BadCaFile);
    let error = Trust::with_file(&files.0.path().join("missing")).unwrap_err();
    assert_eq!(error.code(), Code::FileNotFound);
    Trust::with_file(&files.write(format!("# two\n{good}\n{}", Issuer::new().pem()))).unwrap();
}
