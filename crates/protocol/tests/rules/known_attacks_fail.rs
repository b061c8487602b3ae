//! Attacks and accidents that are known from networks of this kind, and that the rules rule out. A
//! test is named after what the rules promise instead.

use crate::world::{
    DIM, Data, OTHER, OWNER, Person, RIVAL, Release, SECOND_VALIDATOR, SUBMITTER, VALIDATOR, World,
    axis, publish, validator, verdict,
};
use soma_codes::Coded as _;
use soma_protocol::commitment;
use soma_protocol::record::{ModelStatus, ReturnReason, TargetStatus};
use soma_protocol::{
    Action, Address, Amount, BlockInfo, Epoch, Event, GenesisAccount, Hash, Key, ModelId, Params,
    Phase, PoolId, Rejection, SignedTransaction, TargetId, Validity, Verdict, VerifiedTransaction,
    action, check, execute, query, read,
};

/// A world in the reveal phase in which OWNER's first model has a held commit.
fn revealing(release: &Release) -> World {
    let mut world = World::with(|_| ());
    world.must(OWNER, world.commit(OWNER, ModelId(1), release));
    world.must(VALIDATOR, world.hold(ModelId(1), release));
    world.go_to_next_epoch();
    world
}

fn directions(world: &World) -> Vec<Vec<i16>> {
    let targets = read::targets(&world.state, world.epoch());
    targets.iter().map(|target| query::direction(&world.state, target).unwrap()).collect()
}

#[test]
fn a_specialization_of_another_dimension_is_rejected() {
    for specialization in [vec![], vec![i16::MAX], [axis(0), vec![0]].concat()] {
        let release = Release::new("odd", specialization);
        let mut world = revealing(&release);
        let rejection = world.act(OWNER, release.reveal(ModelId(1))).unwrap_err();
        assert_eq!(rejection.code().as_str(), "bad_specialization_dimension");
        world.go_to_compete();
        assert!(!read::targets(&world.state, world.epoch()).is_empty());
    }
}

#[test]
fn a_specialization_that_is_zero_or_longer_than_a_unit_is_rejected() {
    let along = |component: i16| axis(0).into_iter().map(|one| component * one.signum()).collect();
    let everywhere = |component: i16| vec![component; DIM as usize];
    for (specialization, accepted) in [
        (along(0), false),
        (along(1), true),
        (along(26_213), true),
        (along(i16::MAX), true),
        // Of length 32767 and 33941.
        (everywhere(11_585), true),
        (everywhere(12_000), false),
        (everywhere(i16::MIN), false),
    ] {
        let release = Release::new("some length", specialization);
        let mut world = revealing(&release);
        let rejection = world.act(OWNER, release.reveal(ModelId(1)));
        let code = rejection.err().map(|rejection| rejection.code().as_str());
        assert_eq!(code, (!accepted).then_some("bad_specialization_length"));
    }
}

#[test]
fn a_distance_or_loss_that_is_not_a_number_or_negative_is_rejected() {
    let mut world = World::with(|_| ());
    world.go_to_compete();
    let good = world.submit(SUBMITTER, 1, &Data::new("good"), 5);
    let json = serde_json::to_value(&good).unwrap();
    assert_eq!(serde_json::from_value::<Action>(json.clone()).unwrap(), good);
    for bad in ["-1", "NaN", "1.5", "1e9", "", "18446744073709551616"] {
        for field in ["distance", "size_bytes"] {
            let mut json = json.clone();
            json[field] = bad.into();
            assert!(serde_json::from_value::<Action>(json).is_err(), "{field} {bad}");
        }
    }
    let Action::Submit(good) = good else { unreachable!() };
    for (loss_q32, distance) in [(i64::MIN, 5), (-1, 5), (i64::MAX, 5), (1, u64::MAX)] {
        let action = Action::Submit(action::Submit { loss_q32, distance, ..good.clone() });
        assert!(world.act(SUBMITTER, action).is_err());
    }
}

