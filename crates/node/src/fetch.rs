//! Downloads files that the chain needs and this node does not have from the nodes that do: an
//! owner uploads to one validator, and the others get the file from there. It must never keep a
//! file whose hash is wrong, whoever served it, and no node that serves slowly may keep a file from
//! being fetched elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use soma_sdk::transfer::{Remote, part_of};
use soma_sdk::{Client, SdkError};

use crate::chain::Chain;
use crate::metrics::Metrics;
use crate::neighbors::Neighbors;
use crate::weights::{Ciphertext, WeightsStore};

/// Time between two checks for missing files.
const INTERVAL: Duration = Duration::from_secs(2);
/// How many files are downloaded at once: a slow one does not keep back the others.
const AT_ONCE: usize = 4;
/// How often the rate of a download is looked at.
const WINDOW: Duration = Duration::from_secs(10);
/// How fast what was received before, which comes first, is read and hashed even on a slow disk.
const HASHED_BYTES_PER_SECOND: u64 = 32 << 20;
/// The least that a node sends in that time. Whoever sends less is left for the next node, which
/// resumes.
const WINDOW_BYTES: u64 = 640 << 10;

/// Downloads missing files, in endless rounds.
pub(crate) async fn run(
    chain: Arc<Chain>,
    weights: Arc<WeightsStore>,
    metrics: Arc<Metrics>,
    neighbors: Neighbors,
) {
    for round in 0_usize.. {
        let peers = chain.read(|state, _| neighbors.all(state));
        let peers: Vec<Client> = peers.into_iter().map(|(_, client)| client).collect();
        let missing = futures_util::stream::iter(weights.missing());
        let fetches = missing.for_each_concurrent(AT_ONCE, |file| {
            let (weights, metrics, peers) = (&weights, &metrics, &peers);
            async move {
                if let Err(error) = weights.may_fetch(&file) {
                    tracing::debug!(hash = %file.hash, %error, "not downloaded");
                    return;
                }
                // A file's hash chooses its first node, and each round starts at the next one, so a
                // node that hangs delays only one round in several.
                let first = usize::from(file.hash.0[0]).wrapping_add(round) % peers.len().max(1);
                let (before, after) = peers.split_at(first);
                if fetch(weights, after.iter().chain(before), &file).await {
                    metrics.files_fetched.inc();
                }
            }
        });
        fetches.await;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Tries each node once; the next one resumes where the last one was interrupted. Returns whether
/// the file is complete.
async fn fetch(
    weights: &WeightsStore,
    peers: impl Iterator<Item = &Client>,
    file: &Ciphertext,
) -> bool {
    let hash = file.hash;
    for peer in peers {
        match download(weights, peer, file).await {
            Some(Ok(())) => match weights.keep(&hash, &weights.download_path(file)) {
                Ok(()) => return true,
                Err(error) => {
                    tracing::error!(%hash, %error, "cannot keep a downloaded file");
                    return false;
                }
            },
            // Usually the file has not arrived there either.
            Some(Err(error)) => {
                tracing::debug!(%hash, url = peer.url(), %error, "download failed");
            }
            None => tracing::debug!(%hash, url = peer.url(), "download given up: too slow"),
        }
    }
    false
}

/// Downloads from one node; `None` if it sends too little.
async fn download(
    weights: &WeightsStore,
    peer: &Client,
    file: &Ciphertext,
) -> Option<Result<(), SdkError>> {
    let remote = Remote::ciphertext(file.hash, file.size_bytes);
    let path = weights.download_path(file);
    let received = AtomicU64::new(0);
    let mut note = |bytes, _| received.store(bytes, Ordering::Relaxed);
    let mut download = std::pin::pin!(peer.download(&remote, &path, &mut note));
    let mut before = 0;
    let hashed_bytes = std::fs::metadata(part_of(&path)).map_or(0, |part| part.len());
    let mut window = WINDOW + Duration::from_secs(hashed_bytes / HASHED_BYTES_PER_SECOND);
    loop {
        if let Ok(outcome) = tokio::time::timeout(window, &mut download).await {
            return Some(outcome);
        }
        window = WINDOW;
        let now = received.load(Ordering::Relaxed);
        if now < before + WINDOW_BYTES {
            return None;
        }
        before = now;
    }
}
