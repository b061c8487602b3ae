//! Downloads files that the chain needs and this node does not have, from its cold store, from
//! mirrors, or from the nodes that have them: an owner uploads to one validator, and the others get
//! the file from there. It must never keep a file whose hash is wrong, whoever served it, and no
//! node that serves slowly or not at all may keep a file from being fetched elsewhere. Mirrors, and
//! nodes that only the chain names, get less patience than those of the settings: they may be
//! anybody's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use soma_codes::{Coded as _, Exit};
use soma_protocol::{ConsensusKey, Hash};
use soma_sdk::mirrors::is_absent;
use soma_sdk::transfer::Remote;
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
/// In how many windows of ten seconds a whole file must come from a mirror, or from a node that the
/// chain names: an hour.
const WINDOWS_MAX: u64 = 360;

/// The mirrors and nodes to download from, and what is known of those that may be anybody's.
struct Sources {
    chain: Arc<Chain>,
    neighbors: Neighbors,
    known: Mutex<BTreeMap<Origin, Source>>,
}

/// Who it is that serves files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// A mirror, by its place in the settings.
    Mirror(usize),
    /// A node of the settings.
    Settings,
    /// A node that only the chain names.
    Chain(ConsensusKey),
}

#[derive(Default)]
struct Source {
    downloads: usize,
    failed: Option<Instant>,
    /// A mirror that has served other bytes is not asked again.
    has_lied: bool,
}

/// What a download says of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Fine,
    Failed,
    Lied,
}

/// A source, and how to reach it.
struct Asked {
    origin: Origin,
    client: Client,
}

impl Sources {
    /// In which order they are asked for a file: mirrors, then nodes of the settings. A file's hash
    /// chooses the first one of each group, and each attempt begins at the next one.
    fn order(&self, file: &Ciphertext, attempt: usize) -> Vec<Asked> {
        let places = self.chain.read(|state, _| self.neighbors.places(state));
        let asked = |origin, client| Asked { origin, client };
        let mirrors = self.neighbors.mirrors().into_iter().enumerate();
        let mirrors = mirrors.map(|(place, client)| asked(Origin::Mirror(place), client));
        let configured = self.neighbors.configured().into_iter();
        let configured = configured.map(|(_, client)| asked(Origin::Settings, client));
        let of_chain = self.neighbors.of_chain(places).into_iter();
        let of_chain = of_chain.map(|(key, client)| asked(Origin::Chain(key), client));
        let mut order = Vec::new();
        for mut group in [mirrors.collect(), configured.collect(), of_chain.collect::<Vec<_>>()] {
            let first = usize::from(file.hash.0[0]).wrapping_add(attempt) % group.len().max(1);
            group.rotate_left(first);
            order.append(&mut group);
        }
        order
    }

    /// Whether one is asked now. One that is must be [left](Self::leave).
    fn enter(&self, asked: &Asked) -> bool {
        let at_once = match asked.origin {
            Origin::Settings => return true,
            Origin::Mirror(_) => AT_ONCE,
            Origin::Chain(_) => FROM_ONE,
        };
        let mut known = self.known.lock();
        let source = known.entry(asked.origin).or_default();
        let is_paused = source.failed.is_some_and(|at| at.elapsed() < PAUSE);
        let enters = !is_paused && !source.has_lied && source.downloads < at_once;
        source.downloads += usize::from(enters);
        enters
    }

    fn leave(&self, asked: &Asked, end: End) {
        if let Some(source) = self.known.lock().get_mut(&asked.origin) {
            source.downloads -= 1;
            source.failed = (end != End::Fine).then(Instant::now);
            source.has_lied |= end == End::Lied && matches!(asked.origin, Origin::Mirror(_));
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
    let sources = Sources { chain, neighbors, known: Mutex::default() };
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
        sources.leave(asked, judged(asked, &hash, outcome.as_ref()));
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

/// Judges the source of a download. A mirror that is of no use is named.
fn judged(asked: &Asked, hash: &Hash, outcome: Option<&Result<(), SdkError>>) -> End {
    let (url, is_mirror) = (asked.client.url(), matches!(asked.origin, Origin::Mirror(_)));
    let (end, error) = match outcome {
        Some(Ok(())) => return End::Fine,
        Some(Err(error @ (SdkError::WrongHash { .. } | SdkError::WrongSize { .. }))) => {
            (End::Lied, error.to_string())
        }
        Some(Err(error @ SdkError::Io { .. })) => (End::Fine, error.to_string()),
        Some(Err(error)) if is_mirror && !is_absent(error) => (End::Failed, error.to_string()),
        // Usually the file has not arrived there either.
        Some(Err(error)) if error.exit() == Exit::Network => (End::Failed, error.to_string()),
        Some(Err(error)) => (End::Fine, error.to_string()),
        None => (End::Failed, "it is too slow".to_owned()),
    };
    if is_mirror && end != End::Fine {
        tracing::warn!(%hash, url, error, "a mirror of weights files is of no use");
    } else {
        tracing::debug!(%hash, url, error, "download failed");
    }
    end
}

/// Downloads from one of them; `None` if it sends too little.
async fn download(
    weights: &WeightsStore,
    asked: &Asked,
    file: &Ciphertext,
) -> Option<Result<(), SdkError>> {
    let mut remote = Remote::ciphertext(file.hash, file.size_bytes);
    if matches!(asked.origin, Origin::Mirror(_)) {
        remote.path = format!("/{}", file.hash);
    }
    let least = if asked.origin == Origin::Settings { 0 } else { file.size_bytes / WINDOWS_MAX };
    let path = weights.download_path(file);
    asked.client.download_at_pace(&remote, &path, least, &mut |_, _| ()).await
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
