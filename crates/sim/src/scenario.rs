//! One history from one seed: the network runs with faults, then all faults stop, and it must make
//! progress.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use commonware_runtime::deterministic::{self, Context};
use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus, seq::IndexedRandom as _};
use soma_engine::{EngineError, VoteRecord, generic::Deviation};
use soma_protocol::{
    Address, BlockInfo, Genesis, Hash, MemoryState, Ruleset, SignedTransaction,
    VerifiedTransaction, read,
};
use soma_store::{History, StoreError};

use crate::Violation;
use crate::actors::Actors;
use crate::adversary::{Adversary, invalid_proposals, planted_bug};
use crate::attackers::{Attacker, Attackers};
use crate::ballots::Ballots;
use crate::checker::Checker;
use crate::cluster::Cluster;
use crate::evidence::{EvidencePool, is_expelled};
use crate::faults::Faults;
use crate::genesis::{ADVERSARY, GENESIS_MS, NODES, consensus_secret, genesis, node_key, peer_key};
use crate::honest::{Due, Honest};
use crate::mempool::{PoolRules, Standing};
use crate::network::{Interfaces, Sides};
use crate::node::NodeSpec;
use crate::plant::Plant;

/// Simulated time between two steps of a history, in milliseconds.
const STEP_MS: u64 = 50;
/// The node that has no seat at genesis and joins late.
const NEWCOMER: usize = NODES - 1;
/// How long the network may take to make progress after all faults have stopped, in simulated
/// milliseconds, and how much longer for each block that the newcomer waits for.
const HEALED_TIMEOUT_MS: u64 = 240_000;
const JOIN_BLOCK_TIMEOUT_MS: u64 = 6_000;
/// How many blocks it must finalize in that time.
const PROGRESS_BLOCKS: u64 = 26;
/// How many blocks every second node keeps.
const KEEP_BLOCKS: u64 = 96;
/// Heights from which the newcomer may start.
const JOIN_HEIGHTS: [u64; 4] = [0, 0, 10, 40];
/// How long the second process of a validator that runs twice may take to start.
const SECOND_STARTS_MS: u64 = 6_000;
/// Lengths of an epoch, in milliseconds.
const EPOCHS_MS: [u64; 3] = [3_000, 5_000, 10_000];

/// What to simulate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Determines everything.
    pub seed: u64,
    /// A bug in every node, for the checker to find.
    pub plant: Option<Plant>,
    /// The height from which the newcomer may start; drawn if `None`.
    pub join_height: Option<u64>,
}

/// What happened in a history without a violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The number of finalized blocks.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// How many of them the rules accepted.
    pub accepted: u64,
    /// The number of node crashes.
    pub crashes: u64,
    /// Nodes that stopped because their disk failed.
    pub disk_failures: u64,
    /// Times the whole network lost power.
    pub power_losses: u64,
    /// Nodes that joined by state sync.
    pub joins: u64,
    /// Peers whose state was refused during a join.
    pub refused: u64,
    /// What the adversary did.
    pub adversary: Adversary,
    /// The attackers.
    pub attackers: Vec<Attacker>,
    /// Whether the adversary was expelled for equivocation.
    pub expelled: bool,
    /// A digest of everything that happened: equal for equal seeds.
    pub fingerprint: String,
}

