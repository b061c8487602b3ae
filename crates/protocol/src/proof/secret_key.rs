//! Secret keys of accounts and validators, and signatures by the rule of ZIP 215. A secret key is
//! never printed.

use ed25519_zebra::SigningKey;

use crate::proof::commitment;
use crate::{Address, ConsensusKey, Hash};

/// The secret key of an account. It has no `Debug` and no `Display`.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "a secret is never printed")]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key with these secret bytes (an ed25519 seed).
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    /// The secret bytes, for the file that stores them.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The proof with which a validator takes this key as its consensus key.
    pub fn prove_possession(&self, chain: &Hash, validator: &Address) -> [u8; 64] {
        let key = ConsensusKey(self.address().0);
        let bytes = commitment::possession(chain, validator, &key);
        self.sign_bytes(&bytes.0)
    }

    /// The proof with which a validator takes this key as its duty key.
    pub fn prove_duties(&self, chain: &Hash, validator: &Address) -> [u8; 64] {
        self.sign_bytes(&commitment::duty_key(chain, validator, &self.address()).0)
    }

    /// Signs bytes, which must begin with a domain that is used for nothing else.
    pub(crate) fn sign_bytes(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }

    /// The account of the key.
    pub fn address(&self) -> Address {
        Address(self.0.verification_key().into())
    }
}
