//! The header of a block: what its digest covers, and so what a certificate signs.

use std::ops::Range;

use soma_protocol::{Address, ConsensusKey, Hash};

use crate::reader::Reader;

/// The header of a block, with its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The digest of the block: the hash of the header's bytes.
    pub digest: Hash,
    /// The term in which it was proposed, and the view in it.
    pub term: u64,
    /// The view in which it was proposed.
    pub view: u64,
    /// The key of the validator that proposed it.
    pub leader: ConsensusKey,
    /// The digest of the block before it; the chain's id for genesis.
    pub parent: Hash,
    /// Its height; genesis is 0.
    pub height: u64,
    /// Milliseconds since 1970, always later than the parent's.
    pub timestamp_ms: u64,
    /// The account of the validator that proposed it.
    pub proposer: Address,
    /// The root of the state after it.
    pub state_root: Hash,
    /// The root of the log of that state.
    pub log_root: Hash,
    /// The part of the log that holds the state.
    pub log: Range<u64>,
    /// The digest of the seats decided last.
    pub seats: Hash,
    /// The version of the rules that the block after it follows.
    pub rules: u16,
    /// The digest of its transactions.
    pub transactions: Hash,
}

impl Header {
    /// Reads a header that is all of `bytes`; `None` if it is malformed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let header = Self::read(&mut reader)?;
        reader.0.is_empty().then_some(header)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let all = reader.0;
        let (term, view) = (reader.integer()?, reader.integer()?);
        let leader = ConsensusKey(reader.array()?);
        // The parent's view and digest, as the leader named them; `parent` says the same.
        let _proposed_on: (u64, [u8; 32]) = (reader.integer()?, reader.array()?);
        let parent = Hash(reader.array()?);
        let (height, timestamp_ms) = (reader.integer()?, reader.fixed()?);
        let proposer = Address(reader.array()?);
        let (state_root, log_root) = (Hash(reader.array()?), Hash(reader.array()?));
        let log = reader.integer()?..reader.integer()?;
        let (seats, rules) = (Hash(reader.array()?), u16::from_be_bytes(reader.array()?));
        let transactions = Hash(reader.array()?);
        let read = &all[..all.len() - reader.0.len()];
        Some(Self {
            digest: Hash::of_bytes(read),
            term,
            view,
            leader,
            parent,
            height,
            timestamp_ms,
            proposer,
            state_root,
            log_root,
            log,
            seats,
            rules,
            transactions,
        })
    }
}