#[test]
fn a_claim_that_nobody_recomputes_is_not_paid() {
    let mut world = World::with(|_| ());
    let data = Data::new("never audited");
    let target = world.win(SUBMITTER, &data);
    let before = world.balance(SUBMITTER);
    let bond = world.target(target).reward.bps(world.params().bond_bps);
    let longest = world.params().data_bytes_max.into();
    let lost = bond.of(data.bytes.len() as u128, longest).over(4);
    world.go_to_next_epoch();
    let no_quorum = TargetStatus::Returned { reason: ReturnReason::NoQuorum };
    assert_eq!(world.target(target).status, no_quorum);
    assert_eq!(world.balance(SUBMITTER), before.plus(bond).less(lost));
}

#[test]
fn a_specialization_of_an_odd_number_of_bytes_does_not_decode() {
    let world = World::with(|_| ());
    let action = Release::new("whole", axis(0)).reveal(ModelId(1));
    let signed = world.transaction(OWNER, action).sign(&OWNER.key());
    let bytes = signed.bytes();
    for length in 0..bytes.len() {
        assert!(SignedTransaction::decode(&bytes[..length]).is_err());
    }
}

#[test]
fn a_reveal_that_does_not_match_its_commitment_is_rejected() {
    let release = Release::new("committed", axis(0));
    let wrong = [
        Release { weights_hash: Hash([1; 32]), ..release.clone() },
        Release { key: [1; 32], ..release.clone() },
        Release { specialization: axis(1), ..release.clone() },
    ];
    let mut world = revealing(&release);
    for wrong in wrong {
        let mismatch = Rejection::CommitmentMismatch;
        assert_eq!(world.act(OWNER, wrong.reveal(ModelId(1))), Err(mismatch));
    }
    world.must(OWNER, release.reveal(ModelId(1)));
}

#[test]
fn a_commitment_cannot_be_replayed_by_another_owner_model_or_epoch() {
    let release = Release::new("mine", axis(0));
    let mut world = World::with(|_| ());
    let Action::CommitWeights(action::CommitWeights {
        commitment,
        ciphertext_hash,
        size_bytes,
        ..
    }) = world.commit(OWNER, ModelId(1), &release)
    else {
        unreachable!()
    };
    let copy = |model, epoch| {
        Action::CommitWeights(action::CommitWeights {
            architecture: 1,
            model,
            epoch,
            commitment,
            ciphertext_hash,
            size_bytes,
        })
    };
    world.must(OWNER, copy(ModelId(1), Epoch(2)));
    world.must(RIVAL, copy(ModelId(2), Epoch(2)));
    for model in [1, 2].map(ModelId) {
        world.must(VALIDATOR, world.hold(model, &release));
    }
    world.go_to_next_epoch();
    world.must(OWNER, release.reveal(ModelId(1)));
    let mismatch = Err(Rejection::CommitmentMismatch);
    assert_eq!(world.act(RIVAL, release.reveal(ModelId(2))), mismatch, "copied by a rival");
    world.must(OWNER, copy(ModelId(1), Epoch(3)));
    world.must(VALIDATOR, world.hold(ModelId(1), &release));
    world.go_to_next_epoch();
    assert_eq!(world.act(OWNER, release.reveal(ModelId(1))), mismatch, "replayed in another epoch");
}

#[test]
fn weights_are_fixed_for_the_whole_epoch() {
    let release = Release::new("later", axis(5));
    let mut world = revealing(&release);
    world.go_to_compete();
    let rejection = world.act(OWNER, release.reveal(ModelId(1))).unwrap_err();
    assert_eq!(rejection, Rejection::WrongPhase { phase: Phase::Compete });
    // A target keeps the weights that it was drawn with, and their key, while the model moves on.
    let drawn = read::targets(&world.state, world.epoch());
    let data = Data::new("audited later");
    world.must(SUBMITTER, world.submit(SUBMITTER, drawn[0].id.0, &data, 5));
    world.must(OWNER, world.commit(OWNER, ModelId(1), &release));
    world.must(VALIDATOR, world.hold(ModelId(1), &release));
    world.go_to_next_epoch();
    world.must(OWNER, release.reveal(ModelId(1)));
    assert_eq!(world.model(1).weights, Some(release.weights_hash));
    assert_eq!(world.target(drawn[0].id.0).routed, drawn[0].routed);
    for routed in &drawn[0].routed {
        assert_ne!(routed.weights_hash, release.weights_hash);
        assert!(read::weights(&world.state, routed.model, &routed.weights_hash).is_some());
    }
}

