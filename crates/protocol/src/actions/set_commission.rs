//! An owner or operator changes its commission. It waits as long as a withdrawal, so that whoever
//! does not like it can be gone before.

use crate::amount::BPS;
use crate::apply::Context;
use crate::pool::{Backed, NextCommission, PoolId};
use crate::{Event, Rejection};

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
        .after(context.rules.params.unbonding_epochs);
    let next = Some(NextCommission {
        bps: commission_bps,
        epoch,
    });
    let backed = match id {
        PoolId::Model(model) => {
            let mut model = context.own_model(model)?;
            model.next_commission = next;
            Backed::Model(model)
        }
        PoolId::Validator(address) if address == context.sender => {
            let mut validator = context.validator()?;
            validator.next_commission = next;
            Backed::Validator(validator)
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
