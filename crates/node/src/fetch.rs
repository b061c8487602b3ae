//! Downloads files that the chain needs and this node does not have, from its cold store or from the
//! nodes that do: an owner uploads to one validator, and the others get the file from there. It must never keep a
//! file whose hash is wrong, whoever served it, and no node that serves slowly or not at all may
//! keep a file from being fetched elsewhere. Nodes that the chain names are asked after those of
//! the settings, and get less patience: anybody with a seat is among them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use soma_codes::{Coded as _, Exit};
use soma_protocol::{ConsensusKey, Hash};
use soma_sdk::transfer::{Remote, part_of};
use soma_sdk::{Client, SdkError};
use tokio::time::MissedTickBehavior;

use crate::chain::Chain;
use crate::metrics::Metrics;
use crate::neighbors::Neighbors;
use crate::weights::{Ciphertext, WeightsStore};

/// Time between two checks for missing files, and between two attempts at one.
const INTERVAL: Duration = Duration::from_secs(2);
/// How many files are downloaded at once, and how many of them from one node that the chain names:
/// a slow one does not keep back the others.
const AT_ONCE: usize = 8;
const FROM_ONE: usize = 2;
/// How long a node that the chain names is left alone after it failed.
const PAUSE: Duration = Duration::from_secs(30);
/// How often the rate of a download is looked at.
const WINDOW: Duration = Duration::from_secs(10);
/// How fast what was received before, which comes first, is read and hashed even on a slow disk.
const HASHED_BYTES_PER_SECOND: u64 = 32 << 20;
/// The least that a node sends in that time. Whoever sends less is left for the next node, which
/// resumes.
const WINDOW_BYTES: u64 = 640 << 10;
/// In how many windows a whole file must come from a node that the chain names: an hour.
const WINDOWS_MAX: u64 = 360;

/// The nodes to download from, and what is known of those that the chain names.
struct Sources {
    chain: Arc<Chain>,
    neighbors: Neighbors,
    of_chain: Mutex<BTreeMap<ConsensusKey, Source>>,
}

#[derive(Default)]
struct Source {
    downloads: usize,
    failed: Option<Instant>,
}

/// A node, and whether only the chain names it.
struct Asked {
    key: ConsensusKey,
    client: Client,
    is_of_chain: bool,
}

impl Sources {
    /// In which order nodes are asked for a file: those of the settings first. A file's hash
    /// chooses the first one, and each attempt begins at the next one.
    fn order(&self, file: &Ciphertext, attempt: usize) -> Vec<Asked> {
        let places = self.chain.read(|state, _| self.neighbors.places(state));
        let asked = |is_of_chain| {
            move |(key, client): (ConsensusKey, Client)| Asked { key, client, is_of_chain }
        };
        let mut configured: Vec<_> =
            self.neighbors.configured().into_iter().map(asked(false)).collect();
        let mut of_chain: Vec<_> =
            self.neighbors.of_chain(places).into_iter().map(asked(true)).collect();
        for group in [&mut configured, &mut of_chain] {
            let first = usize::from(file.hash.0[0]).wrapping_add(attempt) % group.len().max(1);
            group.rotate_left(first);
        }
        configured.extend(of_chain);
        configured
    }

    /// Whether a node is asked now. One that is must be [left](Self::leave).
    fn enter(&self, asked: &Asked) -> bool {
        if !asked.is_of_chain {
            return true;
        }
        let mut of_chain = self.of_chain.lock();
        let source = of_chain.entry(asked.key).or_default();
        let is_paused = source.failed.is_some_and(|at| at.elapsed() < PAUSE);
        let enters = !is_paused && source.downloads < FROM_ONE;
        source.downloads += usize::from(enters);
        enters
    }

    fn leave(&self, asked: &Asked, has_failed: bool) {
        if let Some(source) = self.of_chain.lock().get_mut(&asked.key) {
            source.downloads -= 1;
            source.failed = has_failed.then(Instant::now);
        }
    }
}

/// The files that wait for their turn. A look at all that are missing takes time that grows with
/// their number, so there is one per [`INTERVAL`], and each look gives a file one turn.
#[derive(Default)]
struct Turns {
    queue: VecDeque<Ciphertext>,
    active: BTreeSet<Hash>,
    /// When a file was tried last, and how often it has been.
    tried: BTreeMap<Hash, (Instant, usize)>,
}

impl Turns {
    /// Takes over which files are missing; those that were not tried for the longest time first.
    fn look(&mut self, mut missing: Vec<Ciphertext>, now: Instant) {
        let hashes: BTreeSet<Hash> = missing.iter().map(|file| file.hash).collect();
        self.tried.retain(|hash, _| hashes.contains(hash));
        let last = |file: &Ciphertext| self.tried.get(&file.hash).map(|(at, _)| *at);
        missing.retain(|file| {
            let is_early = last(file).is_some_and(|at| now.duration_since(at) < INTERVAL);
            !is_early && !self.active.contains(&file.hash)
        });
        missing.sort_by_key(last);
        self.queue = missing.into();
    }

    /// The next file to download, if one more may be, and how often it was tried before.
    fn next(&mut self, now: Instant) -> Option<(Ciphertext, usize)> {
        if self.active.len() >= AT_ONCE {
            return None;
        }
        let file = self.queue.pop_front()?;
        let attempt = self.tried.get(&file.hash).map_or(0, |(_, attempt)| attempt.wrapping_add(1));
        self.tried.insert(file.hash, (now, attempt));
        self.active.insert(file.hash);
        Some((file, attempt))
    }

