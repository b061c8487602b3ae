//! An epoch's randomness, made of what validators committed to before it began. Whoever keeps his
//! part closed loses the epoch's reward and a little stake: one bit of influence, paid for.

use crate::epoch::Turn;
use crate::record::{BeaconCommit, load};
use crate::state::Key;
use crate::{Address, Event, Hash, slashing, view};

/// Draws the running epoch's randomness. Returns it and who contributed.
pub(crate) fn draw(turn: &mut Turn<'_, '_>) -> (Hash, Vec<Address>) {
    let epoch = turn.clock.epoch;
    let mut values = Vec::new();
    let mut opened = Vec::new();
    for validator in view::registered(turn.state) {
        let key = Key::beacon(epoch, &validator.address);
        let Some(commit) = load::<BeaconCommit>(turn.state, &key) else {
            continue;
        };
        turn.state.delete(key);
        if let Some(value) = commit.value {
            values.extend(value.0);
            opened.push(validator.address);
            continue;
        }
        let bps = turn.rules.params.beacon_slash_bps;
        slashing::validator(turn, validator, bps);
    }
    let chain = &turn.rules.network.chain_id;
    let previous = view::epoch(turn.state, epoch.previous()).map_or(*chain, |record| record.beacon);
    let parts: [&[u8]; 4] = [&chain.0, &epoch.0.to_le_bytes(), &previous.0, &values];
    let beacon = Hash::of_parts("soma beacon", &parts);
    turn.events.push(Event::BeaconDrawn { epoch, beacon });
    (beacon, opened)
}
