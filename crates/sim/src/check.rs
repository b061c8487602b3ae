//! Looks at every block that any honest node calls final. It executes the blocks itself, so it
//! knows what the state must be; it never helps a node.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use soma_engine::{FinalizedBlock, Joined, Sink};
use soma_protocol::{BlockInfo, Genesis, Hash, MemoryState, execute, invariants, verify_batch};
use soma_store::State;

use crate::{Violation, actors::Queue};

struct Known {
    chain: Hash,
    digests: BTreeMap<u64, Hash>,
    /// What the blocks up to `height` make of genesis.
    expected: MemoryState,
    height: u64,
    /// For each node, the last block that it called final.
    reported: Vec<u64>,
    states: Vec<Option<Arc<State>>>,
    transactions: u64,
    accepted: u64,
    joins: u64,
    refused: u64,
    violation: Option<Violation>,
}

/// Sees all honest nodes. Cloning is cheap.
#[derive(Clone)]
pub struct Witness(Arc<Mutex<Known>>);

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witness")
            .field("height", &self.known().height)
            .finish_non_exhaustive()
    }
}

impl Witness {
    /// A witness of a network of so many nodes.
    ///
    /// # Errors
    /// When the genesis is none.
    pub fn new(genesis: &Genesis, nodes: usize) -> Result<Self, soma_protocol::Error> {
        let mut expected = MemoryState::default();
        expected.apply(&genesis.state()?);
        Ok(Self(Arc::new(Mutex::new(Known {
            chain: genesis.chain_id(),
            digests: BTreeMap::new(),
            expected,
            height: 0,
            reported: vec![0; nodes],
            states: (0..nodes).map(|_| None).collect(),
            transactions: 0,
            accepted: 0,
            joins: 0,
            refused: 0,
            violation: None,
        }))))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first thing that went wrong.
    pub fn violation(&self) -> Option<Violation> {
        self.known().violation.clone()
    }

    /// Something went wrong.
    pub fn accuse(&self, violation: Violation) {
        self.known().violation.get_or_insert(violation);
    }

    /// The last block that each node called final.
    pub fn heights(&self) -> Vec<u64> {
        self.known().reported.clone()
    }

    /// How often a node took over the state of its peers, and peers that it did not believe then.
    pub fn joins(&self) -> (u64, u64) {
        let known = self.known();
        (known.joins, known.refused)
    }

    /// Final blocks, transactions in them, and those of them that the rules accepted.
    pub fn counts(&self) -> (u64, u64, u64) {
        let known = self.known();
        (known.height, known.transactions, known.accepted)
    }

    /// Reads what the state must be after the last final block.
    pub fn read<T>(&self, question: impl FnOnce(&MemoryState) -> T) -> T {
        question(&self.known().expected)
    }

    /// A node is up again: it must know all that it had called final.
    pub fn started(&self, node: usize, state: Arc<State>) {
        let found = state.tip().height;
        let mut known = self.known();
        let reported = known.reported[node];
        known.states[node] = Some(state);
        if found < reported {
            known.violation.get_or_insert(Violation::Lost {
                node,
                reported,
                found,
            });
        }
    }

    /// A node is down.
    pub fn stopped(&self, node: usize) {
        self.known().states[node] = None;
    }
}

impl Known {
    fn look(&mut self, node: usize, block: &FinalizedBlock) -> Result<(), Violation> {
        let height = block.height;
        let first = *self.digests.entry(height).or_insert(block.digest);
        if first != block.digest {
            return Err(Violation::TwoHistories {
                node,
                height,
                expected: first.to_string(),
                found: block.digest.to_string(),
            });
        }
        let from = self.reported[node];
        if height > from + 1 {
            let to = height;
            return Err(Violation::Hole { node, from, to });
        }
        self.reported[node] = from.max(height);
        if height == self.height + 1 {
            self.execute(node, block)?;
        }
        let Some(state) = &self.states[node] else {
            return Ok(());
        };
        state.read(|memory, tip| {
            let height = tip.height;
            let reason = |violation: invariants::Violation| violation.to_string();
            invariants::check(memory).map_err(|violation| Violation::State {
                node,
                height,
                reason: reason(violation),
            })?;
            if height == self.height && *memory != self.expected {
                return Err(Violation::Diverged { node, height });
            }
            Ok(())
        })
    }

    /// Does what the block says and expects the same of it.
    fn execute(&mut self, node: usize, block: &FinalizedBlock) -> Result<(), Violation> {
        let height = block.height;
        let forged = || Violation::State {
            node,
            height,
            reason: "a forged transaction is final".into(),
        };
        let transactions = verify_batch(block.transactions.clone(), &self.chain)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| forged())?;
        let info = BlockInfo {
            height,
            timestamp_ms: block.timestamp_ms,
            proposer: block.proposer,
        };
        let outcome = execute(&self.expected, &info, &transactions);
        self.expected.apply(&outcome.changes);
        self.height = height;
        self.transactions += block.receipts.len() as u64;
        let accepted = outcome.receipts.iter().filter(|one| one.result.is_ok());
        self.accepted += accepted.count() as u64;
        if (&outcome.receipts, &outcome.events) == (&block.receipts, &block.events) {
            Ok(())
        } else {
            Err(Violation::Diverged { node, height })
        }
    }
}

/// The witness's eye on one honest node.
#[derive(Debug)]
pub struct Eye {
    /// Which node.
    pub node: usize,
    /// Whom it tells.
    pub witness: Witness,
    /// The node's transactions.
    pub queue: Arc<Queue>,
}

impl Sink for Eye {
    fn finalized(&self, block: FinalizedBlock) {
        self.queue.forget(&block.transactions, block.timestamp_ms);
        let mut known = self.witness.known();
        if let Err(violation) = known.look(self.node, &block) {
            known.violation.get_or_insert(violation);
        }
    }

    fn joined(&self, joined: &Joined) {
        let mut known = self.witness.known();
        known.joins += 1;
        known.refused += joined.refused;
        let (node, height) = (self.node, joined.height);
        known.reported[node] = height.max(known.reported[node]);
        let expected = known.digests.get(&height);
        if expected.is_none_or(|expected| *expected != joined.digest) {
            known
                .violation
                .get_or_insert(Violation::Diverged { node, height });
        }
    }
}

/// Nobody looks at a cheat.
#[derive(Debug)]
pub struct Blind(pub Arc<Queue>);

impl Sink for Blind {
    fn finalized(&self, block: FinalizedBlock) {
        self.0.forget(&block.transactions, block.timestamp_ms);
    }
}
