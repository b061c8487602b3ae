//! What a payment is charged for the records that it writes, beyond the fee for itself
//! ([`admission_fee`](crate::SignedTransaction::admission_fee)).

use crate::read::ChainConfig;
use crate::record::is_permanent;
use crate::state::{Changes, StateRead};
use crate::{Amount, Defense};

/// What a permanent record costs a node besides its value: its key, and its place in the state.
pub const RECORD_OVERHEAD_BYTES: u64 = 128;

/// The fee for changes to `base`: for every byte written, for the room of every permanent record
/// that did not exist, and for the `later_bytes` of room that follow from them.
pub(crate) fn for_records(
    base: &dyn StateRead,
    changes: &Changes,
    later_bytes: u64,
    config: &ChainConfig,
) -> Amount {
    let params = &config.params;
    let pays_room = config.defends(Defense::RoomFee);
    let later = if pays_room { params.room_fee.times(later_bytes) } else { Amount::ZERO };
    let mut fee = later;
    for (key, value) in &changes.0 {
        let Some(value) = value else {
            continue;
        };
        let bytes = u64::try_from(value.len()).unwrap_or(u64::MAX);
        fee = fee.plus(params.byte_fee.times(bytes));
        if pays_room && is_permanent(value) && base.get(key).is_none() {
            let room_bytes = bytes.saturating_add(RECORD_OVERHEAD_BYTES);
            fee = fee.plus(params.room_fee.times(room_bytes));
        }
    }
    fee
}
