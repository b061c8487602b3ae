//! A validator that lost its files and cannot download them at first: it retries, and no submitter
//! is blamed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use soma_protocol::{Epoch, Phase};
use soma_sdk::api::TargetStatus;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::competition::{Claim, Corpus, enter, submit};
use crate::network::{Network, wait_until};

/// Another node's API: it has no file, then interrupts the first response, then serves.
#[derive(Default)]
struct OtherNode {
    /// It sends a few bytes of each file, and then one now and then.
    is_slow: AtomicBool,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    has_them: AtomicBool,
    refused: AtomicU32,
    broken_off: AtomicU32,
    served: AtomicU32,
}

impl OtherNode {
    async fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let other = Arc::new(Self::default());
        let serving = Arc::clone(&other);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _gone = serving.answer(stream).await;
            }
        });
        (other, url)
    }

    /// Answers one request, always with the whole file, and closes the connection.
    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let request = String::from_utf8_lossy(&request);
        let path = request.split(' ').nth(1).unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let file = self.files.lock().unwrap().get(&name).cloned();
        let Some(file) = file.filter(|_| self.has_them.load(Ordering::SeqCst)) else {
            self.refused.fetch_add(1, Ordering::SeqCst);
            let none = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            return stream.write_all(none).await;
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            file.len()
        );
        stream.write_all(head.as_bytes()).await?;
        if self.is_slow.load(Ordering::SeqCst) {
            for byte in &file[..file.len() / 2] {
                self.broken_off.fetch_add(1, Ordering::SeqCst);
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        if self.broken_off.fetch_add(1, Ordering::SeqCst) == 0 {
            return stream.write_all(&file[..file.len() / 2]).await;
        }
        self.served.fetch_add(1, Ordering::SeqCst);
        stream.write_all(&file).await
    }
}

/// Moves the validator's files to the other node, which keeps them to itself for now.
fn lose_files(network: &Network, other: &OtherNode) {
    let weights = network.path("state/node-1/weights");
    for entry in std::fs::read_dir(weights.join("ciphertexts")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let file = std::fs::read(&path).unwrap();
        other.files.lock().unwrap().insert(name, file);
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(other.files.lock().unwrap().len(), 2);
    let plain = std::fs::read_dir(weights.join("plain")).unwrap();
    assert_eq!(plain.count(), 0, "nothing was audited yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_waits_for_weights_that_cannot_be_downloaded_and_then_decides() {
    let (other, url) = OtherNode::start().await;
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead_url = format!("http://{}", dead.local_addr().unwrap());
    drop(dead);
    let network = Network::with_peers(vec![dead_url, url]);
    let submitter = network.sender("account-3").await;
    let corpus = Corpus::commit(&submitter, &["a text that nobody has seen "]).await;
    enter(&network).await;
    let targets = network.client.targets(Some(Epoch(2))).await.unwrap();
    let claim = submit(&network, &submitter, &targets[0], &corpus, 0, Claim::True).await;
    lose_files(&network, &other);

    network.go_to(3, Phase::Reveal).await;
    submitter.run(claim.publish()).await.unwrap();
    network.go_to(3, Phase::Compete).await;
    let audits = async || network.client.status().await.unwrap().audits;
    wait_until("the audit is postponed", async || audits().await.put_off.0 > 1).await;
    wait_until("the other node is asked", async || other.refused.load(Ordering::SeqCst) > 2).await;
    let waiting = audits().await;
    assert_eq!((waiting.waiting, waiting.valid.0, waiting.invalid.0), (1, 0, 0));
    assert!(network.client.status().await.unwrap().duties > 0);

    other.has_them.store(true, Ordering::SeqCst);
    network.wait_for_attestations(&[claim.target]).await;
    assert!(
        other.broken_off.load(Ordering::SeqCst) > 1 && other.served.load(Ordering::SeqCst) >= 2
    );
    let done = audits().await;
    assert_eq!((done.waiting, done.valid.0, done.invalid.0), (0, 1, 0));
    network.go_to(4, Phase::Reveal).await;
    let won = network.client.target(claim.target).await.unwrap();
    assert_eq!(won.status, TargetStatus::Settled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_sends_a_byte_now_and_then_keeps_no_file_from_being_fetched_elsewhere() {
    let (slow, slow_url) = OtherNode::start().await;
    let (other, url) = OtherNode::start().await;
    let network = Network::with_peers(vec![slow_url, url]);
    enter(&network).await;
    lose_files(&network, &other);
    *slow.files.lock().unwrap() = other.files.lock().unwrap().clone();
    slow.is_slow.store(true, Ordering::SeqCst);
    slow.has_them.store(true, Ordering::SeqCst);
    let is_asked = async || slow.broken_off.load(Ordering::SeqCst) > 0;
    wait_until("the slow node sends", is_asked).await;
    other.broken_off.store(1, Ordering::SeqCst);
    other.has_them.store(true, Ordering::SeqCst);
    let folder = network.path("state/node-1/weights/ciphertexts");
    let fetched = async || std::fs::read_dir(&folder).unwrap().count() == 2;
    wait_until("both files come from the other node", fetched).await;
    assert!(other.served.load(Ordering::SeqCst) >= 1);
}
