//! The pool under random traffic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use soma_codes::Coded as _;
use soma_engine::Pool;
use soma_protocol::evidence::{Ballot, Evidence, SignedBallot};
use soma_protocol::room::KIND_WEIGHT_MAX;
use soma_protocol::{
    Action, Address, Amount, BlockInfo, Built, ConsensusKey, Epoch, Genesis, GenesisAccount, Hash,
    Key, MemoryState, Params, Phase, Rejection, SecretKey, SignedTransaction, StateRead, TargetId,
    Transaction, VerifiedTransaction, action, build, read,
};

use super::{Mempool, Screened};
use crate::localnet::{OPERATOR, Plan, validator_name};
use crate::refusal::Refusal;
use crate::settings::PoolLimits;

const NOW_MS: u64 = 1_000_000;
/// A tip that makes a difference.
const TIP: u64 = 1_000_000;

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

fn transfer(to: u8, amount: u64) -> Action {
    Action::Transfer(action::Transfer { to: key(to).address(), amount: Amount(amount) })
}

/// A payment of an account.
fn payment(
    chain: Hash,
    sender: u8,
    nonce: u64,
    tip: u64,
    valid_until_ms: u64,
    action: Action,
) -> SignedTransaction {
    let (key, tip) = (key(sender), Amount(tip));
    let (sender, fee_limit) = (key.address(), Amount::soma(1));
    Transaction { chain, sender, nonce, tip, fee_limit, valid_until_ms, action }.sign(&key)
}

fn signed(chain: Hash, sender: u8, nonce: u64, tip: u64, until_ms: u64) -> SignedTransaction {
    payment(chain, sender, nonce, tip, until_ms, transfer(9, 1))
}

fn duty(chain: Hash, key: &SecretKey, action: Action) -> SignedTransaction {
    let (sender, nonce, tip, fee_limit) = (key.address(), 0, Amount::ZERO, Amount::ZERO);
    Transaction { chain, sender, nonce, tip, fee_limit, valid_until_ms: u64::MAX, action }.sign(key)
}

fn commit_beacon(epoch: u32, fill: u8) -> Action {
    Action::CommitBeacon(action::CommitBeacon { epoch: Epoch(epoch), commitment: Hash([fill; 32]) })
}

/// A transaction for whatever looks at no signature.
pub(super) fn unsigned(nonce: u64, tip: u64, action: Action) -> SignedTransaction {
    let (chain, sender, tip) = (Hash([0; 32]), key(1).address(), Amount(tip));
    let (fee_limit, valid_until_ms) = (Amount::ZERO, 0);
    let transaction = Transaction { chain, sender, nonce, tip, fee_limit, valid_until_ms, action };
    SignedTransaction::new(transaction, [0; 64])
}

/// The longest action, which the rules reject.
fn garbage() -> Action {
    publication(130_000)
}

/// An action with this much data, which the rules reject.
pub(super) fn publication(data_bytes: usize) -> Action {
    Action::PublishData(action::PublishData {
        target: TargetId(99),
        data: vec![7; data_bytes],
        ..action::PublishData::default()
    })
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
    let screened = pool.screen(transactions, state, NOW_MS);
    pool.enter(pool.verify_screened(screened), state, NOW_MS)
}

/// The block that a proposer builds from the pool.
fn block(pool: &Mempool, state: &MemoryState) -> Built {
    let info = BlockInfo { height: 1, timestamp_ms: NOW_MS, proposer: key(9).address() };
    let built = build(state, &info, &mut *pool.candidates()).unwrap();
    pool.refused(&built.refused);
    built
}

fn selected(pool: &Mempool, state: &MemoryState) -> Vec<VerifiedTransaction> {
    block(pool, state).included
}

/// Tips and nonces.
fn places(selected: &[VerifiedTransaction]) -> Vec<(u64, u64)> {
    selected.iter().map(|one| (one.transaction().tip.0, one.transaction().nonce)).collect()
}

#[test]
fn accounts_that_tip_more_come_first_and_each_account_in_nonce_order() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    for (sender, nonce, tip) in [(1, 0, 2 * TIP), (1, 1, 9 * TIP), (2, 0, 3 * TIP), (3, 0, TIP)] {
        admit(&pool, &state, signed(chain, sender, nonce, tip, u64::MAX)).unwrap();
    }
    let selected = selected(&pool, &state);
    assert_eq!(places(&selected), [(3 * TIP, 0), (2 * TIP, 0), (9 * TIP, 1), (TIP, 0)]);
}

