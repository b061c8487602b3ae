//! Publishing a candidate's data, in its rank's part of the publish phase. From then on, the claim
//! can be audited, and no other candidate for the target can win.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::epoch::settlement;
use crate::proof::commitment;
use crate::record::{Candidates, Publication, TargetStatus, WinningData};
use crate::state::{Key, load};
use crate::{Event, Hash, Rejection, TargetId, hex, read};

/// Publishes the data of a candidate.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct PublishData {
    /// The target.
    pub target: TargetId,
    /// The data.
    #[serde(with = "hex")]
    pub data: Vec<u8>,
    /// Salt of the commitment.
    #[serde(with = "hex::array")]
    pub salt: [u8; 32],
}

impl Apply for PublishData {
    // The bonds of all other candidates are returned.
    fn work(&self) -> u64 {
        300
    }

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let (id, phase) = (self.target, context.clock.phase);
        let rank = phase.publishing_rank();
        let rank = rank.ok_or(Rejection::WrongPhase { phase })?;
        let mut target = context.target_of(id, context.clock.epoch.previous())?;
        if target.status != TargetStatus::Open {
            return Err(Rejection::AlreadyPublished { target: id });
        }
        let mut candidates = Candidates(read::candidates(&context.state, id));
        let submitter = context.sender;
        let candidate = candidates
            .of_rank(rank)
            .filter(|candidate| candidate.submitter == submitter)
            .ok_or(Rejection::NotPublisher { target: id })?;
        let data_hash = Hash::of_bytes(&self.data);
        let size_bytes = u32::try_from(self.data.len()).unwrap_or(u32::MAX);
        let chain = &context.config.network.chain_id;
        let revealed = commitment::data(chain, &submitter, id, &data_hash, size_bytes, &self.salt);
        if revealed != candidate.commitment || size_bytes != candidate.size_bytes {
            return Err(Rejection::CommitmentMismatch);
        }
        // Wins in the target's own epoch were not yet known when the data was submitted.
        if let Some(WinningData(epoch)) = load(&context.state, &Key::won(&data_hash))
            && epoch < target.epoch
        {
            return Err(Rejection::DataAlreadyWon { epoch });
        }
        settlement::release_others(
            &mut context.state,
            &mut context.events,
            id,
            &mut candidates,
            Some(rank),
        );
        context.state.save(Key::candidates(id), &candidates);
        target.status = TargetStatus::Published { rank };
        context.state.save(Key::target(id), &target);
        let publication = Publication { rank, data_hash, data: self.data.clone() };
        context.state.save(Key::publication(id), &publication);
        context.events.push(Event::DataPublished {
            target: id,
            rank,
            submitter,
            data_hash,
            size_bytes,
        });
        Ok(())
    }
}
