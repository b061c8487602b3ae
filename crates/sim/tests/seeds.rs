//! What every history promises, on a few fixed seeds and one that nobody has chosen.

use std::time::{SystemTime, UNIX_EPOCH};

use soma_sim::{Settings, cheats::Cheat, dice::Dice, run};

fn play(seed: u64) -> soma_sim::Report {
    let settings = Settings {
        seed,
        bug: false,
        late: None,
    };
    run(settings).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"))
}

#[test]
fn with_all_faults_on_there_is_one_history_nothing_is_lost_and_it_goes_on() {
    for seed in 0..6 {
        let report = play(seed);
        assert!(report.blocks > 0);
        assert!(!report.expelled || report.cheat == Cheat::Equivocates);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    play(u64::from(now.subsec_nanos()));
}

#[test]
fn who_signs_two_histories_is_found_out_and_loses_its_seat() {
    let equivocates = |seed: &u64| {
        let cheat = Cheat::drawn(&mut Dice::new(*seed, "history"));
        cheat == Cheat::Equivocates
    };
    let caught = (0..)
        .filter(equivocates)
        .take(10)
        .find(|seed| play(*seed).expelled);
    assert!(caught.is_some(), "in none of ten histories");
}

#[test]
fn a_planted_slip_is_found_within_a_hundred_seeds_and_found_again() {
    let found = (0..100).find_map(|seed| {
        let settings = Settings {
            seed,
            bug: true,
            late: None,
        };
        Some((settings, run(settings).err()?))
    });
    let (settings, violation) = found.unwrap();
    assert_eq!(run(settings), Err(violation));
}

#[test]
fn the_same_seed_gives_the_same_history() {
    assert_eq!(play(2), play(2));
}
