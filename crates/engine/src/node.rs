//! One validator, on any runtime and any network: assembles the components of the engine and runs
//! them.
//!
//! The simulator and the binary call the same function. It assumes that nothing else uses the
//! storage under its prefix.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use commonware_broadcast::buffered;
use commonware_consensus::{
    Reporters,
    marshal::{
        Identifier, Start,
        core::Actor as MarshalActor,
        resolver::{handler, p2p as backfill},
        standard::Deferred,
    },
    types::{FixedEpocher, Height},
};
use commonware_cryptography::{
    Digested, Digestible as _, Signer as _, blake3::Digest, ed25519::PublicKey,
};
use commonware_glue::stateful::{Stateful, SyncPlan};
use commonware_p2p::{Blocker, Receiver, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::{Handle as Task, Spawner, buffer::paged::CacheRef};
use commonware_storage::Context as StorageContext;
use commonware_utils::{
    acknowledgement::Exact,
    channel::{mpsc, watch},
};
use soma_os::clock::unix_ms;
use soma_store::{
    History, State, Tip,
    database::{self, Databases},
    history::FinalizedBlock,
};
use tokio::sync::SetOnce;

use crate::{
    EngineError, Join, Joined,
    archives::{Archive, Archives, page_cache},
    block::{Block, Certificate, hash},
    consensus::{
        application::{Application, Core},
        boundary::Boundary,
        committees::Committees,
        components::{self, MarshalMailbox, NoStateSync, StatefulMailbox, Variant},
        faults::Faults,
        pacer::{Pacer, Timing},
        rules::Rules,
        terms::{Channels, OwnVotes, Terms},
    },
    keys::private_key,
    leases::{
        carrier,
        holder::{Clocks, Leases, Moment, Process},
        seen::SeenVotes,
    },
    links::{Links, Roster, Runtime},
    paused::pause,
    proving::{Answering, Prover},
    recorder::{Acks, Recorder},
    settings::{Deviation, Overrides, Services, Settings},
    sync::{
        checkpoint::{Floor, SyncCheckpoint},
        exchange::{self, RequestClient},
        handover::{HandoverStore, HandoverVerifier},
        join::Opening,
        left_behind::Progress,
        server::Server,
    },
    votes::VoteRecord,
    watching::{KeyUse, Watching},
};

/// How many blocks are written to the history at once when it is rebuilt.
const REBUILD_BLOCKS: usize = 256;

/// A running node.
#[expect(missing_debug_implementations, reason = "tasks have nothing to show")]
pub struct Node {
    /// The state after the last finalized block.
    pub state: Arc<State>,
    /// The state sync of this start, if there was one.
    pub joined: Option<Joined>,
    /// Why the node obtained the state in another way than it was asked to, if it did.
    pub fallback: Option<String>,
    /// Why it does not vote in the current term although it has a seat.
    pub watching: watch::Receiver<Option<Watching>>,
    /// The last block that is known to be finalized; the state may be behind it.
    pub known: watch::Receiver<u64>,
    pub(crate) leases: Arc<Leases>,
    /// Proves what records of the state are.
    pub prover: Prover,
    consensus: Task<()>,
    recorder: Task<Result<(), EngineError>>,
    left_behind: Task<EngineError>,
    boundary: Task<EngineError>,
    marshal: MarshalMailbox,
    recorded: watch::Receiver<u64>,
}

impl Node {
    /// Waits until the node cannot continue.
    pub async fn ended(&mut self) -> EngineError {
        let stopped = |task: &str| EngineError::stopped(format!("the {task} task ended"));
        tokio::select! {
            biased;
            _ = &mut self.consensus => stopped("consensus"),
            result = &mut self.recorder => match result {
                Ok(Err(error)) => error,
                _ => stopped("history"),
            },
            result = &mut self.boundary => result.unwrap_or_else(|_| stopped("boundary")),
            result = &mut self.left_behind => result.unwrap_or_else(|_| stopped("progress")),
        }
    }

    /// What it knows about other processes that run with its key.
    pub fn key_use(&self) -> KeyUse {
        self.leases.key_use()
    }

    /// Waits until the blocks that were finalized before the node stopped have been delivered
    /// again: queries must not return less than was reported before.
    async fn redeliver(&mut self) -> Result<(), EngineError> {
        let mut recorded = self.recorded.clone();
        let mut stored = self.state.tip().height;
        while stored_block(&self.marshal, stored + 1).await.is_ok() {
            stored += 1;
        }
        tokio::select! {
            biased;
            _ = recorded.wait_for(|height| *height >= stored) => Ok(()),
            error = self.ended() => Err(error),
        }
    }
}

/// Starts a node. Returns once its state is loaded and all blocks that were finalized before it
/// stopped have been delivered again.
///
/// # Errors
/// [`EngineError`] when genesis is unusable or the data on disk is inconsistent.
///
/// # Panics
/// When the disk fails: the consensus library panics.
pub async fn start<E, P, B, S, R>(
    context: E,
    settings: Settings,
    services: Services,
    overrides: Overrides,
    mut links: Links<P, B, S, R>,
) -> Result<Node, EngineError>
where
    E: Runtime,
    P: Roster,
    B: Blocker<PublicKey = PublicKey>,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let (me, page_cache) = (private_key(&settings.key).public_key(), page_cache());
    let core = Arc::new(core::<E>(&settings, &services, &overrides)?);

    let (resume, responses) = pause(links.block_requests.1);
    let fetcher = backfill::init(
        context.child("backfill"),
        components::backfill(me.clone(), links.peers.clone(), links.blocker.clone()),
        (links.block_requests.0, responses),
    );
    let (broadcaster, proposed) = buffered::Engine::new(
        context.child("broadcast"),
        components::broadcast(me, links.peers.clone()),
    );
    broadcaster.start(links.blocks);
    let (client, server) =
        exchange::start(context.child("exchange"), links.exchange, links.blocker.clone());

    let handovers = Arc::new(HandoverStore::open(&context, &overrides.prefix, &page_cache).await?);
    let opening = Opening {
        context: &context,
        settings: &settings,
        services: &services,
        overrides: &overrides,
        page_cache: &page_cache,
        core: &core,
        client: &client,
        handovers: &handovers,
    };
    let base = opening.base(&mut links.peers).await?;
    let (joined, fallback) = (base.joined, base.fallback.clone());
    let (ordering, deliveries) = opening.ordering(base).await;
    let (marshal, stateful) = (ordering.marshal.clone(), ordering.stateful.clone());
    let databases = ordering.start(proposed, fetcher).await;
    let state = Arc::new(load(&core, &databases, &marshal).await?);
    rebuild(&core.rules, &marshal, &services.history, &state).await?;
    core.execute_on(&state);
    resume.resume();
    let _ = server.set(Server {
        calendar: overrides.calendar,
        marshal: marshal.clone(),
        databases,
        state: Arc::clone(&state),
        history: Arc::clone(&services.history),
        handovers: Arc::clone(&handovers),
        deviation: overrides.deviation.clone(),
    });
    let loaded = Loaded {
        context,
        core,
        marshal,
        stateful,
        state,
        handovers,
        client,
        page_cache,
        deliveries,
    };
    let (votes, certificates) = (links.votes, links.certificates);
    let voting = Voting {
        roster: links.peers,
        blocker: links.blocker,
        leases: links.leases,
        channels: Channels { votes, certificates, requests: links.certificate_requests },
    };
    let mut node = loaded.run(&settings, services, overrides, voting, links.gossip).await?;
    (node.joined, node.fallback) = (joined, fallback);
    node.redeliver().await?;
    Ok(node)
}

