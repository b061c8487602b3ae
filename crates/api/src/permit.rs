//! The right to upload a file: its owner's signature, sent in the `Authorization` header, so that
//! nobody else can start an upload or block it. Likewise a node shows another one that it is its
//! peer, so that it has a place when strangers hold all others. A permit names a file, a chain and
//! an expiry, and never holds a secret.

use std::fmt;
use std::str::FromStr;

use soma_protocol::upload::{download_is_signed, sign_download, sign_upload, upload_is_signed};
use soma_protocol::{Address, ConsensusKey, Hash, SecretKey, hex};

/// The header of a permit where a server in front of the node needs `Authorization` for itself.
pub const PERMIT: &str = "soma-permit";
/// How long a permit is valid: longer than a piece takes, for clocks that differ by minutes.
pub const PERMIT_MS: u64 = 15 * 60 * 1000;
const SCHEME: &str = "Soma";
const PEER_SCHEME: &str = "SomaPeer";

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
#[error("a permit has the form: Soma ADDRESS VALID_UNTIL_MS SIGNATURE")]
pub struct MalformedPermit;

/// Who signed, until when, and the signature, from the text of a permit of this scheme.
fn parts<'a>(text: &'a str, scheme: &str) -> Result<(&'a str, u64, [u8; 64]), MalformedPermit> {
    let words: Vec<&str> = text.splitn(5, ' ').collect();
    let [found, signer, until, signature] = words[..] else {
        return Err(MalformedPermit);
    };
    if found != scheme {
        return Err(MalformedPermit);
    }
    let valid_until_ms = until.parse().map_err(|_| MalformedPermit)?;
    Ok((signer, valid_until_ms, hex::decode_array(signature).ok_or(MalformedPermit)?))
}

impl FromStr for UploadPermit {
    type Err = MalformedPermit;

    fn from_str(text: &str) -> Result<Self, MalformedPermit> {
        let (signer, valid_until_ms, signature) = parts(text, SCHEME)?;
        let uploader = signer.parse().map_err(|_| MalformedPermit)?;
        Ok(Self { uploader, valid_until_ms, signature })
    }
}

/// With it, a node downloads a file as a peer of the node that serves it. Its text is
/// `SomaPeer <consensus key in hex> <valid until, ms since 1970> <signature in hex>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerPermit {
    /// Who downloads.
    pub peer: ConsensusKey,
    /// When it expires, in ms since 1970.
    pub valid_until_ms: u64,
    /// The peer's signature of domain, chain, serving node, file and expiry.
    pub signature: [u8; 64],
}

impl PeerPermit {
    /// Signs, with a consensus key, that its node downloads this file from `server`.
    pub fn sign(
        key: &SecretKey,
        chain: &Hash,
        server: &ConsensusKey,
        ciphertext_hash: &Hash,
        valid_until_ms: u64,
    ) -> Self {
        Self {
            peer: ConsensusKey(key.address().0),
            valid_until_ms,
            signature: sign_download(key, chain, server, ciphertext_hash, valid_until_ms),
        }
    }

    /// Whether it was signed for this file of this node on this chain and has not expired.
    pub fn permits(
        &self,
        chain: &Hash,
        server: &ConsensusKey,
        ciphertext_hash: &Hash,
        now_ms: u64,
    ) -> bool {
        let (until, signature) = (self.valid_until_ms, &self.signature);
        now_ms <= until
            && download_is_signed(&self.peer, chain, server, ciphertext_hash, until, signature)
    }
}

impl fmt::Display for PeerPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peer, signature) = (hex::encode(&self.peer.0), hex::encode(&self.signature));
        write!(f, "{PEER_SCHEME} {peer} {} {signature}", self.valid_until_ms)
    }
}

impl FromStr for PeerPermit {
    type Err = MalformedPermit;

    fn from_str(text: &str) -> Result<Self, MalformedPermit> {
        let (signer, valid_until_ms, signature) = parts(text, PEER_SCHEME)?;
        let peer = ConsensusKey(hex::decode_array(signer).ok_or(MalformedPermit)?);
        Ok(Self { peer, valid_until_ms, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::{MalformedPermit, PeerPermit, UploadPermit};
    use soma_protocol::{ConsensusKey, Hash, SecretKey};

    #[test]
    fn a_peers_permit_survives_its_header_and_expires() {
        let (chain, server, file) = (Hash([3; 32]), ConsensusKey([5; 32]), Hash([4; 32]));
        let key = SecretKey::from_bytes(&[1; 32]);
        let permit = PeerPermit::sign(&key, &chain, &server, &file, 100);
        assert_eq!(permit.to_string().parse(), Ok(permit));
        assert!(permit.permits(&chain, &server, &file, 100));
        assert!(!permit.permits(&chain, &server, &file, 101));
        let upload = UploadPermit::sign(&key, &chain, &file, 100).to_string();
        assert_eq!(upload.parse::<PeerPermit>(), Err(MalformedPermit));
        assert_eq!(permit.to_string().parse::<UploadPermit>(), Err(MalformedPermit));
    }

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
