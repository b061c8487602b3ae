//! A validator changes its consensus key. A seat takes the new key when it may change, at the end
//! of an epoch; until then the old key votes.

use crate::action::{Context, register_validator};
use crate::state::Key;
use crate::{ConsensusKey, Event, Rejection};

pub(crate) fn apply(
    context: &mut Context<'_>,
    key: ConsensusKey,
    proof: &[u8; 64],
) -> Result<(), Rejection> {
    let mut validator = context.validator()?;
    register_validator::check_key(
        &context.state,
        &context.config.network.chain_id,
        &validator.address,
        &key,
        proof,
    )?;
    register_validator::take_key(&mut context.state, &validator.address, &key);
    validator.next_key = (key != validator.consensus_key).then_some(key);
    context
        .state
        .save(Key::validator(&validator.address), &validator);
    context.events.push(Event::KeyAnnounced {
        validator: validator.address,
        consensus_key: key,
    });
    Ok(())
}
