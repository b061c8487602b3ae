//! The score cache: a folder of small files, each named by everything that a score depends on.
//!
//! A hit must equal what computing would give: a damaged or misnamed file is a miss. Validators'
//! audits must never read it. Several processes share the folder (`soma submit --watch` beside
//! `soma score --cache`): a file appears whole, and one that another process deletes is a miss.
//! This is why the cache is not a redb database: redb locks its file for one process.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use soma_architecture::NUMERICS_VERSION;
use soma_model::{Architecture, Directions, Engine, Report, Score, Weights};

use crate::error::Result;

/// Size limit of a folder; each first byte of a name has its own folder, so 256 MiB in all.
const FOLDER_BYTES_MAX: u64 = 1 << 20;

/// Where scores are cached, if they are.
#[derive(Clone, Debug)]
pub struct ScoreCache {
    folder: Option<PathBuf>,
}

/// A model, and the regularizer's directions that it is scored under.
#[derive(Clone, Copy, Debug)]
pub struct Scorer<'a> {
    /// The engine that computes scores.
    pub engine: &'a Engine,
    /// The model.
    pub weights: &'a Weights,
    /// Seed of the directions.
    pub seed: [u8; 32],
    /// The directions of `seed`.
    pub directions: &'a Directions,
}

/// A score, or why there is none.
#[derive(Debug)]
pub struct Scored {
    /// The score with its figures.
    pub report: std::result::Result<Report, soma_model::Error>,
    /// Whether it came from the cache.
    pub cached: bool,
}

/// A report on disk.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// The file's name, so that a copy under another name is a miss.
    key: String,
    loss_q32: i64,
    counting_q32: i64,
    gain_q32: i64,
    /// Little-endian, in hex.
    embedding: String,
    trace: String,
    loss: f64,
    cross_entropy: f64,
    sigreg: f64,
    counting: f64,
    gain: f64,
    bits_per_byte: f64,
    bytes: usize,
    positions: usize,
}

impl ScoreCache {
    /// The cache in `folder`, which is created when something is stored.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// No cache: everything is computed.
    pub fn off() -> Self {
        Self { folder: None }
    }

    /// Scores documents in their order: cached scores are read, the others computed together and
    /// stored. `done` is called with the bytes of each.
    ///
    /// # Errors
    /// [`CompeteError::Model`](crate::CompeteError::Model).
    pub fn score_all(
        &self,
        scorer: Scorer<'_>,
        documents: &[&[u8]],
        mut done: impl FnMut(usize),
    ) -> Result<Vec<Scored>> {
        let scope = self.folder.as_ref().map(|_| scope(scorer));
        let paths = documents.iter().map(|document| {
            let (folder, scope) = (self.folder.as_ref()?, scope.as_ref()?);
            Some(path(folder, &key(scope, document)))
        });
        let paths: Vec<Option<PathBuf>> = paths.collect();
        let hits: Vec<Option<Report>> = paths.iter().map(|path| get(path.as_ref()?)).collect();
        let mut missing = Vec::new();
        for (document, hit) in documents.iter().zip(&hits) {
            match hit {
                Some(_) => done(document.len()),
                None => missing.push(*document),
            }
        }
        let Scorer { engine, weights, directions, .. } = scorer;
        let computed = soma_model::score_all(engine, weights, &missing, directions, done)?;
        let mut computed = computed.into_iter();
        let mut scored = Vec::new();
        for (hit, path) in hits.into_iter().zip(paths) {
            let cached = hit.is_some();
            let report = match hit {
                Some(report) => Ok(report),
                None => computed.next().unwrap_or(Err(soma_model::Error::EmptyData)),
            };
            if let (Ok(report), Some(path), false) = (&report, path, cached) {
                // A failure to store (a full disk, say) only costs time later.
                let _ = put(&path, report);
            }
            scored.push(Scored { report, cached });
        }
        Ok(scored)
    }
}

/// What a score depends on besides the data.
fn scope(scorer: Scorer<'_>) -> blake3::Hasher {
    let architecture: &Architecture = scorer.weights.architecture();
    let mut hasher = blake3::Hasher::new_derive_key("soma 2026 score cache");
    hasher
        .update(&NUMERICS_VERSION.to_le_bytes())
        .update(&scorer.weights.hash())
        .update(&scorer.seed)
        .update(blake3::hash(architecture.to_json().as_bytes()).as_bytes());
    hasher
}

fn key(scope: &blake3::Hasher, document: &[u8]) -> String {
    let mut hasher = scope.clone();
    hasher.update(blake3::hash(document).as_bytes());
    hasher.finalize().to_string()
}

fn path(folder: &Path, key: &str) -> PathBuf {
    folder.join(&key[..2]).join(key)
}