#[test]
fn what_is_not_charged_buys_no_place() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits { entries: 1, ..PoolLimits::default() });
    let modest = signed(chain, 1, 0, 1, u64::MAX);
    admit(&pool, &state, modest.clone()).unwrap();
    let boast = Transaction {
        fee_limit: Amount(u64::MAX),
        ..signed(chain, 2, 0, 0, u64::MAX).transaction().clone()
    };
    let refused = admit(&pool, &state, boast.sign(&key(2))).unwrap_err();
    assert_eq!(refused, Refusal::MempoolFull);
    let heavy = payment(chain, 3, 0, 100, u64::MAX, garbage());
    let refused = admit(&pool, &state, heavy).unwrap_err();
    assert_eq!(refused, Refusal::MempoolFull, "its tip for each byte is lower");
}

/// A payment that fills a block, or most of one, with some others.
fn filling(chain: Hash, sender: u8, nonce: u64, tip: u64) -> SignedTransaction {
    payment(chain, sender, nonce, tip, u64::MAX, garbage())
}

#[test]
fn the_suggested_tip_outbids_what_fills_the_next_block_and_nothing_else() {
    let (state, chain) = state();
    let pool = || Mempool::new(chain, PoolLimits::default());
    let suggested = |pool: &Mempool| {
        pool.tips_changed();
        pool.suggested_tip()
    };
    let full = pool();
    assert_eq!(suggested(&full), 0);
    for nonce in 0..5 {
        admit(&full, &state, filling(chain, 1, nonce, TIP)).unwrap();
        assert_eq!(suggested(&full), 0, "there is room");
    }
    admit(&full, &state, filling(chain, 1, 5, TIP)).unwrap();
    let tip_per_kib = suggested(&full);
    assert!(tip_per_kib > 0);
    let modest = signed(chain, 2, 0, 0, u64::MAX);
    let tip = (tip_per_kib * modest.weight()).div_ceil(1_024);
    assert!(tip < TIP / 100, "for its weight: {tip}");
    admit(&full, &state, signed(chain, 2, 0, tip, u64::MAX)).unwrap();
    assert_eq!(places(&selected(&full, &state))[0], (tip, 0));

    // Behind a payment that no block reaches, a tip raises nothing.
    let blocked = pool();
    for nonce in 0..7 {
        admit(&blocked, &state, filling(chain, 1, nonce, TIP)).unwrap();
    }
    let before = suggested(&blocked);
    admit(&blocked, &state, filling(chain, 2, 0, 0)).unwrap();
    for nonce in 1..9 {
        admit(&blocked, &state, filling(chain, 2, nonce, 100 * TIP)).unwrap();
    }
    assert_eq!(suggested(&blocked), before);

    // What follows a payment counts once that does, and its own tip is not the least.
    let (plain, followed) = (pool(), pool());
    for nonce in 0..6 {
        admit(&plain, &state, filling(chain, 1, nonce, 2 * TIP)).unwrap();
        let tip = if nonce == 0 { 2 * TIP } else { 9 * TIP };
        admit(&followed, &state, filling(chain, 1, nonce, tip)).unwrap();
        admit(&followed, &state, filling(chain, 2, nonce, TIP)).unwrap();
    }
    assert_eq!(suggested(&followed), suggested(&plain));

    // A full block is remembered for the turns of four proposers.
    let block: Vec<_> = (0..6).map(|nonce| filling(chain, 1, nonce, TIP)).collect();
    let empty = pool();
    empty.finalized(&block, NOW_MS);
    for _ in 0..3 {
        assert_eq!(suggested(&empty), tip_per_kib);
        empty.finalized(&[], NOW_MS);
    }
    empty.finalized(&[], NOW_MS);
    assert_eq!(suggested(&empty), 0);
}

