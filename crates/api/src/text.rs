//! [`Text`]: a value that JSON carries as a string.
//!
//! Numbers of 64 bits and more lose digits in JavaScript and `jq`, so the API writes them as
//! decimal strings; hashes and addresses are strings anyway. A value's text form is the API and
//! must never change.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use soma_codes::Code;
use soma_protocol::{Address, Amount, Hash, Phase};

use crate::cursor::Cursor;

/// A value written to JSON by its `Display` and read by its `FromStr`: a decimal number, a hash,
/// an address, a cursor.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<T>(pub T);

/// An unsigned number as a decimal string.
pub type U64 = Text<u64>;
/// A signed number as a decimal string.
pub type I64 = Text<i64>;
/// 32 bytes as lower-case hex.
pub type HashText = Text<Hash>;
/// A public key as bech32m.
pub type AddressText = Text<Address>;
/// A phase of an epoch: `reveal`, `publish:0`, `compete`.
pub type PhaseText = Text<Phase>;
/// An error code.
pub type CodeText = Text<Code>;
/// A position in the history of events.
pub type CursorText = Text<Cursor>;

impl<T> From<T> for Text<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl From<Amount> for U64 {
    fn from(amount: Amount) -> Self {
        Self(amount.0)
    }
}

impl From<U64> for Amount {
    fn from(text: U64) -> Self {
        Self(text.0)
    }
}

impl<T> std::ops::Deref for Text<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Debug for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// Reads an error code; a newer node may have one that this version does not know.
pub(crate) fn code_or_unrecognized<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<CodeText, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    Ok(Text(text.parse().unwrap_or(Code::UnrecognizedCode)))
}

#[cfg(feature = "openapi")]
impl<T> utoipa::PartialSchema for Text<T> {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        <String as utoipa::PartialSchema>::schema()
    }
}

#[cfg(feature = "openapi")]
impl<T> utoipa::ToSchema for Text<T> {
    fn name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }
}
