//! A run: faults come and go, and all nodes are observed. It ends with the first violation, or when
//! all faults are healed and everything was compared.

use std::collections::BTreeSet;
use std::time::Duration;

use super::checker::{Checker, Violation, missed};
use super::fault::{Budget, Fault, Faults, Planned};
use super::inject::{heal, inject};
use super::journal::{Entry, Journal};
use super::load::Load;
use super::network::{EPOCH, NODES, Network, VALIDATORS};
use crate::hosts::host::Shaper;
use crate::json::Json;

/// Time between two looks at all nodes.
const LOOK: Duration = Duration::from_millis(500);

/// Time between two comparisons of blocks and validators.
const COMPARE: Duration = Duration::from_secs(10);

/// A longer pause between two looks is this machine's: faults lasted longer than they should, and
/// what the nodes did meanwhile proves nothing.
const ASLEEP_MAX: Duration = Duration::from_secs(45);

/// How long the network may stand still while it must survive.
const STILL_MAX: Duration = Duration::from_secs(90);

/// How long after the end of its fault a node may take to be in step.
const IN_STEP_MAX: Duration = Duration::from_mins(4);

/// How many blocks behind the highest a node in step may be: nodes are not asked at one moment.
const BEHIND_MAX: u64 = 5;

/// Payments from before a fault that are looked up after it; at the end it is all of them.
const LOOKED_UP: usize = 20;

/// Faults that are drawn ahead: if one has to wait, another does not.
const WAITING: usize = 6;

/// Memory of a node's process.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// Blocks on a page of the final comparison.
const PAGE: u64 = 500;

/// A fault that holds, or whose node is not in step yet.
#[derive(Debug)]
struct Active {
    planned: Planned,
    began: Duration,
    healed: Option<Duration>,
    /// The highest block of the network when it was healed.
    height: u64,
    /// Number of payments when it began.
    payments: usize,
    /// Codes of what the node said was wrong.
    said: BTreeSet<String>,
}

/// A validator that has to show that it meets its duties again.
#[derive(Debug)]
struct Watched {
    host: usize,
    /// The epoch in which it was in step again.
    epoch: u64,
    /// The epoch at whose beginning it must have revealed its last beacon.
    due: u64,
}

/// What one run needs.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) network: Network,
    pub(crate) journal: Journal,
    pub(crate) load: Load,
    pub(crate) shaper: Shaper,
    checker: Checker,
    faults: Faults,
    budget: Budget,
    active: Vec<Active>,
    watched: Vec<Watched>,
    /// Drawn, but not begun: the first that the network must survive comes next.
    waiting: Vec<Planned>,
    /// When the last fault began, when blocks were compared last, and when the network last grew.
    last_fault: Duration,
    compared: Duration,
    grew: Duration,
    /// The last look.
    looked: Duration,
    /// When each node was last in step or hit by a fault.
    kept_step: [Duration; NODES],
    /// The most memory of a process, in bytes.
    memory_bytes: u64,
    counts: [u64; 2],
}

type Step<T = ()> = Result<T, Violation>;

/// What a status says, in a line.
fn summary(status: &Json) -> String {
    let codes = status.get("troubles").list().iter().map(|trouble| trouble.get("code").text());
    let codes = codes.collect::<Vec<_>>().join(", ");
    let (height, peers) = (status.get("height").text(), status.get("peers").text());
    format!("block {height}, {peers} peers, {codes}")
}

/// A failure of this machine, not of the network: it ends the run as well.
fn failed(error: String) -> Violation {
    Violation::new("", error)
}

impl Run {
    pub(crate) fn new(
        network: Network,
        journal: Journal,
        load: Load,
        shaper: Shaper,
        mut faults: Faults,
    ) -> Self {
        let waiting = (0..WAITING).map(|_| faults.draw()).collect();
        let now = journal.now();
        Self {
            network,
            journal,
            load,
            shaper,
            checker: Checker::default(),
            faults,
            budget: Budget::new(VALIDATORS),
            active: Vec::new(),
            watched: Vec::new(),
            waiting,
            last_fault: now,
            compared: now,
            grew: now,
            looked: now,
            kept_step: [now; NODES],
            memory_bytes: 0,
            counts: [0; 2],
        }
    }

    /// Faults for `lasts`, then everything heals and is compared.
    pub(crate) fn all(&mut self, lasts: Duration) -> Step {
        let end = self.journal.now() + lasts;
        while self.journal.now() < end {
            self.step()?;
            self.begin_fault()?;
        }
        self.journal.event("healing", "no more faults; waiting for all nodes and their duties");
        let patience = self.journal.now() + IN_STEP_MAX + 4 * EPOCH;
        while !self.active.is_empty() || !self.watched.is_empty() {
            self.step()?;
            if self.journal.now() > patience {
                return Err(Violation::new("", "not all nodes meet their duties again"));
            }
        }
        self.load.end();
        self.finish()
    }

