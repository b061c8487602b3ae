//! A validator commits to its part of the next epoch's randomness, once.

use crate::action::{Context, check_epoch};
use crate::record::BeaconCommit;
use crate::state::Key;
use crate::{Epoch, Event, Hash, Rejection};

pub(crate) fn apply(
    context: &mut Context<'_>,
    epoch: Epoch,
    commitment: Hash,
) -> Result<(), Rejection> {
    let validator = context.validator()?.address;
    check_epoch(epoch, context.clock.epoch.next())?;
    let key = Key::beacon(epoch, &validator);
    if context.state.contains(&key) {
        return Err(Rejection::BeaconAlreadyCommitted { epoch });
    }
    context.state.save(
        key,
        &BeaconCommit {
            commitment,
            value: None,
        },
    );
    context
        .events
        .push(Event::BeaconCommitted { epoch, validator });
    Ok(())
}
