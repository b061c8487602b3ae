//! One simulated node: the validator that the binary starts, on a simulated network and disk.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{
    PeerSetSubscription, Provider, TrackedPeers,
    simulated::{self, Manager, Oracle},
};
use commonware_runtime::{
    Clock as _, Handle as Task, IoBuf, Quota, Spawner as _, Supervisor as _, deterministic::Context,
};
use commonware_utils::NZU64;
use rand::{SeedableRng as _, rngs::Xoshiro256PlusPlus};
use soma_engine::{
    EngineError, FAULTS_WAITING_MAX, Join, Settings, Sink, VoteRecord,
    generic::{
        Calendar, Deviation, GOSSIP_QUOTA, Links, Overrides, Pace, QUOTA, Registered, Roster,
        Services, gossip_channel, start,
    },
};
use soma_protocol::{Genesis, Ruleset, evidence::Evidence};
use soma_store::History;
use tokio::sync::{Notify, mpsc};

use crate::ballots::Ballots;
use crate::checker::{CheckedSink, Checker, UncheckedSink};
use crate::genesis::{consensus_secret, peer_key};
use crate::mempool::{Mempool, PoolRules};
use crate::network::{Interfaces, LossyLink, SharedLinkFaults};

/// Terms of the engine are short here, so that every history has many boundaries.
const TERM_BLOCKS: NonZeroU64 = NZU64!(12);
/// Files hold few blocks too, so that pruned blocks are really deleted.
const SECTION_BLOCKS: NonZeroU64 = NZU64!(24);
const BLOCK_MS: u64 = 150;
const IDLE_BLOCK_MS: u64 = 600;
const CHANNELS: u64 = 8;
const VOTES: u64 = 0;
const GOSSIP: u64 = 5;
/// Leases last a tenth of what they last on a real network, as most else here.
const LEASES_MS: u64 = 100;

/// Every node knows every other: the faults decide who can reach whom.
#[derive(Clone, Debug)]
pub struct AllPeers(pub Manager<PublicKey, Context>);

impl Provider for AllPeers {
    type PublicKey = PublicKey;

    async fn peer_set(&mut self, id: u64) -> Option<TrackedPeers<PublicKey>> {
        self.0.peer_set(id).await
    }

    async fn subscribe(&mut self) -> PeerSetSubscription<PublicKey> {
        self.0.subscribe().await
    }
}

impl Roster for AllPeers {
    fn track(&mut self, _: BTreeSet<PublicKey>, _: Vec<Registered>) {}
}

/// What stays the same whenever a node is restarted.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Its number.
    pub node: usize,
    /// The chain.
    pub genesis: Genesis,
    /// The rules that its blocks follow.
    pub ruleset: Ruleset,
    /// How it deviates from them.
    pub deviation: Deviation,
    /// The rules of its pool.
    pub pool: PoolRules,
    /// How many blocks it keeps.
    pub keep_blocks: Option<u64>,
    /// The peers that it is connected to.
    pub interfaces: Interfaces,
    /// How far its clock is ahead, in milliseconds.
    pub skew_ms: i64,
    /// The checker of an honest node.
    pub checker: Option<Checker>,
    /// Its history, and that of the node on its second interface.
    pub histories: [Arc<History>; 2],
    /// The records of the last votes of both.
    pub votes: [Arc<VoteRecord>; 2],
    /// What both sent, if they are the same validator by mistake, and when the second one starts
    /// after the first, in milliseconds.
    pub twice: Option<(Ballots, u64)>,
}

/// A node that is running.
#[expect(missing_debug_implementations, reason = "a task has nothing to show")]
pub struct RunningNode {
    /// Ends when the node stops by itself.
    pub task: Task<Result<(), EngineError>>,
    /// Its pool.
    pub mempool: Arc<Mempool>,
    /// Notified when the pool has new transactions.
    pub work: Arc<Notify>,
    /// Evidence of equivocation that its consensus engine found.
    pub faults: mpsc::Receiver<Evidence>,
}

/// The channels of one interface.
type Channels<S> = Vec<(S, LossyLink)>;

/// What a running node shares with the scenario.
#[derive(Clone)]
struct Shared {
    mempool: Arc<Mempool>,
    work: Arc<Notify>,
    faults: mpsc::Sender<Evidence>,
}

impl NodeSpec {
    /// Whether the node follows the rules.
    pub const fn is_honest(&self) -> bool {
        self.checker.is_some()
    }

    fn settings(&self) -> Settings {
        Settings {
            genesis: self.genesis.clone(),
            key: consensus_secret(self.node),
            block_ms: BLOCK_MS,
            idle_block_ms: IDLE_BLOCK_MS,
            join: Join::Auto,
            vote_unrecorded: false,
            ruleset: self.ruleset,
            keep_blocks: self.keep_blocks,
        }
    }

    fn overrides(&self, interface: usize) -> Overrides {
        Overrides {
            prefix: format!("node-{}-{interface}", self.node),
            calendar: Calendar::of_blocks(TERM_BLOCKS),
            section_blocks: SECTION_BLOCKS,
            skew_ms: self.skew_ms,
            simulated_time: true,
            pace: Pace::renewing_every(Duration::from_millis(LEASES_MS)),
            deviation: self.deviation.clone(),
        }
    }

