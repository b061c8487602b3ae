//! Files are known by hash and size together, a verdict is about a model and its own file, and no
//! record can grow beyond what a store reads.

use crate::validators_vote_and_models_migrate::{larger, vote};
use crate::world::{
    Data, OPERATOR, OTHER, OWNER, Person, RIVAL, Release, SECOND_VALIDATOR, SUBMITTER,
    THIRD_VALIDATOR, VALIDATOR, World, axis, publish, validator, verdict,
};
use soma_protocol::record::{
    Broken, Candidate, Candidates, CastVote, ChallengeAnswers, Committee, Corpus, CorpusRoot,
    DATA_BYTES_MAX, EpochRecord, FileRoom, ModelStatus, Network, OPEN_MAX, OpenProposal,
    OpenProposals, Proposal, ProposalStatus, Publication, ROUTED_MAX, Rank, Rent, RevealedFile,
    RouteTask, Routed, Routes, Seat, Specialization, TARGETS_PER_PASS_MAX, Target, TargetStatus,
    Task, Tasks, VALIDATORS_MAX, Validators, VerdictCommit, WeightsAge, WeightsCommit,
};
use soma_protocol::state::Record;
use soma_protocol::{
    Action, Address, Amount, Architecture, Change, ConsensusKey, Epoch, Event, Hash, HeldFile, Key,
    ModelId, Phase, ProposalId, Rejection, TargetId, VALUE_BYTES_MAX, Validity, Verdict, action,
    commitment, read, sketch, storage,
};

const SEVEN: [Person; 7] =
    [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR, Person(9), Person(10), Person(11), Person(12)];

fn with_validators(people: &[Person]) -> World {
    World::with(|genesis| {
        genesis.validators = people.iter().map(|one| validator(*one, 1_000)).collect();
        genesis.params.missed_reveal_slash_bps = 1_000;
    })
}

fn hold(epoch: Epoch, held: Vec<HeldFile>) -> Action {
    Action::HoldWeights(action::HoldWeights { epoch, held })
}

fn reveal(target: u32, verdict: &Verdict) -> Action {
    let target = TargetId(target);
    Action::RevealVerdict(action::RevealVerdict { target, verdict: verdict.clone() })
}

/// All of these find the same in the running epoch, and the epoch ends.
fn decide(world: &mut World, people: &[Person], target: u32, found: &Verdict) {
    if world.clock().1 != Phase::Compete {
        world.go_to_compete();
    }
    for person in people {
        world.must(*person, world.attest_verdict(*person, target, found));
    }
    let (epoch, phase) = world.clock();
    world.must(OPERATOR, Action::EndPhase(action::EndPhase { epoch, phase }));
    for person in people {
        world.must(*person, reveal(target, found));
    }
    world.go_to_next_epoch();
}

/// A verdict that the claim is true and the files of the models at these places are broken.
fn broken(places: &[usize]) -> Verdict {
    let broken: Broken = places.iter().copied().collect();
    Verdict { broken, ..verdict(Validity::Valid) }
}

/// Models slashed in the last block.
fn slashed(world: &World) -> Vec<(ModelId, Amount)> {
    let slashed = |event: &Event| match event {
        Event::ModelSlashed { model, amount } => Some((*model, *amount)),
        _ => None,
    };
    world.events.iter().filter_map(slashed).collect()
}

fn place_of(target: &Target, model: u32) -> usize {
    let mut routed = target.routed.iter();
    routed.position(|routed| routed.model == ModelId(model)).unwrap()
}

