//! The room of blocks has a price that everybody pays, rejected or not; what validators owe the
//! network is free, and nobody else can use that.

use proptest::prelude::*;
use soma_codes::Coded as _;
use soma_protocol::room::{BLOCK_TRANSACTIONS_MAX, BLOCK_WEIGHT_MAX, KIND_WEIGHT_MAX};
use soma_protocol::{
    Action, Address, Amount, Epoch, Hash, InvalidBlock, Params, Phase, RECORD_OVERHEAD_BYTES,
    Rejection, TargetId, Transaction, VerifiedTransaction, action, build, execute, read,
};

use crate::validators_and_seats::register;
use crate::world::{
    OPERATOR, OTHER, OWNER, Person, RIVAL, SECOND_VALIDATOR, SUBMITTER, VALIDATOR, World, validator,
};

/// The least time between two blocks of a network, in ms.
const BLOCK_MS: u64 = 500;

fn sign(world: &World, person: Person, transaction: Transaction) -> VerifiedTransaction {
    transaction.sign(&person.key()).verify(&world.chain).unwrap()
}

fn transfer(to: Person, amount: u64) -> Action {
    Action::Transfer(action::Transfer { to: to.address(), amount: Amount(amount) })
}

/// An action as long as one can be, which is rejected.
fn garbage() -> Action {
    let data = vec![7; 130_000];
    Action::PublishData(action::PublishData {
        target: TargetId(99),
        data,
        ..action::PublishData::default()
    })
}

fn commit_beacon(world: &World, fill: u8) -> Action {
    let epoch = world.epoch().next();
    Action::CommitBeacon(action::CommitBeacon { epoch, commitment: Hash([fill; 32]) })
}

#[test]
fn a_rejected_transaction_pays_for_its_bytes() {
    let mut world = World::with(|_| ());
    let transaction = sign(&world, OTHER, world.transaction(OTHER, garbage()));
    let (params, before) = (world.params(), world.balance(OTHER));
    let fee = transaction.signed().admission_fee(&params);
    assert!(fee >= params.byte_fee.times(130_000));
    let receipt = world.execute(&[transaction]).pop().unwrap();
    assert!(receipt.result.is_err());
    assert_eq!((receipt.fee, world.balance(OTHER)), (fee, before.less(fee)));
}

#[test]
fn whoever_cannot_pay_for_a_transaction_makes_the_block_invalid() {
    let world = World::with(|_| ());
    // The first one spends what the second one would cost.
    let all = world.balance(OTHER);
    let spend = transfer(RIVAL, all.0 - 100_000);
    let spend = sign(&world, OTHER, world.transaction(OTHER, spend));
    let next = Transaction { nonce: 1, ..world.transaction(OTHER, garbage()) };
    let block = [spend.clone(), sign(&world, OTHER, next)];
    let invalid = execute(&world.state, &world.next_block(), &block).unwrap_err();
    let InvalidBlock::Inadmissible { hash, rejection } = invalid else { panic!("{invalid}") };
    assert_eq!(hash, block[1].hash());
    assert_eq!(rejection.code().as_str(), "insufficient_balance");
    let built = build(&world.state, &world.next_block(), &mut block.into_iter()).unwrap();
    assert_eq!(built.included, [spend], "a proposer leaves it out");
}

#[test]
fn a_block_with_a_transaction_of_another_time_or_nonce_or_with_too_low_a_limit_is_invalid() {
    let world = World::with(|_| ());
    let good = world.transaction(OWNER, transfer(OTHER, 1));
    let fee = sign(&world, OWNER, good.clone()).signed().admission_fee(&world.params());
    let bad = [
        (Transaction { valid_until_ms: world.now_ms, ..good.clone() }, "expired"),
        (Transaction { nonce: 1, ..good.clone() }, "wrong_nonce"),
        (Transaction { fee_limit: fee.less(Amount(1)), ..good.clone() }, "fee_limit"),
    ];
    for (transaction, code) in bad {
        let block = [sign(&world, OWNER, transaction)];
        let Err(InvalidBlock::Inadmissible { rejection, .. }) =
            execute(&world.state, &world.next_block(), &block)
        else {
            panic!("{code}")
        };
        assert_eq!(rejection.code().as_str(), code);
    }
    let exact = Transaction { fee_limit: fee, ..good };
    assert!(execute(&world.state, &world.next_block(), &[sign(&world, OWNER, exact)]).is_ok());
}

