//! What every handler sees, and how it takes its parameters.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request;
use soma_protocol::ConsensusKey;

use super::clients::{Client, Clients, Peer};
use super::feed::Feed;
use super::lane::{Lanes, Running};
use super::map::Maps;
use super::problem::Problem;
use super::trial::Trials;
use super::turns::Turns;
use super::why::Whys;
use crate::chain::Chain;
use crate::duties::Duties;
use crate::duties::audit::Audits;
use crate::health::Health;
use crate::mempool::{AdmissionQueue, Mempool};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::survey::Surveys;
use crate::weights::WeightsStore;

/// What the handlers answer from.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) chain: Arc<Chain>,
    /// The key that identifies this node.
    pub(crate) key: ConsensusKey,
    pub(crate) surveys: Arc<Surveys>,
    pub(crate) pool: Mempool,
    pub(crate) admission: AdmissionQueue,
    pub(crate) weights: Arc<WeightsStore>,
    pub(crate) audits: Arc<Audits>,
    pub(crate) duties: Arc<Duties>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shutdown: Shutdown,
}

/// What every handler sees.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) parts: Parts,
    pub(super) clients: Clients,
    pub(super) lanes: Lanes,
    /// Turns of questions, so that those about much of the state leave processors to the others.
    pub(super) turns: Turns,
    /// The events that streams send.
    pub(super) feed: Feed,
    /// The maps of the last epochs.
    pub(super) maps: Maps,
    /// What tries data.
    pub(super) trials: Trials,
    /// The last answers to why.
    pub(super) whys: Whys,
}

impl std::ops::Deref for Api {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// `axum`'s path parameters, rejected as a [`Problem`].
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub(super) struct Path<T>(pub(super) T);

/// `axum`'s query parameters, rejected as a [`Problem`].
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub(super) struct Query<T>(pub(super) T);

impl FromRequestParts<Api> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, api: &Api) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>().copied();
        let running = parts.extensions.get::<Arc<Running>>().map(Arc::clone);
        let (Some(Peer(peer)), Some(running)) = (peer, running) else {
            return Err(Problem::busy("the connection has no address"));
        };
        let client = Self::new(&api.clients, peer, &parts.headers, running);
        client.may_begin()?;
        Ok(client)
    }
}
