//! Consensus counts seats, so a seat costs about as much as what it decides: nobody gets seats,
//! bits of the beacon or places in the list of validators for little stake, and nobody keeps others
//! from what their stake is worth.

use std::collections::BTreeSet;

use crate::validators_and_seats::{consensus_key, evidence, notarize, register, rotate};
use crate::validators_vote_and_models_migrate::parameter;
use crate::world::{OTHER, OWNER, Person, RIVAL, SUBMITTER, World, validator};
use proptest::prelude::*;
use soma_protocol::record::{VALIDATORS_MAX, Validator, ValidatorStatus};
use soma_protocol::seat_stake::blocking;
use soma_protocol::{
    Action, Address, Amount, Committee, ConsensusKey, Endpoints, GenesisAccount, GenesisValidator,
    Hash, PoolId, Rejection, action, commitment, read,
};

/// The people of these tests, apart from those of every world.
fn people(count: usize) -> Vec<Person> {
    (100..=u8::MAX).map(Person).take(count).collect()
}

fn account(person: Person, soma: u64) -> GenesisAccount {
    GenesisAccount { address: person.address(), balance: Amount::soma(soma) }
}

/// A network whose validators are [`people`] with these stakes, each with some money to pay fees.
fn network(stakes: &[u64]) -> World {
    let people = people(stakes.len());
    World::with(|genesis| {
        genesis.params.seats_max = 64;
        genesis.validators =
            people.iter().zip(stakes).map(|(person, soma)| validator(*person, *soma)).collect();
        genesis.accounts.extend(people.iter().map(|person| account(*person, 100)));
    })
}

fn committee(world: &World) -> Committee {
    read::committee(&world.state)
}

fn record(world: &World, person: Person) -> Validator {
    read::validator(&world.state, &person.address()).unwrap()
}

/// Its stake and its balance.
fn wealth(world: &World, person: Person) -> Amount {
    record(world, person).pool.stake.plus(world.balance(person))
}

fn has_seat(world: &World, person: Person) -> bool {
    committee(world).seats_validator(&person.address())
}

fn add_stake(person: Person, soma: u64) -> Action {
    let pool = PoolId::Validator(person.address());
    Action::AddStake(action::AddStake { pool, amount: Amount::soma(soma) })
}

fn withdraw(person: Person, amount: Amount) -> Action {
    let pool = PoolId::Validator(person.address());
    Action::WithdrawStake(action::WithdrawStake { pool, amount })
}

fn leave() -> Action {
    Action::LeaveValidator(action::LeaveValidator {})
}

fn come_back() -> Action {
    Action::ReturnValidator(action::ReturnValidator {})
}

const VALUE: Hash = Hash([5; 32]);

fn commit_beacon(world: &World, person: Person) -> Action {
    let epoch = world.epoch().next();
    let commitment = commitment::beacon(&world.chain, &person.address(), epoch, &VALUE);
    Action::CommitBeacon(action::CommitBeacon { epoch, commitment })
}

fn reveal_beacon(world: &World) -> Action {
    Action::RevealBeacon(action::RevealBeacon { epoch: world.epoch(), value: VALUE })
}

/// Commits to randomness, continues to the next epoch and reveals it there.
fn take_part_in_beacon(world: &mut World, people: &[Person]) {
    for person in people {
        world.must(*person, commit_beacon(world, *person));
    }
    world.go_to_next_epoch();
    for person in people.iter().filter(|person| has_seat(world, **person)).collect::<Vec<_>>() {
        world.must(*person, reveal_beacon(world));
    }
}

/// The cheapest third of the seats, which consensus cannot do without, has at least a quarter of
/// the stake that seats count.
#[track_caller]
fn check_price(committee: &Committee) {
    let mut stakes: Vec<Amount> = committee.seats.iter().map(|seat| seat.stake).collect();
    stakes.sort_unstable();
    let third: Amount = stakes.iter().take(blocking(stakes.len())).copied().sum();
    assert!(third.times(4) >= committee.stake(), "{stakes:?}");
}

