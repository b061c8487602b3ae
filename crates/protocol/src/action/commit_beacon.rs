//! A seated validator commits to its part of the next epoch's randomness, once. If it loses its
//! seat before that epoch, the commit is deleted.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context, check_epoch};
use crate::record::BeaconCommit;
use crate::state::Key;
use crate::{Defense, Epoch, Event, Hash, Rejection};

/// A seated validator commits to its randomness for the next epoch. A duty.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CommitBeacon {
    /// The next epoch.
    pub epoch: Epoch,
    /// [`crate::commitment::beacon`].
    pub commitment: Hash,
}

impl Apply for CommitBeacon {
    const DUTY: bool = true;

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let epoch = self.epoch;
        let validator = if context.config.defends(Defense::SeatedBeacon) {
            context.seated()?
        } else {
            context.validator()?.address
        };
        check_epoch(epoch, context.clock.epoch.next())?;
        let key = Key::beacon(epoch, &validator);
        if context.state.contains(&key) {
            return Err(Rejection::BeaconAlreadyCommitted { epoch });
        }
        let commit = BeaconCommit { commitment: self.commitment, value: None };
        context.state.save(key, &commit);
        let event = Event::BeaconCommitted { epoch, validator };
        context.events.push(event);
        Ok(())
    }
}
