//! How a committee hands over to the next one: what a node needs to know who may decide blocks,
//! without the blocks.
//!
//! The last block of an epoch of the engine says in its header which seats are decided; they take
//! office two epochs later. A [`Handover`] is that header, the certificate of the block, and the
//! seats. [`Walk`] goes from the committee of genesis along handovers, each checked with the committee
//! that the ones before it name: whoever has walked trusts what genesis says and nothing else.
//! [`Handovers`] keeps those of a node, for ever. Nothing here knows the network.

use std::{collections::BTreeMap, sync::Arc};

use commonware_codec::{
    Buf, EncodeSize, Error as CodecError, FixedSize, RangeCfg, Read, ReadExt as _, Write,
};
use commonware_consensus::simplex::{scheme::ed25519::Scheme, types::Finalization};
use commonware_cryptography::{Digestible as _, blake3::Digest};
use commonware_parallel::Sequential;
use commonware_runtime::{BufMut, buffer::paged::CacheRef};
use commonware_storage::{
    Context as StorageContext,
    archive::{Archive as _, Identifier, prunable},
    translator::EightCap,
};
use rand_core::CryptoRng;
use soma_protocol::{Address, ConsensusKey, Seat};
use tokio::sync::Mutex;

use crate::{
    EngineError,
    block::Header,
    committees::{Committees, Seats, digest_of},
    node::archive,
    parts::{SEATS_MAX, SECTION_BLOCKS},
};

/// A certificate of finality.
pub(crate) type Certificate = Finalization<Scheme, Digest>;

/// The last header of an epoch, its certificate, and the seats it names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Handover {
    pub(crate) header: Header,
    pub(crate) certificate: Certificate,
    pub(crate) seats: Vec<Seat>,
}

impl Handover {
    /// The height of its block.
    pub(crate) fn height(&self) -> u64 {
        self.header.height.get()
    }
}

impl Write for Handover {
    fn write(&self, buf: &mut impl BufMut) {
        self.header.write(buf);
        self.certificate.write(buf);
        self.seats.len().write(buf);
        for seat in &self.seats {
            seat.consensus_key.0.write(buf);
            seat.validator.0.write(buf);
        }
    }
}

impl EncodeSize for Handover {
    fn encode_size(&self) -> usize {
        self.header.encode_size()
            + self.certificate.encode_size()
            + self.seats.len().encode_size()
            + self.seats.len() * 2 * <[u8; 32]>::SIZE
    }
}

impl Read for Handover {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &Self::Cfg) -> Result<Self, CodecError> {
        let header = Header::read(buf)?;
        let certificate = Certificate::read_cfg(buf, &SEATS_MAX)?;
        let count = usize::read_cfg(buf, &RangeCfg::from(1..=SEATS_MAX))?;
        let mut seats = Vec::with_capacity(count);
        for _ in 0..count {
            seats.push(Seat {
                consensus_key: ConsensusKey(<[u8; 32]>::read(buf)?),
                validator: Address(<[u8; 32]>::read(buf)?),
            });
        }
        Ok(Self {
            header,
            certificate,
            seats,
        })
    }
}

/// Why a handover is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unbelievable {
    #[error("block {height} does not end an epoch after the ones before it")]
    OutOfPlace { height: u64 },
    #[error("the certificate of block {height} is not of the committee of its time")]
    Certificate { height: u64 },
    #[error("the header of block {height} names other seats")]
    Seats { height: u64 },
}

/// From genesis along the committees.
pub(crate) struct Walk {
    committees: Committees,
    /// The committees, by the first epoch in which they hold office.
    known: BTreeMap<u64, (Digest, Arc<Seats>)>,
    /// The epoch of the last handover.
    reached: Option<u64>,
}

impl Walk {
    /// Begins with the seats of genesis; `committees` makes committees of seats.
    pub(crate) fn new(committees: Committees, genesis: &[Seat]) -> Self {
        let first = (digest_of(genesis), Arc::new(committees.seats(genesis)));
        Self {
            committees,
            known: BTreeMap::from([(0, first)]),
            reached: None,
        }
    }

    /// Who holds office in an epoch, as far as has been walked.
    pub(crate) fn of(&self, epoch: u64) -> Option<Arc<Seats>> {
        let (_, (_, seats)) = self.known.range(..=epoch).next_back()?;
        Some(Arc::clone(seats))
    }

