//! Signed entries of the first validators, from which a genesis is assembled. They have a signing
//! domain of their own, so that no signature can be used for another purpose. Nothing here is part
//! of a block.

use crate::proof::{SecretKey, commitment, evidence};
use crate::{Address, ConsensusKey, Hash};

const ENTRY_DOMAIN: &[u8] = b"soma genesis entry 1";

fn entry_bytes(content: &Hash) -> Vec<u8> {
    [ENTRY_DOMAIN, &content.0].concat()
}

/// Signs the content of an entry, as its hash.
pub fn sign_entry(key: &SecretKey, content: &Hash) -> [u8; 64] {
    key.sign_bytes(&entry_bytes(content))
}

/// Whether `validator` has signed exactly this content.
pub fn entry_is_signed(validator: &Address, content: &Hash, signature: &[u8; 64]) -> bool {
    evidence::verifies(&ConsensusKey(validator.0), signature, &entry_bytes(content))
}

/// Whether the holder of a consensus key assigned it to this validator of this plan. There is no
/// chain yet, so the hash of the plan stands for it.
pub fn possession_is_proved(
    plan: &Hash,
    validator: &Address,
    key: &ConsensusKey,
    proof: &[u8; 64],
) -> bool {
    evidence::verifies(key, proof, &commitment::possession(plan, validator, key).0)
}

#[cfg(test)]
mod tests {
    use super::{entry_is_signed, possession_is_proved, sign_entry};
    use crate::{ConsensusKey, Hash, SecretKey};

    #[test]
    fn an_entry_is_signed_by_one_account_for_one_content() {
        let (key, other) = (SecretKey::from_bytes(&[1; 32]), SecretKey::from_bytes(&[2; 32]));
        let signature = sign_entry(&key, &Hash([3; 32]));
        assert!(entry_is_signed(&key.address(), &Hash([3; 32]), &signature));
        assert!(!entry_is_signed(&key.address(), &Hash([4; 32]), &signature));
        assert!(!entry_is_signed(&other.address(), &Hash([3; 32]), &signature));

        let consensus = ConsensusKey(other.address().0);
        let proof = other.prove_possession(&Hash([3; 32]), &key.address());
        assert!(possession_is_proved(&Hash([3; 32]), &key.address(), &consensus, &proof));
        assert!(!possession_is_proved(&Hash([4; 32]), &key.address(), &consensus, &proof));
        assert!(!possession_is_proved(&Hash([3; 32]), &other.address(), &consensus, &proof));
    }
}
