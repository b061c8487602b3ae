//! Work that the end of a phase leaves to the blocks after it. What a boundary has to do grows with
//! the number of models and stakers; what a block may take does not. So the rest waits here with a
//! cursor, and no phase ends until it is done.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::record::Model;
use crate::{Address, Epoch, ModelId, TargetId};

/// The most targets that are routed in one pass over the models: the models found so far are saved
/// with the task after every block.
pub const TARGETS_PER_PASS_MAX: u32 = 64;

/// The tasks that wait, in the order in which they run. There is no record when none waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Tasks(pub Vec<Task>);

impl Tasks {
    /// Whether a pass over all models has yet to visit this one.
    pub fn will_visit(&self, model: &Model) -> bool {
        self.0.iter().any(|task| match task {
            Task::Models(task) => model.place < task.left,
            _ => false,
        })
    }

    /// Whether targets of the epoch before the last, or the validators' pay, are not settled yet.
    pub fn will_settle(&self) -> bool {
        self.0.iter().any(|task| matches!(task, Task::Settle(_)))
    }
}

/// A task and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Task {
    /// Settles targets, then pays the validators.
    Settle(SettleTask),
    /// Visits every living model.
    Models(ModelTask),
    /// Carries out the stake changes that are due.
    Stakes(StakeTask),
    /// Draws targets and routes models to them.
    Route(RouteTask),
}

/// Settles the targets of the epoch before `ended`, then pays the validators for `ended`.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SettleTask {
    /// The epoch that has ended.
    pub ended: Epoch,
    /// The next target to settle.
    pub next: TargetId,
    /// The id after the last target's.
    pub end: TargetId,
    /// What the auditors have earned so far.
    pub audits: Audits,
}

impl SettleTask {
    /// Whether a target still waits to be settled.
    pub fn awaits(&self, target: TargetId) -> bool {
        (self.next..self.end).contains(&target)
    }
}

/// Results of the auditors of an epoch's targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Audits {
    /// Targets with a published claim to audit.
    pub published: u32,
    /// Number of them on which each validator had the verdict of more than two thirds of the stake.
    pub agreed: BTreeMap<Address, u32>,
}

/// Visits every living model after an epoch: rent, commits, refreshes, retirements, commissions.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ModelTask {
    /// The epoch that has ended.
    pub ended: Epoch,
    /// Numbers of the architectures that were open in it.
    pub architectures: Vec<u32>,
    /// How many models are left, from the list's first place on. The pass runs backward, so that a
    /// model that takes the place of a removed one has already been visited.
    pub left: u32,
}

/// Carries out the stake changes that are due as `epoch` begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StakeTask {
    /// The epoch that has begun.
    pub epoch: Epoch,
    /// Number of the next change.
    pub next: u32,
}

/// Routes models to the running epoch's targets, several targets in each pass over the models.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RouteTask {
    /// How many models the pass has left, from the list's first place on.
    pub left: u32,
    /// The nearest models found so far, for each target of the pass; empty before it begins.
    pub nearest: Vec<Vec<Rank>>,
}

/// A model's place in the routing order of a target: by rank value, then earlier activation, then
/// lower id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Rank {
    /// The rank value: lower is nearer.
    pub value: i128,
    /// Epoch since which the model has been active.
    pub activated: Epoch,
    /// The model.
    pub model: ModelId,
}
