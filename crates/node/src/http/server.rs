//! The server under the routes: connections are counted, handshakes, headers and the taking of an
//! answer have time limits, and a shutdown lets open requests finish. It must never wait for a
//! silent client.
//!
//! `axum::serve` has no limit for headers and connections, so this drives `hyper` itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use soma_codes::Code;
use soma_sdk::api::ApiError;
use soma_sdk::api::text::Text;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::clients::{Clients, Peer, Place};
use super::connections::{Connection, Connections};
use super::pace;
use super::patience::{Patience, Patient};
use crate::shutdown::Shutdown;

/// Time limit for a handshake, and for the headers of a request, including the pause before it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// The same for connections from this machine: a proxy keeps them open for its next client.
const LOCAL_HEADER_TIMEOUT: Duration = Duration::from_mins(3);
/// The most bytes of headers in a request.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// How long a client may leave an answer in this node's memory.
const PATIENCE: Patience =
    Patience { longest: pace::SILENCE_MAX, bytes_per_second: pace::BYTES_PER_SECOND };
/// Pause after a connection could not be accepted because the system is out of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The first byte of every TLS connection: that of a handshake.
const TLS_BEGINS: u8 = 22;

/// Where clients come in.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    /// How TLS is spoken; plain HTTP if it is not.
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) clients: Clients,
    pub(super) connections: Connections,
}

/// Serves until the node shuts down and its open requests have ended.
pub(super) async fn serve(door: Door, router: Router, shutdown: &Shutdown) {
    let Door { listener, tls, clients, connections } = door;
    let tls = tls.map(TlsAcceptor::from);
    let graceful = GracefulShutdown::new();
    let service = TowerToHyperService::new(router);
    let mut begun = std::pin::pin!(shutdown.begun());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut begun => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                connections.give_way();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Closed without an answer, which would cost what the limit saves.
        let (Ok(place), Some(connection)) = (clients.connect(peer), connections.open()) else {
            continue;
        };
        // Responses are small and awaited, so they are sent at once. A failure does no harm.
        let _unsupported = stream.set_nodelay(true);
        let served = Served { peer, place, connection, shutdown: shutdown.clone() };
        tokio::spawn(served.run(stream, tls.clone(), service.clone(), graceful.watcher()));
    }
    drop(listener);
    graceful.shutdown().await;
}

/// A connection that is being served.
struct Served {
    peer: SocketAddr,
    /// Its place among those of its client.
    place: Place,
    connection: Arc<Connection>,
    shutdown: Shutdown,
}

impl Served {
    /// Serves requests until the client or the node closes the connection.
    async fn run(
        self,
        stream: TcpStream,
        tls: Option<TlsAcceptor>,
        service: TowerToHyperService<Router>,
        watcher: Watcher,
    ) {
        let peer = self.peer;
        let served = async {
            match tls {
                None => self.answer(Patient::new(stream, PATIENCE), service, watcher).await,
                Some(tls) => {
                    if let Some(stream) = self.shake_hands(stream, tls).await {
                        self.answer(stream, service, watcher).await;
                    }
                }
            }
        };
        tokio::select! {
            () = served => {}
            () = self.connection.must_close() => {
                tracing::debug!(%peer, "a silent connection gives way");
            }
        }
        drop(self.place);
    }

    /// How long it may be silent.
    fn silence(&self) -> Duration {
        let local = self.peer.ip().to_canonical().is_loopback();
        if local { LOCAL_HEADER_TIMEOUT } else { HEADER_TIMEOUT }
    }

    /// Begins TLS; `None` if the client does not, or too late, or the node stops.
    async fn shake_hands(
        &self,
        stream: TcpStream,
        tls: TlsAcceptor,
    ) -> Option<TlsStream<Patient<TcpStream>>> {
        let peer = self.peer;
        let begin = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 1 && first != [TLS_BEGINS] {
                return refuse_plain(stream).await.map(|()| None);
            }
            tls.accept(Patient::new(stream, PATIENCE)).await.map(Some)
        };
        let begun = tokio::select! {
            begun = tokio::time::timeout(self.silence(), begin) => begun.ok()?,
            () = self.shutdown.begun() => return None,
        };
        begun.inspect_err(|error| tracing::debug!(%peer, %error, "no TLS connection")).ok()?
    }

    async fn answer(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        service: TowerToHyperService<Router>,
        watcher: Watcher,
    ) {
        let (peer, connection) = (self.peer, Arc::clone(&self.connection));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            request.extensions_mut().insert(Arc::clone(&connection));
            service.call(request)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.silence())
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(served).await {
            tracing::debug!(%peer, %error, "connection failed");
        }
    }
}

/// Tells a client that speaks plain HTTP that this port does not.
async fn refuse_plain(mut stream: TcpStream) -> std::io::Result<()> {
    let code = Code::TlsFailed;
    let error = ApiError {
        code: Text(code),
        message: "this port speaks TLS, and the request is plain HTTP".to_owned(),
        hint: Some("begin the URL with https://".to_owned()),
    };
    let body = serde_json::to_string(&error).map_err(std::io::Error::other)?;
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // A connection that is closed with unread bytes is reset, and the answer lost with it.
    let mut rest = stream.take(HEADER_BYTES_MAX as u64);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use axum::Router;
    use axum::routing::get;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use soma_sdk::trust::provider;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::{Clients, Connections, Door, TLS_BEGINS, serve};
    use crate::settings::ClientLimits;
    use crate::shutdown::Shutdown;

    async fn answers(address: SocketAddr) -> bool {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: node\r\n\r\n").await.unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.is_ok() && &begin == b"HTTP/1.1 200"
    }

    async fn answers_with_tls(address: SocketAddr) -> bool {
        let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy();
        let asked = client.build().unwrap().get(format!("https://{address}/")).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    fn tls() -> Arc<ServerConfig> {
        let made = rcgen::generate_simple_self_signed(vec!["node".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key);
        Arc::new(config.unwrap())
    }

    #[tokio::test]
    async fn silent_connections_hold_out_nobody_with_tls_or_without() {
        // Headers without an end; a handshake without an end, and one that does not begin.
        let silences: [&[u8]; 3] = [b"GET / HTTP/1.1\r\nhost: ", &[TLS_BEGINS, 3, 1, 2], &[]];
        for (tls, silence) in [(None, 0), (Some(tls()), 1), (Some(tls()), 2)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let router = Router::new().route("/", get(async || "ok"));
            let (clients, shutdown) = (Clients::new(ClientLimits::default()), Shutdown::default());
            let until = shutdown.clone();
            let (connections, speaks_tls) = (Connections::new(8), tls.is_some());
            let door = Door { listener, tls, clients, connections };
            let server = tokio::spawn(async move { serve(door, router, &until).await });
            let mut silent = Vec::new();
            for _ in 0..20 {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(silences[silence]).await.unwrap();
                silent.push(stream);
            }
            for _ in 0..20 {
                let answered = if speaks_tls {
                    answers_with_tls(address).await
                } else {
                    answers(address).await
                };
                assert!(answered);
            }
            let mut end = [0; 1];
            let read = silent[0].read(&mut end).await;
            assert!(matches!(read, Ok(0) | Err(_)), "the oldest one gave way");
            // The silent ones of now do not keep the server from stopping.
            shutdown.begin();
            if silence == 0 {
                silent.clear();
            }
            server.await.unwrap();
        }
    }
}
