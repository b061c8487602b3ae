//! One validator, on any runtime and any network: puts the engine's parts together and runs them.
//!
//! The simulator and the binary start the same function. It assumes that nobody else uses the
//! storage under its prefix; simulated nodes share one storage and differ in the prefix.

use std::{collections::BTreeMap, future::poll_fn, num::NonZeroU64, sync::Arc, task::Poll};

use commonware_broadcast::buffered;
use commonware_codec::CodecShared;
use commonware_consensus::{
    Reporters,
    marshal::{
        Identifier, Start, core::Actor as Marshal, resolver::p2p as backfill, standard::Deferred,
    },
    simplex::scheme::ed25519::Scheme,
    types::{FixedEpocher, Height},
};
use commonware_cryptography::{
    Digested, Digestible as _, Signer as _,
    blake3::Digest,
    certificate::Verifier as _,
    ed25519::{PrivateKey, PublicKey},
};
use commonware_glue::stateful::{Mailbox as ExecutionMailbox, Stateful, SyncPlan};
use commonware_p2p::{Blocker, Receiver, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::{
    Clock, Handle as Task, Metrics, Network, Spawner, Storage, buffer::paged::CacheRef,
};
use commonware_storage::{
    Context as StorageContext,
    archive::{Archive as _, prunable},
    translator::EightCap,
};
use commonware_utils::{
    acknowledgement::Exact,
    channel::{mpsc, watch},
};
use rand_core::{CryptoRng, Rng};
use soma_protocol::{
    Address, BlockInfo, ConsensusKey, Genesis, Hash, MemoryState, evidence::Evidence, read,
};
use soma_store::{
    History, State, Tip,
    database::{self, Databases},
    history::FinalizedBlock,
};
use tokio::sync::{Notify, SetOnce, mpsc as queue};

use crate::{
    EngineError, Pool, Sink,
    application::{Application, Core, Deviation, Pacer, Rules, authenticate, finalized_block},
    block::{Block, hash},
    committees::{Calendar, Committees, digest_of},
    epochs::Epochs,
    exchange::{self, Asking},
    faults::Faults,
    gate, gossip,
    handover::{Certificate, Handovers, Walk},
    join::{Join, Joined, Joiner, Mark, left_behind},
    network::{Roster, bytes_of, public_key},
    parts::{self, Mailbox, NoStateSync, Timing, Variant},
    recorder::{Receipts, Recorder},
    serving::Serving,
};

/// How many blocks the history is rebuilt by in one write.
const REBUILD_STEP: usize = 256;

/// What a node needs to know.
#[expect(missing_debug_implementations, reason = "it holds a key")]
pub struct Config {
    /// Names this node's partitions.
    pub prefix: String,
    /// The chain.
    pub genesis: Genesis,
    /// The key it votes with, if it has a seat.
    pub key: PrivateKey,
    /// How long an epoch of the engine is.
    pub calendar: Calendar,
    /// How fast blocks come.
    pub timing: Timing,
    /// How it departs from the rules: not at all but in simulations.
    pub deviation: Deviation,
    /// Where its blocks get their transactions from.
    pub pool: Arc<dyn Pool>,
    /// Where final blocks go.
    pub sink: Arc<dyn Sink>,
    /// Rung when the pool has something new.
    pub work: Arc<Notify>,
    /// What happened, for questions about the past.
    pub history: Arc<History>,
    /// What is said between nodes.
    pub gossip: gossip::GossipRelay,
    /// Where proof goes that a validator signed two histories. What nobody takes is dropped.
    pub faults: queue::Sender<Evidence>,
    /// How it comes to the state if it has no blocks.
    pub join: Join,
    /// How many blocks it keeps; all if `None`.
    pub keep_blocks: Option<u64>,
    /// How many of them share a file.
    pub section_blocks: NonZeroU64,
}

/// The network a node talks on: a sender and a receiver for each channel.
#[derive(Debug)]
pub struct Links<P, B, S, R> {
    /// Who the peers are.
    pub peers: P,
    /// Cuts off peers that cheat.
    pub blocker: B,
    /// Votes.
    pub votes: (S, R),
    /// Certificates.
    pub certificates: (S, R),
    /// Requests for certificates, and answers.
    pub certificate_requests: (S, R),
    /// Requests for blocks, and answers.
    pub block_requests: (S, R),
    /// Proposed blocks.
    pub blocks: (S, R),
    /// Gossip.
    pub gossip: (S, R),
    /// What those ask who join, and answers.
    pub exchange: (S, R),
}

/// A node that runs.
#[expect(missing_debug_implementations, reason = "tasks have nothing to show")]
pub struct Node {
    /// The state after the last final block.
    pub state: Arc<State>,
    /// What was taken over from peers in this start.
    pub joined: Option<Joined>,
    consensus: Task<()>,
    recorder: Task<Result<(), EngineError>>,
    behind: Task<EngineError>,
    ordered: Mailbox,
    recorded: watch::Receiver<u64>,
}

impl Node {
    /// Waits until the node cannot go on.
    pub async fn ended(&mut self) -> EngineError {
        let stopped = |what: &str| EngineError::Stopped {
            reason: format!("{what} ended"),
        };
        tokio::select! {
            biased;
            _ = &mut self.consensus => stopped("consensus"),
            result = &mut self.recorder => match result {
                Ok(Err(error)) => error,
                _ => stopped("the history's writer"),
            },
            result = &mut self.behind => match result {
                Ok(error) => error,
                Err(_) => stopped("the look at the peers"),
            },
        }
    }
}

/// Starts a node and returns once its state is loaded and everything is repeated that was final
/// when it stopped.
///
/// # Errors
/// [`EngineError`] when genesis is unusable or what is on disk contradicts itself. The engine
/// panics, and so does this, when the disk fails.
pub async fn start<E, P, B, S, R>(
    context: E,
    config: Config,
    mut links: Links<P, B, S, R>,
) -> Result<Node, EngineError>
where
    E: Rng + CryptoRng + Spawner + Storage + Clock + Metrics + Network,
    P: Roster,
    B: Blocker<PublicKey = PublicKey>,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let me = config.key.public_key();
    let (finalized, blocks) = mpsc::unbounded_channel();
    let (receipt_sender, receipts) = mpsc::unbounded_channel();
    let core = Arc::new(core::<E>(&config, finalized)?);
    let committees = core.committees.clone();
    let page_cache = parts::page_cache();

    let (open, answers) = gate::hold(links.block_requests.1);
    let fetcher = backfill::init(
        context.child("backfill"),
        parts::backfill(me.clone(), links.peers.clone(), links.blocker.clone()),
        (links.block_requests.0, answers),
    );
    let (broadcaster, proposed) = buffered::Engine::new(
        context.child("broadcast"),
        parts::broadcast(me, links.peers.clone()),
    );
    broadcaster.start(links.blocks);

    let (asking, server) = exchange::start(context.child("exchange"), links.exchange);
    let handovers = Arc::new(Handovers::open(&context, &config.prefix, &page_cache).await?);
    let joiner = Joiner {
        context: &context,
        config: &config,
        page_cache: &page_cache,
        core: &core,
        asking: &asking,
        handovers: &handovers,
    };
    let (begin, joined) = begin(joiner, &mut links.peers).await?;
    let (marshal, stateful, ordered, executed) =
        ordering(&context, &config, &page_cache, &core, begin).await?;

    // Asked for before the first block can be delivered, so answered before it is applied: the
    // application holds every block back until the state is loaded.
    let subscriber = executed.clone();
    let mut databases = Box::pin(subscriber.subscribe_databases());
    let _ = poll_fn(|waker| Poll::Ready(databases.as_mut().poll(waker))).await;
    let reporters = Reporters::from((executed.clone(), Receipts(receipt_sender)));
    marshal.start(reporters, proposed, fetcher);
    stateful.start();
    let databases = databases.await;
    let state = Arc::new(load(&core, &databases, &ordered).await?);
    rebuild(&core, &ordered, &config.history, &state).await?;
    state.read(|memory, tip| committees.learn(memory, tip.height));
    let _ = core.state.set(Arc::clone(&state));
    open.open();
    let loaded = Loaded {
        core,
        ordered,
        executed,
        databases,
        state,
        handovers,
        asking,
        page_cache,
    };
    let _ = server.set(loaded.serving(&config.history, &config.deviation));
    let channels = (links.votes, links.certificates, links.certificate_requests);
    let peers = (links.peers, links.blocker);
    let mut node = loaded.live(
        context,
        config,
        (blocks, receipts),
        peers,
        channels,
        links.gossip,
    )?;
    node.joined = joined;
    repeat(&mut node).await?;
    Ok(node)
}