    /// One look at all nodes.
    fn step(&mut self) -> Step {
        std::thread::sleep(LOOK);
        let asleep = self.journal.now().saturating_sub(self.looked);
        if asleep > ASLEEP_MAX {
            let what = format!("this machine did not run the test for {} s", asleep.as_secs());
            return Err(failed(what + ": run it again"));
        }
        self.looked = self.journal.now();
        let before = self.checker.height();
        let statuses = self.look()?;
        for (node, hash) in self.load.reported() {
            self.checker.paid(&self.network.nodes[node].host.name, &hash);
        }
        if self.checker.height() > before {
            self.grew = self.journal.now();
        } else if self.journal.now() > self.grew + STILL_MAX {
            let what = format!("no block after {before} for {} s", STILL_MAX.as_secs());
            return Err(Violation::new("", what));
        }
        self.end_faults(&statuses)?;
        self.keep_step(&statuses)?;
        if self.journal.now() > self.compared + COMPARE {
            self.compared = self.journal.now();
            self.compare(&statuses)?;
        }
        Ok(())
    }

    /// The status of every node that can answer, and whether each process runs that should.
    fn look(&mut self) -> Step<Vec<Option<Json>>> {
        let silent: BTreeSet<usize> = self
            .active
            .iter()
            .filter(|active| active.is_silent())
            .map(|active| active.planned.host)
            .collect();
        let nodes = &self.network.nodes;
        let statuses: Vec<Option<Json>> = std::thread::scope(|scope| {
            let ask = |(host, node)| {
                let silent = silent.contains(&host);
                scope.spawn(move || {
                    let node: &crate::hosts::node::Node = node;
                    if silent { None } else { node.get("/v1/status").ok() }
                })
            };
            let asked: Vec<_> = nodes.iter().enumerate().map(ask).collect();
            asked.into_iter().map(|thread| thread.join().ok().flatten()).collect()
        });
        for (host, node) in self.network.nodes.iter_mut().enumerate() {
            if let Some(status) = &statuses[host] {
                self.checker.status(&node.host.name, status)?;
            }
            self.memory_bytes = self.memory_bytes.max(node.memory_bytes());
            if self.memory_bytes > MEMORY_BYTES_MAX {
                return Err(Violation::new(&node.host.name, "takes more than 1 GiB of memory"));
            }
            if let Some(ended) = node.ended() {
                let fault = self.active.iter().find(|active| active.planned.host == host);
                if !fault.is_some_and(Active::may_end) {
                    let what = format!("its process ended by itself ({ended})");
                    return Err(Violation::new(&node.host.name, what));
                }
            }
        }
        Ok(statuses)
    }

    /// Begins the next fault if it is time and the network must survive it.
    fn begin_fault(&mut self) -> Step {
        let now = self.journal.now();
        let since = now.saturating_sub(self.last_fault);
        let budget = &mut self.budget;
        let mut waiting = self.waiting.iter();
        let next = waiting.position(|next| since >= next.after && budget.hit(next.host));
        let Some(next) = next else { return Ok(()) };
        let mut planned = self.waiting.remove(next);
        self.waiting.push(self.faults.draw());
        let node = &mut self.network.nodes[planned.host];
        eprintln!("{:8.1} s  {}  {} ..", now.as_secs_f64(), node.host.name, planned.fault);
        planned.fault = inject(node, planned.fault, self.shaper).map_err(failed)?;
        if matches!(planned.fault, Fault::Restore { .. }) {
            self.checker.restored(&node.host.name);
        }
        self.active.push(Active {
            planned,
            began: now,
            healed: None,
            height: 0,
            payments: self.checker.payments(),
            said: BTreeSet::new(),
        });
        self.counts[usize::from(planned.host >= VALIDATORS)] += 1;
        self.last_fault = now;
        Ok(())
    }

