//! Typed values: a tag byte and the record in borsh, so that a whole state can be read without
//! knowing its keys.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::state::{Key, StateRead};

/// The longest value of a state. A store reads no longer one, so none may ever be written.
pub const VALUE_BYTES_MAX: usize = 1 << 18;

/// Bytes that suffice for any record without lists or data, its tag included.
pub(crate) const FIXED_BYTES_MAX: usize = 1_024;

/// A typed value of the state.
pub trait Record: BorshSerialize + BorshDeserialize {
    /// First byte of the value, one for each type.
    const TAG: u8;

    /// Whether a transaction that creates such a record pays for room that may never be freed:
    /// no rule deletes it, or only its holder decides when.
    const PERMANENT: bool;

    /// The longest value of this type, its tag included: at most [`VALUE_BYTES_MAX`].
    const BYTES_MAX: usize;

    /// The value's bytes.
    #[expect(clippy::expect_used, reason = "writing to a vector cannot fail")]
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![Self::TAG];
        self.serialize(&mut bytes).expect("writing to a vector cannot fail");
        bytes
    }

    /// The record in `bytes`, if they hold one of this type.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, record) = bytes.split_first()?;
        if *tag == Self::TAG { Self::try_from_slice(record).ok() } else { None }
    }
}

/// The record at `key`.
#[expect(clippy::expect_used, reason = "a state that these rules did not write must not be used")]
pub(crate) fn load<R: Record>(state: &dyn StateRead, key: &Key) -> Option<R> {
    let bytes = state.get(key)?;
    Some(R::from_bytes(&bytes).expect("the state was written by these rules"))
}