/// At most a third of the seats was given up and at most as many keys are new.
#[track_caller]
fn check_changes(old: &Committee, new: &Committee) {
    let changes_max = (old.seats.len() / 3).max(1);
    let lost = old.seats.iter().filter(|seat| !new.seats_validator(&seat.validator)).count();
    let keys: BTreeSet<[u8; 32]> = old.seats.iter().map(|seat| seat.consensus_key.0).collect();
    let brought = new.seats.iter().filter(|seat| !keys.contains(&seat.consensus_key.0)).count();
    assert!(lost <= changes_max && brought <= changes_max, "{old:?}\n{new:?}");
    assert!(!new.seats.is_empty() && new.seats.len() <= 64);
}

/// Continues to the next epoch and checks the election.
#[track_caller]
fn elect(world: &mut World) {
    let old = committee(world);
    world.go_to_next_epoch();
    let new = committee(world);
    check_changes(&old, &new);
    check_price(&new);
}

#[test]
fn many_validators_with_little_stake_get_no_seat_beside_a_few_with_much() {
    let at_genesis = network(&[vec![100_000; 20], vec![1_000; 40]].concat());
    assert_eq!(committee(&at_genesis).seats.len(), 20);

    let comers: Vec<Person> = people(60).split_off(20);
    let mut world = World::with(|genesis| {
        genesis.params.seats_max = 64;
        genesis.validators = people(20).iter().map(|one| validator(*one, 100_000)).collect();
        genesis.accounts.extend(comers.iter().map(|one| account(*one, 1_100)));
    });
    for (key, person) in (60..).zip(&comers) {
        world.must(*person, register(&world, *person, key, 1_000));
    }
    for _ in 0..3 {
        elect(&mut world);
        assert!(comers.iter().all(|person| !has_seat(&world, *person)));
        assert_eq!(committee(&world).seats.len(), 20);
    }
}

#[test]
fn seats_that_have_become_cheap_are_given_up_a_third_at_a_time() {
    let all = people(60);
    let rich = &all[..20];
    let mut world = World::with(|genesis| {
        genesis.params.seats_max = 64;
        genesis.validators = all.iter().map(|one| validator(*one, 1_000)).collect();
        genesis.accounts.extend(rich.iter().map(|one| account(*one, 100_000)));
    });
    assert_eq!(committee(&world).seats.len(), 60);
    for person in rich {
        world.must(*person, add_stake(*person, 99_000));
    }
    for _ in 0..8 {
        // Meanwhile, the rest still has two thirds of the seats, but what counts is as dear.
        elect(&mut world);
    }
    assert_eq!(committee(&world).seats.len(), 20);
    assert!(rich.iter().all(|person| has_seat(&world, *person)));
    assert_eq!(committee(&world).stake(), Amount::soma(20 * 100_000));
}

#[test]
fn a_network_grows_from_one_validator_to_four_to_twenty() {
    let comers = people(19);
    let mut world = World::with(|genesis| {
        genesis.params.seats_max = 64;
        genesis.accounts.extend(comers.iter().map(|one| account(*one, 1_100)));
    });
    let sizes = |world: &mut World, epochs: usize| -> Vec<usize> {
        let mut size = || {
            elect(world);
            committee(world).seats.len()
        };
        (0..epochs).map(|_| size()).collect()
    };
    for (key, person) in (60..).zip(&comers[..3]) {
        world.must(*person, register(&world, *person, key, 500));
    }
    assert_eq!(sizes(&mut world, 4), [2, 3, 4, 4], "half of what the first has is enough");
    for (key, person) in (63..).zip(&comers[3..]) {
        world.must(*person, register(&world, *person, key, 700));
    }
    assert_eq!(sizes(&mut world, 8), [5, 6, 8, 10, 13, 17, 20, 20]);
}

