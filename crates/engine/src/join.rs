//! How a node without blocks, or far behind, gets the state without executing all of them.
//!
//! It walks from genesis along the committees, each handover checked with the committee before, to
//! the last block of the last epoch; takes the state as of that block from whoever has it, every part
//! with its proof against the root that the certified header names; and goes on from there as if it
//! had executed the blocks before. What a peer forges is refused, and the peer is asked no more. It never
//! begins what it cannot go on with: the mark says that a join has begun until all of it is on disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use commonware_codec::{Buf, EncodeSize, Error as CodecError, Read, ReadExt as _, Write};
use commonware_consensus::simplex::scheme::ed25519::Scheme;
use commonware_cryptography::{
    Digestible as _,
    blake3::{Blake3, Digest},
    certificate::Verifier as _,
    ed25519::PublicKey,
};
use commonware_p2p::Recipients;
use commonware_runtime::{BufMut, Clock, Spawner, buffer::paged::CacheRef};
use commonware_storage::{
    Context as StorageContext,
    archive::Archive as _,
    metadata::{self, Metadata},
    mmr,
    qmdb::{
        self,
        sync::{self, Error as SyncError, Request, Source, source},
    },
};
use commonware_utils::{NZU64, NZUsize, fixed_bytes, sequence::FixedBytes};
use rand_core::CryptoRng;
use soma_protocol::{ConsensusKey, Hash, read};
use soma_store::{
    database,
    database::{Operation, Qmdb, StateCommitment},
};

use crate::{
    EngineError, Sink,
    application::Core,
    block::{Block, hash},
    exchange::{Answer, Ask, Asking, OPERATIONS_MAX, Offer, StatePart},
    handover::{Certificate, Handover, Handovers, Unbelievable, Walk},
    network::bytes_of,
    node::{Archives, Config, genesis_state},
};

/// How a node that has no blocks yet comes to the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// By its peers' state if the chain is longer than two epochs, else by executing all blocks. A
    /// validator of genesis, whose chain begins with it, executes.
    #[default]
    Auto,
    /// By its peers' state, also if it has blocks but is far behind.
    State,
    /// By executing all blocks.
    Replay,
}

/// How far a join has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinProgress {
    /// It asks its peers what they have.
    Asking,
    /// It is verifying handovers, and knows the committee of this term.
    Committees {
        /// Handovers whose certificates were verified.
        handovers: u64,
        /// The term of the last one.
        term: u64,
    },
    /// It gets the state as of a block.
    State {
        /// The block.
        height: u64,
        /// Operations that have come, each proved.
        operations: u64,
        /// Operations in all.
        of: u64,
        /// Bytes that have come.
        bytes: u64,
    },
}

/// A join that is done: what was taken over, and what it was checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The block whose state it is.
    pub height: u64,
    /// Its digest.
    pub digest: Hash,
    /// The root of its state.
    pub state_root: Hash,
    /// Handovers between committees that were checked, from genesis on.
    pub handovers: u64,
    /// Operations of the state that came, each proved against the root.
    pub operations: u64,
    /// The bytes they came in.
    pub bytes: u64,
    /// Peers that gave what could not be proved, and were asked no more.
    pub refused: u64,
}

/// How long the first offer is waited for, and others after it.
const FIRST_OFFER: Duration = Duration::from_secs(10);
const MORE_OFFERS: Duration = Duration::from_millis(500);
const ASK_AGAIN: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_secs(2);
/// How often a join begins anew before it gives up.
const ATTEMPTS: u32 = 20;
/// How often all peers are asked for one part of the state.
const ROUNDS: u32 = 3;

/// Why an attempt ended.
enum Trouble {
    /// This node cannot go on.
    Engine(EngineError),
    /// A peer gave something that it should not have.
    Forged(PublicKey, String),
    /// Nobody has what is needed, or nobody answers.
    Absent(String),
}

impl<T: Into<EngineError>> From<T> for Trouble {
    fn from(error: T) -> Self {
        Self::Engine(error.into())
    }
}

fn stopped(error: impl fmt::Display) -> EngineError {
    EngineError::Stopped {
        reason: error.to_string(),
    }
}

/// A peer's key, as people know it.
struct Name<'a>(&'a PublicKey);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ConsensusKey(bytes_of(self.0)).fmt(f)
    }
}

/// What a node remembers of its join: that it has begun, or where it ended.
#[derive(Clone, Debug)]
pub(crate) struct Marked {
    /// The block it goes on from, once all of it is on disk.
    pub(crate) floor: Option<(u64, Certificate)>,
}

