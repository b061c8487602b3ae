//! A payment does all that it says and pays for it, or nothing but use up its nonce and the fee for
//! itself; one for another chain, time or nonce is no part of a block, and costs nothing.

use crate::world::{OPERATOR, OTHER, OWNER, VALIDATOR, World};
use soma_codes::Coded as _;
use soma_protocol::{
    Action, Amount, Epoch, Error, Hash, Phase, Rejection, SecretKey, action, check, read,
};

fn transfer(amount: Amount) -> Action {
    Action::Transfer(action::Transfer { to: OTHER.address(), amount })
}

#[test]
fn a_transfer_moves_money_and_pays_its_fee() {
    let mut world = World::with(|_| ());
    let (from, to) = (world.balance(OWNER), world.balance(OTHER));
    let (reserve, burned) = (world.holdings.reserve, world.holdings.burned);
    let receipt = world.send(OWNER, world.transaction(OWNER, transfer(Amount::soma(7))));
    assert_eq!(receipt.result, Ok(()));
    assert!(receipt.fee > world.params().base_fee);
    assert_eq!(world.balance(OWNER), from.less(Amount::soma(7)).less(receipt.fee));
    assert_eq!(world.balance(OTHER), to.plus(Amount::soma(7)));
    let half = receipt.fee.bps(world.params().burn_bps);
    assert_eq!(world.holdings.burned, burned.plus(half));
    assert_eq!(world.holdings.reserve, reserve.plus(receipt.fee.less(half)));
}

#[test]
fn sending_to_oneself_changes_only_the_fee() {
    let mut world = World::with(|_| ());
    let before = world.balance(OTHER);
    let receipt = world.send(OTHER, world.transaction(OTHER, transfer(Amount::soma(7))));
    assert_eq!(world.balance(OTHER), before.less(receipt.fee));
}

#[test]
fn sending_everything_fails_because_the_fee_is_paid_from_the_same_balance() {
    let mut world = World::with(|_| ());
    let all = world.balance(OWNER);
    let transaction = world.transaction(OWNER, transfer(all));
    let fee = transaction.clone().sign(&OWNER.key()).admission_fee(&world.params());
    let receipt = world.send(OWNER, transaction);
    assert!(matches!(receipt.result, Err(Rejection::InsufficientBalance { .. })));
    assert_eq!(world.balance(OWNER), all.less(fee), "the fee for the transaction is kept");
    // An action that leaves too little for the fee of what it writes is rejected as a whole.
    let rest = world.balance(OWNER).less(fee).less(Amount(1));
    let receipt = world.send(OWNER, world.transaction(OWNER, transfer(rest)));
    assert!(matches!(receipt.result, Err(Rejection::InsufficientBalance { .. })));
    assert_eq!(world.balance(OTHER), Amount::soma(10_000));
}

#[test]
fn a_transaction_for_another_chain_time_or_nonce_costs_nothing() {
    let mut world = World::with(|_| ());
    let good = world.transaction(OWNER, transfer(Amount(1)));
    let before = world.state.clone();
    let mut late = good.clone();
    late.valid_until_ms = world.now_ms;
    let mut future = good.clone();
    future.nonce = 1;
    let mut stingy = good.clone();
    stingy.fee_limit = Amount(world.params().base_fee.0 - 1);
    for (transaction, code) in [(late, "expired"), (future, "wrong_nonce"), (stingy, "fee_limit")] {
        let receipt = world.send(OWNER, transaction);
        assert_eq!(
            (receipt.fee, receipt.result.unwrap_err().code().as_str()),
            (Amount::ZERO, code)
        );
        assert_eq!(world.state, before);
    }
    let signed = good.sign(&OWNER.key());
    let wrong = Error::WrongChain { expected: Hash([1; 32]), found: world.chain };
    assert_eq!(signed.verify(&Hash([1; 32])), Err(wrong));
}

#[test]
fn a_transaction_is_valid_until_the_last_moment_of_its_validity() {
    let mut world = World::with(|_| ());
    let mut transaction = world.transaction(OWNER, transfer(Amount(1)));
    transaction.valid_until_ms = world.now_ms + 500;
    assert_eq!(world.send(OWNER, transaction).result, Ok(()));
}

#[test]
fn a_transaction_is_executed_once() {
    let mut world = World::with(|_| ());
    let verified = world
        .transaction(OWNER, transfer(Amount(1)))
        .sign(&OWNER.key())
        .verify(&world.chain)
        .unwrap();
    let receipts = world.execute(&[verified.clone(), verified]);
    assert_eq!(receipts[0].result, Ok(()));
    assert_eq!(receipts[1].result, Err(Rejection::WrongNonce { expected: 1, found: 0 }));
}

#[test]
fn an_account_may_follow_itself_in_one_block() {
    let mut world = World::with(|_| ());
    let mut transactions = Vec::new();
    for nonce in 0..5 {
        let mut transaction = world.transaction(OWNER, transfer(Amount(1)));
        transaction.nonce = nonce;
        transactions.push(transaction.sign(&OWNER.key()).verify(&world.chain).unwrap());
    }
    assert!(world.execute(&transactions).iter().all(|receipt| receipt.result.is_ok()));
    assert_eq!(read::account(&world.state, &OWNER.address()).nonce, 5);
}

#[test]
fn a_signature_of_another_key_is_rejected() {
    let world = World::with(|_| ());
    let transaction = world.transaction(OWNER, transfer(Amount(1)));
    let forged = transaction.sign(&SecretKey::from_bytes(&[99; 32]));
    assert_eq!(forged.verify(&world.chain), Err(Error::Signature));
}

#[test]
fn the_duties_of_validators_and_the_operator_are_free() {
    let mut world = World::with(|_| ());
    let before = world.balance(VALIDATOR);
    let action =
        Action::CommitBeacon(action::CommitBeacon { epoch: Epoch(2), commitment: Hash([1; 32]) });
    let receipt = world.send(VALIDATOR, world.transaction(VALIDATOR, action));
    assert_eq!((receipt.fee, receipt.result), (Amount::ZERO, Ok(())));
    assert_eq!(world.balance(VALIDATOR), before);
    // The operator of a local network may have no money at all.
    assert_eq!(world.balance(OPERATOR), Amount::ZERO);
    world.must(
        OPERATOR,
        Action::EndPhase(action::EndPhase { epoch: Epoch(1), phase: Phase::Reveal }),
    );
}

#[test]
fn a_check_predicts_execution_and_changes_nothing() {
    let mut world = World::with(|_| ());
    let block = soma_protocol::BlockInfo {
        height: 1,
        timestamp_ms: world.now_ms + 500,
        proposer: VALIDATOR.address(),
    };
    for amount in [Amount(1), Amount::ZERO, Amount(u64::MAX)] {
        let verified = world
            .transaction(OWNER, transfer(amount))
            .sign(&OWNER.key())
            .verify(&world.chain)
            .unwrap();
        let (receipt, _) = check(&world.state, &block, &verified).unwrap();
        assert_eq!(world.execute(&[verified]), [receipt]);
    }
}