#[test]
fn slashed_stake_is_withdrawn_without_what_was_slashed() {
    let mut world = World::with(|genesis| genesis.params.missed_reveal_slash_bps = 2_500);
    let release = Release::new("unrevealed", axis(0));
    let stake = world.model(1).pool.stake;
    world.must(OWNER, world.commit(OWNER, ModelId(1), &release));
    world.must(VALIDATOR, world.hold(ModelId(1), &release));
    world.go_to_next_epoch();
    world.must(OWNER, Action::RetireModel(action::RetireModel { model: ModelId(1) }));
    world.go_to_next_epoch();
    let before = world.balance(OWNER);
    while world.model(1).status != ModelStatus::Retired {
        world.go_to_next_epoch();
    }
    assert_eq!(world.balance(OWNER), before.plus(stake).less(stake.bps(2_500)));
}

#[test]
fn withdrawing_in_the_same_epoch_does_not_bypass_the_minimum_stake() {
    let mut world = World::with(|_| ());
    let before = world.balance(OTHER);
    let model = world.register(OTHER, "fleeting");
    world.must(OTHER, Action::RetireModel(action::RetireModel { model }));
    assert!(world.balance(OTHER) <= before.less(Amount::soma(50)), "the stake stays locked");
    let pool = PoolId::Model(ModelId(2));
    let withdraw = |amount| Action::WithdrawStake(action::WithdrawStake { pool, amount });
    let (stake, minimum) = (Amount::ZERO, world.params().model_stake_min);
    let all = world.act(RIVAL, withdraw(Amount::soma(100)));
    assert_eq!(all, Err(Rejection::StakeTooLow { stake, minimum }));
    let before = world.balance(RIVAL);
    world.must(RIVAL, withdraw(Amount::soma(99)));
    assert!(world.balance(RIVAL) < before, "what is withdrawn stays locked as well");
    world.must(OWNER, Action::RetireModel(action::RetireModel { model: ModelId(1) }));
    world.go_to_compete();
    let targets = read::targets(&world.state, world.epoch());
    assert!(targets.iter().all(|target| target.routed.len() == 1), "and it is routed no more");
}

#[test]
fn a_model_slashed_below_the_minimum_stake_is_not_routed() {
    let mut world = World::with(|genesis| {
        genesis.params.missed_reveal_slash_bps = 9_999;
        genesis.params.model_stake_min = Amount::soma(100);
    });
    let release = Release::new("unrevealed", axis(0));
    world.must(OWNER, world.commit(OWNER, ModelId(1), &release));
    world.must(VALIDATOR, world.hold(ModelId(1), &release));
    world.go_to_next_epoch();
    world.go_to_next_epoch();
    world.go_to_compete();
    let targets = read::targets(&world.state, world.epoch());
    assert!(targets.iter().all(|target| target.routed.iter().all(|one| one.model == ModelId(2))));
}

#[test]
fn paying_fee_and_stake_from_one_balance_creates_no_value() {
    let mut world = World::with(|_| ());
    let all = world.balance(OTHER);
    let register = |stake| {
        Action::RegisterModel(action::RegisterModel {
            name: "all in".into(),
            commission_bps: 0,
            stake,
        })
    };
    let signed = world.transaction(OTHER, register(all)).sign(&OTHER.key());
    let fee = signed.admission_fee(&world.params());
    for stake in [all, all.less(fee), all.less(fee).less(fee).less(Amount(1))] {
        assert_eq!(
            world.act(OTHER, register(stake)).unwrap_err().code().as_str(),
            "insufficient_balance"
        );
    }
    // The world checks after every block that the supply is conserved.
    assert_eq!(world.balance(OTHER), all.less(fee.times(3)));
    assert_eq!(read::model_count(&world.state), 2);
}