#[test]
fn one_with_much_stake_neither_unseats_others_nor_counts_for_all_of_them() {
    let stakes = [vec![40_000], vec![1_000; 20]].concat();
    let mut world = network(&stakes);
    let whale = people(1)[0];
    for _ in 0..3 {
        elect(&mut world);
        assert_eq!(committee(&world).seats.len(), 21);
    }
    // Seven of 21 seats have 7,000; so all together count 28,000.
    let seat = *committee(&world).seat_of(&whale.address()).unwrap();
    assert_eq!(seat.stake, Amount::soma(8_000));
    assert_eq!(committee(&world).stake(), Amount::soma(28_000));
    // It is paid for what counts.
    let all = people(21);
    take_part_in_beacon(&mut world, &all);
    let before = [all[0], all[1]].map(|one| wealth(&world, one));
    world.go_to_compete();
    for _ in 0..3 {
        world.go_to_next_epoch();
    }
    let earned = |at: usize| wealth(&world, all[at]).less(before[at]);
    assert!(earned(1) > Amount::ZERO);
    assert!(earned(0) <= earned(1).times(8).plus(Amount(8)), "not forty times as much");
}

#[test]
fn whoever_has_two_thirds_of_all_stake_may_decide_alone() {
    let stakes = [vec![42_001], vec![1_000; 20]].concat();
    assert_eq!(committee(&network(&stakes)).seats.len(), 1);
}

#[test]
fn a_validator_without_a_seat_has_no_part_in_the_beacon() {
    let mut world = network(&[1_000; 4]);
    world.must(OWNER, register(&world, OWNER, 60, 100));
    world.go_to_next_epoch();
    assert!(!has_seat(&world, OWNER), "it has too little stake");
    let rejected = world.act(OWNER, commit_beacon(&world, OWNER));
    assert_eq!(rejected, Err(Rejection::NotSeated));
}

#[test]
fn a_validator_that_loses_its_seat_need_not_reveal() {
    let all = people(4);
    let mut world = network(&[1_000; 4]);
    world.must(all[3], leave());
    take_part_in_beacon(&mut world, &all);
    assert!(!has_seat(&world, all[3]));
    assert_eq!(read::beacon_commit(&world.state, world.epoch(), &all[3].address()), None);
    world.go_to_compete();
    assert_eq!(record(&world, all[3]).pool.stake, Amount::soma(1_000), "it is not slashed");
}

#[test]
fn a_beacon_that_is_withheld_costs_a_hundredth_of_a_seat_on_a_network() {
    let all = people(4);
    let mut world = network(&[1_000; 4]);
    assert_eq!(soma_protocol::Params::network().beacon_slash_bps, 100);
    for person in &all {
        world.must(*person, commit_beacon(&world, *person));
    }
    world.go_to_next_epoch();
    world.must(all[0], reveal_beacon(&world));
    world.go_to_compete();
    let bps = world.params().beacon_slash_bps;
    let left = Amount::soma(1_000).less(Amount::soma(1_000).bps(bps));
    assert_eq!(record(&world, all[1]).pool.stake, left);
    assert_eq!(record(&world, all[0]).pool.stake, Amount::soma(1_000));
}

#[test]
fn a_new_seat_is_not_absent_in_the_epoch_for_which_it_could_not_have_committed() {
    let all = people(4);
    let mut world = network(&[1_000; 4]);
    take_part_in_beacon(&mut world, &all);
    world.must(OWNER, register(&world, OWNER, 60, 1_000));
    take_part_in_beacon(&mut world, &all);
    assert!(has_seat(&world, OWNER));
    world.go_to_compete();
    take_part_in_beacon(&mut world, &all);
    assert_eq!(record(&world, OWNER).missed, 0);
    world.go_to_compete();
    take_part_in_beacon(&mut world, &all);
    assert_eq!(record(&world, OWNER).missed, 1, "it did not take part in its second");
}

#[test]
fn a_validator_whose_stake_is_withdrawn_has_no_place_in_the_list() {
    let mut world = network(&[1_000; 4]);
    world.must(OWNER, register(&world, OWNER, 60, 100));
    world.go_to_next_epoch();
    assert_eq!(read::validators(&world.state).len(), 5, "it may wait for a seat");
    world.must(OWNER, withdraw(OWNER, Amount(u64::MAX)));
    for _ in 0..3 {
        world.go_to_next_epoch();
    }
    assert_eq!(read::validators(&world.state).len(), 4);
    assert_eq!(record(&world, OWNER).status, ValidatorStatus::Left);
    world.must(OWNER, register(&world, OWNER, 60, 100));
}

