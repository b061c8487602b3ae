//! The real rules without consensus: actions are queued, and each block executes the whole queue. A
//! block at the end of a phase ends that phase first, as the clock of the rules requires.

use std::collections::BTreeMap;

use soma_codes::Coded as _;
use soma_protocol::invariants::{self, Holdings};
use soma_protocol::{
    Action, Address, Amount, BlockInfo, Event, Genesis, Hash, MemoryState, Phase, SecretKey,
    SignedTransaction, Transaction, execute, query, read, verify_batch,
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
        let sender = key.address();
        let state = &self.state;
        let nonce =
            self.nonces.entry(sender).or_insert_with(|| read::account(state, &sender).nonce);
        let transaction = Transaction {
            chain: self.id,
            sender,
            nonce: *nonce,
            fee_limit: Amount::soma(1),
            valid_until_ms: u64::MAX,
            action,
        };
        *nonce += 1;
        self.queue.push(transaction.sign(key));
    }

    /// Executes the queue in a block at the end of the current phase. Returns its events.
    ///
    /// # Errors
    /// If a signature is invalid.
    pub fn next_phase(&mut self) -> Result<Vec<Event>, Error> {
        self.now_ms = query::deadline_ms(&self.state).unwrap_or(self.now_ms);
        self.block()
    }

    /// Executes the queue in a block of the current phase. Returns its events.
    ///
    /// # Errors
    /// If a signature is invalid.
    pub fn block(&mut self) -> Result<Vec<Event>, Error> {
        self.height += 1;
        self.nonces.clear();
        let queue = std::mem::take(&mut self.queue);
        let verified: Vec<_> =
            verify_batch(queue, &self.id).into_iter().collect::<Result<_, _>>()?;
        let block =
            BlockInfo { height: self.height, timestamp_ms: self.now_ms, proposer: self.proposer };
        let outcome = execute(&self.state, &block, &verified);
        self.state.apply(&outcome.changes);
        for receipt in &outcome.receipts {
            self.transactions += 1;
            if let Err(rejection) = &receipt.result {
                *self.rejected.entry(rejection.code().as_str()).or_default() += 1;
            }
        }
        Ok(outcome.events)
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
