//! Handovers: how a node learns which committee decides which blocks, without having the blocks.
//!
//! The header of the last block of a term commits to the seats decided so far; they take office two
//! terms later. A [`Handover`] is this header, the certificate of the block, and the seats. A
//! [`HandoverVerifier`] follows handovers from genesis as [`soma_proof`] does, and so as every
//! client does: it trusts nothing but genesis. A [`HandoverStore`] keeps a node's handovers
//! permanently. Nothing here uses the network.

use std::sync::Arc;

use commonware_codec::{
    Buf, Encode as _, EncodeSize, Error as CodecError, FixedSize, RangeCfg, Read, ReadExt as _,
    Write,
};
use commonware_consensus::{marshal::Identifier as BlockId, types::Height};
use commonware_cryptography::Digestible as _;
use commonware_runtime::{BufMut, buffer::paged::CacheRef};
use commonware_storage::{
    Context as StorageContext,
    archive::{Archive as _, Identifier},
};
pub(crate) use soma_proof::InvalidHandover;
use soma_protocol::{Address, ConsensusKey, Hash, read};
use soma_store::State;
use tokio::sync::Mutex;

use crate::{
    EngineError,
    archives::{Archive, open_archive},
    block::{Certificate, Header},
    consensus::{
        committees::{Committee, Committees, Voter, voters},
        components::MarshalMailbox,
    },
    limits::{SEATS_MAX, SECTION_BLOCKS},
};

/// The last header of a term, its certificate, and the committee it commits to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Handover {
    pub(crate) header: Header,
    pub(crate) certificate: Certificate,
    pub(crate) voters: Vec<Voter>,
}

impl Handover {
    /// The handover at the last block of a term, if this node has all of it.
    pub(crate) async fn at(marshal: &MarshalMailbox, state: &State, height: u64) -> Option<Self> {
        let block_height = Height::new(height);
        let block = marshal.get_block(BlockId::Height(block_height)).await?;
        let certificate = marshal.get_finalization(block_height).await?;
        let committee = state.read(|state, _| read::committee_at(state, height))?;
        let voters = voters(&committee.seats);
        Some(Self { header: block.inner().header().clone(), certificate, voters })
    }

    /// The height of its block.
    pub(crate) fn height(&self) -> u64 {
        self.header.height.get()
    }
}

impl Write for Handover {
    fn write(&self, buf: &mut impl BufMut) {
        self.header.write(buf);
        self.certificate.write(buf);
        self.voters.len().write(buf);
        for voter in &self.voters {
            voter.consensus_key.0.write(buf);
            voter.validator.0.write(buf);
        }
    }
}

impl EncodeSize for Handover {
    fn encode_size(&self) -> usize {
        self.header.encode_size()
            + self.certificate.encode_size()
            + self.voters.len().encode_size()
            + self.voters.len() * 2 * <[u8; 32]>::SIZE
    }
}

impl Read for Handover {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &Self::Cfg) -> Result<Self, CodecError> {
        let header = Header::read(buf)?;
        let certificate = Certificate::read_cfg(buf, &SEATS_MAX)?;
        let count = usize::read_cfg(buf, &RangeCfg::from(1..=SEATS_MAX))?;
        let mut voters = Vec::with_capacity(count);
        for _ in 0..count {
            voters.push(Voter {
                consensus_key: ConsensusKey(<[u8; 32]>::read(buf)?),
                validator: Address(<[u8; 32]>::read(buf)?),
            });
        }
        Ok(Self { header, certificate, voters })
    }
}

/// Follows committees from genesis along verified handovers.
pub(crate) struct HandoverVerifier {
    committees: Committees,
    followed: soma_proof::Committees,
}

impl HandoverVerifier {
    /// Starts with the voters of genesis; `committees` turns voters into committees.
    pub(crate) fn new(committees: Committees, genesis: &[Voter]) -> Self {
        let term_blocks = committees.calendar().term_blocks();
        let followed = soma_proof::Committees::new(committees.chain(), term_blocks, genesis);
        Self { committees, followed }
    }

    /// The committee of a term, as the verified handovers name it.
    pub(crate) fn at(&self, term: u64) -> Arc<Committee> {
        Arc::new(self.committees.committee(self.followed.at(term)))
    }

    /// The term of the last handover.
    pub(crate) fn reached(&self) -> Option<u64> {
        self.followed.reached()
    }

    /// The digest of the most recently decided seats.
    pub(crate) fn decided(&self) -> Option<Hash> {
        self.followed.decided()
    }

    /// Verifies the next handover and continues from it.
    ///
    /// # Errors
    /// [`InvalidHandover`]; the verifier is unchanged.
    pub(crate) fn verify(&mut self, next: &Handover) -> Result<(), InvalidHandover> {
        // One that is read differently there is not what this committee signed.
        let malformed = InvalidHandover::Certificate { height: next.height() };
        let next = soma_proof::Handover::decode(&next.encode()).ok_or(malformed)?;
        self.followed.follow(&next)
    }

