//! One validator, on any runtime and any network: wires the engine's parts together and runs them.
//!
//! The simulator and the binary start the same function. It assumes that the state folder is held
//! by this process alone; partitions are named with a prefix because simulated nodes share one
//! storage. There is one engine epoch, from genesis on, with the committee of genesis.

use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use commonware_broadcast::buffered;
use commonware_codec::{Copying, DecodeExt as _};
use commonware_consensus::{
    Reporters,
    marshal::{
        self, Identifier,
        core::{Actor as Marshal, Mailbox as MarshalMailbox},
        resolver::p2p as marshal_resolver,
        standard::{Deferred, Standard},
    },
    simplex::{
        self,
        config::{ForwardPolicy, SkipPolicy},
        elector::RoundRobin,
        scheme::ed25519::Scheme,
    },
    types::{Epoch, FixedEpocher, Height, ViewDelta},
};
use commonware_cryptography::{
    Digestible as _, Digested, Signer as _,
    blake3::{Blake3, Digest},
    certificate::{ConstantProvider, Verifier as _},
    ed25519::{PrivateKey, PublicKey},
};
use commonware_glue::stateful::{
    Config as StatefulConfig, Stateful, SyncPlan,
    db::{AttachableResolver, Shared, SyncEngineConfig},
};
use commonware_p2p::{Blocker, Provider, Receiver, Sender, max_message_size};
use commonware_parallel::Sequential;
use commonware_runtime::{
    Clock, Handle as Task, Metrics, Network, Quota, Spawner, Storage, buffer::paged::CacheRef,
};
use commonware_storage::{
    archive::prunable,
    mmr,
    qmdb::sync::{Request, Source, source},
    translator::EightCap,
};
use commonware_utils::{
    NZDuration, NZU16, NZU32, NZU64, NZUsize,
    channel::{mpsc, watch},
    ordered::Set,
};
use rand_core::{CryptoRng, Rng};
use soma_protocol::{Address, BlockInfo, Genesis, Memory};
use soma_store::{
    History, State, StoreError, Tip,
    database::{self, Operation, Qmdb},
    history::FinalizedBlock,
};
use tokio::sync::{Notify, SetOnce};

use crate::{
    EngineError, Pool, Sink,
    application::{Application, Core, Pacer, authenticate, finalized_block},
    block::{Block, hash},
    recorder::{Receipts, Recorder},
};

const EPOCH_BLOCKS: NonZeroU64 = NZU64!(u64::MAX);
const MAILBOX: NonZeroUsize = NZUsize!(256);
const BUFFER: NonZeroUsize = NZUsize!(1 << 16);
const PAGE_BYTES: NonZeroU16 = NZU16!(4_084);
const PAGES: NonZeroUsize = NZUsize!(2_048);
const ITEMS_PER_SECTION: NonZeroU64 = NZU64!(4_096);
const UNACKNOWLEDGED_MAX: NonZeroUsize = NZUsize!(16);
const VIEWS_KEPT: ViewDelta = ViewDelta::new(256);
const MISSING_PER_FETCH: NonZeroUsize = NZUsize!(64);
const BLOCKS_PER_PEER: usize = 16;
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(500);
/// How long a proposal may take beyond the longest wait for work.
const PROPOSAL_MARGIN: Duration = Duration::from_secs(1);
const CERTIFICATION_MARGIN: Duration = Duration::from_secs(1);
const ABSENT_LEADER: Duration = Duration::from_secs(10);
/// How many blocks the history is rebuilt by in one write.
const REBUILD_STEP: usize = 256;

/// The channels of the network, in the order in which they are numbered.
pub(crate) const CHANNELS: u64 = 5;
/// The most messages per second and peer on one channel. Mailboxes are allocated for this many
/// messages per peer, so it is kept small.
pub(crate) const QUOTA: Quota = Quota::per_second(NZU32!(256));

type Variant = Standard<Block>;
type Mailbox = MarshalMailbox<Scheme, Variant>;

/// The largest message the node sends.
pub(crate) fn message_bytes_max(validators: NonZeroU32) -> u32 {
    let validators = validators.get();
    max_message_size(&[
        simplex::max_payload_size::<Scheme, Digest>(validators),
        marshal::max_payload_size::<Variant, Scheme>(validators, &()),
    ])
}

/// What a node needs to know.
pub(crate) struct Config {
    /// Names this node's partitions.
    pub(crate) prefix: String,
    pub(crate) genesis: Genesis,
    pub(crate) key: PrivateKey,
    pub(crate) block_ms: u64,
    pub(crate) idle_block_ms: u64,
    pub(crate) pool: Arc<dyn Pool>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) work: Arc<Notify>,
    pub(crate) history: Arc<History>,
}

