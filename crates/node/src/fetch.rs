//! Files that the chain needs and this node does not have, fetched from the nodes that do: an owner uploads to one validator,
//! and the others get it from there. What arrives counts when its hash is right, whoever served it.

use std::sync::Arc;
use std::time::Duration;

use soma_protocol::Hash;
use soma_sdk::Client;
use soma_sdk::transfer::Remote;

use crate::node::Shared;

/// Time between two looks at what is missing.
const ROUND: Duration = Duration::from_secs(2);

/// Fetches until the node closes.
pub(crate) fn run(node: &Arc<Shared>, peers: &[Client]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "files cannot be fetched"),
    };
    runtime.block_on(async {
        tokio::select! {
            () = follow(node, peers) => {}
            () = node.closed() => {}
        }
    });
    runtime.shutdown_background();
}

async fn follow(node: &Arc<Shared>, peers: &[Client]) {
    for round in 0_usize.. {
        for (hash, size_bytes) in node.weights.missing() {
            // Each file another node first, and in each round the next one: a node that hangs holds up one round in several.
            let first = usize::from(hash.0[0]).wrapping_add(round) % peers.len().max(1);
            let (before, after) = peers.split_at(first);
            let order = after.iter().chain(before);
            if fetch(node, order, hash, size_bytes).await {
                node.metrics.files_fetched.add(1);
                node.file_arrived();
            }
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// Asks one node after the other, each once: what one of them has broken off, the next one goes on with. Whether the file is
/// here now.
async fn fetch(
    node: &Arc<Shared>,
    peers: impl Iterator<Item = &Client>,
    hash: Hash,
    size_bytes: u64,
) -> bool {
    let remote = Remote::ciphertext(hash, size_bytes);
    let path = node.weights.fetched(&hash);
    for peer in peers {
        match peer.download(&remote, &path, &mut |_, _| ()).await {
            Ok(()) => match node.weights.keep(&hash, &path) {
                Ok(()) => return true,
                Err(error) => {
                    tracing::error!(%hash, %error, "a fetched file cannot be kept");
                    return false;
                }
            },
            // Most often it has not arrived there either.
            Err(error) => tracing::debug!(%hash, url = peer.url(), %error, "not fetched"),
        }
    }
    false
}
