//! Scores that were computed before: a folder of small files, each named by all that a score is a function of.
//!
//! A hit must be what computing would give: a file that is damaged or stands under a wrong name is a miss. Validators'
//! audits never look here. Several processes may use the folder at once: a file appears whole, and one that another
//! process removes is a miss.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use soma_model::{Architecture, Directions, Engine, NUMERICS_VERSION, Report, Score, Weights};

use crate::error::Result;

/// Files are spread over folders, one for each first byte of a name; what a folder may hold, so 256 MiB in all.
const FOLDER_BYTES_MAX: u64 = 1 << 20;

/// Where scores are kept, if they are.
#[derive(Clone, Debug)]
pub(crate) struct ScoreCache {
    folder: Option<PathBuf>,
}

/// A model and the seed of the directions that it is scored under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scorer<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) weights: &'a Weights,
    pub(crate) seed: [u8; 32],
    /// Those of the seed.
    pub(crate) directions: &'a Directions,
}

/// A score, or why there is none, and whether it was known before.
#[derive(Debug)]
pub(crate) struct Scored {
    pub(crate) report: std::result::Result<Report, soma_model::Error>,
    pub(crate) cached: bool,
}

/// A report on disk.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// The name of the file, so that a copy under another name is a miss.
    key: String,
    loss_q32: i64,
    /// Little-endian, in hex.
    embedding: String,
    trace: String,
    loss: f64,
    cross_entropy: f64,
    sigreg: f64,
    bits_per_byte: f64,
    bytes: usize,
    positions: usize,
}

impl ScoreCache {
    /// The cache in `folder`, which is made when something is kept.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder: Some(folder),
        }
    }

    /// No cache: everything is computed.
    pub(crate) fn off() -> Self {
        Self { folder: None }
    }

    /// Scores documents in their order: those that are known are read, the others computed together and kept.
    ///
    /// `done` hears of the bytes of both.
    pub(crate) fn score_all(
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
        let mut known: Vec<Option<Report>> = paths.iter().map(|path| get(path.as_ref()?)).collect();
        let mut missing = Vec::new();
        for (document, known) in documents.iter().zip(&known) {
            match known {
                Some(_) => done(document.len()),
                None => missing.push(*document),
            }
        }
        let Scorer {
            engine,
            weights,
            directions,
            ..
        } = scorer;
        let computed = soma_model::score_all(engine, weights, &missing, directions, done)?;
        let mut computed = computed.into_iter();
        let mut scored = Vec::new();
        for (known, path) in known.iter_mut().zip(paths) {
            let cached = known.is_some();
            let report = match known.take() {
                Some(report) => Ok(report),
                None => computed.next().unwrap_or(Err(soma_model::Error::EmptyData)),
            };
            if let (Ok(report), Some(path), false) = (&report, path, cached) {
                // A cache that cannot be written (a full disk, say) costs time later and nothing else.
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

/// The report of this file, if it is there and whole; the file counts as just used.
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
        // Without it, the file is merely forgotten earlier.
        let _ = file.set_modified(SystemTime::now());
    }
    let embedding = hex::decode(entry.embedding).ok()?;
    let embedding = embedding.as_chunks::<2>().0.iter();
    Some(Report {
        score: Score {
            loss_q32: entry.loss_q32,
            embedding: embedding.copied().map(i16::from_le_bytes).collect(),
            trace: hex::decode(entry.trace).ok()?.try_into().ok()?,
        },
        loss: entry.loss,
        cross_entropy: entry.cross_entropy,
        sigreg: entry.sigreg,
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
        embedding: hex::encode(
            embedding
                .flat_map(|value| value.to_le_bytes())
                .collect::<Vec<_>>(),
        ),
        trace: hex::encode(report.score.trace),
        loss: report.loss,
        cross_entropy: report.cross_entropy,
        sigreg: report.sigreg,
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

/// Deletes the files that were used longest ago until `bytes` more fit.
fn make_room(folder: &Path, bytes: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        // Another process may have deleted it by now.
        if let Ok(facts) = file.metadata() {
            files.push((facts.modified()?, file.path(), facts.len()));
        }
    }
    files.sort();
    let mut used = bytes + files.iter().map(|(.., bytes)| bytes).sum::<u64>();
    for (_, path, bytes) in files {
        if used <= FOLDER_BYTES_MAX {
            break;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => used -= bytes,
        }
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
                embedding: vec![-3, 32767, 0],
                trace: [9; 32],
            },
            loss: 0.1 + 0.2,
            cross_entropy: 1.0 / 3.0,
            sigreg: 5e-324,
            bits_per_byte: 1e300,
            bytes: 17,
            positions: 18,
        }
    }

    #[test]
    fn what_is_kept_is_read_to_the_last_bit_and_what_is_damaged_or_misplaced_is_a_miss() {
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
    fn a_folder_keeps_what_was_used_last_within_its_bound() {
        let home = tempfile::tempdir().unwrap();
        let name = |index: usize| path(home.path(), &format!("ab{index:062}"));
        let mut large = report(1);
        large.score.embedding = vec![1; 20_000];
        for index in 0..20 {
            put(&name(index), &large).unwrap();
            // Times of files may be no finer than this.
            std::thread::sleep(std::time::Duration::from_millis(12));
            assert!(get(&name(0)).is_some(), "{index}");
        }
        let folder = name(0).parent().unwrap().to_owned();
        let bytes = fs::read_dir(&folder).unwrap();
        let bytes: u64 = bytes
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        assert!(
            bytes <= FOLDER_BYTES_MAX && bytes > FOLDER_BYTES_MAX / 2,
            "{bytes}"
        );
        assert!(get(&name(1)).is_none());
        assert!(get(&name(19)).is_some());
    }

    #[test]
    fn processes_that_write_and_read_the_same_entry_never_see_half_of_it() {
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
