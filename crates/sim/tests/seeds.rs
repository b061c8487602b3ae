//! What every history promises, on a few fixed seeds and a random one.

use std::time::{SystemTime, UNIX_EPOCH};

use soma_sim::{Plant, Report, Settings, adversary::Adversary, run};

fn settings(seed: u64) -> Settings {
    Settings { seed, ..Settings::default() }
}

fn simulate(seed: u64) -> Report {
    run(settings(seed)).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"))
}

#[test]
fn with_all_faults_there_is_one_history_nothing_is_lost_and_the_network_recovers() {
    for seed in 0..6 {
        let report = simulate(seed);
        assert!(report.blocks > 0);
        assert!(!report.expelled || report.adversary == Adversary::Equivocates, "seed {seed}");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    simulate(u64::from(now.subsec_nanos()));
}

#[test]
fn a_validator_that_equivocates_is_caught_and_loses_its_seat() {
    let caught = (0..)
        .filter(|seed| settings(*seed).adversary() == Adversary::Equivocates)
        .take(10)
        .find(|seed| simulate(*seed).expelled);
    assert!(caught.is_some(), "in none of ten histories");
}

#[test]
fn blocks_with_what_cannot_pay_are_not_finalized_and_stop_nothing() {
    let stuffs = |seed: &u64| settings(*seed).adversary() == Adversary::Stuffs;
    for seed in (0..).filter(stuffs).take(2) {
        assert!(simulate(seed).blocks > 0);
    }
}

#[test]
fn a_planted_bug_is_found_within_a_hundred_seeds_and_again_from_its_seed() {
    let found = (0..100).find_map(|seed| {
        let settings = Settings { plant: Some(Plant::Counterfeit), ..settings(seed) };
        Some((settings, run(settings).err()?))
    });
    let (settings, violation) = found.unwrap();
    assert_eq!(run(settings), Err(violation));
}

#[test]
fn the_same_seed_gives_the_same_history() {
    assert_eq!(simulate(2), simulate(2));
}

#[test]
fn a_validator_that_runs_twice_by_mistake_never_contradicts_itself() {
    let twice = |seed: &u64| settings(*seed).adversary() == Adversary::RunsTwice;
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("SOMA_TWICE_FIRST").unwrap_or(0);
    let seeds = number("SOMA_TWICE_SEEDS").unwrap_or(6);
    for seed in (first..).filter(twice).take(usize::try_from(seeds).unwrap()) {
        assert!(!simulate(seed).expelled);
    }
}
