//! An owner or operator changes its commission. It waits as long as a withdrawal, so that whoever
//! does not like it can be gone before.

use crate::action::Context;
use crate::money::PoolOwner;
use crate::record::NextCommission;
use crate::value::BPS;
use crate::{Event, PoolId, Rejection};

pub(crate) fn apply(
    context: &mut Context<'_>,
    id: PoolId,
    commission_bps: u16,
) -> Result<(), Rejection> {
    if commission_bps > BPS {
        return Err(Rejection::BadCommission {
            bps: commission_bps,
        });
    }
    let epoch = context
        .clock
        .epoch
        .after(context.config.params.unbonding_epochs);
    let next = Some(NextCommission {
        bps: commission_bps,
        epoch,
    });
    let backed = match id {
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
    backed.save(&mut context.state);
    context.events.push(Event::CommissionAnnounced {
        pool: id,
        commission_bps,
        epoch,
    });
    Ok(())
}