#[test]
fn a_tip_is_charged_in_full() {
    let mut world = World::with(|_| ());
    let plain = world.send(OWNER, world.transaction(OWNER, transfer(OTHER, 1)));
    let tip = Amount(12_345);
    let tipped = Transaction { tip, ..world.transaction(OWNER, transfer(OTHER, 1)) };
    assert_eq!(world.send(OWNER, tipped).fee, plain.fee.plus(tip));
}

#[test]
fn who_opens_an_account_pays_for_its_room_and_the_next_transfer_does_not() {
    let mut world = World::with(|genesis| genesis.params.room_fee = Amount(100_000));
    let outsider = Person(200);
    let first = world.send(OWNER, world.transaction(OWNER, transfer(outsider, 1)));
    let next = world.send(OWNER, world.transaction(OWNER, transfer(outsider, 1)));
    assert_eq!((&first.result, &next.result), (&Ok(()), &Ok(())));
    let account_bytes = 17;
    let room = Amount(100_000).times(account_bytes + RECORD_OVERHEAD_BYTES);
    assert_eq!(first.fee, next.fee.plus(room));
    assert_eq!(room.to_string(), "0.0145");
}

#[test]
fn a_transfer_to_a_new_account_is_rejected_if_the_limit_does_not_cover_its_room() {
    let mut world = World::with(|genesis| genesis.params.room_fee = Amount(100_000));
    let outsider = Person(200);
    let cheap = Transaction {
        fee_limit: Amount(1_000_000),
        ..world.transaction(OWNER, transfer(outsider, 1))
    };
    let receipt = world.send(OWNER, cheap);
    assert_eq!(receipt.result.unwrap_err().code().as_str(), "fee_limit");
    assert!(receipt.fee > Amount::ZERO);
    assert_eq!(world.balance(outsider), Amount::ZERO);
}

#[test]
fn outsiders_make_no_records_for_nothing() {
    let mut world = World::with(|_| ());
    let before = world.state.clone();
    let outsiders = (100..200).map(Person);
    let attempts: Vec<_> = outsiders
        .flat_map(|outsider| {
            let paying = Action::ReturnValidator(action::ReturnValidator {});
            let free = commit_beacon(&world, 1);
            [paying, free].map(|action| sign(&world, outsider, world.transaction(outsider, action)))
        })
        .collect();
    let receipts = world.execute(&attempts);
    assert!(receipts.iter().all(|receipt| receipt.fee == Amount::ZERO && receipt.result.is_err()));
    assert_eq!(world.state, before);
}

#[test]
fn a_duty_neither_reads_nor_writes_its_senders_account() {
    let poor = SECOND_VALIDATOR;
    let mut world = World::with(|genesis| genesis.validators.push(validator(poor, 1_000)));
    let duty = commit_beacon(&world, 1);
    world.must(poor, duty);
    assert_eq!(
        read::account(&world.state, &poor.address()),
        soma_protocol::record::Account::default()
    );
    assert!(world.state.iter().count() > 0);
    let account = soma_protocol::Key::account(&poor.address());
    assert!(soma_protocol::StateRead::get(&world.state, &account).is_none());
}

#[test]
fn a_rejected_duty_makes_the_block_invalid() {
    let mut world = World::with(|_| ());
    let duty = sign(&world, VALIDATOR, world.transaction(VALIDATOR, commit_beacon(&world, 1)));
    let twice = [duty.clone(), duty.clone()];
    let rejection = Rejection::BeaconAlreadyCommitted { epoch: Epoch(2) };
    let invalid = Err(InvalidBlock::Inadmissible { hash: duty.hash(), rejection });
    assert_eq!(execute(&world.state, &world.next_block(), &twice), invalid);
    let receipts = world.execute(&twice);
    assert_eq!(receipts[0].result, Ok(()));
    assert_eq!(
        execute(&world.state, &world.next_block(), &[duty]),
        invalid,
        "it cannot be replayed later either"
    );
}

