//! Checks every block that an honest node finalizes. It executes the blocks itself, so it knows
//! what the state must be, but it never tells a node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use soma_engine::{FinalizedBlock, Joined, Sink};
use soma_protocol::{
    Address, BlockInfo, Genesis, Hash, MemoryState, Ruleset, invariants, verify_batch,
};
use soma_store::State;

use crate::honest::Due;
use crate::offers::Offers;
use crate::promises::{Executed, Promises};
use crate::{Violation, mempool::Mempool};

/// What has happened so far, over all honest nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Finalized blocks.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Those of them that the rules accepted.
    pub accepted: u64,
    /// Nodes that have joined by state sync.
    pub joins: u64,
    /// Peers whose state was refused during a join.
    pub refused: u64,
}

struct Observed {
    chain: Hash,
    ruleset: Ruleset,
    promises: Promises,
    offers: Offers,
    digests: BTreeMap<u64, Hash>,
    /// The result of executing all `counts.blocks` blocks.
    expected: MemoryState,
    /// For each node, the height of the last block that it finalized.
    heights: Vec<u64>,
    states: Vec<Option<Arc<State>>>,
    counts: Counts,
    violation: Option<Violation>,
}

/// Observes all honest nodes. Clones share what they observe.
#[derive(Clone)]
pub struct Checker(Arc<Mutex<Observed>>);

impl std::fmt::Debug for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checker").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Checker {
    /// The checker of a network of `nodes` nodes that follow these rules. `honest` are the
    /// accounts of those whose validators no attacker has.
    ///
    /// # Errors
    /// If the genesis is invalid.
    pub fn new(
        genesis: &Genesis,
        nodes: usize,
        ruleset: Ruleset,
        honest: BTreeSet<Address>,
    ) -> Result<Self, soma_protocol::Error> {
        let mut expected = MemoryState::default();
        expected.apply(&genesis.state()?);
        Ok(Self(Arc::new(Mutex::new(Observed {
            chain: genesis.chain_id(),
            ruleset,
            promises: Promises::new(ruleset),
            offers: Offers::new(honest),
            digests: BTreeMap::new(),
            expected,
            heights: vec![0; nodes],
            states: (0..nodes).map(|_| None).collect(),
            counts: Counts::default(),
            violation: None,
        }))))
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first violation.
    pub fn violation(&self) -> Option<Violation> {
        self.observed().violation.clone()
    }

    /// Records a violation, unless there was one before.
    pub fn report(&self, violation: Violation) {
        self.observed().violation.get_or_insert(violation);
    }

    /// For each node, the height of the last block that it finalized.
    pub fn heights(&self) -> Vec<u64> {
        self.observed().heights.clone()
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.observed().counts
    }

    /// Tells what honest people offer to all nodes now.
    pub fn offer(&self, due: &[Due], now_ms: u64) {
        self.observed().offers.replace(due, now_ms);
    }

    /// Reads the state after the last finalized block.
    pub fn read<T>(&self, query: impl FnOnce(&MemoryState) -> T) -> T {
        query(&self.observed().expected)
    }

    /// Called when a node has started: it must have every block that it had finalized.
    pub fn started(&self, node: usize, state: Arc<State>) {
        let found = state.tip().height;
        let mut observed = self.observed();
        let reported = observed.heights[node];
        observed.states[node] = Some(state);
        if found < reported {
            observed.violation.get_or_insert(Violation::Lost { node, reported, found });
        }
    }

    /// Called when a node has stopped.
    pub fn stopped(&self, node: usize) {
        self.observed().states[node] = None;
    }
}

impl Observed {
    fn check(&mut self, node: usize, block: &FinalizedBlock) -> Result<(), Violation> {
        let height = block.height;
        let expected = *self.digests.entry(height).or_insert(block.digest);
        if expected != block.digest {
            return Err(Violation::Fork {
                node,
                height,
                expected: expected.to_string(),
                found: block.digest.to_string(),
            });
        }
        let from = self.heights[node];
        if height > from + 1 {
            let to = height;
            return Err(Violation::Gap { node, from, to });
        }
        self.heights[node] = from.max(height);
        if height == self.counts.blocks + 1 {
            self.execute(node, block)?;
        }
        let Some(state) = &self.states[node] else {
            return Ok(());
        };
        state.read(|memory, tip| {
            let height = tip.height;
            invariants::check(memory).map_err(|violation| Violation::State {
                node,
                height,
                reason: violation.to_string(),
            })?;
            if height == self.counts.blocks && *memory != self.expected {
                return Err(Violation::Diverged { node, height });
            }
            Ok(())
        })
    }

    /// Executes the next block and compares the result.
    fn execute(&mut self, node: usize, block: &FinalizedBlock) -> Result<(), Violation> {
        let height = block.height;
        let transactions = verify_batch(block.transactions.clone(), &self.chain)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Violation::State {
                node,
                height,
                reason: format!("a finalized transaction is forged: {error}"),
            })?;
        let info = BlockInfo { height, timestamp_ms: block.timestamp_ms, proposer: block.proposer };
        let outcome = self
            .ruleset
            .execute(&self.expected, &info, &transactions)
            .map_err(|invalid| Violation::State { node, height, reason: invalid.to_string() })?;
        let (before, transactions) = (&self.expected, transactions.as_slice());
        let executed = Executed { before, info: &info, transactions, outcome: &outcome };
        let promised = self
            .promises
            .check(executed)
            .and_then(|()| self.offers.observe(&info, transactions, &outcome));
        self.expected.apply(&outcome.changes);
        let accepted = outcome.receipts.iter().filter(|receipt| receipt.result.is_ok());
        self.counts.blocks = height;
        self.counts.transactions += block.receipts.len() as u64;
        self.counts.accepted += accepted.count() as u64;
        promised?;
        if (&outcome.receipts, &outcome.events) == (&block.receipts, &block.events) {
            Ok(())
        } else {
            Err(Violation::Diverged { node, height })
        }
    }
}

/// Passes what an honest node finalizes to the checker.
#[derive(Debug)]
pub struct CheckedSink {
    /// The node.
    pub node: usize,
    /// Checks it.
    pub checker: Checker,
    /// The node's pool.
    pub mempool: Arc<Mempool>,
}

impl Sink for CheckedSink {
    fn finalized(&self, block: FinalizedBlock) {
        self.mempool.remove(&block.transactions, block.timestamp_ms);
        let mut observed = self.checker.observed();
        if let Err(violation) = observed.check(self.node, &block) {
            observed.violation.get_or_insert(violation);
        }
    }

    fn joined(&self, joined: &Joined) {
        let mut observed = self.checker.observed();
        observed.counts.joins += 1;
        observed.counts.refused += joined.refused;
        let (node, height) = (self.node, joined.height);
        observed.heights[node] = height.max(observed.heights[node]);
        if observed.digests.get(&height) != Some(&joined.digest) {
            let diverged = Violation::Diverged { node, height };
            observed.violation.get_or_insert(diverged);
        }
    }
}

/// Ignores what the adversary finalizes.
#[derive(Debug)]
pub struct UncheckedSink(pub Arc<Mempool>);

impl Sink for UncheckedSink {
    fn finalized(&self, block: FinalizedBlock) {
        self.0.remove(&block.transactions, block.timestamp_ms);
    }
}
