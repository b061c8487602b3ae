//! What a node is promised that comes when others have made blocks, and have forgotten the first.

use soma_sim::{Settings, cheats::Cheat, run};

/// More blocks than half of the nodes keep.
const LATE: u64 = 130;

#[test]
fn who_comes_late_loses_power_and_meets_a_forger_is_in_sync_all_the_same() {
    let (mut joins, mut refused) = (0, 0);
    for seed in 1_001..1_040 {
        let settings = Settings {
            seed,
            bug: false,
            late: Some(LATE),
        };
        let report = run(settings).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        joins += report.joins;
        refused += report.refused;
        assert!(
            report.refused == 0 || report.cheat == Cheat::Forges,
            "seed {seed}: an honest node was not believed"
        );
        if joins >= 2 && refused >= 1 {
            return;
        }
    }
    panic!("{joins} joins, {refused} forgers refused");
}