#[test]
fn what_cannot_enter_is_refused_before_its_signature_is_looked_at() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits { entries: 2, ..PoolLimits::default() });
    for sender in [1, 2] {
        admit(&pool, &state, signed(chain, sender, 0, TIP, u64::MAX)).unwrap();
    }
    let refusal =
        |transaction: &SignedTransaction| admit(&pool, &state, forge(transaction)).unwrap_err();
    assert_eq!(refusal(&signed(chain, 3, 0, TIP, u64::MAX)), Refusal::MempoolFull);
    let gap = refusal(&signed(chain, 1, 2, 9 * TIP, u64::MAX));
    assert_eq!(gap, Refusal::NonceTooHigh { nonce: 2, next: 1 });
    let rival = refusal(&signed(chain, 1, 0, TIP, u64::MAX - 1));
    assert!(matches!(rival, Refusal::ReplacementUnderpriced { nonce: 0, .. }));
    let better = refusal(&signed(chain, 3, 0, 2 * TIP, u64::MAX));
    assert_eq!(better, Refusal::Invalid(soma_protocol::Error::Signature));
    assert_eq!(pool.len(), 2, "a forged one evicts nobody");
}

#[test]
fn a_payment_that_cannot_run_next_is_refused() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    let gap = admit(&pool, &state, signed(chain, 1, 1, TIP, u64::MAX)).unwrap_err();
    assert_eq!(gap, Refusal::NonceTooHigh { nonce: 1, next: 0 });
    for nonce in 0..2 {
        admit(&pool, &state, signed(chain, 1, nonce, TIP, u64::MAX)).unwrap();
    }
}

#[test]
fn an_account_cannot_wait_with_more_than_it_can_pay_for() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    let third = Amount::soma(1).0 / 3;
    for nonce in 0..2 {
        admit(&pool, &state, signed(chain, 1, nonce, third, u64::MAX)).unwrap();
    }
    let refused = admit(&pool, &state, signed(chain, 1, 2, third, u64::MAX)).unwrap_err();
    assert_eq!(refused.code().as_str(), "insufficient_balance");
}

#[test]
fn payments_of_an_account_that_has_spent_its_balance_leave_the_pool() {
    let (mut state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    let all = Amount::soma(1).0 - 10_000_000;
    let spend = payment(chain, 1, 0, 1, u64::MAX, transfer(2, all));
    admit(&pool, &state, spend.clone()).unwrap();
    for nonce in 1..100 {
        admit(&pool, &state, signed(chain, 1, nonce, 1_000_000, u64::MAX)).unwrap();
    }
    admit(&pool, &state, signed(chain, 3, 0, 0, u64::MAX)).unwrap();
    let built = block(&pool, &state);
    assert!(built.included.iter().any(|one| one.transaction().sender == key(3).address()));
    // Another node has the spending block from somebody else.
    let other = Mempool::new(chain, PoolLimits::default());
    admit(&other, &state, spend.clone()).unwrap();
    admit(&other, &state, signed(chain, 1, 1, TIP, u64::MAX)).unwrap();
    state.apply(&built.outcome.changes);
    other.finalized(std::slice::from_ref(&spend), NOW_MS);
    assert_eq!(other.len(), 1);
    admit_all(&other, &state, Vec::new());
    assert_eq!(other.len(), 0);
}

#[test]
fn a_waiting_transaction_is_replaced_only_by_one_that_pays_a_tenth_more() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    let first = signed(chain, 1, 0, TIP, u64::MAX);
    let fee = first.admission_fee(&Params::local()).0;
    admit(&pool, &state, first).unwrap();
    let refused = admit(&pool, &state, signed(chain, 1, 0, TIP + fee / 10, u64::MAX)).unwrap_err();
    assert_eq!(refused.code().as_str(), "replacement_underpriced");
    admit(&pool, &state, signed(chain, 1, 0, TIP + fee / 10 + 1, u64::MAX)).unwrap();
    assert_eq!(pool.len(), 1);
    assert_eq!(pool.next_nonce(&key(1).address(), 0), 1);
}

#[test]
fn a_full_pool_keeps_the_best_paying_transactions_and_refuses_the_others() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits { entries: 3, ..PoolLimits::default() });
    for nonce in 0..2 {
        admit(&pool, &state, signed(chain, 1, nonce, 2 * TIP, u64::MAX)).unwrap();
    }
    admit(&pool, &state, signed(chain, 2, 0, 3 * TIP, u64::MAX)).unwrap();
    let refused = admit(&pool, &state, signed(chain, 3, 0, 2 * TIP, u64::MAX)).unwrap_err();
    assert_eq!(refused, Refusal::MempoolFull);
    admit(&pool, &state, signed(chain, 3, 0, 4 * TIP, u64::MAX)).unwrap();
    assert_eq!(
        places(&selected(&pool, &state)),
        [(4 * TIP, 0), (3 * TIP, 0), (2 * TIP, 0)],
        "the tail of the cheapest went"
    );
}