/// What is there once the state is loaded.
struct Loaded<E: Spawner + StorageContext> {
    core: Arc<Core>,
    ordered: Mailbox,
    executed: Executed<E>,
    databases: Databases<E>,
    state: Arc<State>,
    handovers: Arc<Handovers<E>>,
    asking: Asking,
    page_cache: CacheRef,
}

/// Final blocks on their way to the history, and the receipts that wait for them.
type Queues = (
    mpsc::UnboundedReceiver<FinalizedBlock>,
    mpsc::UnboundedReceiver<(u64, Exact)>,
);

impl<E> Loaded<E>
where
    E: Rng + CryptoRng + Spawner + Storage + Clock + Metrics + Network,
{
    fn serving(&self, history: &Arc<History>, deviation: &Deviation) -> Serving<E> {
        Serving {
            calendar: self.core.committees.calendar(),
            ordered: self.ordered.clone(),
            databases: self.databases.clone(),
            state: Arc::clone(&self.state),
            history: Arc::clone(history),
            handovers: Arc::clone(&self.handovers),
            forges: matches!(deviation, Deviation::Forges),
        }
    }

    /// Starts to talk, to record and to vote.
    fn live<P, B, S, R>(
        self,
        context: E,
        config: Config,
        (blocks, receipts): Queues,
        (roster, blocker): (P, B),
        channels: ((S, R), (S, R), (S, R)),
        gossip: (S, R),
    ) -> Result<Node, EngineError>
    where
        P: Roster,
        B: Blocker<PublicKey = PublicKey>,
        S: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        config.gossip.start(context.child("gossip"), gossip);
        let (state, ordered) = (self.state, self.ordered);
        let committees = self.core.committees.clone();
        let faults = Faults::new(self.core.rules.chain, config.faults);
        let recorder = Recorder::new(
            (config.history, config.sink, config.keep_blocks),
            (Arc::clone(&state), committees.clone()),
            (ordered.clone(), self.handovers),
            blocks,
            receipts,
        )?;
        let recorded = recorder.height();
        let recorder = context
            .child("recorder")
            .dedicated()
            .spawn(move |_| recorder.run());
        let (known, asking) = (recorded.clone(), self.asking);
        let behind = context.child("behind").spawn(move |clock| async move {
            left_behind(&clock, &asking, || *known.borrow()).await
        });
        let automaton = Deferred::new(
            context.child("deferred"),
            Pacer::new(self.core, self.executed),
            ordered.clone(),
            committees.calendar().epocher(),
        );
        let epochs = Epochs {
            context,
            prefix: config.prefix,
            page_cache: self.page_cache,
            timing: config.timing,
            committees,
            roster,
            blocker,
            ordered: ordered.clone(),
            automaton,
            faults,
        };
        Ok(Node {
            consensus: epochs.start(state.tip().height, recorded.clone(), channels),
            state,
            joined: None,
            recorder,
            behind,
            ordered,
            recorded,
        })
    }
}

