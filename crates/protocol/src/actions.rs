//! One file for each action: what it checks, then what it changes.

mod add_stake;
mod answer_challenge;
mod commit_beacon;
mod commit_verdict;
mod commit_weights;
mod end_phase;
mod hold_weights;
mod leave_validator;
mod open_beacon;
mod open_verdict;
mod propose;
mod publish_data;
pub(crate) mod register_model;
mod register_validator;
mod report_equivocation;
mod retire_model;
mod return_validator;
pub(crate) mod reveal_weights;
mod rotate_key;
mod set_commission;
mod submit;
mod transfer;
mod vote;
mod vote_rent_price;
mod withdraw_stake;

pub(crate) use commit_weights::left_over;

use crate::action::Action;
use crate::apply::Context;
use crate::record::{Model, ModelStatus, Target, load};
use crate::state::Key;
use crate::validator::{Validator, committee};
use crate::{Address, Epoch, ModelId, Rejection, TargetId, view};

/// Applies an action, or says why not. What it wrote before a rejection is thrown away.
#[expect(
    clippy::too_many_lines,
    reason = "a table with one row for each action"
)]
pub(crate) fn apply(context: &mut Context<'_>, action: &Action) -> Result<(), Rejection> {
    match action {
        Action::Transfer { to, amount } => transfer::apply(context, to, *amount),
        Action::RegisterModel {
            name,
            commission_bps,
            stake,
        } => register_model::apply(context, name, *commission_bps, *stake),
        Action::RegisterValidator {
            consensus_key,
            proof,
            commission_bps,
            stake,
        } => {
            let terms = register_validator::Terms {
                consensus_key: *consensus_key,
                proof,
                commission_bps: *commission_bps,
                stake: *stake,
            };
            register_validator::apply(context, &terms)
        }
        Action::RotateKey {
            consensus_key,
            proof,
        } => rotate_key::apply(context, *consensus_key, proof),
        Action::LeaveValidator {} => leave_validator::apply(context),
        Action::ReturnValidator {} => return_validator::apply(context),
        Action::ReportEquivocation { evidence } => report_equivocation::apply(context, evidence),
        Action::AddStake { pool, amount } => add_stake::apply(context, *pool, *amount),
        Action::WithdrawStake { pool, amount } => withdraw_stake::apply(context, *pool, *amount),
        Action::SetCommission {
            pool,
            commission_bps,
        } => set_commission::apply(context, *pool, *commission_bps),
        Action::CommitWeights {
            model,
            architecture,
            epoch,
            commitment,
            ciphertext_hash,
            size_bytes,
        } => {
            let file = commit_weights::File {
                architecture: *architecture,
                ciphertext_hash: *ciphertext_hash,
                size_bytes: *size_bytes,
            };
            commit_weights::apply(context, *model, *epoch, *commitment, &file)
        }
        Action::HoldWeights { epoch, held } => hold_weights::apply(context, *epoch, held),
        Action::AnswerChallenge { epoch, chunk, path } => {
            answer_challenge::apply(context, *epoch, chunk, path)
        }
        Action::Propose { change } => propose::apply(context, change),
        Action::Vote { proposal, approve } => vote::apply(context, *proposal, *approve),
        Action::VoteRentPrice { price } => vote_rent_price::apply(context, *price),
        Action::RevealWeights {
            model,
            key,
            weights_hash,
            embedding,
        } => {
            let content = reveal_weights::Content {
                key,
                weights_hash,
                embedding,
            };
            reveal_weights::apply(context, *model, &content)
        }
        Action::RetireModel { model } => retire_model::apply(context, *model),
        Action::CommitBeacon { epoch, commitment } => {
            commit_beacon::apply(context, *epoch, *commitment)
        }
        Action::OpenBeacon { epoch, value } => open_beacon::apply(context, *epoch, *value),
        Action::Submit {
            target,
            model,
            loss_q32,
            distance,
            size_bytes,
            commitment,
        } => {
            let claim = submit::Claim {
                model: *model,
                loss_q32: *loss_q32,
                distance: *distance,
                size_bytes: *size_bytes,
                commitment: *commitment,
            };
            submit::apply(context, *target, &claim)
        }
        Action::PublishData { target, data, salt } => {
            publish_data::apply(context, *target, data, salt)
        }
        Action::CommitVerdict { target, commitment } => {
            commit_verdict::apply(context, *target, *commitment)
        }
        Action::OpenVerdict { target, finding } => open_verdict::apply(context, *target, finding),
        Action::EndPhase { epoch, phase } => end_phase::apply(context, *epoch, *phase),
    }
}

impl Context<'_> {
    /// The sender as a registered validator.
    fn validator(&self) -> Result<Validator, Rejection> {
        let validator = view::validator(&self.state, &self.sender);
        validator
            .filter(Validator::is_registered)
            .ok_or(Rejection::NotValidator)
    }

    /// The sender as a validator with a seat.
    fn seated(&self) -> Result<Address, Rejection> {
        self.validator()?;
        if committee(&self.state).seats_validator(&self.sender) {
            Ok(self.sender)
        } else {
            Err(Rejection::NotSeated)
        }
    }

    /// A model that still has a stake: retiring ones may reveal what they committed to, so that they
    /// are not slashed for it.
    fn standing_model(&self, id: ModelId) -> Result<Model, Rejection> {
        let model: Option<Model> = load(&self.state, &Key::model(id));
        let model = model.ok_or(Rejection::ModelNotFound { model: id })?;
        match model.status {
            ModelStatus::Retired => Err(Rejection::ModelRetired { model: id }),
            _ => Ok(model),
        }
    }

    /// A model that is not retired.
    fn living_model(&self, id: ModelId) -> Result<Model, Rejection> {
        let model = self.standing_model(id)?;
        match model.status {
            ModelStatus::Retiring { .. } => Err(Rejection::ModelRetired { model: id }),
            _ => Ok(model),
        }
    }

    /// A model that is not retired and belongs to the sender.
    fn own_model(&self, id: ModelId) -> Result<Model, Rejection> {
        let model = self.living_model(id)?;
        if model.owner == self.sender {
            Ok(model)
        } else {
            Err(Rejection::NotModelOwner { model: id })
        }
    }

    /// A target that belongs to `epoch`.
    fn target_of(&self, id: TargetId, epoch: Epoch) -> Result<Target, Rejection> {
        let target: Option<Target> = load(&self.state, &Key::target(id));
        let target = target.ok_or(Rejection::TargetNotFound { target: id })?;
        if target.epoch == epoch {
            Ok(target)
        } else {
            Err(Rejection::TargetClosed {
                target: id,
                epoch: target.epoch,
            })
        }
    }
}

/// Refuses what is for another epoch than `expected`.
fn check_epoch(found: Epoch, expected: Epoch) -> Result<(), Rejection> {
    if found == expected {
        Ok(())
    } else {
        Err(Rejection::WrongEpoch { expected, found })
    }
}
