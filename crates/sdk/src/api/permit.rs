//! The right to upload a file: its owner's signature, sent in the `Authorization` header, so that
//! nobody else can start an upload or block it. A permit names a file, a chain and an expiry, and
//! never holds a secret.

use std::fmt;
use std::str::FromStr;

use soma_protocol::upload::{sign_upload, upload_is_signed};
use soma_protocol::{Address, Hash, SecretKey, hex};

/// How long a permit is valid: longer than a piece takes, for clocks that differ by minutes.
pub const PERMIT_MS: u64 = 15 * 60 * 1000;
const SCHEME: &str = "Soma";

/// Its text is `Soma <address> <valid until, ms since 1970> <signature in hex>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadPermit {
    /// Who uploads.
    pub uploader: Address,
    /// When it expires, in ms since 1970.
    pub valid_until_ms: u64,
    /// The uploader's signature of domain, chain, file and expiry.
    pub signature: [u8; 64],
}

impl UploadPermit {
    /// Signs a permit for the encrypted file with this hash.
    pub fn sign(
        key: &SecretKey,
        chain: &Hash,
        ciphertext_hash: &Hash,
        valid_until_ms: u64,
    ) -> Self {
        Self {
            uploader: key.address(),
            valid_until_ms,
            signature: sign_upload(key, chain, ciphertext_hash, valid_until_ms),
        }
    }

    /// Whether it was signed for this file on this chain and has not expired.
    pub fn permits(&self, chain: &Hash, ciphertext_hash: &Hash, now_ms: u64) -> bool {
        let (until, signature) = (self.valid_until_ms, &self.signature);
        now_ms <= until
            && upload_is_signed(&self.uploader, chain, ciphertext_hash, until, signature)
    }
}

impl fmt::Display for UploadPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signature = hex::encode(&self.signature);
        write!(f, "{SCHEME} {} {} {signature}", self.uploader, self.valid_until_ms)
    }
}

/// The header does not contain a well-formed permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an upload permit has the form: Soma ADDRESS VALID_UNTIL_MS SIGNATURE")]
pub struct MalformedPermit;

impl FromStr for UploadPermit {
    type Err = MalformedPermit;

    fn from_str(text: &str) -> Result<Self, MalformedPermit> {
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or(MalformedPermit);
        if word()? != SCHEME {
            return Err(MalformedPermit);
        }
        let permit = Self {
            uploader: word()?.parse().map_err(|_| MalformedPermit)?,
            valid_until_ms: word()?.parse().map_err(|_| MalformedPermit)?,
            signature: hex::decode_array(word()?).ok_or(MalformedPermit)?,
        };
        match words.next() {
            None => Ok(permit),
            Some(_) => Err(MalformedPermit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MalformedPermit, UploadPermit};
    use soma_protocol::{Hash, SecretKey};

    #[test]
    fn a_permit_survives_its_header_and_expires() {
        let (chain, file) = (Hash([3; 32]), Hash([4; 32]));
        let permit = UploadPermit::sign(&SecretKey::from_bytes(&[1; 32]), &chain, &file, 100);
        assert_eq!(permit.to_string().parse(), Ok(permit));
        assert!(permit.permits(&chain, &file, 100));
        assert!(!permit.permits(&chain, &file, 101) && !permit.permits(&file, &file, 1));
        for text in ["", "Soma", "Bearer x", &format!("{permit} more")] {
            assert_eq!(text.parse::<UploadPermit>(), Err(MalformedPermit), "{text}");
        }
    }
}