/// Final blocks and their certificates, as they are on disk.
pub(crate) struct Archives<E: StorageContext> {
    pub(crate) certificates: prunable::Archive<EightCap, E, Digest, Certificate>,
    pub(crate) blocks: prunable::Archive<EightCap, E, Digest, Arc<Block>>,
}

/// Where the ordering of blocks begins.
struct Begin<E: StorageContext> {
    archives: Archives<E>,
    /// The block that was taken over with its state.
    floor: Option<(u64, Certificate)>,
}

/// Opens what is on disk, and joins the network if that is wanted and there is something to join.
async fn begin<E>(
    joiner: Joiner<'_, E>,
    roster: &mut impl Roster,
) -> Result<(Begin<E>, Option<Joined>), EngineError>
where
    E: CryptoRng + Spawner + StorageContext,
{
    let Joiner {
        context,
        config,
        page_cache,
        core,
        handovers,
        ..
    } = joiner;
    let prefix = config.prefix.as_str();
    let section = config.section_blocks;
    let codec = Scheme::certificate_codec_config_unbounded();
    let certificates = archive(context, prefix, "certificates", page_cache, section, codec);
    let blocks = archive(context, prefix, "blocks", page_cache, section, ());
    let archives = Archives {
        certificates: certificates.await?,
        blocks: blocks.await?,
    };
    let mark = Mark::open(context, prefix).await?;
    let begun = mark.read().is_some_and(|marked| marked.floor.is_none());
    let is_new = archives.blocks.last_index().is_none_or(|last| last == 0);
    let genesis = read::committee(&genesis_state(&core.rules));
    let me = ConsensusKey(bytes_of(&config.key.public_key()));
    let founds = genesis.seats.iter().any(|seat| seat.consensus_key == me);
    let wanted = match config.join {
        Join::Auto => is_new && !founds,
        Join::State => true,
        Join::Replay => false,
    };
    let (mark, archives, joined) = if begun || wanted {
        core.committees.learn(&genesis_state(&core.rules), 0);
        let others = core.committees.registered();
        roster.track(0, core.committees.voters(0), others);
        joiner.run(mark, archives).await?
    } else {
        (mark, archives, None)
    };
    let floor = mark.read().and_then(|marked| marked.floor.clone());
    if let Some((height, _)) = &floor {
        // Its certificate is checked once more, with the committee that the handovers lead to.
        let mut walk = Walk::new(core.committees.clone(), &genesis.seats);
        walk.along(context.child("walk"), handovers).await?;
        let epoch = core.committees.calendar().epoch_of(*height);
        if let Some(seats) = walk.of(epoch) {
            core.committees.hold(epoch, seats);
        }
    }
    Ok((Begin { archives, floor }, joined))
}

