//! Registering a model: a name, a commission, and a stake that stays until the model is retired.

use crate::action::Context;
use crate::money::{debit, save_share};
use crate::record::{Model, ModelCount, ModelStatus, Params, Pool, Share};
use crate::state::Key;
use crate::value::BPS;
use crate::{Amount, Epoch, Event, ModelId, PoolId, Rejection, read};

/// Longest name of a model, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// Checks what an owner says of a model, here and in genesis.
pub(crate) fn check_terms(
    name: &str,
    commission_bps: u16,
    stake: Amount,
    params: &Params,
) -> Result<(), Rejection> {
    let printable = name
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !printable || name.trim() != name {
        return Err(Rejection::BadName);
    }
    if commission_bps > BPS {
        return Err(Rejection::BadCommission {
            bps: commission_bps,
        });
    }
    let minimum = params.model_stake_min;
    if stake < minimum {
        return Err(Rejection::StakeTooLow { stake, minimum });
    }
    Ok(())
}

pub(crate) fn apply(
    context: &mut Context<'_>,
    name: &str,
    commission_bps: u16,
    stake: Amount,
) -> Result<(), Rejection> {
    check_terms(name, commission_bps, stake, &context.config.params)?;
    let id = read::model_count(&context.state)
        .checked_add(1)
        .ok_or(Rejection::Full)?;
    debit(&mut context.state, &context.sender, stake)?;
    let model = Model {
        id: ModelId(id),
        owner: context.sender,
        name: name.to_owned(),
        commission_bps,
        next_commission: None,
        pool: Pool::begin(stake),
        status: ModelStatus::Registered,
        weights: None,
        next: None,
        revealed: Epoch(0),
        activated: Epoch(0),
        wins: 0,
        earned: Amount::ZERO,
    };
    context.state.save(Key::model(model.id), &model);
    let share = Share {
        shares: model.pool.shares,
        leaving_shares: 0,
    };
    let pool = PoolId::Model(model.id);
    save_share(&mut context.state, pool, &model.owner, share);
    context.state.save(Key::model_count(), &ModelCount(id));
    context.events.push(Event::ModelRegistered {
        model: model.id,
        owner: model.owner,
        name: model.name,
        stake,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_terms;
    use crate::{Amount, Params, Rejection};

    #[test]
    fn names_are_short_printable_and_trimmed() {
        let check = |name: &str| check_terms(name, 0, Amount::soma(1), &Params::local());
        for good in ["a", "rust specialist", "v1.2/final (best)", &"x".repeat(64)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            " a",
            "a ",
            "a\nb",
            "caf\u{e9}",
            "a\u{202e}b",
            "\u{7f}",
            &"x".repeat(65),
        ] {
            assert_eq!(check(bad), Err(Rejection::BadName), "{bad}");
        }
    }

    #[test]
    fn commission_and_stake_have_bounds() {
        let check = |bps, stake| check_terms("a", bps, stake, &Params::local());
        assert_eq!(check(10_000, Amount::soma(1)), Ok(()));
        assert_eq!(
            check(10_001, Amount::soma(1)),
            Err(Rejection::BadCommission { bps: 10_001 })
        );
        let stake = Amount(Amount::soma(1).0 - 1);
        let minimum = Amount::soma(1);
        assert_eq!(
            check(0, stake),
            Err(Rejection::StakeTooLow { stake, minimum })
        );
    }
}
