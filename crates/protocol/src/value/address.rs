//! Addresses: the ed25519 public key of an account, written in bech32m so that a typing
//! error is found before money moves.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use borsh::{BorshDeserialize, BorshSerialize};

use super::ParseError;
use super::text::{debug_is_text, hex_bytes, json_is_text};

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

debug_is_text!(Address);
json_is_text!(Address);

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

hex_bytes! {
    /// The key with which a validator takes part in consensus (an ed25519 public key). It may
    /// differ from the key of its account. Text and JSON: hexadecimal.
    ConsensusKey
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
