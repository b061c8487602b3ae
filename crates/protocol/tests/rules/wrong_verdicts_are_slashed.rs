//! Four validators audit: a verdict cannot be copied, two thirds decide, and validators with
//! another verdict are slashed.

use crate::world::{
    Data, OTHER, Person, SECOND_VALIDATOR, SUBMITTER, THIRD_VALIDATOR, VALIDATOR, World, validator,
    verdict,
};
use soma_protocol::record::{Broken, ModelStatus, ReturnReason, TargetStatus};
use soma_protocol::{
    Action, Amount, Event, Hash, ModelId, Phase, Rejection, TargetId, Validity, Verdict, action,
    commitment, read,
};

const FOURTH_VALIDATOR: Person = Person(9);
const ALL: [Person; 4] = [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR, FOURTH_VALIDATOR];

fn four() -> World {
    World::with(|genesis| {
        genesis.validators = ALL.map(|one| validator(one, 1_000)).to_vec();
        genesis.params.missed_reveal_slash_bps = 1_000;
    })
}

fn open(target: u32, verdict: &Verdict) -> Action {
    Action::RevealVerdict(action::RevealVerdict {
        target: TargetId(target),
        verdict: verdict.clone(),
    })
}

/// Everybody commits to a verdict and shows it; then the epoch ends.
fn audit(world: &mut World, target: u32, verdicts: &[(Person, Verdict)]) {
    world.go_to_compete();
    for (person, verdict) in verdicts {
        world.must(*person, world.attest_verdict(*person, target, verdict));
    }
    let (epoch, phase) = world.clock();
    world.must(crate::world::OPERATOR, Action::EndPhase(action::EndPhase { epoch, phase }));
    assert_eq!(world.clock().1, Phase::Attest);
    for (person, verdict) in verdicts {
        world.must(*person, open(target, verdict));
    }
    world.go_to_next_epoch();
}

fn stake(world: &World, person: Person) -> Amount {
    read::validator(&world.state, &person.address()).unwrap().pool.stake
}

#[test]
fn a_loss_that_is_wrong_in_the_last_bit_costs_the_bond() {
    let mut world = four();
    let target = world.win(SUBMITTER, &Data::new("almost true"));
    let bond = read::candidates(&world.state, TargetId(target))[0].bond;
    let (balance, burned) = (world.balance(SUBMITTER), world.holdings.burned);
    let invalid = verdict(Validity::Invalid);
    audit(&mut world, target, &ALL.map(|one| (one, invalid.clone())));
    let reason = ReturnReason::Invalid;
    assert_eq!(world.target(target).status, TargetStatus::Returned { reason });
    assert_eq!(world.balance(SUBMITTER), balance, "the bond does not return");
    assert!(world.holdings.burned >= burned.plus(bond));
}

#[test]
fn three_of_four_decide_and_the_fourth_is_slashed_for_another_verdict() {
    let mut world = four();
    let target = world.win(SUBMITTER, &Data::new("true"));
    let valid = verdict(Validity::Valid);
    // The verdict is right and the trace is not: it did not run the models.
    let invented = Verdict { trace: Hash([9; 32]), ..valid.clone() };
    let verdicts = [
        (VALIDATOR, valid.clone()),
        (SECOND_VALIDATOR, valid.clone()),
        (THIRD_VALIDATOR, valid),
        (FOURTH_VALIDATOR, invented),
    ];
    audit(&mut world, target, &verdicts);
    let status = world.target(target).status;
    assert!(matches!(status, TargetStatus::Settled { .. }), "{status:?}");
    assert_eq!(stake(&world, FOURTH_VALIDATOR), Amount::soma(999));
    assert_eq!(stake(&world, VALIDATOR), Amount::soma(1_000));
}

#[test]
fn two_of_four_decide_nothing_and_nobody_is_slashed() {
    let mut world = four();
    let target = world.win(SUBMITTER, &Data::new("disputed"));
    let balance = world.balance(SUBMITTER);
    let bond = read::candidates(&world.state, TargetId(target))[0].bond;
    let verdicts = [
        (VALIDATOR, verdict(Validity::Valid)),
        (SECOND_VALIDATOR, verdict(Validity::Valid)),
        (THIRD_VALIDATOR, verdict(Validity::Invalid)),
        (FOURTH_VALIDATOR, verdict(Validity::Invalid)),
    ];
    audit(&mut world, target, &verdicts);
    let reason = ReturnReason::NoQuorum;
    assert_eq!(world.target(target).status, TargetStatus::Returned { reason });
    assert_eq!(world.balance(SUBMITTER), balance.plus(bond));
    for one in ALL {
        assert_eq!(stake(&world, one), Amount::soma(1_000));
    }
}

