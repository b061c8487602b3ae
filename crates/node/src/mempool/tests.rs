//! The pool under random traffic.

use std::collections::BTreeMap;

use proptest::prelude::*;
use soma_codes::Coded as _;
use soma_engine::Pool;
use soma_protocol::{
    Action, Address, Amount, BlockInfo, Epoch, Genesis, GenesisAccount, Hash, MemoryState, Params,
    Phase, SecretKey, SignedTransaction, Transaction, VerifiedTransaction, action, execute, read,
};

use super::Mempool;
use crate::localnet::{OPERATOR, Plan};
use crate::refusal::Refusal;
use crate::settings::PoolLimits;

const NOW_MS: u64 = 1_000_000;
const FEE: u64 = 1_000_000;

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

/// A state with four funded accounts, and its chain.
fn state() -> (MemoryState, Hash) {
    let accounts = (1..=4)
        .map(|number| GenesisAccount { address: key(number).address(), balance: Amount::soma(1) });
    let genesis = Genesis {
        accounts: accounts.collect(),
        params: Params::local(),
        ..Plan::manual([0; 32]).genesis()
    };
    let mut memory = MemoryState::default();
    memory.apply(&genesis.state().unwrap());
    (memory, genesis.chain_id())
}

fn signed(
    chain: Hash,
    sender: u8,
    nonce: u64,
    fee_limit: u64,
    valid_until_ms: u64,
) -> SignedTransaction {
    let sender = key(sender);
    let action = Action::Transfer(action::Transfer { to: key(9).address(), amount: Amount(1) });
    let fee_limit = Amount(fee_limit);
    Transaction { chain, sender: sender.address(), nonce, fee_limit, valid_until_ms, action }
        .sign(&sender)
}

fn admit(
    pool: &Mempool,
    state: &MemoryState,
    transaction: SignedTransaction,
) -> Result<Hash, Refusal> {
    admit_all(pool, state, vec![transaction]).remove(0)
}

fn admit_all(
    pool: &Mempool,
    state: &MemoryState,
    transactions: Vec<SignedTransaction>,
) -> Vec<Result<Hash, Refusal>> {
    pool.enter(pool.screen(transactions, state, NOW_MS))
}

fn places(selected: &[VerifiedTransaction]) -> Vec<(u64, u64)> {
    selected.iter().map(|one| (one.transaction().fee_limit.0, one.transaction().nonce)).collect()
}

#[test]
fn accounts_that_pay_more_come_first_and_each_account_in_nonce_order() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    for (sender, nonce, fee) in
        [(1, 1, 9 * FEE), (1, 0, 2 * FEE), (2, 0, 3 * FEE), (3, 0, FEE), (4, 1, 9 * FEE)]
    {
        admit(&pool, &state, signed(chain, sender, nonce, fee, u64::MAX)).unwrap();
    }
    let selected = pool.select(&state, NOW_MS, usize::MAX);
    assert_eq!(places(&selected), [(3 * FEE, 0), (2 * FEE, 0), (9 * FEE, 1), (FEE, 0)]);
}

#[test]
fn a_waiting_transaction_is_replaced_only_by_one_that_pays_a_tenth_more() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    admit(&pool, &state, signed(chain, 1, 0, FEE, u64::MAX)).unwrap();
    let refused = admit(&pool, &state, signed(chain, 1, 0, FEE + FEE / 10, u64::MAX)).unwrap_err();
    assert_eq!(refused.code().as_str(), "replacement_underpriced");
    admit(&pool, &state, signed(chain, 1, 0, FEE + FEE / 10 + 1, u64::MAX)).unwrap();
    assert_eq!(pool.len(), 1);
    assert_eq!(pool.next_nonce(&key(1).address(), 0), 1);
}

#[test]
fn a_full_pool_keeps_the_best_paying_transactions_and_refuses_the_others() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits { entries: 3, ..PoolLimits::default() });
    for nonce in 0..2 {
        admit(&pool, &state, signed(chain, 1, nonce, 2 * FEE, u64::MAX)).unwrap();
    }
    admit(&pool, &state, signed(chain, 2, 0, 3 * FEE, u64::MAX)).unwrap();
    let refused = admit(&pool, &state, signed(chain, 3, 0, 2 * FEE, u64::MAX)).unwrap_err();
    assert_eq!(refused, Refusal::MempoolFull);
    admit(&pool, &state, signed(chain, 3, 0, 4 * FEE, u64::MAX)).unwrap();
    let selected = pool.select(&state, NOW_MS, usize::MAX);
    assert_eq!(
        places(&selected),
        [(4 * FEE, 0), (3 * FEE, 0), (2 * FEE, 0)],
        "the tail of the cheapest went"
    );
}

