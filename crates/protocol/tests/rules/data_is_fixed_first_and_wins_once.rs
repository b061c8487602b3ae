//! Data is fixed before the targets exist that it is submitted for, is understood, and wins once,
//! whatever is changed about it; and what it is seen from is fixed as targets are drawn.

use soma_codes::Coded as _;
use soma_protocol::record::{ModelStatus, Piece, TargetStatus};
use soma_protocol::state::Record as _;
use soma_protocol::{
    Action, Amount, Epoch, Event, Hash, ModelId, RECORD_OVERHEAD_BYTES, Rejection, TargetId,
    Validity, action, commitment, corpus, read, sketch,
};

use crate::library;
use crate::world::{
    Data, OTHER, OWNER, Person, Release, SUBMITTER, VALIDATOR, World, axis, publish, verdicts,
};

/// Somebody who has fixed nothing yet.
const NEWCOMER: Person = Person(50);

const SALT: [u8; 32] = [5; 32];

/// Documents that somebody fixes together.
#[derive(Clone, Debug)]
struct Fixed {
    documents: Vec<Vec<u8>>,
    leaves: Vec<Hash>,
}

impl Fixed {
    fn new(documents: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let documents: Vec<Vec<u8>> = documents.into_iter().collect();
        Self { leaves: documents.iter().map(|data| library::leaf(data)).collect(), documents }
    }

    fn texts(texts: &[&str]) -> Self {
        Self::new(texts.iter().map(|text| library::bytes(text)))
    }

    fn commit(&self) -> Action {
        let root = corpus::root(&self.leaves).unwrap();
        let leaves = u32::try_from(self.leaves.len()).unwrap();
        Action::CommitCorpus(action::CommitCorpus { root, leaves })
    }

    /// A submission of one of the documents.
    fn submit(&self, world: &World, person: Person, target: u32, at: usize) -> Action {
        let (data, submitter) = (&self.documents[at], person.address());
        let (data_hash, size_bytes) = (Hash::of_bytes(data), u32::try_from(data.len()).unwrap());
        let (target, chain) = (world.target(target), &world.chain);
        Action::Submit(action::Submit {
            target: target.id,
            model: target.routed[0].model,
            loss_q32: 3 << 32,
            gain_q32: 1 << 32,
            distance: 1_000,
            size_bytes,
            commitment: commitment::data(
                chain, &submitter, target.id, &data_hash, size_bytes, &SALT,
            ),
        })
    }

    /// Its publication.
    fn publish(&self, target: u32, at: usize) -> action::PublishData {
        let index = u32::try_from(at).unwrap();
        action::PublishData {
            target: TargetId(target),
            data: self.documents[at].clone(),
            salt: SALT,
            index,
            leaf_salt: library::LEAF_SALT,
            path: corpus::path(&self.leaves, index).unwrap(),
        }
    }
}

/// A world in which the newcomer has money and has done nothing with it.
fn world() -> World {
    let mut world = World::with(|genesis| genesis.params.targets_per_epoch = 8);
    let to = NEWCOMER.address();
    world.must(OWNER, Action::Transfer(action::Transfer { to, amount: Amount::soma(5_000) }));
    world
}

/// Fixes documents and waits for the first epoch in which they count. Returns its first target.
fn fix(world: &mut World, fixed: &Fixed) -> u32 {
    world.must(NEWCOMER, fixed.commit());
    world.go_to_compete();
    world.go_to_compete();
    first_target(world)
}

/// The first target of the running epoch.
fn first_target(world: &World) -> u32 {
    read::targets(&world.state, world.epoch())[0].id.0
}

fn code(result: Result<(), Rejection>) -> &'static str {
    result.err().map_or("accepted", |rejection| rejection.code().as_str())
}

#[test]
fn a_claim_without_a_corpus_is_rejected() {
    let mut world = world();
    world.go_to_compete();
    let fixed = Fixed::texts(&["mine"]);
    let submit = fixed.submit(&world, NEWCOMER, 1, 0);
    let none = Rejection::NoCorpus { epoch: Epoch(1) };
    assert_eq!(world.act(NEWCOMER, submit), Err(none));
}