#[test]
fn no_reward_is_minted_when_fraud_is_found() {
    let mut world = World::with(|_| ());
    let target = world.win(SUBMITTER, &Data::new("fraud"));
    world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Invalid));
    let people = [SUBMITTER, OWNER, RIVAL, OTHER, VALIDATOR].map(|person| world.balance(person));
    let stakes = world.holdings.model_stakes;
    world.go_to_next_epoch();
    let after = [SUBMITTER, OWNER, RIVAL, OTHER, VALIDATOR].map(|person| world.balance(person));
    assert_eq!((after, world.holdings.model_stakes), (people, stakes), "nobody gains");
}

/// Two validators reveal their randomness in an epoch with a win. The first, which is enough of the
/// stake to decide, audits; the second takes the given steps.
fn audited(second: impl FnOnce(&mut World, TargetId)) -> World {
    let mut world = World::with(|genesis| {
        genesis.validators.push(validator(SECOND_VALIDATOR, 500));
        let (address, balance) = (SECOND_VALIDATOR.address(), Amount::soma(1));
        genesis.accounts.push(GenesisAccount { address, balance });
    });
    let pool = PoolId::Validator(SECOND_VALIDATOR.address());
    let withdraw = action::WithdrawStake { pool, amount: Amount::soma(100) };
    world.must(SECOND_VALIDATOR, Action::WithdrawStake(withdraw));
    world.go_to_compete();
    let (epoch, value) = (world.epoch().next(), Hash([5; 32]));
    for one in [VALIDATOR, SECOND_VALIDATOR] {
        let commitment = commitment::beacon(&world.chain, &one.address(), epoch, &value);
        world.must(one, Action::CommitBeacon(action::CommitBeacon { epoch, commitment }));
    }
    let target = world.win(SUBMITTER, &Data::new("audited by one"));
    for one in [VALIDATOR, SECOND_VALIDATOR] {
        world.must(one, Action::RevealBeacon(action::RevealBeacon { epoch, value }));
    }
    world.go_to_compete();
    world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Valid));
    second(&mut world, TargetId(target));
    world.go_to_next_epoch();
    let fate = world.target(target).status;
    assert!(matches!(fate, TargetStatus::Settled { .. }), "{fate:?}");
    world
}

/// Validators paid for auditing in the last block.
fn paid(world: &World) -> Vec<Address> {
    let paid = |event: &Event| match event {
        Event::ValidatorRewarded { validator, .. } => Some(*validator),
        _ => None,
    };
    world.events.iter().filter_map(paid).collect()
}

#[test]
fn common_silence_of_validators_is_not_paid() {
    let mut world = World::with(|_| ());
    world.go_to_compete();
    let (epoch, value) = (world.epoch().next(), Hash([5; 32]));
    let who = VALIDATOR.address();
    let commitment = commitment::beacon(&world.chain, &who, epoch, &value);
    world.must(VALIDATOR, Action::CommitBeacon(action::CommitBeacon { epoch, commitment }));
    world.win(SUBMITTER, &Data::new("audited by nobody"));
    world.must(VALIDATOR, Action::RevealBeacon(action::RevealBeacon { epoch, value }));
    world.go_to_next_epoch();
    assert_eq!(paid(&world), []);
}

