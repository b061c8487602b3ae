//! What a node is promised if it joins after its peers have pruned the first blocks.

use soma_sim::{Report, Settings, adversary::Adversary, run};

/// More blocks than half of the nodes keep.
const JOIN_HEIGHT: u64 = 130;

/// Histories with this adversary in which a node joins late.
fn histories(adversary: Adversary) -> impl Iterator<Item = Report> {
    let settings =
        (1_001..).map(|seed| Settings { seed, plant: None, join_height: Some(JOIN_HEIGHT) });
    settings.filter(move |settings| settings.adversary() == adversary).take(10).map(|settings| {
        let seed = settings.seed;
        run(settings).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"))
    })
}

#[test]
fn a_late_node_syncs_in_spite_of_a_power_loss_and_a_peer_that_forges_state() {
    let (mut joins, mut refused) = (0, 0);
    for report in histories(Adversary::Forges) {
        joins += report.joins;
        refused += report.refused;
        if joins >= 2 && refused >= 1 {
            return;
        }
    }
    panic!("{joins} joins, {refused} forgers refused");
}

#[test]
fn a_peer_that_claims_more_blocks_than_there_are_stops_no_join() {
    let mut joins = 0;
    for report in histories(Adversary::Boasts) {
        assert_eq!(report.refused, 0, "what it does proves nothing against it");
        joins += report.joins;
        if joins >= 2 {
            return;
        }
    }
    panic!("{joins} joins in ten histories");
}
