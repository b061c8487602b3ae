//! Registering a model: a name, a commission, and a stake that stays until the model is retired.

use crate::amount::BPS;
use crate::{Amount, Params, Rejection};

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