#[test]
fn a_verdict_takes_no_room_from_others_whatever_it_finds() {
    let mut world = with_validators(&SEVEN);
    let target = world.win(SUBMITTER, &Data::new("true"));
    world.go_to_compete();
    let everything = Verdict { broken: Broken(u16::MAX), ..verdict(Validity::Valid) };
    let nothing = verdict(Validity::Valid);
    let found = |person| if matches!(person, Person(11 | 12)) { &everything } else { &nothing };
    for person in SEVEN {
        world.must(person, world.attest_verdict(person, target, found(person)));
    }
    let (epoch, phase) = world.clock();
    world.must(OPERATOR, Action::EndPhase(action::EndPhase { epoch, phase }));
    for person in SEVEN {
        let before = world.state.clone();
        world.must(person, reveal(target, found(person)));
        let own = Key::verdict(TargetId(target), &person.address());
        for (key, value) in world.state.iter().filter(|(_, value)| value[0] == VerdictCommit::TAG) {
            assert!(value.len() <= 256);
            assert!(*key == own || before.0.get(key).is_some_and(|before| **before == *value));
        }
    }
    world.go_to_next_epoch();
    assert!(matches!(world.target(target).status, TargetStatus::Settled { .. }));
    assert!(world.state.iter().all(|(_, value)| value[0] != VerdictCommit::TAG), "all are gone");
}

/// The longest record of its type that the rules can make.
fn longest<R: Record>(record: &R) -> (u8, usize) {
    let bytes = record.to_bytes().len();
    assert!(bytes <= R::BYTES_MAX, "tag {}: {bytes} bytes", R::TAG);
    assert!(2 * bytes + 2_048 > R::BYTES_MAX, "tag {}: the bound says nothing", R::TAG);
    (R::TAG, R::BYTES_MAX)
}

