//! The context of an action, and the checks that several actions share.

use crate::read::ChainConfig;
use crate::record::{Clock, Model, ModelStatus, Target, Validator};
use crate::state::Draft;
use crate::{Address, BlockInfo, Defense, Epoch, Event, ModelId, Rejection, TargetId, read};

/// The state, configuration and sender of an action.
pub(crate) struct Context<'a> {
    pub(crate) state: Draft<'a>,
    pub(crate) config: &'a ChainConfig,
    pub(crate) block: &'a BlockInfo,
    /// Place of the transaction in the block.
    pub(crate) index: u32,
    /// Whose signature it has.
    pub(crate) signer: Address,
    /// Who acts: the validator, if its duty key has sent what such a key may send.
    pub(crate) sender: Address,
    pub(crate) clock: Clock,
    pub(crate) events: Vec<Event>,
}

/// What every action implements.
pub(super) trait Apply {
    /// Whether the action is a duty: what validators owe the network, evidence against them, and
    /// the operator's command. A duty is free and has no nonce, so it must be one that the rules
    /// accept once and no more.
    const DUTY: bool = false;

    /// Whether a validator's duty key may send it in its validator's name.
    const BY_DUTY_KEY: bool = Self::DUTY;

    /// What the action costs every node beyond reading its bytes, in units that cost as much as a
    /// byte of a transaction: 0.2 us.
    fn work(&self) -> u64 {
        0
    }

    /// Room that its consequences take permanently, in bytes, each record's overhead included,
    /// beyond the records that it writes itself.
    fn room_bytes(&self) -> u64 {
        0
    }

    /// Checks the action, then makes its changes. Anything written before a rejection is discarded.
    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection>;
}

impl Context<'_> {
    /// The sender as a registered validator.
    pub(super) fn validator(&self) -> Result<Validator, Rejection> {
        let validator = read::validator(&self.state, &self.sender);
        validator.filter(Validator::is_registered).ok_or(Rejection::NotValidator)
    }

    /// The sender as a validator with a seat.
    pub(super) fn seated(&self) -> Result<Address, Rejection> {
        self.validator()?;
        if read::committee(&self.state).seats_validator(&self.sender) {
            Ok(self.sender)
        } else {
            Err(Rejection::NotSeated)
        }
    }

    /// A model that is not retired. One that is retiring may still reveal what it committed to, so
    /// that it is not slashed for a missed reveal.
    pub(super) fn staked_model(&self, id: ModelId) -> Result<Model, Rejection> {
        let model = read::model(&self.state, id);
        let model = model.ok_or(Rejection::ModelNotFound { model: id })?;
        match model.status {
            ModelStatus::Retired => Err(Rejection::ModelRetired { model: id }),
            _ => Ok(model),
        }
    }

    /// A model that is neither retired nor retiring and belongs to the sender.
    pub(super) fn own_model(&self, id: ModelId) -> Result<Model, Rejection> {
        let model = self.staked_model(id)?;
        if matches!(model.status, ModelStatus::Retiring { .. }) {
            return Err(Rejection::ModelRetired { model: id });
        }
        if model.owner == self.sender {
            Ok(model)
        } else {
            Err(Rejection::NotModelOwner { model: id })
        }
    }

    /// Rejects an action that depends on what the end of the last epoch does to a model, until the
    /// pass over all models has visited it.
    pub(super) fn check_visited(&self, model: &Model) -> Result<(), Rejection> {
        let tasks = read::tasks(&self.state);
        if tasks.will_visit(model) { Err(Rejection::TasksPending) } else { Ok(()) }
    }

    /// Rejects an action that depends on what is settled after the last epoch, until it is: on who
    /// shares its pay, or on what has won.
    pub(super) fn check_settled(&self) -> Result<(), Rejection> {
        let is_settled = !read::tasks(&self.state).will_settle();
        if is_settled || !self.config.defends(Defense::SettledFirst) {
            Ok(())
        } else {
            Err(Rejection::TasksPending)
        }
    }

    /// A target that belongs to `epoch`.
    pub(super) fn target_of(&self, id: TargetId, epoch: Epoch) -> Result<Target, Rejection> {
        let target = read::target(&self.state, id);
        let target = target.ok_or(Rejection::TargetNotFound { target: id })?;
        if target.epoch == epoch {
            Ok(target)
        } else {
            Err(Rejection::TargetClosed { target: id, epoch: target.epoch })
        }
    }
}

/// Rejects an action for an epoch other than `expected`.
pub(super) fn check_epoch(found: Epoch, expected: Epoch) -> Result<(), Rejection> {
    if found == expected { Ok(()) } else { Err(Rejection::WrongEpoch { expected, found }) }
}
