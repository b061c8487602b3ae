//! How the engine's parts are set: every size, time and partition name of a node, in one place.
//!
//! Only numbers and names, no behaviour. What is allocated up front is kept small, because a node
//! is also a laptop; what bounds memory under attack is the network's quota.

use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use commonware_broadcast::buffered;
use commonware_consensus::{
    marshal::{
        self, Start,
        core::{Floor as MarshalFloor, Mailbox as MarshalMailbox},
        resolver::p2p as backfill,
        standard::{Deferred, Standard},
    },
    simplex::{
        self,
        config::{ForwardPolicy, SkipPolicy},
        elector::RoundRobin,
        scheme::ed25519::Scheme,
    },
    types::{Epoch, FixedEpocher, ViewDelta},
};
use commonware_cryptography::{
    Digested,
    blake3::{Blake3, Digest},
    certificate::Scheme as _,
    ed25519::PublicKey,
};
use commonware_glue::stateful::{
    Config as StatefulConfig, PruneConfig, SyncPlan,
    db::{AttachableResolver, Shared, SyncEngineConfig},
};
use commonware_p2p::{Blocker, Provider, max_message_size, utils::mux::prefixed};
use commonware_parallel::Sequential;
use commonware_runtime::{Clock, Metrics, Quota, Spawner, Storage, buffer::paged::CacheRef};
use commonware_storage::{
    Context as StorageContext,
    archive::prunable,
    mmr,
    qmdb::sync::{Request, Source, source},
    translator::EightCap,
};
use commonware_utils::{NZDuration, NZU16, NZU32, NZU64, NZUsize};
use soma_store::database::{self, Operation, Qmdb};

use crate::{
    application::{Application, Core, Pacer},
    block::Block,
    committees::Committees,
    faults::{Faults, Watch},
    gossip::GOSSIP_BYTES_MAX,
};

const MAILBOX: NonZeroUsize = NZUsize!(256);
const BUFFER: NonZeroUsize = NZUsize!(1 << 16);
/// With the checksum that is added to it, a page of the disk.
const PAGE_BYTES: NonZeroU16 = NZU16!(4_084);
const PAGES: NonZeroUsize = NZUsize!(2_048);
const ITEMS_PER_SECTION: NonZeroU64 = NZU64!(4_096);
/// How many final blocks share a file. All files are open, so there must not be too many; a file is
/// pruned as a whole.
pub(crate) const SECTION_BLOCKS: NonZeroU64 = NZU64!(1 << 15);
/// The largest committee: bounds certificates.
pub(crate) const SEATS_MAX: usize = 64;
/// The longest answer of one node to another: a block with what is around it.
pub(crate) const ANSWER_BYTES_MAX: usize = 5 << 18;
/// How many epochs of changes to the state are kept for those who join.
pub(crate) const SNAPSHOT_TERMS: u64 = 8;
const UNACKNOWLEDGED_MAX: NonZeroUsize = NZUsize!(16);
const VIEWS_KEPT: ViewDelta = ViewDelta::new(256);
const MISSING_PER_FETCH: NonZeroUsize = NZUsize!(64);
const BLOCKS_PER_PEER: usize = 16;
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(500);
/// How long a proposal may take beyond the longest wait for work.
const PROPOSAL_MARGIN: Duration = Duration::from_secs(1);
const CERTIFICATION_MARGIN: Duration = Duration::from_secs(1);
const ABSENT_LEADER: Duration = Duration::from_secs(1);

/// The most messages per second and peer on one channel. Mailboxes are allocated for this many
/// messages of every peer.
pub const QUOTA: Quota = Quota::per_second(NZU32!(256));
/// The same for gossip, whose messages are long.
pub const GOSSIP_QUOTA: Quota = Quota::per_second(NZU32!(64));

/// The longest wait for work where several validators take turns: the others cannot tell a leader
/// that waits from one that is gone.
const IDLE_SHARED_MS: u64 = 1_000;

