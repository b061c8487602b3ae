//! A competition of four validators under attack: strangers from many addresses, at full speed,
//! delay no honest participant, and nobody honest pays for what they do.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use soma_protocol::{
    Action, Address, Amount, Epoch, Hash, SecretKey, SignedTransaction, TargetId, Transaction,
    action,
};
use soma_sdk::api::{TargetStatus, batch};
use soma_sdk::client::Client;
use soma_sdk::keys::KeyFolder;
use soma_sdk::obligation::Publication;
use soma_sdk::sender::Sender;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::audits::Competition;
use crate::network::{Network, until};
use crate::support::root;

/// Within how many blocks 99 of 100 honest transactions are finalized: their own node proposes one
/// of any four.
const BLOCKS_MAX: u64 = 5;
/// Within which time they are, and the duties of a phase. A debug build has more, for machines that
/// are shared; docs/threats.md has what was measured.
const FINAL_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 5 });
/// How much memory a node may take.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// How much its folder may grow with a block, which holds at most 1 MiB of transactions: they are
/// kept in the block, in the history and, in parts, in the state.
const BLOCK_GROWTH_BYTES_MAX: u64 = 4 << 20;
/// How long the attack lasts in each phase.
const PHASE: Duration = Duration::from_secs(4);
/// The accounts that flood, each from an address of its own.
const PAYERS: u8 = 4;
/// Connections of each kind that strangers hold at each node.
const HELD: u32 = 300;

/// Strangers: each has an address in a network of its own, as a proxy names it.
#[derive(Clone)]
struct Strangers {
    nodes: Vec<SocketAddr>,
    chain: Hash,
    validator: Address,
    ends: Arc<AtomicBool>,
    /// How many requests were refused, and how many not.
    answered: Arc<[AtomicU64; 2]>,
}

/// The address of one of them.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((198 << 24) + (number << 8) + 1)
}

fn sign(chain: Hash, key: &SecretKey, nonce: u64, action: Action) -> SignedTransaction {
    let fee_limit = if action.is_duty() { Amount::ZERO } else { Amount::soma(1) };
    let (sender, tip, valid_until_ms) = (key.address(), Amount::ZERO, u64::MAX);
    Transaction { chain, sender, nonce, tip, fee_limit, valid_until_ms, action }.sign(key)
}

/// The same transaction with a signature that is wrong.
fn forged(signed: &SignedTransaction) -> Vec<u8> {
    let mut bytes = signed.bytes().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes
}

fn in_batch<'a>(transactions: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for transaction in transactions {
        assert!(batch::push_bytes(&mut bytes, transaction));
    }
    bytes
}

impl Strangers {
    fn go_on(&self) -> bool {
        !self.ends.load(Ordering::Relaxed)
    }

