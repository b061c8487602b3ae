//! What a node is promised that comes when others have made blocks, and have forgotten the first.

use soma_sim::{Settings, cheats::Cheat, run};

fn play(seed: u64, late: u64) -> soma_sim::Report {
    let settings = Settings {
        seed,
        bug: false,
        late: Some(late),
    };
    run(settings).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"))
}

/// More blocks than half of the nodes keep.
const LATE: u64 = 150;

#[test]
fn who_comes_late_loses_power_and_meets_a_forger_is_in_sync_all_the_same() {
    let (mut joins, mut among_forgers) = (0, 0);
    for seed in 1_001..1_040 {
        let report = play(seed, LATE);
        joins += report.joins;
        if report.cheat == Cheat::Forges {
            among_forgers += report.joins;
        }
        if joins >= 2 && among_forgers >= 1 {
            return;
        }
    }
    panic!("{joins} joins, {among_forgers} of them among forgers");
}