impl Write for Marked {
    fn write(&self, buf: &mut impl BufMut) {
        self.floor.is_some().write(buf);
        if let Some((height, certificate)) = &self.floor {
            height.write(buf);
            certificate.write(buf);
        }
    }
}

impl EncodeSize for Marked {
    fn encode_size(&self) -> usize {
        let floor = self.floor.as_ref();
        1 + floor.map_or(0, |(height, certificate)| {
            height.encode_size() + certificate.encode_size()
        })
    }
}

impl Read for Marked {
    type Cfg = usize;

    fn read_cfg(buf: &mut impl Buf, seats: &usize) -> Result<Self, CodecError> {
        let floor = if bool::read(buf)? {
            Some((u64::read(buf)?, Certificate::read_cfg(buf, seats)?))
        } else {
            None
        };
        Ok(Self { floor })
    }
}

const MARK: FixedBytes<1> = fixed_bytes!("00");

/// Where the mark is kept.
pub(crate) struct Mark<E: StorageContext>(Metadata<E, FixedBytes<1>, Marked>);

impl<E: StorageContext> Mark<E> {
    pub(crate) async fn open(context: &E, prefix: &str) -> Result<Self, EngineError> {
        let config = metadata::Config {
            partition: format!("{prefix}-join"),
            codec_config: Scheme::certificate_codec_config_unbounded(),
        };
        let metadata = Metadata::init(context.child("join_mark"), config).await;
        Ok(Self(metadata.map_err(stopped)?))
    }

    pub(crate) fn read(&self) -> Option<&Marked> {
        self.0.get(&MARK)
    }

    async fn write(self, marked: Marked) -> Result<Self, EngineError> {
        Ok(Self(self.0.put_sync(MARK, marked).await.map_err(stopped)?))
    }
}

/// A node that joins.
pub(crate) struct Joiner<'a, E: StorageContext> {
    pub(crate) context: &'a E,
    pub(crate) config: &'a Config,
    pub(crate) page_cache: &'a CacheRef,
    pub(crate) core: &'a Core,
    pub(crate) asking: &'a Asking,
    pub(crate) handovers: &'a Handovers<E>,
}

type Offers = BTreeMap<PublicKey, Offer>;

