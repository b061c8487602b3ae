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
    loop {
        for (hash, size_bytes) in node.weights.missing() {
            if fetch(node, peers, hash, size_bytes).await {
                node.metrics.files_fetched.add(1);
                node.file_arrived();
            }
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// Asks one node after the other, each file another one first; whether the file is here now.
async fn fetch(node: &Arc<Shared>, peers: &[Client], hash: Hash, size_bytes: u64) -> bool {
    let remote = Remote::ciphertext(hash, size_bytes);
    let path = node.weights.fetched(&hash);
    let first = usize::from(hash.0[0]) % peers.len().max(1);
    for peer in peers.iter().cycle().skip(first).take(peers.len()) {
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
