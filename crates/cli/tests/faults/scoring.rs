//! `soma score` on data, weights and a cache that change, vanish and fail while they are used:
//! every score that it prints or keeps is the one of these weights and this data.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread::sleep;

use serde_json::Value;
use soma_model::{Directions, Engine, KernelChoice, Weights};

use crate::command::{End, Running};
use crate::machine::{Broken, cut, damage, files};
use crate::rng::Rng;

const FILES: usize = 24;
const MODELS: [&str; 2] = ["a", "b"];
/// The longest time until something happens to a run.
const LONGEST_MS: u64 = 250;

/// A folder with weights and data, and the right scores.
struct Desk {
    folder: tempfile::TempDir,
    engine: Engine,
    weights: [Weights; 2],
    /// What each data file may hold: its text, another one, or a half of either.
    texts: Vec<[String; 2]>,
    /// Loss and trace by weights, file and length.
    right: BTreeMap<(String, String, usize), Vec<(String, String)>>,
}

impl Desk {
    fn new(rng: &Rng) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let weights = [1, 2].map(|seed| Weights::init(&crate::tiny(), [seed; 32]).unwrap());
        let texts = (0..FILES).map(|_| [rng.text(), rng.text()]).collect();
        let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
        let desk = Self { folder, engine, weights, texts, right: BTreeMap::new() };
        fs::create_dir(desk.at("data")).unwrap();
        desk.restore();
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self, number: usize) -> PathBuf {
        self.at("data").join(format!("{number:02}"))
    }

    /// Everything is as it was.
    fn restore(&self) {
        for (name, weights) in MODELS.iter().zip(&self.weights) {
            weights.save(&self.at(name)).unwrap();
        }
        for (number, texts) in self.texts.iter().enumerate() {
            fs::write(self.data(number), &texts[0]).unwrap();
        }
    }

    fn start(&self) -> Running {
        let arguments = ["score", "data", "-m", "a", "-m", "b", "--cache", "--threads"];
        let home = self.at("home");
        Running::start(&home, self.folder.path(), &[&arguments[..], &["1"]].concat())
    }

    /// Breaks something.
    fn disturb(&self, run: &mut Running, rng: &Rng) -> Broken {
        sleep(rng.time(LONGEST_MS));
        let [model, other] = if rng.once_in(2) { MODELS } else { ["b", "a"] };
        let (weights, number) = (self.at(model), rng.place(FILES));
        let (file, cache) = (self.data(number), files(&self.at("home/cache/scores")));
        // Whatever cannot be done was done before.
        match rng.below(12) {
            0 => drop(fs::rename(self.at(other), weights)),
            1 => drop(fs::copy(self.at(other), weights)),
            2 => drop(cut(&weights)),
            3 => drop(damage(&weights, rng)),
            4 => drop(fs::write(file, &self.texts[number][1])),
            5 => drop(cut(&file)),
            6 => drop(fs::remove_file(file)),
            7 => cache.iter().for_each(|entry| drop(cut(entry))),
            8 => cache.iter().for_each(|entry| drop(damage(entry, rng))),
            9 => return Broken::moved(&self.at("home/cache/scores")),
            10 => return Broken::full(run.process()),
            _ => run.kill(),
        }
        Broken::Lost
    }

    /// Checks all that was printed; returns how many scores that is.
    fn check(&mut self, printed: &str) -> usize {
        let mut count = 0;
        let lines = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for line in lines.filter(|line| line["schema"] == "score/1") {
            let file = line["file"].as_str().unwrap();
            for entry in line["scores"].as_array().unwrap() {
                if entry["loss_q32"].is_null() {
                    assert!(entry["error"].is_string(), "{entry}");
                    continue;
                }
                let text = |name: &str| entry[name].as_str().unwrap().to_owned();
                let bytes = usize::try_from(entry["bytes"].as_u64().unwrap()).unwrap();
                let weights_hash = text("weights_hash");
                let mut known = self.weights.iter().map(|weights| hex::encode(weights.hash()));
                if !known.any(|known| known == weights_hash) {
                    // Bytes that lay there for a moment have scores of their own.
                    continue;
                }
                let right = self.right(&weights_hash, file, bytes);
                assert!(right.contains(&(text("loss_q32"), text("trace"))), "{file}: {entry}");
                count += 1;
            }
        }
        count
    }

    /// The scores that a file of this length can have.
    fn right(&mut self, weights_hash: &str, file: &str, bytes: usize) -> &[(String, String)] {
        let number: usize = file.rsplit('/').next().unwrap().parse().unwrap();
        let mut weights = self.weights.iter();
        let weights = weights.find(|weights| hex::encode(weights.hash()) == weights_hash);
        let weights = weights.unwrap();
        let (engine, texts) = (&self.engine, &self.texts[number]);
        let key = (weights_hash.to_owned(), file.to_owned(), bytes);
        self.right.entry(key).or_insert_with(|| {
            let texts = texts.iter().filter_map(|text| text.as_bytes().get(..bytes));
            let directions = Directions::new(weights.architecture(), [0; 32]);
            let scores = texts.map(|text| soma_model::score(engine, weights, text, &directions));
            let of =
                |score: soma_model::Score| (score.loss_q32.to_string(), hex::encode(score.trace));
            scores.map(|report| of(report.unwrap().score)).collect()
        })
    }
}

/// How many files are told of as left out because they were empty.
fn empty(said: &str) -> usize {
    let before = said.split(" empty").next().filter(|before| before.len() < said.len());
    let number = before.and_then(|before| before.rsplit(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[test]
fn every_score_that_is_printed_or_kept_is_right_whatever_changes_meanwhile() {
    for seed in crate::seeds() {
        eprintln!("seed {seed}");
        let rng = Rng::new(seed);
        let mut desk = Desk::new(&rng);
        for attempt in 0..3 {
            let mut run = desk.start();
            let broken = [desk.disturb(&mut run, &rng), desk.disturb(&mut run, &rng)];
            let end = run.end();
            desk.check(&run.printed());
            // A file that vanished before it was found is none; all others are told of, also those
            // that were found empty as they were written.
            if matches!(end, End::Success) {
                let lines = run.printed().lines().filter(|line| line.contains("score/1\"")).count();
                let there = (0..FILES).filter(|number| desk.data(*number).exists()).count();
                let told = lines + empty(&run.said());
                assert!(told >= there, "seed {seed}, run {attempt}; told:\n{}", run.said());
            }
            broken.into_iter().rev().for_each(Broken::fix);
            if rng.once_in(2) {
                desk.restore();
            }
        }
        desk.restore();
        let mut run = desk.start();
        let end = run.end();
        assert!(matches!(end, End::Success), "seed {seed}: {end:?}; told:\n{}", run.said());
        assert_eq!(desk.check(&run.printed()), 2 * FILES, "seed {seed}; told:\n{}", run.said());
    }
}
