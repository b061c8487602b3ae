//! An issuer of certificates for tests, and servers that speak TLS with them.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "test programs of several crates use parts of this"
)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ED25519, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The heads of the requests that a server has received.
pub(crate) type Heads = Arc<Mutex<Vec<String>>>;

/// Who signs certificates.
pub(crate) struct Issuer(CertifiedIssuer<'static, KeyPair>);

/// A chain of certificates and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        Self::with(KeyPair::generate().unwrap())
    }

    /// Has the same name, and a key of another kind.
    pub(crate) fn with_other_kind_of_key() -> Self {
        Self::with(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    fn with(key: KeyPair) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.issue_for_years(name, 2020..2100)
    }

    pub(crate) fn issue_for_years(&self, name: &str, years: std::ops::Range<i32>) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { chain: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Issued {
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A server that gives this answer to every request, and its port.
    pub(crate) async fn serve(&self, answer: impl Into<String>) -> (u16, Heads) {
        let (acceptor, answer) = (self.acceptor(), answer.into());
        listen(move |stream, heads| {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _gone = answer_each(stream, &heads, &answer).await;
                }
            }
        })
        .await
    }
}

/// A server in plain HTTP that gives this answer to every request, and its port.
pub(crate) async fn serve_plain(answer: impl Into<String>) -> (u16, Heads) {
    let answer = answer.into();
    listen(move |stream, heads| {
        let answer = answer.clone();
        async move {
            let _gone = answer_each(stream, &heads, &answer).await;
        }
    })
    .await
}

/// A proxy that connects every client to this server, and its port.
pub(crate) async fn proxy(server: SocketAddr) -> (u16, Heads) {
    listen(move |mut client, heads| async move {
        let Ok(head) = read_head(&mut client).await else { return };
        heads.lock().unwrap().push(head);
        let connected = b"HTTP/1.1 200 Connection established\r\n\r\n";
        if client.write_all(connected).await.is_ok()
            && let Ok(mut server) = TcpStream::connect(server).await
        {
            let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    })
    .await
}

/// Serves each connection; the port is free, and the task ends with the runtime.
pub(crate) async fn listen<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream, Heads) -> F + Send + 'static,
) -> (u16, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, heads) = (listener.local_addr().unwrap().port(), Heads::default());
    let shared = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&shared)));
        }
    });
    (port, heads)
}

async fn answer_each(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    heads: &Heads,
    answer: &str,
) -> std::io::Result<()> {
    loop {
        let head = read_head(&mut stream).await?;
        heads.lock().unwrap().push(head);
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
    }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// An answer with this body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
