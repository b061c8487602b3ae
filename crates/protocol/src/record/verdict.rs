//! Verdicts: the results of validators that rescore a published claim.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{Address, Hash, ModelId};

/// Whether a claim is true.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Validity {
    /// Loss, winner and distance are as claimed.
    Valid,
    /// At least one of them is not.
    Invalid,
}

/// A validator's result for a published claim.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the claim is true.
    pub validity: Validity,
    /// [`crate::commitment::trace`] of the routed models' scores: proof that they were run.
    pub trace: Hash,
    /// Routed models whose published file is malformed or not what was revealed, in routed order.
    pub broken: Vec<ModelId>,
}

/// A validator's verdict on a published claim: committed to, then revealed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct VerdictCommit {
    /// The validator.
    pub validator: Address,
    /// The commitment to the verdict; see [`crate::commitment::verdict`].
    pub commitment: Hash,
    /// The verdict, once revealed.
    pub verdict: Option<Verdict>,
}

/// The verdicts on a target's published claim, in the order of their commits.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Verdicts(pub Vec<VerdictCommit>);

impl Verdicts {
    /// A validator's commit.
    pub fn of(&self, validator: &Address) -> Option<&VerdictCommit> {
        self.0.iter().find(|commit| commit.validator == *validator)
    }
}
