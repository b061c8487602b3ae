//! The spool: no obligation is lost, at whatever moment the process is killed.

use std::path::PathBuf;

use proptest::prelude::*;
use soma_codes::Coded as _;
use soma_sdk::api::{Candidate, Clock, Commit, Model, ModelStatus, Target, TargetStatus, Weights};
use soma_sdk::obligation::{Claim, Obligation, ObligationStatus, Publication, Reveal};
use soma_sdk::protocol::{
    Action, Address, Amount, Epoch, Hash, ModelId, Phase, TargetId, action, commitment,
};
use soma_sdk::{Secret, Spool, Text};

/// A folder that only this user can use, as a spool must be.
fn private_folder() -> std::io::Result<tempfile::TempDir> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir()
}

fn reveal() -> Reveal {
    Reveal {
        chain: Hash([1; 32]),
        model: ModelId(3),
        architecture: 1,
        owner: Address([2; 32]),
        epoch: Epoch(7),
        key: Secret::from_bytes([4; 32]),
        weights_hash: Hash([5; 32]),
        ciphertext_hash: Hash([6; 32]),
        size_bytes: u64::MAX,
        specialization: vec![-32_767, 0, 12],
        ciphertext: PathBuf::from("/somewhere/cipher"),
    }
}

fn publication() -> Publication {
    Publication {
        chain: Hash([1; 32]),
        submitter: Address([2; 32]),
        target: TargetId(9),
        epoch: Epoch(7),
        salt: Secret::from_bytes([4; 32]),
        index: 5,
        leaf_salt: Secret::from_bytes([3; 32]),
        path: vec![Hash([8; 32])],
        data: b"private \x00\xff bytes".to_vec(),
    }
}

#[test]
fn an_obligation_is_listed_by_another_process_until_it_is_retired() {
    let folder = private_folder().unwrap();
    let due = [Obligation::Publication(publication()), Obligation::Reveal(reveal())];
    let spool = Spool::open(folder.path()).unwrap();
    for item in &due {
        spool.put(item.clone()).unwrap();
        spool.put(item.clone()).unwrap();
    }
    let again = Spool::open(folder.path()).unwrap();
    assert_eq!(again.list().unwrap().obligations, due);
    again.retire(&due[0], true).unwrap();
    again.retire(&due[0], true).unwrap();
    assert_eq!(spool.list().unwrap().obligations, due[1..]);
}

#[test]
fn what_was_seen_stays_due_though_the_folder_vanishes_and_is_written_again() {
    let folder = private_folder().unwrap();
    let path = folder.path().join("spool");
    let spool = Spool::open(&path).unwrap();
    let due = [Obligation::Publication(publication()), Obligation::Reveal(reveal())];
    for item in &due {
        spool.put(item.clone()).unwrap();
    }
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::write(&path, "no folder").unwrap();
    assert_eq!(spool.list().unwrap().obligations, due);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(spool.list().unwrap().obligations, due);
    let other = Spool::open(&path).unwrap();
    assert_eq!(other.list().unwrap().obligations, due, "it is on disk again");
    other.retire(&due[0], true).unwrap();
    assert_eq!(spool.list().unwrap().obligations, due[1..], "another process has sent it");
    spool.retire(&due[1], false).unwrap();
    assert!(spool.list().unwrap().obligations.is_empty());
}

#[test]
fn a_folder_that_vanished_with_nothing_due_is_empty_and_is_created_when_something_is() {
    let folder = private_folder().unwrap();
    let path = folder.path().join("spool");
    let spool = Spool::open(&path).unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    let listing = spool.list().unwrap();
    assert!(listing.obligations.is_empty() && listing.damaged.is_empty());
    assert!(!path.exists(), "it may be elsewhere for a moment");
    let weights = folder.path().join("weights");
    std::fs::write(&weights, "weights").unwrap();
    let (_, encrypted) = spool.encrypt(&weights, &Secret::from_bytes([1; 32]), |_| ()).unwrap();
    assert!(encrypted.is_file());
    std::fs::remove_dir_all(&path).unwrap();
    spool.put(Obligation::Publication(publication())).unwrap();
    assert_eq!(spool.list().unwrap().obligations.len(), 1);
}

