//! One simulated node: the function that the binary starts, on simulated wires and a simulated disk.

use std::{collections::BTreeSet, num::NonZeroU64, sync::Arc};

use commonware_cryptography::{Signer as _, ed25519::PublicKey};
use commonware_p2p::{
    PeerSetSubscription, Provider, TrackedPeers,
    simulated::{self, Manager, Oracle},
};
use commonware_runtime::{
    Handle as Task, Quota, Spawner as _, Supervisor as _, deterministic::Context,
};
use commonware_utils::NZU64;
use soma_engine::{
    ConsensusSecret, EngineError, FAULTS_WAITING_MAX, Join, Settings, Sink,
    generic::{
        Calendar, Deviation, GOSSIP_QUOTA, Links, Overrides, QUOTA, Roster, Services,
        gossip_channel, private_key, start,
    },
};
use soma_protocol::{Genesis, evidence::Evidence};
use soma_store::History;
use tokio::sync::{Notify, mpsc};

use crate::{
    Violation,
    actors::{Queue, node_secret},
    check::{Blind, Eye, Witness},
    dice::Dice,
    wire::{Faces, Noisy, SharedNoise},
};

/// Epochs of the engine are short here, so that every history has many boundaries.
fn calendar() -> Calendar {
    Calendar::of_blocks(NZU64!(12))
}

/// Files are short as well, so that blocks are really gone.
const SECTION_BLOCKS: NonZeroU64 = NZU64!(24);
const BLOCK_MS: u64 = 150;
const IDLE_BLOCK_MS: u64 = 600;
const CHANNELS: u64 = 7;
const GOSSIP: u64 = 5;

/// The name of a node on the network.
pub fn key_of(node: usize) -> PublicKey {
    private_key(&ConsensusSecret(node_secret(node))).public_key()
}

/// Everybody knows everybody: who may talk to whom is for the faults to decide.
#[derive(Clone, Debug)]
pub struct Everybody(pub Manager<PublicKey, Context>);

impl Provider for Everybody {
    type PublicKey = PublicKey;

    async fn peer_set(&mut self, id: u64) -> Option<TrackedPeers<PublicKey>> {
        self.0.peer_set(id).await
    }

    async fn subscribe(&mut self) -> PeerSetSubscription<PublicKey> {
        self.0.subscribe().await
    }
}

impl Roster for Everybody {
    fn track(&mut self, _: u64, _: BTreeSet<PublicKey>, _: BTreeSet<PublicKey>) {}
}

/// What stays the same over all lives of a node.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its number.
    pub node: usize,
    /// The chain.
    pub genesis: Genesis,
    /// How it departs from the rules.
    pub deviation: Deviation,
    /// How many blocks it keeps.
    pub keep_blocks: Option<u64>,
    /// Whom it talks to.
    pub faces: Faces,
    /// How far its clock is ahead.
    pub skew_ms: i64,
    /// Looks at it, if it is honest.
    pub witness: Option<Witness>,
    /// Its history, and the one of its second face.
    pub histories: [Arc<History>; 2],
}

/// A node that is up.
#[expect(missing_debug_implementations, reason = "a task has nothing to show")]
pub struct Alive {
    /// Ends when the node cannot go on; an error that no fault explains is its last word.
    pub task: Task<Result<(), EngineError>>,
    /// Its pool.
    pub queue: Arc<Queue>,
    /// Rung for the pool.
    pub work: Arc<Notify>,
    /// What its consensus finds against validators.
    pub faults: mpsc::Receiver<Evidence>,
}

/// One side of every channel: the first face's or the second's.
type Side<S> = Vec<(S, Noisy)>;

impl Identity {
    fn settings(&self) -> Settings {
        Settings {
            genesis: self.genesis.clone(),
            key: ConsensusSecret(node_secret(self.node)),
            block_ms: BLOCK_MS,
            idle_block_ms: IDLE_BLOCK_MS,
            join: Join::Auto,
            keep_blocks: self.keep_blocks,
        }
    }

    fn overrides(&self, face: usize) -> Overrides {
        Overrides {
            prefix: format!("node-{}-{face}", self.node),
            calendar: calendar(),
            section_blocks: SECTION_BLOCKS,
            skew_ms: self.skew_ms,
            deviation: self.deviation.clone(),
        }
    }

    fn services(
        &self,
        face: usize,
        (queue, work): (&Arc<Queue>, &Arc<Notify>),
        faults: mpsc::Sender<Evidence>,
    ) -> Services {
        let sink: Arc<dyn Sink> = match &self.witness {
            Some(witness) => Arc::new(Eye {
                node: self.node,
                witness: witness.clone(),
                queue: Arc::clone(queue),
            }),
            None => Arc::new(Blind(Arc::clone(queue))),
        };
        let (_, _, gossip) = gossip_channel();
        Services {
            pool: Arc::clone(queue) as Arc<_>,
            sink,
            work: Arc::clone(work),
            history: Arc::clone(&self.histories[face]),
            gossip,
            faults,
        }
    }