#[test]
fn an_undecided_claim_costs_its_bond_if_a_third_found_it_false_and_a_part_if_few_looked() {
    let [valid, invalid] = [Validity::Valid, Validity::Invalid].map(verdict);
    let lost = |verdicts: &[(Person, Verdict)]| {
        let mut world = four();
        let target = world.win(SUBMITTER, &Data::new("disputed"));
        let candidate = read::candidates(&world.state, TargetId(target))[0];
        let balance = world.balance(SUBMITTER);
        audit(&mut world, target, verdicts);
        let reason = ReturnReason::NoQuorum;
        assert_eq!(world.target(target).status, TargetStatus::Returned { reason });
        let returned = world.balance(SUBMITTER).less(balance);
        let longest = u128::from(world.params().data_bytes_max);
        let part = candidate.bond.of(candidate.size_bytes.into(), longest).over(4);
        (candidate.bond.less(returned), candidate.bond, part)
    };
    let [one, two, three] = [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR];
    let (found_false, bond, part) = lost(&[(one, invalid.clone()), (two, invalid.clone())]);
    assert_eq!(found_false, bond, "one of the two is honest");
    let (found_true, ..) = lost(&[(one, valid.clone()), (two, valid.clone()), (three, invalid)]);
    assert_eq!(found_true, Amount::ZERO);
    let (hardly_audited, ..) = lost(&[(one, valid)]);
    assert!(Amount::ZERO < part && part < bond);
    assert_eq!(hardly_audited, part, "nobody knows whether it kept others out with right");
}

#[test]
fn a_verdict_cannot_be_copied_changed_or_revealed_early() {
    let mut world = four();
    let target = world.win(SUBMITTER, &Data::new("secret"));
    world.go_to_compete();
    let valid = verdict(Validity::Valid);
    let Action::CommitVerdict(action::CommitVerdict { commitment, .. }) =
        world.attest_verdict(VALIDATOR, target, &valid)
    else {
        unreachable!()
    };
    world.must(VALIDATOR, world.attest_verdict(VALIDATOR, target, &valid));
    let id = TargetId(target);
    let copied = Action::CommitVerdict(action::CommitVerdict { target: id, commitment });
    world.must(SECOND_VALIDATOR, copied);
    let early = Err(Rejection::WrongPhase { phase: Phase::Compete });
    assert_eq!(world.act(VALIDATOR, open(target, &valid)), early);
    let (epoch, phase) = world.clock();
    world.must(crate::world::OPERATOR, Action::EndPhase(action::EndPhase { epoch, phase }));
    let late = Err(Rejection::WrongPhase { phase: Phase::Attest });
    let third = world.attest_verdict(THIRD_VALIDATOR, target, &valid);
    assert_eq!(world.act(THIRD_VALIDATOR, third), late);
    world.must(VALIDATOR, open(target, &valid));
    // A copied commitment cannot be revealed, even when its content is known.
    let mismatch = Err(Rejection::CommitmentMismatch);
    assert_eq!(world.act(SECOND_VALIDATOR, open(target, &valid)), mismatch);
    let nothing = Err(Rejection::VerdictNotCommitted { target: id });
    assert_eq!(world.act(THIRD_VALIDATOR, open(target, &valid)), nothing);
    let twice = Err(Rejection::AlreadyAttested { target: id });
    assert_eq!(world.act(VALIDATOR, open(target, &valid)), twice);
    assert_eq!(world.act(OTHER, open(target, &valid)), Err(Rejection::NotValidator));
}

/// What each validator was paid in the last block.
fn rewards(world: &World) -> Vec<(Person, Amount)> {
    let paid = |event: &Event| match event {
        Event::ValidatorRewarded { validator, amount, .. } => {
            Some((ALL.into_iter().find(|one| one.address() == *validator)?, *amount))
        }
        _ => None,
    };
    world.events.iter().filter_map(paid).collect()
}

#[test]
fn silence_earns_nothing_and_its_share_returns_to_the_reserve() {
    let mut world = four();
    let value = Hash([5; 32]);
    // A win to audit in epoch 2, in which all four reveal their randomness.
    world.go_to_compete();
    let epoch = world.epoch().next();
    for one in ALL {
        let commitment = commitment::beacon(&world.chain, &one.address(), epoch, &value);
        world.must(one, Action::CommitBeacon(action::CommitBeacon { epoch, commitment }));
    }
    let target = world.win(SUBMITTER, &Data::new("audited by three"));
    for one in ALL {
        world.must(one, Action::RevealBeacon(action::RevealBeacon { epoch, value }));
    }
    world.go_to_compete();
    let valid = verdict(Validity::Valid);
    for one in &ALL[..3] {
        world.must(*one, world.attest_verdict(*one, target, &valid));
    }
    world.go_to_next_epoch();
    let paid = rewards(&world);
    let who: Vec<Person> = paid.iter().map(|(one, _)| *one).collect();
    assert_eq!(who, &ALL[..3]);
    assert!(paid.iter().all(|(_, amount)| *amount == paid[0].1));
    assert_eq!(stake(&world, FOURTH_VALIDATOR), Amount::soma(1_000), "silence is not a fault");
}

#[test]
fn a_model_whose_file_is_not_what_was_revealed_is_slashed_and_inactive() {
    let mut world = four();
    let target = world.win(SUBMITTER, &Data::new("only one model runs"));
    let broken = world.target(target).routed[1].model;
    let found = Verdict { broken: Broken(0b10), ..verdict(Validity::Valid) };
    audit(&mut world, target, &ALL.map(|one| (one, found.clone())));
    let model = world.model(broken.0);
    assert_eq!(model.status, ModelStatus::Inactive);
    assert_eq!(model.pool.stake, Amount::soma(90));
    world.go_to_compete();
    let routed: Vec<ModelId> = read::targets(&world.state, world.epoch())
        .iter()
        .flat_map(|target| target.routed.iter().map(|routed| routed.model))
        .collect();
    assert!(!routed.contains(&broken));
}
