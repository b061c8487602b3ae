//! A network of real processes on hosts of their own, under faults that are drawn from a seed: what
//! the simulator shows of the engine, shown of the program, on real sockets, clocks and disks.

mod checker;
mod fault;
mod inject;
mod journal;
mod load;
mod network;
mod rng;
mod run;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::fault::Faults;
use self::journal::Journal;
use self::load::Load;
use self::network::{NODES, Network};
use self::run::Run;
use crate::hosts::host::Shaper;
use crate::hosts::node::Node;
use crate::hosts::sandbox;

/// Keys that pay; the others are for models and submissions.
const PAYERS: usize = 2;

/// Lines of a node's log that a violation shows.
const LOG_LINES: usize = 30;

/// What a run was asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    minutes: u64,
    seed: Option<u64>,
    soma: PathBuf,
    json: bool,
    log: Option<PathBuf>,
    /// Kinds of faults.
    faults: Vec<&'static str>,
}

impl Arguments {
    pub(crate) fn parse(
        root: &Path,
        mut words: impl Iterator<Item = String>,
    ) -> Result<Self, String> {
        let soma = root.join("target/release/soma");
        let faults = fault::KINDS.to_vec();
        let mut arguments = Self { minutes: 0, seed: None, soma, json: false, log: None, faults };
        while let Some(flag) = words.next() {
            let mut value = || words.next().ok_or(format!("{flag} needs a value"));
            let number = |text: String| {
                text.parse().map_err(|_| format!("{flag} needs a number, not `{text}`"))
            };
            match flag.as_str() {
                "--minutes" => arguments.minutes = number(value()?)?,
                "--seed" => arguments.seed = Some(number(value()?)?),
                "--soma" => arguments.soma = PathBuf::from(value()?),
                "--log" => arguments.log = Some(PathBuf::from(value()?)),
                "--faults" => arguments.faults = kinds(&value()?)?,
                "--json" => arguments.json = true,
                _ => return Err(format!("unknown argument `{flag}`")),
            }
        }
        if arguments.minutes == 0 {
            return Err("--minutes N is needed: how long faults come".to_owned());
        }
        Ok(arguments)
    }
}

/// The kinds that a list names.
fn kinds(list: &str) -> Result<Vec<&'static str>, String> {
    let kind = |name: &str| {
        let kind = fault::KINDS.into_iter().find(|kind| *kind == name);
        kind.ok_or_else(|| format!("there is no fault `{name}`, only {}", fault::KINDS.join(", ")))
    };
    list.split(',').map(kind).collect()
}

/// Runs it; the exit status is 1 after a violation.
pub(crate) fn chaos(root: &Path, arguments: &Arguments) -> ExitCode {
    let tools = [sandbox::IP, sandbox::TC, sandbox::CC];
    sandbox::run(&tools, || inside(root, arguments))
}

fn inside(root: &Path, arguments: &Arguments) -> Result<bool, String> {
    let seed = arguments.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    });
    let soma = sandbox::program(&arguments.soma)?;
    let logs = root.join(format!("target/chaos/{seed}"));
    let made = std::fs::remove_dir_all(&logs).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    made.and_then(|()| std::fs::create_dir_all(&logs))
        .map_err(|error| format!("{}: {error}", logs.display()))?;
    let shaper = Shaper::find()?;
    let mut journal = Journal::new(arguments.json, arguments.log.as_deref())?;
    let links = match shaper {
        Shaper::Netem => "slow links delay and lose",
        Shaper::Tbf => "slow links have little bandwidth: the kernel has no sch_netem",
    };
    let what = format!("seed {seed}, {} minutes; {links}", arguments.minutes);
    journal.event("begins", &what);
    let mut network = Network::create(&soma, &logs)?;
    network.start()?;
    journal.event("network", "all nodes finalize blocks");
    let urls: Vec<String> = network.nodes.iter().map(Node::url).collect();
    let load = Load::start(&soma, &network.keys[..PAYERS], &network.addresses[PAYERS], &urls);
    let faults = Faults::new(seed, NODES, arguments.faults.clone());
    let mut run = Run::new(network, journal, load, shaper, faults);
    match run.all(Duration::from_mins(arguments.minutes)) {
        Ok(()) => Ok(true),
        Err(violation) => {
            run.journal.event("violation", &format!("{violation}, with seed {seed}"));
            let mut nodes = run.network.nodes.iter();
            if let Some(node) = nodes.find(|node| node.host.name == violation.node) {
                eprintln!("{}", node.last_lines(LOG_LINES));
            }
            eprintln!("error: {violation}");
            eprintln!("hint: the same faults again: --seed {seed}; all logs: {}", logs.display());
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Arguments;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(Path::new("/root"), line.split(' ').map(str::to_owned))
    }

    #[test]
    fn arguments_are_flags_with_values_and_minutes_are_needed() {
        let arguments = parse("--minutes 3 --seed 7 --json --log a.jsonl").unwrap();
        assert_eq!((arguments.minutes, arguments.seed, arguments.json), (3, Some(7), true));
        assert_eq!(arguments.soma, Path::new("/root/target/release/soma"));
        assert_eq!(arguments.faults, super::fault::KINDS);
        assert_eq!(parse("--minutes 1 --faults cut,clock").unwrap().faults, ["cut", "clock"]);
        for wrong in [
            "--seed 7",
            "--minutes 3 --faults all",
            "--minutes",
            "--minutes x",
            "--minutes 3 --what",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