#[test]
fn whoever_has_left_has_no_free_transactions() {
    let mut world = World::with(|_| ());
    world.must(OWNER, register(&world, OWNER, 100, 500));
    world.go_to_next_epoch();
    world.must(OWNER, Action::LeaveValidator(action::LeaveValidator {}));
    let pool = soma_protocol::PoolId::Validator(OWNER.address());
    let amount = Amount(u64::MAX);
    world.must(OWNER, Action::WithdrawStake(action::WithdrawStake { pool, amount }));
    for _ in 0..5 {
        world.go_to_next_epoch();
    }
    let before = world.state.clone();
    // What once filled every block of the network, 130,000 bytes at a time.
    let answer = Action::AnswerChallenge(action::AnswerChallenge {
        epoch: world.epoch(),
        chunk: vec![7; 130_000],
        path: Vec::new(),
    });
    for action in [answer, commit_beacon(&world, 1)] {
        let duty = sign(&world, OWNER, world.transaction(OWNER, action));
        let block = world.next_block();
        let invalid = execute(&world.state, &block, std::slice::from_ref(&duty));
        assert!(matches!(invalid, Err(InvalidBlock::Inadmissible { .. })), "{invalid:?}");
        world.execute(&[duty]);
        assert_eq!(world.state, before);
    }
}

#[test]
fn a_duty_with_a_nonce_tip_or_fee_limit_is_no_part_of_a_block() {
    let world = World::with(|_| ());
    let duty = world.transaction(VALIDATOR, commit_beacon(&world, 1));
    let bad = [
        Transaction { nonce: 1, ..duty.clone() },
        Transaction { tip: Amount(1), ..duty.clone() },
        Transaction { fee_limit: Amount(1), ..duty },
    ];
    for transaction in bad {
        let transaction = sign(&world, VALIDATOR, transaction);
        let invalid = execute(&world.state, &world.next_block(), &[transaction]).unwrap_err();
        let InvalidBlock::Inadmissible { rejection, .. } = invalid else { panic!("{invalid}") };
        assert_eq!(rejection, Rejection::DutyNotFree);
    }
}

#[test]
fn the_end_of_a_phase_cannot_be_commanded_twice() {
    let mut world = World::with(|_| ());
    let end = Action::EndPhase(action::EndPhase { epoch: Epoch(1), phase: Phase::Reveal });
    world.must(OPERATOR, end.clone());
    let running = world.clock();
    assert_eq!(world.act(OPERATOR, end), Err(Rejection::WrongPhase { phase: running.1 }));
    assert_eq!(world.clock(), running);
}

#[test]
fn a_validator_that_returns_pays_like_everybody() {
    let mut world = World::with(|_| ());
    let action = Action::ReturnValidator(action::ReturnValidator {});
    let receipt = world.send(VALIDATOR, world.transaction(VALIDATOR, action));
    assert_eq!(receipt.result, Err(Rejection::AlreadyValidator));
    assert!(receipt.fee > Amount::ZERO);
}

/// Payments of one account, each of the most weight.
fn payments(world: &World, person: Person, count: u64) -> Vec<VerifiedTransaction> {
    (0..count)
        .map(|nonce| Transaction { nonce, ..world.transaction(person, garbage()) })
        .map(|transaction| sign(world, person, transaction))
        .collect()
}

#[test]
fn payments_leave_a_quarter_of_every_block_to_duties() {
    let world = World::with(|_| ());
    let mut block = payments(&world, OTHER, 8);
    let fitting = usize::try_from(KIND_WEIGHT_MAX / block[0].weight()).unwrap();
    let duty = sign(&world, VALIDATOR, world.transaction(VALIDATOR, commit_beacon(&world, 1)));
    block.push(duty.clone());
    let built = build(&world.state, &world.next_block(), &mut block.clone().into_iter()).unwrap();
    let weight: u64 = built.included.iter().map(VerifiedTransaction::weight).sum();
    assert!(weight <= BLOCK_WEIGHT_MAX);
    assert_eq!(built.included.last(), Some(&duty));
    assert!(weight - duty.weight() <= KIND_WEIGHT_MAX);
    assert_eq!(built.refused, [], "what has no room waits");
    let full = execute(&world.state, &world.next_block(), &block);
    assert_eq!(full, Err(InvalidBlock::NoRoom { hash: block[fitting].hash() }));
}

