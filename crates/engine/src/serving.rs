//! What a node gives to those who join: handovers, its state as of the end of an epoch, blocks.
//!
//! Everything is read from what the node keeps anyway, one question at a time, so a peer that asks
//! without end costs no more than one that waits for answers. It changes nothing.

use std::{num::NonZeroU64, sync::Arc};

use commonware_codec::EncodeSize as _;
use commonware_consensus::{marshal::Identifier, types::Height};
use commonware_runtime::Spawner;
use commonware_storage::{
    Context as StorageContext, mmr,
    qmdb::sync::{Request, Source as _},
};
use soma_protocol::read;
use soma_store::{
    History, State,
    database::{Databases, Operation},
};

use crate::{
    block::Block,
    committees::{Calendar, digest_of},
    exchange::{Answer, Ask, OPERATIONS_MAX, Offer, Server, StatePart},
    handover::{Handover, Handovers},
    parts::{ANSWER_BYTES_MAX, Mailbox},
};

/// What is left of an answer for the part of a state.
const PART_BYTES_MAX: usize = ANSWER_BYTES_MAX - 64;

/// Serves from a node that is up.
pub(crate) struct Serving<E: Spawner + StorageContext> {
    pub(crate) calendar: Calendar,
    pub(crate) ordered: Mailbox,
    pub(crate) databases: Databases<E>,
    pub(crate) state: Arc<State>,
    pub(crate) history: Arc<History>,
    pub(crate) handovers: Arc<Handovers<E>>,
    /// It forges what it gives: a simulated cheat.
    pub(crate) forges: bool,
}

/// The handover of a block that ends an epoch, if the node has all of it.
pub(crate) async fn handover_at(ordered: &Mailbox, state: &State, height: u64) -> Option<Handover> {
    let at = Height::new(height);
    let block = ordered.get_block(Identifier::Height(at)).await?;
    let certificate = ordered.get_finalization(at).await?;
    let committee = state.read(|state, _| read::committee_at(state, height))?;
    Some(Handover {
        header: block.inner().header(),
        certificate,
        seats: committee.seats,
    })
}

impl<E: Spawner + StorageContext> Serving<E> {
    async fn handover(&self, after: Option<u64>) -> Option<Handover> {
        if let Ok(Some(handover)) = self.handovers.after(after).await {
            return Some(handover);
        }
        let tip = self.history.height().ok()?;
        let last = self.calendar.root_of(self.calendar.epoch_of(tip + 1));
        let epoch = self.calendar.epoch_of(last);
        if last == 0 || after.is_some_and(|after| epoch <= after) {
            return None;
        }
        handover_at(&self.ordered, &self.state, last).await
    }

    /// As many operations as fit, of those that are asked for.
    async fn part(&self, request: Request<mmr::Family>) -> Option<StatePart> {
        let mut most = request.max_ops().min(OPERATIONS_MAX);
        loop {
            let request = match request {
                Request::Operations { size, start, .. } => Request::Operations {
                    size,
                    start,
                    max_ops: most,
                },
                boundary @ Request::Boundary { .. } => boundary,
            };
            let (part, _) = self.databases.serve(request).await.ok()?;
            if part.encode_size() <= PART_BYTES_MAX {
                return Some(part);
            }
            most = NonZeroU64::new(most.get() / 2)?;
        }
    }

    async fn block(&self, height: u64) -> Option<Block> {
        let height = Identifier::Height(Height::new(height));
        let block = self.ordered.get_block(height).await?;
        Some(block.inner().clone())
    }

    /// The number of the last event up to a block.
    fn events(&self, height: u64) -> Option<u64> {
        let block = self.history.block(height).ok()??;
        Some(block.first_event + u64::from(block.events) - 1)
    }

    fn offer(&self) -> Option<Offer> {
        Some(Offer {
            first: self.history.first().ok()?,
            last: self.history.height().ok()?,
        })
    }
}

/// The same, but not what it was.
fn forge(answer: Answer) -> Answer {
    match answer {
        Answer::Handover(mut handover) => {
            handover.seats.pop();
            handover.header.seats = digest_of(&handover.seats);
            Answer::Handover(handover)
        }
        Answer::State(mut part) => {
            if let StatePart::Operations { operations, .. } = part.as_mut() {
                for operation in operations {
                    if let Operation::Update(update) = operation {
                        update.1.push(0);
                    }
                }
            }
            Answer::State(part)
        }
        other => other,
    }
}

impl<E: Spawner + StorageContext> Server for Serving<E> {
    async fn answer(&self, ask: Ask) -> Option<Answer> {
        let answer = match ask {
            Ask::Offer => self.offer().map(Answer::Offer),
            Ask::Handover(after) => {
                let handover = self.handover(after).await;
                handover.map(|handover| Answer::Handover(Box::new(handover)))
            }
            Ask::State(request) => {
                let part = self.part(request).await;
                part.map(|part| Answer::State(Box::new(part)))
            }
            Ask::Block(height) => self
                .block(height)
                .await
                .map(|block| Answer::Block(block.into())),
            Ask::Events(height) => self.events(height).map(Answer::Events),
        };
        let answer = answer.unwrap_or(Answer::Nothing);
        if self.forges {
            return Some(forge(answer));
        }
        Some(answer)
    }
}
