//! Signed permission to upload a file to a node, or to download one as its peer. Each has its own
//! signing domain, so that no signature can be used for another purpose. Nothing here is part of a
//! block.

use ed25519_zebra::{Signature, VerificationKey};

use crate::proof::SecretKey;
use crate::{Address, ConsensusKey, Hash};

const UPLOAD_DOMAIN: &[u8] = b"soma upload 1";
const DOWNLOAD_DOMAIN: &[u8] = b"soma download 1";

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
    is_signed(uploader.0, &upload_bytes(chain, ciphertext_hash, valid_until_ms), signature)
}

fn is_signed(key: [u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerificationKey::try_from(key)
        .and_then(|key| key.verify(&Signature::from(*signature), message))
        .is_ok()
}

/// The signed bytes that show one node that another one downloads a file. They name the node that
/// serves it, so that it cannot show them to a third one.
fn download_bytes(
    chain: &Hash,
    server: &ConsensusKey,
    ciphertext_hash: &Hash,
    valid_until_ms: u64,
) -> Vec<u8> {
    let until = valid_until_ms.to_le_bytes();
    [DOWNLOAD_DOMAIN, &chain.0, &server.0, &ciphertext_hash.0, &until].concat()
}

/// Signs, with a node's consensus key, that it downloads the file with this hash from `server`,
/// until `valid_until_ms` (ms since 1970).
pub fn sign_download(
    key: &SecretKey,
    chain: &Hash,
    server: &ConsensusKey,
    ciphertext_hash: &Hash,
    valid_until_ms: u64,
) -> [u8; 64] {
    key.sign_bytes(&download_bytes(chain, server, ciphertext_hash, valid_until_ms))
}

/// Whether the node with the key `peer` has signed exactly this.
pub fn download_is_signed(
    peer: &ConsensusKey,
    chain: &Hash,
    server: &ConsensusKey,
    ciphertext_hash: &Hash,
    valid_until_ms: u64,
    signature: &[u8; 64],
) -> bool {
    let message = download_bytes(chain, server, ciphertext_hash, valid_until_ms);
    is_signed(peer.0, &message, signature)
}

#[cfg(test)]
mod tests {
    use super::{download_is_signed, sign_download, sign_upload, upload_is_signed};
    use crate::{ConsensusKey, Hash, SecretKey};

    #[test]
    fn a_peer_shows_who_it_is_to_one_node_for_one_chain_file_and_time() {
        let key = SecretKey::from_bytes(&[1; 32]);
        let [peer, server] = [key.address().0, [9; 32]].map(ConsensusKey);
        let (chain, file) = (Hash([3; 32]), Hash([4; 32]));
        let signature = sign_download(&key, &chain, &server, &file, 5);
        let is_signed = |peer, chain, server, file, until| {
            download_is_signed(peer, chain, server, file, until, &signature)
        };
        assert!(is_signed(&peer, &chain, &server, &file, 5));
        assert!(!is_signed(&server, &chain, &server, &file, 5));
        assert!(!is_signed(&peer, &file, &server, &file, 5));
        assert!(!is_signed(&peer, &chain, &peer, &file, 5), "shown to a third node");
        assert!(!is_signed(&peer, &chain, &server, &chain, 5));
        assert!(!is_signed(&peer, &chain, &server, &file, 6));
    }

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