impl<E: CryptoRng + Spawner + StorageContext> Joiner<'_, E> {
    /// Joins, if that is wanted and there is something to join; what is on disk afterwards is whole.
    ///
    /// # Errors
    /// [`EngineError::NoSnapshot`] when a join has begun and no peer gives what it needs.
    pub(crate) async fn run(
        self,
        mark: Mark<E>,
        archives: Archives<E>,
    ) -> Result<(Mark<E>, Archives<E>, Option<Joined>), EngineError> {
        let begun = mark.read().is_some_and(|marked| marked.floor.is_none());
        self.config.sink.joining(JoinProgress::Asking);
        let offers = self.offers(FIRST_OFFER).await;
        let last = offers.values().map(|offer| offer.last).max().unwrap_or(0);
        let calendar = self.core.committees.calendar();
        let least = match self.config.join {
            Join::State => calendar.last_of(0),
            Join::Auto | Join::Replay => calendar.last_of(1),
        };
        let ahead = self.config.history.height()? + calendar.last_of(0) < last;
        if !begun && (last < least || !ahead) {
            return Ok((mark, archives, None));
        }
        let mark = mark.write(Marked { floor: None }).await?;
        let (taken, joined) = self.persist(offers).await?;
        let archives = self.store(archives, &taken, &joined).await?;
        let floor = Some((joined.height, taken.handover.certificate));
        let mark = mark.write(Marked { floor }).await?;
        self.config.sink.joined(&joined);
        Ok((mark, archives, Some(joined)))
    }

    /// Tries until it has all, with those peers that have not forged anything.
    async fn persist(&self, mut offers: Offers) -> Result<(Taken, Joined), EngineError> {
        let genesis = read::committee(&genesis_state(&self.core.rules));
        let mut way = Way {
            walk: Walk::new(self.core.committees.clone(), &genesis.seats),
            handovers: 0,
            last: None,
        };
        let mut refused = BTreeSet::new();
        let mut reason = String::from("no peer answers");
        for _ in 0..ATTEMPTS {
            let mut peers: Vec<_> = offers
                .iter()
                .filter(|(peer, _)| !refused.contains(*peer))
                .map(|(peer, offer)| (offer.last, peer.clone()))
                .collect();
            peers.sort();
            let peers = peers.into_iter().rev().map(|(_, peer)| peer).collect();
            match self.attempt(&mut way, peers).await {
                Ok((taken, mut joined)) => {
                    joined.refused += refused.len() as u64;
                    return Ok((taken, joined));
                }
                Err(Trouble::Engine(error)) => return Err(error),
                Err(Trouble::Forged(peer, why)) => {
                    reason = format!("{} gave what cannot be believed: {why}", Name(&peer));
                    tracing::warn!(peer = %Name(&peer), why, "a peer is not believed");
                    refused.insert(peer);
                }
                Err(Trouble::Absent(why)) => {
                    tracing::info!(why, "a join begins again");
                    reason = why;
                }
            }
            offers = self.offers(FIRST_OFFER).await;
        }
        Err(EngineError::NoSnapshot { reason })
    }

    async fn attempt(
        &self,
        way: &mut Way,
        peers: Vec<PublicKey>,
    ) -> Result<(Taken, Joined), Trouble> {
        let Some(best) = peers.first() else {
            return Err(Trouble::Absent(
                "no peer is left that could be asked".into(),
            ));
        };
        self.walk(way, best).await?;
        let Some(handover) = way.last.clone() else {
            return Err(Trouble::Absent("no peer has a snapshot yet".into()));
        };
        let fetched = self.state(&handover, &peers).await?;
        let digest = handover.header.digest();
        let block = self.block(&handover, &peers).await?;
        let height = handover.height();
        let events = self.events(height).await;
        let joined = Joined {
            height,
            digest: hash(digest),
            state_root: hash(handover.header.state.root),
            handovers: way.handovers,
            operations: fetched.operations,
            bytes: fetched.bytes,
            refused: (peers.len() - fetched.peers.len()) as u64,
        };
        let taken = Taken {
            handover,
            block,
            events,
        };
        Ok((taken, joined))
    }

    /// Goes along the committees as far as a peer leads.
    async fn walk(&self, way: &mut Way, peer: &PublicKey) -> Result<(), Trouble> {
        let mut random = self.context.child("walk");
        loop {
            let next = match self.ask(peer, Ask::Handover(way.walk.reached())).await? {
                Answer::Handover(next) => *next,
                Answer::Nothing => return Ok(()),
                _ => return Err(unasked(peer)),
            };
            let decided = way.walk.decided();
            let believed = way.walk.step(&mut random, &next);
            believed.map_err(|why: Unbelievable| Trouble::Forged(peer.clone(), why.to_string()))?;
            let epoch = self.core.committees.calendar().epoch_of(next.height());
            if way.walk.decided() != decided {
                self.handovers.keep(epoch, &next).await?;
            }
            way.handovers += 1;
            way.last = Some(next);
            self.config.sink.joining(JoinProgress::Committees {
                handovers: way.handovers,
                term: epoch,
            });
        }
    }

    /// Gets the state into the database, and says how it came.
    async fn state(&self, handover: &Handover, peers: &[PublicKey]) -> Result<Fetched, Trouble> {
        let target = handover.header.state.clone();
        let fetch = Fetch {
            clock: self.context.child("fetch"),
            asking: self.asking.clone(),
            root: target.root,
            shared: Arc::new(Mutex::new(Fetched {
                peers: peers.to_vec(),
                forged: None,
                operations: 0,
                bytes: 0,
            })),
            sink: Arc::clone(&self.config.sink),
            height: handover.height(),
            of: *target.range.end() - *target.range.start(),
        };
        let shared = Arc::clone(&fetch.shared);
        let synced = sync::sync(sync::engine::Config {
            context: self.context.child("state_sync"),
            source: fetch,
            target: target.clone(),
            max_outstanding_requests: NZUsize!(8),
            fetch_batch_size: OPERATIONS_MAX,
            apply_batch_size: NZU64!(4_096),
            db_config: database::config(&self.config.prefix, self.page_cache.clone()),
            update_rx: None,
            finish_rx: None,
            reached_target_tx: None,
        });
        let synced: Result<Qmdb<E>, _> = synced.await;
        let fetched = {
            let mut fetched = shared.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *fetched)
        };
        match synced {
            Ok(database) if whole(&database, &target) => Ok(fetched),
            Ok(_) => Err(Trouble::Absent(
                "the state is not what was asked for".into(),
            )),
            Err(SyncError::Database(error)) => Err(soma_store::StoreError::from(error).into()),
            Err(error) => Err(match fetched.forged {
                Some((peer, why)) => Trouble::Forged(peer, why),
                None => Trouble::Absent(error.to_string()),
            }),
        }
    }

    async fn block(&self, handover: &Handover, peers: &[PublicKey]) -> Result<Block, Trouble> {
        for peer in peers {
            match self.ask(peer, Ask::Block(handover.height())).await {
                Ok(Answer::Block(block)) if block.digest() == handover.header.digest() => {
                    return Ok(block.as_ref().clone());
                }
                Ok(Answer::Block(_)) => {
                    let why = format!("another block {}", handover.height());
                    return Err(Trouble::Forged(peer.clone(), why));
                }
                Err(Trouble::Engine(error)) => return Err(Trouble::Engine(error)),
                _ => {}
            }
        }
        let height = handover.height();
        Err(Trouble::Absent(format!("no peer has block {height}")))
    }

    /// How many events there were, in the words of most: only names of events depend on it.
    async fn events(&self, height: u64) -> u64 {
        let mut counts = BTreeMap::<u64, u32>::new();
        let mut heard = self.asking.ask(Recipients::All, Ask::Events(height)).await;
        let mut wait = ANSWER;
        while let Some((_, answer)) = self.within(wait, heard.recv()).await.flatten() {
            if let Answer::Events(events) = answer {
                *counts.entry(events).or_default() += 1;
                wait = MORE_OFFERS;
            }
        }
        let most = counts.into_iter().max_by_key(|(_, voices)| *voices);
        // Beyond this they could not be counted on.
        most.map_or(0, |(events, _)| events.min(1 << 52))
    }

    /// Writes all but the state, which is there.
    async fn store(
        &self,
        archives: Archives<E>,
        taken: &Taken,
        joined: &Joined,
    ) -> Result<Archives<E>, EngineError> {
        let Archives {
            certificates,
            blocks,
        } = archives;
        let (height, digest) = (joined.height, taken.handover.header.digest());
        let certificate = &taken.handover.certificate;
        let certificates = certificates.put_sync(height, digest, certificate).await;
        let block = Arc::new(taken.block.clone());
        let blocks = blocks.put_sync(height, digest, &block).await;
        self.config.history.begin_after(height, taken.events)?;
        Ok(Archives {
            certificates: certificates.map_err(stopped)?,
            blocks: blocks.map_err(stopped)?,
        })
    }

    /// What the peers have; it waits for the first to say so.
    async fn offers(&self, patience: Duration) -> Offers {
        let mut offers = Offers::new();
        let deadline = self.context.current() + patience;
        while offers.is_empty() && self.context.current() < deadline {
            let mut heard = self.asking.ask(Recipients::All, Ask::Offer).await;
            let mut wait = ASK_AGAIN;
            while let Some((peer, answer)) = self.within(wait, heard.recv()).await.flatten() {
                if let Answer::Offer(offer) = answer {
                    offers.insert(peer, offer);
                    wait = MORE_OFFERS;
                }
            }
        }
        offers
    }

    async fn ask(&self, peer: &PublicKey, ask: Ask) -> Result<Answer, Trouble> {
        let mut heard = self.asking.ask(Recipients::One(peer.clone()), ask).await;
        let answer = self.within(ANSWER, heard.recv()).await.flatten();
        let answer = answer.map(|(_, answer)| answer);
        answer.ok_or_else(|| Trouble::Absent(format!("{} does not answer", Name(peer))))
    }

    async fn within<T>(&self, wait: Duration, future: impl Future<Output = T>) -> Option<T> {
        within(self.context, wait, future).await
    }
}