    /// The epoch of the last handover.
    pub(crate) fn reached(&self) -> Option<u64> {
        self.reached
    }

    /// The seats that were decided last.
    pub(crate) fn decided(&self) -> Option<Digest> {
        let (_, (digest, _)) = self.known.last_key_value()?;
        Some(*digest)
    }

    /// Goes on with the next handover.
    ///
    /// # Errors
    /// [`Unbelievable`], having gone nowhere.
    pub(crate) fn step(
        &mut self,
        random: &mut impl CryptoRng,
        next: &Handover,
    ) -> Result<(), Unbelievable> {
        let height = next.height();
        let calendar = self.committees.calendar();
        let epoch = calendar.epoch_of(height);
        let advances = self.reached.is_none_or(|reached| reached < epoch);
        if !advances || calendar.last_of(epoch) != height {
            return Err(Unbelievable::OutOfPlace { height });
        }
        let certified = self.of(epoch).is_some_and(|seats| {
            let certificate = &next.certificate;
            certificate.proposal.payload == next.header.digest()
                && certificate.proposal.round.epoch().get() == epoch
                && certificate.verify(random, &seats.scheme, &Sequential)
        });
        if !certified {
            return Err(Unbelievable::Certificate { height });
        }
        let digest = digest_of(&next.seats);
        if digest != next.header.seats {
            return Err(Unbelievable::Seats { height });
        }
        self.reached = Some(epoch);
        if self.decided() != Some(digest) {
            let seats = Arc::new(self.committees.seats(&next.seats));
            self.known.insert(epoch + 2, (digest, seats));
        }
        Ok(())
    }
}

impl Walk {
    /// Goes along all handovers of a node.
    ///
    /// # Errors
    /// [`EngineError::Certificate`] when one of them is not believed, or the disk refuses.
    pub(crate) async fn along<E: StorageContext>(
        &mut self,
        mut random: impl CryptoRng,
        handovers: &Handovers<E>,
    ) -> Result<(), EngineError> {
        while let Some(next) = handovers.after(self.reached).await? {
            let height = next.height();
            let believed = self.step(&mut random, &next);
            believed.map_err(|_| EngineError::Certificate { height })?;
        }
        Ok(())
    }
}

type Stored<E> = prunable::Archive<EightCap, E, Digest, Handover>;

/// The handovers of a node that name other seats than the ones before them, by epoch.
pub(crate) struct Handovers<E: StorageContext>(Mutex<Option<Stored<E>>>);

impl<E: StorageContext> Handovers<E> {
    pub(crate) async fn open(
        context: &E,
        prefix: &str,
        page_cache: &CacheRef,
    ) -> Result<Self, EngineError> {
        let stored = archive(context, prefix, "handovers", page_cache, SECTION_BLOCKS, ());
        Ok(Self(Mutex::new(Some(stored.await?))))
    }

    /// Keeps a handover; it is on disk when this returns.
    pub(crate) async fn keep(&self, epoch: u64, handover: &Handover) -> Result<(), EngineError> {
        let mut slot = self.0.lock().await;
        let Some(stored) = slot.take() else {
            return Err(closed());
        };
        let digest = handover.header.digest();
        *slot = Some(
            stored
                .put_sync(epoch, digest, handover)
                .await
                .map_err(failed)?,
        );
        Ok(())
    }

    /// The first one after an epoch, or the first of all.
    pub(crate) async fn after(&self, epoch: Option<u64>) -> Result<Option<Handover>, EngineError> {
        let slot = self.0.lock().await;
        let stored = slot.as_ref().ok_or_else(closed)?;
        let from = epoch.map_or(0, |epoch| epoch + 1);
        let Some((start, _)) = stored.ranges_from(from).next() else {
            return Ok(None);
        };
        let found = stored.get(Identifier::Index(start.max(from))).await;
        found.map_err(failed)
    }
}

fn closed() -> EngineError {
    failed("the handovers are closed")
}