/// How fast blocks come.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The least time between two blocks while there is work, in milliseconds.
    pub block_ms: u64,
    /// The most time between two blocks while there is none, in milliseconds.
    pub idle_block_ms: u64,
    /// How far the clock of this node is ahead of the true time, in milliseconds: 0 but in
    /// simulations.
    pub skew_ms: i64,
}

impl Timing {
    /// The longest wait for work.
    pub(crate) fn idle_ms(&self, alone: bool) -> u64 {
        if alone {
            self.idle_block_ms
        } else {
            self.idle_block_ms.min(IDLE_SHARED_MS)
        }
    }
}

/// The way blocks travel: whole.
pub(crate) type Variant = Standard<Block>;
/// Final blocks, by height and digest.
pub(crate) type Mailbox = MarshalMailbox<Scheme, Variant>;
/// The application as the consensus sees it.
pub(crate) type Automaton<E> = Deferred<E, Scheme, Pacer<E>, Block, FixedEpocher>;

/// The settings of the consensus proper.
pub(crate) type Consensus<E, B> = simplex::Config<
    Scheme,
    RoundRobin<Blake3>,
    B,
    Digest,
    Automaton<E>,
    Automaton<E>,
    Watch<Automaton<E>>,
    Sequential,
>;

/// The cache that all files of a node share: 8 MiB.
pub(crate) fn page_cache() -> CacheRef {
    CacheRef::new(PAGE_BYTES, PAGES)
}

/// The largest message a node of such a committee sends.
pub fn message_bytes_max(validators: NonZeroU32) -> u32 {
    let validators = validators.get();
    max_message_size(&[
        prefixed(simplex::max_payload_size::<Scheme, Digest>(validators)),
        marshal::max_payload_size::<Variant, Scheme>(validators, &()),
        GOSSIP_BYTES_MAX,
        ANSWER_BYTES_MAX,
    ])
}

/// Fetching missing blocks from peers.
pub(crate) fn backfill<P: Provider<PublicKey = PublicKey>, B: Blocker<PublicKey = PublicKey>>(
    public_key: PublicKey,
    peer_provider: P,
    blocker: B,
) -> backfill::Config<PublicKey, P, B> {
    backfill::Config {
        public_key,
        peer_provider,
        blocker,
        mailbox_size: MAILBOX,
        fetch_timeout: NZDuration!(FETCH_TIMEOUT),
        fetch_retry_delay: RETRY,
        priority_requests: false,
        priority_responses: false,
    }
}

/// Sending proposed blocks to all peers.
pub(crate) fn broadcast<P: Provider<PublicKey = PublicKey>>(
    public_key: PublicKey,
    peer_provider: P,
) -> buffered::Config<PublicKey, (), P, Sequential> {
    buffered::Config {
        public_key,
        mailbox_size: MAILBOX,
        deque_size: BLOCKS_PER_PEER,
        priority: true,
        codec_config: (),
        peer_provider,
        strategy: Sequential,
    }
}

/// Keeping final things by number, so many of them in one file.
pub(crate) fn archive<C>(
    prefix: &str,
    name: &str,
    page_cache: &CacheRef,
    items_per_section: NonZeroU64,
    codec_config: C,
) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{prefix}-{name}-metadata"),
        key_partition: format!("{prefix}-{name}-keys"),
        key_page_cache: page_cache.clone(),
        value_partition: format!("{prefix}-{name}-values"),
        compression: None,
        codec_config,
        items_per_section,
        key_write_buffer: BUFFER,
        value_write_buffer: BUFFER,
        replay_buffer: BUFFER,
    }
}

type MarshalConfig =
    marshal::Config<Committees, FixedEpocher, Sequential, Block, Digested<Block>, Digest>;

/// Putting final blocks in order.
pub(crate) fn marshal(
    prefix: &str,
    page_cache: &CacheRef,
    committees: Committees,
    start: Start<Scheme, Digest, Digested<Block>>,
) -> MarshalConfig {
    marshal::Config {
        epocher: committees.calendar().epocher(),
        provider: committees,
        start,
        partition_prefix: prefix.into(),
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
    }
}

