//! An epoch's randomness, made from what validators committed to before it began. A validator that
//! does not reveal loses the epoch's reward and a little stake: the price of one bit of influence.

use crate::money::slashing;
use crate::record::BeaconCommit;
use crate::state::{Key, load};
use crate::transition::Transition;
use crate::{Address, Event, Hash, read};

/// Draws the running epoch's randomness. Returns it along with the validators that contributed.
pub(crate) fn draw(transition: &mut Transition<'_, '_>) -> (Hash, Vec<Address>) {
    let epoch = transition.clock.epoch;
    let mut values = Vec::new();
    let mut revealed = Vec::new();
    for validator in read::validators(transition.state) {
        let key = Key::beacon(epoch, &validator.address);
        let Some(commit) = load::<BeaconCommit>(transition.state, &key) else {
            continue;
        };
        transition.state.delete(key);
        if let Some(value) = commit.value {
            values.extend(value.0);
            revealed.push(validator.address);
            continue;
        }
        let bps = transition.config.params.beacon_slash_bps;
        slashing::validator(transition, validator, bps);
    }
    let chain = &transition.config.network.chain_id;
    let previous =
        read::epoch(transition.state, epoch.previous()).map_or(*chain, |record| record.beacon);
    let parts: [&[u8]; 4] = [&chain.0, &epoch.0.to_le_bytes(), &previous.0, &values];
    let beacon = Hash::of_parts("soma beacon", &parts);
    transition.events.push(Event::BeaconDrawn { epoch, beacon });
    (beacon, revealed)
}