#[test]
fn a_corpus_counts_for_the_targets_of_later_epochs_alone() {
    let mut world = world();
    let fixed = Fixed::texts(&["mine", "yours"]);
    world.must(NEWCOMER, fixed.commit());
    let event = world.events.iter().find(|event| matches!(event, Event::CorpusCommitted { .. }));
    let (account, root) = (NEWCOMER.address(), corpus::root(&fixed.leaves).unwrap());
    let counts = Epoch(2);
    assert_eq!(event, Some(&Event::CorpusCommitted { account, root, leaves: 2, counts }));
    // Its own epoch's targets may already be known.
    world.go_to_compete();
    let early = fixed.submit(&world, NEWCOMER, 1, 1);
    assert_eq!(code(world.act(NEWCOMER, early)), "no_corpus");
    world.go_to_compete();
    let target = first_target(&world);
    world.must(NEWCOMER, fixed.submit(&world, NEWCOMER, target, 1));
    let candidate = read::candidates(&world.state, TargetId(target))[0];
    assert_eq!((candidate.corpus_root, candidate.corpus_leaves), (root, 2));
    world.go_to_next_epoch();
    world.must(NEWCOMER, fixed.publish(target, 1).into());
}

#[test]
fn data_that_was_not_fixed_before_its_target_existed_cannot_be_published() {
    let mut world = world();
    let before = Fixed::texts(&["first", "second", "third"]);
    let target = fix(&mut world, &before);
    // With the target in sight it makes data for it, and fixes that, too.
    let after = Fixed::texts(&["first", "second", "third", "made to measure"]);
    world.must(NEWCOMER, after.commit());
    world.must(NEWCOMER, after.submit(&world, NEWCOMER, target, 3));
    world.go_to_next_epoch();
    let refused = Rejection::NotInCorpus { target: TargetId(target) };
    assert_eq!(world.act(NEWCOMER, after.publish(target, 3).into()), Err(refused));
    for (index, path) in [(0, before.publish(target, 0).path), (3, Vec::new())] {
        let guess = action::PublishData { index, path, ..after.publish(target, 3) };
        assert_eq!(code(world.act(NEWCOMER, guess.into())), "not_in_corpus");
    }
}

#[test]
fn a_document_is_shown_at_its_place_with_its_salt_and_its_path() {
    let mut world = world();
    let fixed = Fixed::texts(&["first", "second", "third"]);
    let target = fix(&mut world, &fixed);
    world.must(NEWCOMER, fixed.submit(&world, NEWCOMER, target, 1));
    world.go_to_next_epoch();
    let right = fixed.publish(target, 1);
    let long = [&right.path[..], &[Hash([0; 32]); 30]].concat();
    for wrong in [
        action::PublishData { index: 0, ..right.clone() },
        action::PublishData { index: 3, ..right.clone() },
        action::PublishData { index: u32::MAX, ..right.clone() },
        action::PublishData { leaf_salt: [8; 32], ..right.clone() },
        action::PublishData { path: right.path[1..].to_vec(), ..right.clone() },
        action::PublishData { path: long, ..right.clone() },
        action::PublishData { path: fixed.publish(target, 0).path, ..right.clone() },
    ] {
        assert_eq!(code(world.act(NEWCOMER, wrong.into())), "not_in_corpus");
    }
    world.must(NEWCOMER, right.into());
}

#[test]
fn of_the_corpora_of_one_epoch_the_last_counts() {
    let mut world = world();
    let (first, second) = (Fixed::texts(&["first"]), Fixed::texts(&["second", "third"]));
    world.must(NEWCOMER, first.commit());
    fix(&mut world, &second);
    let [one, two] = [0, 1].map(|at| read::targets(&world.state, world.epoch())[at].id.0);
    world.must(NEWCOMER, first.submit(&world, NEWCOMER, one, 0));
    world.must(NEWCOMER, second.submit(&world, NEWCOMER, two, 0));
    world.go_to_next_epoch();
    assert_eq!(code(world.act(NEWCOMER, first.publish(one, 0).into())), "not_in_corpus");
    world.must(NEWCOMER, second.publish(two, 0).into());
}

