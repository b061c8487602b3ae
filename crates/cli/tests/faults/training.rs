//! `soma train`, killed, stopped, on a full disk and with files that vanish: continued by its user,
//! it ends with the very weights of a run that nothing disturbed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread::sleep;

use serde_json::Value;
use soma_protocol::Hash;

use crate::command::{End, Running};
use crate::machine::{Broken, cut, damage};
use crate::rng::Rng;

/// Steps of a run.
const STEPS: &str = "240";
/// How often a run is disturbed.
const DISTURBED: u32 = 4;
/// The longest time until something happens to a run.
const LONGEST_MS: u64 = 500;
const WEIGHTS: &str = "weights";
const CHECKPOINT: &str = "weights.checkpoint";
const LOG: &str = "log";

fn data() -> String {
    Rng::new(0).text().repeat(3)
}

/// A folder in which runs leave their files.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let desk = Self(folder);
        fs::write(desk.at("data"), data()).unwrap();
        fs::write(desk.at("arch.json"), crate::tiny().to_json()).unwrap();
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts the run, or continues what is left of it.
    fn start(&self) -> Running {
        let fixed = ["train", "--data", "data", "--steps", STEPS, "--threads", "1"];
        let kept = ["-o", WEIGHTS, "--log", LOG];
        let begins: &[&str] = if self.at(CHECKPOINT).is_file() {
            &["--resume", CHECKPOINT]
        } else {
            &["--arch", "arch.json", "--batch", "1"]
        };
        Running::start(&self.at("home"), self.0.path(), &[&fixed[..], &kept, begins].concat())
    }

    fn weights(&self) -> Hash {
        Hash::of_bytes(&fs::read(self.at(WEIGHTS)).unwrap())
    }

    /// The loss of each step in the log.
    fn losses(&self) -> Vec<(u64, Value)> {
        let text = fs::read_to_string(self.at(LOG)).unwrap_or_default();
        // A killed run may have left half a line.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.map(|line| (line["step"].as_u64().unwrap(), line["loss"].clone())).collect()
    }

    /// Lets something happen to a run; what is broken stays so for a while.
    fn disturb(&self, run: &mut Running, rng: &Rng) {
        sleep(rng.time(LONGEST_MS));
        let broken = match rng.below(7) {
            0 => {
                run.kill();
                Broken::Lost
            }
            1 => {
                run.signal("-TERM");
                Broken::Lost
            }
            2 => {
                run.signal("-INT");
                Broken::Lost
            }
            3 | 4 => Broken::full(run.process()),
            5 => {
                let _absent = fs::remove_file(self.at(LOG));
                let _absent = fs::remove_file(self.at("data"));
                Broken::Lost
            }
            _ => {
                // What was asked for cannot be written under its name.
                let _there = fs::create_dir(self.at(WEIGHTS));
                Broken::Lost
            }
        };
        sleep(rng.time(LONGEST_MS));
        if rng.once_in(3) {
            run.kill();
        }
        broken.fix();
    }

    /// Damages the checkpoint, sometimes.
    fn spoil(&self, rng: &Rng) -> bool {
        match rng.below(8) {
            0 => cut(&self.at(CHECKPOINT)).is_ok(),
            1 => damage(&self.at(CHECKPOINT), rng).is_ok(),
            _ => false,
        }
    }

    /// What a user does before another attempt.
    fn fix(&self) {
        let _file = fs::remove_dir(self.at(WEIGHTS));
        fs::write(self.at("data"), data()).unwrap();
    }
}

#[test]
fn a_training_run_ends_with_the_same_weights_whatever_happens_to_it() {
    let undisturbed = Desk::new();
    let end = undisturbed.start().end();
    assert!(matches!(end, End::Success), "{end:?}");
    let (weights, losses) = (undisturbed.weights(), undisturbed.losses());
    let losses: BTreeMap<u64, Value> = losses.into_iter().collect();
    for seed in crate::seeds() {
        eprintln!("seed {seed}");
        let (rng, desk) = (Rng::new(seed), Desk::new());
        let mut spoiled = false;
        for attempt in 0..DISTURBED + 3 {
            let mut run = desk.start();
            let disturbed = attempt < DISTURBED;
            if disturbed {
                desk.disturb(&mut run, &rng);
            }
            let end = run.end();
            if matches!(end, End::Success) {
                break;
            }
            let said = run.said();
            assert!(disturbed || spoiled, "seed {seed}: {end:?}; told:\n{said}");
            if spoiled && matches!(end, End::Failure(_)) {
                // A damaged checkpoint is no use to anyone.
                fs::remove_file(desk.at(CHECKPOINT)).unwrap();
                spoiled = false;
            }
            desk.fix();
            spoiled |= disturbed && desk.spoil(&rng);
        }
        assert_eq!(desk.weights(), weights, "seed {seed}");
        for (step, loss) in desk.losses() {
            assert_eq!(losses[&step], loss, "seed {seed}, step {step}");
        }
    }
}