#[test]
fn the_end_of_a_phase_is_known_ahead() {
    let params = soma_sdk::protocol::Params::network();
    let ends = |clock: &Clock, epoch, phase| {
        soma_sdk::obligation::phase_ends_ms(clock, &params, Epoch(epoch), phase)
    };
    let at =
        |epoch, phase, ends_ms: u64| Clock { ends_ms: Some(Text(ends_ms)), ..clock(epoch, phase) };
    let begin = at(7, Phase::Reveal, params.reveal_ms());
    let published = params.reveal_ms() + params.publish_part_ms();
    assert_eq!(ends(&begin, 7, Phase::Publish(0)), Some(published));
    assert_eq!(ends(&begin, 7, Phase::Attest), Some(params.epoch_ms));
    let competing = at(7, Phase::Attest, params.epoch_ms);
    assert_eq!(ends(&competing, 8, Phase::Publish(0)), Some(params.epoch_ms + published));
    assert_eq!(ends(&clock(7, Phase::Reveal), 7, Phase::Reveal), None, "phases end by command");
}

#[test]
fn what_a_node_says_never_destroys_a_secret() {
    let folder = private_folder().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let due = Obligation::Publication(publication());
    spool.put(due.clone()).unwrap();
    spool.retire(&due, false).unwrap();
    assert!(spool.list().unwrap().obligations.is_empty());
    let kept = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    assert_eq!(kept.extension().unwrap(), "ended-8", "the last epoch in which it can be sent");
    std::fs::rename(&kept, kept.with_extension("json")).unwrap();
    assert_eq!(
        spool.list().unwrap().obligations,
        std::slice::from_ref(&due),
        "it can be delivered again"
    );
    spool.retire(&due, false).unwrap();
    let old = std::time::SystemTime::now() - soma_sdk::spool::KEPT * 2;
    std::fs::File::options().write(true).open(&kept).unwrap().set_modified(old).unwrap();
    Spool::open(folder.path()).unwrap().retire(&due, false).unwrap();
    assert!(!kept.exists(), "but not forever");
}

#[test]
fn only_a_key_that_this_machine_has_revealed_is_used_again() {
    let folder = private_folder().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let due = Obligation::Reveal(reveal());
    let key = |spool: &Spool| spool.revealed_key(ModelId(3), Hash([5; 32]), Hash([6; 32])).unwrap();
    spool.put(due.clone()).unwrap();
    assert_eq!(key(&spool), None, "not yet");
    spool.retire(&due, false).unwrap();
    assert_eq!(key(&spool), None, "a node said so");
    spool.put(due.clone()).unwrap();
    spool.retire(&due, true).unwrap();
    assert_eq!(key(&spool), Some(Secret::from_bytes([4; 32])));
    for (model, file) in [(ModelId(3), Hash([7; 32])), (ModelId(4), Hash([6; 32]))] {
        assert_eq!(spool.revealed_key(model, Hash([5; 32]), file).unwrap(), None);
    }
}

#[cfg(unix)]
#[test]
fn a_spool_that_others_can_use_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = private_folder().unwrap();
    for (mode, is_private) in [(0o700, true), (0o750, false), (0o707, false), (0o755, false)] {
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let opened = Spool::open(folder.path());
        assert_eq!(opened.is_ok(), is_private, "{mode:o}");
        if let Err(error) = opened {
            assert_eq!(error.code().as_str(), "folder_open_to_others");
        }
    }
}

#[test]
fn a_second_commit_does_not_replace_the_obligation_of_the_first() {
    let folder = private_folder().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let second = Reveal { weights_hash: Hash([9; 32]), ..reveal() };
    spool.put(Obligation::Reveal(reveal())).unwrap();
    spool.put(Obligation::Reveal(second)).unwrap();
    assert_eq!(spool.list().unwrap().obligations.len(), 2);
}

#[cfg(unix)]
#[test]
fn only_the_user_can_read_the_spool() {
    use std::os::unix::fs::PermissionsExt;
    let folder = private_folder().unwrap();
    let path = folder.path().join("spool");
    let spool = Spool::open(&path).unwrap();
    spool.put(Obligation::Publication(publication())).unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.clone()), 0o700);
    for entry in std::fs::read_dir(path).unwrap() {
        assert_eq!(mode(entry.unwrap().path()), 0o600);
    }
}

#[test]
fn secrets_and_data_are_not_printed() {
    let shown =
        format!("{:?} {:?}", Obligation::Reveal(reveal()), Obligation::Publication(publication()));
    assert!(!shown.contains("0404") && !shown.contains("4, 4") && !shown.contains("private"));
}

/// A power failure leaves no file, a temporary one, or the complete one.
#[test]
fn an_interrupted_write_leaves_the_other_obligations_intact() {
    let folder = private_folder().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    spool.put(Obligation::Reveal(reveal())).unwrap();
    let whole = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&whole).unwrap();
    let torn = folder.path().join("publication-9-00.json.123.tmp");
    for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&torn, &bytes[..length]).unwrap();
        let listing = spool.list().unwrap();
        assert_eq!(listing.obligations, [Obligation::Reveal(reveal())]);
        assert!(listing.damaged.is_empty());
    }
}

