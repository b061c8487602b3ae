//! What a node gives to peers that sync: handovers, its state at the end of a term, blocks.
//!
//! It reads only what the node keeps anyway and handles one request at a time; what each peer may
//! ask of it is decided before. It changes nothing.

use std::{num::NonZeroU64, sync::Arc};

use commonware_codec::EncodeSize as _;
use commonware_consensus::{marshal::Identifier, types::Height};
use commonware_runtime::Spawner;
use commonware_storage::{Context as StorageContext, qmdb::sync::Source as _};
use soma_store::{
    History, State,
    database::{Databases, Operation},
};

use super::{
    handover::{Handover, HandoverStore},
    messages::{OPERATIONS_MAX, Offer, Request, Response, StatePart, StateRequest},
};
use crate::{
    block::Block,
    calendar::Calendar,
    consensus::{committees::digest_of, components::MarshalMailbox},
    limits::RESPONSE_BYTES_MAX,
    settings::Deviation,
};

/// The most bytes in a part of the state: a response without its framing.
const PART_BYTES_MAX: usize = RESPONSE_BYTES_MAX - 64;

/// Responds from a running node.
pub(crate) struct Server<E: Spawner + StorageContext> {
    pub(crate) calendar: Calendar,
    pub(crate) marshal: MarshalMailbox,
    pub(crate) databases: Databases<E>,
    pub(crate) state: Arc<State>,
    pub(crate) history: Arc<History>,
    pub(crate) handovers: Arc<HandoverStore<E>>,
    /// How it deviates from the protocol, in simulations.
    pub(crate) deviation: Deviation,
}

impl<E: Spawner + StorageContext> Server<E> {
    async fn handover(&self, after: Option<u64>) -> Option<Handover> {
        if let Ok(Some((_, handover))) = self.handovers.after(after).await {
            return Some(handover);
        }
        let tip = self.history.height().ok()?;
        let last = self.calendar.root_of(self.calendar.term_of(tip + 1));
        let term = self.calendar.term_of(last);
        if last == 0 || after.is_some_and(|after| term <= after) {
            return None;
        }
        Handover::at(&self.marshal, &self.state, last).await
    }

    /// As many of the requested operations as fit.
    async fn part(&self, request: StateRequest) -> Option<StatePart> {
        let mut max_ops = request.max_ops().min(OPERATIONS_MAX);
        loop {
            let request = match request {
                StateRequest::Operations { size, start, .. } => {
                    StateRequest::Operations { size, start, max_ops }
                }
                boundary @ StateRequest::Boundary { .. } => boundary,
            };
            let (part, _) = self.databases.serve(request).await.ok()?;
            if part.encode_size() <= PART_BYTES_MAX {
                return Some(part);
            }
            max_ops = NonZeroU64::new(max_ops.get() / 2)?;
        }
    }

    async fn block(&self, height: u64) -> Option<Block> {
        let height = Identifier::Height(Height::new(height));
        let block = self.marshal.get_block(height).await?;
        Some(block.inner().clone())
    }

    /// The number of the last event up to a block.
    fn events(&self, height: u64) -> Option<u64> {
        let block = self.history.block(height).ok()??;
        Some(block.first_event + u64::from(block.events) - 1)
    }

    fn offer(&self) -> Option<Offer> {
        Some(Offer { first: self.history.first().ok()?, last: self.history.height().ok()? })
    }

    /// The response to a request. An honest node has one to every request.
    pub(crate) async fn respond(&self, request: Request) -> Option<Response> {
        if matches!(self.deviation, Deviation::Boasts) {
            return boast(&request);
        }
        let response = match request {
            Request::Offer => self.offer().map(Response::Offer),
            Request::Handover(after) => {
                let handover = self.handover(after).await;
                handover.map(|handover| Response::Handover(Box::new(handover)))
            }
            Request::State(request) => {
                let part = self.part(request).await;
                part.map(|part| Response::State(Box::new(part)))
            }
            Request::Block(height) => {
                let block = self.block(height).await;
                block.map(|block| Response::Block(block.into()))
            }
            Request::Events(height) => self.events(height).map(Response::Events),
        };
        let response = response.unwrap_or(Response::Nothing);
        let forges = matches!(self.deviation, Deviation::Forges);
        Some(if forges { forge(response) } else { response })
    }
}

/// Claims more blocks than any chain has, and is silent when asked for them.
fn boast(request: &Request) -> Option<Response> {
    let offer = Offer { first: 1, last: u64::MAX };
    matches!(request, Request::Offer).then_some(Response::Offer(offer))
}

/// Changes a response so that it cannot be verified.
fn forge(response: Response) -> Response {
    match response {
        Response::Handover(mut handover) => {
            handover.voters.pop();
            handover.header.seats = digest_of(&handover.voters);
            Response::Handover(handover)
        }
        Response::State(mut part) => {
            if let StatePart::Operations { operations, .. } = part.as_mut() {
                for operation in operations {
                    if let Operation::Update(update) = operation {
                        update.1.push(0);
                    }
                }
            }
            Response::State(part)
        }
        response => response,
    }
}
