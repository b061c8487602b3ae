//! One history from one seed: what goes wrong when, and what must hold in spite of it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{
    Manager as _,
    simulated::{self, Link, Network, Oracle},
};
use commonware_runtime::{
    Clock as _, Supervisor as _,
    deterministic::{self, Context, FaultConfig, PartialWriteMode, WriteConfig},
};
use commonware_utils::{NZU32, NZUsize, Probability, ordered::Set, probability};
use soma_engine::generic::{Deviation, message_bytes_max};
use soma_protocol::{Genesis, Hash, MemoryState, SecretKey, read};
use soma_store::History;

use crate::{
    Violation,
    actors::{BEGINNING_MS, Cast, NODES, VALIDATORS, genesis, node_secret},
    cheats::{Cheat, lies, planted_bug},
    check::Witness,
    dice::Dice,
    node::{Alive, Identity, is_contradiction, key_of, stuck},
    proofs::{Proofs, is_expelled},
    wire::{Faces, Noise, SharedNoise},
};

/// The step of a history, in milliseconds of its own time.
const STEP_MS: u64 = 50;
/// The node that cheats, if one does.
const CHEATING: usize = VALIDATORS - 1;
/// How long a healed network may take to go on, in milliseconds of its own time.
const PATIENCE_MS: u64 = 240_000;
/// How much longer for each block that the newcomer waits for.
const BLOCK_PATIENCE_MS: u64 = 6_000;
/// How many blocks every other node keeps.
const KEEP_BLOCKS: u64 = 96;
/// How many blocks there may be when the node without a seat comes.
const LATE: [u64; 4] = [0, 0, 10, 40];
/// How many blocks it must make then.
const PROOF_BLOCKS: u64 = 26;

/// What is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Decides everything.
    pub seed: u64,
    /// Plants a bug that the checks must find.
    pub bug: bool,
    /// The node without a seat comes once the others have made so many blocks; drawn if `None`.
    pub late: Option<u64>,
}

/// What happened, if nothing was violated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Final blocks.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Those of them that the rules accepted.
    pub accepted: u64,
    /// Nodes that crashed.
    pub crashes: u64,
    /// Nodes that stopped by themselves, as their disks failed.
    pub disk_failures: u64,
    /// Times at which the whole network lost power.
    pub power_losses: u64,
    /// Times at which a node took over the state of its peers.
    pub joins: u64,
    /// Peers that were not believed then.
    pub refused: u64,
    /// What the cheat did.
    pub cheat: Cheat,
    /// Whether the cheat was proved to have signed two histories, and has lost its seat for it.
    pub expelled: bool,
    /// A digest of all that happened: equal for equal seeds.
    pub fingerprint: String,
}

/// Plays a history.
///
/// # Errors
/// The first [`Violation`].
pub fn run(settings: Settings) -> Result<Report, Violation> {
    let genesis = genesis();
    let broken = |reason: String| Violation::Stuck { node: 0, reason };
    let witness = Witness::new(&genesis, NODES).map_err(|error| broken(error.to_string()))?;
    let mut dice = Dice::new(settings.seed, "history");
    let cheat = if settings.bug {
        Cheat::None
    } else {
        Cheat::drawn(&mut dice)
    };
    let identities = identities(&settings, &genesis, cheat, &witness, &mut dice);
    let identities = identities.map_err(|error| broken(error.to_string()))?;
    let mut story = Story {
        chain: genesis.chain_id(),
        witness: witness.clone(),
        identities,
        late: settings.late.unwrap_or_else(|| LATE[dice.index(4)]),
        dice,
        life: 0,
        crashes: 0,
        disk_failures: 0,
        proofs: Proofs::default(),
    };
    let start_time = UNIX_EPOCH + Duration::from_millis(BEGINNING_MS);
    let config = deterministic::Config::new()
        .with_seed(settings.seed)
        .with_start_time(start_time)
        .with_catch_panics(true);
    let mut runner = deterministic::Runner::new(config);
    let power_losses = story.dice.within(0..3);
    for _ in 0..power_losses {
        let (back, checkpoint) = runner.start_and_recover(|context| story.act(context, false));
        story = back;
        runner = deterministic::Runner::from(checkpoint);
    }
    let (story, checkpoint) = runner.start_and_recover(|context| story.act(context, true));
    if let Some(violation) = witness.violation() {
        return Err(violation);
    }
    let (blocks, transactions, accepted) = witness.counts();
    let (joins, refused) = witness.joins();
    Ok(Report {
        seed: settings.seed,
        blocks,
        transactions,
        accepted,
        crashes: story.crashes,
        disk_failures: story.disk_failures,
        power_losses,
        joins,
        refused,
        cheat,
        expelled: witness.read(|state| is_expelled(state, CHEATING)),
        fingerprint: checkpoint.auditor().state(),
    })
}