#[test]
fn an_audit_that_nobody_runs_decides_nothing() {
    let mut world = World::with(|genesis| {
        genesis.validators = vec![validator(VALIDATOR, 2_000), validator(SECOND_VALIDATOR, 1_000)];
    });
    let target = world.win(SUBMITTER, &Data::new("audited by too few"));
    world.go_to_compete();
    world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Valid));
    let (models, bonds) = (world.holdings.model_stakes, world.holdings.bonds);
    let balance = world.balance(SUBMITTER);
    world.go_to_next_epoch();
    let reason = ReturnReason::NoQuorum;
    assert_eq!(world.target(target).status, TargetStatus::Returned { reason });
    assert_eq!(world.holdings.model_stakes, models, "two thirds are not more");
    assert_eq!(world.balance(SUBMITTER), balance.plus(bonds), "the bond alone");
}

#[test]
fn an_auditor_that_guesses_is_not_paid() {
    let both = [VALIDATOR, SECOND_VALIDATOR].map(Person::address);
    let valid = verdict(Validity::Valid);
    let diligent = audited(|world, target| {
        let attest = world.attest(SECOND_VALIDATOR, target.0, Validity::Valid);
        world.must(SECOND_VALIDATOR, attest);
    });
    assert_eq!(paid(&diligent), both);

    let silent = audited(|_, _| {});
    assert_eq!(paid(&silent), both[..1], "silent");

    let copied = audited(|world, target| {
        let commitment = read::verdicts(&world.state, &world.target(target.0))[0].commitment;
        world.must(
            SECOND_VALIDATOR,
            Action::CommitVerdict(action::CommitVerdict { target, commitment }),
        );
        world.end_phase();
        let verdict = valid.clone();
        let open = Action::RevealVerdict(action::RevealVerdict { target, verdict });
        let mismatch = Err(Rejection::CommitmentMismatch);
        assert_eq!(world.act(SECOND_VALIDATOR, open), mismatch);
    });
    assert_eq!(paid(&copied), both[..1], "copied");

    // The verdict is guessed, and the trace of scores that were never computed is invented.
    let guessed = audited(|world, target| {
        let trace = Hash([9; 32]);
        let verdict = Verdict { trace, ..valid.clone() };
        let attest = world.attest_verdict(SECOND_VALIDATOR, target.0, &verdict);
        world.must(SECOND_VALIDATOR, attest);
        world.end_phase();
        world.must(
            SECOND_VALIDATOR,
            Action::RevealVerdict(action::RevealVerdict { target, verdict }),
        );
    });
    assert_eq!(paid(&guessed), both[..1], "guessed");
    let stake = |world: &World| read::validator(&world.state, &both[1]).unwrap().pool.stake;
    assert_eq!(stake(&silent), Amount::soma(400));
    assert_eq!(stake(&guessed), Amount::soma(400).less(Amount::soma(400).bps(10)), "and slashed");
}

#[test]
fn an_unpaid_reward_returns_to_the_reserve() {
    let mut world = World::with(|_| ());
    let validator = world.balance(VALIDATOR);
    let given_away = world.holdings.reserve;
    for _ in 0..3 {
        world.go_to_next_epoch();
    }
    // The validator revealed no beacon, and nobody won: all of it is back but the running epoch's.
    assert_eq!(world.balance(VALIDATOR), validator);
    let under_way = world.holdings.rewards.plus(world.holdings.validator_pots);
    assert_eq!(world.holdings.reserve.plus(under_way), given_away);
}

#[test]
fn no_fee_is_stuck_or_lost_by_integer_division() {
    for burn_bps in [0, 1, 3_333, 9_999, 10_000] {
        for fee in [1, 2, 3] {
            let mut world = World::with(|genesis| {
                genesis.params = Params {
                    base_fee: Amount(fee),
                    byte_fee: Amount::ZERO,
                    burn_bps,
                    ..genesis.params.clone()
                };
            });
            let (reserve, burned) = (world.holdings.reserve, world.holdings.burned);
            world.must(
                OWNER,
                Action::Transfer(action::Transfer { to: OTHER.address(), amount: Amount(1) }),
            );
            let gone = world.holdings.burned.less(burned);
            assert_eq!(gone, Amount(fee).bps(burn_bps));
            assert_eq!(world.holdings.reserve.less(reserve).plus(gone), Amount(fee));
        }
    }
}