    fn services(&self, interface: usize, shared: &Shared) -> Services {
        let sink: Arc<dyn Sink> = match &self.checker {
            Some(checker) => Arc::new(CheckedSink {
                node: self.node,
                checker: checker.clone(),
                mempool: Arc::clone(&shared.mempool),
            }),
            None => Arc::new(UncheckedSink(Arc::clone(&shared.mempool))),
        };
        let (_, _, gossip) = gossip_channel();
        Services {
            pool: Arc::clone(&shared.mempool) as Arc<_>,
            sink,
            work: Arc::clone(&shared.work),
            history: Arc::clone(&self.histories[interface]),
            gossip,
            faults: shared.faults.clone(),
            votes: Arc::clone(&self.votes[interface]),
        }
    }

    /// Starts the node for the `incarnation`-th time.
    ///
    /// # Panics
    /// Never: the simulated network outlives its nodes.
    #[expect(clippy::expect_used, reason = "the simulated network outlives its nodes")]
    pub async fn start(
        &self,
        context: &Context,
        oracle: &Oracle<PublicKey, Context>,
        link_faults: &SharedLinkFaults,
        incarnation: u64,
        mut rng: Xoshiro256PlusPlus,
    ) -> RunningNode {
        let control = oracle.control(peer_key(self.node));
        let (mut first, mut second) = (Channels::new(), Channels::new());
        for channel in 0..CHANNELS {
            let quota: Quota = if channel == GOSSIP { GOSSIP_QUOTA } else { QUOTA };
            let registered = control.register(channel, quota).await;
            let (sender, receiver) = registered.expect("the network runs");
            let interfaces = self.interfaces.clone();
            let ballots = self.twice.as_ref().map(|(ballots, _)| ballots.clone());
            let ballots = ballots.filter(|_| channel == VOTES);
            let (first_sender, second_sender) =
                sender.split_with(move |origin, recipients: &_, message: &IoBuf| {
                    if let Some(ballots) = &ballots {
                        ballots.note(message.as_ref());
                    }
                    interfaces.route(origin, recipients)
                });
            let interfaces = self.interfaces.clone();
            let (first_receiver, second_receiver) = receiver
                .split_with(context.child("split"), move |(peer, _): &(PublicKey, _)| {
                    interfaces.receivers(peer)
                });
            let mut lossy =
                |receiver| LossyLink::new(receiver, Arc::clone(link_faults), rng.fork());
            first.push((first_sender, lossy(first_receiver)));
            second.push((second_sender, lossy(second_receiver)));
        }
        let (sender, faults) = mpsc::channel(FAULTS_WAITING_MAX);
        let mempool = Arc::new(Mempool::new(self.pool));
        let shared = Shared { mempool, work: Arc::default(), faults: sender };
        let (mempool, work) = (Arc::clone(&shared.mempool), Arc::clone(&shared.work));
        let (spec, oracle) = (self.clone(), oracle.clone());
        let context = context
            .child("node")
            .with_attribute("index", self.node)
            .with_attribute("life", incarnation);
        let run = move |context| spec.run(context, oracle, first, second, shared);
        RunningNode { task: context.spawn(run), mempool, work, faults }
    }

    /// Runs until the node stops, by a panic or a failing disk, if it ever does.
    async fn run<S: commonware_p2p::Sender<PublicKey = PublicKey>>(
        self,
        context: Context,
        oracle: Oracle<PublicKey, Context>,
        first: Channels<S>,
        mut second: Channels<S>,
        shared: Shared,
    ) -> Result<(), EngineError> {
        let key = peer_key(self.node);
        let start = |name, interface, channels| {
            start(
                context.child(name),
                self.settings(),
                self.services(interface, &shared),
                self.overrides(interface),
                links(&oracle, &key, channels),
            )
        };
        let mut twin = None;
        if self.twice.is_none() && self.interfaces.has_second() {
            twin = Some(Box::pin(start("second", 1, second)).await?);
            second = Channels::new();
        }
        let mut node = Box::pin(start("first", 0, first)).await?;
        if let Some(checker) = &self.checker {
            checker.started(self.node, Arc::clone(&node.state));
        }
        if let Some((_, delay_ms)) = self.twice {
            context.sleep(Duration::from_millis(delay_ms)).await;
            twin = Some(Box::pin(start("second", 1, second)).await?);
        }
        let _ = node.ended().await;
        drop(twin);
        Ok(())
    }
}

fn links<S>(
    oracle: &Oracle<PublicKey, Context>,
    key: &PublicKey,
    channels: Channels<S>,
) -> Links<AllPeers, simulated::Control<PublicKey, Context>, S, LossyLink> {
    let mut channels = channels.into_iter();
    #[expect(clippy::expect_used, reason = "all channels were registered")]
    let mut next = || channels.next().expect("a channel");
    Links {
        peers: AllPeers(oracle.manager()),
        blocker: oracle.control(key.clone()),
        votes: next(),
        certificates: next(),
        certificate_requests: next(),
        block_requests: next(),
        blocks: next(),
        gossip: next(),
        exchange: next(),
        leases: next(),
    }
}
