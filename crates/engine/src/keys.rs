//! Consensus keys, in the protocol's bytes and in the types of the consensus library. A secret key
//! is never printed.

use commonware_codec::{Copying, DecodeExt as _};
use commonware_cryptography::{
    Signer as _,
    ed25519::{PrivateKey, PublicKey},
};
use soma_protocol::ConsensusKey;

/// The secret half of a validator's consensus key: an ed25519 seed.
#[derive(Clone)]
pub struct ConsensusSecret(pub [u8; 32]);

impl std::fmt::Debug for ConsensusSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConsensusSecret(..)")
    }
}

impl ConsensusSecret {
    /// The public half, which genesis and other validators name.
    pub fn public(&self) -> ConsensusKey {
        consensus_key(&private_key(self).public_key())
    }
}

/// The key that signs votes and authenticates connections.
#[expect(clippy::expect_used, reason = "every 32 bytes are an ed25519 seed")]
pub fn private_key(secret: &ConsensusSecret) -> PrivateKey {
    PrivateKey::decode(Copying(&secret.0)).expect("a seed decodes")
}

/// A public key in the protocol's bytes.
pub(crate) fn consensus_key(key: &PublicKey) -> ConsensusKey {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(key.as_ref());
    ConsensusKey(bytes)
}

/// The public key in these bytes; `None` if they are not an ed25519 key.
pub(crate) fn public_key(key: &ConsensusKey) -> Option<PublicKey> {
    PublicKey::decode(Copying(&key.0)).ok()
}