fn longest_architecture() -> Architecture {
    Architecture { name: "x".repeat(64), ..Architecture::nano() }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one line for each kind of record")]
fn the_longest_record_of_every_kind_can_be_read_again() {
    let world = World::with(|_| ());
    let addresses = vec![VALIDATOR.address(); VALIDATORS_MAX];
    let age = WeightsAge { epoch: Epoch(1), height: 1, index: 1 };
    let routed = Routed { model: ModelId(1), weights_hash: Hash([1; 32]), age };
    let candidate = Candidate {
        submitter: OWNER.address(),
        model: ModelId(1),
        loss_q32: 1,
        gain_q32: 1,
        distance: 1,
        size_bytes: 1,
        commitment: Hash([1; 32]),
        corpus_root: Hash([1; 32]),
        corpus_leaves: 1,
        bond: Amount(1),
    };
    let corpus = CorpusRoot { epoch: Epoch(1), root: Hash([1; 32]), leaves: 1 };
    let seat = Seat {
        consensus_key: ConsensusKey([1; 32]),
        validator: VALIDATOR.address(),
        stake: Amount(1),
        since: Epoch(1),
    };
    let cast = CastVote { validator: VALIDATOR.address(), approve: true };
    let bounds = [
        longest(&Validators(addresses.clone())),
        longest(&ChallengeAnswers(addresses.clone())),
        longest(&Rent {
            prepaid: Amount(1),
            epochs_left: 1,
            size_bytes: 1,
            holders: addresses.clone(),
        }),
        longest(&Routes { targets: 1, left: 1 }),
        longest(&FileRoom(1)),
        longest(&WeightsCommit {
            epoch: Epoch(1),
            architecture: 1,
            commitment: Hash([1; 32]),
            ciphertext_hash: Hash([1; 32]),
            size_bytes: 1,
            rent: Amount(1),
            paid: Amount(1),
            height: 1,
            index: 1,
            holders: addresses.clone(),
            available: true,
        }),
        longest(&EpochRecord { revealed: addresses, ..read_epoch(&world) }),
        longest(&Specialization(vec![1; 1 << 16])),
        longest(&Target {
            id: TargetId(1),
            epoch: Epoch(1),
            reward: Amount(1),
            routed: vec![routed; ROUTED_MAX as usize],
            status: TargetStatus::Settled {
                model: ModelId(1),
                submitter: OWNER.address(),
                distance: 1,
                data_hash: Hash([1; 32]),
                paid_submitter: Amount(1),
                paid_model: Amount(1),
            },
        }),
        longest(&Candidates(vec![candidate; 64])),
        longest(&Publication {
            rank: 1,
            data_hash: Hash([1; 32]),
            data: vec![1; DATA_BYTES_MAX as usize],
            pieces: vec![1; sketch::PIECES_MAX],
        }),
        longest(&Corpus { latest: corpus, before: Some(corpus) }),
        longest(&Committee { number: 1, height: 1, epoch: Epoch(1), seats: vec![seat; 1_024] }),
        longest(&Proposal {
            id: ProposalId(1),
            proposer: OWNER.address(),
            change: Change::Architecture { architecture: longest_architecture() },
            deposit: Amount(1),
            made: Epoch(1),
            ends: Epoch(1),
            votes: vec![cast; VALIDATORS_MAX],
            status: ProposalStatus::Passed { epoch: Epoch(1) },
        }),
        longest(&OpenProposals(vec![
            OpenProposal { id: ProposalId(1), proposer: OWNER.address() };
            OPEN_MAX
        ])),
        longest(&Network {
            chain: "x".repeat(64),
            architecture: longest_architecture(),
            ..read::network(&world.state)
        }),
        longest(&Tasks(vec![Task::Route(longest_routing())])),
        longest(&world.params()),
        longest(&world.model(1)),
    ];
    for (tag, max) in bounds {
        assert!(max <= VALUE_BYTES_MAX, "tag {tag}");
    }
}

/// Routing in the middle of a pass, with all places taken.
fn longest_routing() -> RouteTask {
    let rank = Rank { value: i128::MIN, activated: Epoch(1), model: ModelId(1) };
    let nearest = vec![vec![rank; ROUTED_MAX as usize]; TARGETS_PER_PASS_MAX as usize];
    RouteTask { left: u32::MAX, nearest }
}

fn read_epoch(world: &World) -> EpochRecord {
    let mut world = world.clone();
    world.go_to_compete();
    read::epoch(&world.state, world.epoch()).unwrap()
}

#[test]
fn one_entry_of_a_list_of_held_files_never_vetoes_the_others() {
    let mut world = World::with(|genesis| genesis.params.migration_epochs = 50);
    let architecture = larger();
    let change = Change::Architecture { architecture };
    world.must(VALIDATOR, Action::Propose(action::Propose { change }));
    world.must(VALIDATOR, vote(1, true));
    world.go_to_next_epoch();
    assert!(read::migration(&world.state).is_some());
    let (honest, twice) = (Release::new("honest", axis(0)), Release::sized("twice", axis(1), 1));
    world.must(OWNER, world.commit(OWNER, ModelId(1), &honest));
    for architecture in [1, 2] {
        world.must(RIVAL, world.commit_for(architecture, RIVAL, ModelId(2), &twice));
    }
    let next = world.epoch().next();
    let unknown = HeldFile { size_bytes: 7, ..honest.held_by(ModelId(2)) };
    let nobody = honest.held_by(ModelId(99));
    let list = [2, 2, 1].map(|model| match model {
        1 => honest.held_by(ModelId(1)),
        _ => twice.held_by(ModelId(model)),
    });
    let list: Vec<HeldFile> = [unknown, nobody].into_iter().chain(list).collect();
    world.must(VALIDATOR, hold(next, list.clone()));
    let held = |event: &&Event| matches!(event, Event::WeightsHeld { .. });
    assert_eq!(world.events.iter().filter(held).count(), 2, "each file that is new, once");
    for (model, commit) in read::commits(&world.state, next) {
        assert_eq!(commit.holders, [VALIDATOR.address()], "model {model}");
    }
    let again = Err(Rejection::OtherFileCommitted { model: ModelId(2) });
    assert_eq!(world.act(VALIDATOR, hold(next, list)), again, "nothing in it is new");
    world.go_to_next_epoch();
    world.must(OWNER, honest.reveal(ModelId(1)));
}

#[test]
fn a_file_that_is_refreshed_is_held_for_both_its_uses_at_once() {
    let people = [VALIDATOR, SECOND_VALIDATOR];
    let mut world = with_validators(&people);
    let (model, release) = (ModelId(1), Release::new("refreshed", axis(0)));
    world.publish_weights(OWNER, model, &release);
    // The second validator has fetched the file after the reveal, and the owner refreshes it.
    world.must(OWNER, world.commit(OWNER, model, &release));
    world.must(SECOND_VALIDATOR, world.hold(model, &release));
    let both = people.map(Person::address);
    assert_eq!(read::rent(&world.state, model).unwrap().holders, both);
    let commit = read::commit(&world.state, model, world.epoch().next()).unwrap();
    assert_eq!(commit.holders, both[1..]);
}

#[test]
fn the_size_of_a_file_is_part_of_its_identity() {
    let mut world = World::with(|_| ());
    let large = Release::sized("large", axis(0), 1_000_000);
    let lie = Release { size_bytes: 1, ..large.clone() };
    // The rival's commit brings the file to the validators; the owner names it with another size.
    world.must(RIVAL, world.commit(RIVAL, ModelId(2), &large));
    world.must(OWNER, world.commit(OWNER, ModelId(1), &lie));
    let epoch = world.epoch().next();
    let model = ModelId(1);
    let other = Err(Rejection::OtherFileCommitted { model });
    assert_eq!(world.act(VALIDATOR, hold(epoch, vec![large.held_by(model)])), other);
    world.must(VALIDATOR, hold(epoch, vec![large.held_by(model), large.held_by(ModelId(2))]));
    world.go_to_next_epoch();
    let missing = Err(Rejection::CommitNotFound { model, epoch });
    assert_eq!(world.act(OWNER, lie.reveal(model)), missing, "nobody held it: it lapsed");
    world.must(RIVAL, large.reveal(ModelId(2)));
    world.go_to_compete();
    let asked = storage::challenge(&world.state, &VALIDATOR.address()).unwrap();
    assert_eq!((asked.model, asked.size_bytes), (ModelId(2), 1_000_000));
    world.must(VALIDATOR, world.answer(&asked, &large));
}

#[test]
fn a_commitment_covers_the_encrypted_file_and_its_size() {
    let (mut world, release) = (World::with(|_| ()), Release::new("covered", axis(0)));
    let Action::CommitWeights(commit) = world.commit(OWNER, ModelId(1), &release) else {
        unreachable!()
    };
    // The commitment is for a file of another size, or for another file.
    let other = Release::new("another file", axis(0));
    for wrong in [
        Release { size_bytes: release.size_bytes + 1, ..release.clone() },
        Release { ciphertext_hash: other.ciphertext_hash, ..release.clone() },
    ] {
        let Action::CommitWeights(action::CommitWeights { commitment, .. }) =
            world.commit(OWNER, ModelId(1), &wrong)
        else {
            unreachable!()
        };
        assert_ne!(commitment, commit.commitment);
        let mut world = world.clone();
        let wrong = action::CommitWeights { commitment, ..commit.clone() };
        world.must(OWNER, Action::CommitWeights(wrong));
        world.must(VALIDATOR, world.hold(ModelId(1), &release));
        world.go_to_next_epoch();
        let mismatch = Err(Rejection::CommitmentMismatch);
        assert_eq!(world.act(OWNER, release.reveal(ModelId(1))), mismatch);
    }
    world.publish_weights(OWNER, ModelId(1), &release);
}

#[test]
fn a_copied_commitment_keeps_its_maker_out_of_nothing() {
    let mut world = World::with(|_| ());
    world.go_to_compete();
    let data = Data::new("mine");
    let mine = world.submit(SUBMITTER, 1, &data, 1_000);
    let Action::Submit(submit) = mine.clone() else { unreachable!() };
    let copied = action::Submit { distance: 4_000, ..submit };
    world.must(OTHER, Action::Submit(copied));
    world.must(SUBMITTER, mine.clone());
    let target = TargetId(1);
    let twice = Err(Rejection::DuplicateSubmission { target });
    assert_eq!(world.act(SUBMITTER, mine), twice, "one's own is still entered once");
    world.go_to_next_epoch();
    let not_yet = Err(Rejection::NotPublisher { target });
    assert_eq!(world.act(OTHER, publish(1, &data)), not_yet);
    world.must(SUBMITTER, publish(1, &data));
}

#[test]
fn a_model_competes_with_the_file_that_it_had_when_a_target_was_drawn() {
    let mut world = World::with(|_| ());
    let release = Release::new("good", axis(0));
    world.publish_weights(OWNER, ModelId(1), &release);
    world.go_to_compete();
    let drawn = read::targets(&world.state, world.epoch())[0].clone();
    let routed = drawn.routed[place_of(&drawn, 1)];
    let good = RevealedFile {
        ciphertext_hash: release.ciphertext_hash,
        size_bytes: release.size_bytes,
        key: release.key,
    };
    assert_eq!(read::routed_file(&world.state, &drawn, &routed), Some(good));

    // The same weights in a file of one byte: those that are still to be audited keep theirs.
    let junk = Release::sized("junk", axis(0), 1);
    let again = Release { weights_hash: release.weights_hash, ..junk };
    world.publish_weights(OWNER, ModelId(1), &again);
    let weights = read::weights(&world.state, ModelId(1), &release.weights_hash).unwrap();
    assert_eq!(weights.ciphertext_hash, again.ciphertext_hash);
    assert_eq!(read::routed_file(&world.state, &drawn, &routed), Some(good));
    world.go_to_compete();
    let later = read::targets(&world.state, world.epoch())[0].clone();
    let routed = later.routed[place_of(&later, 1)];
    let file = read::routed_file(&world.state, &later, &routed).unwrap();
    assert_eq!(file.ciphertext_hash, again.ciphertext_hash);
}

#[test]
fn a_model_that_reveals_another_models_weights_with_its_own_broken_file_hurts_nobody_else() {
    let people = [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR];
    let mut world = with_validators(&people);
    let honest = Release::new("honest", axis(0));
    let junk = Release::sized("junk", axis(1), 1);
    let copy = Release { weights_hash: honest.weights_hash, ..junk };
    for (owner, model, release) in [(OWNER, ModelId(1), &honest), (RIVAL, ModelId(2), &copy)] {
        world.must(owner, world.commit(owner, model, release));
        for person in people {
            world.must(person, world.hold(model, release));
        }
    }
    world.go_to_next_epoch();
    world.must(OWNER, honest.reveal(ModelId(1)));
    world.must(RIVAL, copy.reveal(ModelId(2)));
    let target = world.win(SUBMITTER, &Data::new("true"));
    let drawn = world.target(target);
    let hashes = drawn.routed.iter().map(|routed| routed.weights_hash);
    assert!(hashes.clone().count() == 2 && hashes.clone().all(|hash| hash == honest.weights_hash));
    let found = broken(&[place_of(&drawn, 2)]);
    decide(&mut world, &people, target, &found);
    let status = world.target(target).status;
    assert!(matches!(status, TargetStatus::Settled { .. }), "the honest claim is paid: {status:?}");
    assert_eq!(slashed(&world), [(ModelId(2), Amount::soma(10))]);
    assert_eq!(world.model(1).status, ModelStatus::Active);
    assert_eq!(world.model(2).status, ModelStatus::Inactive);
}

#[test]
fn a_broken_file_is_punished_once_for_a_reveal_and_no_later_reveal_escapes_it() {
    let people = [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR];
    let mut world = with_validators(&people);
    let publish_in = |world: &mut World, name: &str| {
        let release = Release::new(name, axis(1));
        world.must(RIVAL, world.commit(RIVAL, ModelId(2), &release));
        for person in people {
            world.must(person, world.hold(ModelId(2), &release));
        }
        release
    };
    let first = publish_in(&mut world, "first");
    world.go_to_next_epoch();
    world.must(RIVAL, first.reveal(ModelId(2)));
    world.go_to_compete();
    let drawn = read::targets(&world.state, world.epoch());
    for (text, target) in ["a", "b"].into_iter().zip(&drawn) {
        let submit = world.submit(SUBMITTER, target.id.0, &Data::new(text), 1_000);
        world.must(SUBMITTER, submit);
    }
    // It reveals other weights before the verdict on the first is known.
    let second = publish_in(&mut world, "second");
    world.go_to_next_epoch();
    world.must(RIVAL, second.reveal(ModelId(2)));
    for (text, target) in ["a", "b"].into_iter().zip(&drawn) {
        world.must(SUBMITTER, publish(target.id.0, &Data::new(text)));
    }
    world.go_to_compete();
    let found: Vec<Verdict> =
        drawn[..2].iter().map(|target| broken(&[place_of(target, 2)])).collect();
    for (target, found) in drawn.iter().zip(&found) {
        for person in people {
            world.must(person, world.attest_verdict(person, target.id.0, found));
        }
    }
    let (epoch, phase) = world.clock();
    world.must(OPERATOR, Action::EndPhase(action::EndPhase { epoch, phase }));
    for (target, found) in drawn.iter().zip(&found) {
        for person in people {
            world.must(person, reveal(target.id.0, found));
        }
    }
    world.go_to_next_epoch();
    let model = world.model(2);
    let once = [(ModelId(2), Amount::soma(10))];
    assert_eq!(slashed(&world), once, "for both targets of the epoch");
    assert_eq!(model.status, ModelStatus::Active, "its later weights are not known to be broken");
    assert_eq!(model.broken, drawn[0].epoch);
}

#[test]
fn a_broken_file_costs_its_model_what_it_may_have_denied() {
    let people = [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR];
    let mut world = World::with(|genesis| {
        genesis.validators = people.iter().map(|one| validator(*one, 1_000)).collect();
        genesis.params.broken_slash_bps = 10_000;
        // The rewards of two epochs are a few SOMA.
        genesis.params.emission_divisor = 3_000_000;
    });
    let target = world.win(SUBMITTER, &Data::new("true"));
    let drawn = world.target(target);
    let stake = world.model(2).pool.total();
    let found = broken(&[place_of(&drawn, 2)]);
    world.go_to_compete();
    // It was drawn again before its file was known to be broken.
    let epochs = [drawn.epoch, world.epoch()];
    let of_two = |target: &Target| target.routed.iter().any(|routed| routed.model == ModelId(2));
    let targets = epochs.map(|epoch| read::targets(&world.state, epoch));
    let denied: Amount =
        targets.iter().flatten().filter(|target| of_two(target)).map(|target| target.reward).sum();
    decide(&mut world, &people, target, &found);
    let [(model, amount)] = slashed(&world)[..] else { panic!("one model is slashed") };
    assert_eq!(model, ModelId(2));
    let rounding = stake.bps(2);
    assert!(denied < amount && amount < denied.plus(rounding), "{denied} {amount}");
    assert!(amount < stake);
}

#[test]
fn votes_of_validators_that_are_gone_make_room_for_others() {
    let mut world = World::with(|_| ());
    let change = Change::Parameter { name: "targets_per_epoch".to_owned(), value: 7 };
    world.must(VALIDATOR, Action::Propose(action::Propose { change }));
    let mut proposal = read::proposal(&world.state, ProposalId(1)).unwrap();
    let voter = |at: usize| {
        let mut address = Address([0; 32]);
        address.0[..8].copy_from_slice(&at.to_le_bytes());
        CastVote { validator: address, approve: true }
    };
    proposal.votes = (0..VALIDATORS_MAX).map(voter).collect();
    let value = proposal.to_bytes().into();
    world.state.0.insert(Key::proposal(ProposalId(1)), value);
    world.must(VALIDATOR, vote(1, true));
    let votes = read::proposal(&world.state, ProposalId(1)).unwrap().votes;
    assert_eq!(votes, [CastVote { validator: VALIDATOR.address(), approve: true }]);
}

#[test]
fn a_verdict_is_committed_to_with_its_broken_models() {
    let (chain, me) = (Hash([1; 32]), VALIDATOR.address());
    let commit = |found: &Verdict| commitment::verdict(&chain, &me, TargetId(1), found);
    let all: std::collections::BTreeSet<Hash> =
        (0..16).map(|place| commit(&broken(&[place]))).chain([commit(&broken(&[]))]).collect();
    assert_eq!(all.len(), 17);
}