#[test]
fn a_full_list_has_room_for_whoever_has_more_stake() {
    let address = |number: usize| {
        let bytes = u32::try_from(number).unwrap().to_le_bytes();
        Address(Hash::of_bytes(&bytes).0)
    };
    let mut world = World::with(|genesis| {
        genesis.validators = (0..VALIDATORS_MAX)
            .map(|number| GenesisValidator {
                address: address(number),
                consensus_key: ConsensusKey(address(number).0),
                stake: Amount::soma(100),
                endpoints: Endpoints::default(),
            })
            .collect();
    });
    assert_eq!(committee(&world).seats.len(), 16);
    let poor = world.act(OWNER, register(&world, OWNER, 60, 100));
    assert_eq!(poor, Err(Rejection::Full));
    world.must(OWNER, register(&world, OWNER, 60, 101));
    let list = read::validators(&world.state);
    assert_eq!(list.len(), VALIDATORS_MAX);
    assert!(list.iter().any(|one| one.address == OWNER.address()));
    let gone = (0..VALIDATORS_MAX).map(address).filter_map(|one| {
        let record = read::validator(&world.state, &one)?;
        (record.status == ValidatorStatus::Left).then_some(one)
    });
    let gone: Vec<Address> = gone.collect();
    assert_eq!(gone.len(), 1);
    assert!(!committee(&world).seats_validator(&gone[0]));
    world.go_to_next_epoch();
    assert!(has_seat(&world, OWNER));
}

#[test]
fn a_key_that_was_changed_before_the_first_seat_is_the_key_of_the_seat() {
    let mut world = network(&[1_000; 4]);
    world.must(OWNER, register(&world, OWNER, 60, 1_000));
    world.must(OWNER, rotate(&world, OWNER, 61));
    world.go_to_next_epoch();
    let seat = *committee(&world).seat_of(&OWNER.address()).unwrap();
    assert_eq!(seat.consensus_key, consensus_key(61));
    assert_eq!(record(&world, OWNER).consensus_key, consensus_key(61));
    assert_eq!(record(&world, OWNER).next_key, None);
}

#[test]
fn a_validator_that_changes_its_key_in_every_epoch_keeps_nobody_from_a_seat() {
    let all = people(4);
    let mut world = network(&[1_000; 4]);
    world.must(OWNER, register(&world, OWNER, 60, 1_000));
    for round in 0..3 {
        world.must(all[0], rotate(&world, all[0], 70 + round));
        elect(&mut world);
    }
    assert!(has_seat(&world, OWNER));
}

#[test]
fn comers_in_every_epoch_keep_nobody_from_a_new_key() {
    let all = people(4);
    let mut world = network(&[1_000; 4]);
    let comers = [OWNER, RIVAL, SUBMITTER, OTHER];
    for (key, person) in (60..).zip(comers) {
        world.must(person, register(&world, person, key, 1_000));
    }
    // Two that change keys over and over, and one that wants to do it once.
    world.must(all[2], rotate(&world, all[2], 80));
    for round in 0..9 {
        for (key, person) in [(90 + 2 * round, all[0]), (91 + 2 * round, all[1])] {
            world.must(person, rotate(&world, person, key));
        }
        for person in comers {
            let gone = record(&world, person).status == ValidatorStatus::Leaving;
            drop(world.act(person, if gone { come_back() } else { leave() }));
        }
        elect(&mut world);
    }
    assert_eq!(record(&world, all[2]).next_key, None);
    assert_eq!(record(&world, all[2]).consensus_key, consensus_key(80));
}

#[test]
fn validators_that_come_and_go_keep_nobody_from_a_seat() {
    let mut world = network(&[1_000; 4]);
    let restless = [RIVAL, SUBMITTER];
    for (key, person) in (60..).zip(restless) {
        world.must(person, register(&world, person, key, 2_000));
    }
    world.go_to_next_epoch();
    world.must(OWNER, register(&world, OWNER, 70, 1_000));
    for _ in 0..6 {
        for person in restless {
            let gone = record(&world, person).status == ValidatorStatus::Leaving;
            drop(world.act(person, if gone { come_back() } else { leave() }));
        }
        elect(&mut world);
    }
    assert!(has_seat(&world, OWNER), "though they have more stake");
}