fn core<E: Spawner + StorageContext>(
    settings: &Settings,
    services: &Services,
    overrides: &Overrides,
) -> Result<Core, EngineError> {
    let deviation = overrides.deviation.clone();
    let rules = Rules::new::<E>(&settings.genesis, settings.ruleset, deviation)?;
    let key = private_key(&settings.key);
    Ok(Core {
        committees: Committees::new(rules.chain, key, overrides.calendar),
        rules,
        state: SetOnce::new(),
        pool: Arc::clone(&services.pool),
        boundary: Boundary::default(),
    })
}

/// The blocks that a node continues from.
struct Base<E: StorageContext> {
    archives: Archives<E>,
    /// The block whose state was synced, by this start or an earlier one.
    floor: Option<Floor>,
    joined: Option<Joined>,
    fallback: Option<String>,
}

impl<E: Runtime> Opening<'_, E> {
    /// Opens the archives, and syncs the state if the node should do so and can.
    async fn base(&self, roster: &mut impl Roster) -> Result<Base<E>, EngineError> {
        let (context, prefix) = (self.context, self.overrides.prefix.as_str());
        let committees = &self.core.committees;
        let section = self.overrides.section_blocks;
        let mut archives = Archives::open(context, prefix, self.page_cache, section).await?;
        let mut checkpoint = SyncCheckpoint::open(context, prefix).await?;
        let (mut joined, mut fallback) = (None, None);
        let is_new = archives.is_empty();
        let genesis = self.core.rules.genesis_voters();
        let me = self.settings.key.public();
        let in_genesis = genesis.iter().any(|seat| seat.consensus_key == me);
        let wanted = match self.settings.join {
            Join::Auto => is_new && !in_genesis,
            Join::State => true,
            Join::Replay => false,
        };
        if wanted || checkpoint.is_started() {
            committees.update(&self.core.rules.genesis_state(), 0);
            roster.track(committees.voters(0), committees.registered());
            let synced = self.sync(checkpoint, archives).await?;
            (checkpoint, archives) = (synced.checkpoint, synced.archives);
            (joined, fallback) = (synced.joined, synced.fallback);
        }
        let floor = checkpoint.floor();
        if let Some((height, _)) = &floor {
            // Its certificate is verified again, with the committee that the handovers lead to.
            let mut verifier = HandoverVerifier::new(committees.clone(), &genesis);
            verifier.verify_all(self.handovers).await?;
            let term = committees.calendar().term_of(*height);
            committees.insert(term, verifier.at(term));
        }
        Ok(Base { archives, floor, joined, fallback })
    }

    /// Creates the components that order and execute blocks, and the queues that they fill.
    async fn ordering(&self, base: Base<E>) -> (Ordering<E>, Deliveries) {
        let prefix = self.overrides.prefix.as_str();
        let plan = SyncPlan::init(self.context.child("plan"), prefix).await;
        let executed = plan.completed().map(Height::get);
        // Once later blocks have been executed, it is like any other block.
        let is_ahead = |floor: &Floor| executed.is_none_or(|executed| executed < floor.0);
        let start = if let Some((_, certificate)) = base.floor.filter(is_ahead) {
            Start::Floor(certificate)
        } else {
            let genesis = &self.core.rules.genesis;
            Start::Genesis(Digested::precomputed(genesis.clone(), genesis.digest()))
        };
        let committees = self.core.committees.clone();
        let (marshal_actor, marshal, floor) = MarshalActor::init(
            self.context.child("marshal"),
            base.archives.certificates,
            base.archives.blocks,
            components::marshal(prefix, self.page_cache, committees, start),
        )
        .await;
        let (finalized, blocks) = mpsc::unbounded_channel();
        let (ack_sender, acks) = mpsc::unbounded_channel();
        let keep = self.settings.keep_blocks;
        let (stateful_actor, stateful) = Stateful::new(
            self.context.child("stateful"),
            components::stateful(
                prefix,
                self.page_cache,
                Application::new(Arc::clone(self.core), finalized),
                (marshal.clone(), floor),
                plan,
                keep.map(|keep| components::prune(self.overrides.calendar, keep)),
            ),
        );
        let (known, tip) = watch::channel(0);
        let acks_of_blocks = Acks { acks: ack_sender, known };
        let ordering =
            Ordering { marshal_actor, marshal, stateful_actor, stateful, acks: acks_of_blocks };
        (ordering, Deliveries { blocks, acks, known: tip })
    }
}