/// What puts blocks in order: the actor, and how it is asked.
type Ordering<E> = Marshal<
    E,
    Variant,
    Committees,
    prunable::Archive<EightCap, E, Digest, Certificate>,
    prunable::Archive<EightCap, E, Digest, Arc<Block>>,
    FixedEpocher,
    Sequential,
>;

/// How the execution is asked.
type Executed<E> = ExecutionMailbox<E, Application>;
/// What executes them.
type Executing<E> = Stateful<E, Application, Variant, NoStateSync, Sequential>;

/// Makes the parts that order and execute blocks.
async fn ordering<E>(
    context: &E,
    config: &Config,
    page_cache: &CacheRef,
    core: &Arc<Core>,
    begin: Begin<E>,
) -> Result<(Ordering<E>, Executing<E>, Mailbox, Executed<E>), EngineError>
where
    E: Rng + CryptoRng + Spawner + Storage + Clock + Metrics + Network,
{
    let prefix = config.prefix.as_str();
    let Begin { archives, floor } = begin;
    let plan = SyncPlan::init(context.child("plan"), prefix).await;
    let executed = plan.completed().map(Height::get);
    // Once it has been gone on from, it is like any other block.
    let floor = floor.filter(|(height, _)| executed.is_none_or(|executed| executed < *height));
    let start = floor.map_or_else(
        || {
            let genesis = &core.rules.genesis;
            Start::Genesis(Digested::precomputed(genesis.clone(), genesis.digest()))
        },
        |(_, certificate)| Start::Floor(certificate),
    );
    let settings = parts::marshal(prefix, page_cache, core.committees.clone(), start);
    let context_of_order = context.child("marshal");
    let Archives {
        certificates,
        blocks,
    } = archives;
    let (marshal, ordered, floor) =
        Marshal::init(context_of_order, certificates, blocks, settings).await;
    let order = (ordered.clone(), floor);
    let (stateful, executed) = Stateful::new(
        context.child("stateful"),
        parts::stateful(prefix, page_cache, core, order, plan, config.keep_blocks),
    );
    Ok((marshal, stateful, ordered, executed))
}

/// The application's part of a node.
fn core<E: Spawner + StorageContext>(
    config: &Config,
    finalized: mpsc::UnboundedSender<FinalizedBlock>,
) -> Result<Core, EngineError> {
    let chain = config.genesis.chain_id();
    Ok(Core {
        rules: rules::<E>(&config.genesis, config.deviation.clone())?,
        committees: Committees::new(chain, config.key.clone(), config.calendar),
        state: SetOnce::new(),
        pool: Arc::clone(&config.pool),
        work: Arc::clone(&config.work),
        timing: config.timing,
        finalized,
    })
}

/// What a chain begins with.
pub(crate) fn rules<E: Spawner + StorageContext>(
    genesis: &Genesis,
    deviation: Deviation,
) -> Result<Rules, EngineError> {
    let chain = genesis.chain_id();
    let (leader, proposer) = first_validator(genesis)?;
    let empty = database::empty_commitment::<E>();
    let genesis_changes = genesis.state()?;
    let mut memory = MemoryState::default();
    memory.apply(&genesis_changes);
    let seats = digest_of(&read::committee(&memory).seats);
    let timestamp_ms = genesis.timestamp_ms;
    Ok(Rules {
        chain,
        genesis: Block::genesis(chain, leader, proposer, timestamp_ms, empty, seats),
        genesis_changes,
        deviation,
    })
}

/// Whom the genesis block names: the validator with the least key. The others' keys are checked.
fn first_validator(genesis: &Genesis) -> Result<(PublicKey, Address), EngineError> {
    let validators = genesis.validators.iter().map(|validator| {
        let key = public_key(&validator.consensus_key).ok_or(EngineError::ValidatorKey {
            validator: validator.address,
        })?;
        Ok::<_, EngineError>((key, validator.address))
    });
    let validators: BTreeMap<_, _> = validators.collect::<Result<_, _>>()?;
    validators
        .into_iter()
        .next()
        .ok_or(EngineError::NoValidators)
}