#[test]
fn duties_leave_a_quarter_of_every_block_to_payments() {
    // As many validators as it takes: each answers with the longest list of files.
    let world = World::with(|_| ());
    let file = |model: u32| soma_protocol::HeldFile {
        model: soma_protocol::ModelId(model),
        ciphertext_hash: Hash::default(),
        size_bytes: 1,
    };
    let held: Vec<_> = (1..=1_000).map(file).collect();
    let hold = Action::HoldWeights(action::HoldWeights { epoch: world.epoch().next(), held });
    let duty = sign(&world, VALIDATOR, world.transaction(VALIDATOR, hold));
    let weight = duty.weight();
    let mut room = soma_protocol::Room::new();
    let mut count = 0;
    while let Some(rest) = room.without(duty.signed()) {
        (room, count) = (rest, count + 1);
    }
    assert_eq!(count, KIND_WEIGHT_MAX / weight);
    assert!(room.payments() >= BLOCK_WEIGHT_MAX / 4);
    assert!(room.duties() < weight);
}

#[test]
fn payments_fill_their_room_before_they_reach_the_count_of_transactions() {
    let world = World::with(|_| ());
    let one = sign(&world, OWNER, world.transaction(OWNER, transfer(OTHER, 1)));
    let lightest = one.weight().min(sign_lightest(&world).weight());
    let by_weight = KIND_WEIGHT_MAX / lightest;
    assert!(by_weight <= u64::from(BLOCK_TRANSACTIONS_MAX));
}

/// The payment of the least weight.
fn sign_lightest(world: &World) -> VerifiedTransaction {
    let action = Action::LeaveValidator(action::LeaveValidator {});
    sign(world, OWNER, world.transaction(OWNER, action))
}

/// What it costs to fill the room for payments of half of a day's blocks, so that no payment of
/// anybody else enters them, if nobody else offers a tip.
fn cost_of_half_a_day(params: &Params) -> Amount {
    let blocks = 86_400_000 / BLOCK_MS / 2;
    params.byte_fee.times(KIND_WEIGHT_MAX).times(blocks)
}

#[test]
fn keeping_others_out_of_half_of_a_networks_blocks_costs_a_thousand_soma_a_day() {
    let cost = cost_of_half_a_day(&Params::network());
    assert!(cost >= Amount::soma(1_000), "{cost}");
    assert_eq!(cost.0 / Amount::soma(1).0, 6_794, "docs/protocol.md states it");
}

#[test]
fn an_account_of_a_network_costs_its_creator_a_hundredth_of_a_soma() {
    let room = Params::network().room_fee.times(17 + RECORD_OVERHEAD_BYTES);
    assert_eq!(room.to_string(), "0.0145", "docs/protocol.md states it");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_built_block_is_valid_and_has_the_outcome_that_was_built(
        candidates in prop::collection::vec((0..5_usize, 0..4_u64, 0..4_u8, any::<bool>()), 0..24),
    ) {
        let mut world = World::with(|_| ());
        let people = [OWNER, RIVAL, SUBMITTER, VALIDATOR, Person(200)];
        let candidates: Vec<_> = candidates.into_iter().map(|(person, nonce, kind, tip)| {
            let person = people[person];
            let action = match kind {
                0 => transfer(OTHER, 1),
                1 => transfer(Person(200), world.balance(person).0 / 2),
                2 => garbage(),
                _ => commit_beacon(&world, 1),
            };
            let is_duty = action.is_duty();
            let mut transaction = world.transaction(person, action);
            transaction.nonce = if is_duty && nonce < 3 { 0 } else { nonce };
            transaction.tip = Amount(u64::from(tip && !is_duty));
            sign(&world, person, transaction)
        }).collect();
        let count = candidates.len();
        // `World::execute` compares the built block with its execution.
        prop_assert_eq!(world.execute(&candidates).len(), count);
    }
}

#[test]
fn an_address_without_money_cannot_send_a_payment() {
    let mut world = World::with(|_| ());
    let outsider = Person(200);
    let receipt = world.send(outsider, world.transaction(outsider, transfer(OTHER, 1)));
    assert_eq!(receipt.result.unwrap_err().code().as_str(), "insufficient_balance");
    assert_eq!(read::account(&world.state, &Address(outsider.address().0)).nonce, 0);
}
