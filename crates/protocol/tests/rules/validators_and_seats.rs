//! Validators come, go, change keys and misbehave; the committee follows slowly and never empties.

use crate::world::{
    OTHER, OWNER, Person, RIVAL, SECOND_VALIDATOR, SUBMITTER, THIRD_VALIDATOR, VALIDATOR, World,
    validator,
};
use soma_protocol::evidence::{Ballot, Evidence, SignedBallot, signed_bytes};
use soma_protocol::record::ValidatorStatus;
use soma_protocol::{
    Action, Amount, ConsensusKey, Endpoints, Event, GenesisAccount, GenesisValidator, Hash, PoolId,
    Rejection, SecretKey, action, commitment, read,
};

fn consensus_secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

pub(crate) fn consensus_key(number: u8) -> ConsensusKey {
    ConsensusKey(consensus_secret(number).address().0)
}

pub(crate) fn register(world: &World, person: Person, key: u8, soma: u64) -> Action {
    Action::RegisterValidator(action::RegisterValidator {
        consensus_key: consensus_key(key),
        proof: consensus_secret(key).prove_possession(&world.chain, &person.address()),
        commission_bps: 1_000,
        stake: Amount::soma(soma),
    })
}

pub(crate) fn rotate(world: &World, person: Person, key: u8) -> Action {
    Action::RotateKey(action::RotateKey {
        consensus_key: consensus_key(key),
        proof: consensus_secret(key).prove_possession(&world.chain, &person.address()),
    })
}

pub(crate) fn set_duty_key(world: &World, person: Person, key: &SecretKey) -> Action {
    Action::SetDutyKey(action::SetDutyKey {
        duty_key: key.address(),
        proof: key.prove_duties(&world.chain, &person.address()),
    })
}

fn funded(person: Person) -> GenesisAccount {
    GenesisAccount { address: person.address(), balance: Amount::soma(10) }
}

/// The seated validators, in the order of seats.
fn seated(world: &World) -> Vec<Person> {
    let people = [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR, OWNER, RIVAL, SUBMITTER, OTHER];
    let seats = read::committee(&world.state).seats;
    let find = |seat: &soma_protocol::Seat| {
        people.into_iter().find(|person| person.address() == seat.validator).unwrap()
    };
    seats.iter().map(find).collect()
}

fn status(world: &World, person: Person) -> ValidatorStatus {
    read::validator(&world.state, &person.address()).unwrap().status
}

#[test]
fn a_network_of_one_validator_grows_to_many() {
    let mut world = World::with(|_| {});
    assert_eq!(seated(&world), [VALIDATOR]);
    let comers = [OWNER, RIVAL, SUBMITTER, OTHER];
    for (key, person) in (100..).zip(comers) {
        world.must(person, register(&world, person, key, 500));
    }
    let mut sizes = Vec::new();
    for _ in 0..5 {
        world.go_to_next_epoch();
        sizes.push(seated(&world).len());
    }
    assert_eq!(sizes, [2, 3, 4, 5, 5], "one seat at a time while there are few");
    let committee = read::committee(&world.state);
    for number in 0..=committee.number {
        let one = read::committee_by_number(&world.state, number).unwrap();
        assert_eq!(one.number, number);
        assert_eq!(read::committee_at(&world.state, one.height), Some(one));
    }
    let before = read::committee_at(&world.state, committee.height - 1).unwrap();
    assert_eq!(before.number, committee.number - 1);
    assert_eq!(read::committee_at(&world.state, u64::MAX), Some(committee));
}

#[test]
fn at_most_a_third_of_the_seats_changes_at_a_boundary() {
    let crowd: Vec<Person> = (20..29).map(Person).collect();
    let mut world = World::with(|genesis| {
        genesis.validators = crowd.iter().map(|one| validator(*one, 1_000)).collect();
        genesis.accounts = crowd.iter().map(|one| funded(*one)).collect();
    });
    for one in &crowd[..8] {
        world.must(*one, Action::LeaveValidator(action::LeaveValidator {}));
    }
    let mut sizes = Vec::new();
    for _ in 0..6 {
        world.go_to_next_epoch();
        sizes.push(read::committee(&world.state).seats.len());
    }
    assert_eq!(sizes, [6, 4, 3, 2, 1, 1]);
    let gone = read::validator(&world.state, &crowd[0].address()).unwrap();
    assert_eq!(gone.status, ValidatorStatus::Left);
    assert_eq!(read::validators(&world.state).len(), 1);
}

