//! Registering a validator, with a consensus key that it proves it holds, and a stake. It gets a
//! seat at the end of the epoch if one is free or if it has more stake than a seated validator.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use super::register_model::check_commission;
use super::rotate_key::{check_key, save_key_holder};
use crate::money::{PoolOwner, debit, save_share};
use crate::record::{Pool, VALIDATORS_MAX, Validator, ValidatorStatus, Validators};
use crate::state::{Key, load};
use crate::{Amount, ConsensusKey, Event, PoolId, Rejection, hex, read};

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
    // A signature, and the list of validators is rewritten.
    fn work(&self) -> u64 {
        400
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
        let pool = former.as_ref().map_or(Pool::default(), |former| former.pool);
        let minimum = context.config.params.validator_stake_min;
        let stake = pool.stake.plus(self.stake);
        if stake < minimum {
            return Err(Rejection::StakeTooLow { stake, minimum });
        }
        check_key(context, &address, &self.consensus_key, &self.proof)?;
        let list: Option<Validators> = load(&context.state, &Key::validators());
        let mut list = list.unwrap_or_default();
        if list.0.len() >= VALIDATORS_MAX {
            return Err(Rejection::Full);
        }
        list.0.push(address);
        context.state.save(Key::validators(), &list);
        let mut validator = PoolOwner::Validator(Validator {
            address,
            consensus_key: self.consensus_key,
            next_key: None,
            pool,
            commission_bps: self.commission_bps,
            next_commission: None,
            rent_price: former.and_then(|former| former.rent_price),
            status: ValidatorStatus::Ready,
            since: context.clock.epoch,
            missed: 0,
        });
        if self.stake > Amount::ZERO {
            debit(&mut context.state, &address, self.stake)?;
            let pool = PoolId::Validator(address);
            let minted = validator.pool().deposit(self.stake);
            let minted = minted.ok_or(Rejection::NoShare { pool })?;
            let mut share = read::share(&context.state, pool, &address);
            share.shares = share.shares.saturating_add(minted);
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