proptest! {
    // Each case waits for the disk.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A damaged file is reported and kept, and never read as another obligation. The program that
    /// wrote it still knows what is due.
    #[test]
    fn a_damaged_file_is_reported_and_kept(at in 0usize..10_000, flip in 1u8..=255, cut: bool) {
        let folder = private_folder().unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        spool.put(Obligation::Publication(publication())).unwrap();
        let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
        std::fs::write(&path, bytes).unwrap();
        let listing = Spool::open(folder.path()).unwrap().list().unwrap();
        prop_assert_eq!(listing.obligations.len() + listing.damaged.len(), 1);
        for due in listing.obligations {
            prop_assert_eq!(due, Obligation::Publication(publication()));
        }
        prop_assert!(path.exists());
        let known = spool.list().unwrap().obligations;
        prop_assert_eq!(known, [Obligation::Publication(publication())]);
    }
}

#[test]
fn commit_and_reveal_share_a_commitment_and_so_do_submission_and_publication() {
    let due = reveal();
    let opening = commitment::CommittedWeights {
        model: due.model,
        owner: &due.owner,
        epoch: due.epoch,
        weights_hash: &due.weights_hash,
        ciphertext_hash: &due.ciphertext_hash,
        size_bytes: due.size_bytes,
        key: due.key.bytes(),
        specialization: &due.specialization,
    };
    let Action::CommitWeights(action::CommitWeights { commitment: committed, .. }) = due.commit()
    else {
        panic!()
    };
    assert_eq!(committed, commitment::weights(&due.chain, &opening));

    let due = publication();
    let claim = Claim { model: ModelId(1), loss_q32: 5, gain_q32: 6, distance: 7 };
    let Action::Submit(action::Submit { commitment, size_bytes, gain_q32: 6, .. }) =
        due.submit(claim)
    else {
        panic!()
    };
    let Action::PublishData(action::PublishData { data, salt, target, index, leaf_salt, path }) =
        due.publish()
    else {
        panic!()
    };
    assert_eq!((index, leaf_salt, path), (5, [3; 32], vec![Hash([8; 32])]));
    let opened = commitment::data(
        &due.chain,
        &due.submitter,
        target,
        &Hash::of_bytes(&data),
        size_bytes,
        &salt,
    );
    assert_eq!(commitment, opened);
}

fn clock(epoch: u32, phase: Phase) -> Clock {
    Clock { epoch, phase: Text(phase), ends_ms: None, beacon: None }
}

fn model(commit: Option<Commit>, weights: Option<Weights>) -> Model {
    Model {
        id: 3,
        name: "m".into(),
        owner: Text(Address([2; 32])),
        commission_bps: 0,
        status: ModelStatus::Active,
        release_epoch: None,
        stake: Text(10_000),
        weights,
        next: None,
        rent: None,
        leaving: Text(0),
        joining: Text(0),
        next_commission: None,
        commits: commit.into_iter().collect(),
        wins: 0,
        earned: Text(0),
    }
}

fn commit(commitment: Hash) -> Commit {
    Commit {
        epoch: 7,
        commitment: Text(commitment),
        ciphertext_hash: Text(Hash([6; 32])),
        size_bytes: Text(1),
        architecture: 1,
        holders: Vec::new(),
        held: true,
        rent: Text(3),
    }
}

fn weights(revealed_epoch: u32) -> Weights {
    Weights {
        hash: Text(Hash([5; 32])),
        size_bytes: Text(1),
        ciphertext_hash: Text(Hash([6; 32])),
        key: Text(Hash([4; 32])),
        revealed_epoch,
        first_epoch: 1,
        refresh_epoch: 20,
    }
}

#[test]
fn a_reveal_is_ready_only_in_its_epochs_reveal_and_publish_phases() {
    let due = reveal();
    let ours = || Some(commit(due.commitment()));
    let at = |epoch, phase, commit, weights| {
        due.status(&clock(epoch, phase), &model(commit, weights), 500)
    };
    // Rent 3 and five hundredths of the stake of 10,000.
    let at_risk = Amount(503);
    assert_eq!(at(6, Phase::Compete, ours(), None), ObligationStatus::Waiting { at_risk });
    assert_eq!(at(7, Phase::Reveal, ours(), None), ObligationStatus::Ready { at_risk });
    assert_eq!(at(7, Phase::Publish(1), ours(), None), ObligationStatus::Ready { at_risk });
    assert_eq!(at(7, Phase::Compete, ours(), None), ObligationStatus::Missed);
    assert_eq!(at(8, Phase::Reveal, None, None), ObligationStatus::Missed);
    assert_eq!(at(7, Phase::Compete, None, Some(weights(7))), ObligationStatus::Settled);
    // The same weights, revealed in an earlier epoch, are not this reveal.
    assert_eq!(at(7, Phase::Reveal, ours(), Some(weights(3))), ObligationStatus::Ready { at_risk });
}