#[test]
fn replacing_a_corpus_takes_nothing_from_the_one_that_counts_nor_from_submissions() {
    let mut world = world();
    let (kept, other) = (Fixed::texts(&["kept", "here"]), Fixed::texts(&["other"]));
    let target = fix(&mut world, &kept);
    // It replaces its corpus twice in the epoch whose targets it competes for.
    world.must(NEWCOMER, other.commit());
    world.must(NEWCOMER, Fixed::texts(&["another"]).commit());
    world.must(NEWCOMER, kept.submit(&world, NEWCOMER, target, 0));
    world.go_to_next_epoch();
    world.must(NEWCOMER, other.commit());
    world.must(NEWCOMER, kept.publish(target, 0).into());
}

#[test]
fn a_corpus_has_documents_and_not_too_many_and_its_room_is_paid_for_once() {
    let mut world = world();
    let root = Hash([1; 32]);
    for leaves in [0, corpus::LEAVES_MAX + 1, u32::MAX] {
        let action = Action::CommitCorpus(action::CommitCorpus { root, leaves });
        let rejection = Rejection::BadCorpusSize { leaves, max: corpus::LEAVES_MAX };
        assert_eq!(world.act(NEWCOMER, action), Err(rejection));
    }
    let fee = |world: &mut World| {
        let leaves = corpus::LEAVES_MAX;
        let action = Action::CommitCorpus(action::CommitCorpus { root, leaves });
        let receipt = world.send(NEWCOMER, world.transaction(NEWCOMER, action));
        assert_eq!(receipt.result, Ok(()));
        receipt.fee
    };
    let (first, second) = (fee(&mut world), fee(&mut world));
    let room_fee = world.params().room_fee;
    assert!(first.less(second) > room_fee.times(128), "{first} {second}");
    world.go_to_next_epoch();
    // The one that counts stays beside the new one, in the same record.
    let third = fee(&mut world);
    assert!(third.less(second) < room_fee.times(64), "{third} {second}");
}

#[test]
fn a_gain_below_the_epochs_minimum_is_rejected_to_the_last_bit() {
    let mut world = World::with(|genesis| genesis.params.gain_min_q32 = 1 << 31);
    world.go_to_compete();
    let Action::Submit(claim) = world.submit(SUBMITTER, 1, &Data::new("good"), 5) else {
        unreachable!()
    };
    for gain_q32 in [(1 << 31) - 1, 0, -1, i64::MIN] {
        let claim = action::Submit { gain_q32, ..claim.clone() };
        let too_low = Rejection::GainTooLow { gain_q32, min_q32: 1 << 31 };
        assert_eq!(world.act(SUBMITTER, Action::Submit(claim)), Err(too_low));
    }
    world.must(SUBMITTER, Action::Submit(action::Submit { gain_q32: 1 << 31, ..claim }));
    assert_eq!(read::candidates(&world.state, TargetId(1))[0].gain_q32, 1 << 31);
}