    /// Starts the node; `life` tells its lives apart.
    ///
    /// # Panics
    /// When the simulated network is gone, which it never is.
    #[expect(
        clippy::expect_used,
        reason = "the simulated network outlives its nodes"
    )]
    pub async fn start(
        &self,
        context: &Context,
        oracle: &Oracle<PublicKey, Context>,
        noise: &SharedNoise,
        life: u64,
    ) -> Alive {
        let me = key_of(self.node);
        let control = oracle.control(me.clone());
        let (mut first, mut second) = (Side::new(), Side::new());
        for channel in 0..CHANNELS {
            let quota: Quota = if channel == GOSSIP {
                GOSSIP_QUOTA
            } else {
                QUOTA
            };
            let registered = control.register(channel, quota).await;
            let (sender, receiver) = registered.expect("the network runs");
            let faces = self.faces.clone();
            let (primary, secondary) =
                sender.split_with(move |origin, wanted: &_, _: &_| faces.route(origin, wanted));
            let faces = self.faces.clone();
            let (near, far) = receiver
                .split_with(context.child("split"), move |(from, _): &(PublicKey, _)| {
                    faces.hears(from)
                });
            let seed = life * 1_000 + self.node as u64 * 10 + channel;
            let noisy = |receiver, purpose| {
                Noisy::new(receiver, Arc::clone(noise), Dice::new(seed, purpose))
            };
            first.push((primary, noisy(near, "first")));
            second.push((secondary, noisy(far, "second")));
        }
        let (queue, work) = (Arc::new(Queue::default()), Arc::new(Notify::new()));
        let (found, faults) = mpsc::channel(FAULTS_WAITING_MAX);
        let (identity, oracle) = (self.clone(), oracle.clone());
        let (pool, bell) = (Arc::clone(&queue), Arc::clone(&work));
        let context = context
            .child("node")
            .with_attribute("index", self.node)
            .with_attribute("life", life);
        let task = context.spawn(move |context| async move {
            identity
                .live(context, &oracle, [first, second], (&pool, &bell), found)
                .await
        });
        Alive {
            task,
            queue,
            work,
            faults,
        }
    }

    async fn live<S: commonware_p2p::Sender<PublicKey = PublicKey>>(
        self,
        context: Context,
        oracle: &Oracle<PublicKey, Context>,
        [first, second]: [Side<S>; 2],
        pool: (&Arc<Queue>, &Arc<Notify>),
        faults: mpsc::Sender<Evidence>,
    ) -> Result<(), EngineError> {
        let me = key_of(self.node);
        let two_faced = !self.faces.second.is_empty();
        let mut other = None;
        if two_faced {
            let node = start(
                context.child("second"),
                self.settings(),
                self.services(1, pool, faults.clone()),
                self.overrides(1),
                links(oracle, &me, second),
            );
            other = Some(Box::pin(node).await?);
        }
        let node = start(
            context.child("first"),
            self.settings(),
            self.services(0, pool, faults),
            self.overrides(0),
            links(oracle, &me, first),
        );
        let mut node = Box::pin(node).await?;
        if let Some(witness) = &self.witness {
            witness.started(self.node, Arc::clone(&node.state));
        }
        // It ends by a panic, by its disk, or not at all; the second face lives and dies with it.
        let _ = node.ended().await;
        drop(other);
        Ok(())
    }
}

fn links<S>(
    oracle: &Oracle<PublicKey, Context>,
    me: &PublicKey,
    side: Side<S>,
) -> Links<Everybody, simulated::Control<PublicKey, Context>, S, Noisy> {
    let mut side = side.into_iter();
    #[expect(clippy::expect_used, reason = "all channels were registered")]
    let mut next = || side.next().expect("a channel");
    Links {
        peers: Everybody(oracle.manager()),
        blocker: oracle.control(me.clone()),
        votes: next(),
        certificates: next(),
        certificate_requests: next(),
        block_requests: next(),
        blocks: next(),
        gossip: next(),
        exchange: next(),
    }
}

/// Whether a node that could not start shows a fault of ours: what disks refuse is not one.
pub fn is_contradiction(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::StateMismatch { .. } | EngineError::MissingBlock { .. }
    )
}

/// A node's last word, as a violation.
pub fn stuck(node: usize, error: &EngineError) -> Violation {
    Violation::Stuck {
        node,
        reason: error.to_string(),
    }
}