    /// Sends a request on a connection of its own and reads the answer.
    async fn post(&self, node: SocketAddr, client: Ipv4Addr, path: &str, body: &[u8]) {
        let mut answer = Vec::new();
        let exchange = async {
            let mut stream = TcpStream::connect(node).await?;
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\
                 x-forwarded-for: {client}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body).await?;
            stream.read_to_end(&mut answer).await
        };
        // A node may close a connection whose body it does not want.
        let _ended: std::io::Result<usize> = exchange.await;
        let accepted = usize::from(answer.starts_with(b"HTTP/1.1 2"));
        self.answered[accepted].fetch_add(1, Ordering::Relaxed);
    }

    /// Sends the same body to all nodes until the attack ends, as fast as they answer.
    async fn repeats(self, client: u32, path: &'static str, body: Vec<u8>) {
        while self.go_on() {
            for node in &self.nodes {
                self.post(*node, address(client), path, &body).await;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Fills blocks with the cheapest payments there are: small ones, and the largest that the
    /// rules reject.
    async fn pays(self, client: u32, key: SecretKey, of: Client) {
        while self.go_on() {
            let account = of.account(key.address()).await;
            let Ok(first) = account.map(|account| account.next_nonce.0) else { continue };
            let payment = |nonce: u64| {
                let pay = action::Transfer { to: key.address(), amount: Amount(1) };
                if !nonce.is_multiple_of(8) {
                    return sign(self.chain, &key, nonce, pay.into());
                }
                let (target, data) = (TargetId(4_000_000), vec![7; 130_000]);
                let publish =
                    action::PublishData { target, data, ..action::PublishData::default() };
                sign(self.chain, &key, nonce, publish.into())
            };
            let payments: Vec<_> = (first..first + 56).map(payment).collect();
            let body = in_batch(payments.iter().map(SignedTransaction::bytes));
            for node in &self.nodes {
                self.post(*node, address(client), "/v1/transactions/batch", &body).await;
            }
        }
    }

    /// Holds connections: silent ones, streams that are not read, bodies that do not end, and
    /// answers that are not taken.
    async fn holds(self, first: u32) {
        let mut held = Vec::new();
        for node in &self.nodes {
            for number in 0..HELD {
                let Ok(mut stream) = TcpStream::connect(node).await else { continue };
                let client = address(first + number / 8);
                let request = match number % 4 {
                    0 => "GET /v1/ev".to_owned(),
                    1 => format!("GET /v1/events HTTP/1.1\r\nx-forwarded-for: {client}\r\n\r\n"),
                    2 => format!("GET /metrics HTTP/1.1\r\nx-forwarded-for: {client}\r\n\r\n"),
                    _ => format!(
                        "POST /v1/transactions HTTP/1.1\r\nx-forwarded-for: {client}\r\n\
                         content-length: 999\r\n\r\n0"
                    ),
                };
                let _ = stream.write_all(request.as_bytes()).await;
                held.push(stream);
            }
        }
        while self.go_on() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Every attack at once.
    fn attack(
        &self,
        payers: Vec<SecretKey>,
        rich: &SecretKey,
        of: &Client,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        let mut tasks = Vec::new();
        for (client, key) in (0..).zip(payers) {
            tasks.push(tokio::spawn(self.clone().pays(client, key, of.clone())));
        }
        let outsider = SecretKey::from_bytes(&[77; 32]);
        let pay = |amount| action::Transfer { to: outsider.address(), amount: Amount(amount) };
        let forgery = |n: u64| forged(&sign(self.chain, rich, n % 200, pay(n).into()));
        let forgeries: Vec<_> = (0..1_000).map(forgery).collect();
        // A duty in the name of a validator.
        let answer =
            action::AnswerChallenge { epoch: Epoch(2), chunk: vec![7; 100_000], path: Vec::new() };
        let mut duty = sign(self.chain, &outsider, 0, answer.into()).bytes().to_vec();
        let sender = outsider.address().0;
        let at = duty.windows(32).position(|window| window == sender).unwrap();
        duty[at..at + 32].copy_from_slice(&self.validator.0);
        let bodies = [
            ("/v1/transactions/batch", in_batch(forgeries.iter().map(Vec::as_slice))),
            ("/v1/transactions/batch", in_batch(std::iter::repeat_n(&duty[..], 10))),
            ("/v1/transactions/batch", vec![7; 1 << 20]),
            ("/v1/transactions", vec![7; 200]),
        ];
        let mut client = 100;
        for (path, body) in bodies {
            for _ in 0..4 {
                tasks.push(tokio::spawn(self.clone().repeats(client, path, body.clone())));
                client += 1;
            }
        }
        tasks.push(tokio::spawn(self.clone().holds(1_000)));
        tasks
    }
}

/// Resident memory of a process, in bytes.
fn memory_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}

/// Bytes in a folder.
fn folder_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// When honest transactions became final.
#[derive(Default)]
struct Delays {
    times: Vec<Duration>,
    blocks: Vec<u64>,
}

impl Delays {
    /// Sends one transaction, and waits until it is finalized.
    async fn measure(&mut self, sender: &Sender, action: Action) {
        let begun = Instant::now();
        let sent = sender.send(action).await.unwrap();
        let known = sender.client().status().await.unwrap().height.0;
        sender.wait(sent).await.unwrap();
        self.times.push(begun.elapsed());
        let found = sender.client().transaction(sent.hash).await.unwrap();
        let height = found.height.map_or(u64::MAX, |height| height.0);
        self.blocks.push(height.saturating_sub(known));
    }

    /// The 99th percentiles.
    fn p99(&mut self) -> (Duration, u64) {
        self.times.sort_unstable();
        self.blocks.sort_unstable();
        let at = (self.times.len() * 99).div_ceil(100).saturating_sub(1);
        (self.times[at], self.blocks[at])
    }
}

/// Transfers, one after the other, until `ends`.
async fn transfers(sender: Sender, ends: Arc<AtomicBool>) -> Delays {
    let mut delays = Delays::default();
    while !ends.load(Ordering::Relaxed) {
        let transfer = action::Transfer { to: sender.address(), amount: Amount(1) };
        delays.measure(&sender, transfer.into()).await;
    }
    delays
}

async fn payers(network: &Network) -> Vec<SecretKey> {
    let owner = network.sender("account-2").await;
    let mut keys = Vec::new();
    for number in 0..PAYERS {
        let key = SecretKey::from_bytes(&[100 + number; 32]);
        let transfer = action::Transfer { to: key.address(), amount: Amount::soma(1_000) };
        owner.run(transfer.into()).await.unwrap();
        keys.push(key);
    }
    keys
}

/// What the nodes have before an attack.
struct Before {
    height: u64,
    stakes: Vec<u64>,
    folders: Vec<u64>,
}

impl Before {
    async fn of(network: &Network) -> Self {
        let client = &network.nodes[0].client;
        let validators = client.validators().await.unwrap();
        Self {
            height: network.nodes[0].height().await,
            stakes: validators.iter().map(|validator| validator.stake.0).collect(),
            folders: network.nodes.iter().map(|node| folder_bytes(&node.dir)).collect(),
        }
    }

    /// Nobody was slashed, and memory and disk have grown within their limits.
    async fn compare(&self, network: &Network) {
        let validators = network.nodes[0].client.validators().await.unwrap();
        for (before, validator) in self.stakes.iter().zip(validators) {
            assert!(validator.stake.0 >= *before, "{} was slashed", validator.address);
            assert_eq!(validator.missed, 0, "{} missed a beacon", validator.address);
        }
        let blocks = network.nodes[0].height().await - self.height;
        for (node, folder) in network.nodes.iter().zip(&self.folders) {
            let memory = memory_bytes(node.pid);
            assert!((1..=MEMORY_BYTES_MAX).contains(&memory), "{memory} bytes of memory");
            let grown = folder_bytes(&node.dir).saturating_sub(*folder);
            assert!(grown <= blocks * BLOCK_GROWTH_BYTES_MAX, "{grown} bytes in {blocks} blocks");
            println!("{} MiB of memory, {} MiB more on disk", memory >> 20, grown >> 20);
        }
    }
}

/// Ends the phases up to the beginning of epoch 4, each once all validators have done their duties
/// in it; publishes in epoch 3.
async fn compete(network: &Network, submitter: &Sender, entered: &mut Delays, entry: &Publication) {
    let client = &network.nodes[0].client;
    loop {
        let clock = client.status().await.unwrap().clock;
        if clock.epoch == 4 {
            return;
        }
        if clock.epoch == 3 && clock.phase.to_string() == "reveal" {
            entered.measure(submitter, entry.publish()).await;
        }
        tokio::time::sleep(PHASE).await;
        let begun = Instant::now();
        network.json(&["localnet", "next"]);
        let took = begun.elapsed();
        println!("the duties of epoch {}, {}: {took:?}", clock.epoch, clock.phase);
        assert!(took <= FINAL_WITHIN, "the duties of {} took {took:?}", clock.phase);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_at_full_speed_delay_nobody_and_get_nobody_slashed() {
    let home = tempfile::tempdir().unwrap();
    let mut competition = Competition::start(home.path(), &[]).await;
    let data = std::fs::read(root().join("ARCHITECTURE.md")).unwrap();
    let honest = competition.submitter("account-3").await;
    honest.commit(&[&data]).await;
    competition.reveal().await;
    let payers = payers(&competition.network).await;
    let _nodes = competition.network.restart_behind_a_proxy(home.path()).await;
    let network = &competition.network;
    let client = &network.nodes[0].client;
    let before = Before::of(network).await;
    let address_of = |client: &Client| client.url().trim_start_matches("http://").parse();
    let ends = Arc::new(AtomicBool::new(false));
    let strangers = Strangers {
        nodes: network.nodes.iter().map(|node| address_of(&node.client).unwrap()).collect(),
        chain: *client.status().await.unwrap().chain_id,
        validator: *client.validators().await.unwrap()[0].address,
        ends: Arc::clone(&ends),
        answered: Arc::default(),
    };
    let rich = KeyFolder::of(&network.state).load("account-4", None).unwrap();
    let attack = strangers.attack(payers, &rich, client);
    let paying = tokio::spawn(transfers(network.sender("account-1").await, Arc::clone(&ends)));

    let targets = client.targets(Some(Epoch(2))).await.unwrap();
    let (entry, submit) = competition.claim(&honest, &targets[0], &data, |_| ()).await;
    let mut entered = Delays::default();
    entered.measure(&honest.sender, submit).await;
    compete(network, &honest.sender, &mut entered, &entry).await;

    ends.store(true, Ordering::Relaxed);
    for task in attack {
        task.await.unwrap();
    }
    assert!(strangers.answered.iter().all(|count| count.load(Ordering::Relaxed) > 0));
    let paid = paying.await.unwrap();
    println!("refused and answered requests of strangers: {:?}", strangers.answered);
    for (what, mut delays) in [("transfers", paid), ("submission and publication", entered)] {
        let (time, blocks) = delays.p99();
        println!("{} {what}: p99 {time:?}, {blocks} blocks", delays.times.len());
        assert!(blocks <= BLOCKS_MAX, "{what}: {blocks} blocks");
        assert!(time <= FINAL_WITHIN, "{what}: {time:?}");
    }
    until("the submission has won", async || {
        let target = client.target(entry.target).await.unwrap();
        target.status == TargetStatus::Settled
    })
    .await;
    before.compare(network).await;
}
