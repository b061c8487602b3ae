//! What the economy promises, over sixty epochs under the default rules.

use std::sync::OnceLock;

use soma_economy::actors::Kind;
use soma_economy::report::Report;
use soma_economy::{Settings, run};

fn report() -> &'static Report {
    static REPORT: OnceLock<Report> = OnceLock::new();
    REPORT.get_or_init(|| run(&Settings::new(60, 1)).unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn copying_the_best_weights_of_the_last_epoch_earns_less_than_training() {
    let report = report();
    for copier in [Kind::Copier, Kind::NoisyCopier] {
        assert!(report.pay_to_stake(copier) < 0.8 * report.pay_to_stake(Kind::Trainer));
        assert!(report.net(copier) < report.net(Kind::Trainer));
    }
    assert!(report.net(Kind::Idle) < report.net(Kind::Copier));
}

#[test]
fn an_attacker_burns_at_least_what_it_denies() {
    let report = report();
    assert!(report.griefing.iter().all(|row| row.denied > 0));
    assert!(report.griefing_cost(Kind::Denier) > 0.99);
    for late in [Kind::Silencer, Kind::Latecomer] {
        assert!(report.griefing_cost(late) > 3.99);
    }
    assert!(report.net(Kind::Liar) < 0.0);
}

#[test]
fn only_validators_that_audit_are_paid_for_it() {
    let report = report();
    let audits = report.net(Kind::Auditor);
    assert!(audits > 0.0);
    assert!(report.net(Kind::HalfAuditor) < 0.6 * audits);
    for lazy in [Kind::Silent, Kind::Copycat] {
        assert!(report.net(lazy) < 0.05 * audits);
    }
    assert!(report.net(Kind::Guesser) < 0.0);
}

#[test]
fn models_are_routed_in_proportion_to_their_stake() {
    let report = report();
    let trainers = report.models_of(Kind::Trainer).unwrap();
    let ratio = trainers.slot_share / trainers.stake_share;
    assert!((0.9..1.1).contains(&ratio), "{ratio}");
    // Small stakes get a little more than their share, but the parts of one stake compete.
    let parts = report.models_of(Kind::Splitter).unwrap();
    assert!(parts.slot_share < 1.4 * parts.stake_share);
    assert!(report.pay_to_stake(Kind::Splitter) < report.pay_to_stake(Kind::Trainer));
}

#[test]
fn nearly_every_target_is_won_in_spite_of_all_attacks() {
    let report = report();
    // Nobody could fix data before the first epoch, so nobody wins its targets.
    let returned = report.returned - u64::from(Settings::new(60, 1).params.targets_per_epoch);
    assert!(report.settled > 40 * returned);
    let denied: u64 = report.griefing.iter().map(|row| row.denied).sum();
    assert!(returned < 3 * denied, "{returned} of {denied}");
}

#[test]
fn what_the_rules_exclude_earns_nothing_and_costs_fees() {
    let report = report();
    for attacker in [Kind::Flooder, Kind::Sniper, Kind::Inflater] {
        let row = report.row(attacker).unwrap();
        assert!(row.gain < 0.0, "{attacker:?} gains {}", row.gain);
    }
    assert!(report.net(Kind::EvenDelegator) > 0.0, "who stays is paid");
}

#[test]
fn garbage_and_searches_lose_and_sampled_text_earns_no_more_than_natural_text() {
    let report = report();
    let gain = |kind| report.row(kind).map_or(f64::MAX, |row| row.gain);
    assert!(gain(Kind::Garbler) < 0.0);
    assert!(report.net(Kind::Searcher) < 0.0);
    assert!(gain(Kind::Sampler) < 1.2 * gain(Kind::Submitter));
}

#[test]
fn the_same_seed_gives_the_same_economy_and_a_different_seed_a_different_one() {
    let simulate = |seed| {
        let report = run(&Settings::new(5, seed)).unwrap();
        format!("{report:?}")
    };
    assert_eq!(simulate(3), simulate(3));
    assert_ne!(simulate(3), simulate(4));
}