#[test]
fn a_proposer_cannot_influence_the_beacon() {
    let draw = |proposer: Person, delay_ms: u64, noise: bool| {
        let mut world = World::with(|_| ());
        let value = Hash([3; 32]);
        let commitment = commitment::beacon(&world.chain, &VALIDATOR.address(), Epoch(2), &value);
        world.must(
            VALIDATOR,
            Action::CommitBeacon(action::CommitBeacon { epoch: Epoch(2), commitment }),
        );
        world.go_to_next_epoch();
        world.now_ms += delay_ms;
        if noise {
            world.must(
                OWNER,
                Action::Transfer(action::Transfer { to: OTHER.address(), amount: Amount(1) }),
            );
        }
        let open = world.transaction(
            VALIDATOR,
            Action::RevealBeacon(action::RevealBeacon { epoch: Epoch(2), value }),
        );
        let open = open.sign(&VALIDATOR.key()).verify(&world.chain).unwrap();
        let block = BlockInfo {
            height: world.height + 1,
            timestamp_ms: world.now_ms + 1,
            proposer: proposer.address(),
        };
        let outcome = execute(&world.state, &block, &[open]).unwrap();
        world.state.apply(&outcome.changes);
        world.go_to_compete();
        directions(&world)
    };
    let reference = draw(VALIDATOR, 0, false);
    assert_eq!(reference, draw(RIVAL, 0, false));
    assert_eq!(reference, draw(VALIDATOR, 12_345, false));
    assert_eq!(reference, draw(VALIDATOR, 0, true));
}

#[test]
fn a_committed_beacon_cannot_be_changed_or_revealed_twice() {
    let mut world = World::with(|_| ());
    let value = Hash([3; 32]);
    let commitment = commitment::beacon(&world.chain, &VALIDATOR.address(), Epoch(2), &value);
    let commit = Action::CommitBeacon(action::CommitBeacon { epoch: Epoch(2), commitment });
    world.must(VALIDATOR, commit.clone());
    let again = Rejection::BeaconAlreadyCommitted { epoch: Epoch(2) };
    assert_eq!(world.act(VALIDATOR, commit), Err(again));
    world.go_to_next_epoch();
    let open = |value| Action::RevealBeacon(action::RevealBeacon { epoch: Epoch(2), value });
    assert_eq!(world.act(VALIDATOR, open(Hash([4; 32]))), Err(Rejection::CommitmentMismatch));
    world.must(VALIDATOR, open(value));
    let twice = Rejection::BeaconAlreadyRevealed { epoch: Epoch(2) };
    assert_eq!(world.act(VALIDATOR, open(value)), Err(twice));
}

#[test]
fn a_validator_that_hides_its_beacon_is_slashed() {
    let mut world = World::with(|genesis| genesis.params.beacon_slash_bps = 100);
    let commitment = Hash([7; 32]);
    world.must(
        VALIDATOR,
        Action::CommitBeacon(action::CommitBeacon { epoch: Epoch(2), commitment }),
    );
    world.go_to_next_epoch();
    let stake = read::validator(&world.state, &VALIDATOR.address()).unwrap().pool.stake;
    world.go_to_compete();
    let slashed =
        Event::ValidatorSlashed { validator: VALIDATOR.address(), amount: stake.bps(100) };
    assert!(world.events.contains(&slashed));
    let before = world.balance(VALIDATOR);
    world.go_to_next_epoch();
    assert_eq!(world.balance(VALIDATOR), before, "nor is it paid for the epoch");
}

#[test]
fn a_submitter_cannot_choose_the_next_target() {
    let tell = |submissions: u64| {
        let mut world = World::with(|_| ());
        world.go_to_compete();
        for distance in 0..submissions {
            let data = Data::new(&format!("attempt {distance}"));
            world.must(SUBMITTER, world.submit(SUBMITTER, 1, &data, distance));
        }
        world.go_to_next_epoch();
        world.go_to_compete();
        directions(&world)
    };
    assert_eq!(tell(0), tell(3));
}

