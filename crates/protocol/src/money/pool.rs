//! Access to the pool of a model or validator, and to the shares in it.

use crate::record::{Model, Pool, Share, Validator};
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

/// Saves the shares of `staker` in a pool; deletes the record if there are none.
pub(crate) fn save_share(state: &mut Draft<'_>, pool: PoolId, staker: &Address, share: Share) {
    let key = Key::share(pool, staker);
    if share != Share::default() {
        state.save(key, &share);
    } else if state.contains(&key) {
        state.delete(key);
    }
}
