//! Addresses: the ed25519 public key of an account, written in bech32m so that a typing
//! error is found before money moves.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{ParseError, hex};

/// The human-readable part of an address.
pub const ADDRESS_PREFIX: &str = "soma";

/// An account: its ed25519 public key. Text and JSON: bech32m, `soma1...`, lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Address(pub [u8; 32]);

impl Address {
    /// The public key's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = bech32::encode::<Bech32m>(Hrp::parse_unchecked(ADDRESS_PREFIX), &self.0);
        f.pad(&text.map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| ParseError::Address)?;
        if checked.hrp().as_str() != ADDRESS_PREFIX || text.bytes().any(|b| b.is_ascii_uppercase())
        {
            return Err(ParseError::Address);
        }
        let bytes: Vec<u8> = checked.byte_iter().collect();
        let address = bytes.try_into().map(Self).map_err(|_| ParseError::Address)?;
        // Padding bits could be set, so only the text that we would write ourselves is accepted.
        if address.to_string() == text { Ok(address) } else { Err(ParseError::Address) }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as Deserialize>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The key with which a validator takes part in consensus (an ed25519 public key). It may differ
/// from the key of its account. Text and JSON: hexadecimal.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct ConsensusKey(#[serde(with = "hex::array")] pub [u8; 32]);

impl fmt::Display for ConsensusKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(&self.0))
    }
}

impl fmt::Debug for ConsensusKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn an_address_with_any_one_letter_changed_is_rejected() {
        let address = Address([7; 32]);
        let text = address.to_string();
        assert!(text.starts_with("soma1"));
        assert_eq!(text.parse::<Address>().unwrap(), address);
        assert!(text.to_uppercase().parse::<Address>().is_err());
        for at in 0..text.len() {
            let mut letters: Vec<char> = text.chars().collect();
            letters[at] = if letters[at] == 'q' { 'p' } else { 'q' };
            assert!(letters.into_iter().collect::<String>().parse::<Address>().is_err());
        }
    }
}