#[test]
fn the_last_seat_is_never_empty_and_is_handed_over() {
    let mut world = World::with(|_| {});
    world.must(VALIDATOR, Action::LeaveValidator(action::LeaveValidator {}));
    world.go_to_next_epoch();
    assert_eq!(seated(&world), [VALIDATOR], "nobody else is there");
    world.must(OWNER, register(&world, OWNER, 100, 200));
    world.go_to_next_epoch();
    assert_eq!(seated(&world), [OWNER]);
    assert_eq!(status(&world, VALIDATOR), ValidatorStatus::Left);
    let address = VALIDATOR.address();
    let is_lost =
        |event: &Event| matches!(event, Event::SeatLost { validator, .. } if *validator == address);
    assert!(world.events.iter().any(is_lost));
}

#[test]
fn seats_go_to_the_most_stake_and_the_rest_wait() {
    let mut world = World::with(|genesis| {
        genesis.params.seats_max = 2;
        genesis.validators = vec![validator(VALIDATOR, 1_000), validator(SECOND_VALIDATOR, 900)];
    });
    world.must(OWNER, register(&world, OWNER, 100, 900));
    world.go_to_next_epoch();
    assert_eq!(
        seated(&world),
        [VALIDATOR, SECOND_VALIDATOR],
        "among equals, the first to register"
    );
    let pool = soma_protocol::PoolId::Validator(OWNER.address());
    let amount = Amount(1_000_000);
    world.must(RIVAL, Action::AddStake(action::AddStake { pool, amount }));
    for _ in 0..3 {
        assert_eq!(seated(&world), [VALIDATOR, SECOND_VALIDATOR], "it is not active yet");
        world.go_to_next_epoch();
    }
    assert_eq!(seated(&world), [VALIDATOR, OWNER]);
    assert_eq!(status(&world, SECOND_VALIDATOR), ValidatorStatus::Ready);
}

#[test]
fn a_consensus_key_serves_one_validator_and_must_be_held() {
    let mut world = World::with(|genesis| genesis.params.validator_stake_min = Amount::soma(100));
    let taken = Action::RegisterValidator(action::RegisterValidator {
        consensus_key: ConsensusKey([VALIDATOR.0; 32]),
        proof: [0; 64],
        commission_bps: 0,
        stake: Amount::soma(500),
    });
    assert_eq!(world.act(OWNER, taken), Err(Rejection::ConsensusKeyTaken));
    // Neither another validator's proof nor one for another chain is valid.
    let copied = register(&world, RIVAL, 100, 500);
    assert_eq!(world.act(OWNER, copied), Err(Rejection::BadProof));
    world.must(OWNER, register(&world, OWNER, 100, 500));
    let again = register(&world, RIVAL, 100, 500);
    assert_eq!(world.act(RIVAL, again), Err(Rejection::ConsensusKeyTaken));
    let twice = register(&world, OWNER, 101, 500);
    assert_eq!(world.act(OWNER, twice), Err(Rejection::AlreadyValidator));
    let poor = register(&world, RIVAL, 102, 99);
    let (stake, minimum) = (Amount::soma(99), Amount::soma(100));
    let rejected = Err(Rejection::StakeTooLow { stake, minimum });
    assert_eq!(world.act(RIVAL, poor), rejected);
}

#[test]
fn a_key_is_rotated_as_one_change_of_seat() {
    let mut world = World::with(|_| {});
    world.must(VALIDATOR, rotate(&world, VALIDATOR, 100));
    let old = read::committee(&world.state).seats[0].consensus_key;
    assert_eq!(old, ConsensusKey([VALIDATOR.0; 32]), "the old key votes until then");
    world.go_to_next_epoch();
    let seat = read::committee(&world.state).seats[0];
    assert_eq!(seat.consensus_key, consensus_key(100));
    assert_eq!(seat.validator, VALIDATOR.address());
    let back = register(&world, OWNER, 100, 500);
    assert_eq!(world.act(OWNER, back), Err(Rejection::ConsensusKeyTaken));
}