#[test]
fn displacing_honest_candidates_costs_a_bond_each() {
    let mut world = World::with(|genesis| genesis.params.bond_bps = 10_000);
    world.go_to_compete();
    let reward = world.target(1).reward;
    let before = world.balance(RIVAL);
    for fake in 0..3 {
        let data = Data::new(&format!("fake {fake}"));
        world.must(RIVAL, world.submit(RIVAL, 1, &data, 0));
    }
    assert!(world.balance(RIVAL) < before.less(reward.times(3)), "each costs a whole reward");
    world.go_to_next_epoch();
    world.go_to_compete();
    assert_eq!(world.holdings.bonds, Amount::ZERO);
    assert!(
        world.balance(RIVAL) < before.less(reward.times(3)),
        "which is gone if it cannot publish"
    );
}

#[test]
fn a_submission_copied_from_the_chain_cannot_be_published() {
    let mut world = World::with(|_| ());
    world.go_to_compete();
    let data = Data::new("mine");
    let mine = world.submit(SUBMITTER, 1, &data, 5);
    let Action::Submit(mine) = mine else { unreachable!() };
    // A thief sees the commitment and claims to be closer.
    let theirs = Action::Submit(action::Submit { distance: 4, ..mine });
    world.must(RIVAL, theirs);
    world.go_to_next_epoch();
    let mismatch = Err(Rejection::CommitmentMismatch);
    assert_eq!(world.act(RIVAL, publish(1, &data)), mismatch);
}

#[test]
fn no_record_is_rewritten_by_every_transaction() {
    let world = World::with(|_| ());
    let block =
        BlockInfo { height: 1, timestamp_ms: world.now_ms + 500, proposer: VALIDATOR.address() };
    let verify = |person: Person, action: Action| -> VerifiedTransaction {
        world.transaction(person, action).sign(&person.key()).verify(&world.chain).unwrap()
    };
    let transfer =
        |to: Person| Action::Transfer(action::Transfer { to: to.address(), amount: Amount(1) });
    let (one, one_changes) = check(&world.state, &block, &verify(OWNER, transfer(OTHER))).unwrap();
    let (two, two_changes) =
        check(&world.state, &block, &verify(RIVAL, transfer(SUBMITTER))).unwrap();
    assert_eq!((one.result, two.result), (Ok(()), Ok(())));
    let written =
        |changes: &soma_protocol::Changes| changes.0.keys().copied().collect::<Vec<Key>>();
    assert!(written(&one_changes).iter().all(|key| !written(&two_changes).contains(key)));
    assert_eq!(written(&one_changes).len(), 2);
}

#[test]
fn a_model_that_refreshes_in_time_stays_active() {
    let mut world = World::with(|genesis| genesis.params.refresh_epochs = 1);
    let mut inactive = 0;
    for _ in 0..3 {
        for (owner, model, at) in [(OWNER, 1, 0), (RIVAL, 2, 1)] {
            let release = Release::new("the same again", axis(at));
            world.must(owner, world.commit(owner, ModelId(model), &release));
            world.must(VALIDATOR, world.hold(ModelId(model), &release));
        }
        world.go_to_next_epoch();
        for (owner, model, at) in [(OWNER, 1, 0), (RIVAL, 2, 1)] {
            assert_eq!(world.model(model).status, ModelStatus::Active);
            world.must(owner, Release::new("the same again", axis(at)).reveal(ModelId(model)));
        }
        world.go_to_compete();
        inactive += world
            .events
            .iter()
            .filter(|event| matches!(event, Event::ModelInactive { .. }))
            .count();
        assert_eq!(read::targets(&world.state, world.epoch())[0].routed.len(), 2);
    }
    assert_eq!((inactive, world.model(1).activated), (0, Epoch(1)));
}