fn identities(
    settings: &Settings,
    genesis: &Genesis,
    cheat: Cheat,
    witness: &Witness,
    dice: &mut Dice,
) -> Result<Vec<Identity>, soma_store::StoreError> {
    let identity = |node: usize| {
        let cheats = node == CHEATING && cheat != Cheat::None;
        let deviation = match cheat {
            _ if settings.bug => Deviation::Bug(planted_bug()),
            Cheat::Lies if cheats => Deviation::Lies(lies(node)),
            Cheat::Forges if cheats => Deviation::Forges,
            _ => Deviation::None,
        };
        let others: Vec<_> = (0..NODES).filter(|other| *other != node).collect();
        let some = |which: &[usize]| which.iter().map(|at| key_of(others[*at])).collect();
        let faces = match cheat {
            Cheat::Equivocates if cheats => Faces {
                first: Some(some(&[0, 1, 3])),
                second: some(&[1, 2]),
            },
            Cheat::Withholds if cheats => Faces {
                first: Some(some(&[0, 2])),
                second: Vec::new(),
            },
            _ => Faces::honest(),
        };
        Ok(Identity {
            node,
            genesis: genesis.clone(),
            deviation,
            keep_blocks: node.is_multiple_of(2).then_some(KEEP_BLOCKS),
            faces,
            skew_ms: i64::try_from(dice.within(0..400)).unwrap_or(0) - 200,
            witness: (!cheats).then(|| witness.clone()),
            histories: [
                Arc::new(History::in_memory()?),
                Arc::new(History::in_memory()?),
            ],
        })
    };
    (0..NODES).map(identity).collect()
}

/// What goes on from one loss of power to the next.
struct Story {
    chain: Hash,
    witness: Witness,
    identities: Vec<Identity>,
    dice: Dice,
    /// How many blocks there are when the node without a seat comes.
    late: u64,
    life: u64,
    crashes: u64,
    disk_failures: u64,
    proofs: Proofs,
}

/// A node in its place: up, or down until a time.
enum Seat {
    Up(Alive),
    Down { until_ms: u64 },
}

/// The network between two losses of power.
struct Stage {
    context: Context,
    oracle: Oracle<PublicKey, Context>,
    noise: SharedNoise,
    seats: Vec<Seat>,
    /// When the present trouble of the network is over, and the one of the disks.
    healed_ms: u64,
    disks_ms: u64,
    wires: Wires,
}

/// How good the links are in this act.
#[derive(Clone, Copy)]
struct Wires {
    latency_ms: u64,
    lost_percent: u64,
}

impl Wires {
    const GOOD: Self = Self {
        latency_ms: 5,
        lost_percent: 0,
    };

    fn link(self) -> Link {
        Link {
            latency: Duration::from_millis(self.latency_ms),
            jitter: Duration::from_millis(self.latency_ms / 3),
            success_rate: rate(100 - self.lost_percent, 100),
        }
    }
}

/// A probability of `part` in `whole`.
fn rate(part: u64, whole: u64) -> Probability {
    Probability::new(part, whole).unwrap_or(probability!(1.0))
}

fn now_ms(context: &Context) -> u64 {
    soma_os::clock::unix_ms(context.current())
}

impl Story {
    /// One stretch of power. The last one ends healed.
    async fn act(mut self, context: Context, last: bool) -> Self {
        let mut stage = self.set(context).await;
        let mut cast = Cast::new(self.chain, Dice::new(self.dice.roll(), "cast"));
        let steps = self.dice.within(60..240);
        for _ in 0..steps {
            if self.witness.violation().is_some() {
                return self;
            }
            self.trouble(&mut stage).await;
            self.mend(&mut stage).await;
            self.crowd(&mut stage, &mut cast);
            stage.context.sleep(Duration::from_millis(STEP_MS)).await;
        }
        if last {
            self.heal(&mut stage, &mut cast).await;
        }
        self
    }