/// Reveals the randomness of these validators in every epoch from the next on, for `epochs` epochs.
fn run(world: &mut World, present: &[Person], epochs: u32) {
    let value = Hash([5; 32]);
    for _ in 0..epochs {
        let next = world.epoch().next();
        for person in present {
            let commitment = commitment::beacon(&world.chain, &person.address(), next, &value);
            let epoch = next;
            drop(
                world
                    .act(*person, Action::CommitBeacon(action::CommitBeacon { epoch, commitment })),
            );
        }
        world.go_to_next_epoch();
        for person in present {
            let epoch = next;
            drop(world.act(*person, Action::RevealBeacon(action::RevealBeacon { epoch, value })));
        }
    }
}

#[test]
fn an_absent_validator_is_jailed_and_may_return() {
    let mut world = World::with(|genesis| {
        genesis.params.absence_epochs = 2;
        genesis.params.jail_epochs = 2;
        genesis.validators = vec![validator(VALIDATOR, 1_000), validator(SECOND_VALIDATOR, 900)];
    });
    let (to, amount) = (SECOND_VALIDATOR.address(), Amount::soma(1));
    world.must(OTHER, Action::Transfer(action::Transfer { to, amount }));
    let pool = read::validator(&world.state, &SECOND_VALIDATOR.address()).unwrap().pool;
    run(&mut world, &[VALIDATOR], 2);
    let until = world.epoch().after(2);
    assert_eq!(status(&world, SECOND_VALIDATOR), ValidatorStatus::Ready, "missed one");
    world.go_to_next_epoch();
    let jailed = status(&world, SECOND_VALIDATOR);
    assert_eq!(jailed, ValidatorStatus::Jailed);
    assert_eq!(seated(&world), [VALIDATOR]);
    let early = world.act(SECOND_VALIDATOR, Action::ReturnValidator(action::ReturnValidator {}));
    assert_eq!(early, Err(Rejection::StillJailed { until: until.next() }));
    world.go_to_next_epoch();
    world.go_to_next_epoch();
    world.must(SECOND_VALIDATOR, Action::ReturnValidator(action::ReturnValidator {}));
    world.go_to_next_epoch();
    assert_eq!(seated(&world), [VALIDATOR, SECOND_VALIDATOR]);
    let after = read::validator(&world.state, &SECOND_VALIDATOR.address()).unwrap().pool;
    assert_eq!(after, pool, "absence alone costs no stake");
}

#[test]
fn nobody_is_jailed_for_an_epoch_in_which_nobody_revealed() {
    let mut world = World::with(|genesis| genesis.params.absence_epochs = 2);
    for _ in 0..5 {
        world.go_to_next_epoch();
    }
    assert_eq!(status(&world, VALIDATOR), ValidatorStatus::Ready);
}

fn ballot(world: &World, key: u8, ballot: Ballot) -> SignedBallot {
    let bytes = signed_bytes(&world.chain, 3, 9, &ballot);
    let key = ed25519_zebra::SigningKey::from_bytes(&[key; 32]);
    SignedBallot { ballot, signature: key.sign(&bytes).to_bytes() }
}

pub(crate) fn evidence(world: &World, key: u8, first: Ballot, second: Ballot) -> Action {
    let evidence = Evidence {
        consensus_key: consensus_key(key),
        term: 3,
        view: 9,
        first: ballot(world, key, first),
        second: ballot(world, key, second),
    };
    Action::ReportEquivocation(action::ReportEquivocation { evidence })
}

pub(crate) fn notarize(block: u8) -> Ballot {
    Ballot::Notarize { parent: 8, block: Hash([block; 32]) }
}

fn finalize(block: u8) -> Ballot {
    Ballot::Finalize { parent: 8, block: Hash([block; 32]) }
}

