//! The signature of a node that moves, over the file that it moves in: only who holds its consensus
//! key says how that key has voted. It has a signing domain of its own, so that no signature can be
//! used for another purpose. Nothing here is part of a block.

use crate::proof::{SecretKey, evidence};
use crate::{ConsensusKey, Hash};

const MOVE_DOMAIN: &[u8] = b"soma node move 1";

fn move_bytes(content: &Hash) -> Vec<u8> {
    [MOVE_DOMAIN, &content.0].concat()
}

/// Signs the content of the file, as its hash.
pub fn sign_move(key: &SecretKey, content: &Hash) -> [u8; 64] {
    key.sign_bytes(&move_bytes(content))
}

/// Whether the consensus key has signed exactly this content.
pub fn move_is_signed(key: &ConsensusKey, content: &Hash, signature: &[u8; 64]) -> bool {
    evidence::verifies(key, signature, &move_bytes(content))
}

#[cfg(test)]
mod tests {
    use super::{move_is_signed, sign_move};
    use crate::{ConsensusKey, Hash, SecretKey};

    #[test]
    fn a_move_is_signed_by_one_key_for_one_content() {
        let [key, other] = [1, 2].map(|byte| SecretKey::from_bytes(&[byte; 32]));
        let [public, another] = [&key, &other].map(|key| ConsensusKey(key.address().0));
        let signature = sign_move(&key, &Hash([3; 32]));
        assert!(move_is_signed(&public, &Hash([3; 32]), &signature));
        assert!(!move_is_signed(&public, &Hash([4; 32]), &signature));
        assert!(!move_is_signed(&another, &Hash([3; 32]), &signature));
    }
}
