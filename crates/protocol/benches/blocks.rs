//! How long the longest block takes that works on the ends of phases: in a state of the worst kind,
//! with sizes as arguments, on one core.
//!
//! `cargo bench -p soma-protocol --bench blocks -- --models 100000 --stakers 1000000`

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "it measures and prints; a failure ends it"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use soma_protocol::record::Task;
use soma_protocol::{MemoryState, Phase, execute, read};

#[path = "../tests/rules/hostile_state.rs"]
mod hostile_state;

use hostile_state::Size;

/// The sizes that the rules promise to bear.
const FULL: Size = Size {
    models: 100_000,
    stakers: 1_000_000,
    accounts: 1_000_000,
    validators: 1_024,
    targets: 1_024,
    candidates: 64,
    data_bytes: 65_536,
    dim: 2_048,
};

/// Time of the blocks that begin with the same work.
#[derive(Default)]
struct Line {
    blocks: u32,
    changes: usize,
    total: Duration,
    worst: Duration,
}

fn main() {
    let size = size(&std::env::args().skip(1).collect::<Vec<_>>());
    println!("{size:?}");
    let begun = Instant::now();
    let mut state = hostile_state::hostile_state(&size);
    println!("{} records made in {:.1} s", state.0.len(), begun.elapsed().as_secs_f64());
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    let start = Instant::now();
    hostile_state::run(&mut state, |before, block| {
        let begun = spent(start);
        let outcome = execute(before, block, &[]).unwrap();
        let took = spent(start).saturating_sub(begun);
        let line = lines.entry(work_of(before)).or_default();
        line.blocks += 1;
        line.changes = line.changes.max(outcome.changes.0.len());
        line.total += took;
        line.worst = line.worst.max(took);
        outcome
    });
    println!(
        "{:24} {:>7} {:>10} {:>10} {:>10}",
        "first work", "blocks", "records", "mean", "worst"
    );
    for (work, line) in lines {
        let (mean, worst) = (line.total / line.blocks, line.worst);
        println!("{work:24} {:>7} {:>10} {mean:>10.1?} {worst:>10.1?}", line.blocks, line.changes);
    }
}

/// The time that this thread has spent on a processor, where the system says it: other programs on
/// the machine then count for little. Elsewhere, the time since `start`.
fn spent(start: Instant) -> Duration {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = schedule.and_then(|line| line.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// What the next block works on first.
fn work_of(state: &MemoryState) -> String {
    let clock = read::clock(state);
    match read::tasks(state).0.first() {
        Some(Task::Settle(_)) => "settle targets".to_owned(),
        Some(Task::Models(_)) => "visit models".to_owned(),
        Some(Task::Stakes(_)) => "change stakes".to_owned(),
        Some(Task::Route(_)) => "route".to_owned(),
        None => match clock.phase {
            Phase::Publish(_) => "in publish".to_owned(),
            phase => format!("in {phase}"),
        },
    }
}

/// The full size, with what the arguments say instead: `--models 1000`.
fn size(arguments: &[String]) -> Size {
    let mut size = FULL;
    let named = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u32>().ok()
    };
    for (name, value) in [
        ("--models", &mut size.models),
        ("--stakers", &mut size.stakers),
        ("--accounts", &mut size.accounts),
        ("--validators", &mut size.validators),
        ("--targets", &mut size.targets),
        ("--candidates", &mut size.candidates),
        ("--dim", &mut size.dim),
    ] {
        *value = named(name).unwrap_or(*value);
    }
    size
}
