//! Who decides a block, and the certificate that they did.

use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use soma_protocol::{Address, ConsensusKey, Hash, Seat, evidence, record::SEATS_MAX};

use crate::reader::Reader;

/// The largest committee.
const VOTERS_MAX: usize = SEATS_MAX as usize;

/// What consensus needs of a seat. It counts seats: their stakes, which change in every epoch, are
/// neither in headers nor in handovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Voter {
    /// The key that votes.
    pub consensus_key: ConsensusKey,
    /// The account behind it.
    pub validator: Address,
}

/// What consensus needs of these seats.
pub fn voters(seats: &[Seat]) -> Vec<Voter> {
    let voter =
        |seat: &Seat| Voter { consensus_key: seat.consensus_key, validator: seat.validator };
    seats.iter().map(voter).collect()
}

/// The digest of a committee that a header carries.
pub fn digest_of(voters: &[Voter]) -> Hash {
    let mut bytes = b"soma seats".to_vec();
    for voter in voters {
        bytes.extend_from_slice(&voter.consensus_key.0);
        bytes.extend_from_slice(&voter.validator.0);
    }
    Hash::of_bytes(&bytes)
}

pub(crate) fn read_voters(reader: &mut Reader<'_>) -> Option<Vec<Voter>> {
    let count = reader.count(VOTERS_MAX)?;
    let voter = |_| {
        let consensus_key = ConsensusKey(reader.array()?);
        Some(Voter { consensus_key, validator: Address(reader.array()?) })
    };
    (0..count).map(voter).collect()
}

/// Votes to finalize a block, by members of a committee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The term in which the block was proposed.
    pub term: u64,
    /// The view in that term.
    pub view: u64,
    /// The view of the block before it.
    pub parent: u64,
    /// The block.
    pub block: Hash,
    /// The number of members.
    members: usize,
    /// The places of those that signed, in order of their keys.
    signers: Vec<usize>,
    signatures: Vec<[u8; 64]>,
}

impl Certificate {
    /// Reads a certificate that is all of `bytes`; `None` if it is malformed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let certificate = Self::read(&mut reader)?;
        reader.0.is_empty().then_some(certificate)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (term, view, parent) = (reader.integer()?, reader.integer()?, reader.integer()?);
        let block = Hash(reader.array()?);
        let members = usize::try_from(reader.fixed()?).ok().filter(|count| *count <= VOTERS_MAX)?;
        let bits = reader.take(members.div_ceil(8))?;
        let is_set = |place: usize| bits[place / 8] >> (place % 8) & 1 == 1;
        if (members..bits.len() * 8).any(is_set) {
            return None;
        }
        let signers: Vec<usize> = (0..members).filter(|place| is_set(*place)).collect();
        let count = reader.count(members)?;
        let signatures = (0..count).map(|_| reader.array()).collect::<Option<Vec<_>>>()?;
        (signers.len() == signatures.len()).then_some(Self {
            term,
            view,
            parent,
            block,
            members,
            signers,
            signatures,
        })
    }

    /// Whether enough of a committee of `chain` have signed: all but less than a third. A voter
    /// whose key is malformed has no vote.
    pub fn is_signed_by(&self, chain: &Hash, committee: &[Voter]) -> bool {
        let keys = committee.iter().map(|voter| voter.consensus_key);
        let keys: BTreeSet<[u8; 32]> =
            keys.filter(evidence::is_key).map(|ConsensusKey(key)| key).collect();
        let faults = keys.len().saturating_sub(1) / 3;
        if keys.is_empty() || self.members != keys.len() || self.signers.len() < keys.len() - faults
        {
            return false;
        }
        let keys: Vec<_> = keys.into_iter().map(ConsensusKey).collect();
        let ballot = evidence::Ballot::Finalize { parent: self.parent, block: self.block };
        let bytes = evidence::signed_bytes(chain, self.term, self.view, &ballot);
        self.signers
            .iter()
            .zip(&self.signatures)
            .all(|(place, signature)| evidence::verifies(&keys[*place], signature, &bytes))
    }
}