#[test]
fn whoever_registers_again_waits_until_what_others_have_earned_is_settled() {
    let people = people(2);
    let mut world = World::with(|genesis| {
        genesis.params.targets_per_epoch = 300;
        genesis.validators = people.iter().map(|person| validator(*person, 1_000)).collect();
        genesis.accounts.extend(people.iter().map(|person| account(*person, 5_000)));
    });
    world.go_to_compete();
    world.go_to_next_epoch();
    world.must(people[1], leave());
    world.go_to_compete();
    world.go_to_next_epoch();
    assert_eq!(record(&world, people[1]).status, ValidatorStatus::Left);
    assert!(read::tasks(&world.state).will_settle(), "300 targets take three blocks");
    let again = register(&world, people[1], 77, 4_000);
    let (stake, balance) = (record(&world, people[1]).pool.stake, world.balance(people[1]));
    assert_eq!(world.act(people[1], again.clone()), Err(Rejection::TasksPending));
    assert_eq!(record(&world, people[1]).pool.stake, stake);
    assert!(balance.less(world.balance(people[1])) < Amount::soma(1), "only the fee is gone");
    world.must(people[1], again);
    assert!(!read::tasks(&world.state).will_settle());
}

#[test]
fn proposals_of_others_take_no_place_of_a_seat_and_of_each_other_there_is_one() {
    let mut world = network(&[&[1_000; 4][..], &[1; 40]].concat());
    let people = people(44);
    let (seats, others) = people.split_at(4);
    assert!(seats.iter().all(|seat| has_seat(&world, *seat)));
    for (count, person) in (1..).zip(others) {
        assert!(!has_seat(&world, *person));
        let full = if count <= 32 { Ok(()) } else { Err(Rejection::Full) };
        assert_eq!(world.act(*person, parameter("burn_bps", count)), full, "{count}");
    }
    let open = Rejection::ProposalsOpen { open: 1, max: 1 };
    assert_eq!(world.act(others[0], parameter("burn_bps", 0)), Err(open));
    // Each seat has its part, whatever the others did before.
    for seat in seats {
        for count in 1..=16 {
            world.must(*seat, parameter("burn_bps", count));
        }
        let open = Rejection::ProposalsOpen { open: 16, max: 16 };
        assert_eq!(world.act(*seat, parameter("burn_bps", 0)), Err(open));
    }
}

#[test]
fn leaving_does_not_end_a_jail() {
    let all = people(4);
    let mut world = World::with(|genesis| {
        genesis.validators = all.iter().map(|one| validator(*one, 1_000)).collect();
        genesis.accounts.extend(all.iter().map(|one| account(*one, 100)));
        genesis.params.absence_epochs = 2;
        genesis.params.jail_epochs = 5;
    });
    let absent = all[3];
    while record(&world, absent).status != ValidatorStatus::Jailed {
        take_part_in_beacon(&mut world, &all[..3]);
    }
    let until = record(&world, absent).jailed_until;
    let still = Err(Rejection::StillJailed { until });
    assert_eq!(world.act(absent, come_back()), still);
    world.must(absent, leave());
    assert_eq!(world.act(absent, come_back()), still, "not by leaving");
    world.go_to_next_epoch();
    assert_eq!(record(&world, absent).status, ValidatorStatus::Left);
    let again = register(&world, absent, 60, 0);
    assert_eq!(world.act(absent, again.clone()), still, "nor by having left");
    while world.epoch() < until {
        world.go_to_next_epoch();
    }
    world.must(absent, again);
}

#[test]
fn absence_is_not_forgotten_by_leaving_and_returning() {
    let all = people(4);
    let mut world = network(&[1_000; 4]);
    for _ in 0..3 {
        take_part_in_beacon(&mut world, &all[..3]);
    }
    let missed = record(&world, all[3]).missed;
    assert!(missed > 0);
    world.must(all[3], leave());
    world.must(all[3], come_back());
    assert_eq!(record(&world, all[3]).missed, missed);
}