#[test]
fn a_validators_duty_is_never_outbid_and_free_actions_are_refused_from_other_accounts() {
    let (state, chain) = state();
    let plan = Plan::manual([0; 32]);
    let operator = plan.key(OPERATOR);
    let end = |sender: &SecretKey| {
        let action = Action::EndPhase(action::EndPhase { epoch: Epoch(1), phase: Phase::Reveal });
        let transaction = Transaction {
            chain,
            sender: sender.address(),
            nonce: 0,
            fee_limit: Amount::ZERO,
            valid_until_ms: u64::MAX,
            action,
        };
        transaction.sign(sender)
    };
    let pool = Mempool::new(chain, PoolLimits { entries: 1, ..PoolLimits::default() });
    assert_eq!(admit(&pool, &state, end(&key(1))).unwrap_err(), Refusal::NotEntitled);
    admit(&pool, &state, signed(chain, 1, 0, 900 * FEE, u64::MAX)).unwrap();
    admit(&pool, &state, end(&operator)).unwrap();
    assert_eq!(
        admit(&pool, &state, signed(chain, 2, 0, 999 * FEE, u64::MAX)).unwrap_err(),
        Refusal::MempoolFull
    );
}

#[test]
fn finalized_and_expired_transactions_leave_the_pool() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    let first = signed(chain, 1, 0, FEE, u64::MAX);
    let hash = admit(&pool, &state, first.clone()).unwrap();
    assert_eq!(pool.get(&hash), Some(first.clone()));
    admit(&pool, &state, signed(chain, 1, 1, FEE, u64::MAX)).unwrap();
    admit(&pool, &state, signed(chain, 2, 0, FEE, NOW_MS + 1)).unwrap();
    pool.finalized(&[first], NOW_MS + 2);
    assert_eq!((pool.len(), pool.get(&hash)), (1, None));
    let early = signed(chain, 3, 0, FEE, NOW_MS - 1);
    assert_eq!(admit(&pool, &state, early).unwrap_err().code().as_str(), "expired");
}

#[test]
fn of_two_transactions_with_one_nonce_the_loser_leaves_its_pool_and_later_nonces_still_run() {
    let (mut state, chain) = state();
    let pools = [(); 2].map(|()| Mempool::new(chain, PoolLimits::default()));
    let rivals = [FEE, FEE + 1].map(|fee| signed(chain, 1, 0, fee, u64::MAX));
    let follower = signed(chain, 1, 1, FEE, u64::MAX);
    for (pool, rival) in pools.iter().zip(&rivals) {
        admit(pool, &state, rival.clone()).unwrap();
        admit(pool, &state, follower.clone()).unwrap();
    }
    let [loser, winner] = rivals;
    let answers = [
        admit(&pools[0], &state, winner.clone()).unwrap_err(),
        admit(&pools[1], &state, loser.clone()).unwrap_err(),
    ];
    assert!(answers.iter().all(|refusal| refusal.code().as_str() == "replacement_underpriced"));
    let info = BlockInfo { height: 1, timestamp_ms: NOW_MS, proposer: key(9).address() };
    let block = [winner.clone().verify(&chain).unwrap()];
    state.apply(&execute(&state, &info, &block).changes);
    for pool in &pools {
        pool.finalized(std::slice::from_ref(&winner), NOW_MS);
        assert_eq!(pool.get(&loser.hash()), None);
        assert_eq!(
            places(&pool.select(&state, NOW_MS, usize::MAX)),
            [(FEE, 1)],
            "what follows does not care which of the two it was"
        );
        let again = admit(pool, &state, loser.clone()).unwrap_err();
        assert_eq!(again.code().as_str(), "nonce_too_low");
    }
}

#[test]
fn a_forged_signature_is_refused_in_any_batch() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    let mut batch: Vec<_> = (1..=4).map(|sender| signed(chain, sender, 0, FEE, u64::MAX)).collect();
    batch[2] = forge(&batch[2]);
    let answers = admit_all(&pool, &state, batch);
    let codes: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().err().map(|refusal| refusal.code().as_str()))
        .collect();
    assert_eq!(codes, [None, None, Some("bad_signature"), None]);
}

