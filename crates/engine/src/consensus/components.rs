//! The configuration of each component of the consensus library: sizes, times and partition names.
//!
//! Only numbers and names, no behavior. What is allocated up front is kept small, because a node
//! may be a laptop; the network's quota bounds memory under attack.

use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    time::Duration,
};

use commonware_broadcast::buffered;
use commonware_consensus::{
    marshal::{
        self, Start,
        core::{Floor, Mailbox as CoreMailbox},
        resolver::p2p as backfill,
        standard::{Deferred, Standard},
    },
    simplex,
    types::{FixedEpocher, ViewDelta},
};
use commonware_cryptography::{Digested, blake3::Digest, ed25519::PublicKey};
use commonware_glue::stateful::{
    self, PruneConfig, SyncPlan,
    db::{AttachableResolver, Shared, SyncEngineConfig},
};
use commonware_p2p::{Blocker, Provider, max_message_size, utils::mux::prefixed};
use commonware_parallel::Sequential;
use commonware_runtime::{Clock, Metrics, Spawner, Storage, buffer::paged::CacheRef};
use commonware_storage::{
    Context as StorageContext, mmr,
    qmdb::sync::{Request, Source, source},
};
use commonware_utils::{NZDuration, NZU64, NZUsize};
use soma_store::database::{self, Operation, Qmdb};

use super::{application::Application, committees::Committees, pacer::Pacer};
use crate::{
    archives::BUFFER,
    block::Block,
    calendar::Calendar,
    calendar::TERM_BLOCKS,
    limits::{GOSSIP_BYTES_MAX, RESPONSE_BYTES_MAX, SNAPSHOT_TERMS},
    scheme::Scheme,
};

/// How many messages can wait in the mailbox of one component.
pub(super) const MAILBOX: NonZeroUsize = NZUsize!(256);
/// How many views behind the last finalized one have their votes kept.
pub(super) const VIEWS_KEPT: ViewDelta = ViewDelta::new(256);
/// How many views behind the last finalized one have their blocks cached. The library keeps the
/// caches of whole earlier terms, some sixteen open files each, for as many views as the running
/// term falls short of this: it must be less than a term has.
const VIEWS_CACHED: ViewDelta = ViewDelta::new(64);
const _: () = assert!(VIEWS_CACHED.get() < TERM_BLOCKS);
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
pub(super) const RETRY: Duration = Duration::from_millis(500);
/// How many views share a file of a cache.
pub(crate) const ITEMS_PER_SECTION: NonZeroU64 = NZU64!(4_096);
const UNACKNOWLEDGED_MAX: NonZeroUsize = NZUsize!(16);
const MISSING_PER_FETCH: NonZeroUsize = NZUsize!(64);
const BLOCKS_PER_PEER: usize = 16;

/// Blocks travel whole, not in coded pieces.
pub(crate) type Variant = Standard<Block>;
/// The mailbox of the component that stores finalized blocks and their certificates.
pub(crate) type MarshalMailbox = CoreMailbox<Scheme, Variant>;
/// The mailbox of the component that executes blocks.
pub(crate) type StatefulMailbox<E> = stateful::Mailbox<E, Application>;
/// The application as consensus sees it.
pub(crate) type Automaton<E> = Deferred<E, Scheme, Pacer<E>, Block, FixedEpocher>;

/// The longest message that a node sends in a committee of this size, in bytes.
pub fn message_bytes_max(validators: NonZeroU32) -> u32 {
    let validators = validators.get();
    max_message_size(&[
        prefixed(simplex::max_payload_size::<Scheme, Digest>(validators)),
        marshal::max_payload_size::<Variant, Scheme>(validators, &()),
        GOSSIP_BYTES_MAX,
        RESPONSE_BYTES_MAX,
    ])
}

/// Fetches missing blocks from peers.
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

/// Sends proposed blocks to all peers.
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

type MarshalConfig =
    marshal::Config<Committees, FixedEpocher, Sequential, Block, Digested<Block>, Digest>;

/// Stores finalized blocks and delivers them in order.
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
        view_retention: VIEWS_CACHED,
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

/// Executes blocks and stores the state.
pub(crate) fn stateful<E: Spawner + StorageContext>(
    prefix: &str,
    page_cache: &CacheRef,
    application: Application,
    marshal: (MarshalMailbox, Floor),
    plan: SyncPlan<E, Scheme, Variant>,
    prune_config: Option<PruneConfig>,
) -> stateful::Config<E, Application, Variant, NoStateSync, Sequential> {
    stateful::Config {
        application,
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
        prune_config,
        strategy: Sequential,
    }
}

/// Prunes blocks and superseded state, once per term.
pub(crate) fn prune(calendar: Calendar, keep_blocks: u64) -> PruneConfig {
    let blocks = |count: u64| usize::try_from(count).unwrap_or(usize::MAX / 2);
    let term = calendar.term_blocks();
    let snapshots = term * SNAPSHOT_TERMS;
    PruneConfig {
        maintenance_interval: NonZeroUsize::new(blocks(term)).unwrap_or(NonZeroUsize::MIN),
        retained_marshal_blocks: blocks(keep_blocks.max(snapshots)),
        retained_qmdb_blocks: blocks(snapshots),
    }
}

/// The source of the state for the library's own state sync, which this crate does not use: it
/// takes only values of one fixed size, and executes blocks before it hands out the database. A
/// node syncs before the engine starts; see [`sync`](crate::sync).
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoStateSync;

/// The library asked for state.
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