#[test]
fn a_validator_that_equivocates_is_slashed_and_never_returns() {
    let mut world = World::with(|_| {});
    world.must(OWNER, register(&world, OWNER, 100, 500));
    world.go_to_next_epoch();
    assert_eq!(seated(&world), [VALIDATOR, OWNER]);
    let pool = soma_protocol::PoolId::Validator(OWNER.address());
    let amount = Amount::soma(200);
    world.must(OWNER, Action::WithdrawStake(action::WithdrawStake { pool, amount }));
    // It rotates its key away; the old one still speaks against it.
    world.must(OWNER, rotate(&world, OWNER, 101));
    let burned = world.holdings.burned;
    world.must(RIVAL, evidence(&world, 100, notarize(1), notarize(2)));
    let record = read::validator(&world.state, &OWNER.address()).unwrap();
    assert_eq!(record.status, ValidatorStatus::Expelled);
    assert_eq!(record.pool.stake, Amount::soma(270), "a tenth of what stands");
    assert_eq!(record.pool.leaving, Amount::soma(180), "and of what is leaving");
    assert!(world.holdings.burned >= burned.plus(Amount::soma(50)));
    let again = evidence(&world, 100, finalize(1), finalize(2));
    assert_eq!(world.act(RIVAL, again), Err(Rejection::Expelled));
    world.go_to_next_epoch();
    assert_eq!(seated(&world), [VALIDATOR]);
    let back = register(&world, OWNER, 102, 500);
    assert_eq!(world.act(OWNER, back), Err(Rejection::Expelled));
    let amount = Amount::soma(9_999);
    world.must(OWNER, Action::WithdrawStake(action::WithdrawStake { pool, amount }));
}

#[test]
fn votes_that_an_honest_validator_signs_are_no_evidence() {
    let mut world = World::with(|_| {});
    world.must(OWNER, register(&world, OWNER, 100, 500));
    let honest = [
        (notarize(1), notarize(1)),
        (notarize(1), finalize(1)),
        (notarize(1), Ballot::Nullify),
        (finalize(1), notarize(2)),
        (Ballot::Nullify, Ballot::Nullify),
    ];
    for (first, second) in honest {
        let action = evidence(&world, 100, first, second);
        assert_eq!(world.act(RIVAL, action), Err(Rejection::BadEvidence));
    }
    // Signatures of another key, and a key that nobody has.
    let Action::ReportEquivocation(action::ReportEquivocation { mut evidence }) =
        evidence(&world, 100, notarize(1), notarize(2))
    else {
        unreachable!()
    };
    evidence.consensus_key = consensus_key(99);
    let outsider = Action::ReportEquivocation(action::ReportEquivocation { evidence });
    assert_eq!(world.act(RIVAL, outsider), Err(Rejection::NoSuchKey));
    evidence.consensus_key = consensus_key(100);
    evidence.second = ballot(&world, 99, notarize(2));
    let forged = Action::ReportEquivocation(action::ReportEquivocation { evidence });
    assert_eq!(world.act(RIVAL, forged), Err(Rejection::BadEvidence));
    assert_eq!(status(&world, OWNER), ValidatorStatus::Ready);
}

/// A validator's contribution to the beacon of the next epoch.
fn contribution(world: &World, validator: Person) -> Action {
    let epoch = world.epoch().next();
    let value = Hash::of_bytes(b"value");
    let commitment = commitment::beacon(&world.chain, &validator.address(), epoch, &value);
    Action::CommitBeacon(action::CommitBeacon { epoch, commitment })
}

