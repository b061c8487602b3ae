//! A validator's standing vote on the price of keeping files. The stake-weighted median becomes the
//! price from the next epoch on.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::record::Params;
use crate::state::Key;
use crate::{Amount, Event, Rejection};

/// A validator's standing vote on the price of keeping one MiB for one epoch.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct VoteRentPrice {
    /// The price.
    pub price: Amount,
}

impl Apply for VoteRentPrice {
    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let price = self.price;
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
        context.events.push(Event::RentPriceVoted { validator: address, price });
        Ok(())
    }
}
