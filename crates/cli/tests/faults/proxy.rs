//! A proxy before a node that, while there is trouble, refuses, loses, delays, cuts and damages
//! what it forwards, or answers itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::rng::Rng;

/// The longest delay.
const SLOW_MS: u64 = 400;
/// How long a connection may stay open without an answer.
const SILENCE: Duration = Duration::from_secs(2);
/// The least bytes of a request that brings a part of a file.
const FILE_PART_BYTES: usize = 4 << 10;
/// What proxies answer in place of a node.
const ANSWERS: [&[u8]; 5] = [
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy",
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>\
      sorry!!</",
    b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 14\r\n\r\n<html>welcome!",
    b"HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 9\r\n\r\nno route!",
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]",
];

/// Where it listens, whether there is trouble, and what it answers with 503 alone.
pub(crate) struct Proxy {
    pub(crate) url: String,
    trouble: Arc<AtomicBool>,
    refused: Arc<Mutex<Option<&'static str>>>,
}

impl Proxy {
    pub(crate) async fn start(node: SocketAddr, rng: Rng) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let trouble = Arc::new(AtomicBool::new(false));
        let refused = Arc::new(Mutex::new(None));
        let (troubled, unserved) = (trouble.clone(), refused.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (trouble, refused) = (troubled.clone(), unserved.clone());
                let link = Link { rng: rng.clone(), trouble, refused };
                tokio::spawn(async move {
                    // Whatever ends a connection is a fault like the others.
                    let _ended = link.forward(client, node).await;
                });
            }
        });
        Self { url, trouble, refused }
    }

    /// Answers requests for this path with 503 from now on; `None` for no request.
    pub(crate) fn refuse(&self, path: Option<&'static str>) {
        *self.refused.lock().unwrap() = path;
    }

    pub(crate) fn trouble(&self, is: bool) {
        self.trouble.store(is, Ordering::Relaxed);
    }
}

struct Link {
    rng: Rng,
    trouble: Arc<AtomicBool>,
    refused: Arc<Mutex<Option<&'static str>>>,
}

impl Link {
    /// Which of `kinds` faults comes now; another number for none.
    fn fault(&self, kinds: u64) -> u64 {
        if self.trouble.load(Ordering::Relaxed) { self.rng.below(kinds) } else { u64::MAX }
    }

    async fn forward(&self, mut client: TcpStream, node: SocketAddr) -> io::Result<()> {
        match self.fault(12) {
            0 | 1 => return Ok(()),
            2 => {
                sleep(SILENCE).await;
                return Ok(());
            }
            _ => {}
        }
        let mut node = TcpStream::connect(node).await?;
        let (mut question, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 14]);
        loop {
            tokio::select! {
                read = client.read(&mut question) => {
                    let bytes = &mut question[..read?];
                    if bytes.is_empty() || !self.ask(&mut client, &mut node, bytes).await? {
                        return Ok(());
                    }
                }
                read = node.read(&mut answer) => {
                    let bytes = &mut answer[..read?];
                    if bytes.is_empty() || !self.answer(&mut client, bytes).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Forwards a part of a request; false if that ends the connection.
    async fn ask(
        &self,
        client: &mut TcpStream,
        node: &mut TcpStream,
        bytes: &mut [u8],
    ) -> io::Result<bool> {
        let refused = *self.refused.lock().unwrap();
        if refused.is_some_and(|path| bytes.starts_with(format!("GET {path}").as_bytes())) {
            client.write_all(ANSWERS[0]).await?;
            return Ok(false);
        }
        match self.fault(16) {
            0 => return Ok(false),
            1 => {
                // The node gets it, and its answer is lost.
                node.write_all(bytes).await?;
                sleep(Duration::from_millis(20)).await;
                return Ok(false);
            }
            2 | 3 => {
                client.write_all(ANSWERS[self.rng.place(ANSWERS.len())]).await?;
                return Ok(false);
            }
            4 => sleep(self.rng.time(SLOW_MS)).await,
            5 => {
                node.write_all(&bytes[..bytes.len() / 2]).await?;
                return Ok(false);
            }
            6 if bytes.len() > FILE_PART_BYTES => {
                let at = bytes.len() - 1 - self.rng.place(FILE_PART_BYTES / 2);
                bytes[at] ^= 1;
            }
            _ => {}
        }
        node.write_all(bytes).await?;
        Ok(true)
    }

    /// Forwards a part of an answer; false if that ends the connection.
    async fn answer(&self, client: &mut TcpStream, bytes: &mut [u8]) -> io::Result<bool> {
        match self.fault(16) {
            0 => {
                client.write_all(&bytes[..bytes.len() / 2]).await?;
                return Ok(false);
            }
            // No text of a node has this byte: one that lies is another matter.
            1 => bytes[self.rng.place(bytes.len())] = 0xff,
            2 => sleep(self.rng.time(SLOW_MS)).await,
            _ => {}
        }
        client.write_all(bytes).await?;
        Ok(true)
    }
}
