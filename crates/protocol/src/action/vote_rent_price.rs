//! A validator's standing vote on the price of keeping files. The median by stake is the price, from
//! the next epoch on.

use crate::action::Context;
use crate::record::Params;
use crate::state::Key;
use crate::{Amount, Event, Rejection};

pub(crate) fn apply(context: &mut Context<'_>, price: Amount) -> Result<(), Rejection> {
    let mut validator = context.validator()?;
    let bounds = Params::bounds("rent_price_per_mib_epoch");
    if let Some(bounds) = bounds.filter(|bounds| price.0 > bounds.max || price.0 < bounds.min) {
        return Err(Rejection::OutOfBounds {
            name: bounds.name.to_owned(),
            value: price.0,
            min: bounds.min,
            max: bounds.max,
        });
    }
    validator.rent_price = Some(price);
    let address = validator.address;
    context.state.save(Key::validator(&address), &validator);
    context.events.push(Event::RentPriceVoted {
        validator: address,
        price,
    });
    Ok(())
}
