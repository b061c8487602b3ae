//! A validator changes its consensus key. A seat takes the new key at the end of an epoch, when
//! keys may change; until then, the old key votes. Without a seat, any election changes it.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::proof::{commitment, evidence};
use crate::record::KeyHolder;
use crate::state::{Draft, Key};
use crate::{Address, ConsensusKey, Event, Rejection, hex, read};

/// A validator changes its consensus key.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RotateKey {
    /// The new key.
    pub consensus_key: ConsensusKey,
    /// [`crate::SecretKey::prove_possession`] with the new key.
    #[serde(with = "hex::array")]
    pub proof: [u8; 64],
}

impl Apply for RotateKey {
    // A signature.
    fn work(&self) -> u64 {
        300
    }

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let mut validator = context.validator()?;
        let (address, key) = (validator.address, self.consensus_key);
        check_key(context, &address, &key, &self.proof)?;
        save_key_holder(&mut context.state, &address, &key);
        validator.next_key = (key != validator.consensus_key).then_some(key);
        context.state.save(Key::validator(&address), &validator);
        context.events.push(Event::KeyAnnounced { validator: address, consensus_key: key });
        Ok(())
    }
}

/// Checks that a validator may take a key: it must prove that it holds the key, and no other
/// validator may ever have had it.
pub(super) fn check_key(
    context: &Context<'_>,
    address: &Address,
    key: &ConsensusKey,
    proof: &[u8; 64],
) -> Result<(), Rejection> {
    if read::key_holder(&context.state, key).is_some_and(|holder| holder != *address) {
        return Err(Rejection::ConsensusKeyTaken);
    }
    let bytes = commitment::possession(&context.config.network.chain_id, address, key);
    if evidence::verifies(key, proof, &bytes.0) { Ok(()) } else { Err(Rejection::BadProof) }
}

/// Permanently records whose key it is.
pub(super) fn save_key_holder(state: &mut Draft<'_>, address: &Address, key: &ConsensusKey) {
    state.save(Key::key_holder(key), &KeyHolder(*address));
}
