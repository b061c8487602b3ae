//! 64-bit integers as decimal strings in JSON, because JavaScript rounds numbers larger than 2^53.
//! For `#[serde(with = "decimal")]`; never used for the binary encoding, which is borsh.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Writes the integer as a decimal string.
pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Reads an integer from a decimal string.
///
/// # Errors
/// If the string is not a decimal integer that fits the type.
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr,
    T::Err: Display,
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|error: T::Err| D::Error::custom(error))
}