    /// Verifies all handovers of a node.
    ///
    /// # Errors
    /// [`EngineError::Certificate`] if one is invalid; [`EngineError::Stopped`] if the disk fails.
    pub(crate) async fn verify_all<E: StorageContext>(
        &mut self,
        handovers: &HandoverStore<E>,
    ) -> Result<(), EngineError> {
        while let Some((_, next)) = handovers.after(self.reached()).await? {
            let height = next.height();
            self.verify(&next).map_err(|_| EngineError::Certificate { height })?;
        }
        Ok(())
    }
}

/// The handovers of a node that change the committee, by term.
///
/// Writing consumes the archive and returns it, so the slot is empty during a write and after a
/// failed one.
pub(crate) struct HandoverStore<E: StorageContext>(Mutex<Option<Archive<E, Handover>>>);

impl<E: StorageContext> HandoverStore<E> {
    pub(crate) async fn open(
        context: &E,
        prefix: &str,
        page_cache: &CacheRef,
    ) -> Result<Self, EngineError> {
        let section = SECTION_BLOCKS;
        let archive = open_archive(context, prefix, "handovers", page_cache, section, ()).await?;
        Ok(Self(Mutex::new(Some(archive))))
    }

    /// Adds a handover; it is on disk when this returns.
    pub(crate) async fn insert(&self, term: u64, handover: &Handover) -> Result<(), EngineError> {
        let mut slot = self.0.lock().await;
        let archive = slot.take().ok_or_else(write_failed)?;
        let digest = handover.header.digest();
        let written = archive.put_sync(term, digest, handover).await;
        *slot = Some(written.map_err(EngineError::stopped)?);
        Ok(())
    }

    /// The first handover after a term, or the first of all, with its term.
    pub(crate) async fn after(
        &self,
        term: Option<u64>,
    ) -> Result<Option<(u64, Handover)>, EngineError> {
        let slot = self.0.lock().await;
        let archive = slot.as_ref().ok_or_else(write_failed)?;
        // Whoever asks names the term.
        let Some(from) = term.map_or(Some(0), |term| term.checked_add(1)) else {
            return Ok(None);
        };
        let Some((start, _)) = archive.ranges_from(from).next() else {
            return Ok(None);
        };
        let found = start.max(from);
        let handover = archive.get(Identifier::Index(found)).await;
        let handover = handover.map_err(EngineError::stopped)?;
        Ok(handover.map(|handover| (found, handover)))
    }
}

fn write_failed() -> EngineError {
    EngineError::stopped("an earlier write of a handover failed")
}

/// Handovers of committees whose keys are known.
#[cfg(test)]
pub(crate) mod samples {
    use commonware_consensus::{
        simplex::types::{Finalization, Finalize, Proposal},
        types::{Epoch, Height, Round, View},
    };
    use commonware_cryptography::{
        Digest as _, Digestible as _, Signer as _, blake3::Digest, ed25519::PrivateKey,
    };
    use commonware_parallel::Sequential;
    use commonware_utils::{non_empty, non_empty_range};
    use soma_protocol::Hash;
    use soma_store::database::LogCommitment;

    use super::{Address, Committees, Handover, Header, Voter};
    use crate::{
        block::StateCommitment, calendar::Calendar, consensus::committees::digest_of,
        keys::consensus_key, leases::holder::Permit,
    };

    fn key(seed: u64) -> PrivateKey {
        PrivateKey::from_seed(seed)
    }

    pub(crate) fn committees(me: u64) -> Committees {
        Committees::new(Hash([1; 32]), key(me), Calendar::default())
    }

    pub(crate) fn voters(of: std::ops::Range<u64>) -> Vec<Voter> {
        let voter = |seed| Voter {
            consensus_key: consensus_key(&key(seed).public_key()),
            validator: Address([u8::try_from(seed).unwrap(); 32]),
        };
        of.map(voter).collect()
    }

    /// The handover at the end of a term, signed by some members of a committee, with these seats.
    pub(crate) fn handover(
        term: u64,
        committee: std::ops::Range<u64>,
        signers: std::ops::Range<u64>,
        named: std::ops::Range<u64>,
    ) -> Handover {
        let round = Round::new(Epoch::new(term), View::new(9));
        let header = Header {
            context: crate::block::Context {
                round,
                leader: key(0).public_key(),
                parent: (View::new(8), Digest::EMPTY),
            },
            parent: Digest([2; 32]),
            height: Height::new(Calendar::default().last_of(term)),
            timestamp_ms: 7,
            proposer: Address([3; 32]),
            state: StateCommitment {
                root: Digest([4; 32]),
                log: LogCommitment::new(
                    Digest([8; 32]),
                    non_empty_range!(3_u64.into(), 70_u64.into()),
                ),
            },
            seats: digest_of(&voters(named.clone())),
            rules: 1,
            transactions: Digest([5; 32]),
        };
        let proposal = Proposal { round, parent: View::new(8), payload: header.digest() };
        let all = voters(committee);
        let votes: Vec<_> = signers
            .map(|signer| {
                let scheme = committees(signer).committee(&all).scheme;
                let scheme = scheme.permitted(Permit::of_adversary());
                Finalize::sign(&scheme, proposal.clone()).unwrap()
            })
            .collect();
        let scheme = committees(99).committee(&all).scheme;
        let certificate =
            Finalization::from_finalizes(&scheme, non_empty![@votes.iter()], &Sequential).unwrap();
        Handover { header, certificate, voters: voters(named) }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Handover, HandoverVerifier, InvalidHandover,
        samples::{committees, handover, voters},
    };
    use crate::consensus::committees::digest_of;
    use commonware_codec::{Copying, DecodeExt as _, Encode as _};
    use commonware_cryptography::Digestible as _;

