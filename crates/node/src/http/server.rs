//! The server under the routes: connections are counted, headers have a time limit, and open requests end well when the node
//! does. It must never wait for a client that says nothing.

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
use crate::node::Shared;

/// Connections served at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// Time for the headers of a request, the silence between two requests included.
const HEADER_TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes of headers.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// Pause after the system had no connection to give: it is out of files, and asking at once would not help.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until the node closes and its open requests have ended.
pub(super) async fn serve(listener: TcpListener, router: Router, clients: Clients, node: &Shared) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let ending = GracefulShutdown::new();
    let service = TowerToHyperService::new(router);
    let mut closed = std::pin::pin!(node.closed());
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut closed => break,
        };
        let Some((stream, peer, place)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Refused without a word: to say it would cost what it saves.
        let Ok(counted) = clients.connect(peer) else {
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
        let connection = ending.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "a connection broke off");
            }
            drop((place, counted));
        });
    }
    drop(listener);
    ending.shutdown().await;
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, Place)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are small and awaited: they do not wait for more to send. Only a hint.
            let _without = stream.set_nodelay(true);
            Some((stream, peer, place))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            None
        }
    }
}