/// Finalized blocks on their way to the history, and the acknowledgements that the engine waits
/// for.
struct Deliveries {
    blocks: mpsc::UnboundedReceiver<FinalizedBlock>,
    acks: mpsc::UnboundedReceiver<(u64, Exact)>,
    /// The last block that is known to be finalized.
    known: watch::Receiver<u64>,
}

type Marshal<E> = MarshalActor<
    E,
    Variant,
    Committees,
    Archive<E, Certificate>,
    Archive<E, Arc<Block>>,
    FixedEpocher,
    Sequential,
>;

/// The components that order and execute blocks, before they run.
struct Ordering<E: Runtime> {
    marshal_actor: Marshal<E>,
    marshal: MarshalMailbox,
    stateful_actor: Stateful<E, Application, Variant, NoStateSync, Sequential>,
    stateful: StatefulMailbox<E>,
    acks: Acks,
}

/// Requests for missing blocks, and the responses.
type Fetcher = (handler::Receiver<Digest>, backfill::Mailbox<Digest, PublicKey>);

impl<E: Runtime> Ordering<E> {
    /// Starts both, and returns the database once it is open.
    async fn start(
        self,
        proposed: buffered::Mailbox<PublicKey, Block>,
        fetcher: Fetcher,
    ) -> Databases<E> {
        // The subscription is sent before the first block can be delivered, so it is answered
        // before that block is applied: the application holds every block until the state is set.
        let subscriber = self.stateful.clone();
        let mut databases = Box::pin(subscriber.subscribe_databases());
        let _ = poll_fn(|waker| Poll::Ready(databases.as_mut().poll(waker))).await;
        let reporters = Reporters::from((self.stateful, self.acks));
        self.marshal_actor.start(reporters, proposed, fetcher);
        self.stateful_actor.start();
        databases.await
    }
}