#[test]
fn a_reveal_whose_commit_is_not_finalized_yet_is_kept() {
    let due = reveal();
    let nothing = Amount::ZERO;
    for other in [None, Some(commit(Hash([8; 32])))] {
        let status =
            |epoch, phase| due.status(&clock(epoch, phase), &model(other.clone(), None), 500);
        assert_eq!(status(6, Phase::Compete), ObligationStatus::Waiting { at_risk: nothing });
        // From the epoch's beginning on, no commit can follow: this one lapsed or was replaced.
        assert_eq!(status(7, Phase::Reveal), ObligationStatus::Settled);
    }
}

fn target(status: TargetStatus, ours: Option<u32>) -> Target {
    let candidate = |rank, commitment| Candidate {
        rank,
        submitter: Text(Address([2; 32])),
        model: 1,
        loss_q32: Text(-1),
        gain_q32: Text(1),
        distance: Text(1),
        size_bytes: 1,
        commitment: Text(commitment),
        corpus_root: Text(Hash::default()),
        corpus_leaves: 1,
        bond: Text(40 + u64::from(rank)),
    };
    let commitment = |rank| match ours {
        Some(own) if own == rank => publication().commitment(),
        _ => Hash([8; 32]),
    };
    Target {
        id: 9,
        epoch: 7,
        status,
        returned: None,
        reward: Text(100),
        seed: Text(Hash::default()),
        loss_margin_q32: Text(0),
        gain_min_q32: Text(0),
        routed: Vec::new(),
        candidates: (0..3).map(|rank| candidate(rank, commitment(rank))).collect(),
        publication: None,
        payment: None,
    }
}

#[test]
fn a_publication_is_ready_only_in_the_publish_part_of_its_rank() {
    let at = |epoch, phase, rank| {
        publication().status(&clock(epoch, phase), &target(TargetStatus::Open, rank))
    };
    let (first, second) = (Amount(40), Amount(41));
    assert_eq!(at(7, Phase::Compete, Some(0)), ObligationStatus::Waiting { at_risk: first });
    assert_eq!(at(8, Phase::Reveal, Some(0)), ObligationStatus::Ready { at_risk: first });
    assert_eq!(at(8, Phase::Publish(0), Some(0)), ObligationStatus::Ready { at_risk: first });
    assert_eq!(at(8, Phase::Publish(1), Some(0)), ObligationStatus::Missed);
    assert_eq!(at(8, Phase::Reveal, Some(1)), ObligationStatus::Waiting { at_risk: second });
    assert_eq!(at(8, Phase::Publish(1), Some(1)), ObligationStatus::Ready { at_risk: second });
    assert_eq!(at(8, Phase::Compete, Some(1)), ObligationStatus::Missed);
    assert_eq!(at(9, Phase::Reveal, Some(0)), ObligationStatus::Missed);
}

#[test]
fn a_copy_of_a_commitment_by_somebody_else_changes_nothing_for_its_maker() {
    let mut copied = target(TargetStatus::Open, Some(1));
    copied.candidates[0].commitment = Text(publication().commitment());
    copied.candidates[0].submitter = Text(Address([9; 32]));
    let at = |phase| publication().status(&clock(8, phase), &copied);
    assert_eq!(at(Phase::Publish(0)), ObligationStatus::Waiting { at_risk: Amount(41) });
    assert_eq!(at(Phase::Publish(1)), ObligationStatus::Ready { at_risk: Amount(41) });
}

#[test]
fn a_pending_submission_is_kept_and_a_displaced_one_is_settled_in_the_next_epoch() {
    let open = target(TargetStatus::Open, None);
    let status = |epoch, phase| publication().status(&clock(epoch, phase), &open);
    assert_eq!(status(7, Phase::Compete), ObligationStatus::Waiting { at_risk: Amount::ZERO });
    assert_eq!(status(8, Phase::Reveal), ObligationStatus::Settled);
    for status in [TargetStatus::Published, TargetStatus::Settled, TargetStatus::Returned] {
        let status = publication().status(&clock(8, Phase::Publish(1)), &target(status, Some(0)));
        assert_eq!(status, ObligationStatus::Settled);
    }
}
