//! Claiming a target. The claim reveals neither data nor embedding, so that losers give nothing
//! away, and it carries a bond, so that a claim that cannot be honored costs its submitter.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use soma_architecture::embedding::DISTANCE_MAX;

use super::context::{Apply, Context};
use crate::epoch::winner::is_gain_enough;
use crate::money::{credit, debit};
use crate::record::{Candidate, Candidates, CorpusRoot, Target};
use crate::state::Key;
use crate::{Epoch, Event, Hash, ModelId, Rejection, TargetId, decimal, read};

/// Losses of 2^20 nats or more are errors of the scorer.
const LOSS_Q32_END: i64 = 1 << 52;

/// Claims a target without revealing the data.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Submit {
    /// The target.
    pub target: TargetId,
    /// The routed model that predicts the data best.
    pub model: ModelId,
    /// Its loss, `SIGReg` included, in 2^-32 nat.
    #[serde(with = "decimal")]
    pub loss_q32: i64,
    /// How much better it predicts the data than counting does, in 2^-32 nat.
    #[serde(with = "decimal")]
    pub gain_q32: i64,
    /// Squared distance from the data's direction, seen from the model's specialization, to the
    /// target's.
    #[serde(with = "decimal")]
    pub distance: u64,
    /// Length of the data.
    pub size_bytes: u32,
    /// [`crate::commitment::data`].
    pub commitment: Hash,
}

impl Submit {
    fn check(&self, context: &Context<'_>, target: &Target) -> Result<(), Rejection> {
        let Self { model, loss_q32, distance, size_bytes, .. } = *self;
        if !target.routed.iter().any(|routed| routed.model == model) {
            return Err(Rejection::ModelNotRouted { model, target: target.id });
        }
        if !(0..LOSS_Q32_END).contains(&loss_q32) {
            return Err(Rejection::BadLoss { loss_q32 });
        }
        if distance > DISTANCE_MAX {
            return Err(Rejection::BadDistance { distance });
        }
        self.check_gain(context, target)?;
        let min = context.config.network.architecture.data_bytes_min();
        let max = context.config.params.data_bytes_max;
        if size_bytes < min || size_bytes > max {
            return Err(Rejection::BadDataSize { size_bytes, min, max });
        }
        Ok(())
    }

    /// Whether the model understands the data: it predicts it better than counting does, by the
    /// minimum that was in force when the target was drawn.
    fn check_gain(&self, context: &Context<'_>, target: &Target) -> Result<(), Rejection> {
        let gain_q32 = self.gain_q32;
        let record = read::epoch(&context.state, target.epoch);
        match record.map_or(0, |record| record.gain_min_q32) {
            min_q32 if is_gain_enough(gain_q32, min_q32) => Ok(()),
            min_q32 => Err(Rejection::GainTooLow { gain_q32, min_q32 }),
        }
    }
}

/// The sender's corpus, as it was fixed before the targets of this epoch existed.
fn counting_corpus(context: &Context<'_>, epoch: Epoch) -> Result<CorpusRoot, Rejection> {
    let corpus = read::corpus(&context.state, &context.sender);
    let counting = corpus.and_then(|corpus| corpus.counting_in(epoch));
    counting.ok_or(Rejection::NoCorpus { epoch })
}

impl Apply for Submit {
    // The list of candidates is rewritten.
    fn work(&self) -> u64 {
        100
    }

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let (id, phase) = (self.target, context.clock.phase);
        if !phase.submits() {
            return Err(Rejection::WrongPhase { phase });
        }
        let target = context.target_of(id, context.clock.epoch)?;
        self.check(context, &target)?;
        let corpus = counting_corpus(context, target.epoch)?;
        let submitter = context.sender;
        let candidate = Candidate {
            submitter,
            model: self.model,
            loss_q32: self.loss_q32,
            gain_q32: self.gain_q32,
            distance: self.distance,
            size_bytes: self.size_bytes,
            commitment: self.commitment,
            corpus_root: corpus.root,
            corpus_leaves: corpus.leaves,
            bond: target.reward.bps(context.config.params.bond_bps),
        };
        let mut candidates = Candidates(read::candidates(&context.state, id));
        let mut present = candidates.0.iter();
        // Whoever copies a commitment cannot publish for it, and must not keep its maker out.
        let same = |present: &Candidate| {
            (present.submitter, present.commitment) == (submitter, candidate.commitment)
        };
        if present.any(same) {
            return Err(Rejection::DuplicateSubmission { target: id });
        }
        let at = candidates.0.partition_point(|present| present.distance <= candidate.distance);
        let limit = context.config.candidates_max();
        if at >= limit {
            return Err(Rejection::NotAmongClosest { target: id });
        }
        debit(&mut context.state, &submitter, candidate.bond)?;
        candidates.0.insert(at, candidate);
        context.events.push(Event::SubmissionAccepted {
            target: id,
            rank: u32::try_from(at).unwrap_or(u32::MAX),
            submitter,
            model: candidate.model,
            loss_q32: candidate.loss_q32,
            gain_q32: candidate.gain_q32,
            distance: candidate.distance,
            bond: candidate.bond,
        });
        for displaced in candidates.0.drain(limit.min(candidates.0.len())..) {
            credit(&mut context.state, &displaced.submitter, displaced.bond);
            context.events.push(Event::SubmissionDisplaced {
                target: id,
                submitter: displaced.submitter,
                bond: displaced.bond,
            });
        }
        context.state.save(Key::candidates(id), &candidates);
        Ok(())
    }
}
