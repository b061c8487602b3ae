//! Registering a validator, with a consensus key that it proves it holds, and a stake. It gets a
//! seat at the end of the epoch if it has about as much stake as those that have one. What it did
//! before it left is remembered: its jail, and the commission that its stakers know.

use std::cmp::Reverse;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use super::register_model::check_commission;
use super::return_validator::check_jail;
use super::rotate_key::{check_key, save_key_holder};
use crate::money::{PoolOwner, debit, save_share};
use crate::record::{NextCommission, Pool, VALIDATORS_MAX, Validator, ValidatorStatus, Validators};
use crate::state::{Key, load};
use crate::{Address, Amount, ConsensusKey, Epoch, Event, PoolId, Rejection, hex, read};

/// Registers a validator.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RegisterValidator {
    /// Its consensus key, which no other validator has ever had.
    pub consensus_key: ConsensusKey,
    /// [`crate::SecretKey::prove_possession`] with that key.
    #[serde(with = "hex::array")]
    pub proof: [u8; 64],
    /// The operator's share of the stake's earnings, in ten-thousandths.
    pub commission_bps: u16,
    /// Its stake.
    pub stake: Amount,
}

impl Apply for RegisterValidator {
    // A signature, and the list of validators is rewritten; if it is full, all of them are read.
    fn work(&self) -> u64 {
        8_000
    }

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let address = context.sender;
        check_commission(self.commission_bps)?;
        let former = read::validator(&context.state, &address);
        match former.as_ref().map(|former| former.status) {
            None | Some(ValidatorStatus::Left) => {}
            Some(ValidatorStatus::Expelled) => return Err(Rejection::Expelled),
            Some(_) => return Err(Rejection::AlreadyValidator),
        }
        if let Some(former) = &former {
            check_jail(context, former)?;
            // Its stake is active at once: it must not share what others earned before.
            context.check_settled()?;
        }
        let pool = former.as_ref().map_or(Pool::default(), |former| former.pool);
        let minimum = context.config.params.validator_stake_min;
        let stake = pool.stake.plus(self.stake);
        if stake < minimum {
            return Err(Rejection::StakeTooLow { stake, minimum });
        }
        if read::duty_key_holder(&context.state, &address).is_some() {
            return Err(Rejection::DutyKeyTaken);
        }
        check_key(context, &address, &self.consensus_key, &self.proof)?;
        list(context, address, stake)?;
        let (commission_bps, next_commission) = self.commission(context, former.as_ref());
        let mut validator = PoolOwner::Validator(Validator {
            address,
            consensus_key: self.consensus_key,
            next_key: None,
            duty_key: former.as_ref().and_then(|former| former.duty_key),
            pool,
            commission_bps,
            next_commission,
            rent_price: former.as_ref().and_then(|former| former.rent_price),
            status: ValidatorStatus::Ready,
            since: context.clock.epoch,
            missed: former.as_ref().map_or(0, |former| former.missed),
            jailed_until: former.as_ref().map_or(Epoch(0), |former| former.jailed_until),
        });
        if self.stake > Amount::ZERO {
            debit(&mut context.state, &address, self.stake)?;
            let pool = PoolId::Validator(address);
            let minted = validator.pool().deposit(self.stake);
            let minted = minted.ok_or(Rejection::NoShare { pool })?;
            let mut share = read::share(&context.state, pool, &address);
            share.shares = share.shares.saturating_add(minted);
            if share.shares < context.config.shares_min() {
                return Err(Rejection::NoShare { pool });
            }
            save_share(&mut context.state, pool, &address, share);
        }
        validator.save(&mut context.state);
        save_key_holder(&mut context.state, &address, &self.consensus_key);
        context.events.push(Event::ValidatorRegistered {
            validator: address,
            consensus_key: self.consensus_key,
            stake: self.stake,
        });
        Ok(())
    }
}

impl RegisterValidator {
    /// The commission from now on, and the one that follows. A validator that has left cannot raise
    /// it over the heads of others whose stake is still there: they may leave first, as if it had
    /// never left.
    fn commission(
        &self,
        context: &Context<'_>,
        former: Option<&Validator>,
    ) -> (u16, Option<NextCommission>) {
        let own = |former: &Validator| {
            let pool = PoolId::Validator(former.address);
            read::share(&context.state, pool, &former.address)
        };
        let staked = former.filter(|former| {
            let (pool, own) = (former.pool, own(former));
            pool.shares > own.shares || pool.joining_shares > own.joining_shares
        });
        match staked.map(|former| former.commission_bps) {
            Some(known) if known < self.commission_bps => {
                let epoch = context.clock.epoch.after(context.config.params.unbonding_epochs);
                (known, Some(NextCommission { bps: self.commission_bps, epoch }))
            }
            _ => (self.commission_bps, None),
        }
    }
}

/// Adds a validator to the list. If it is full, the validator without a seat that has the least
/// stake goes, if that is less than `stake`.
fn list(context: &mut Context<'_>, address: Address, stake: Amount) -> Result<(), Rejection> {
    let list: Option<Validators> = load(&context.state, &Key::validators());
    let mut list = list.unwrap_or_default();
    if list.0.len() >= VALIDATORS_MAX {
        let mut least = least_without_seat(context).ok_or(Rejection::Full)?;
        if least.pool.stake >= stake {
            return Err(Rejection::Full);
        }
        least.status = ValidatorStatus::Left;
        list.0.retain(|listed| *listed != least.address);
        context.state.save(Key::validator(&least.address), &least);
        context.state.delete(Key::endpoints(&least.address));
        context.events.push(Event::ValidatorUnregistered { validator: least.address });
    }
    list.0.push(address);
    context.state.save(Key::validators(), &list);
    Ok(())
}

/// The validator without a seat that has the least stake; among equals, the one that registered
/// last.
fn least_without_seat(context: &Context<'_>) -> Option<Validator> {
    let committee = read::committee(&context.state);
    let listed = read::validators(&context.state).into_iter();
    let unseated = listed.filter(|validator| !committee.seats_validator(&validator.address));
    unseated
        .min_by_key(|validator| (validator.pool.stake, Reverse(validator.since), validator.address))
}