#[test]
fn a_commission_that_is_raised_by_registering_again_waits_like_any_other() {
    let mut world = network(&[1_000; 4]);
    let commission = |world: &World, bps| {
        let Action::RegisterValidator(register) = register(world, OWNER, 60, 0) else {
            unreachable!()
        };
        Action::RegisterValidator(action::RegisterValidator { commission_bps: bps, ..register })
    };
    world.must(OWNER, register(&world, OWNER, 60, 500));
    world.must(OTHER, add_stake(OWNER, 1_000));
    world.must(OWNER, leave());
    world.go_to_next_epoch();
    world.must(OWNER, commission(&world, 10_000));
    assert_eq!(record(&world, OWNER).commission_bps, 1_000, "as the stakers know it");
    let next = record(&world, OWNER).next_commission.unwrap();
    assert_eq!((next.bps, next.epoch), (10_000, world.epoch().after(3)));
    // A lower one harms nobody.
    world.must(OWNER, leave());
    world.go_to_next_epoch();
    world.must(OWNER, commission(&world, 500));
    assert_eq!(record(&world, OWNER).commission_bps, 500);
    assert_eq!(record(&world, OWNER).next_commission, None);
}

/// What happens to validators in a history.
#[derive(Clone, Debug)]
enum Step {
    Stake(usize, u64),
    Withdraw(usize, u64),
    Register(usize, u64),
    Leave(usize),
    Return(usize),
    Rotate(usize, u8),
    Equivocate(usize),
    Epoch,
}

const ACTORS: usize = 12;

fn step() -> impl Strategy<Value = Step> {
    let actor = 0..ACTORS;
    let soma = prop_oneof![1..2_000_u64, 1..100_000_u64];
    prop_oneof![
        3 => (actor.clone(), soma.clone()).prop_map(|(actor, soma)| Step::Stake(actor, soma)),
        3 => (actor.clone(), soma.clone()).prop_map(|(actor, soma)| Step::Withdraw(actor, soma)),
        3 => (actor.clone(), soma).prop_map(|(actor, soma)| Step::Register(actor, soma)),
        1 => actor.clone().prop_map(Step::Leave),
        1 => actor.clone().prop_map(Step::Return),
        1 => (actor.clone(), 0..3_u8).prop_map(|(actor, key)| Step::Rotate(actor, key)),
        1 => actor.prop_map(Step::Equivocate),
        6 => Just(Step::Epoch),
    ]
}

/// A consensus key that only this actor uses.
fn actors_key(actor: usize, key: u8) -> u8 {
    60 + 3 * u8::try_from(actor).unwrap() + key
}

fn take(world: &mut World, step: &Step) {
    let all = people(ACTORS);
    let (actor, action) = match *step {
        Step::Stake(actor, soma) => (actor, add_stake(all[actor], soma)),
        Step::Withdraw(actor, soma) => (actor, withdraw(all[actor], Amount::soma(soma))),
        Step::Register(actor, soma) => {
            (actor, register(world, all[actor], actors_key(actor, 0), soma))
        }
        Step::Leave(actor) => (actor, leave()),
        Step::Return(actor) => (actor, come_back()),
        Step::Rotate(actor, key) => (actor, rotate(world, all[actor], actors_key(actor, key))),
        Step::Equivocate(actor) => {
            (actor, evidence(world, actors_key(actor, 0), notarize(1), notarize(2)))
        }
        Step::Epoch => return elect(world),
    };
    // Whether it succeeds does not matter here.
    drop(world.act(all[actor], action));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn in_any_history_the_cheapest_third_of_the_seats_has_a_quarter_of_the_stake(
        stakes in prop::collection::vec(1..100_000_u64, 1..ACTORS),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let all = people(ACTORS);
        let mut world = World::with(|genesis| {
            genesis.params.seats_max = 8;
            genesis.params.unbonding_epochs = 2;
            genesis.validators =
                all.iter().zip(&stakes).map(|(person, soma)| validator(*person, *soma)).collect();
            genesis.accounts.extend(all.iter().map(|person| account(*person, 200_000)));
        });
        check_price(&committee(&world));
        for step in &steps {
            take(&mut world, step);
        }
        // Once nobody does anything, the seats are with those that should have them.
        for _ in 0..8 {
            take(&mut world, &Step::Epoch);
        }
        let seats = committee(&world).seats.len();
        prop_assert!(seats <= 8, "{seats}");
    }
}