    fn end(&mut self, hash: &Hash) {
        self.active.remove(hash);
    }
}

/// Downloads missing files, forever.
pub(crate) async fn run(
    chain: Arc<Chain>,
    weights: Arc<WeightsStore>,
    metrics: Arc<Metrics>,
    neighbors: Neighbors,
) {
    let sources = Sources { chain, neighbors, of_chain: Mutex::default() };
    let (mut running, mut turns) = (FuturesUnordered::new(), Turns::default());
    let mut looks = tokio::time::interval(INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while let Some((file, attempt)) = turns.next(Instant::now()) {
            if let Err(error) = weights.may_fetch(&file) {
                tracing::debug!(hash = %file.hash, %error, "not downloaded");
                turns.end(&file.hash);
                continue;
            }
            let (weights, sources) = (&weights, &sources);
            running.push(async move {
                let is_back = weights.recall(&file).await;
                let order = sources.order(&file, attempt);
                (file.hash, is_back || fetch(weights, sources, &order, &file).await)
            });
        }
        tokio::select! {
            Some((hash, is_complete)) = running.next() => {
                turns.end(&hash);
                if is_complete {
                    metrics.files_fetched.inc();
                }
            }
            _ = looks.tick() => turns.look(weights.missing(), Instant::now()),
        }
    }
}

/// Tries each node once; the next one resumes where the last one was interrupted. Returns whether
/// the file is complete.
async fn fetch(
    weights: &WeightsStore,
    sources: &Sources,
    order: &[Asked],
    file: &Ciphertext,
) -> bool {
    let hash = file.hash;
    for asked in order {
        if !sources.enter(asked) {
            continue;
        }
        let outcome = download(weights, asked, file).await;
        let url = asked.client.url();
        let has_failed = match &outcome {
            Some(Ok(())) => false,
            // Usually the file has not arrived there either.
            Some(Err(error)) => {
                tracing::debug!(%hash, url, %error, "download failed");
                error.exit() == Exit::Network
            }
            None => {
                tracing::debug!(%hash, url, "download given up: too slow");
                true
            }
        };
        sources.leave(asked, has_failed);
        if let Some(Ok(())) = outcome {
            return match weights.keep(&hash, &weights.download_path(file)) {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%hash, %error, "cannot keep a downloaded file");
                    false
                }
            };
        }
    }
    false
}

/// Downloads from one node; `None` if it sends too little.
async fn download(
    weights: &WeightsStore,
    asked: &Asked,
    file: &Ciphertext,
) -> Option<Result<(), SdkError>> {
    let remote = Remote::ciphertext(file.hash, file.size_bytes);
    let path = weights.download_path(file);
    let received = AtomicU64::new(0);
    let mut note = |bytes, _| received.store(bytes, Ordering::Relaxed);
    let mut download = std::pin::pin!(asked.client.download(&remote, &path, &mut note));
    let mut before = 0;
    let hashed_bytes = std::fs::metadata(part_of(&path)).map_or(0, |part| part.len());
    let mut window = WINDOW + Duration::from_secs(hashed_bytes / HASHED_BYTES_PER_SECOND);
    let least = if asked.is_of_chain { file.size_bytes / WINDOWS_MAX } else { 0 };
    let least = least.max(WINDOW_BYTES);
    loop {
        if let Ok(outcome) = tokio::time::timeout(window, &mut download).await {
            return Some(outcome);
        }
        window = WINDOW;
        let now = received.load(Ordering::Relaxed);
        // What others sent before was wrong: it began again.
        if now < before {
            before = 0;
        }
        if now < before + least {
            return None;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use soma_protocol::Hash;

    use super::{AT_ONCE, Ciphertext, INTERVAL, Turns};

    fn file(number: usize) -> Ciphertext {
        Ciphertext { hash: Hash::of_bytes(&number.to_le_bytes()), size_bytes: 8 }
    }

    #[test]
    fn a_file_that_nobody_has_gets_one_turn_per_look_and_new_ones_come_first() {
        let (mut turns, begun) = (Turns::default(), Instant::now());
        let missing: Vec<_> = (0..3).map(file).collect();
        turns.look(missing.clone(), begun);
        for _ in 0..3 {
            let (file, attempt) = turns.next(begun).unwrap();
            assert_eq!(attempt, 0);
            turns.end(&file.hash);
        }
        assert_eq!(turns.next(begun), None, "all had their turn");
        turns.look(missing.clone(), begun + INTERVAL / 2);
        assert_eq!(turns.next(begun + INTERVAL / 2), None, "that was a moment ago");
        let later = begun + INTERVAL;
        turns.look([missing, vec![file(9)]].concat(), later);
        assert_eq!(turns.next(later), Some((file(9), 0)));
        assert_eq!(turns.next(later).unwrap().1, 1, "a second attempt");
    }

    #[test]
    fn no_more_than_some_files_are_downloaded_at_once_and_none_twice() {
        let (mut turns, begun) = (Turns::default(), Instant::now());
        let missing: Vec<_> = (0..2 * AT_ONCE).map(file).collect();
        turns.look(missing.clone(), begun);
        let mut first = None;
        for _ in 0..AT_ONCE {
            first = turns.next(begun).map(|(file, _)| file);
        }
        assert_eq!(turns.next(begun), None);
        turns.end(&first.unwrap().hash);
        let later = begun + INTERVAL;
        turns.look(missing, later);
        let (next, _) = turns.next(later).unwrap();
        assert_eq!(turns.tried[&next.hash].1, 0, "one that had no turn");
        assert_eq!(turns.next(later), None);
    }
}