fn failed(error: impl std::fmt::Display) -> EngineError {
    EngineError::Stopped {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use commonware_codec::{Copying, DecodeExt as _, Encode as _};
    use commonware_consensus::{
        simplex::types::{Finalization, Finalize, Proposal},
        types::{Epoch, Height, Round, View},
    };
    use commonware_cryptography::{Digest as _, Digestible as _, Signer as _, ed25519::PrivateKey};
    use commonware_runtime::{Runner as _, Supervisor as _, deterministic};
    use commonware_utils::{non_empty, non_empty_range};
    use soma_protocol::Hash;
    use soma_store::database::StateCommitment;

    use super::{
        Address, Committees, ConsensusKey, Digest, Handover, Header, Seat, Sequential,
        Unbelievable, Walk, digest_of,
    };
    use crate::{committees::Calendar, network::bytes_of};

    fn key(seed: u64) -> PrivateKey {
        PrivateKey::from_seed(seed)
    }

    fn committees(me: u64) -> Committees {
        Committees::new(Hash([1; 32]), key(me), Calendar::default())
    }

    fn seats(of: std::ops::Range<u64>) -> Vec<Seat> {
        let seat = |seed| Seat {
            consensus_key: ConsensusKey(bytes_of(&key(seed).public_key())),
            validator: Address([u8::try_from(seed).unwrap(); 32]),
        };
        of.map(seat).collect()
    }

    /// The end of an epoch, certified by some of a committee, naming these seats.
    fn handover(
        epoch: u64,
        committee: std::ops::Range<u64>,
        signers: std::ops::Range<u64>,
        named: std::ops::Range<u64>,
    ) -> Handover {
        let round = Round::new(Epoch::new(epoch), View::new(9));
        let header = Header {
            context: crate::block::Context {
                round,
                leader: key(0).public_key(),
                parent: (View::new(8), Digest::EMPTY),
            },
            parent: Digest([2; 32]),
            height: Height::new(Calendar::default().last_of(epoch)),
            timestamp_ms: 7,
            proposer: Address([3; 32]),
            state: StateCommitment::new(
                Digest([4; 32]),
                non_empty_range!(3_u64.into(), 70_u64.into()),
            ),
            seats: digest_of(&seats(named.clone())),
            transactions: Digest([5; 32]),
        };
        let proposal = Proposal {
            round,
            parent: View::new(8),
            payload: header.digest(),
        };
        let all = seats(committee);
        let votes: Vec<_> = signers
            .map(|one| {
                let scheme = committees(one).seats(&all).scheme;
                Finalize::sign(&scheme, proposal.clone()).unwrap()
            })
            .collect();
        let scheme = committees(99).seats(&all).scheme;
        let certificate =
            Finalization::from_finalizes(&scheme, non_empty![@votes.iter()], &Sequential).unwrap();
        Handover {
            header,
            certificate,
            seats: seats(named),
        }
    }

    #[test]
    fn a_walk_follows_committees_that_certify_each_other_and_no_others() {
        deterministic::Runner::default().start(|context| async move {
            let mut random = context.child("walk");
            let mut walk = Walk::new(committees(99), &seats(0..4));
            let first = handover(1, 0..4, 0..3, 1..5);
            walk.step(&mut random, &first).unwrap();
            // The old committee is in office in epoch 2, the new one from epoch 3 on.
            let second = handover(2, 0..4, 1..4, 2..6);
            walk.step(&mut random, &second).unwrap();
            let usurper = handover(3, 0..4, 0..3, 0..4);
            let height = usurper.height();
            assert_eq!(
                walk.step(&mut random, &usurper),
                Err(Unbelievable::Certificate { height })
            );
            walk.step(&mut random, &handover(3, 1..5, 1..4, 2..6))
                .unwrap();
            walk.step(&mut random, &handover(9, 2..6, 3..6, 2..6))
                .unwrap();
            assert_eq!(walk.reached(), Some(9));

            let again = walk.step(&mut random, &first);
            let height = first.height();
            assert_eq!(again, Err(Unbelievable::OutOfPlace { height }));
            let mut other = handover(12, 2..6, 2..5, 2..6);
            other.seats.pop();
            let height = other.height();
            let named = walk.step(&mut random, &other);
            assert_eq!(named, Err(Unbelievable::Seats { height }));
            other.header.seats = digest_of(&other.seats);
            let forged = walk.step(&mut random, &other);
            assert_eq!(forged, Err(Unbelievable::Certificate { height }));
        });
    }

    #[test]
    fn a_handover_has_one_spelling_and_is_cut_by_nothing() {
        let handover = handover(1, 0..4, 0..3, 1..5);
        let bytes = handover.encode();
        let read = Handover::decode(Copying(&bytes)).unwrap();
        assert_eq!(read, handover);
        for at in 0..bytes.len() {
            assert!(Handover::decode(Copying(&bytes[..at])).is_err(), "{at}");
        }
    }
}
