//! Registering a model: a name, a commission, and a stake, of which the minimum is locked until the
//! model is retired.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::money::{debit, save_share};
use crate::record::{Model, ModelCount, Params, Pool, Share};
use crate::state::Key;
use crate::{Amount, BPS, Event, ModelId, PoolId, Rejection, living, read};

/// Maximum length of a model's name, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Registers a model.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RegisterModel {
    /// 1 to 64 bytes of printable ASCII without a space at either end.
    pub name: String,
    /// The owner's share of the stake's earnings, in ten-thousandths.
    pub commission_bps: u16,
    /// The stake; the minimum of it is locked until the model is retired.
    pub stake: Amount,
}

impl RegisterModel {
    /// Checks what the rules require of a model, both here and in genesis.
    pub(crate) fn check(&self, params: &Params) -> Result<(), Rejection> {
        let name = &self.name;
        let printable = name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !printable || name.trim() != name {
            return Err(Rejection::BadName);
        }
        check_commission(self.commission_bps)?;
        let (stake, minimum) = (self.stake, params.model_stake_min);
        if stake < minimum {
            return Err(Rejection::StakeTooLow { stake, minimum });
        }
        Ok(())
    }
}

/// Rejects a commission of more than 100%.
pub(super) fn check_commission(bps: u16) -> Result<(), Rejection> {
    if bps > BPS {
        return Err(Rejection::BadCommission { bps });
    }
    Ok(())
}

impl Apply for RegisterModel {
    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        self.check(&context.config.params)?;
        let count = read::model_count(&context.state);
        let count = count.checked_add(1).ok_or(Rejection::Full)?;
        debit(&mut context.state, &context.sender, self.stake)?;
        let (id, owner) = (ModelId(count), context.sender);
        let pool = Pool::begin(self.stake);
        let architecture = context.config.network.architecture_number;
        let mut model =
            Model::new(id, owner, self.name.clone(), self.commission_bps, pool, architecture);
        living::add(&mut context.state, &mut model)?;
        context.state.save(Key::model(id), &model);
        let share = Share { shares: pool.shares, ..Share::default() };
        save_share(&mut context.state, PoolId::Model(id), &owner, share);
        context.state.save(Key::model_count(), &ModelCount(count));
        context.events.push(Event::ModelRegistered {
            model: id,
            owner,
            name: model.name,
            stake: self.stake,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::RegisterModel;
    use crate::{Amount, Params, Rejection};

    fn check(name: &str, commission_bps: u16, stake: Amount) -> Result<(), Rejection> {
        let name = name.to_owned();
        let action = RegisterModel { name, commission_bps, stake };
        action.check(&Params::local())
    }

    #[test]
    fn names_are_short_printable_and_trimmed() {
        let check = |name: &str| check(name, 0, Amount::soma(1));
        for good in ["a", "rust specialist", "v1.2/final (best)", &"x".repeat(64)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", " a", "a ", "a\nb", "caf\u{e9}", "a\u{202e}b", "\u{7f}", &"x".repeat(65)] {
            assert_eq!(check(bad), Err(Rejection::BadName), "{bad}");
        }
    }

    #[test]
    fn commission_and_stake_have_bounds() {
        let check = |bps, stake| check("a", bps, stake);
        let minimum = Amount::soma(1);
        assert_eq!(check(10_000, minimum), Ok(()));
        let rejection = Rejection::BadCommission { bps: 10_001 };
        assert_eq!(check(10_001, minimum), Err(rejection));
        let stake = Amount(minimum.0 - 1);
        let rejection = Rejection::StakeTooLow { stake, minimum };
        assert_eq!(check(0, stake), Err(rejection));
    }
}
