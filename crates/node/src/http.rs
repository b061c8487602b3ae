//! The HTTP API: routes, limits, the `OpenAPI` document made from the handlers, the page that shows
//! it, and the server.
//!
//! It must never answer from anything but the finalized state and the pool, never sign, and never
//! let a slow or greedy client use up the node's memory, threads or time.

mod problem;
mod origin;
mod connections;
mod pace;
mod lane;
mod turns;
mod clients;
mod patience;
mod answer;
mod json;
mod feed;
mod projection;
mod map;
mod why;
mod trial;
mod api;
mod state;
mod proofs;
mod history;
mod transactions;
mod events;
mod permits;
mod files;
mod operation;
mod page;
mod server;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use rustls::ServerConfig;
use soma_codes::Code;
use soma_sdk::api::routes::TRIAL_BYTES_MAX;
use utoipa::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use self::answer::{Answer, Held};
use self::api::Api;
use self::clients::{Clients, Peer};
use self::connections::{Connection, Connections};
use self::feed::Feed;
use self::lane::{Holder, Lane, Lanes};
use self::map::Maps;
use self::problem::Problem;
use self::server::Door;
use self::trial::Trials;
use self::turns::{Asker, Turns};
use self::why::Whys;
use crate::certificates::Certificates;
use crate::error::NodeError;
use crate::health::Trouble;
use crate::settings::{ClientLimits, api_url};
use crate::shutdown::Shutdown;

pub(crate) use self::api::Parts;

/// Connections at once.
const CONNECTIONS_MAX: usize = 4_096;
/// The same while the node starts.
const START_CONNECTIONS_MAX: usize = 64;

#[derive(OpenApi)]
#[openapi(info(
    title = "Soma node",
    description = "The state of the competition, its history and its files. Every integer of \
                   64 bits or more is a decimal string. Every answer that is not a success is an \
                   ApiError."
))]
struct Document;

/// All routes, with their description.
fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(state::status))
        .routes(routes!(state::genesis))
        .routes(routes!(state::params))
        .routes(routes!(state::architecture))
        .routes(routes!(state::epoch))
        .routes(routes!(state::epoch_map))
        .routes(routes!(proofs::proof))
        .routes(routes!(proofs::handovers))
        .routes(routes!(state::account))
        .routes(routes!(state::stakes))
        .routes(routes!(history::account_transactions))
        .routes(routes!(history::account_events))
        .routes(routes!(history::account_submissions))
        .routes(routes!(history::account_why))
        .routes(routes!(state::validators))
        .routes(routes!(state::validator))
        .routes(routes!(state::governance))
        .routes(routes!(state::models))
        .routes(routes!(state::model))
        .routes(routes!(state::model_specialization))
        .routes(routes!(state::trial).layer(DefaultBodyLimit::max(TRIAL_BYTES_MAX)))
        .routes(routes!(history::model_events))
        .routes(routes!(history::model_why))
        .routes(routes!(state::targets))
        .routes(routes!(state::target))
        .routes(routes!(state::target_direction))
        .routes(routes!(history::target_events))
        .routes(routes!(history::submission))
        .routes(routes!(history::epoch_events))
        .routes(routes!(history::governance_events))
        .routes(routes!(state::target_data))
        .routes(routes!(state::pieces))
        .routes(routes!(history::transaction))
        .routes(routes!(history::transaction_action))
        .routes(routes!(history::blocks))
        .routes(routes!(history::block))
        .routes(routes!(history::block_transactions))
        .routes(routes!(history::block_events))
        .routes(routes!(operation::health))
        .routes(routes!(operation::ready))
        .routes(routes!(operation::contacts))
        .routes(routes!(operation::metrics))
        .routes(routes!(transactions::send_transaction))
        .routes(
            routes!(transactions::send_batch)
                .layer(DefaultBodyLimit::max(transactions::BATCH_BODY_BYTES_MAX)),
        )
        .routes(routes!(events::events))
        .routes(routes!(files::ciphertext))
        .routes(routes!(files::weights))
        .routes(routes!(files::upload_progress, files::upload).layer(DefaultBodyLimit::disable()))
}

/// The `OpenAPI` 3.1 document of the API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

fn router(api: Api) -> Router {
    let (router, document) = described().split_for_parts();
    router
        .route(soma_sdk::api::routes::OPENAPI, axum::routing::get(|| async { Json(document) }))
        .merge(page::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(transactions::BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), limit))
        .with_state(api)
}

async fn no_route(uri: Uri, headers: HeaderMap) -> Response {
    let problem =
        || Problem::new(Code::NoSuchRoute, format!("nothing is served at {}", uri.path()));
    page::not_found(uri.path(), &headers).unwrap_or_else(|| problem().into_response())
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    let message = format!("{} does not support {method}", uri.path());
    Problem::new(Code::MethodNotAllowed, message)
}

