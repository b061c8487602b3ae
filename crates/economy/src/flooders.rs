//! Flooders, who buy room in blocks to keep others out of it.

use soma_protocol::{Action, TargetId, action, read};

use crate::actors::{Actor, Kind};
use crate::chain::Chain;
use crate::submitters::ATTACK_EVERY;

/// Payments of a flood: with as many, no other of ordinary length fits beside them.
const PAYMENTS: usize = 7;
/// Length of the data in each, in bytes.
const BYTES: usize = 98_304;
/// The tip for each byte, as a multiple of the fee for a byte.
const TIP: u64 = 2;

/// Fills most of the payments' room of one block with payments that the rules reject.
pub fn flood(chain: &mut Chain, actors: &[Actor]) {
    if !read::clock(&chain.state).epoch.0.is_multiple_of(ATTACK_EVERY) {
        return;
    }
    let tip = read::params(&chain.state).byte_fee.times(TIP).times(BYTES as u64);
    for actor in actors.iter().filter(|actor| actor.kind == Kind::Flooder) {
        for _ in 0..PAYMENTS {
            let publish = action::PublishData {
                target: TargetId(u32::MAX),
                data: vec![0; BYTES],
                ..action::PublishData::default()
            };
            chain.bid(&actor.key, Action::PublishData(publish), tip);
        }
    }
}