/// How often peers are asked whether they still have the next block, and for how long the answers are
/// waited for.
const LOOK: Duration = Duration::from_secs(30);

/// Ends when the node stands still and all peers that answer have forgotten its next block.
pub(crate) async fn left_behind(
    clock: &impl Clock,
    asking: &Asking,
    height: impl Fn() -> u64,
) -> EngineError {
    loop {
        let before = height();
        clock.sleep(LOOK).await;
        let height = height();
        if height != before {
            continue;
        }
        let mut heard = asking.ask(Recipients::All, Ask::Offer).await;
        let mut first = None;
        while let Some((_, answer)) = within(clock, ANSWER, heard.recv()).await.flatten() {
            if let Answer::Offer(offer) = answer {
                first = Some(first.map_or(offer.first, |first: u64| first.min(offer.first)));
            }
        }
        if let Some(first) = first.filter(|first| *first > height + 1) {
            return EngineError::TooFarBehind { height, first };
        }
    }
}

fn unasked(peer: &PublicKey) -> Trouble {
    Trouble::Forged(peer.clone(), "an answer to another question".into())
}

fn whole<E: Spawner + StorageContext>(database: &Qmdb<E>, target: &StateCommitment) -> bool {
    database.root() == target.root
}

async fn within<T>(
    clock: &impl Clock,
    wait: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = clock.sleep(wait) => None,
    }
}