    async fn set(&mut self, context: Context) -> Stage {
        let config = simulated::Config {
            max_size: message_bytes_max(NZU32!(8)),
            max_peers_per_set: NZUsize!(8),
            disconnect_on_block: true,
            tracked_peer_sets: NZUsize!(1),
        };
        let (network, oracle) = Network::new(context.child("network"), config);
        network.start();
        let everybody = Set::from_iter_dedup((0..NODES).map(key_of));
        oracle.manager().track(0, everybody);
        let wires = Wires {
            latency_ms: self.dice.within(2..60),
            lost_percent: self.dice.within(0..12),
        };
        let noise: SharedNoise = Arc::new(Mutex::new(Noise {
            doubled: self.dice.within(0..100),
            overtaken: self.dice.within(0..100),
        }));
        for node in 0..NODES {
            self.witness.stopped(node);
        }
        let mut stage = Stage {
            oracle,
            noise,
            seats: (0..NODES).map(|_| Seat::Down { until_ms: 0 }).collect(),
            context,
            healed_ms: 0,
            disks_ms: 0,
            wires,
        };
        stage.join(|_, _| true).await;
        stage
    }

    /// Whether it is too early for this node: once it has a seat, it is needed.
    fn is_expected(&self, node: usize) -> bool {
        let address = SecretKey::from_bytes(&node_secret(node)).address();
        let is_needed = |state: &MemoryState| read::committee(state).seats_validator(&address);
        self.witness.counts().0 < self.late && !self.witness.read(is_needed)
    }

    /// Draws what goes wrong next.
    async fn trouble(&mut self, stage: &mut Stage) {
        let now = now_ms(&stage.context);
        if self.dice.chance(25) {
            let node = self.dice.index(NODES);
            let until_ms = now + self.dice.within(150..3_000);
            self.crash(stage, node, until_ms);
        }
        if now >= stage.healed_ms && self.dice.chance(20) {
            stage.healed_ms = now + self.dice.within(500..4_000);
            let apart = self.dice.roll();
            stage
                .join(|a, b| (apart >> a) & 1 == (apart >> b) & 1)
                .await;
        }
        if now >= stage.disks_ms && self.dice.chance(12) {
            stage.disks_ms = now + self.dice.within(50..400);
            stage.fail_disks(self.dice.within(100..2_000));
        }
    }

    fn crash(&mut self, stage: &mut Stage, node: usize, until_ms: u64) {
        if let Seat::Up(alive) = &stage.seats[node] {
            alive.task.abort();
            self.witness.stopped(node);
            self.crashes += 1;
            stage.seats[node] = Seat::Down { until_ms };
        }
    }

    /// Ends what has lasted long enough, and starts who has been down long enough.
    async fn mend(&mut self, stage: &mut Stage) {
        let now = now_ms(&stage.context);
        if stage.healed_ms != 0 && now >= stage.healed_ms {
            stage.healed_ms = 0;
            stage.join(|_, _| true).await;
        }
        if stage.disks_ms != 0 && now >= stage.disks_ms {
            stage.disks_ms = 0;
            stage.mend_disks();
        }
        for node in 0..NODES {
            match &mut stage.seats[node] {
                Seat::Up(alive) => {
                    let ended = tokio::select! {
                        biased;
                        ended = &mut alive.task => Some(ended),
                        () = std::future::ready(()) => None,
                    };
                    if let Some(ended) = ended {
                        if let Ok(Err(error)) = ended
                            && is_contradiction(&error)
                        {
                            self.witness.accuse(stuck(node, &error));
                        }
                        self.disk_failures += 1;
                        self.witness.stopped(node);
                        let until_ms = now + 500;
                        stage.seats[node] = Seat::Down { until_ms };
                    }
                }
                Seat::Down { until_ms } if now >= *until_ms && !self.is_expected(node) => {
                    self.life += 1;
                    let identity = &self.identities[node];
                    let alive =
                        identity.start(&stage.context, &stage.oracle, &stage.noise, self.life);
                    stage.seats[node] = Seat::Up(alive.await);
                }
                Seat::Down { .. } => {}
            }
        }
    }

    /// People send what they have to say to some of the nodes.
    fn crowd(&mut self, stage: &mut Stage, cast: &mut Cast) {
        let now = now_ms(&stage.context);
        self.accuse(stage, now);
        for _ in 0..self.dice.within(0..4) {
            let transaction = self.witness.read(|state| cast.act(state, now));
            let Ok(transaction) = transaction.verify(&self.chain) else {
                continue;
            };
            for seat in &stage.seats {
                if let Seat::Up(alive) = seat
                    && self.dice.chance(700)
                {
                    alive.queue.add(transaction.clone());
                    alive.work.notify_one();
                }
            }
        }
    }

