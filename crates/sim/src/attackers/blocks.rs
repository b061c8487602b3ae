//! Attacks on the room of blocks and pools, and on what validators owe.

use std::collections::BTreeMap;

use rand::RngExt as _;
use soma_protocol::{
    Action, Amount, Epoch, Hash, HeldFile, ModelId, PoolId, TargetId, VerifiedTransaction, action,
    commitment, read,
};

use super::hand::Hand;
use crate::actors::{FILE_BYTES, beacon_value, ciphertext, verdict};
use crate::genesis::{ADVERSARY, HANDS, NODES, node_key};

/// Steps of a flood, and one in how many steps one begins.
const FLOOD_STEPS: u32 = 160;
const FLOOD_EVERY: u32 = 30;
/// Payments of an account that wait at once: those of all accounts are twice what a pool holds.
const AHEAD: u64 = 8;
/// Accounts that begin a flood with a payment as long as payments may be: together they are longer
/// than a block.
const LONG: u8 = 11;
const LONG_BYTES: usize = 98_304;

/// A flooder, during one flood and between floods.
#[derive(Debug, Default)]
pub(super) struct Flood {
    /// Steps that the flood still lasts.
    left: u32,
    /// What each account sends, by nonce, until it is done.
    waiting: BTreeMap<(u8, u64), VerifiedTransaction>,
}

impl Flood {
    /// Keeps pools full for the cheapest price: every step, before anybody else.
    pub(super) fn step(&mut self, hand: &mut Hand<'_>) {
        if self.left == 0 {
            if hand.once_in(FLOOD_EVERY) {
                self.left = FLOOD_STEPS;
                self.waiting.clear();
                begin(hand);
            }
            return;
        }
        self.left -= 1;
        for account in 0..HANDS {
            let key = hand.key(account);
            let next = read::account(hand.state, &key.address()).nonce;
            for nonce in next..next + AHEAD {
                if let Some(sent) = self.waiting.get(&(account, nonce)) {
                    hand.sent.push(sent.clone());
                    continue;
                }
                let action = cheap(hand, nonce);
                hand.pay_at(&key, nonce, Amount::ZERO, action);
                self.waiting.extend(hand.sent.last().map(|sent| ((account, nonce), sent.clone())));
            }
        }
    }
}

/// Fills a whole block at once.
fn begin(hand: &mut Hand<'_>) {
    for account in 0..LONG {
        let key = hand.key(account);
        let publish = action::PublishData {
            target: TargetId(u32::MAX),
            data: vec![account; LONG_BYTES],
            ..action::PublishData::default()
        };
        let next = read::account(hand.state, &key.address()).nonce;
        hand.pay_at(&key, next, Amount::ZERO, publish.into());
    }
}

/// One of the cheapest payments; two of three fail.
fn cheap(hand: &Hand<'_>, nonce: u64) -> Action {
    let to = hand.key(0).address();
    match nonce % 3 {
        0 => action::Transfer { to, amount: Amount(1) }.into(),
        1 => action::RetireModel { model: ModelId(u32::MAX) }.into(),
        _ => action::AddStake { pool: PoolId::Validator(to), amount: Amount(1) }.into(),
    }
}

/// Sends duties that nobody owes, in the names of validators and of others, and lists of held files
/// as long as they are allowed, in which few entries are true.
pub(super) fn starve(hand: &mut Hand<'_>) {
    if hand.once_in(4) {
        for account in 0..4 {
            let key = hand.key(account);
            let epoch = Epoch(hand.clock.epoch.0 + 1);
            hand.perform(&key, action::CommitBeacon { epoch, commitment: Hash([account; 32]) });
        }
        let key = node_key(hand.rng.random_range(0..NODES));
        let target = TargetId(hand.rng.random_range(1..20));
        let verdict = verdict(hand.state, target);
        hand.perform(&key, action::RevealVerdict { target, verdict });
    }
    if hand.once_in(10) {
        let next = Epoch(hand.clock.epoch.0 + 1);
        let file = |model| HeldFile {
            model,
            ciphertext_hash: ciphertext(model, next),
            size_bytes: FILE_BYTES,
        };
        let true_ones = (1..=read::model_count(hand.state)).map(ModelId);
        let false_ones = (1_000_000..1_000_600).map(ModelId);
        let held = true_ones.chain(false_ones).map(file).collect();
        hand.perform(&node_key(ADVERSARY), action::HoldWeights { epoch: next, held });
    }
}

/// Commits to beacons without ever revealing them, and to verdicts when it is too late.
pub(super) fn lag(hand: &mut Hand<'_>) {
    let (key, next) = (node_key(ADVERSARY), Epoch(hand.clock.epoch.0 + 1));
    if hand.once_in(6) {
        let value = beacon_value(&key.address(), next);
        let commitment = commitment::beacon(hand.chain, &key.address(), next, &value);
        hand.perform(&key, action::CommitBeacon { epoch: next, commitment });
    }
    if hand.once_in(6) && hand.clock.phase == soma_protocol::Phase::Attest {
        let ended = Epoch(hand.clock.epoch.0.saturating_sub(1));
        for target in read::targets(hand.state, ended) {
            let verdict = verdict(hand.state, target.id);
            let commitment = commitment::verdict(hand.chain, &key.address(), target.id, &verdict);
            hand.perform(&key, action::CommitVerdict { target: target.id, commitment });
        }
    }
}
