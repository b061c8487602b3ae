//! Which committee decides which blocks, learned without having the blocks.
//!
//! The header of the last block of a term commits to the seats decided so far; they take office two
//! terms later. A [`Handover`] is this header, the certificate of the block, and the seats.
//! [`Committees`] follow handovers from genesis, verifying each with the committee that earlier
//! ones name, so whoever follows them trusts nothing but genesis.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use soma_protocol::Hash;

use crate::committee::{Certificate, Voter, digest_of, read_voters};
use crate::header::Header;
use crate::reader::Reader;

/// The length of a term in blocks. Changing it is a fork.
pub const TERM_BLOCKS: u64 = 128;

/// The last header of a term, its certificate, and the committee it commits to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The header.
    pub header: Header,
    /// The certificate of its block.
    pub certificate: Certificate,
    /// The committee that is decided.
    pub voters: Vec<Voter>,
}

impl Handover {
    /// Reads a handover that is all of `bytes`; `None` if it is malformed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let header = Header::read(&mut reader)?;
        let certificate = Certificate::read(&mut reader)?;
        let voters = read_voters(&mut reader).filter(|voters| !voters.is_empty())?;
        reader.0.is_empty().then_some(Self { header, certificate, voters })
    }
}

/// Why a handover is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHandover {
    /// It does not end a later term than the last one.
    #[error("block {height} does not end a later term than the last handover")]
    OutOfPlace {
        /// Its block.
        height: u64,
    },
    /// Its certificate is not one of the committee of its term.
    #[error("the certificate of block {height} is not signed by the committee of its term")]
    Certificate {
        /// Its block.
        height: u64,
    },
    /// Its committee is not the one that its header commits to.
    #[error("the header of block {height} commits to different seats")]
    Seats {
        /// Its block.
        height: u64,
    },
}

/// A committee and the digest of its seats.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Decided {
    seats: Hash,
    voters: Vec<Voter>,
}

/// The committees of a chain, as verified handovers name them.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Committees {
    chain: Hash,
    term_blocks: u64,
    /// By the first term in which they hold office.
    by_term: BTreeMap<u64, Decided>,
    /// The term of the last handover.
    reached: Option<u64>,
}

impl Committees {
    /// Starts with the voters of genesis. Terms of a real network have [`TERM_BLOCKS`].
    pub fn new(chain: Hash, term_blocks: u64, genesis: &[Voter]) -> Self {
        let first = Decided { seats: digest_of(genesis), voters: genesis.to_vec() };
        Self { chain, term_blocks, by_term: BTreeMap::from([(0, first)]), reached: None }
    }

    /// The chain.
    pub const fn chain(&self) -> Hash {
        self.chain
    }

    /// Whether both are of one chain with terms of one length.
    pub fn is_of_the_chain_of(&self, other: &Self) -> bool {
        (self.chain, self.term_blocks) == (other.chain, other.term_blocks)
    }

    /// The term of a height.
    pub const fn term_of(&self, height: u64) -> u64 {
        match height.checked_div(self.term_blocks) {
            Some(term) => term,
            None => 0,
        }
    }

    /// The committee of a term.
    pub fn at(&self, term: u64) -> &[Voter] {
        let decided = self.by_term.range(..=term).next_back();
        decided.map_or(&[], |(_, decided)| decided.voters.as_slice())
    }

    /// The term of the last handover.
    pub const fn reached(&self) -> Option<u64> {
        self.reached
    }

    /// The digest of the most recently decided seats.
    pub fn decided(&self) -> Option<Hash> {
        self.by_term.last_key_value().map(|(_, decided)| decided.seats)
    }

    /// Whether the committee of its term finalized the block of this header.
    pub fn certify(&self, header: &Header, certificate: &Certificate) -> bool {
        let term = self.term_of(header.height);
        certificate.block == header.digest
            && certificate.term == term
            && certificate.is_signed_by(&self.chain, self.at(term))
    }

    /// Whether the committee of its term finalized the block of this header, and may still be
    /// believed. One that has left office has nothing at stake: nothing from before the last
    /// handover counts, whoever signed it.
    pub fn believe(&self, header: &Header, certificate: &Certificate) -> bool {
        let is_past = self.reached.is_some_and(|reached| self.term_of(header.height) < reached);
        !is_past && self.certify(header, certificate)
    }

    /// Verifies the next handover and continues from it.
    ///
    /// # Errors
    /// [`InvalidHandover`]; nothing has changed.
    pub fn follow(&mut self, next: &Handover) -> Result<(), InvalidHandover> {
        let height = next.header.height;
        let term = self.term_of(height);
        let is_last = height.checked_add(1).is_some_and(|after| self.term_of(after) > term);
        if self.reached.is_some_and(|reached| reached >= term) || !is_last {
            return Err(InvalidHandover::OutOfPlace { height });
        }
        if !self.certify(&next.header, &next.certificate) {
            return Err(InvalidHandover::Certificate { height });
        }
        let seats = digest_of(&next.voters);
        if seats != next.header.seats {
            return Err(InvalidHandover::Seats { height });
        }
        self.reached = Some(term);
        if self.decided() != Some(seats) {
            self.by_term.insert(term + 2, Decided { seats, voters: next.voters.clone() });
        }
        Ok(())
    }

    /// Forgets the committees that decide no block after the last handover, for whoever keeps
    /// these: what was followed is not followed again.
    pub fn forget_past(&mut self) {
        let Some(reached) = self.reached else { return };
        let now = self.by_term.range(..=reached).next_back().map_or(0, |(term, _)| *term);
        self.by_term.retain(|term, _| *term >= now);
    }
}