#[test]
fn a_full_pool_of_payments_has_room_for_duties() {
    let (state, chain) = state();
    let plan = Plan::manual([0; 32]);
    let pool = Mempool::new(chain, PoolLimits { entries: 1, ..PoolLimits::default() });
    admit(&pool, &state, signed(chain, 1, 0, 900 * TIP, u64::MAX)).unwrap();
    let beacon = duty(chain, &plan.key(&validator_name(1)), commit_beacon(2, 1));
    admit(&pool, &state, beacon.clone()).unwrap();
    let selected = selected(&pool, &state);
    assert_eq!(selected[0].hash(), beacon.hash(), "duties come first");
    assert_eq!(selected.len(), 2);
}

#[test]
fn duties_are_refused_from_others_if_the_rules_reject_them_and_while_one_like_it_waits() {
    let (state, chain) = state();
    let plan = Plan::manual([0; 32]);
    let (operator, validator) = (plan.key(OPERATOR), plan.key(&validator_name(1)));
    let end = |phase| Action::EndPhase(action::EndPhase { epoch: Epoch(1), phase });
    let pool = Mempool::new(chain, PoolLimits::default());
    let meddler = admit(&pool, &state, duty(chain, &key(1), end(Phase::Reveal))).unwrap_err();
    assert_eq!(meddler, Refusal::NotEntitled);
    let outsider = admit(&pool, &state, duty(chain, &key(1), commit_beacon(2, 1))).unwrap_err();
    assert_eq!(outsider, Refusal::NotEntitled);
    let early = admit(&pool, &state, duty(chain, &operator, end(Phase::Compete))).unwrap_err();
    assert_eq!(early.code().as_str(), "phase_not_begun");
    let late = admit(&pool, &state, duty(chain, &validator, commit_beacon(9, 1))).unwrap_err();
    assert_eq!(late.code().as_str(), "wrong_epoch");
    let paid = Transaction {
        fee_limit: Amount(u64::MAX),
        ..duty(chain, &validator, commit_beacon(2, 1)).transaction().clone()
    };
    let paid = admit(&pool, &state, paid.sign(&validator)).unwrap_err();
    assert_eq!(paid.code().as_str(), "duty_not_free");
    admit(&pool, &state, duty(chain, &operator, end(Phase::Reveal))).unwrap();
    admit(&pool, &state, duty(chain, &validator, commit_beacon(2, 1))).unwrap();
    let again = admit(&pool, &state, duty(chain, &validator, commit_beacon(2, 2))).unwrap_err();
    assert_eq!(again, Refusal::DutyWaiting);
    assert_eq!(pool.len(), 2);
}

#[test]
fn whoever_was_a_validator_once_has_no_free_transactions() {
    let (state, chain) = state();
    let plan = Plan::manual([0; 32]);
    let pool = Mempool::new(chain, PoolLimits::default());
    // What the attack sent by the thousand: an answer to no challenge, as long as it can be.
    let spam = Action::AnswerChallenge(action::AnswerChallenge {
        epoch: Epoch(1),
        chunk: vec![7; 130_000],
        path: Vec::new(),
    });
    let refused = admit(&pool, &state, duty(chain, &plan.key(&validator_name(1)), spam));
    assert!(matches!(refused, Err(Refusal::Rejected(_))), "{refused:?}");
    assert_eq!(pool.len(), 0);
}

/// Counts how often a state is read.
struct Counting<'a>(&'a MemoryState, AtomicUsize);

impl StateRead for Counting<'_> {
    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(key)
    }
}

/// An answer to a challenge that there is not.
fn answer(number: u8) -> Action {
    let chunk = vec![number; 1_024];
    Action::AnswerChallenge(action::AnswerChallenge { epoch: Epoch(1), chunk, path: Vec::new() })
}