/// Bytes without repetition, different for each seed.
fn text(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn data_that_repeats_a_past_winner_is_refused_however_it_is_changed() {
    let winner = text(1, 20_000);
    let mut changed = winner.clone();
    for byte in changed.iter_mut().step_by(4_000) {
        *byte ^= 1;
    }
    let (head, tail) = winner.split_at(7_000);
    let unrelated = text(2, 20_000);
    let framed = [&text(3, 4_000), &winner[..], &text(4, 1_000)].concat();
    let quoted = [&unrelated[..], &winner[..1_000]].concat();
    let fixed = Fixed::new([
        winner.clone(),
        winner.clone(),
        changed,
        [tail, head].concat(),
        winner[..15_000].to_vec(),
        winner[5_000..].to_vec(),
        framed,
        unrelated,
        quoted,
    ]);
    let mut world = world();
    let won = fix(&mut world, &fixed);
    world.must(NEWCOMER, fixed.submit(&world, NEWCOMER, won, 0));
    world.go_to_next_epoch();
    world.must(NEWCOMER, fixed.publish(won, 0).into());
    world.go_to_compete();
    world.must(VALIDATOR, world.attest(VALIDATOR, won, Validity::Valid));
    world.go_to_next_epoch();
    assert!(matches!(world.target(won).status, TargetStatus::Settled { .. }));
    world.go_to_compete();
    let first = first_target(&world);
    for at in 1..fixed.documents.len() {
        let target = first + u32::try_from(at).unwrap() - 1;
        world.must(NEWCOMER, fixed.submit(&world, NEWCOMER, target, at));
    }
    world.go_to_next_epoch();
    for at in 1..fixed.documents.len() {
        let target = first + u32::try_from(at).unwrap() - 1;
        let result = world.act(NEWCOMER, fixed.publish(target, at).into());
        let seen = Rejection::DataSeenBefore { winner: TargetId(won), epoch: Epoch(2) };
        assert_eq!(result, if at < 7 { Err(seen) } else { Ok(()) }, "{at}");
    }
}

/// Data that is made of two others and some new bytes, with so many pieces of their sketches.
fn composed(parts: [&[u8]; 2], known: std::ops::RangeInclusive<usize>) -> Vec<u8> {
    let sketches = parts.map(sketch::sketch);
    let made = (0..4_000).map(|cut| {
        let [first, second] = parts.map(|part| &part[..8_000 + (cut % 200) * 20]);
        let new = text(u8::try_from(10 + cut / 200).unwrap(), 200 * (1 + cut / 200));
        [first, second, &new].concat()
    });
    let fits = |data: &Vec<u8>| {
        let pieces = sketch::sketch(data);
        let shared = |part: &Vec<u64>| pieces.iter().filter(|piece| part.contains(piece)).count();
        let [first, second] = sketches.each_ref().map(shared);
        first < 8 && second < 8 && known.contains(&(first + second))
    };
    made.into_iter().find(fits).expect("some cut has such a sketch")
}

#[test]
fn data_that_is_made_of_several_past_winners_is_refused_and_the_same_bytes_never_win_twice() {
    let [first, second] = [1, 2].map(|seed| text(seed, 20_000));
    let made = composed([&first, &second], 12..=16);
    let in_part = composed([&first, &second], 8..=11);
    let fixed = Fixed::new([first, second, made, in_part]);
    let mut world = world();
    let won = fix(&mut world, &fixed);
    // A document for a target of each epoch: two win, then one is refused and one is new enough.
    let claim = |world: &mut World, first: u32, documents: [usize; 2]| -> [Result<_, _>; 2] {
        let targets = [first, first + 1];
        for (target, at) in targets.into_iter().zip(documents) {
            world.must(NEWCOMER, fixed.submit(world, NEWCOMER, target, at));
        }
        world.go_to_next_epoch();
        let mut publish =
            |at: usize| world.act(NEWCOMER, fixed.publish(targets[at], documents[at]).into());
        let published = [publish(0), publish(1)];
        world.go_to_compete();
        for (target, result) in targets.into_iter().zip(&published) {
            if result.is_ok() {
                world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Valid));
            }
        }
        world.go_to_next_epoch();
        world.go_to_compete();
        published
    };
    assert_eq!(claim(&mut world, won, [0, 1]), [Ok(()), Ok(())]);
    let target = first_target(&world);
    let [made, in_part] = claim(&mut world, target, [2, 3]);
    assert_eq!((code(made), in_part), ("data_seen_before", Ok(())));
    assert!(matches!(world.target(target + 1).status, TargetStatus::Settled { .. }));
    // Its pieces belong to three winners now, and none of them has half.
    let target = first_target(&world);
    let again = claim(&mut world, target, [3, 3]);
    assert_eq!(again.map(code), ["data_seen_before"; 2]);
}

