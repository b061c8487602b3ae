//! An epoch's randomness, made from what seated validators committed to before it began. One that
//! does not reveal loses the epoch's reward and some stake: the price of one bit of influence. Only
//! seats contribute, so that every bit has that price.

use crate::money::slashing;
use crate::record::BeaconCommit;
use crate::state::{Key, load};
use crate::transition::Transition;
use crate::{Address, Defense, Event, Hash, read};

/// Draws the running epoch's randomness. Returns it along with the validators that contributed, in
/// the order of seats.
pub(crate) fn draw(transition: &mut Transition<'_, '_>) -> (Hash, Vec<Address>) {
    let epoch = transition.clock.epoch;
    let mut values = Vec::new();
    let mut revealed = Vec::new();
    for validator in contributors(transition) {
        let key = Key::beacon(epoch, &validator);
        let Some(commit) = load::<BeaconCommit>(transition.state, &key) else {
            continue;
        };
        transition.state.delete(key);
        if let Some(value) = commit.value {
            values.extend(value.0);
            revealed.push(validator);
            continue;
        }
        let bps = transition.config.params.beacon_slash_bps;
        slashing::validator(transition, &validator, bps);
    }
    let chain = &transition.config.network.chain_id;
    let previous =
        read::epoch(transition.state, epoch.previous()).map_or(*chain, |record| record.beacon);
    let parts: [&[u8]; 4] = [&chain.0, &epoch.0.to_le_bytes(), &previous.0, &values];
    let beacon = Hash::of_parts("soma beacon", &parts);
    transition.events.push(Event::BeaconDrawn { epoch, beacon });
    (beacon, revealed)
}

/// The validators that may contribute, in the order of seats.
fn contributors(transition: &Transition<'_, '_>) -> Vec<Address> {
    if transition.config.defends(Defense::SeatedBeacon) {
        let seats = read::committee(transition.state).seats;
        return seats.iter().map(|seat| seat.validator).collect();
    }
    let validators = read::validators(transition.state);
    validators.iter().map(|validator| validator.address).collect()
}
