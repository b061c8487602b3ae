//! Publishing a candidate's data, in its rank's part of the publish phase. The data must have been
//! fixed before the target existed, and must not repeat what won in an earlier epoch. From then on,
//! the claim can be audited, and no other candidate for the target can win.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::epoch::settlement;
use crate::money::fee::RECORD_OVERHEAD_BYTES;
use crate::proof::{commitment, corpus, sketch};
use crate::record::{Candidate, Candidates, PIECE_RECORD_BYTES, Publication, Target, TargetStatus};
use crate::state::Key;
use crate::{Defense, Event, Hash, Rejection, TargetId, hex, read};

/// Work of returning bonds and looking up pieces.
const WORK: u64 = 700;

/// Bytes whose windows are hashed in the time of a unit of work.
const BYTES_SKETCHED_PER_UNIT: u64 = 50;

/// Room of the pieces that are kept if the data wins. Whoever publishes pays for it in advance.
const ROOM_BYTES: u64 =
    (sketch::PIECES_MAX as u64) * (PIECE_RECORD_BYTES as u64 + RECORD_OVERHEAD_BYTES);

/// Publishes the data of a candidate.
#[derive(
    Clone, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct PublishData {
    /// The target.
    pub target: TargetId,
    /// The data.
    #[serde(with = "hex")]
    pub data: Vec<u8>,
    /// Salt of the commitment.
    #[serde(with = "hex::array")]
    pub salt: [u8; 32],
    /// Place of the data among the documents of the corpus behind the submission, from 0.
    pub index: u32,
    /// Salt of its leaf.
    #[serde(with = "hex::array")]
    pub leaf_salt: [u8; 32],
    /// Path of its leaf; see [`crate::corpus::path`].
    pub path: Vec<Hash>,
}

impl PublishData {
    /// Checks that the data is what the candidate committed to, twice: in its submission, and
    /// among the documents that it had fixed before the target was drawn. Returns the hash.
    fn check(&self, context: &Context<'_>, candidate: &Candidate) -> Result<Hash, Rejection> {
        let Self { target, salt, index, leaf_salt, .. } = self;
        let data_hash = Hash::of_bytes(&self.data);
        let size_bytes = u32::try_from(self.data.len()).unwrap_or(u32::MAX);
        let (chain, submitter) = (&context.config.network.chain_id, &context.sender);
        let revealed = commitment::data(chain, submitter, *target, &data_hash, size_bytes, salt);
        if revealed != candidate.commitment || size_bytes != candidate.size_bytes {
            return Err(Rejection::CommitmentMismatch);
        }
        let leaf = corpus::leaf(&data_hash, size_bytes, leaf_salt);
        let Candidate { corpus_root, corpus_leaves, .. } = candidate;
        if !corpus::verifies(corpus_root, *corpus_leaves, *index, &leaf, &self.path) {
            return Err(Rejection::NotInCorpus { target: *target });
        }
        Ok(data_hash)
    }
}

/// Checks that data with these pieces does not repeat what won in earlier epochs than the target's.
/// Wins in its own epoch were not yet known when the data was submitted.
fn check_new(context: &Context<'_>, pieces: &[u64], target: &Target) -> Result<(), Rejection> {
    if !context.config.defends(Defense::WinsOnce) {
        return Ok(());
    }
    let winner = |hash: &u64| {
        let piece = read::piece(&context.state, *hash).filter(|piece| piece.epoch < target.epoch);
        piece.map(|piece| (piece.winner, piece.epoch))
    };
    match sketch::repeated(pieces.iter().map(winner)) {
        Some((winner, epoch)) => Err(Rejection::DataSeenBefore { winner, epoch }),
        None => Ok(()),
    }
}

impl Apply for PublishData {
    // The bonds of all other candidates are returned, every byte enters the sketch, and its pieces
    // are looked up.
    fn work(&self) -> u64 {
        let bytes = u64::try_from(self.data.len()).unwrap_or(u64::MAX);
        (bytes / BYTES_SKETCHED_PER_UNIT).saturating_add(WORK)
    }

    fn room_bytes(&self) -> u64 {
        ROOM_BYTES
    }

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let (id, phase) = (self.target, context.clock.phase);
        let rank = phase.publishing_rank();
        let rank = rank.ok_or(Rejection::WrongPhase { phase })?;
        // What won in the epoch before is known once it is settled.
        context.check_settled()?;
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
        let data_hash = self.check(context, candidate)?;
        let size_bytes = candidate.size_bytes;
        let pieces = sketch::sketch(&self.data);
        check_new(context, &pieces, &target)?;
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
        let publication = Publication { rank, data_hash, data: self.data.clone(), pieces };
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
