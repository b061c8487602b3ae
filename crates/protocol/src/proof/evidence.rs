//! Evidence that a consensus key signed conflicting votes. Anyone may submit it: only the
//! signatures count.
//!
//! The bytes that validators sign are defined by the consensus engine and rebuilt here from their
//! parts: the length of the namespace, the namespace, then round, parent and digest. Integers are
//! LEB128. `docs/engine.md` documents them, and a test of the engine compares the two.

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_zebra::{Signature, VerificationKey};
use serde::{Deserialize, Serialize};

use crate::{ConsensusKey, Hash, decimal, hex};

/// The content of a consensus vote.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Ballot {
    /// Votes for a block.
    Notarize {
        /// View of the block before it.
        #[serde(with = "decimal")]
        parent: u64,
        /// Digest of the block.
        block: Hash,
    },
    /// Votes that the round has no block.
    Nullify,
    /// Votes to finalize a block of a round that was not nullified.
    Finalize {
        /// View of the block before it.
        #[serde(with = "decimal")]
        parent: u64,
        /// Digest of the block.
        block: Hash,
    },
}

/// A vote with its signature.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct SignedBallot {
    /// The vote.
    pub ballot: Ballot,
    /// Its signature by the evidence's key.
    #[serde(with = "hex::array")]
    pub signature: [u8; 64],
}

/// Two votes by one key in one round that contradict each other.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Evidence {
    /// The key that signed both.
    pub consensus_key: ConsensusKey,
    /// Term of consensus.
    #[serde(with = "decimal")]
    pub term: u64,
    /// View in that term.
    #[serde(with = "decimal")]
    pub view: u64,
    /// The first vote.
    pub first: SignedBallot,
    /// The second vote.
    pub second: SignedBallot,
}

/// The namespace of all votes on a chain.
pub fn namespace(chain: &Hash) -> Vec<u8> {
    [b"soma", chain.0.as_slice()].concat()
}

/// The bytes that a vote signs.
pub fn signed_bytes(chain: &Hash, term: u64, view: u64, ballot: &Ballot) -> Vec<u8> {
    let suffix: &[u8] = match ballot {
        Ballot::Notarize { .. } => b"_NOTARIZE",
        Ballot::Nullify => b"_NULLIFY",
        Ballot::Finalize { .. } => b"_FINALIZE",
    };
    let space = [&namespace(chain), suffix].concat();
    let mut bytes = Vec::new();
    leb128(u64::try_from(space.len()).unwrap_or(u64::MAX), &mut bytes);
    bytes.extend(space);
    leb128(term, &mut bytes);
    leb128(view, &mut bytes);
    if let Ballot::Notarize { parent, block } | Ballot::Finalize { parent, block } = ballot {
        leb128(*parent, &mut bytes);
        bytes.extend(block.0);
    }
    bytes
}

fn leb128(mut number: u64, bytes: &mut Vec<u8>) {
    loop {
        let [low, ..] = (number & 0x7f).to_le_bytes();
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

impl Ballot {
    /// Whether no honest validator would cast both in one round.
    const fn is_contradicted_by(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Notarize { .. }, Self::Notarize { .. })
                | (Self::Finalize { .. }, Self::Finalize { .. })
                | (Self::Nullify, Self::Finalize { .. })
                | (Self::Finalize { .. }, Self::Nullify)
        )
    }
}

impl Evidence {
    /// Whether both signatures are by the key and the votes contradict each other.
    pub fn proves(&self, chain: &Hash) -> bool {
        self.first.ballot != self.second.ballot
            && self.first.ballot.is_contradicted_by(&self.second.ballot)
            && [&self.first, &self.second].iter().all(|vote| {
                let bytes = signed_bytes(chain, self.term, self.view, &vote.ballot);
                verifies(&self.consensus_key, &vote.signature, &bytes)
            })
    }
}

/// Whether these bytes are a key.
pub fn is_key(key: &ConsensusKey) -> bool {
    VerificationKey::try_from(key.0).is_ok()
}

/// Whether a signature was made by a consensus key, by the rule of ZIP 215.
pub fn verifies(key: &ConsensusKey, signature: &[u8; 64], bytes: &[u8]) -> bool {
    VerificationKey::try_from(key.0)
        .and_then(|key| key.verify(&Signature::from(*signature), bytes))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::{Ballot, leb128, signed_bytes};
    use crate::Hash;

    #[test]
    fn integers_are_written_as_consensus_writes_them() {
        for (number, expected) in [
            (0, vec![0]),
            (127, vec![127]),
            (128, vec![0x80, 1]),
            (u64::MAX, [vec![0xff; 9], vec![1]].concat()),
        ] {
            let mut bytes = Vec::new();
            leb128(number, &mut bytes);
            assert_eq!(bytes, expected, "{number}");
        }
    }

    #[test]
    fn the_signed_bytes_begin_with_their_namespace() {
        let bytes = signed_bytes(&Hash([7; 32]), 1, 300, &Ballot::Nullify);
        assert_eq!(bytes[0], 44);
        assert_eq!(&bytes[1..5], b"soma");
        assert_eq!(&bytes[37..45], b"_NULLIFY");
        assert_eq!(&bytes[45..], [1, 0xac, 2]);
    }
}