/// Bounds how many requests run and how long each may take; a stream's time is bounded where it is
/// served. `tower`'s limits do not fit: they let requests wait instead of refusing them, release a
/// place before the body is sent, and refuse without this API's error codes.
async fn limit(
    State(api): State<Api>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(connection): Extension<Arc<Connection>>,
    mut request: Request,
    next: Next,
) -> Response {
    let busy = connection.busy();
    let lane = Lane::of(request.method(), request.uri().path());
    if let Err(refused) = api.clients.charge(peer, request.headers()) {
        return refused.into_response();
    }
    // What a place is for is known before it is taken: permits come first.
    let (lane, holder) = match permits::admit(&api, lane, &mut request).await {
        Ok(admitted) => admitted,
        Err(refused) => return refused.into_response(),
    };
    let place = match api.clients.place(peer, request.headers(), lane) {
        Ok(place) => place,
        Err(refused) => return refused.into_response(),
    };
    let holder = holder.or_else(|| place.network().map(Holder::Network));
    let Some(running) = api.lanes.enter(lane, holder, &connection) else {
        return Problem::busy("too many requests of this kind are running").into_response();
    };
    let asker = Asker(place.client());
    request.extensions_mut().insert(Arc::clone(&running));
    request.extensions_mut().insert(asker);
    api.metrics.requests.inc();
    let begun = Instant::now();
    let time = lane.time(request.method());
    let answered = answer(&api, lane, asker, request, next);
    let response = match time {
        None => answered.await,
        Some(time) => match tokio::time::timeout(time, answered).await {
            Ok(response) => response,
            Err(_) => Problem::busy("the request took too long").into_response(),
        },
    };
    api.metrics.responded(response.status().as_u16(), begun.elapsed());
    // Held until the last byte of the body is sent: a stream counts as long as it runs.
    running.answers();
    let held = Held { running, place, _busy: busy };
    harmless(response).map(|body| axum::body::Body::new(Answer::new(body, held)))
}

/// An answer that a browser takes for nothing but what it is declared to be, and in which it runs
/// nothing: data, weights and names come from anyone. The page has a policy of its own.
fn harmless(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    response
}

/// Runs a handler. Those that read the state leave the threads that serve all clients, so that a
/// long answer to one never delays the others.
async fn answer(api: &Api, lane: Lane, asker: Asker, request: Request, next: Next) -> Response {
    if !lane.reads_state() {
        return next.run(request).await;
    }
    // Operators need no turn: they ask when something is wrong.
    let turn = if lane == Lane::Query { Some(api.turns.take(asker).await) } else { None };
    let answer = || tokio::runtime::Handle::current().block_on(next.run(request));
    let response = tokio::task::block_in_place(answer);
    drop(turn);
    response
}

/// Binds the port, so that a port in use is reported before anything else starts.
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

/// Answers while the node starts: that it is not ready, and what it does. It never reads the chain.
pub(crate) async fn serve_start(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    not_ready: impl Fn() -> (String, Vec<Trouble>) + Clone + Send + Sync + 'static,
    limits: ClientLimits,
    shutdown: &Shutdown,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let not_ready = move || {
        let (mut message, troubles) = not_ready();
        for trouble in &troubles {
            message = format!("{message}; {}", trouble.message);
        }
        let worst = troubles.first().map_or(Code::NotReady, |trouble| trouble.code);
        let problem = Problem::new(Code::NotReady, message).hint(worst.hint());
        async move { problem }
    };
    let health = axum::routing::get(operation::health);
    let router = Router::new().route(soma_sdk::api::routes::HEALTH, health).fallback(not_ready);
    let clients = Clients::new(limits);
    let connections = Connections::new(START_CONNECTIONS_MAX);
    let door = Door { listener, tls, clients, connections };
    server::serve(door, router, shutdown).await;
    Ok(())
}

/// Serves until the node shuts down.
pub(crate) async fn serve(
    listener: TcpListener,
    parts: Parts,
    limits: ClientLimits,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let tls = parts.health.around.certificates.as_ref().map(Certificates::server);
    let url = api_url(listener.local_addr()?, tls.is_some());
    let (clients, shutdown) = (Clients::new(limits), parts.shutdown.clone());
    let api = Api {
        parts,
        clients: clients.clone(),
        lanes: Lanes::default(),
        turns: Turns::default(),
        feed: Feed::default(),
        maps: Maps::default(),
        trials: Trials::default(),
        whys: Whys::new(&url).map_err(std::io::Error::other)?,
    };
    let connections = Connections::new(CONNECTIONS_MAX);
    let door = Door { listener, tls, clients, connections };
    server::serve(door, router(api), &shutdown).await;
    Ok(())
}