#[test]
fn a_second_refused_duty_of_a_kind_is_refused_unread_until_a_block_and_others_are_heard() {
    let (state, chain) = state();
    let plan = Plan { validators: 2, ..Plan::manual([0; 32]) };
    let validator = plan.key(&validator_name(1));
    let pool = Mempool::new(chain, PoolLimits::default());
    let judged = |number: u8| {
        let counting = Counting(&state, AtomicUsize::new(0));
        let signed = duty(chain, &validator, answer(number));
        let screened = pool.verify_screened(pool.screen(vec![signed], &counting, NOW_MS));
        let answers = pool.enter(screened, &counting, NOW_MS);
        assert_eq!(answers, [Err(Refusal::Rejected(Rejection::NotChallenged))]);
        counting.1.into_inner()
    };
    let first = judged(1);
    for number in 2..10 {
        assert!(judged(number) < first, "it is not executed");
    }
    // Other kinds of the same validator are heard, and so is the same kind after a block.
    admit(&pool, &state, duty(chain, &validator, commit_beacon(2, 1))).unwrap();
    pool.finalized(&[], NOW_MS);
    assert_eq!(judged(10), first);
}

#[test]
fn duties_that_were_just_executed_are_not_held_against_their_sender() {
    let (state, chain) = state();
    let plan = Plan { validators: 2, ..Plan::manual([0; 32]) };
    let validator = plan.key(&validator_name(1));
    let pool = Mempool::new(chain, PoolLimits::default());
    let executed = duty(chain, &validator, answer(1));
    pool.finalized(std::slice::from_ref(&executed), NOW_MS);
    let counting = Counting(&state, AtomicUsize::new(0));
    for _ in 0..3 {
        let screened = pool.screen(vec![executed.clone()], &counting, NOW_MS);
        assert!(
            matches!(&screened[..], [Screened::Answered(Ok(hash))] if *hash == executed.hash())
        );
    }
    assert!(counting.1.into_inner() < 50, "it is not judged again");
    // A rejected one is judged: nothing was counted before.
    let other =
        pool.verify_screened(pool.screen(vec![duty(chain, &validator, answer(2))], &state, NOW_MS));
    assert!(matches!(&other[..], [Screened::Verified(_)]));
}

#[test]
fn whoever_is_paid_for_no_file_is_told_so_before_its_challenge_is_looked_for() {
    let (state, chain) = state();
    let validator = Plan::manual([0; 32]).key(&validator_name(1));
    let pool = Mempool::new(chain, PoolLimits::default());
    pool.set_holders([key(1).address()].into());
    let signed = duty(chain, &validator, answer(1));
    let refused = pool.screen(vec![signed], &state, NOW_MS);
    let expected = Refusal::Rejected(Rejection::NotChallenged);
    assert!(matches!(&refused[..], [Screened::Answered(Err(refusal))] if *refusal == expected));
}

#[test]
fn evidence_that_proves_nothing_is_refused_without_the_state() {
    let (state, chain) = state();
    let genesis = Plan::manual([0; 32]).genesis();
    let vote = |block| SignedBallot {
        ballot: Ballot::Notarize { parent: 4, block: Hash([block; 32]) },
        signature: [7; 64],
    };
    let evidence = Evidence {
        consensus_key: genesis.validators[0].consensus_key,
        term: 0,
        view: 5,
        first: vote(1),
        second: vote(2),
    };
    let report = |evidence| Action::ReportEquivocation(action::ReportEquivocation { evidence });
    let pool = Mempool::new(chain, PoolLimits::default());
    let screened = pool.screen(vec![duty(chain, &key(1), report(evidence))], &state, NOW_MS);
    let verified = pool.verify_screened(screened);
    let expected = Refusal::Rejected(Rejection::BadEvidence);
    assert!(matches!(&verified[..], [Screened::Answered(Err(refusal))] if *refusal == expected));
    let nobodys = Evidence { consensus_key: ConsensusKey([9; 32]), ..evidence };
    let refused = pool.screen(vec![duty(chain, &key(1), report(nobodys))], &state, NOW_MS);
    let expected = Refusal::Rejected(Rejection::NoSuchKey);
    assert!(matches!(&refused[..], [Screened::Answered(Err(refusal))] if *refusal == expected));
}

#[test]
fn duties_that_a_phase_has_overtaken_leave_the_pool() {
    let (mut state, chain) = state();
    let plan = Plan::manual([0; 32]);
    let operator = plan.key(OPERATOR);
    let end = Action::EndPhase(action::EndPhase { epoch: Epoch(1), phase: Phase::Reveal });
    let pools = [(); 2].map(|()| Mempool::new(chain, PoolLimits::default()));
    for (pool, valid_until_ms) in pools.iter().zip([u64::MAX, u64::MAX - 1]) {
        let signed = duty(chain, &operator, end.clone());
        let signed = Transaction { valid_until_ms, ..signed.transaction().clone() };
        admit(pool, &state, signed.sign(&operator)).unwrap();
    }
    let built = block(&pools[0], &state);
    state.apply(&built.outcome.changes);
    let finalized: Vec<_> = built.included.iter().map(|one| one.signed().clone()).collect();
    for pool in &pools {
        pool.finalized(&finalized, NOW_MS);
        admit_all(pool, &state, Vec::new());
        assert_eq!(pool.len(), 0);
    }
}

