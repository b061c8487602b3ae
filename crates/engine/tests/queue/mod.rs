//! The pool and the sink of a node under test: transactions in the order of their nonces.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "each test file uses its part of this"
)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
};

use soma_engine::{ConsensusSecret, FinalizedBlock, Join, Pool, Settings, Sink};
use soma_protocol::{
    Action, Address, Amount, Architecture, Candidates, Endpoints, Genesis, GenesisAccount,
    GenesisValidator, Hash, InTurn, Params, Ruleset, SecretKey, SignedTransaction, Transaction,
    VerifiedTransaction, action,
};

pub const ALICE: [u8; 32] = [2; 32];
pub const BOB: [u8; 32] = [3; 32];

pub fn address(seed: [u8; 32]) -> Address {
    SecretKey::from_bytes(&seed).address()
}

/// The secret of a validator, for its account and its votes.
pub fn validator(index: u8) -> [u8; 32] {
    [100 + index; 32]
}

/// A chain of `validators` validators, on which Alice has a balance and phases end by command.
pub fn genesis(validators: u8) -> Genesis {
    let params = Params { epoch_ms: 0, ..Params::local() };
    let seat = |index| GenesisValidator {
        address: address(validator(index)),
        consensus_key: ConsensusSecret(validator(index)).public(),
        stake: Amount::soma(100),
        endpoints: Endpoints::default(),
    };
    Genesis {
        chain: "test".into(),
        timestamp_ms: 1_767_225_600_000,
        params,
        architecture: Architecture::nano(),
        accounts: vec![GenesisAccount { address: address(ALICE), balance: Amount::soma(1_000) }],
        validators: (0..validators).map(seat).collect(),
        models: Vec::new(),
        operator: None,
    }
}

/// The settings of validator `node`, which replays the chain if it is in genesis.
pub fn settings(genesis: Genesis, node: u8, block_ms: u64, idle_block_ms: u64) -> Settings {
    Settings {
        genesis,
        key: ConsensusSecret(validator(node)),
        block_ms,
        idle_block_ms,
        join: Join::Auto,
        vote_unrecorded: false,
        ruleset: Ruleset::WHOLE,
        keep_blocks: None,
    }
}

/// A signed action with a sufficient fee limit; a duty has neither limit nor nonce.
pub fn act(chain: Hash, seed: [u8; 32], nonce: u64, action: Action) -> SignedTransaction {
    let key = SecretKey::from_bytes(&seed);
    let is_duty = action.is_duty();
    let transaction = Transaction {
        chain,
        sender: key.address(),
        nonce: if is_duty { 0 } else { nonce },
        tip: Amount::ZERO,
        fee_limit: if is_duty { Amount::ZERO } else { Amount::soma(1) },
        valid_until_ms: u64::MAX,
        action,
    };
    transaction.sign(&key)
}

/// Alice pays Bob.
pub fn transfer(chain: Hash, nonce: u64, amount: u64) -> SignedTransaction {
    let action = Action::Transfer(action::Transfer { to: address(BOB), amount: Amount(amount) });
    act(chain, ALICE, nonce, action)
}

/// Transactions by sender and nonce, removed once they are finalized.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<BTreeMap<Place, VerifiedTransaction>>,
    finalized: Mutex<Option<mpsc::Sender<FinalizedBlock>>>,
}

impl Queue {
    pub fn reporting(sender: mpsc::Sender<FinalizedBlock>) -> Arc<Self> {
        Arc::new(Self { finalized: Mutex::new(Some(sender)), ..Self::default() })
    }

    pub fn add(&self, transaction: SignedTransaction) -> Hash {
        let chain = transaction.transaction().chain;
        let verified = transaction.verify(&chain).unwrap();
        let hash = verified.hash();
        self.waiting.lock().unwrap().insert(place(verified.signed()), verified);
        hash
    }
}

/// The sender and the nonce of a payment; a duty has its hash instead of a nonce.
type Place = (Address, u64, Option<Hash>);

fn place(signed: &SignedTransaction) -> Place {
    let transaction = signed.transaction();
    let is_duty = transaction.action.is_duty();
    (transaction.sender, transaction.nonce, is_duty.then(|| signed.hash()))
}

impl Pool for Queue {
    fn candidates(&self) -> Box<dyn Candidates + '_> {
        let waiting: Vec<_> = self.waiting.lock().unwrap().values().cloned().collect();
        Box::new(InTurn(waiting.into_iter()))
    }

    fn is_empty(&self) -> bool {
        self.waiting.lock().unwrap().is_empty()
    }
}

impl Sink for Queue {
    fn finalized(&self, block: FinalizedBlock) {
        for transaction in &block.transactions {
            self.waiting.lock().unwrap().remove(&place(transaction));
        }
        if let Some(finalized) = &*self.finalized.lock().unwrap() {
            let _ = finalized.send(block);
        }
    }
}
