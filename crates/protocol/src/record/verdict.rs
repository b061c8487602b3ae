//! Verdicts: the results of validators that rescore a published claim.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::record::ROUTED_MAX;
use crate::{Address, Hash, TargetId};

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
    /// Routed models whose published file is malformed or not what was revealed.
    pub broken: Broken,
}

/// A set of a target's routed models, by their places: bit i is for the model at place i.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Broken(pub u16);

const _: () = assert!(ROUTED_MAX <= u16::BITS, "every routed model has a bit");

impl Broken {
    /// Whether the model at this place of the routed list is in the set.
    pub fn contains(self, place: usize) -> bool {
        self.0 & bit(place) != 0
    }
}

impl FromIterator<usize> for Broken {
    /// The set of the models at these places. Places beyond [`ROUTED_MAX`] do not exist.
    fn from_iter<I: IntoIterator<Item = usize>>(places: I) -> Self {
        Self(places.into_iter().map(bit).fold(0, std::ops::BitOr::bitor))
    }
}

fn bit(place: usize) -> u16 {
    u32::try_from(place).ok().and_then(|place| 1_u16.checked_shl(place)).unwrap_or(0)
}

/// A validator's verdict on a published claim: committed to, then revealed. Each is a record of its
/// own, so that no validator rewrites another's, and none is longer than another.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct VerdictCommit {
    /// The target.
    pub target: TargetId,
    /// The validator.
    pub validator: Address,
    /// The commitment to the verdict; see [`crate::commitment::verdict`].
    pub commitment: Hash,
    /// The verdict, once revealed.
    pub verdict: Option<Verdict>,
}

#[cfg(test)]
mod tests {
    use super::Broken;

    #[test]
    fn every_place_of_the_routed_list_has_its_own_bit() {
        for place in 0..16 {
            let one: Broken = [place].into_iter().collect();
            assert_eq!(one.0.count_ones(), 1);
            assert!((0..20).all(|other| one.contains(other) == (other == place)));
        }
        let some: Broken = [0, 3, 3, 15, 16, usize::MAX].into_iter().collect();
        assert_eq!(some, Broken(0b1000_0000_0000_1001));
    }
}
