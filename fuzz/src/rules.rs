//! The rules, on chains of well-signed transactions with arbitrary actions.

use std::sync::LazyLock;

use borsh::BorshDeserialize as _;
use soma_node::localnet::{OPERATOR, Plan, account_name};
use soma_protocol::{
    Action, Amount, BlockInfo, Genesis, MemoryState, SecretKey, SignedTransaction, build, execute,
    invariants, query, read,
};
use soma_sdk::Secret;
use soma_sdk::signing::{self, Terms, Tip};

/// The most blocks in one input.
const BLOCKS_MAX: u64 = 64;

/// What every input starts from: a local network with funded keys; the last is the validator's.
struct Start {
    genesis: Genesis,
    state: MemoryState,
    keys: Vec<SecretKey>,
}

#[expect(clippy::expect_used, reason = "the genesis of a local network is valid")]
static START: LazyLock<Start> = LazyLock::new(|| {
    let plan = Plan::manual([0; 32]);
    let genesis = plan.genesis();
    let mut state = MemoryState::default();
    state.apply(&genesis.state().expect("a valid genesis"));
    let accounts = (1..=3).map(account_name);
    let names = accounts.chain([OPERATOR.to_owned(), "validator-1".to_owned()]);
    let secret = |name: String| Secret::derive(&plan.seed, &name);
    let keys = names.map(|name| SecretKey::from_bytes(secret(name).bytes()));
    Start { genesis, state, keys: keys.collect() }
});

/// How far the clock advances before a block.
fn advance_ms(state: &MemoryState, now_ms: u64, choice: u8) -> u64 {
    match choice % 4 {
        0 => now_ms + 1,
        1 => now_ms + 1_000,
        2 => now_ms + 3_600_000,
        _ => query::deadline_ms(state).unwrap_or(now_ms).max(now_ms + 1),
    }
}

/// Reads the input as blocks of one transaction: a byte for the sender and the clock, then an
/// action. Every transaction is included or refused, a built block is valid, and the invariants
/// hold after each block.
///
/// # Panics
/// If they do not.
pub fn check(mut input: &[u8]) {
    let start = &*START;
    let (mut state, mut now_ms) = (start.state.clone(), start.genesis.timestamp_ms);
    let validator = start.keys[start.keys.len() - 1].address();
    for height in 1..=BLOCKS_MAX {
        let Some((&choice, rest)) = input.split_first() else {
            return;
        };
        input = rest;
        let Ok(action) = Action::deserialize(&mut input) else {
            return;
        };
        now_ms = advance_ms(&state, now_ms, choice);
        let block = BlockInfo { height, timestamp_ms: now_ms, proposer: validator };
        let key = &start.keys[usize::from(choice / 4) % start.keys.len()];
        let signed = sign(&state, key, action);
        let transactions: Vec<_> = signed.verify(&start.genesis.chain_id()).into_iter().collect();
        // The input may have voted for rules that do not exist.
        let Ok(built) = build(&state, &block, &mut transactions.iter().cloned()) else {
            return;
        };
        let answers = built.included.len() + built.refused.len();
        assert_eq!(answers, transactions.len(), "a transaction without an answer");
        let outcome = execute(&state, &block, &built.included);
        assert_eq!(outcome.as_ref(), Ok(&built.outcome), "execution differs from building");
        state.apply(&built.outcome.changes);
        if let Err(violation) = invariants::check(&state) {
            panic!("block {height}: {violation}");
        }
    }
}

fn sign(state: &MemoryState, key: &SecretKey, action: Action) -> SignedTransaction {
    let terms = Terms {
        chain: START.genesis.chain_id(),
        nonce: read::account(state, &key.address()).nonce,
        tip: Tip::Exactly(Amount::ZERO),
        valid_until_ms: u64::MAX,
    };
    signing::sign(action, &terms, &read::params(state), key)
}