/// The network a node talks on.
pub(crate) struct Links<P, B, S, R> {
    /// Who the peers are.
    pub(crate) peers: P,
    /// Cuts off peers that cheat.
    pub(crate) blocker: B,
    /// One pair for each of [`CHANNELS`].
    pub(crate) channels: Vec<(S, R)>,
}

/// The validators of genesis: consensus key to account.
pub(crate) fn committee(genesis: &Genesis) -> Result<BTreeMap<PublicKey, Address>, EngineError> {
    let mut committee = BTreeMap::new();
    for validator in &genesis.validators {
        let key = PublicKey::decode(Copying(&validator.consensus_key.0))
            .map_err(|_| EngineError::ValidatorKey { validator: validator.address })?;
        committee.insert(key, validator.address);
    }
    Ok(committee)
}

/// A node that runs.
pub(crate) struct Node {
    pub(crate) state: Arc<State>,
    /// Ends, with a reason, when the node cannot go on.
    pub(crate) ended: Ended,
}

/// The tasks whose end is the node's end.
pub(crate) struct Ended {
    consensus: Option<Task<()>>,
    recorder: Task<Result<(), StoreError>>,
}

impl Ended {
    /// Waits until the node cannot go on.
    pub(crate) async fn wait(&mut self) -> EngineError {
        let consensus = async {
            match &mut self.consensus {
                Some(consensus) => drop(consensus.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = consensus => EngineError::Stopped { reason: "consensus ended".into() },
            result = &mut self.recorder => match result {
                Ok(Err(error)) => EngineError::Store(error),
                _ => EngineError::Stopped { reason: "the history's writer ended".into() },
            },
        }
    }
}

/// Starts a node and returns once its state is loaded and its history complete.
///
/// # Errors
/// [`EngineError`] when genesis is unusable or what is on disk contradicts itself. The engine
/// panics, and so does this, when the disk fails.
pub(crate) async fn start<E, P, B, S, R>(
    context: E,
    config: Config,
    links: Links<P, B, S, R>,
) -> Result<Node, EngineError>
where
    E: Rng + CryptoRng + Spawner + Storage + Clock + Metrics + Network,
    P: Provider<PublicKey = PublicKey> + Sync,
    B: Blocker<PublicKey = PublicKey>,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let me = config.key.public_key();
    let committee = committee(&config.genesis)?;
    let participants = Set::from_iter_dedup(committee.keys().cloned());
    let chain = config.genesis.chain_id();
    let namespace = [b"soma", chain.0.as_slice()].concat();
    let scheme = Scheme::signer(&namespace, participants.clone(), config.key.clone())
        .unwrap_or_else(|| Scheme::verifier(&namespace, participants));
    let Some((leader, proposer)) = committee.first_key_value() else {
        return Err(EngineError::NoValidators);
    };
    let genesis = Block::genesis(
        chain,
        leader.clone(),
        *proposer,
        config.genesis.timestamp_ms,
        database::empty::<E>(),
    );
    let genesis_changes = config.genesis.state()?;

    let state = Arc::new(SetOnce::new());
    let (finalized_sender, blocks) = mpsc::unbounded_channel();
    let (receipt_sender, receipts) = mpsc::unbounded_channel();
    let core = Arc::new(Core {
        chain,
        genesis: genesis.clone(),
        genesis_changes,
        committee,
        state: Arc::clone(&state),
        pool: config.pool,
        work: config.work,
        block_ms: config.block_ms,
        idle_block_ms: config.idle_block_ms,
        finalized: finalized_sender,
    });

    let page_cache = CacheRef::new(PAGE_BYTES, PAGES);
    let prefix = config.prefix;
    let Links { peers, blocker, channels } = links;
    let mut channels = channels.into_iter();
    let mut channel = || {
        #[expect(clippy::expect_used, reason = "the caller opens CHANNELS of them")]
        channels.next().expect("one pair for each channel")
    };
    let (votes, certificates, resolver) = (channel(), channel(), channel());
    let (backfill, broadcast) = (channel(), channel());

    let resolver_task = marshal_resolver::init(
        context.child("backfill"),
        marshal_resolver::Config {
            public_key: me.clone(),
            peer_provider: peers.clone(),
            blocker: blocker.clone(),
            mailbox_size: MAILBOX,
            fetch_timeout: NZDuration!(FETCH_TIMEOUT),
            fetch_retry_delay: RETRY,
            priority_requests: false,
            priority_responses: false,
        },
        backfill,
    );
    let (broadcaster, buffer) = buffered::Engine::new(
        context.child("broadcast"),
        buffered::Config {
            public_key: me,
            mailbox_size: MAILBOX,
            deque_size: BLOCKS_PER_PEER,
            priority: true,
            codec_config: (),
            peer_provider: peers,
            strategy: Sequential,
        },
    );
    broadcaster.start(broadcast);

    let certificates_by_height = prunable::Archive::init(
        context.child("certificates"),
        archive(&prefix, "certificates", page_cache.clone(), Scheme::certificate_codec_config_unbounded()),
    )
    .await
    .map_err(|error| EngineError::Stopped { reason: error.to_string() })?;
    let blocks_by_height = prunable::Archive::init(
        context.child("blocks"),
        archive(&prefix, "blocks", page_cache.clone(), ()),
    )
    .await
    .map_err(|error| EngineError::Stopped { reason: error.to_string() })?;

    let plan = SyncPlan::init(context.child("plan"), prefix.clone()).await;
    let digest = genesis.digest();
    let (marshal, marshal_mailbox, floor) = Marshal::<_, Variant, _, _, _, _, _>::init(
        context.child("marshal"),
        certificates_by_height,
        blocks_by_height,
        marshal::Config {
            provider: ConstantProvider::new(scheme.clone()),
            epocher: FixedEpocher::new(EPOCH_BLOCKS),
            start: plan.marshal_start(Digested::precomputed(genesis.clone(), digest)),
            partition_prefix: prefix.clone(),
            mailbox_size: MAILBOX,
            view_retention: VIEWS_KEPT,
            prunable_items_per_section: ITEMS_PER_SECTION,
            page_cache: page_cache.clone(),
            replay_buffer: BUFFER,
            key_write_buffer: BUFFER,
            value_write_buffer: BUFFER,
            block_codec_config: (),
            max_repair: MISSING_PER_FETCH,
            max_pending_acks: UNACKNOWLEDGED_MAX,
            strategy: Sequential,
        },
    )
    .await;

    let (stateful, stateful_mailbox) = Stateful::new(
        context.child("stateful"),
        StatefulConfig {
            application: Application::new(Arc::clone(&core)),
            db_config: database::config(&prefix, page_cache.clone()),
            provider: (),
            marshal: (marshal_mailbox.clone(), floor),
            mailbox_size: MAILBOX,
            plan,
            resolvers: NoStateSync,
            sync_config: SyncEngineConfig {
                fetch_batch_size: NZU64!(16),
                apply_batch_size: NZU64!(1_024),
                max_outstanding_requests: NZUsize!(8),
            },
            prune_config: None,
            strategy: Sequential,
        },
    );

    // Asked for before the first block can be delivered, so answered before it is applied: the
    // application holds every block back until the state is loaded.
    let subscriber = stateful_mailbox.clone();
    let databases = subscriber.subscribe_databases();
    tokio::pin!(databases);
    let _ = std::future::poll_fn(|cx| Poll::Ready(databases.as_mut().poll(cx))).await;
    marshal.start(
        Reporters::from((stateful_mailbox.clone(), Receipts(receipt_sender))),
        buffer,
        resolver_task,
    );
    stateful.start();
    let databases = databases.await;
    let loaded = {
        let database = databases.read().await;
        database::load::<E>(&database).await?
    };
    let finalized = match loaded {
        Some((height, memory)) => {
            let block = stored_block(&marshal_mailbox, height).await?;
            let tip = Tip { height, digest: hash(block.digest()) };
            (memory, tip)
        }
        None => (genesis_state(&core), Tip { height: 0, digest: hash(digest) }),
    };
    let loaded = Arc::new(State::new(finalized.0, finalized.1));
    rebuild(&core, &marshal_mailbox, &config.history, &loaded).await?;
    let _ = state.set(Arc::clone(&loaded));

    let (height, mut recorded) = watch::channel(config.history.height()?);
    let recorder = Recorder { history: config.history, sink: config.sink, blocks, receipts, height };
    let recorder = context.child("recorder").dedicated().spawn(move |_| recorder.run());
    // Blocks that were final before the node stopped are delivered again; whoever asks now must
    // not be told less than was reported then.
    let mut stored = loaded.tip().height;
    while stored_block(&marshal_mailbox, stored + 1).await.is_ok() {
        stored += 1;
    }
    let mut ended = Ended { consensus: None, recorder };
    tokio::select! {
        _ = recorded.wait_for(|height| *height >= stored) => {}
        error = ended.wait() => return Err(error),
    }

    let deferred = Deferred::new(
        context.child("deferred"),
        Pacer::new(Arc::clone(&core), stateful_mailbox),
        marshal_mailbox,
        FixedEpocher::new(EPOCH_BLOCKS),
    );
    let leader_timeout = Duration::from_millis(core.idle_block_ms.max(core.block_ms)) + PROPOSAL_MARGIN;
    let consensus = simplex::Engine::new(
        context.child("consensus"),
        simplex::Config {
            scheme,
            elector: RoundRobin::<Blake3>::default(),
            blocker,
            automaton: deferred.clone(),
            relay: deferred.clone(),
            reporter: deferred,
            strategy: Sequential,
            partition: format!("{prefix}-votes"),
            mailbox_size: MAILBOX,
            epoch: Epoch::zero(),
            floor: simplex::config::Floor::Genesis(digest),
            replay_buffer: BUFFER,
            write_buffer: BUFFER,
            page_cache,
            leader_timeout,
            certification_timeout: leader_timeout + CERTIFICATION_MARGIN,
            timeout_retry: RETRY,
            view_retention: VIEWS_KEPT,
            skip: SkipPolicy::Enabled {
                timeout: leader_timeout + CERTIFICATION_MARGIN + ABSENT_LEADER,
                budget: simplex::SkipBudget::Participants,
            },
            fetch_timeout: NZDuration!(FETCH_TIMEOUT),
            fetch_retry_delay: RETRY,
            forward: ForwardPolicy::SilentVoters,
            track_historical_votes: false,
        },
    )
    .start(votes, certificates, resolver);
    ended.consensus = Some(consensus);
    Ok(Node { state: loaded, ended })
}

fn archive<C>(
    prefix: &str,
    name: &str,
    page_cache: CacheRef,
    codec_config: C,
) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{prefix}-{name}-metadata"),
        key_partition: format!("{prefix}-{name}-keys"),
        key_page_cache: page_cache,
        value_partition: format!("{prefix}-{name}-values"),
        compression: None,
        codec_config,
        items_per_section: ITEMS_PER_SECTION,
        key_write_buffer: BUFFER,
        value_write_buffer: BUFFER,
        replay_buffer: BUFFER,
    }
}

