//! The value of `--seed`: 64 hex digits are the 32 bytes themselves; an integer is hashed.

use std::str::FromStr;

/// 32 bytes from which everything random is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) [u8; 32]);

impl Seed {
    /// BLAKE3 of the integer's 8 little-endian bytes.
    pub(crate) fn from_integer(integer: u64) -> Self {
        Self(*blake3::hash(&integer.to_le_bytes()).as_bytes())
    }

    /// 64 hex digits.
    pub(crate) fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        if hex::decode_to_slice(text, &mut bytes).is_ok() {
            return Ok(Self(bytes));
        }
        let integer =
            text.parse().map_err(|_| "a seed is an integer or 64 hex digits".to_owned())?;
        Ok(Self::from_integer(integer))
    }
}

#[cfg(test)]
mod tests {
    use super::Seed;

    #[test]
    fn an_integer_is_hashed_and_hex_is_taken_as_it_is() {
        let seven = *blake3::hash(&[7, 0, 0, 0, 0, 0, 0, 0]).as_bytes();
        assert_eq!("7".parse(), Ok(Seed(seven)));
        let hex = "0f".repeat(32);
        assert_eq!(hex.parse(), Ok(Seed([15; 32])));
        assert_eq!(Seed([15; 32]).to_hex(), hex);
        assert_eq!("0".repeat(64).parse(), Ok(Seed([0; 32])));
        assert!("0x7".parse::<Seed>().is_err());
        assert!("".parse::<Seed>().is_err());
    }
}