#[test]
fn a_duty_key_sends_duties_and_nothing_else_until_the_account_names_another() {
    let mut world = World::with(|_| ());
    let (first, second) = (RIVAL, OTHER);
    assert_eq!(
        world.act(first, contribution(&world, VALIDATOR)),
        Err(Rejection::NotValidator),
        "it is not named yet"
    );
    world.must(VALIDATOR, set_duty_key(&world, VALIDATOR, &first.key()));
    world.must(first, contribution(&world, VALIDATOR));
    let beacon = read::beacon_commit(&world.state, world.epoch().next(), &VALIDATOR.address());
    assert!(beacon.is_some(), "it counts for the validator");
    // What moves stake or changes keys needs the account.
    let pool = PoolId::Validator(VALIDATOR.address());
    for action in [
        rotate(&world, VALIDATOR, 9),
        set_duty_key(&world, VALIDATOR, &second.key()),
        Action::LeaveValidator(action::LeaveValidator {}),
        Action::VoteRentPrice(action::VoteRentPrice { price: Amount(1) }),
    ] {
        assert_eq!(world.act(first, action), Err(Rejection::NotValidator));
    }
    let before = read::validator(&world.state, &VALIDATOR.address()).unwrap();
    let take = Action::WithdrawStake(action::WithdrawStake { pool, amount: Amount::soma(1) });
    assert!(world.act(first, take).is_err());
    let after = read::validator(&world.state, &VALIDATOR.address()).unwrap();
    assert_eq!(before.pool, after.pool);
    // The account replaces it at once, and its own key counts as before.
    world.go_to_next_epoch();
    world.must(VALIDATOR, set_duty_key(&world, VALIDATOR, &second.key()));
    assert_eq!(world.act(first, contribution(&world, VALIDATOR)), Err(Rejection::NotValidator));
    world.must(second, contribution(&world, VALIDATOR));
    world.must(
        VALIDATOR,
        Action::SetDutyKey(action::SetDutyKey { duty_key: VALIDATOR.address(), proof: [0; 64] }),
    );
    assert_eq!(read::acts_for(&world.state, &second.address()), second.address());
    world.go_to_next_epoch();
    world.must(VALIDATOR, contribution(&world, VALIDATOR));
}

/// A validator says where its node is reached.
pub(crate) fn set_endpoints(world: &World, p2p: Option<&str>) -> Action {
    set_endpoints_of(world, VALIDATOR, p2p)
}

/// The same for another validator.
pub(crate) fn set_endpoints_of(world: &World, person: Person, p2p: Option<&str>) -> Action {
    let last = read::endpoints(&world.state, &person.address());
    let (last_ms, p2p) = (last.map_or(0, |last| last.since_ms), p2p.map(str::to_owned));
    Action::SetEndpoints(action::SetEndpoints { last_ms, p2p, url: None })
}

#[test]
fn a_validator_or_its_duty_key_says_where_its_node_is_and_nobody_else() {
    let mut world = World::with(|_| ());
    let found = |world: &World| {
        let record = read::endpoints(&world.state, &VALIDATOR.address());
        record.and_then(|record| record.endpoints.p2p)
    };
    let (first, second) = (Some("one.example.org:8646"), Some("203.0.113.7:8646"));
    let nowhere = set_endpoints(&world, None);
    assert_eq!(world.act(VALIDATOR, nowhere), Err(Rejection::EndpointsUnchanged));
    let by_a_stranger = set_endpoints(&world, first);
    assert_eq!(world.act(RIVAL, by_a_stranger), Err(Rejection::NotValidator));
    for malformed in ["", "a b:1", "a:1\u{1b}[2J", &"x".repeat(261)] {
        let malformed = set_endpoints(&world, Some(malformed));
        assert_eq!(world.act(VALIDATOR, malformed), Err(Rejection::BadEndpoints));
    }
    world.must(VALIDATOR, set_duty_key(&world, VALIDATOR, &OTHER.key()));
    world.must(OTHER, set_endpoints(&world, first));
    assert_eq!(found(&world).as_deref(), first);
    let back = set_endpoints(&world, second);
    world.must(VALIDATOR, back.clone());
    world.must(VALIDATOR, set_endpoints(&world, first));
    let old = world.act(VALIDATOR, back);
    assert!(
        matches!(old, Err(Rejection::EndpointsChanged { .. })),
        "nobody brings an old word back"
    );
    world.must(VALIDATOR, set_endpoints(&world, second));
    assert_eq!(found(&world).as_deref(), second);
    world.must(VALIDATOR, set_endpoints(&world, None));
    assert_eq!(found(&world), None);
}

