//! A validator reveals its part of the running epoch's randomness, in any block of the reveal
//! phase.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context, check_epoch};
use crate::proof::commitment;
use crate::state::Key;
use crate::{Epoch, Event, Hash, Rejection, read};

/// A validator reveals its randomness. A duty.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RevealBeacon {
    /// The running epoch.
    pub epoch: Epoch,
    /// The value that was committed to.
    pub value: Hash,
}

impl Apply for RevealBeacon {
    const DUTY: bool = true;

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let Self { epoch, value } = *self;
        let validator = context.validator()?.address;
        check_epoch(epoch, context.clock.epoch)?;
        let phase = context.clock.phase;
        if !phase.reveals() {
            return Err(Rejection::WrongPhase { phase });
        }
        let commit = read::beacon_commit(&context.state, epoch, &validator);
        let mut commit = commit.ok_or(Rejection::BeaconNotCommitted { epoch })?;
        if commit.value.is_some() {
            return Err(Rejection::BeaconAlreadyRevealed { epoch });
        }
        let chain = &context.config.network.chain_id;
        if commitment::beacon(chain, &validator, epoch, &value) != commit.commitment {
            return Err(Rejection::CommitmentMismatch);
        }
        commit.value = Some(value);
        context.state.save(Key::beacon(epoch, &validator), &commit);
        let event = Event::BeaconRevealed { epoch, validator };
        context.events.push(event);
        Ok(())
    }
}
