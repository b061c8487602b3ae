//! The server under the routes: connections are counted, headers have a time limit, and a shutdown
//! lets open requests finish. It must never wait for a silent client.
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
use tokio::sync::Semaphore;

use super::clients::{Clients, Peer};
use crate::shutdown::Shutdown;

/// Connections served at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// Time limit for the headers of a request, including the pause before it.
const HEADER_TIMEOUT: Duration = Duration::from_mins(1);
/// The most bytes of headers in a request.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// Pause after a connection could not be accepted because the system is out of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until the node shuts down and its open requests have ended.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    clients: Clients,
    shutdown: &Shutdown,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let service = TowerToHyperService::new(router);
    let mut begun = std::pin::pin!(shutdown.begun());
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut begun => break,
        };
        let Some((stream, peer, place)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Closed without an answer, which would cost what the limit saves.
        let Ok(client_place) = clients.connect(peer) else {
            continue;
        };
        let service = service.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            service.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "connection failed");
            }
            drop((place, client_place));
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, Place)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Responses are small and awaited, so they are sent at once. A failure does no harm.
            let _unsupported = stream.set_nodelay(true);
            Some((stream, peer, place))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            None
        }
    }
}