/// The order as defined: always the best bid among all accounts' next transactions.
fn by_the_book(pool: &Mempool, state: &MemoryState) -> Vec<Hash> {
    let queue = pool.lock();
    let next = |address: &Address| read::account(state, address).nonce;
    let mut nonces: BTreeMap<Address, u64> =
        queue.accounts.keys().map(|address| (*address, next(address))).collect();
    let mut order = Vec::new();
    loop {
        let heads = nonces.iter().filter_map(|(address, nonce)| {
            let entry = queue.accounts[address].get(nonce)?;
            Some((entry.bid, *address, entry.hash))
        });
        let Some((_, address, hash)) = heads.max() else {
            return order;
        };
        order.push(hash);
        *nonces.get_mut(&address).unwrap() += 1;
    }
}

proptest! {
    #[test]
    fn a_block_takes_the_best_bids_among_the_transactions_that_can_run(
        traffic in prop::collection::vec((1u8..=4, 0u64..6, 1u64..9), 1..24),
    ) {
        let (state, chain) = state();
        let pool = Mempool::new(chain, PoolLimits::default());
        for (sender, nonce, fee) in traffic {
            let _answer = admit(&pool, &state, signed(chain, sender, nonce, fee * FEE, u64::MAX));
        }
        let selected = pool.select(&state, NOW_MS, usize::MAX);
        let hashes: Vec<Hash> = selected.iter().map(VerifiedTransaction::hash).collect();
        prop_assert_eq!(hashes, by_the_book(&pool, &state));
    }
}

#[test]
fn a_verified_transaction_is_not_verified_again_and_a_forged_one_always_is() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    let good = signed(chain, 1, 0, FEE, u64::MAX);
    admit(&pool, &state, good.clone()).unwrap();
    let forged = forge(&good);
    for _ in 0..2 {
        let answers = pool.verify(vec![good.clone(), forged.clone()], &chain);
        assert!(answers[0].is_ok() && answers[1] == Err(soma_protocol::Error::Signature));
    }
    let other = Hash([1; 32]);
    assert!(pool.verify(vec![good], &other)[0].is_err(), "of another chain");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_pool_stays_within_its_limits_and_selects_only_transactions_that_can_run(
        traffic in prop::collection::vec(
            (1u8..=4, 0u64..6, 1u64..5, 0u64..3, any::<bool>()), 1..60),
        entries in 1usize..8,
        max_bytes in 0usize..2_000,
    ) {
        let (state, chain) = state();
        let limits = PoolLimits { entries, bytes: 1_500, per_account: 4 };
        let pool = Mempool::new(chain, limits);
        for (sender, nonce, fee, valid, is_final) in traffic {
            let transaction = signed(chain, sender, nonce, fee * FEE, NOW_MS + valid);
            let size = transaction.bytes().len();
            let admitted = admit(&pool, &state, transaction.clone());
            prop_assert!(size <= limits.bytes);
            prop_assert!(pool.len() <= entries && pool.bytes() <= limits.bytes);
            if let Ok(hash) = admitted {
                prop_assert_eq!(pool.get(&hash), Some(transaction.clone()));
            }
            let selected = pool.select(&state, NOW_MS + 1, max_bytes);
            let bytes: usize = selected.iter().map(VerifiedTransaction::size_bytes).sum();
            prop_assert!(bytes <= max_bytes);
            for number in 1..=4u8 {
                let address = key(number).address();
                let selected = selected.iter().map(VerifiedTransaction::transaction);
                let own = selected.filter(|transaction| transaction.sender == address);
                let nonces: Vec<u64> = own.map(|transaction| transaction.nonce).collect();
                let next = read::account(&state, &address).nonce;
                prop_assert!(nonces.iter().copied().eq(next..next + nonces.len() as u64));
            }
            let unexpired = |selected: &VerifiedTransaction| {
                selected.transaction().valid_until_ms > NOW_MS
            };
            prop_assert!(selected.iter().all(unexpired));
            if is_final {
                pool.finalized(std::slice::from_ref(&transaction), NOW_MS);
                prop_assert_eq!(pool.get(&transaction.hash()), None);
            }
        }
        let queue = pool.lock();
        let counted: usize = queue.accounts.values().map(std::collections::BTreeMap::len).sum();
        let indexed = [queue.places.len(), queue.by_bid.len(), queue.by_expiry.len()];
        prop_assert_eq!(indexed, [counted; 3]);
        let entries = queue.accounts.values().flat_map(|waiting| waiting.values());
        let bytes: usize = entries.map(|entry| entry.bytes).sum();
        prop_assert_eq!(queue.bytes, bytes);
    }
}

/// The transaction with a wrong signature.
fn forge(signed: &SignedTransaction) -> SignedTransaction {
    let mut signature = *signed.signature();
    signature[7] ^= 1;
    SignedTransaction::new(signed.transaction().clone(), signature)
}