/// Runs a history.
///
/// # Errors
/// The first [`Violation`].
pub fn run(settings: Settings) -> Result<Report, Violation> {
    let genesis = genesis(settings.epoch_ms(), kinds());
    let stuck = |reason: String| Violation::Stuck { node: 0, reason };
    let mut rng = settings.rng();
    let adversary = settings.draw_adversary(&mut rng);
    // Attackers have a validator even where its node follows the rules.
    let honest: BTreeSet<Address> =
        (0..NODES).filter(|node| *node != ADVERSARY).map(|node| node_key(node).address()).collect();
    let ruleset = Plant::ruleset(settings.plant);
    let checker = Checker::new(&genesis, NODES, ruleset, honest);
    let checker = checker.map_err(|error| stuck(error.to_string()))?;
    let nodes = nodes(&settings, &genesis, adversary, &checker, &mut rng);
    let join_height = JOIN_HEIGHTS.choose(&mut rng).copied().unwrap_or(0);
    let mut scenario = Scenario {
        chain: genesis.chain_id(),
        ruleset,
        nodes: nodes.map_err(|error| stuck(error.to_string()))?,
        join_height: settings.join_height.unwrap_or(join_height),
        faults: Faults::new(rng.fork(), checker.clone()),
        checker: checker.clone(),
        attackers: Attackers::new(genesis.chain_id(), settings.attackers(), rng.fork()),
        honest: Honest::default(),
        rng,
        incarnations: 0,
        disk_failures: 0,
        evidence: EvidencePool::default(),
    };
    let config = deterministic::Config::new()
        .with_seed(settings.seed)
        .with_start_time(UNIX_EPOCH + Duration::from_millis(GENESIS_MS))
        .with_catch_panics(true);
    let mut runner = deterministic::Runner::new(config);
    let power_losses = scenario.faults.power_losses();
    for _ in 0..power_losses {
        let (before, checkpoint) =
            runner.start_and_recover(|context| scenario.period(context, false));
        scenario = before;
        runner = deterministic::Runner::from(checkpoint);
    }
    let (scenario, checkpoint) = runner.start_and_recover(|context| scenario.period(context, true));
    if let Some(violation) = checker.violation() {
        return Err(violation);
    }
    let counts = checker.counts();
    Ok(Report {
        seed: settings.seed,
        blocks: counts.blocks,
        transactions: counts.transactions,
        accepted: counts.accepted,
        crashes: scenario.faults.crashes,
        disk_failures: scenario.disk_failures,
        power_losses,
        joins: counts.joins,
        refused: counts.refused,
        adversary,
        attackers: settings.attackers(),
        expelled: checker.read(|state| is_expelled(state, ADVERSARY)),
        fingerprint: checkpoint.auditor().state(),
    })
}

impl Settings {
    /// The attackers of this history.
    pub fn attackers(&self) -> Vec<Attacker> {
        Attacker::draw(self.seed)
    }

    /// The length of an epoch, in milliseconds.
    fn epoch_ms(&self) -> u64 {
        let at = usize::try_from(self.seed % EPOCHS_MS.len() as u64).unwrap_or(0);
        EPOCHS_MS[at]
    }

    /// What the adversary of this history does; a planted bug comes without one.
    pub fn adversary(&self) -> Adversary {
        self.draw_adversary(&mut self.rng())
    }

    fn draw_adversary(&self, rng: &mut Xoshiro256PlusPlus) -> Adversary {
        let drawn = Adversary::draw(rng);
        if self.plant.is_some() { Adversary::None } else { drawn }
    }

    fn rng(&self) -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(self.seed)
    }
}

/// How many kinds of attackers there are.
#[expect(clippy::cast_possible_truncation, reason = "few kinds")]
const fn kinds() -> u8 {
    Attacker::ALL.len() as u8
}

