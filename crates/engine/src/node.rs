//! One validator, on any runtime and any network: puts the engine's parts together and runs them.
//!
//! The simulator and the binary start the same function. It assumes that nobody else uses the
//! storage under its prefix; simulated nodes share one storage and differ in the prefix.

use std::{collections::BTreeMap, future::poll_fn, sync::Arc, task::Poll};

use commonware_broadcast::buffered;
use commonware_codec::CodecShared;
use commonware_consensus::{
    Reporters,
    marshal::{Identifier, core::Actor as Marshal, resolver::p2p as backfill, standard::Deferred},
    simplex::{self, scheme::ed25519::Scheme},
    types::Height,
};
use commonware_cryptography::{
    Digested, Digestible as _, Signer as _,
    blake3::Digest,
    certificate::Verifier as _,
    ed25519::{PrivateKey, PublicKey},
};
use commonware_glue::stateful::{Stateful, SyncPlan};
use commonware_p2p::{Blocker, Provider, Receiver, Sender};
use commonware_runtime::{
    Clock, Handle as Task, Metrics, Network, Spawner, Storage, buffer::paged::CacheRef,
};
use commonware_storage::{Context as StorageContext, archive::prunable, translator::EightCap};
use commonware_utils::{
    channel::{mpsc, watch},
    ordered::Set,
};
use rand_core::{CryptoRng, Rng};
use soma_protocol::{Address, BlockInfo, Genesis, Hash, Memory};
use soma_store::{
    History, State, StoreError, Tip,
    database::{self, Databases},
    history::FinalizedBlock,
};
use tokio::sync::{Notify, SetOnce};

use crate::{
    EngineError, Pool, Sink,
    application::{Core, Pacer, authenticate, finalized_block},
    block::{Block, hash},
    gossip,
    network::public_key,
    parts::{self, Mailbox, Variant},
    recorder::{Receipts, Recorder},
};

/// How many blocks the history is rebuilt by in one write.
const REBUILD_STEP: usize = 256;

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
    pub(crate) gossip: gossip::Ends,
}

/// The network a node talks on.
pub(crate) struct Links<P, B, S, R> {
    /// Who the peers are.
    pub(crate) peers: P,
    /// Cuts off peers that cheat.
    pub(crate) blocker: B,
    pub(crate) votes: (S, R),
    pub(crate) certificates: (S, R),
    pub(crate) certificate_requests: (S, R),
    pub(crate) block_requests: (S, R),
    pub(crate) blocks: (S, R),
    pub(crate) gossip: (S, R),
}

/// A node that runs.
pub(crate) struct Node {
    pub(crate) state: Arc<State>,
    consensus: Task<()>,
    recorder: Task<Result<(), StoreError>>,
}

