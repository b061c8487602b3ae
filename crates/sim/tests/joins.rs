//! What a node is promised if it joins after its peers have pruned the first blocks.

use soma_sim::{Settings, adversary::Adversary, run};

/// More blocks than half of the nodes keep.
const JOIN_HEIGHT: u64 = 130;

#[test]
fn a_late_node_syncs_in_spite_of_a_power_loss_and_a_peer_that_forges_state() {
    let (mut joins, mut refused) = (0, 0);
    for seed in 1_001..1_040 {
        let settings = Settings { seed, bug: false, join_height: Some(JOIN_HEIGHT) };
        let report = run(settings).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        joins += report.joins;
        refused += report.refused;
        assert!(
            report.refused == 0 || report.adversary == Adversary::Forges,
            "seed {seed}: the state of an honest node was refused"
        );
        if joins >= 2 && refused >= 1 {
            return;
        }
    }
    panic!("{joins} joins, {refused} forgers refused");
}

#[test]
fn a_peer_that_claims_more_blocks_than_there_are_stops_no_join() {
    let settings =
        (1_001..).map(|seed| Settings { seed, bug: false, join_height: Some(JOIN_HEIGHT) });
    let boasting = settings.filter(|settings| settings.adversary() == Adversary::Boasts);
    let mut joins = 0;
    for settings in boasting.take(10) {
        let seed = settings.seed;
        let report = run(settings).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert_eq!(report.refused, 0, "seed {seed}: what it does proves nothing against it");
        joins += report.joins;
        if joins >= 2 {
            return;
        }
    }
    panic!("{joins} joins in ten histories");
}
