//! The real rules, block after block, without consensus: who wants something done queues it, and a
//! block does it all. A block that comes when a phase is over ends that phase first, by the clock.

use std::collections::BTreeMap;

use soma_codes::Coded as _;
use soma_protocol::invariants::{self, Holdings};
use soma_protocol::{
    Action, Address, Amount, BlockInfo, Event, Genesis, Hash, MemoryState, Phase, SecretKey,
    SignedTransaction, Transaction, execute, query, read, verify_batch,
};

use crate::Error;

/// A network of one process and no engine.
#[derive(Debug)]
pub struct Chain {
    /// What the rules have made of genesis so far.
    pub state: MemoryState,
    id: Hash,
    height: u64,
    now_ms: u64,
    proposer: Address,
    queue: Vec<SignedTransaction>,
    nonces: BTreeMap<Address, u64>,
    /// Transactions executed.
    pub transactions: u64,
    /// How many of them were refused, by the code of the rejection.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Chain {
    /// The chain that begins with this genesis.
    ///
    /// # Errors
    /// [`Error::Rules`].
    pub fn new(genesis: &Genesis) -> Result<Self, Error> {
        let mut state = MemoryState::default();
        state.apply(&genesis.state()?);
        let proposer = genesis.validators.first().map(|one| one.address);
        Ok(Self {
            state,
            id: genesis.chain_id(),
            height: 0,
            now_ms: genesis.timestamp_ms,
            proposer: proposer.unwrap_or(Address([0; 32])),
            queue: Vec::new(),
            nonces: BTreeMap::new(),
            transactions: 0,
            refused: BTreeMap::new(),
        })
    }

    /// Id of the chain, for commitments.
    pub const fn id(&self) -> &Hash {
        &self.id
    }

    /// Queues an action for the next block.
    pub fn act(&mut self, key: &SecretKey, action: Action) {
        let sender = key.address();
        let state = &self.state;
        let nonce = self
            .nonces
            .entry(sender)
            .or_insert_with(|| read::account(state, &sender).nonce);
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

    /// Makes a block of all that is queued, as the running phase ends. Returns what happened.
    ///
    /// # Errors
    /// [`Error::Rules`] if the simulation signed wrongly.
    pub fn next_phase(&mut self) -> Result<Vec<Event>, Error> {
        self.now_ms = query::next_deadline_ms(&self.state).unwrap_or(self.now_ms);
        self.block()
    }

    /// Makes a block of all that is queued in the running phase. Returns what happened.
    ///
    /// # Errors
    /// [`Error::Rules`] if the simulation signed wrongly.
    pub fn block(&mut self) -> Result<Vec<Event>, Error> {
        self.height += 1;
        self.nonces.clear();
        let queue = std::mem::take(&mut self.queue);
        let verified: Vec<_> = verify_batch(queue, &self.id)
            .into_iter()
            .collect::<Result<_, _>>()?;
        let block = BlockInfo {
            height: self.height,
            timestamp_ms: self.now_ms,
            proposer: self.proposer,
        };
        let outcome = execute(&self.state, &block, &verified);
        self.state.apply(&outcome.changes);
        for receipt in &outcome.receipts {
            self.transactions += 1;
            if let Err(rejection) = &receipt.result {
                *self.refused.entry(rejection.code().as_str()).or_default() += 1;
            }
        }
        Ok(outcome.events)
    }

    /// The running phase.
    pub fn phase(&self) -> Phase {
        read::clock(&self.state).phase
    }

    /// What an account can spend.
    pub fn balance(&self, address: &Address) -> Amount {
        read::account(&self.state, address).balance
    }

    /// Who holds all the money, after a look at every record.
    ///
    /// # Errors
    /// [`Error::Books`] if the rules have come to a state that they do not allow.
    pub fn check(&self) -> Result<Holdings, Error> {
        Ok(invariants::check(&self.state)?)
    }
}