/// How far the walk has come.
struct Way {
    walk: Walk,
    handovers: u64,
    last: Option<Handover>,
}

/// What was taken from peers, besides the state.
struct Taken {
    handover: Handover,
    block: Block,
    events: u64,
}

/// What the fetching of one state has come to.
#[derive(Default)]
struct Fetched {
    /// Those that are still asked.
    peers: Vec<PublicKey>,
    /// The last one that forged something.
    forged: Option<(PublicKey, String)>,
    operations: u64,
    bytes: u64,
}

/// Fetches parts of the state from peers in turn.
struct Fetch<E> {
    clock: E,
    asking: Asking,
    root: Digest,
    shared: Arc<Mutex<Fetched>>,
    sink: Arc<dyn Sink>,
    height: u64,
    of: u64,
}

/// No peer gives a part of the state.
#[derive(Debug, thiserror::Error)]
#[error("no peer gives operation {0} of the state")]
struct NoPart(u64);

impl<E: Clock> Fetch<E> {
    fn peers(&self) -> Vec<PublicKey> {
        let fetched = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.peers.clone()
    }

    fn refuse(&self, peer: &PublicKey) {
        let why = format!("a part of the state of block {} without proof", self.height);
        tracing::warn!(peer = %Name(peer), why, "a peer is not believed");
        let mut fetched = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.peers.retain(|other| other != peer);
        fetched.forged = Some((peer.clone(), why));
    }

    fn count(&self, part: &StatePart) {
        let operations = match part {
            StatePart::Operations { operations, .. } => operations.len() as u64,
            StatePart::Boundary { .. } => 0,
        };
        let progress = {
            let mut fetched = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            fetched.operations += operations;
            fetched.bytes += part.encode_size() as u64;
            JoinProgress::State {
                height: self.height,
                operations: fetched.operations,
                of: self.of,
                bytes: fetched.bytes,
            }
        };
        self.sink.joining(progress);
    }

    /// Whether a part is what was asked for, and in the state.
    fn proves(&self, request: Request<mmr::Family>, part: &StatePart) -> bool {
        let start = request.start();
        part.proof().leaves == request.size()
            && match (request, part) {
                (
                    Request::Operations { max_ops, .. },
                    StatePart::Operations { proof, operations },
                ) => {
                    !operations.is_empty()
                        && operations.len() as u64 <= max_ops.get()
                        && qmdb::verify_proof::<Blake3, _, _>(proof, start, operations, &self.root)
                }
                (
                    Request::Boundary { .. },
                    StatePart::Boundary {
                        proof,
                        op,
                        pinned_nodes,
                    },
                ) => qmdb::verify_proof_and_pinned_nodes::<Blake3, _, _>(
                    proof,
                    start,
                    std::slice::from_ref(op),
                    pinned_nodes,
                    &self.root,
                ),
                _ => false,
            }
    }
}

impl<E: Clock> Source for Fetch<E> {
    type Family = mmr::Family;
    type Digest = Digest;
    type Op = Operation;
    type Error = NoPart;

    async fn serve(&self, request: Request<mmr::Family>) -> source::Result<Self> {
        let start = *request.start();
        for _ in 0..ROUNDS {
            let peers = self.peers();
            // Different parts begin with different peers, so that all have their share.
            let turn = usize::try_from(start / OPERATIONS_MAX).unwrap_or(0) % peers.len().max(1);
            for peer in peers.iter().cycle().skip(turn).take(peers.len()) {
                let to = Recipients::One(peer.clone());
                let mut heard = self.asking.ask(to, Ask::State(request)).await;
                let heard = within(&self.clock, ANSWER, heard.recv()).await.flatten();
                match heard {
                    Some((_, Answer::State(part))) if self.proves(request, &part) => {
                        self.count(&part);
                        return Ok((*part, None));
                    }
                    Some((_, Answer::Nothing)) | None => {}
                    Some(_) => self.refuse(peer),
                }
            }
            self.clock.sleep(ASK_AGAIN).await;
        }
        Err(NoPart(start))
    }
}