/// A node whose state is loaded.
struct Loaded<E: Spawner + StorageContext> {
    context: E,
    core: Arc<Core>,
    marshal: MarshalMailbox,
    stateful: StatefulMailbox<E>,
    state: Arc<State>,
    handovers: Arc<HandoverStore<E>>,
    client: RequestClient,
    page_cache: CacheRef,
    deliveries: Deliveries,
}

/// The part of the network that consensus uses.
struct Voting<P, B, S, R> {
    roster: P,
    blocker: B,
    leases: (S, R),
    channels: Channels<S, R>,
}

impl<E: Runtime> Loaded<E> {
    fn prover(&self) -> Prover {
        Answering::start(&self.context, &self.marshal, &self.state, &self.handovers)
    }

    /// Starts gossiping, recording and voting.
    #[expect(clippy::too_many_lines, reason = "every part of a node, each started once, in order")]
    async fn run<P, B, S, R>(
        self,
        settings: &Settings,
        services: Services,
        overrides: Overrides,
        voting: Voting<P, B, S, R>,
        gossip: (S, R),
    ) -> Result<Node, EngineError>
    where
        P: Roster,
        B: Blocker<PublicKey = PublicKey>,
        S: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        let prover = self.prover();
        let context = self.context;
        services.gossip.start(context.child("gossip"), gossip, voting.blocker.clone());
        let committees = self.core.committees.clone();
        let faults = Faults::new(self.core.rules.chain, services.faults);
        // The history may be ahead of the state: those blocks are delivered again.
        let (height, recorded) = watch::channel(self.state.tip().height);
        let handovers = Arc::clone(&self.handovers);
        let recorder = Recorder {
            history: services.history,
            keep_blocks: settings.keep_blocks,
            marshal: self.marshal.clone(),
            handovers: self.handovers,
            state: Arc::clone(&self.state),
            committees: committees.clone(),
            sink: services.sink,
            blocks: self.deliveries.blocks,
            acks: self.deliveries.acks,
            height,
        };
        let recorder = context.child("recorder").dedicated().spawn(move |_| recorder.run());
        let (height, client) = (recorded.clone(), self.client);
        let (known, genesis) = (committees.clone(), self.core.rules.genesis_voters());
        let left_behind = context.child("progress").spawn(move |context| async move {
            let progress = Progress { context, client, committees: known, genesis, handovers };
            progress.left_behind(|| *height.borrow()).await
        });
        let core = Arc::clone(&self.core);
        let boundary = context
            .child("boundary")
            .spawn(move |context| async move { core.at_boundary(&context).await });
        let timing = Timing {
            block_ms: settings.block_ms,
            idle_block_ms: settings.idle_block_ms,
            skew_ms: overrides.skew_ms,
        };
        let pacer = Pacer { core: self.core, timing, work: services.work, stateful: self.stateful };
        let automaton = Deferred::new(
            context.child("deferred"),
            pacer,
            self.marshal.clone(),
            committees.calendar().epocher(),
        );
        let leases = leases(&context, settings, &overrides, &services.votes);
        let seen = Arc::<SeenVotes>::default();
        let (claims, blocker) = (context.child("leases"), voting.blocker.clone());
        carrier::start(claims, Arc::clone(&leases), Arc::clone(&seen), voting.leases, blocker);
        let (watching, watched) = watch::channel(None);
        let terms = Terms {
            context,
            prefix: overrides.prefix,
            page_cache: self.page_cache,
            timing,
            committees,
            roster: voting.roster,
            blocker: voting.blocker,
            marshal: self.marshal.clone(),
            automaton,
            faults,
            own_votes: OwnVotes {
                record: services.votes,
                leases: Arc::clone(&leases),
                unrecorded: settings.vote_unrecorded,
                watching,
            },
            seen,
            tracked: None,
        };
        let height = self.state.tip().height;
        Ok(Node {
            consensus: terms.start(height, recorded.clone(), voting.channels).await?,
            state: self.state,
            joined: None,
            fallback: None,
            watching: watched,
            known: self.deliveries.known,
            leases,
            prover,
            recorder,
            left_behind,
            boundary,
            marshal: self.marshal,
            recorded,
        })
    }
}