impl Node {
    /// Waits until the node cannot go on.
    pub(crate) async fn ended(&mut self) -> EngineError {
        let stopped = |what: &str| EngineError::Stopped {
            reason: format!("{what} ended"),
        };
        tokio::select! {
            _ = &mut self.consensus => stopped("consensus"),
            result = &mut self.recorder => match result {
                Ok(Err(error)) => EngineError::Store(error),
                _ => stopped("the history's writer"),
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
    let (prefix, history) = (config.prefix.as_str(), &config.history);
    let me = config.key.public_key();
    let (finalized, blocks) = mpsc::unbounded_channel();
    let (receipt_sender, receipts) = mpsc::unbounded_channel();
    let core = Arc::new(core::<E>(&config, finalized)?);
    let scheme = scheme(&core, &config.key);
    let page_cache = parts::page_cache();

    let fetcher = backfill::init(
        context.child("backfill"),
        parts::backfill(me.clone(), links.peers.clone(), links.blocker.clone()),
        links.block_requests,
    );
    let (broadcaster, proposed) = buffered::Engine::new(
        context.child("broadcast"),
        parts::broadcast(me, links.peers),
    );
    broadcaster.start(links.blocks);
    config.gossip.start(context.child("gossip"), links.gossip);

    let codec = Scheme::certificate_codec_config_unbounded();
    let certificates = archive(&context, prefix, "certificates", &page_cache, codec).await?;
    let stored = archive(&context, prefix, "blocks", &page_cache, ()).await?;
    let plan = SyncPlan::init(context.child("plan"), prefix).await;
    let (marshal, ordered, floor) = Marshal::<_, Variant, _, _, _, _, _>::init(
        context.child("marshal"),
        certificates,
        stored,
        parts::marshal(prefix, &page_cache, scheme.clone(), &plan, &core.genesis),
    )
    .await;
    let (stateful, executed) = Stateful::new(
        context.child("stateful"),
        parts::stateful(prefix, &page_cache, &core, (ordered.clone(), floor), plan),
    );

    // Asked for before the first block can be delivered, so answered before it is applied: the
    // application holds every block back until the state is loaded.
    let subscriber = executed.clone();
    let mut databases = Box::pin(subscriber.subscribe_databases());
    let _ = poll_fn(|waker| Poll::Ready(databases.as_mut().poll(waker))).await;
    let reporters = Reporters::from((executed.clone(), Receipts(receipt_sender)));
    marshal.start(reporters, proposed, fetcher);
    stateful.start();
    let state = Arc::new(load(&core, &databases.await, &ordered).await?);
    rebuild(&core, &ordered, history, &state).await?;
    let _ = core.state.set(Arc::clone(&state));

    let recorder = Recorder::new(Arc::clone(history), config.sink, blocks, receipts)?;
    let recorded = recorder.height();
    let recorder = context
        .child("recorder")
        .dedicated()
        .spawn(move |_| recorder.run());
    let pacer = Pacer::new(Arc::clone(&core), executed);
    let automaton = Deferred::new(
        context.child("deferred"),
        pacer,
        ordered.clone(),
        parts::epochs(),
    );
    let consensus = parts::consensus(prefix, page_cache, &core, scheme, links.blocker, &automaton);
    let consensus = simplex::Engine::new(context.child("consensus"), consensus).start(
        links.votes,
        links.certificates,
        links.certificate_requests,
    );
    let mut node = Node {
        state,
        consensus,
        recorder,
    };
    repeat(&mut node, &ordered, recorded).await?;
    Ok(node)
}

/// The application's part of a node.
fn core<E: Spawner + StorageContext>(
    config: &Config,
    finalized: mpsc::UnboundedSender<FinalizedBlock>,
) -> Result<Core, EngineError> {
    let Config { genesis, .. } = config;
    let committee = committee(genesis)?;
    let (leader, proposer) = committee
        .first_key_value()
        .ok_or(EngineError::NoValidators)?;
    let chain = genesis.chain_id();
    let (leader, proposer) = (leader.clone(), *proposer);
    let empty = database::empty::<E>();
    Ok(Core {
        chain,
        genesis: Block::genesis(chain, leader, proposer, genesis.timestamp_ms, empty),
        genesis_changes: genesis.state()?,
        committee,
        state: SetOnce::new(),
        pool: Arc::clone(&config.pool),
        work: Arc::clone(&config.work),
        block_ms: config.block_ms,
        idle_block_ms: config.idle_block_ms,
        finalized,
    })
}

/// The validators of genesis: consensus key to account.
pub(crate) fn committee(genesis: &Genesis) -> Result<BTreeMap<PublicKey, Address>, EngineError> {
    let validators = genesis.validators.iter().map(|validator| {
        let key = public_key(&validator.consensus_key).ok_or(EngineError::ValidatorKey {
            validator: validator.address,
        })?;
        Ok((key, validator.address))
    });
    validators.collect()
}

/// Votes of this chain: a node that is not of the committee checks them and casts none.
fn scheme(core: &Core, key: &PrivateKey) -> Scheme {
    let participants = Set::from_iter_dedup(core.committee.keys().cloned());
    let namespace = [b"soma", core.chain.0.as_slice()].concat();
    Scheme::signer(&namespace, participants.clone(), key.clone())
        .unwrap_or_else(|| Scheme::verifier(&namespace, participants))
}

/// Opens an archive of final things by height.
async fn archive<E: StorageContext, V: CodecShared>(
    context: &E,
    prefix: &str,
    name: &'static str,
    page_cache: &CacheRef,
    codec: V::Cfg,
) -> Result<prunable::Archive<EightCap, E, Digest, V>, EngineError> {
    let config = parts::archive(prefix, name, page_cache, codec);
    let archive = prunable::Archive::init(context.child(name), config).await;
    archive.map_err(|error| EngineError::Stopped {
        reason: error.to_string(),
    })
}

fn genesis_state(core: &Core) -> Memory {
    let mut memory = Memory::default();
    memory.apply(&core.genesis_changes);
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
            digest: hash(core.genesis.digest()),
        };
        return Ok(State::new(genesis_state(core), tip));
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
    tracing::info!(from = recorded, to = tip.height, "rebuilding the history");
    let mut memory = genesis_state(core);
    let mut step: Vec<FinalizedBlock> = Vec::new();
    for height in 1..=tip.height {
        let block = stored_block(ordered, height).await?;
        let done = replay(core, &mut memory, block.inner(), hash(block.digest()))?;
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

fn replay(
    core: &Core,
    memory: &mut Memory,
    block: &Block,
    digest: Hash,
) -> Result<FinalizedBlock, EngineError> {
    let Block {
        timestamp_ms,
        proposer,
        ..
    } = *block;
    let height = block.height.get();
    let transactions = authenticate(core.chain, &block.transactions);
    let transactions = transactions.ok_or(EngineError::StateMismatch { height })?;
    let info = BlockInfo {
        height,
        timestamp_ms,
        proposer,
    };
    let outcome = core.execute(memory, &info, &transactions);
    memory.apply(&outcome.changes);
    Ok(finalized_block(block, digest, &outcome))
}

/// Waits until the blocks that were final before the node stopped have been delivered again:
/// whoever asks now must not be told less than was reported then.
async fn repeat(
    node: &mut Node,
    ordered: &Mailbox,
    mut recorded: watch::Receiver<u64>,
) -> Result<(), EngineError> {
    let mut stored = node.state.tip().height;
    while stored_block(ordered, stored + 1).await.is_ok() {
        stored += 1;
    }
    tokio::select! {
        _ = recorded.wait_for(|height| *height >= stored) => Ok(()),
        error = node.ended() => Err(error),
    }
}
