//! The lanes of the API: each kind of request has places of its own, so that no kind can take the
//! places of another. Whoever holds every stream of events must never keep out a transaction, nor
//! an operator who asks whether the node is well.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use soma_sdk::api::routes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::settings::ClientLimits;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// What operators and their tools ask: health, readiness, status, metrics.
    Health,
    /// Transactions.
    Send,
    /// Questions about the state and the history.
    Query,
    /// Streams of events.
    Stream,
    /// Files, up and down.
    Transfer,
}

impl Lane {
    pub(super) const ALL: [Self; 5] =
        [Self::Health, Self::Send, Self::Query, Self::Stream, Self::Transfer];

    /// The lane of a request; unknown routes are questions.
    pub(super) fn of(method: &Method, path: &str) -> Self {
        match path {
            routes::HEALTH | routes::READY | routes::STATUS | routes::METRICS => Self::Health,
            routes::EVENTS => Self::Stream,
            routes::TRANSACTIONS | routes::TRANSACTIONS_BATCH if method == Method::POST => {
                Self::Send
            }
            path if [routes::CIPHERTEXT, routes::WEIGHTS].iter().any(|file| below(path, file)) => {
                Self::Transfer
            }
            _ => Self::Query,
        }
    }

    /// Requests that run at once, of all clients. The sum is far below the number of connections,
    /// so a connection without a request can always be found.
    pub(super) const fn places(self) -> usize {
        match self {
            Self::Health => 64,
            Self::Query | Self::Stream => 256,
            Self::Send => 512,
            Self::Transfer => 128,
        }
    }

    /// Requests that run at once, of one client.
    pub(super) fn places_of_client(self, limits: &ClientLimits) -> u32 {
        let most = match self {
            Self::Health => 8,
            Self::Send => 16,
            Self::Query => 32,
            Self::Stream | Self::Transfer => limits.streams,
        };
        most.min(limits.concurrent)
    }

    /// Time until the answer must begin; an upload is limited where it is received.
    pub(super) fn time(self, method: &Method) -> Option<Duration> {
        match self {
            Self::Health | Self::Send => Some(Duration::from_secs(15)),
            Self::Transfer if method == Method::PUT => None,
            Self::Query | Self::Stream | Self::Transfer => Some(Duration::from_secs(30)),
        }
    }

    /// Whether its handlers read the state without a pause, so that they must not run on the
    /// threads that serve all clients.
    pub(super) const fn reads_state(self) -> bool {
        matches!(self, Self::Health | Self::Query)
    }

    /// Whether the bytes of its answers count as requests: those of files are limited by their
    /// lane alone.
    pub(super) const fn pays_for_bytes(self) -> bool {
        !matches!(self, Self::Transfer)
    }
}

/// The free places of all lanes.
#[derive(Clone, Debug)]
pub(super) struct Lanes([Arc<Semaphore>; Lane::ALL.len()]);

impl Lanes {
    pub(super) fn new() -> Self {
        Self(Lane::ALL.map(|lane| Arc::new(Semaphore::new(lane.places()))))
    }

    /// Takes a place; `None` while all are taken.
    pub(super) fn enter(&self, lane: Lane) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0[lane as usize]).try_acquire_owned().ok()
    }
}

/// Whether a path begins like this template.
fn below(path: &str, template: &str) -> bool {
    let fixed = template.split('{').next().unwrap_or(template);
    path.starts_with(fixed)
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use soma_protocol::Hash;
    use soma_sdk::api::routes;

    use super::Lane;

    #[test]
    fn each_route_runs_in_the_lane_of_its_kind() {
        let get = |path: &str| Lane::of(&Method::GET, path);
        for path in [routes::HEALTH, routes::READY, routes::STATUS, routes::METRICS] {
            assert_eq!(get(path), Lane::Health, "{path}");
        }
        assert_eq!(get(routes::EVENTS), Lane::Stream);
        assert_eq!(Lane::of(&Method::POST, routes::TRANSACTIONS), Lane::Send);
        assert_eq!(Lane::of(&Method::POST, routes::TRANSACTIONS_BATCH), Lane::Send);
        assert_eq!(get(&routes::path(routes::TRANSACTION, Hash([1; 32]))), Lane::Query);
        assert_eq!(Lane::of(&Method::PUT, &routes::path(routes::UPLOAD, "x")), Lane::Transfer);
        assert_eq!(get(&routes::path(routes::WEIGHTS, "x")), Lane::Transfer);
        assert_eq!(get("/v1/models"), Lane::Query);
        assert_eq!(get("/nothing"), Lane::Query);
    }
}
