//! Downloads files that the chain needs and this node does not have from the nodes that do: an
//! owner uploads to one validator, and the others get the file from there. It must never keep a
//! file whose hash is wrong, whoever served it.

use std::sync::Arc;
use std::time::Duration;

use soma_sdk::Client;
use soma_sdk::transfer::Remote;

use crate::metrics::Metrics;
use crate::weights::{Ciphertext, WeightsStore};

/// Time between two checks for missing files.
const INTERVAL: Duration = Duration::from_secs(2);

/// Downloads missing files, in endless rounds.
pub(crate) async fn run(weights: Arc<WeightsStore>, metrics: Arc<Metrics>, peers: Vec<Client>) {
    for round in 0_usize.. {
        for file in weights.missing() {
            if let Err(error) = weights.may_fetch(&file) {
                tracing::debug!(hash = %file.hash, %error, "not downloaded");
                continue;
            }
            // A file's hash chooses its first node, and each round starts at the next one, so a
            // node that hangs delays only one round in several.
            let first = usize::from(file.hash.0[0]).wrapping_add(round) % peers.len().max(1);
            let (before, after) = peers.split_at(first);
            if fetch(&weights, after.iter().chain(before), &file).await {
                metrics.files_fetched.inc();
            }
        }
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
    let remote = Remote::ciphertext(hash, file.size_bytes);
    let path = weights.download_path(file);
    for peer in peers {
        match peer.download(&remote, &path, &mut |_, _| ()).await {
            Ok(()) => match weights.keep(&hash, &path) {
                Ok(()) => return true,
                Err(error) => {
                    tracing::error!(%hash, %error, "cannot keep a downloaded file");
                    return false;
                }
            },
            // Usually the file has not arrived there either.
            Err(error) => tracing::debug!(%hash, url = peer.url(), %error, "download failed"),
        }
    }
    false
}