    /// Heals what is due, and sees who is in step again.
    fn end_faults(&mut self, statuses: &[Option<Json>]) -> Step {
        let now = self.journal.now();
        for mut active in std::mem::take(&mut self.active) {
            let host = active.planned.host;
            let node = &mut self.network.nodes[host];
            if let Some(status) = &statuses[host] {
                let codes = status.get("troubles").list().iter();
                active.said.extend(codes.map(|trouble| trouble.get("code").text().to_owned()));
            }
            let Some(healed) = active.healed else {
                if now >= active.began + active.planned.lasts {
                    heal(node, active.planned.fault).map_err(failed)?;
                    active.healed = Some(now);
                    active.height = self.checker.height();
                }
                self.active.push(active);
                continue;
            };
            if let Some(status) = &statuses[host]
                && self.is_in_step(status, active.height)
            {
                self.in_step(&active, healed, status)?;
            } else if now > healed + IN_STEP_MAX {
                let said = statuses[host].as_ref().map_or_else(|| "nothing".to_owned(), summary);
                let what = format!(
                    "{} s after the fault \"{}\" it is not in step; the network is at block {}, \
                     the node says {said}",
                    IN_STEP_MAX.as_secs(),
                    active.planned.fault,
                    self.checker.height(),
                );
                return Err(Violation::new(&self.network.nodes[host].host.name, what));
            } else {
                self.active.push(active);
            }
        }
        Ok(())
    }

    /// Nodes that no fault hits stay in step, also those that were in step again a moment ago.
    fn keep_step(&mut self, statuses: &[Option<Json>]) -> Step {
        let now = self.journal.now();
        for (host, status) in statuses.iter().enumerate() {
            let is_hit = self.active.iter().any(|active| active.planned.host == host);
            if is_hit || status.as_ref().is_some_and(|status| self.is_in_step(status, 0)) {
                self.kept_step[host] = now;
            } else if now > self.kept_step[host] + STILL_MAX {
                let said = status.as_ref().map_or_else(|| "nothing".to_owned(), summary);
                let (seconds, height) = (STILL_MAX.as_secs(), self.checker.height());
                let what = format!(
                    "is not in step for {seconds} s without a fault; the network is at block \
                     {height}, the node says {said}"
                );
                return Err(Violation::new(&self.network.nodes[host].host.name, what));
            }
        }
        Ok(())
    }

    /// Whether a node is ready, has block `height`, and is about as high as the highest.
    fn is_in_step(&self, status: &Json, height: u64) -> bool {
        let own = status.get("height").integer().unwrap_or(0);
        status.get("ready").is_true() && own >= height && own + BEHIND_MAX >= self.checker.height()
    }

    /// A node is in step again: it has what was finalized before and during its fault.
    fn in_step(&mut self, active: &Active, healed: Duration, status: &Json) -> Step {
        let host = active.planned.host;
        let name = self.network.nodes[host].host.name.clone();
        let mut said = String::new();
        for code in &active.said {
            said += if said.is_empty() { "said " } else { ", " };
            said += code;
        }
        let entry = Entry {
            host: &name,
            fault: active.planned.fault.to_string(),
            at: active.began,
            lasted: healed.saturating_sub(active.began),
            in_step_after: self.journal.now().saturating_sub(healed),
            said,
        };
        self.journal.fault(&entry);
        self.budget.in_step(host);
        if host < VALIDATORS {
            let clock = status.get("clock");
            let epoch = clock.get("epoch").integer().unwrap_or(0);
            // A beacon is committed an epoch before it is revealed: who comes back at the very end
            // of an epoch cannot commit in it anymore.
            let is_late = clock.get("phase").text() == "attest";
            self.watched.push(Watched { host, epoch, due: epoch + 2 + u64::from(is_late) });
        }
        self.look_up(host, active.payments.saturating_sub(LOOKED_UP), active.height, status)
    }

    /// Looks up payments on a node that has block `height`, from the `from`th on.
    fn look_up(&mut self, host: usize, from: usize, height: u64, status: &Json) -> Step {
        let node = &self.network.nodes[host];
        let history_from = status.get("history_from").integer().unwrap_or(1);
        for (offset, payment) in self.checker.payments_from(from).into_iter().enumerate() {
            let is_held = match payment.height {
                Some(at) => history_from <= at && at <= height,
                None => payment.node == node.host.name,
            };
            if is_held {
                let answer = node.get(&format!("/v1/transactions/{}", payment.hash));
                let answer = answer.as_ref().map_err(String::as_str);
                self.checker.payment(&node.host.name, from + offset, answer)?;
            }
        }
        Ok(())
    }

    /// Compares the last blocks of all nodes that answer, and looks at the validators.
    fn compare(&mut self, statuses: &[Option<Json>]) -> Step {
        for (host, status) in statuses.iter().enumerate() {
            let node = &self.network.nodes[host];
            // Between the two questions a fault of its own may have begun to show.
            let (Some(status), Ok(page)) = (status, node.get("/v1/blocks?limit=100")) else {
                continue;
            };
            self.checker.page(&node.host.name, &page)?;
            let Ok(validators) = node.get("/v1/validators") else { continue };
            if self.is_in_step(status, 0) {
                self.checker.validators(&node.host.name, &validators)?;
                self.see_duties(status, &validators)?;
            }
        }
        Ok(())
    }

