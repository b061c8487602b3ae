//! Votes of the consensus library as ballots of the protocol, whose rule for signatures needs no
//! committee.

use commonware_codec::{
    Buf, Copying, DecodeExt as _, Encode as _, Error as CodecError, RangeCfg, Read, ReadExt as _,
    ReadRangeExt as _, Write, varint::UInt,
};
use commonware_consensus::{
    Epochable as _, Viewable as _,
    simplex::{
        scheme::ed25519::Scheme as Ed25519,
        types::{Finalize, Notarize, Nullify, Proposal, Vote},
    },
};
use commonware_cryptography::{
    blake3::Digest,
    certificate::{Attestation, Scheme},
};
use commonware_runtime::BufMut;
use soma_protocol::{
    ConsensusKey, Hash,
    evidence::{Ballot, SignedBallot, signed_bytes, verifies},
};

use crate::votes::VotePlace;

/// The longest vote. Its kind, four numbers, a digest and a signature take less.
const VOTE_BYTES_MAX: usize = 192;

pub(crate) fn notarize<S: Scheme>(vote: &Notarize<S, Digest>) -> Option<SignedBallot> {
    let (parent, block) = parent_and_block(&vote.proposal);
    signed(Ballot::Notarize { parent, block }, &vote.attestation)
}

pub(crate) fn nullify<S: Scheme>(vote: &Nullify<S>) -> Option<SignedBallot> {
    signed(Ballot::Nullify, &vote.attestation)
}

pub(crate) fn finalize<S: Scheme>(vote: &Finalize<S, Digest>) -> Option<SignedBallot> {
    let (parent, block) = parent_and_block(&vote.proposal);
    signed(Ballot::Finalize { parent, block }, &vote.attestation)
}

fn parent_and_block(proposal: &Proposal<Digest>) -> (u64, Hash) {
    (proposal.parent.get(), Hash(proposal.payload.0))
}

fn signed<S: Scheme>(ballot: Ballot, attestation: &Attestation<S>) -> Option<SignedBallot> {
    let signature = attestation.signature.encode();
    Some(SignedBallot { ballot, signature: signature.as_ref().try_into().ok()? })
}

/// The term, the view and the vote in a message on the channel for votes.
pub fn signed_vote(message: &[u8]) -> Option<(u64, u64, SignedBallot)> {
    let mut bytes = Copying(message);
    // The channel is divided by terms; a vote names its own as well.
    let _: u64 = UInt::read(&mut bytes).ok()?.into();
    let vote = SignedVote::of_bytes(bytes.0)?;
    Some((vote.place.term, vote.place.view, vote.ballot))
}

/// A vote as it was received. Whether its key signed it is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedVote {
    pub(crate) place: VotePlace,
    ballot: SignedBallot,
    bytes: Vec<u8>,
}

impl SignedVote {
    /// The vote in a message of one term's channel; `None` if it is no vote.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > VOTE_BYTES_MAX {
            return None;
        }
        let vote = Vote::<Ed25519, Digest>::decode(Copying(bytes)).ok()?;
        let ballot = match &vote {
            Vote::Notarize(vote) => notarize(vote),
            Vote::Nullify(vote) => nullify(vote),
            Vote::Finalize(vote) => finalize(vote),
        }?;
        let place = VotePlace { term: vote.epoch().get(), view: vote.view().get() };
        Some(Self { place, ballot, bytes: bytes.to_vec() })
    }

    /// Whether this key signed it, on this chain.
    pub(crate) fn is_signed(&self, key: &ConsensusKey, chain: &Hash) -> bool {
        let VotePlace { term, view } = self.place;
        let signed = signed_bytes(chain, term, view, &self.ballot.ballot);
        verifies(key, &self.ballot.signature, &signed)
    }
}

#[cfg(test)]
impl SignedVote {
    /// A nullify.
    pub(crate) fn nullify(key: &ConsensusSecret, chain: &Hash, place: VotePlace) -> Self {
        let key = private_key(key);
        let participants: Set<_> = [key.public_key()].into_iter().try_collect().unwrap();
        let scheme = Ed25519::signer(&namespace(chain), participants, key).unwrap();
        let round = Round::new(Epoch::new(place.term), View::new(place.view));
        let vote = Vote::<_, Digest>::Nullify(Nullify::sign::<Digest>(&scheme, round).unwrap());
        Self::of_bytes(&vote.encode()).unwrap()
    }
}

impl Write for SignedVote {
    fn write(&self, buf: &mut impl BufMut) {
        self.bytes.write(buf);
    }
}

impl Read for SignedVote {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        let bytes = Vec::read_range(buf, RangeCfg::new(0..=VOTE_BYTES_MAX))?;
        Self::of_bytes(&bytes).ok_or(CodecError::Invalid("vote", "it is malformed"))
    }
}

#[cfg(test)]
use {
    crate::{ConsensusSecret, keys::private_key},
    commonware_consensus::types::{Epoch, Round, View},
    commonware_cryptography::Signer as _,
    commonware_utils::{TryCollect as _, ordered::Set},
    soma_protocol::evidence::namespace,
};

#[cfg(test)]
mod tests {
    use super::{ConsensusSecret, Hash, SignedVote, VOTE_BYTES_MAX, VotePlace};

    #[test]
    fn a_vote_is_of_one_key_on_one_chain_and_has_one_encoding() {
        let (key, other) = (ConsensusSecret([5; 32]), ConsensusSecret([6; 32]));
        let (chain, place) = (Hash([7; 32]), VotePlace { term: 3, view: 300 });
        let vote = SignedVote::nullify(&key, &chain, place);
        assert_eq!(vote.place, place);
        assert!(vote.is_signed(&key.public(), &chain));
        assert!(!vote.is_signed(&other.public(), &chain));
        assert!(!vote.is_signed(&key.public(), &Hash([8; 32])));
        let elsewhere = VotePlace { term: 3, view: 301 };
        let moved = SignedVote { place: elsewhere, ..vote.clone() };
        assert!(!moved.is_signed(&key.public(), &chain));
        assert_eq!(SignedVote::of_bytes(&[&vote.bytes[..], &[0]].concat()), None);
        assert_eq!(SignedVote::of_bytes(&vote.bytes[1..]), None);
        assert_eq!(SignedVote::of_bytes(&[0; VOTE_BYTES_MAX + 1]), None);
    }
}
