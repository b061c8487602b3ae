//! Access to the pool of a model or validator, and to the shares in it.

use crate::record::{Model, Pool, Share, StakeCount, StakedPool, Validator};
use crate::state::{Draft, Key, StateRead, load};
use crate::{Address, PoolId, Rejection};

/// A model or validator as the owner of a pool.
pub(crate) enum PoolOwner {
    Model(Model),
    Validator(Validator),
}

impl PoolOwner {
    pub(crate) fn load(state: &dyn StateRead, id: PoolId) -> Result<Self, Rejection> {
        match id {
            PoolId::Model(model) => load(state, &Key::model(model))
                .map(Self::Model)
                .ok_or(Rejection::ModelNotFound { model }),
            PoolId::Validator(address) => load(state, &Key::validator(&address))
                .map(Self::Validator)
                .ok_or(Rejection::ValidatorNotFound { validator: address }),
        }
    }

    pub(crate) fn save(&self, state: &mut Draft<'_>) {
        match self {
            Self::Model(model) => state.save(Key::model(model.id), model),
            Self::Validator(validator) => {
                state.save(Key::validator(&validator.address), validator);
            }
        }
    }

    pub(crate) const fn pool(&mut self) -> &mut Pool {
        match self {
            Self::Model(model) => &mut model.pool,
            Self::Validator(validator) => &mut validator.pool,
        }
    }
}

/// Saves the shares of `staker` in a pool, and keeps the list of its pools; deletes the record if
/// there are none.
pub(crate) fn save_share(state: &mut Draft<'_>, pool: PoolId, staker: &Address, share: Share) {
    let key = Key::share(pool, staker);
    let before: Option<Share> = load(state, &key);
    match before {
        None if share.is_empty() => {}
        None => {
            let place = list_pool(state, staker, pool);
            state.save(key, &Share { place, ..share });
        }
        Some(Share { place, .. }) if share.is_empty() => {
            state.delete(key);
            unlist_pool(state, staker, place);
        }
        Some(Share { place, .. }) => state.save(key, &Share { place, ..share }),
    }
}

/// Adds a pool to the end of the staker's list; returns its place.
fn list_pool(state: &mut Draft<'_>, staker: &Address, pool: PoolId) -> u32 {
    let StakeCount(place) = load(state, &Key::stake_count(staker)).unwrap_or_default();
    state.save(Key::staked_pool(staker, place), &StakedPool(pool));
    // A staker pays for each of its pools, so there are never so many.
    state.save(Key::stake_count(staker), &StakeCount(place.saturating_add(1)));
    place
}

/// Removes a place from the staker's list; the last pool takes it.
fn unlist_pool(state: &mut Draft<'_>, staker: &Address, place: u32) {
    let StakeCount(count) = load(state, &Key::stake_count(staker)).unwrap_or_default();
    let last = count.saturating_sub(1);
    let last_key = Key::staked_pool(staker, last);
    if place != last
        && let Some(StakedPool(moved)) = load(state, &last_key)
    {
        state.save(Key::staked_pool(staker, place), &StakedPool(moved));
        let share = Key::share(moved, staker);
        if let Some(moved) = load::<Share>(state, &share) {
            state.save(share, &Share { place, ..moved });
        }
    }
    state.delete(last_key);
    if last == 0 {
        state.delete(Key::stake_count(staker));
    } else {
        state.save(Key::stake_count(staker), &StakeCount(last));
    }
}