/// The leases of this node's key, for the process that starts now.
fn leases<E: Runtime>(
    context: &E,
    settings: &Settings,
    overrides: &Overrides,
    record: &Arc<VoteRecord>,
) -> Arc<Leases> {
    let mut random = context.child("process");
    Arc::new(Leases::new(Process {
        chain: settings.genesis.chain_id(),
        key: settings.key.clone(),
        number: random.next_u64(),
        clocks: clocks(random, overrides.simulated_time),
        pace: overrides.pace,
        record: Arc::clone(record),
        ignores_others: settings.vote_unrecorded,
        asks_nobody: matches!(overrides.deviation, Deviation::Unleased),
    }))
}

/// The clocks of this machine, or only that of a simulation.
fn clocks<E: Runtime>(context: E, simulated: bool) -> Clocks {
    let (started, context) = (Instant::now(), Mutex::new(context));
    Arc::new(move || {
        let context = context.lock().unwrap_or_else(PoisonError::into_inner);
        let wall_ms = unix_ms(context.current());
        let steady = if simulated { Duration::from_millis(wall_ms) } else { started.elapsed() };
        Moment { steady, wall_ms }
    })
}

async fn stored_block(
    marshal: &MarshalMailbox,
    height: u64,
) -> Result<Digested<Block>, EngineError> {
    let identifier = Identifier::Height(Height::new(height));
    let block = marshal.get_block(identifier).await;
    block.ok_or(EngineError::MissingBlock { height })
}

/// Reads the state from disk and checks it against the header of the block that it belongs to, and
/// that this software executes what follows.
async fn load<E: Spawner + StorageContext>(
    core: &Core,
    databases: &Databases<E>,
    marshal: &MarshalMailbox,
) -> Result<State, EngineError> {
    let database = databases.read().await;
    let Some((height, memory)) = database::load::<E>(&database).await? else {
        let genesis = &core.rules.genesis;
        core.rules.check_version(0, genesis.header().rules)?;
        let digest = hash(genesis.digest());
        let tip = Tip { height: 0, digest };
        return Ok(State::new(core.rules.genesis_state(), tip));
    };
    let block = stored_block(marshal, height).await?;
    let header = block.inner().header();
    let state = State::new(memory, Tip { height, digest: hash(block.digest()) });
    if header.state.log.root != database.root() || hash(header.state.root) != state.root() {
        return Err(EngineError::StateMismatch { height });
    }
    core.rules.check_version(height, header.rules)?;
    Ok(state)
}

/// Brings the history up to the loaded state by executing the stored blocks from genesis again.
///
/// Only a lost or outdated history needs this: a complete one is never behind, because a block is
/// acknowledged only after it is written there.
async fn rebuild(
    rules: &Rules,
    marshal: &MarshalMailbox,
    history: &History,
    state: &State,
) -> Result<(), EngineError> {
    let tip = state.tip();
    let recorded = history.height()?;
    if recorded >= tip.height {
        return Ok(());
    }
    if stored_block(marshal, 1).await.is_err() {
        // The first blocks were pruned or never downloaded, so they cannot be replayed.
        tracing::warn!(from = tip.height, "starting an empty history");
        return Ok(history.begin_after(tip.height, history.last_event()?)?);
    }
    tracing::info!(from = recorded, to = tip.height, "rebuilding the history");
    let mut memory = rules.genesis_state();
    let mut batch: Vec<FinalizedBlock> = Vec::new();
    for height in 1..=tip.height {
        let block = stored_block(marshal, height).await?;
        let replayed = rules.replay(&mut memory, block.inner(), hash(block.digest()));
        if let Err(EngineError::OtherRules { .. }) = replayed {
            tracing::warn!(from = tip.height, "starting an empty history: older rules are unknown");
            return Ok(history.begin_after(tip.height, history.last_event()?)?);
        }
        let replayed = replayed?;
        if height > recorded {
            batch.push(replayed);
        }
        if batch.len() == REBUILD_BLOCKS || height == tip.height {
            history.append(&batch)?;
            batch.clear();
        }
    }
    if state.equals(&memory) {
        Ok(())
    } else {
        Err(EngineError::StateMismatch { height: tip.height })
    }
}