/// Executing blocks and keeping the state.
pub(crate) fn stateful<E: Spawner + StorageContext>(
    prefix: &str,
    page_cache: &CacheRef,
    core: &Arc<Core>,
    marshal: (Mailbox, MarshalFloor),
    plan: SyncPlan<E, Scheme, Variant>,
    keep_blocks: Option<u64>,
) -> StatefulConfig<E, Application, Variant, NoStateSync, Sequential> {
    StatefulConfig {
        application: Application::new(Arc::clone(core)),
        db_config: database::config(prefix, page_cache.clone()),
        provider: (),
        marshal,
        mailbox_size: MAILBOX,
        plan,
        resolvers: NoStateSync,
        sync_config: SyncEngineConfig {
            fetch_batch_size: NZU64!(16),
            apply_batch_size: NZU64!(1_024),
            max_outstanding_requests: NZUsize!(8),
        },
        prune_config: keep_blocks.map(|keep| prune(core, keep)),
        strategy: Sequential,
    }
}

/// Forgetting blocks, and the changes to the state that are superseded.
fn prune(core: &Core, keep_blocks: u64) -> PruneConfig {
    let epoch = core.committees.calendar().last_of(0) + 1;
    let blocks = |count: u64| usize::try_from(count).unwrap_or(usize::MAX / 2);
    let snapshots = epoch * SNAPSHOT_TERMS;
    PruneConfig {
        maintenance_interval: NonZeroUsize::new(blocks(epoch)).unwrap_or(NonZeroUsize::MIN),
        retained_marshal_blocks: blocks(keep_blocks.max(snapshots)),
        retained_qmdb_blocks: blocks(snapshots),
    }
}

/// Agreeing on blocks.
pub(crate) fn consensus<E, B>(
    partition: String,
    page_cache: CacheRef,
    timing: Timing,
    scheme: Scheme,
    blocker: B,
    (automaton, faults): (&Automaton<E>, Faults),
    (epoch, floor): (Epoch, simplex::Floor<Scheme, Digest>),
) -> Consensus<E, B>
where
    E: Spawner + StorageContext,
    B: Blocker<PublicKey = PublicKey>,
{
    let alone = scheme.participants().len() == 1;
    let longest_wait = Duration::from_millis(timing.idle_ms(alone).max(timing.block_ms));
    let leader_timeout = longest_wait + PROPOSAL_MARGIN;
    let certification_timeout = leader_timeout + CERTIFICATION_MARGIN;
    let reporter = faults.watch(scheme.clone(), automaton.clone());
    simplex::Config {
        scheme,
        elector: RoundRobin::default(),
        blocker,
        automaton: automaton.clone(),
        relay: automaton.clone(),
        reporter,
        strategy: Sequential,
        partition,
        mailbox_size: MAILBOX,
        epoch,
        floor,
        replay_buffer: BUFFER,
        write_buffer: BUFFER,
        page_cache,
        leader_timeout,
        certification_timeout,
        timeout_retry: RETRY,
        view_retention: VIEWS_KEPT,
        skip: SkipPolicy::Enabled {
            timeout: certification_timeout + ABSENT_LEADER,
            budget: simplex::SkipBudget::Participants,
        },
        fetch_timeout: NZDuration!(FETCH_TIMEOUT),
        fetch_retry_delay: RETRY,
        forward: ForwardPolicy::SilentVoters,
        track_historical_votes: false,
    }
}

/// Where the engine's execution would fetch the state from: nowhere. A node joins before it starts, see
/// [`join`](crate::join), because the engine's own exchange of state takes values of one fixed size
/// only and executes blocks before it gives out the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoStateSync;

/// State was asked for although no node offers it.
#[derive(Debug, thiserror::Error)]
#[error("the state is fetched before the engine starts")]
pub(crate) struct NoState;

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
