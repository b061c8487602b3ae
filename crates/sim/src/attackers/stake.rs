//! Attacks with stake: on other stakers, on draws, and on the committee.

use rand::{RngExt as _, seq::IndexedRandom as _};
use soma_protocol::record::{ModelStatus, ValidatorStatus};
use soma_protocol::{
    Amount, Change, ConsensusKey, Epoch, ModelId, Phase, PoolId, SecretKey, action, commitment,
    read,
};

use super::hand::Hand;
use crate::actors::beacon_value;
use crate::genesis::{ADVERSARY, NODES, VALIDATORS, attacker_key, node_key};

/// How many models and validators an attacker registers.
const MODELS_MAX: u32 = 40;
const SWARM: u8 = 3;
/// What a sniper adds to a validator: much more than the others have, but not so much that they
/// would lose their seats, which is what such a stake may buy.
const RAISE: u64 = 1_050;
/// The stake that is seated at genesis behind each validator.
const USUAL: u64 = 200;

/// Makes pools with as few shares as the rules allow, and adds stake so small that it would be
/// rounded.
pub(super) fn inflate(hand: &mut Hand<'_>) {
    let key = hand.key(0);
    if hand.once_in(8) {
        let amount = Amount(hand.rng.random_range(1..2_000_000));
        let model = ModelId(hand.rng.random_range(1..=read::model_count(hand.state)));
        hand.pay(&key, action::AddStake { pool: PoolId::Model(model), amount });
    }
    let own = hand.own_models(&key.address());
    let Some(model) = own.iter().find(|model| model.status == ModelStatus::Registered) else {
        if hand.once_in(10) && read::model_count(hand.state) < MODELS_MAX {
            let name = "first depositor".into();
            let stake = Amount::soma(2);
            hand.pay(&key, action::RegisterModel { name, commission_bps: 0, stake });
        }
        return;
    };
    // Nobody else may have a stake in it yet: one base unit stays, for others to be rounded to.
    hand.pay(&key, action::RetireModel { model: model.id });
    let amount = Amount(model.pool.stake.0.saturating_sub(1));
    hand.pay(&key, action::WithdrawStake { pool: PoolId::Model(model.id), amount });
}

/// Adds stake just before draws and elections and withdraws it as soon as it may. The adversary's
/// validator changes its key and commission, leaves and returns.
pub(super) fn snipe(hand: &mut Hand<'_>) {
    let before_draw = matches!(hand.clock.phase, Phase::Publish(_));
    if before_draw && hand.once_in(5) {
        let account = hand.rng.random_range(0..4);
        let key = hand.key(account);
        let pool = PoolId::Model(ModelId(hand.rng.random_range(1..3)));
        hand.pay(&key, action::AddStake { pool, amount: Amount::soma(300) });
    }
    for account in 0..4 {
        let key = hand.key(account);
        for pool in [ModelId(1), ModelId(2)].map(PoolId::Model) {
            if hand.once_in(20) && read::share(hand.state, pool, &key.address()).shares > 0 {
                hand.pay(&key, action::WithdrawStake { pool, amount: Amount::soma(10_000) });
            }
        }
    }
    raise(hand);
    if hand.once_in(12) {
        shift(hand);
    }
}

/// Puts much more stake behind one honest validator than the others have.
fn raise(hand: &mut Hand<'_>) {
    let honest: Vec<_> = (0..VALIDATORS)
        .filter(|node| *node != ADVERSARY)
        .filter_map(|node| read::validator(hand.state, &node_key(node).address()))
        .collect();
    let highest = honest.iter().map(|validator| validator.pool.total()).max().unwrap_or_default();
    let others =
        (0..NODES).filter_map(|node| read::validator(hand.state, &node_key(node).address()));
    let usual = others.filter(|validator| validator.pool.stake >= Amount::soma(USUAL - 50));
    if highest > Amount::soma(2 * USUAL) || usual.count() < VALIDATORS {
        return;
    }
    if let Some(validator) = honest.choose(hand.rng) {
        let (pool, amount) = (PoolId::Validator(validator.address), Amount::soma(RAISE));
        hand.pay(&hand.key(4), action::AddStake { pool, amount });
    }
}

/// What the adversary's validator does to escape.
fn shift(hand: &mut Hand<'_>) {
    let key = node_key(ADVERSARY);
    let seats = read::committee(hand.state).seats.len();
    match hand.rng.random_range(0..5) {
        0 => rotate(hand, &key),
        1 => {
            let pool = PoolId::Validator(key.address());
            hand.pay(&key, action::SetCommission { pool, commission_bps: 10_000 });
        }
        2 if seats > VALIDATORS => hand.pay(&key, action::LeaveValidator {}),
        3 => hand.pay(&key, action::ReturnValidator {}),
        _ => {
            let pool = PoolId::Validator(key.address());
            hand.pay(&key, action::WithdrawStake { pool, amount: Amount::soma(1) });
        }
    }
}

/// Announces another key and, the next time, the old one again.
fn rotate(hand: &mut Hand<'_>, key: &SecretKey) {
    let other = hand.key(5);
    let validator = read::validator(hand.state, &key.address());
    let announced = validator.and_then(|validator| validator.next_key);
    let new = if announced.is_some() { key } else { &other };
    let proof = new.prove_possession(hand.chain, &key.address());
    let consensus_key = ConsensusKey(new.address().0);
    hand.pay(key, action::RotateKey { consensus_key, proof });
}

/// Registers validators with much less stake than the others have; they contribute to the beacon
/// whether or not they have a seat, and propose as much as they can.
pub(super) fn swarm(hand: &mut Hand<'_>) {
    for account in 0..SWARM {
        let (key, vote) = (hand.key(account), attacker_key(u8::MAX, account));
        let address = key.address();
        let registered = read::validator(hand.state, &address);
        let Some(validator) = registered.filter(soma_protocol::record::Validator::is_registered)
        else {
            if hand.once_in(10) {
                let stake = Amount::soma(hand.rng.random_range(1..20));
                hand.pay(
                    &key,
                    action::RegisterValidator {
                        consensus_key: ConsensusKey(vote.address().0),
                        proof: vote.prove_possession(hand.chain, &address),
                        commission_bps: 10_000,
                        stake,
                    },
                );
            }
            continue;
        };
        let (epoch, next) = (hand.clock.epoch, Epoch(hand.clock.epoch.0 + 1));
        let value = beacon_value(&address, next);
        let commitment = commitment::beacon(hand.chain, &address, next, &value);
        if hand.once_in(4) {
            hand.perform(&key, action::CommitBeacon { epoch: next, commitment });
        }
        if hand.clock.phase.reveals() && hand.once_in(2) {
            let value = beacon_value(&address, epoch);
            hand.perform(&key, action::RevealBeacon { epoch, value });
        }
        if hand.once_in(10) {
            let change = Change::Parameter { name: "byte_fee".into(), value: 11 };
            hand.pay(&key, action::Propose { change });
        }
        match validator.status {
            ValidatorStatus::Leaving if hand.once_in(20) => {
                hand.pay(&key, action::ReturnValidator {});
            }
            ValidatorStatus::Ready if hand.once_in(100) => {
                hand.pay(&key, action::LeaveValidator {});
            }
            _ => {}
        }
    }
}