/// The report in this file, if it exists and is intact; the file then counts as just used.
fn get(path: &Path) -> Option<Report> {
    let text = fs::read_to_string(path).ok()?;
    let (hash, json) = text.split_once('\n')?;
    if blake3::hash(json.as_bytes()).to_string() != hash {
        return None;
    }
    let entry: Entry = serde_json::from_str(json).ok()?;
    if path.file_name()? != entry.key.as_str() {
        return None;
    }
    if let Ok(file) = File::options().append(true).open(path) {
        // If this fails, the file is only deleted earlier.
        let _ = file.set_modified(SystemTime::now());
    }
    let embedding = hex::decode(entry.embedding).ok()?;
    let embedding = embedding.as_chunks::<2>().0.iter();
    Some(Report {
        score: Score {
            loss_q32: entry.loss_q32,
            counting_q32: entry.counting_q32,
            gain_q32: entry.gain_q32,
            embedding: embedding.copied().map(i16::from_le_bytes).collect(),
            trace: hex::decode(entry.trace).ok()?.try_into().ok()?,
        },
        loss: entry.loss,
        cross_entropy: entry.cross_entropy,
        sigreg: entry.sigreg,
        counting: entry.counting,
        gain: entry.gain,
        bits_per_byte: entry.bits_per_byte,
        bytes: entry.bytes,
        positions: entry.positions,
    })
}

fn put(path: &Path, report: &Report) -> io::Result<()> {
    let (Some(folder), Some(key)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let embedding = report.score.embedding.iter();
    let entry = Entry {
        key: key.to_string_lossy().into_owned(),
        loss_q32: report.score.loss_q32,
        counting_q32: report.score.counting_q32,
        gain_q32: report.score.gain_q32,
        embedding: hex::encode(embedding.flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()),
        trace: hex::encode(report.score.trace),
        loss: report.loss,
        cross_entropy: report.cross_entropy,
        sigreg: report.sigreg,
        counting: report.counting,
        gain: report.gain,
        bits_per_byte: report.bits_per_byte,
        bytes: report.bytes,
        positions: report.positions,
    };
    let json = serde_json::to_string(&entry)?;
    let text = format!("{}\n{json}", blake3::hash(json.as_bytes()));
    fs::create_dir_all(folder)?;
    make_room(folder, text.len() as u64)?;
    soma_os::file::write(path, text.as_bytes())
}

/// Deletes the least recently used files until `bytes` more fit.
fn make_room(folder: &Path, bytes: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        // Another process may have deleted it by now.
        if let Ok(metadata) = file.metadata() {
            files.push((metadata.modified()?, file.path(), metadata.len()));
        }
    }
    files.sort();
    let mut used = bytes + files.iter().map(|(.., bytes)| bytes).sum::<u64>();
    for (_, path, bytes) in files {
        if used <= FOLDER_BYTES_MAX {
            break;
        }
        soma_os::file::remove(&path)?;
        used -= bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(loss_q32: i64) -> Report {
        Report {
            score: Score {
                loss_q32,
                counting_q32: i64::MAX,
                gain_q32: -5,
                embedding: vec![-3, 32767, 0],
                trace: [9; 32],
            },
            loss: 0.1 + 0.2,
            cross_entropy: 1.0 / 3.0,
            sigreg: 5e-324,
            counting: 2.0 / 3.0,
            gain: -0.1,
            bits_per_byte: 1e300,
            bytes: 17,
            positions: 18,
        }
    }

    #[test]
    fn a_stored_score_is_read_bit_for_bit_and_a_damaged_or_misplaced_file_is_a_miss() {
        let home = tempfile::tempdir().unwrap();
        let place = path(home.path(), &"ab".repeat(32));
        assert_eq!(get(&place), None);
        put(&place, &report(i64::MIN)).unwrap();
        assert_eq!(get(&place), Some(report(i64::MIN)));
        put(&place, &report(7)).unwrap();
        assert_eq!(get(&place), Some(report(7)));

        let elsewhere = path(home.path(), &"ac".repeat(32));
        fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
        fs::copy(&place, &elsewhere).unwrap();
        assert_eq!(get(&elsewhere), None);

        let whole = fs::read(&place).unwrap();
        for at in [0, 40, 70, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&place, &damaged).unwrap();
            assert_eq!(get(&place), None, "byte {at}");
            fs::write(&place, &whole[..at]).unwrap();
            assert_eq!(get(&place), None, "cut at {at}");
        }
    }

    #[test]
    fn a_folder_keeps_the_most_recently_used_files_within_its_limit() {
        let home = tempfile::tempdir().unwrap();
        let name = |index: usize| path(home.path(), &format!("ab{index:062}"));
        let mut large = report(1);
        large.score.embedding = vec![1; 20_000];
        for index in 0..20 {
            put(&name(index), &large).unwrap();
            // On some file systems, modification times are no finer than this.
            std::thread::sleep(std::time::Duration::from_millis(12));
            assert!(get(&name(0)).is_some(), "{index}");
        }
        let folder = name(0).parent().unwrap().to_owned();
        let bytes = fs::read_dir(&folder).unwrap();
        let bytes: u64 = bytes.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= FOLDER_BYTES_MAX && bytes > FOLDER_BYTES_MAX / 2, "{bytes}");
        assert!(get(&name(1)).is_none());
        assert!(get(&name(19)).is_some());
    }

    #[test]
    fn writers_and_readers_of_one_entry_always_see_a_whole_file() {
        let home = tempfile::tempdir().unwrap();
        let place = path(home.path(), &"cd".repeat(32));
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let place = &place;
                scope.spawn(move || {
                    for _ in 0..50 {
                        put(place, &report(writer)).unwrap();
                        let read = get(place).expect("an entry is replaced, never absent");
                        assert!((0..3).contains(&read.score.loss_q32));
                    }
                });
            }
        });
    }
}
