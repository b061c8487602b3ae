//! Signed permission to upload a file to a node. It has its own signing domain, so that no
//! signature can be used for another purpose. Nothing here is part of a block.

use ed25519_zebra::{Signature, VerificationKey};

use crate::proof::SecretKey;
use crate::{Address, Hash};

const UPLOAD_DOMAIN: &[u8] = b"soma upload 1";

/// The signed bytes that permit uploading one encrypted file to one chain's nodes for a while.
fn upload_bytes(chain: &Hash, ciphertext_hash: &Hash, valid_until_ms: u64) -> Vec<u8> {
    [UPLOAD_DOMAIN, &chain.0, &ciphertext_hash.0, &valid_until_ms.to_le_bytes()].concat()
}

/// Signs that the key's owner may upload the file with this hash, until `valid_until_ms` (ms since
/// 1970).
pub fn sign_upload(
    key: &SecretKey,
    chain: &Hash,
    ciphertext_hash: &Hash,
    valid_until_ms: u64,
) -> [u8; 64] {
    key.sign_bytes(&upload_bytes(chain, ciphertext_hash, valid_until_ms))
}

/// Whether `uploader` has signed exactly this.
pub fn upload_is_signed(
    uploader: &Address,
    chain: &Hash,
    ciphertext_hash: &Hash,
    valid_until_ms: u64,
    signature: &[u8; 64],
) -> bool {
    let message = upload_bytes(chain, ciphertext_hash, valid_until_ms);
    VerificationKey::try_from(uploader.0)
        .and_then(|key| key.verify(&Signature::from(*signature), &message))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::{sign_upload, upload_is_signed};
    use crate::{Hash, SecretKey};

    #[test]
    fn the_right_to_upload_holds_for_one_signer_chain_file_and_time() {
        let (key, other) = (SecretKey::from_bytes(&[1; 32]), SecretKey::from_bytes(&[2; 32]));
        let (chain, file) = (Hash([3; 32]), Hash([4; 32]));
        let signature = sign_upload(&key, &chain, &file, 5);
        assert!(upload_is_signed(&key.address(), &chain, &file, 5, &signature));
        assert!(!upload_is_signed(&other.address(), &chain, &file, 5, &signature));
        assert!(!upload_is_signed(&key.address(), &file, &file, 5, &signature));
        assert!(!upload_is_signed(&key.address(), &chain, &chain, 5, &signature));
        assert!(!upload_is_signed(&key.address(), &chain, &file, 6, &signature));
    }
}