#[test]
fn data_is_published_once_it_is_known_what_won_before() {
    let mut world = World::with(|genesis| genesis.params.targets_per_epoch = 300);
    world.go_to_compete();
    world.go_to_compete();
    let target = first_target(&world);
    let data = Data::new("good");
    world.must(SUBMITTER, world.submit(SUBMITTER, target, &data, 5));
    world.go_to_next_epoch();
    assert!(read::tasks(&world.state).will_settle(), "300 targets take three blocks");
    let early = world.act(SUBMITTER, publish(target, &data));
    assert_eq!(early, Err(Rejection::TasksPending));
    world.must(SUBMITTER, publish(target, &data));
}

#[test]
fn whoever_publishes_pays_for_the_room_of_the_pieces_that_a_win_keeps() {
    let mut world = World::with(|genesis| genesis.params.room_fee = Amount(1_000));
    world.go_to_compete();
    let (target, data) = (first_target(&world), Data::new("good"));
    world.must(SUBMITTER, world.submit(SUBMITTER, target, &data, 5));
    world.go_to_next_epoch();
    let publish = world.transaction(SUBMITTER, publish(target, &data));
    let receipt = world.send(SUBMITTER, publish);
    assert_eq!(receipt.result, Ok(()));
    let piece = Piece { winner: TargetId(target), epoch: Epoch(1) };
    let room_bytes = 16 * (piece.to_bytes().len() as u64 + RECORD_OVERHEAD_BYTES);
    assert!(receipt.fee >= Amount(1_000).times(room_bytes), "{}", receipt.fee);
}

#[test]
fn data_that_was_published_and_did_not_win_may_win_later() {
    let mut world = World::with(|_| ());
    let data = Data::new("a lie");
    let target = world.win(SUBMITTER, &data);
    world.go_to_compete();
    world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Invalid));
    world.go_to_next_epoch();
    world.win(OTHER, &Data { salt: [8; 32], ..data });
}

#[test]
fn a_reveal_after_the_draw_does_not_change_what_data_is_seen_from() {
    let mut world = World::with(|_| ());
    let first = Release::new("first", vec![3, 4, 0, 0, 0, 0, 0, 5]);
    world.publish_weights(OWNER, ModelId(1), &first);
    world.go_to_compete();
    let drawn = world.epoch();
    let target = first_target(&world);
    let seen = |world: &World, epoch| read::drawn_specialization(&world.state, epoch, ModelId(1));
    assert_eq!(seen(&world, drawn), Some(first.specialization.clone()));

    // The same weights with another mean, revealed while the claims are published.
    let moved = Release { specialization: axis(5), ..first.clone() };
    world.must(SUBMITTER, world.submit(SUBMITTER, target, &Data::new("good"), 5));
    world.publish_weights(OWNER, ModelId(1), &moved);
    world.must(SUBMITTER, publish(target, &Data::new("good")));
    assert_eq!(read::specialization(&world.state, ModelId(1)), Some(axis(5)));
    assert_eq!(seen(&world, drawn), Some(first.specialization.clone()));
    world.go_to_compete();
    assert_eq!(seen(&world, drawn), Some(first.specialization), "while they are audited");
    assert_eq!(seen(&world, drawn.next()), Some(axis(5)), "later targets are seen from the new");
    world.go_to_next_epoch();
    assert_eq!(seen(&world, drawn), None, "nobody needs it any longer");
}

#[test]
fn what_data_is_seen_from_outlives_its_model() {
    let mut world = World::with(|genesis| genesis.params.missed_reveal_slash_bps = 10_000);
    let target = world.win(SUBMITTER, &Data::new("good"));
    world.go_to_compete();
    let (drawn, model) = (world.epoch(), world.target(target).routed[0].model);
    let seen = read::drawn_specialization(&world.state, drawn, model);
    assert!(seen.is_some());
    let [_, _, broken] = verdicts();
    world.must(VALIDATOR, world.attest_verdict(VALIDATOR, target, &broken));
    world.go_to_next_epoch();
    assert_eq!(world.model(model.0).status, ModelStatus::Retired, "it has lost all its stake");
    assert_eq!(read::specialization(&world.state, model), None);
    assert_eq!(read::drawn_specialization(&world.state, drawn, model), seen);
}