fn genesis_state(core: &Core) -> Memory {
    let mut memory = Memory::default();
    memory.apply(&core.genesis_changes);
    memory
}

async fn stored_block(marshal: &Mailbox, height: u64) -> Result<Digested<Block>, EngineError> {
    marshal
        .get_block(Identifier::Height(Height::new(height)))
        .await
        .ok_or(EngineError::MissingBlock { height })
}

/// Brings the history up to the loaded state by executing the stored blocks again from genesis.
///
/// Only a lost or foreign history needs this: a whole one is never behind, because a block is
/// acknowledged after it is written there.
async fn rebuild(
    core: &Core,
    marshal: &Mailbox,
    history: &History,
    state: &State,
) -> Result<(), EngineError> {
    let tip = state.tip();
    let recorded = history.height()?;
    if recorded >= tip.height {
        return Ok(());
    }
    tracing::info!(from = recorded, to = tip.height, "rebuilding the history");
    let mut memory = genesis_state(core);
    let mut step: Vec<FinalizedBlock> = Vec::new();
    for height in 1..=tip.height {
        let block = stored_block(marshal, height).await?;
        let digest = hash(block.digest());
        let block = block.inner();
        let info = BlockInfo {
            height,
            timestamp_ms: block.timestamp_ms,
            proposer: block.proposer,
        };
        let transactions = authenticate(core.chain, &block.transactions)
            .ok_or(EngineError::StateMismatch { height })?;
        let outcome = core.execute(&memory, &info, &transactions);
        memory.apply(&outcome.changes);
        if height > recorded {
            step.push(finalized_block(block, digest, &outcome));
        }
        if step.len() == REBUILD_STEP || height == tip.height {
            history.append(&step)?;
            step.clear();
        }
    }
    // The same blocks must give the same state, whichever way it was reached.
    if !state.equals(&memory) {
        return Err(EngineError::StateMismatch { height: tip.height });
    }
    Ok(())
}

/// Where a joining node would fetch the state from: nowhere. It executes every block instead.
///
/// The engine's own exchange of state between peers takes values of one fixed size only.
#[derive(Clone, Copy, Debug)]
struct NoStateSync;

/// State was asked for although no node offers it.
#[derive(Debug, thiserror::Error)]
#[error("no node offers its state")]
struct NoState;

impl Source for NoStateSync {
    type Family = mmr::Family;
    type Digest = Digest;
    type Op = Operation;
    type Error = NoState;

    async fn serve(&self, _: Request<mmr::Family>) -> source::Result<Self> {
        Err(NoState)
    }
}

impl<E: Storage + Clock + Metrics> AttachableResolver<Qmdb<E>> for NoStateSync {
    async fn attach_database(&self, _: Shared<Qmdb<E>>) {}
}
