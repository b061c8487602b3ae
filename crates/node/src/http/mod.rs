//! The HTTP API: routes, limits, the `OpenAPI` document made from the handlers themselves, and the server.
//!
//! It must never answer from anything but final state, hold a key, or let a slow or greedy client take the node's memory,
//! its threads or its time.

mod clients;
mod events;
mod json;
mod problem;
mod read;
mod server;
mod stake;
mod transfer;
mod write;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, Extension, FromRequestParts, Request, State};
use axum::http::{Method, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use soma_codes::Code;
use tokio::sync::Semaphore;
use utoipa::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use clients::{Clients, Peer};

pub use clients::ClientLimits;
pub(crate) use json::supply;
pub(crate) use problem::Problem;
pub(crate) use write::Admission;

use crate::error::NodeError;
use crate::node::Shared;

/// Time a request may take, streams aside.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests served at once, streams included.
const REQUESTS_MAX: usize = 1024;

/// What every handler sees.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) node: Arc<Shared>,
    pub(crate) admission: Admission,
    clients: Clients,
    requests: Arc<Semaphore>,
}

impl std::ops::Deref for Api {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.node
    }
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Soma node",
    description = "The state of the competition, its history and its files. Every integer of 64 bits or more is a decimal \
                   string. Every answer that is not a success is an ApiError."
))]
struct Document;

/// All routes, with their description.
fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(read::status))
        .routes(routes!(read::genesis))
        .routes(routes!(read::params))
        .routes(routes!(read::architecture))
        .routes(routes!(read::epoch))
        .routes(routes!(read::account))
        .routes(routes!(stake::stakes))
        .routes(routes!(stake::validators))
        .routes(routes!(stake::governance))
        .routes(routes!(read::models))
        .routes(routes!(read::model))
        .routes(routes!(read::model_embedding))
        .routes(routes!(read::targets))
        .routes(routes!(read::target))
        .routes(routes!(read::target_direction))
        .routes(routes!(read::target_data))
        .routes(routes!(read::transaction))
        .routes(routes!(read::blocks))
        .routes(routes!(read::block))
        .routes(routes!(read::health))
        .routes(routes!(read::ready))
        .routes(routes!(read::metrics))
        .routes(routes!(write::send_transaction))
        .routes(
            routes!(write::send_batch).layer(DefaultBodyLimit::max(write::BATCH_BODY_BYTES_MAX)),
        )
        .routes(routes!(events::events))
        .routes(routes!(transfer::ciphertext))
        .routes(routes!(transfer::weights))
        .routes(
            routes!(transfer::upload_progress, transfer::upload).layer(DefaultBodyLimit::disable()),
        )
}

/// The `OpenAPI` 3.1 document of the API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

fn router(api: Api) -> Router {
    let (router, document) = described().split_for_parts();
    router
        .route(
            soma_sdk::api::routes::OPENAPI,
            axum::routing::get(|| async { Json(document) }),
        )
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(write::BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), limit))
        .with_state(api)
}

async fn no_route(uri: Uri) -> Problem {
    Problem::new(
        Code::NoSuchRoute,
        format!("nothing is served at {}", uri.path()),
    )
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    let message = format!("{} does not support {method}", uri.path());
    Problem::new(Code::MethodNotAllowed, message)
}

/// Bounds how many requests run and how long each may take. A stream's time is bounded where it is served.
async fn limit(
    State(api): State<Api>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let counted = match api.clients.request(peer, request.headers()) {
        Ok(counted) => counted,
        Err(refused) => return refused.into_response(),
    };
    let Ok(permit) = api.requests.clone().try_acquire_owned() else {
        return Problem::busy("too many requests are running").into_response();
    };
    api.metrics.requests.add(1);
    let begun = Instant::now();
    let uploads = request.method() == Method::PUT;
    let response = if uploads {
        next.run(request).await
    } else {
        match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::busy("the request took too long").into_response(),
        }
    };
    api.metrics
        .answered(response.status().as_u16(), begun.elapsed());
    // Held until the last byte of the body is gone: a stream counts as long as it runs.
    response.map(|body| axum::body::Body::new(transfer::Guarded::new(body, (permit, counted))))
}

/// `axum`'s path parameters, refused in this API's own words.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(crate) struct Path<T>(pub(crate) T);

/// `axum`'s query parameters, refused in this API's own words.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(crate) struct Query<T>(pub(crate) T);

/// Takes the port, so that a taken one is known before anything else starts.
///
/// # Errors
/// [`NodeError::PortInUse`] or [`NodeError::Listen`].
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, NodeError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => NodeError::PortInUse { address },
        _ => NodeError::Listen { address, source },
    })
}

/// Serves until the node closes.
pub(crate) async fn serve(
    listener: TcpListener,
    node: Arc<Shared>,
    admission: Admission,
    limits: ClientLimits,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let clients = Clients::new(limits);
    let api = Api {
        node: Arc::clone(&node),
        admission,
        clients: clients.clone(),
        requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
    };
    server::serve(listener, router(api), clients, &node).await;
    Ok(())
}