#[test]
fn where_a_node_is_changes_for_free_and_therefore_not_often() {
    let mut world = World::with(|genesis| genesis.params.epoch_ms = 48 * 60_000);
    world.must(VALIDATOR, set_endpoints(&world, Some("first:1")));
    let said_ms = world.now_ms;
    let next = set_endpoints(&world, Some("second:1"));
    let from_ms = said_ms + 60_000;
    assert_eq!(world.act(VALIDATOR, next.clone()), Err(Rejection::EndpointsSet { from_ms }));
    world.now_ms = from_ms;
    world.must(VALIDATOR, next);
}

#[test]
fn whoever_is_no_longer_registered_is_reached_nowhere() {
    let mut world = World::with(|genesis| {
        let endpoints = Endpoints { p2p: Some("second:1".to_owned()), url: None };
        genesis
            .validators
            .push(GenesisValidator { endpoints, ..validator(SECOND_VALIDATOR, 1_000) });
        genesis.accounts.push(funded(SECOND_VALIDATOR));
    });
    let second = SECOND_VALIDATOR.address();
    assert!(read::endpoints(&world.state, &second).is_some(), "said in genesis");
    world.must(SECOND_VALIDATOR, Action::LeaveValidator(action::LeaveValidator {}));
    while status(&world, SECOND_VALIDATOR) != ValidatorStatus::Left {
        world.go_to_next_epoch();
    }
    assert_eq!(read::endpoints(&world.state, &second), None);
    assert_eq!(
        world.act(SECOND_VALIDATOR, set_endpoints_of(&world, SECOND_VALIDATOR, Some("back:1"))),
        Err(Rejection::NotValidator)
    );
}

#[test]
fn whoever_has_left_frees_its_duty_key_and_a_duty_key_never_cancels_that() {
    let mut world = World::with(|genesis| {
        genesis.validators.push(validator(SECOND_VALIDATOR, 1_000));
        genesis.accounts.push(funded(SECOND_VALIDATOR));
    });
    world.must(SECOND_VALIDATOR, set_duty_key(&world, SECOND_VALIDATOR, &RIVAL.key()));
    world.must(SECOND_VALIDATOR, Action::LeaveValidator(action::LeaveValidator {}));
    let back = || Action::ReturnValidator(action::ReturnValidator {});
    assert_eq!(world.act(RIVAL, back()), Err(Rejection::NotValidator));
    while status(&world, SECOND_VALIDATOR) != ValidatorStatus::Left {
        world.go_to_next_epoch();
    }
    let other = set_duty_key(&world, SECOND_VALIDATOR, &OTHER.key());
    assert_eq!(world.act(SECOND_VALIDATOR, other), Err(Rejection::NotValidator));
    let none = action::SetDutyKey { duty_key: SECOND_VALIDATOR.address(), proof: [0; 64] };
    world.must(SECOND_VALIDATOR, Action::SetDutyKey(none));
    world.must(VALIDATOR, set_duty_key(&world, VALIDATOR, &RIVAL.key()));
}

#[test]
fn a_duty_key_acts_for_one_validator_that_its_holder_has_agreed_to() {
    let mut world = World::with(|genesis| {
        genesis.validators.push(validator(SECOND_VALIDATOR, 1_000));
        genesis.accounts.push(funded(SECOND_VALIDATOR));
    });
    let unasked = Action::SetDutyKey(action::SetDutyKey {
        duty_key: RIVAL.address(),
        proof: RIVAL.key().prove_duties(&world.chain, &SECOND_VALIDATOR.address()),
    });
    assert_eq!(world.act(VALIDATOR, unasked), Err(Rejection::BadProof));
    let another = set_duty_key(&world, VALIDATOR, &SECOND_VALIDATOR.key());
    assert_eq!(world.act(VALIDATOR, another), Err(Rejection::DutyKeyTaken), "it is a validator");
    world.must(VALIDATOR, set_duty_key(&world, VALIDATOR, &RIVAL.key()));
    let shared = set_duty_key(&world, SECOND_VALIDATOR, &RIVAL.key());
    assert_eq!(world.act(SECOND_VALIDATOR, shared), Err(Rejection::DutyKeyTaken));
    let registers = register(&world, RIVAL, 9, 1);
    assert_eq!(world.act(RIVAL, registers), Err(Rejection::DutyKeyTaken));
}