#[test]
fn finalized_and_expired_transactions_leave_the_pool() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    let first = signed(chain, 1, 0, TIP, u64::MAX);
    let hash = admit(&pool, &state, first.clone()).unwrap();
    assert_eq!(pool.get(&hash), Some(first.clone()));
    admit(&pool, &state, signed(chain, 1, 1, TIP, u64::MAX)).unwrap();
    admit(&pool, &state, signed(chain, 2, 0, TIP, NOW_MS + 1)).unwrap();
    admit(&pool, &state, signed(chain, 2, 1, TIP, u64::MAX)).unwrap();
    pool.finalized(&[first], NOW_MS + 2);
    assert_eq!((pool.len(), pool.get(&hash)), (1, None), "nor does what follows an expired one");
    let early = signed(chain, 3, 0, TIP, NOW_MS - 1);
    assert_eq!(admit(&pool, &state, early).unwrap_err().code().as_str(), "expired");
}

#[test]
fn of_two_transactions_with_one_nonce_the_loser_leaves_its_pool_and_later_nonces_still_run() {
    let (mut state, chain) = state();
    let pools = [(); 2].map(|()| Mempool::new(chain, PoolLimits::default()));
    let rivals = [TIP, TIP + 1].map(|tip| signed(chain, 1, 0, tip, u64::MAX));
    let follower = signed(chain, 1, 1, TIP, u64::MAX);
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
    let first = winner.clone().verify(&chain).unwrap();
    state.apply(&build(&state, &info, &mut [first].into_iter()).unwrap().outcome.changes);
    for pool in &pools {
        pool.finalized(std::slice::from_ref(&winner), NOW_MS);
        assert_eq!(pool.get(&loser.hash()), None);
        assert_eq!(
            places(&selected(pool, &state)),
            [(TIP, 1)],
            "what follows does not care which of the two it was"
        );
        let again = admit(pool, &state, loser.clone()).unwrap_err();
        assert_eq!(again.code().as_str(), "nonce_too_low");
    }
}

#[test]
fn a_block_is_filled_up_to_the_room_of_payments() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    for nonce in 0..10 {
        admit(&pool, &state, payment(chain, 1, nonce, TIP, u64::MAX, garbage())).unwrap();
    }
    admit(&pool, &state, signed(chain, 2, 0, 0, u64::MAX)).unwrap();
    let selected = selected(&pool, &state);
    let weight: u64 = selected.iter().map(VerifiedTransaction::weight).sum();
    assert!(weight <= KIND_WEIGHT_MAX);
    assert_eq!(selected.len(), 6, "five long ones, and the short one that still fits");
    assert_eq!(pool.len(), 11, "the others wait");
}

#[test]
fn among_equal_bids_an_account_with_many_does_not_stand_before_one_with_few() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    for nonce in 0..10 {
        admit(&pool, &state, signed(chain, 1, nonce, TIP, u64::MAX)).unwrap();
    }
    for nonce in 0..2 {
        admit(&pool, &state, signed(chain, 2, nonce, TIP, u64::MAX)).unwrap();
    }
    let order: Vec<_> = selected(&pool, &state)
        .iter()
        .map(VerifiedTransaction::transaction)
        .map(|payment| (payment.sender == key(1).address(), payment.nonce))
        .collect();
    assert_eq!(order[..5], [(true, 0), (false, 0), (true, 1), (false, 1), (true, 2)]);
}