    /// Honest nodes report whom their consensus caught.
    fn accuse(&mut self, stage: &mut Stage, now: u64) {
        let is_honest = |node: usize| self.identities[node].witness.is_some();
        for (node, seat) in stage.seats.iter_mut().enumerate() {
            let Seat::Up(alive) = seat else { continue };
            while let Ok(evidence) = alive.faults.try_recv() {
                if is_honest(node)
                    && let Err(violation) = self.proofs.take(node, evidence, is_honest)
                {
                    self.witness.accuse(violation);
                }
            }
        }
        let reports = |state: &MemoryState| self.proofs.reports(state, self.chain, now);
        for report in self.witness.read(reports) {
            let Ok(report) = report.verify(&self.chain) else {
                continue;
            };
            for seat in &stage.seats {
                if let Seat::Up(alive) = seat {
                    alive.queue.add(report.clone());
                    alive.work.notify_one();
                }
            }
        }
    }

    /// Everything is good again, but for the cheat: the network must go on.
    async fn heal(&mut self, stage: &mut Stage, cast: &mut Cast) {
        stage.mend_disks();
        stage.disks_ms = 0;
        stage.healed_ms = 0;
        stage.wires = Wires::GOOD;
        *stage.noise.lock().unwrap_or_else(PoisonError::into_inner) = Noise::default();
        stage.join(|_, _| true).await;
        let honest: Vec<_> = self
            .identities
            .iter()
            .map(|one| one.witness.is_some())
            .collect();
        let healed = self.witness.heights().into_iter().max().unwrap_or(0);
        let patience_ms = PATIENCE_MS + self.late.saturating_sub(healed) * BLOCK_PATIENCE_MS;
        let healed = healed.max(self.late);
        let began = now_ms(&stage.context);
        // Who comes now loses power once more, most likely while it joins.
        let newcomer = NODES - 1;
        let mut stumbles = self.is_expected(newcomer).then(|| self.dice.within(1..40));
        loop {
            if let Some(steps) = &mut stumbles
                && matches!(stage.seats[newcomer], Seat::Up(_))
            {
                *steps -= 1;
                if *steps == 0 {
                    stumbles = None;
                    let until_ms = now_ms(&stage.context) + 300;
                    self.crash(stage, newcomer, until_ms);
                }
            }
            self.mend(stage).await;
            self.crowd(stage, cast);
            stage.context.sleep(Duration::from_millis(STEP_MS)).await;
            let heights = self.witness.heights();
            let all = |goal| {
                heights
                    .iter()
                    .zip(&honest)
                    .all(|(at, honest)| !honest || *at >= goal)
            };
            if all(healed + PROOF_BLOCKS) || self.witness.violation().is_some() {
                return;
            }
            if now_ms(&stage.context) > began + patience_ms {
                return self.witness.accuse(Violation::Halted {
                    healed,
                    seconds: patience_ms / 1_000,
                    heights,
                });
            }
        }
    }
}

impl Stage {
    /// Joins those pairs of nodes that `together` says, and cuts all others.
    async fn join(&mut self, together: impl Fn(usize, usize) -> bool) {
        for from in 0..NODES {
            for to in (0..NODES).filter(|to| *to != from) {
                let (a, b) = (key_of(from), key_of(to));
                // Nothing was there, or it is made anew.
                let _ = self.oracle.remove_link(a.clone(), b.clone()).await;
                if together(from, to) {
                    let _ = self.oracle.add_link(a, b, self.wires.link()).await;
                }
            }
        }
    }

    /// From now on one in `odds` operations of all disks fails.
    fn fail_disks(&self, odds: u64) {
        let faults = self.context.storage_fault_config();
        *faults.write() = FaultConfig::default()
            .sync(rate(1, odds))
            .write(WriteConfig {
                failure_rate: rate(1, odds),
                retention_rate: rate(1, 2),
                mode: PartialWriteMode::Prefix,
            });
    }

    /// Disks work; what was written and not synced when the power goes is kept in part.
    fn mend_disks(&self) {
        let faults = self.context.storage_fault_config();
        *faults.write() = FaultConfig::default().write(WriteConfig {
            failure_rate: probability!(0.0),
            retention_rate: rate(1, 2),
            mode: PartialWriteMode::Prefix,
        });
    }
}
