//! A validator names the key that sends its duties, so that the key of its account, which moves its
//! stake, need not be on the machine of its node. The account can replace it at any time.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::proof::{commitment, evidence};
use crate::record::DutyKeyHolder;
use crate::state::Key;
use crate::{Address, ConsensusKey, Event, Rejection, hex, read};

/// Sets the key with which the sender's duties may be sent, besides its account's own.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SetDutyKey {
    /// The key; the sender's own address for none.
    pub duty_key: Address,
    /// [`crate::SecretKey::prove_duties`] with that key; anything for none.
    #[serde(with = "hex::array")]
    pub proof: [u8; 64],
}

impl Apply for SetDutyKey {
    // A signature.
    fn work(&self) -> u64 {
        300
    }

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let (address, duty_key) = (context.sender, self.duty_key);
        let validator = read::validator(&context.state, &address);
        let mut validator = validator.ok_or(Rejection::NotValidator)?;
        // Who has left may still take its key's right away, and so free the key.
        if duty_key != address && !validator.is_registered() {
            return Err(Rejection::NotValidator);
        }
        self.check(context, &address)?;
        if let Some(former) = validator.duty_key {
            context.state.delete(Key::duty_key_holder(&former));
        }
        validator.duty_key = (duty_key != address).then_some(duty_key);
        if validator.duty_key.is_some() {
            context.state.save(Key::duty_key_holder(&duty_key), &DutyKeyHolder(address));
        }
        context.state.save(Key::validator(&address), &validator);
        context.events.push(Event::DutyKeySet { validator: address, duty_key });
        Ok(())
    }
}

impl SetDutyKey {
    /// The key acts for one validator alone, and whoever holds it agrees to that: otherwise its own
    /// duties could be turned into another's.
    fn check(&self, context: &Context<'_>, address: &Address) -> Result<(), Rejection> {
        let duty_key = &self.duty_key;
        if duty_key == address {
            return Ok(());
        }
        let holder = read::duty_key_holder(&context.state, duty_key);
        let is_taken = holder.is_some_and(|holder| holder != *address)
            || read::validator(&context.state, duty_key).is_some();
        if is_taken {
            return Err(Rejection::DutyKeyTaken);
        }
        let bytes = commitment::duty_key(&context.config.network.chain_id, address, duty_key);
        if evidence::verifies(&ConsensusKey(duty_key.0), &self.proof, &bytes.0) {
            Ok(())
        } else {
            Err(Rejection::BadProof)
        }
    }
}