fn nodes(
    settings: &Settings,
    genesis: &Genesis,
    adversary: Adversary,
    checker: &Checker,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<Vec<NodeSpec>, StoreError> {
    let spec = |node: usize| {
        let adversary = if node == ADVERSARY { adversary } else { Adversary::None };
        let deviation = match adversary {
            _ if settings.plant == Some(Plant::Counterfeit) => Deviation::Bug(planted_bug()),
            Adversary::Lies => Deviation::Lies(invalid_proposals(node)),
            Adversary::Stuffs => Deviation::Stuffs,
            Adversary::Forges => Deviation::Forges,
            Adversary::Boasts => Deviation::Boasts,
            Adversary::Equivocates => Deviation::Unleased,
            _ => Deviation::None,
        };
        let others: Vec<_> = (0..NODES).filter(|other| *other != node).collect();
        let peers = |which: &[usize]| which.iter().map(|at| peer_key(others[*at])).collect();
        let interfaces = match adversary {
            Adversary::Equivocates => {
                Interfaces::Fixed { first: peers(&[0, 1, 3]), second: peers(&[1, 2]) }
            }
            Adversary::Withholds => Interfaces::Fixed { first: peers(&[0, 2]), second: Vec::new() },
            Adversary::RunsTwice => {
                Interfaces::Divided { peers: peers(&[0, 1, 2, 3]), sides: Sides::default() }
            }
            _ => Interfaces::One,
        };
        let twice = (adversary == Adversary::RunsTwice).then(|| {
            let ballots = Ballots::new(node, genesis.chain_id(), checker.clone());
            (ballots, rng.random_range(0..SECOND_STARTS_MS))
        });
        Ok(NodeSpec {
            node,
            genesis: genesis.clone(),
            ruleset: Plant::ruleset(settings.plant),
            deviation,
            pool: PoolRules {
                checks: adversary == Adversary::None,
                bids: settings.plant != Some(Plant::NoBids),
                duty_room: settings.plant != Some(Plant::NoDutyRoom),
            },
            keep_blocks: node.is_multiple_of(2).then_some(KEEP_BLOCKS),
            interfaces,
            skew_ms: rng.random_range(-200..200),
            checker: (adversary == Adversary::None).then(|| checker.clone()),
            histories: [Arc::new(History::in_memory()?), Arc::new(History::in_memory()?)],
            votes: [record(node), copied_record(node)],
            twice,
        })
    };
    (0..NODES).map(spec).collect()
}

/// The record of a node's votes. The newcomer made its key itself.
#[expect(clippy::expect_used, reason = "a record in memory has no file that could fail")]
fn record(node: usize) -> Arc<VoteRecord> {
    let record = VoteRecord::in_memory(consensus_secret(node).public());
    if node == NEWCOMER {
        record.begin().expect("no file fails");
    }
    Arc::new(record)
}

/// The record of a copy that was made before the first vote: nothing in it says that it is old.
#[expect(clippy::expect_used, reason = "a record in memory has no file that could fail")]
fn copied_record(node: usize) -> Arc<VoteRecord> {
    let record = VoteRecord::in_memory(consensus_secret(node).public());
    record.begin().expect("no file fails");
    Arc::new(record)
}

/// What survives power losses.
struct Scenario {
    chain: Hash,
    ruleset: Ruleset,
    checker: Checker,
    nodes: Vec<NodeSpec>,
    faults: Faults,
    attackers: Attackers,
    honest: Honest,
    rng: Xoshiro256PlusPlus,
    /// The height from which the newcomer may start.
    join_height: u64,
    /// How many times a node was started.
    incarnations: u64,
    disk_failures: u64,
    evidence: EvidencePool,
}

impl Scenario {
    /// Runs until the next power loss; the last period ends without faults.
    async fn period(mut self, context: Context, last: bool) -> Self {
        for node in 0..NODES {
            self.checker.stopped(node);
            // After a loss of power, nobody remembers votes but whoever cast them. It comes first.
            if let Interfaces::Divided { sides, .. } = &self.nodes[node].interfaces {
                sides.reset();
            }
        }
        let (quality, link_faults) = (self.faults.link_quality(), self.faults.link_faults());
        let mut cluster = Cluster::new(context, quality, link_faults).await;
        let mut actors = Actors::new(self.chain, self.rng.fork());
        let steps = self.rng.random_range(60..240);
        for _ in 0..steps {
            if self.checker.violation().is_some() {
                return self;
            }
            self.faults.inject(&mut cluster).await;
            self.step(&mut cluster, &mut actors).await;
        }
        if last {
            self.heal(&mut cluster, &mut actors).await;
        }
        self
    }

    /// Ends faults, restarts nodes, sends transactions, and lets time pass.
    async fn step(&mut self, cluster: &mut Cluster, actors: &mut Actors) {
        cluster.end_faults().await;
        for node in 0..NODES {
            if let Some(error) = cluster.stopped(node, 500).await {
                if let Some(error) = error.filter(is_contradiction) {
                    let reason = error.to_string();
                    self.checker.report(Violation::Stuck { node, reason });
                }
                self.disk_failures += 1;
                self.checker.stopped(node);
            } else if cluster.is_due(node) && !self.must_wait(node) {
                self.incarnations += 1;
                let rng = self.rng.fork();
                cluster.start(&self.nodes[node], self.incarnations, rng).await;
            }
        }
        self.report_equivocation(cluster);
        self.divide();
        let now_ms = cluster.now_ms();
        // Attackers are first, so that whatever is free is theirs.
        for tx in self.checker.read(|state| self.attackers.act(state, now_ms)) {
            let standing = self.standing(&tx, now_ms);
            cluster.send(&tx, standing, || true);
        }
        self.offer(cluster);
        for _ in 0..self.rng.random_range(0..4) {
            let signed = self.checker.read(|state| actors.act(state, now_ms));
            self.send(cluster, signed, 7);
        }
        cluster.sleep_ms(STEP_MS).await;
    }

    /// Sends a transaction to the running nodes, each with `tenths` of certainty.
    fn send(&mut self, cluster: &mut Cluster, signed: SignedTransaction, tenths: u32) {
        if let Ok(tx) = signed.verify(&self.chain) {
            let standing = self.standing(&tx, cluster.now_ms());
            cluster.send(&tx, standing, || self.rng.random_ratio(tenths, 10));
        }
    }

    /// What pools know of a transaction's sender, and whether the rules would accept a duty.
    fn standing(&self, tx: &VerifiedTransaction, now_ms: u64) -> Standing {
        let sender = tx.transaction().sender;
        self.checker.read(|state| {
            let next_nonce = read::account(state, &sender).nonce;
            let next = BlockInfo { height: 0, timestamp_ms: now_ms, proposer: Address([0; 32]) };
            let is_duty = tx.transaction().action.is_duty();
            let accepted = is_duty && self.ruleset.check(state, &next, tx).is_ok();
            Standing { next_nonce, accepted }
        })
    }

    /// Sends what honest people need done to all nodes, again and again until it is.
    fn offer(&mut self, cluster: &mut Cluster) {
        let nodes: Vec<usize> = (0..NODES).filter(|node| *node != ADVERSARY).collect();
        let (chain, now_ms) = (self.chain, cluster.now_ms());
        let due = self.checker.read(|state| self.honest.due(state, &chain, &nodes));
        self.checker.offer(&due, now_ms);
        for Due { tx, .. } in &due {
            let standing = self.standing(tx, now_ms);
            cluster.send(tx, standing, || true);
        }
    }

    /// Whether a node must not start yet. Once it has a seat, the others need it.
    fn must_wait(&self, node: usize) -> bool {
        let address = node_key(node).address();
        let has_seat = |state: &MemoryState| read::committee(state).seats_validator(&address);
        self.checker.counts().blocks < self.join_height && !self.checker.read(has_seat)
    }

    /// Honest nodes report the equivocation that their consensus engine found.
    fn report_equivocation(&mut self, cluster: &mut Cluster) {
        // Who runs twice by mistake is as honest.
        let is_honest =
            |node: usize| self.nodes[node].is_honest() || self.nodes[node].twice.is_some();
        for (node, running) in cluster.running() {
            while let Ok(evidence) = running.faults.try_recv() {
                if is_honest(node)
                    && let Err(violation) = self.evidence.add(node, evidence, is_honest)
                {
                    self.checker.report(violation);
                }
            }
        }
        let now_ms = cluster.now_ms();
        let reports = |state: &MemoryState| self.evidence.reports(state, self.chain, now_ms);
        for report in self.checker.read(reports) {
            self.send(cluster, report, 10);
        }
    }

    /// Now and then a peer of a validator that runs twice connects to the other process.
    fn divide(&mut self) {
        for spec in &self.nodes {
            if let Interfaces::Divided { peers, sides } = &spec.interfaces
                && self.rng.random_ratio(1, 20)
            {
                sides.flip(self.rng.random_range(0..peers.len()));
            }
        }
    }

    /// Stops all faults except the adversary: the network must make progress.
    async fn heal(&mut self, cluster: &mut Cluster, actors: &mut Actors) {
        cluster.heal().await;
        let height = self.checker.heights().into_iter().max().unwrap_or(0);
        let missing = self.join_height.saturating_sub(height);
        let timeout_ms = HEALED_TIMEOUT_MS + missing * JOIN_BLOCK_TIMEOUT_MS;
        let healed = height.max(self.join_height);
        let deadline_ms = cluster.now_ms() + timeout_ms;
        // A newcomer that starts only now is crashed again, most likely while it joins.
        let waits = self.must_wait(NEWCOMER);
        let mut steps_to_crash = waits.then(|| self.rng.random_range(1..40));
        loop {
            if cluster.is_running(NEWCOMER)
                && let Some(steps) = steps_to_crash
            {
                steps_to_crash = (steps > 1).then(|| steps - 1);
                if steps_to_crash.is_none() {
                    self.faults.crash(cluster, NEWCOMER, 300);
                }
            }
            self.step(cluster, actors).await;
            let heights = self.checker.heights();
            let mut honest = self.nodes.iter().filter(|spec| spec.is_honest());
            let all_progress = honest.all(|spec| heights[spec.node] >= healed + PROGRESS_BLOCKS);
            if all_progress || self.checker.violation().is_some() {
                return;
            }
            if cluster.now_ms() > deadline_ms {
                return self.checker.report(Violation::Halted {
                    healed,
                    seconds: timeout_ms / 1_000,
                    heights,
                });
            }
        }
    }
}

/// Whether a node that cannot start shows a bug. A failing disk is not a bug.
fn is_contradiction(error: &EngineError) -> bool {
    matches!(error, EngineError::StateMismatch { .. } | EngineError::MissingBlock { .. })
}
