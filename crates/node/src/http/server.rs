//! The server under the routes: connections are counted, headers and the taking of an answer have
//! time limits, and a shutdown lets open requests finish. It must never wait for a silent client.
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
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use super::clients::{Clients, Peer, Place};
use super::connections::{Connection, Connections};
use super::pace;
use super::patience::{Patience, Patient};
use crate::shutdown::Shutdown;

/// Time limit for the headers of a request, including the pause before it.
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

/// Serves until the node shuts down and its open requests have ended.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    clients: Clients,
    connections: Connections,
    shutdown: &Shutdown,
) {
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
        let served = Served { peer, place, connection };
        tokio::spawn(served.run(stream, service.clone(), &graceful));
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
}

impl Served {
    /// Serves requests until the client or the node closes the connection.
    fn run(
        self,
        stream: TcpStream,
        service: TowerToHyperService<Router>,
        graceful: &GracefulShutdown,
    ) -> impl Future<Output = ()> + Send + use<> {
        // Responses are small and awaited, so they are sent at once. A failure does no harm.
        let _unsupported = stream.set_nodelay(true);
        let Self { peer, place, connection } = self;
        let of_requests = Arc::clone(&connection);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            request.extensions_mut().insert(Arc::clone(&of_requests));
            service.call(request)
        });
        let local = peer.ip().to_canonical().is_loopback();
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(if local { LOCAL_HEADER_TIMEOUT } else { HEADER_TIMEOUT })
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(Patient::new(stream, PATIENCE)), service);
        let served = graceful.watch(served);
        async move {
            tokio::select! {
                ended = served => if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "connection failed");
                },
                () = connection.must_close() => {
                    tracing::debug!(%peer, "a silent connection gives way");
                }
            }
            drop(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::{Clients, Connections, serve};
    use crate::settings::ClientLimits;
    use crate::shutdown::Shutdown;

    async fn answers(address: SocketAddr) -> bool {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: node\r\n\r\n").await.unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.is_ok() && &begin == b"HTTP/1.1 200"
    }

    #[tokio::test]
    async fn silent_connections_hold_out_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "ok"));
        let (clients, shutdown) = (Clients::new(ClientLimits::default()), Shutdown::default());
        let until = shutdown.clone();
        let server = tokio::spawn(async move {
            serve(listener, router, clients, Connections::new(8), &until).await;
        });
        let mut silent = Vec::new();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
            silent.push(stream);
        }
        for _ in 0..20 {
            assert!(answers(address).await);
        }
        let mut end = [0; 1];
        let read = silent[0].read(&mut end).await;
        assert!(matches!(read, Ok(0) | Err(_)), "the oldest one gave way");
        shutdown.begin();
        drop(silent);
        server.await.unwrap();
    }
}
