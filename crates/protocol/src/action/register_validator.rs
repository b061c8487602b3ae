//! Registering a validator: a consensus key that it proves to hold, and a stake. It gets a seat at
//! the end of the epoch, if one is free or it has more behind it than another.

use crate::action::Context;
use crate::money::{PoolOwner, debit, save_share};
use crate::proof::{commitment, evidence};
use crate::record::{KeyHolder, Pool, VALIDATORS_MAX, Validator, ValidatorStatus, Validators};
use crate::state::{Draft, Key, load};
use crate::value::BPS;
use crate::{Address, Amount, ConsensusKey, Event, Hash, PoolId, Rejection, read};

/// What an operator says of its validator.
pub(crate) struct Terms<'a> {
    pub(crate) consensus_key: ConsensusKey,
    pub(crate) proof: &'a [u8; 64],
    pub(crate) commission_bps: u16,
    pub(crate) stake: Amount,
}

pub(crate) fn apply(context: &mut Context<'_>, terms: &Terms<'_>) -> Result<(), Rejection> {
    let address = context.sender;
    let minimum = context.config.params.validator_stake_min;
    if terms.commission_bps > BPS {
        return Err(Rejection::BadCommission {
            bps: terms.commission_bps,
        });
    }
    let known = read::validator(&context.state, &address);
    match known.as_ref().map(|known| known.status) {
        None | Some(ValidatorStatus::Left) => {}
        Some(ValidatorStatus::Expelled) => return Err(Rejection::Expelled),
        Some(_) => return Err(Rejection::AlreadyValidator),
    }
    let before = known.as_ref().map_or(Pool::default(), |known| known.pool);
    if before.stake.plus(terms.stake) < minimum {
        let stake = before.stake.plus(terms.stake);
        return Err(Rejection::StakeTooLow { stake, minimum });
    }
    check_key(
        &context.state,
        &context.config.network.chain_id,
        &address,
        &terms.consensus_key,
        terms.proof,
    )?;
    let mut list: Validators =
        load(&context.state, &Key::validators()).unwrap_or(Validators(Vec::new()));
    if list.0.len() >= VALIDATORS_MAX {
        return Err(Rejection::Full);
    }
    list.0.push(address);
    context.state.save(Key::validators(), &list);
    let mut record = PoolOwner::Validator(Validator {
        address,
        consensus_key: terms.consensus_key,
        next_key: None,
        pool: before,
        commission_bps: terms.commission_bps,
        next_commission: None,
        rent_price: known.and_then(|known| known.rent_price),
        status: ValidatorStatus::Ready,
        since: context.clock.epoch,
        missed: 0,
    });
    if terms.stake > Amount::ZERO {
        debit(&mut context.state, &address, terms.stake)?;
        let id = PoolId::Validator(address);
        let minted = record.pool().deposit(terms.stake);
        let mut share = read::share(&context.state, id, &address);
        share.shares = share
            .shares
            .saturating_add(minted.ok_or(Rejection::NoShare { pool: id })?);
        save_share(&mut context.state, id, &address, share);
    }
    record.save(&mut context.state);
    take_key(&mut context.state, &address, &terms.consensus_key);
    context.events.push(Event::ValidatorRegistered {
        validator: address,
        consensus_key: terms.consensus_key,
        stake: terms.stake,
    });
    Ok(())
}

/// Whether a validator may take a key: it proves to hold it, and nobody else ever had it.
pub(super) fn check_key(
    state: &Draft<'_>,
    chain: &Hash,
    address: &Address,
    key: &ConsensusKey,
    proof: &[u8; 64],
) -> Result<(), Rejection> {
    if read::key_holder(state, key).is_some_and(|holder| holder != *address) {
        return Err(Rejection::ConsensusKeyTaken);
    }
    let bytes = commitment::possession(chain, address, key);
    if evidence::verifies(key, proof, &bytes.0) {
        Ok(())
    } else {
        Err(Rejection::BadProof)
    }
}

/// Writes down whose key it is, for ever.
pub(super) fn take_key(state: &mut Draft<'_>, address: &Address, key: &ConsensusKey) {
    state.save(Key::key_holder(key), &KeyHolder(*address));
}
