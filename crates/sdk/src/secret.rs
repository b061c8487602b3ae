//! 32 secret bytes: a weights key, a salt, a seed. Wiped from memory when dropped, never printed.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use soma_protocol::hex;
use zeroize::Zeroizing;

use crate::error::SdkError;

/// 32 bytes that must not be shown. As JSON they are hex, for files that only this user can read.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// Random bytes.
    ///
    /// # Errors
    /// [`SdkError::Randomness`].
    pub fn generate() -> Result<Self, SdkError> {
        let mut secret = Self(Zeroizing::default());
        fill_random(secret.0.as_mut())?;
        Ok(secret)
    }

    /// A secret of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Bytes derived from `seed` and `label`, which reveal nothing about `seed` or about the bytes
    /// of other labels. For reproducible local networks.
    pub fn derive(seed: &[u8; 32], label: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("soma local secret 1");
        hasher.update(seed).update(label.as_bytes());
        Self::from_bytes(*hasher.finalize().as_bytes())
    }

    /// The bytes, which must be kept as secret as this value.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Fills `bytes` with randomness.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), SdkError> {
    getrandom::fill(bytes).map_err(|_| SdkError::Randomness)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(hex::encode(self.bytes())))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        // The message must not quote the text.
        hex::decode_array(&text)
            .map(Self::from_bytes)
            .ok_or_else(|| D::Error::custom("not 32 bytes in hex"))
    }
}