    /// Which of the watched validators meet their duties again.
    fn see_duties(&mut self, status: &Json, validators: &Json) -> Step {
        let epoch = status.get("clock").get("epoch").integer().unwrap_or(0);
        for watched in std::mem::take(&mut self.watched) {
            let (host, address) = (watched.host, &self.network.addresses[watched.host]);
            let Some(missed) = missed(validators, address) else {
                return Err(failed(format!("{address} is not among the validators")));
            };
            if epoch > watched.epoch && missed == 0 {
                self.budget.dutiful(host);
            } else if epoch >= watched.due && !self.active.iter().any(|at| at.planned.host == host)
            {
                let what = format!(
                    "in step since epoch {}, and in epoch {epoch} it has missed {missed} beacons",
                    watched.epoch
                );
                return Err(Violation::new(&self.network.nodes[host].host.name, what));
            } else {
                self.watched.push(watched);
            }
        }
        Ok(())
    }

    /// All nodes have everything: every block and every payment on each of them, and their folders
    /// are intact.
    fn finish(&mut self) -> Step {
        for (node, hash) in self.load.reported() {
            self.checker.paid(&self.network.nodes[node].host.name, &hash);
        }
        let statuses = self.everyone_at(self.checker.height())?;
        let height = self.checker.height();
        // First each node's own payments, which tells the block of every one.
        for _ in 0..2 {
            for (host, status) in statuses.iter().enumerate() {
                self.look_up(host, 0, height, status)?;
            }
        }
        for host in 0..NODES {
            self.compare_all(host)?;
        }
        self.sum_up();
        for node in &mut self.network.nodes {
            node.end().map_err(|error| Violation::new(&node.host.name, error))?;
            let dir = node.dir.to_string_lossy();
            let verified = node.soma(&["node", "verify-store", "--dir", &dir]);
            verified.map_err(|error| Violation::new(&node.host.name, error))?;
        }
        Ok(())
    }

    /// Waits until all nodes are in step and have block `height`; returns what they say.
    fn everyone_at(&mut self, height: u64) -> Step<Vec<Json>> {
        let patience = self.journal.now() + IN_STEP_MAX;
        loop {
            let statuses = self.look()?;
            let all: Vec<Json> = statuses
                .into_iter()
                .flatten()
                .filter(|status| self.is_in_step(status, height))
                .collect();
            if all.len() == NODES {
                return Ok(all);
            }
            if self.journal.now() > patience {
                return Err(failed(format!("only {} nodes have block {height}", all.len())));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Compares every block of a node, page by page.
    fn compare_all(&mut self, host: usize) -> Step {
        let node = &self.network.nodes[host];
        let mut path = format!("/v1/blocks?limit={PAGE}");
        loop {
            let page = node.get(&path).map_err(|error| Violation::new(&node.host.name, error))?;
            self.checker.page(&node.host.name, &page)?;
            let next = page.get("next").text();
            if next.is_empty() {
                return Ok(());
            }
            path = format!("/v1/blocks?limit={PAGE}&after={next}");
        }
    }

    fn sum_up(&mut self) {
        let disk = self.network.nodes.iter().map(|node| {
            let said = crate::hosts::words(&format!("du -sm {}", node.dir.display()));
            let mib = said.unwrap_or_default();
            mib.split('\t').next().and_then(|mib| mib.parse::<u64>().ok()).unwrap_or(0)
        });
        let disk = disk.max().unwrap_or(0);
        let [validators, followers] = self.counts;
        let what = format!(
            "{validators} faults of validators and {followers} of followers; {} blocks and {} \
             payments are the same on all nodes, {} payments were not answered in time; at most \
             {} MiB of memory and {disk} MiB of disk",
            self.checker.blocks(),
            self.checker.payments(),
            self.load.unanswered(),
            self.memory_bytes >> 20,
        );
        self.journal.event("sum", &what);
    }
}

impl Active {
    /// Whether asking the node is in vain.
    fn is_silent(&self) -> bool {
        let fault = self.planned.fault;
        let silent =
            matches!(fault, Fault::Cut | Fault::Pause | Fault::Kill | Fault::Restore { .. });
        silent && self.healed.is_none()
    }

    /// Whether the node may end by itself: where the disk is full.
    fn may_end(&self) -> bool {
        self.planned.fault == Fault::FullDisk && self.healed.is_none()
    }
}