    #[test]
    fn only_handovers_signed_by_the_committee_of_their_term_are_valid() {
        let mut verifier = HandoverVerifier::new(committees(99), &voters(0..4));
        let first = handover(1, 0..4, 0..3, 1..5);
        verifier.verify(&first).unwrap();
        // The old committee is in office in term 2, the new one from term 3 on.
        let second = handover(2, 0..4, 1..4, 2..6);
        verifier.verify(&second).unwrap();
        let usurper = handover(3, 0..4, 0..3, 0..4);
        let height = usurper.height();
        assert_eq!(verifier.verify(&usurper), Err(InvalidHandover::Certificate { height }));
        verifier.verify(&handover(3, 1..5, 1..4, 2..6)).unwrap();
        verifier.verify(&handover(9, 2..6, 3..6, 2..6)).unwrap();
        assert_eq!(verifier.reached(), Some(9));

        let again = verifier.verify(&first);
        let height = first.height();
        assert_eq!(again, Err(InvalidHandover::OutOfPlace { height }));
        let mut other = handover(12, 2..6, 2..5, 2..6);
        other.voters.pop();
        let height = other.height();
        let named = verifier.verify(&other);
        assert_eq!(named, Err(InvalidHandover::Seats { height }));
        other.header.seats = digest_of(&other.voters);
        let forged = verifier.verify(&other);
        assert_eq!(forged, Err(InvalidHandover::Certificate { height }));
    }

    #[test]
    fn a_client_believes_nothing_from_before_the_last_handover_whoever_signed_it() {
        let read = |written: Handover| soma_proof::Handover::decode(&written.encode()).unwrap();
        let term_blocks = crate::calendar::Calendar::default().last_of(0) + 1;
        let mut known =
            soma_proof::Committees::new(soma_protocol::Hash([1; 32]), term_blocks, &voters(0..4));
        let [first, second] =
            [handover(1, 0..4, 0..3, 1..5), handover(2, 0..4, 0..3, 1..5)].map(read);
        known.follow(&first).unwrap();
        assert!(known.believe(&first.header, &first.certificate));
        known.follow(&second).unwrap();
        assert!(known.believe(&second.header, &second.certificate));
        assert!(known.certify(&first.header, &first.certificate));
        assert!(!known.believe(&first.header, &first.certificate), "nothing is at stake for it");
    }

    #[test]
    fn clients_read_a_handover_as_consensus_wrote_it() {
        let written = handover(1, 0..4, 0..3, 1..5);
        let bytes = written.encode();
        let read = soma_proof::Handover::decode(&bytes).unwrap();
        let (header, state) = (&written.header, &written.header.state);
        assert_eq!(read.header.digest.0, header.digest().0);
        assert_eq!(read.header.parent.0, header.parent.0);
        assert_eq!((read.header.term, read.header.view), (1, 9));
        assert_eq!(read.header.height, header.height.get());
        assert_eq!(read.header.timestamp_ms, header.timestamp_ms);
        assert_eq!(read.header.proposer, header.proposer);
        assert_eq!(read.header.state_root.0, state.root.0);
        assert_eq!(read.header.log_root.0, state.log.root.0);
        assert_eq!(read.header.log, *state.log.range.start()..*state.log.range.end());
        assert_eq!(read.header.seats.0, header.seats.0);
        assert_eq!(read.header.transactions.0, header.transactions.0);
        assert_eq!(read.voters, written.voters);
        for at in 0..bytes.len() {
            assert!(soma_proof::Handover::decode(&bytes[..at]).is_none(), "cut at {at}");
        }
        // Whatever byte is changed, nobody has signed it, or its seats are not those of the header.
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            let Some(changed) = soma_proof::Handover::decode(&changed) else { continue };
            let chain = committees(99).chain();
            let mut followed = soma_proof::Committees::new(chain, 128, &voters(0..4));
            assert!(followed.follow(&changed).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn a_handover_decodes_from_all_of_its_bytes_only() {
        let handover = handover(1, 0..4, 0..3, 1..5);
        let bytes = handover.encode();
        let read = Handover::decode(Copying(&bytes)).unwrap();
        assert_eq!(read, handover);
        for at in 0..bytes.len() {
            assert!(Handover::decode(Copying(&bytes[..at])).is_err(), "{at}");
        }
    }
}
