//! An owner or operator changes its commission. The change takes effect only once a withdrawal made
//! now would be paid out, so that stakers who disagree can leave first.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use super::register_model::check_commission;
use crate::money::PoolOwner;
use crate::record::NextCommission;
use crate::{Event, PoolId, Rejection};

/// Changes a commission; it takes effect `unbonding_epochs` later.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SetCommission {
    /// The sender's model, or the sender itself as a validator.
    pub pool: PoolId,
    /// The owner's or operator's new share, in ten-thousandths.
    pub commission_bps: u16,
}

impl Apply for SetCommission {
    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let Self { pool, commission_bps } = *self;
        check_commission(commission_bps)?;
        let wait = context.config.params.unbonding_epochs;
        let epoch = context.clock.epoch.after(wait);
        let next = Some(NextCommission { bps: commission_bps, epoch });
        let owner = match pool {
            PoolId::Model(model) => {
                let mut model = context.own_model(model)?;
                model.next_commission = next;
                PoolOwner::Model(model)
            }
            PoolId::Validator(address) if address == context.sender => {
                let mut validator = context.validator()?;
                validator.next_commission = next;
                PoolOwner::Validator(validator)
            }
            PoolId::Validator(_) => return Err(Rejection::NotValidator),
        };
        owner.save(&mut context.state);
        context.events.push(Event::CommissionAnnounced { pool, commission_bps, epoch });
        Ok(())
    }
}
