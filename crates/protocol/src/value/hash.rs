//! BLAKE3 hashes, always with a domain, so that a hash made for one purpose never serves another.

use std::str::FromStr;

use super::text::hex_bytes;
use super::{ParseError, hex};

hex_bytes! {
    /// A 32-byte BLAKE3 hash. Text and JSON: 64 lower-case hexadecimal digits.
    #[derive(Default)]
    Hash
}

impl Hash {
    /// BLAKE3 of the bytes of a file or message, without a domain: `weights_hash`,
    /// `ciphertext_hash`, `data_hash`.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// BLAKE3 of a domain and parts; each piece is preceded by its length, so no two lists of
    /// parts yield the same input.
    pub fn of_parts(domain: &str, parts: &[&[u8]]) -> Self {
        Self(*parts_hasher(domain, parts).finalize().as_bytes())
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The hasher behind [`Hash::of_parts`], for output longer than 32 bytes.
pub(crate) fn parts_hasher(domain: &str, parts: &[&[u8]]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    for piece in std::iter::once(domain.as_bytes()).chain(parts.iter().copied()) {
        hasher.update(&u64::try_from(piece.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(piece);
    }
    hasher
}

impl FromStr for Hash {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        hex::decode_array(text).map(Self).ok_or(ParseError::Hash)
    }
}
