//! The real rules without consensus: actions are queued, and as many blocks as it takes execute the
//! whole queue. A block at the end of a phase ends that phase first, as the clock of the rules
//! requires.

use std::collections::{BTreeMap, BTreeSet};

use soma_codes::Coded as _;
use soma_protocol::invariants::{self, Holdings};
use soma_protocol::{
    Action, Address, Amount, BlockInfo, Built, Event, Genesis, Hash, InTurn, MemoryState, Phase,
    SecretKey, SignedTransaction, Transaction, VerifiedTransaction, build, query, read,
    verify_batch,
};

use crate::Error;

/// A chain in memory.
#[derive(Debug)]
pub struct Chain {
    /// The state after the last block.
    pub state: MemoryState,
    id: Hash,
    height: u64,
    now_ms: u64,
    proposer: Address,
    queue: Vec<SignedTransaction>,
    nonces: BTreeMap<Address, u64>,
    /// Transactions executed.
    pub transactions: u64,
    /// How many of them were rejected, by error code.
    pub rejected: BTreeMap<&'static str, u64>,
}

impl Chain {
    /// The chain that starts with this genesis.
    ///
    /// # Errors
    /// If the genesis is invalid.
    pub fn new(genesis: &Genesis) -> Result<Self, Error> {
        let mut state = MemoryState::default();
        state.apply(&genesis.state()?);
        let proposer = genesis.validators.first().map(|validator| validator.address);
        Ok(Self {
            state,
            id: genesis.chain_id(),
            height: 0,
            now_ms: genesis.timestamp_ms,
            proposer: proposer.unwrap_or(Address([0; 32])),
            queue: Vec::new(),
            nonces: BTreeMap::new(),
            transactions: 0,
            rejected: BTreeMap::new(),
        })
    }

    /// The chain id, for commitments.
    pub const fn id(&self) -> &Hash {
        &self.id
    }

    /// Signs an action and queues it for the next block.
    pub fn act(&mut self, key: &SecretKey, action: Action) {
        self.bid(key, action, Amount::ZERO);
    }

    /// Signs a payment with a tip and queues it for the next block.
    pub fn bid(&mut self, key: &SecretKey, action: Action, tip: Amount) {
        let sender = key.address();
        let is_duty = action.is_duty();
        let transaction = Transaction {
            chain: self.id,
            sender,
            nonce: if is_duty { 0 } else { self.take_nonce(sender) },
            tip,
            fee_limit: if is_duty { Amount::ZERO } else { Amount::soma(1) },
            valid_until_ms: u64::MAX,
            action,
        };
        self.queue.push(transaction.sign(key));
    }

    fn take_nonce(&mut self, sender: Address) -> u64 {
        let state = &self.state;
        let nonce =
            self.nonces.entry(sender).or_insert_with(|| read::account(state, &sender).nonce);
        *nonce += 1;
        *nonce - 1
    }

    /// Executes the queue in blocks at the end of the current phase. Returns their events.
    ///
    /// # Errors
    /// If a signature is invalid.
    pub fn next_phase(&mut self) -> Result<Vec<Event>, Error> {
        let ending = self.phase();
        let mut events = Vec::new();
        // A phase waits until the work of the last one is done.
        while self.phase() == ending {
            let deadline_ms = query::deadline_ms(&self.state).unwrap_or(0);
            self.now_ms = self.now_ms.max(deadline_ms);
            events.extend(self.block()?);
        }
        Ok(events)
    }

    /// Executes the queue in blocks of the current phase. Returns their events.
    ///
    /// # Errors
    /// If a signature is invalid.
    pub fn block(&mut self) -> Result<Vec<Event>, Error> {
        self.nonces.clear();
        let queue = std::mem::take(&mut self.queue);
        let mut waiting: Vec<_> =
            verify_batch(queue, &self.id).into_iter().collect::<Result<_, _>>()?;
        let mut events = Vec::new();
        loop {
            let built = self.build(&waiting);
            let included = built.included.iter().map(VerifiedTransaction::hash);
            let refused = built.refused.iter().map(|refused| refused.transaction.hash());
            let done: BTreeSet<Hash> = included.chain(refused).collect();
            waiting.retain(|verified| !done.contains(&verified.hash()));
            events.extend(built.outcome.events);
            // What follows a payment that could not be made is never in turn.
            if waiting.is_empty() || done.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Executes one block of the transactions that fit and are in turn.
    #[expect(clippy::expect_used, reason = "nobody here proposes other rules")]
    fn build(&mut self, waiting: &[VerifiedTransaction]) -> Built {
        self.height += 1;
        let block =
            BlockInfo { height: self.height, timestamp_ms: self.now_ms, proposer: self.proposer };
        let built = build(&self.state, &block, &mut InTurn(waiting.iter().cloned()))
            .expect("nobody here proposes other rules");
        self.state.apply(&built.outcome.changes);
        let receipts = built.outcome.receipts.iter();
        let rejected = receipts.filter_map(|receipt| receipt.result.as_ref().err());
        let refused = built.refused.iter().map(|refused| &refused.rejection);
        for rejection in rejected.chain(refused) {
            *self.rejected.entry(rejection.code().as_str()).or_default() += 1;
        }
        self.transactions += (built.included.len() + built.refused.len()) as u64;
        built
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        read::clock(&self.state).phase
    }

    /// The balance of an account.
    pub fn balance(&self, address: &Address) -> Amount {
        read::account(&self.state, address).balance
    }

    /// Checks every invariant on every record. Returns how much is held, and where.
    ///
    /// # Errors
    /// The first invariant that is violated.
    pub fn check(&self) -> Result<Holdings, Error> {
        Ok(invariants::check(&self.state)?)
    }
}
