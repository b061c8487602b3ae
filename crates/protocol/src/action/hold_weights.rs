//! A validator attests that it holds committed files. A commit needs attestations from more than a
//! third of the stake, hence from at least one honest holder, before its epoch begins; the one that
//! brings it there makes the commit available. A validator may also attest to files already in use,
//! and is paid rent from then on. Entries that name nothing new are skipped, so that no commit can
//! veto a validator's word on the others.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context, check_epoch};
use crate::record::{Committee, Rent, SEATS_MAX};
use crate::state::{Key, StateRead, load};
use crate::{Address, Epoch, Event, Hash, ModelId, Rejection, decimal, read};

/// Maximum number of held files in one transaction.
pub const HELD_FILES_MAX: usize = 1_024;

/// Number of holders of a file beyond which those without a seat are dropped from its list.
const HOLDERS_KEPT: usize = SEATS_MAX as usize;

/// A file that a validator holds.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct HeldFile {
    /// The model.
    pub model: ModelId,
    /// BLAKE3 of the encrypted file that its commit names.
    pub ciphertext_hash: Hash,
    /// Length of that file in bytes, as its commit names it: a validator that holds the file
    /// attests to its true size, so a commit with another size is held by nobody.
    #[serde(with = "decimal")]
    pub size_bytes: u64,
}

/// A validator attests that it holds committed files. A duty.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct HoldWeights {
    /// The epoch of the reveals, which is the next one.
    pub epoch: Epoch,
    /// The files, at most [`HELD_FILES_MAX`].
    pub held: Vec<HeldFile>,
}

impl Apply for HoldWeights {
    const DUTY: bool = true;

    // Looking up and rewriting the holders of each file.
    fn work(&self) -> u64 {
        u64::try_from(self.held.len()).unwrap_or(u64::MAX).saturating_mul(60)
    }

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let epoch = self.epoch;
        let validator = context.seated()?;
        check_epoch(epoch, context.clock.epoch.next())?;
        if self.held.is_empty() || self.held.len() > HELD_FILES_MAX {
            let count = |length| u32::try_from(length).unwrap_or(u32::MAX);
            return Err(Rejection::BadHeldList {
                found: count(self.held.len()),
                max: count(HELD_FILES_MAX),
            });
        }
        let committee = read::committee(&context.state);
        let (mut is_new, mut refused) = (false, None);
        for file in &self.held {
            match hold(context, &committee, file, epoch, validator) {
                Ok(()) => {
                    is_new = true;
                    let event = Event::WeightsHeld { model: file.model, epoch, validator };
                    context.events.push(event);
                }
                Err(rejection) => refused = refused.or(Some(rejection)),
            }
        }
        // One entry must not veto the others: whoever commits decides what is in the list.
        match refused {
            Some(rejection) if !is_new => Err(rejection),
            _ => Ok(()),
        }
    }
}

/// Adds the validator to the holders of a file in every record that names it: the model's commits
/// for the epoch, and the rent of the files in use. Rejected if nothing is new.
fn hold(
    context: &mut Context<'_>,
    committee: &Committee,
    file: &HeldFile,
    epoch: Epoch,
    validator: Address,
) -> Result<(), Rejection> {
    let model = file.model;
    let (mut is_named, mut is_new) = (false, false);
    let commits = read::commits_of(&context.state, model, epoch);
    let others = !commits.is_empty();
    for mut commit in commits {
        if file.is(&commit.ciphertext_hash, commit.size_bytes) {
            is_named = true;
            if add_holder(&mut commit.holders, committee, validator) {
                is_new = true;
                if !commit.available && commit.is_held(committee) {
                    commit.available = true;
                    context.events.push(Event::WeightsAvailable { model, epoch });
                }
                let key = Key::commit(model, epoch, commit.architecture);
                context.state.save(key, &commit);
            }
        }
    }
    for number in used_by(&context.state, file) {
        let key = Key::rent(model, number);
        if let Some(mut rent) = load::<Rent>(&context.state, &key) {
            is_named = true;
            if add_holder(&mut rent.holders, committee, validator) {
                is_new = true;
                context.state.save(key, &rent);
            }
        }
    }
    if is_new {
        Ok(())
    } else if is_named {
        Err(Rejection::AlreadyHeld { model })
    } else if others {
        Err(Rejection::OtherFileCommitted { model })
    } else {
        Err(Rejection::CommitNotFound { model, epoch })
    }
}

/// The architectures for which the model competes with the file, or will.
fn used_by(state: &dyn StateRead, file: &HeldFile) -> Vec<u32> {
    let Some(model) = read::model(state, file.model) else {
        return Vec::new();
    };
    let is_used = |number: &u32| {
        read::weights_for(state, &model, *number)
            .is_some_and(|weights| file.is(&weights.ciphertext_hash, weights.size_bytes))
    };
    read::open_architectures(state).filter(is_used).collect()
}

impl HeldFile {
    /// Whether it is the file with this hash and size.
    fn is(&self, ciphertext_hash: &Hash, size_bytes: u64) -> bool {
        (&self.ciphertext_hash, self.size_bytes) == (ciphertext_hash, size_bytes)
    }
}

/// Adds a seated validator; returns whether it is new. In a full list, those that have lost their
/// seats make room.
fn add_holder(holders: &mut Vec<Address>, committee: &Committee, validator: Address) -> bool {
    if holders.contains(&validator) {
        return false;
    }
    if holders.len() >= HOLDERS_KEPT {
        holders.retain(|holder| committee.seats_validator(holder));
    }
    holders.push(validator);
    true
}

#[cfg(test)]
mod tests {
    use super::{HOLDERS_KEPT, add_holder};
    use crate::record::{Committee, Seat};
    use crate::{Address, Amount, ConsensusKey, Epoch};

    #[test]
    fn those_that_lost_their_seats_make_room_in_a_full_list() {
        let address = |at: usize| Address([u8::try_from(at).unwrap_or(0); 32]);
        let seat = |at| Seat {
            consensus_key: ConsensusKey([0; 32]),
            validator: address(at),
            stake: Amount(1),
            since: Epoch(1),
        };
        let seats = (100..150).map(seat).collect();
        let committee = Committee { number: 1, height: 1, epoch: Epoch(2), seats };
        let mut holders: Vec<Address> = (1..=HOLDERS_KEPT).map(address).collect();
        holders[5] = address(100);
        assert!(add_holder(&mut holders, &committee, address(101)));
        assert_eq!(holders, [100, 101].map(address));
        assert!(!add_holder(&mut holders, &committee, address(101)));
    }
}