#[test]
fn a_forged_signature_is_refused_in_any_batch() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    let mut batch: Vec<_> = (1..=4).map(|sender| signed(chain, sender, 0, TIP, u64::MAX)).collect();
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
    let queue = pool.payments();
    let next = |address: &Address| read::account(state, address).nonce;
    let mut nonces: BTreeMap<Address, u64> =
        queue.accounts.keys().map(|address| (*address, next(address))).collect();
    let mut order = Vec::new();
    loop {
        let heads = nonces.iter().filter_map(|(address, nonce)| {
            let entry = queue.accounts[address].by_nonce.get(nonce)?;
            Some((entry.bid, *address, entry.transaction.hash()))
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
        for (sender, nonce, tip) in traffic {
            let _answer = admit(&pool, &state, signed(chain, sender, nonce, tip * TIP, u64::MAX));
        }
        let expected = by_the_book(&pool, &state);
        let selected = selected(&pool, &state);
        let hashes: Vec<Hash> = selected.iter().map(VerifiedTransaction::hash).collect();
        prop_assert_eq!(hashes, expected);
    }

    #[test]
    fn bids_are_ordered_by_the_exact_rate(
        bids in prop::collection::vec((any::<u64>(), 1u64..200_000), 2..8),
    ) {
        let bids: Vec<_> = (0..).zip(bids).map(|(arrival, (tip, weight))| {
            let (turn, arrival) = (std::cmp::Reverse(0), std::cmp::Reverse(arrival));
            super::queue::Bid { tip, weight, turn, arrival }
        }).collect();
        for one in &bids {
            for other in &bids {
                let exact = u128::from(one.tip) * u128::from(other.weight)
                    > u128::from(other.tip) * u128::from(one.weight);
                prop_assert_eq!(one.beats(other), exact);
                prop_assert!(!exact || one > other);
            }
        }
    }
}

#[test]
fn a_verified_transaction_is_not_verified_again_and_a_forged_one_always_is() {
    let (state, chain) = state();
    let pool = Mempool::new(chain, PoolLimits::default());
    let good = signed(chain, 1, 0, TIP, u64::MAX);
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
    fn the_pool_stays_within_its_limits_and_every_payment_in_it_can_run(
        traffic in prop::collection::vec(
            (1u8..=4, 0u64..6, 1u64..5, 0u64..3, any::<bool>()), 1..60),
        entries in 1usize..8,
    ) {
        let (state, chain) = state();
        let limits = PoolLimits { entries, bytes: 1_500, per_account: 4 };
        let pool = Mempool::new(chain, limits);
        for (sender, nonce, tip, valid, is_final) in traffic {
            let transaction = signed(chain, sender, nonce, tip * TIP, NOW_MS + valid);
            let size = transaction.bytes().len();
            let admitted = admit(&pool, &state, transaction.clone());
            prop_assert!(size <= limits.bytes);
            prop_assert!(pool.len() <= entries && pool.bytes() <= limits.bytes);
            if let Ok(hash) = admitted {
                prop_assert_eq!(pool.get(&hash), Some(transaction.clone()));
            }
            let built = block(&pool, &state);
            prop_assert!(built.refused.is_empty(), "nothing is offered in vain");
            for number in 1..=4u8 {
                let address = key(number).address();
                let included = built.included.iter().map(VerifiedTransaction::transaction);
                let own = included.filter(|transaction| transaction.sender == address);
                let nonces: Vec<u64> = own.map(|transaction| transaction.nonce).collect();
                let next = read::account(&state, &address).nonce;
                prop_assert!(nonces.iter().copied().eq(next..next + nonces.len() as u64));
            }
            if is_final {
                pool.finalized(std::slice::from_ref(&transaction), NOW_MS);
                prop_assert_eq!(pool.get(&transaction.hash()), None);
            }
        }
        let queue = pool.payments();
        let counted: usize = queue.accounts.values().map(|waiting| waiting.by_nonce.len()).sum();
        let indexed = [queue.places.len(), queue.by_bid.len(), queue.by_expiry.len()];
        prop_assert_eq!(indexed, [counted; 3]);
        let entries = queue.accounts.values().flat_map(|waiting| waiting.by_nonce.values());
        let bytes: usize = entries.map(|entry| entry.transaction.size_bytes()).sum();
        prop_assert_eq!(queue.bytes, bytes);
        for waiting in queue.accounts.values() {
            let fees: Amount = waiting.by_nonce.values().map(|entry| entry.fee).sum();
            prop_assert_eq!(waiting.fees, fees);
        }
    }
}

/// The transaction with a wrong signature.
fn forge(signed: &SignedTransaction) -> SignedTransaction {
    let mut signature = *signed.signature();
    signature[7] ^= 1;
    SignedTransaction::new(signed.transaction().clone(), signature)
}