/// Opens an archive of final things by height.
pub(crate) async fn archive<E: StorageContext, V: CodecShared>(
    context: &E,
    prefix: &str,
    name: &'static str,
    page_cache: &CacheRef,
    section: NonZeroU64,
    codec: V::Cfg,
) -> Result<prunable::Archive<EightCap, E, Digest, V>, EngineError> {
    let config = parts::archive(prefix, name, page_cache, section, codec);
    let archive = prunable::Archive::init(context.child(name), config).await;
    archive.map_err(|error| EngineError::Stopped {
        reason: error.to_string(),
    })
}

pub(crate) fn genesis_state(rules: &Rules) -> MemoryState {
    let mut memory = MemoryState::default();
    memory.apply(&rules.genesis_changes);
    memory
}

async fn stored_block(ordered: &Mailbox, height: u64) -> Result<Digested<Block>, EngineError> {
    let block = ordered
        .get_block(Identifier::Height(Height::new(height)))
        .await;
    block.ok_or(EngineError::MissingBlock { height })
}

/// Reads the state from disk and checks it against the header of the block that it is the state of.
async fn load<E: Spawner + StorageContext>(
    core: &Core,
    databases: &Databases<E>,
    ordered: &Mailbox,
) -> Result<State, EngineError> {
    let database = databases.read().await;
    let Some((height, memory)) = database::load::<E>(&database).await? else {
        let tip = Tip {
            height: 0,
            digest: hash(core.rules.genesis.digest()),
        };
        return Ok(State::new(genesis_state(&core.rules), tip));
    };
    let block = stored_block(ordered, height).await?;
    if block.inner().state.root != database.root() {
        return Err(EngineError::StateMismatch { height });
    }
    Ok(State::new(
        memory,
        Tip {
            height,
            digest: hash(block.digest()),
        },
    ))
}

/// Brings the history up to the loaded state by executing the stored blocks again from genesis.
///
/// Only a lost or older history needs this: a whole one is never behind, because a block is
/// acknowledged after it is written there.
async fn rebuild(
    core: &Core,
    ordered: &Mailbox,
    history: &History,
    state: &State,
) -> Result<(), EngineError> {
    let tip = state.tip();
    let recorded = history.height()?;
    if recorded >= tip.height {
        return Ok(());
    }
    if stored_block(ordered, 1).await.is_err() {
        // The first blocks were pruned, or never came: what is lost is lost.
        tracing::warn!(from = tip.height, "the history begins anew");
        return Ok(history.begin_after(tip.height, history.last_event()?)?);
    }
    tracing::info!(from = recorded, to = tip.height, "rebuilding the history");
    let mut memory = genesis_state(&core.rules);
    let mut step: Vec<FinalizedBlock> = Vec::new();
    for height in 1..=tip.height {
        let block = stored_block(ordered, height).await?;
        let done = replay(
            &core.rules,
            &mut memory,
            block.inner(),
            hash(block.digest()),
        )?;
        if height > recorded {
            step.push(done);
        }
        if step.len() == REBUILD_STEP || height == tip.height {
            history.append(&step)?;
            step.clear();
        }
    }
    // The same blocks must give the same state, whichever way it was reached.
    if state.equals(&memory) {
        Ok(())
    } else {
        Err(EngineError::StateMismatch { height: tip.height })
    }
}

pub(crate) fn replay(
    rules: &Rules,
    memory: &mut MemoryState,
    block: &Block,
    digest: Hash,
) -> Result<FinalizedBlock, EngineError> {
    let Block {
        timestamp_ms,
        proposer,
        ..
    } = *block;
    let height = block.height.get();
    let transactions = authenticate(rules.chain, &block.transactions);
    let transactions = transactions.ok_or(EngineError::StateMismatch { height })?;
    let info = BlockInfo {
        height,
        timestamp_ms,
        proposer,
    };
    let outcome = rules.execute(memory, &info, &transactions);
    memory.apply(&outcome.changes);
    Ok(finalized_block(block, digest, &outcome))
}

/// Waits until the blocks that were final before the node stopped have been delivered again:
/// whoever asks now must not be told less than was reported then.
async fn repeat(node: &mut Node) -> Result<(), EngineError> {
    let mut recorded = node.recorded.clone();
    let mut stored = node.state.tip().height;
    while stored_block(&node.ordered, stored + 1).await.is_ok() {
        stored += 1;
    }
    tokio::select! {
        biased;
        _ = recorded.wait_for(|height| *height >= stored) => Ok(()),
        error = node.ended() => Err(error),
    }
}
