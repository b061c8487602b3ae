//! Faults of the network and of this machine's files, by seed, under publishing, submitting,
//! scoring and downloading: no bond and no rent is lost, no result is wrong, and nothing ends in
//! silence.
//!
//! A few seeds run by default; `SOMA_FAULT_SEEDS=300` runs 300, and `SOMA_FAULT_FIRST=17` begins
//! with seed 17.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap fails the test")]

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use soma_compete::{
    Advance, CompeteError, Competitor, Level, Library, Observer, Offer, Plan as What, ScoreCache,
    Scoring, Session, Submitted, Submitter, WeightsCache,
};
use soma_model::{Engine, KernelChoice, Weights};
use soma_node::Node;
use soma_node::localnet::{Localnet, OPERATOR, Plan};
use soma_protocol::{Amount, Architecture, Hash, ModelId, Params};
use soma_sdk::api::Status;
use soma_sdk::client::Client;
use soma_sdk::corpus::Corpus;
use soma_sdk::sender::Sender;
use soma_sdk::spool::Spool;
use soma_sdk::transfer::Remote;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// How many seeds run unless the environment says otherwise.
const SEEDS: u64 = 2;
/// How long what is due may take once nothing fails anymore.
const PATIENCE: Duration = Duration::from_secs(90);
/// The longest time for which everything may fail in a phase.
const TROUBLE_MS: u64 = 400;
const POLL: Duration = Duration::from_millis(20);
const OWNER: &str = "account-1";
const SUBMITTER: &str = "account-2";
const DOCUMENTS: u32 = 3;

/// A generator of numbers that one seed decides (`SplitMix64`). Copies share it.
#[derive(Clone)]
struct Rng(Arc<Mutex<u64>>);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    fn below(&self, end: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    async fn pause(&self, longest_ms: u64) {
        sleep(Duration::from_millis(self.below(longest_ms))).await;
    }
}

/// A proxy before the node that, while there is trouble, refuses, loses, delays, cuts and damages
/// what it forwards, or answers itself.
struct Proxy {
    url: String,
    trouble: Arc<AtomicBool>,
}

impl Proxy {
    async fn start(node: SocketAddr, rng: Rng) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let trouble = Arc::new(AtomicBool::new(false));
        let troubled = trouble.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (rng, troubled) = (rng.clone(), troubled.clone());
                tokio::spawn(async move {
                    // Whatever ends a connection is a fault like the others.
                    let _ended = forward(client, node, &rng, &troubled).await;
                });
            }
        });
        Self { url, trouble }
    }
}

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";
const RUBBISH: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n<html>welcome!";

async fn forward(
    mut client: TcpStream,
    node: SocketAddr,
    rng: &Rng,
    trouble: &AtomicBool,
) -> std::io::Result<()> {
    let fails = || trouble.load(Ordering::Relaxed);
    if fails() && rng.below(6) == 0 {
        return Ok(());
    }
    let mut node = TcpStream::connect(node).await?;
    let (mut question, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 14]);
    loop {
        tokio::select! {
            read = client.read(&mut question) => {
                let bytes = &question[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                match if fails() { rng.below(12) } else { u64::MAX } {
                    0 => return Ok(()),
                    1 => {
                        // The node gets it, and its answer is lost.
                        node.write_all(bytes).await?;
                        sleep(POLL).await;
                        return Ok(());
                    }
                    2 => return client.write_all(BUSY).await,
                    3 => return client.write_all(RUBBISH).await,
                    4 => rng.pause(TROUBLE_MS).await,
                    _ => {}
                }
                node.write_all(bytes).await?;
            }
            read = node.read(&mut answer) => {
                let length = read?;
                let bytes = &mut answer[..length];
                if bytes.is_empty() {
                    return Ok(());
                }
                match if fails() { rng.below(12) } else { u64::MAX } {
                    0 => return client.write_all(&bytes[..length / 2]).await,
                    1 => {
                        let at = usize::try_from(rng.below(length as u64)).unwrap();
                        // No JSON has this byte: a node that lies is another matter.
                        bytes[at] = 0xff;
                    }
                    2 => rng.pause(TROUBLE_MS).await,
                    _ => {}
                }
                client.write_all(bytes).await?;
            }
        }
    }
}

/// Files of this machine that fail for a while.
enum Broken {
    /// This folder is elsewhere; a file has its name.
    Moved { folder: PathBuf, elsewhere: PathBuf },
    /// Nothing has to be fixed.
    Lost,
}

impl Broken {
    /// Breaks something in a home.
    fn now(home: &Path, data: &Path, rng: &Rng) -> Self {
        let moved = |folder: PathBuf| {
            let elsewhere = folder.with_extension("elsewhere");
            std::fs::rename(&folder, &elsewhere).unwrap();
            std::fs::write(&folder, "a file where a folder was").unwrap();
            Self::Moved { folder, elsewhere }
        };
        match rng.below(7) {
            0 => moved(data.to_owned()),
            1 => moved(home.join("spool")),
            2 => {
                let _absent = std::fs::remove_dir_all(home.join("weights"));
                Self::Lost
            }
            3 => {
                // Every cached file is cut.
                for folder in ["weights", "scores"] {
                    for file in files(&home.join(folder)) {
                        let length = file.metadata().map_or(0, |metadata| metadata.len());
                        let file = std::fs::File::options().write(true).open(file);
                        let _gone = file.and_then(|file| file.set_len(length / 2));
                    }
                }
                Self::Lost
            }
            4 => {
                for file in files(&home.join("spool")) {
                    if file.extension().is_some_and(|ending| ending == "json") {
                        let _gone = std::fs::remove_file(file);
                    }
                }
                Self::Lost
            }
            5 => {
                let _absent = std::fs::remove_dir_all(home.join("spool"));
                Self::Lost
            }
            _ => Self::Lost,
        }
    }

    fn fix(self) {
        if let Self::Moved { folder, elsewhere } = self {
            std::fs::remove_file(&folder).unwrap();
            std::fs::rename(elsewhere, folder).unwrap();
        }
    }
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Keeps what it is told, for the report of a failed seed.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn start(&self, _: &str, _: Option<u64>) -> Advance {
        Box::new(|_| ())
    }

    fn notice(&self, _: Level, message: &dyn Display) {
        self.0.lock().unwrap().push(message.to_string());
    }
}

/// A network with a model, whose phases this test ends.
struct World {
    node: Node,
    local: Localnet,
    client: Client,
    engine: Engine,
    model: ModelId,
    dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::manual([9; 32]);
        let architecture = Architecture {
            name: "tiny".to_owned(),
            layers: 1,
            dim: 16,
            heads: 2,
            ffn: 32,
            positions: 64,
            sig_reg_slices: 16,
            ..plan.architecture.clone()
        };
        let params = Params {
            targets_per_epoch: 2,
            models_per_target: 1,
            candidates_per_target: 1,
            ..plan.params.clone()
        };
        let plan = Plan { architecture, params, ..plan };
        let local = Localnet::create(&dir.path().join("state"), &plan).unwrap();
        let mut config = local.node(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        (config.settings.block_ms, config.settings.idle_block_ms) = (20, 200);
        config.settings.audit_threads = 1;
        let node = soma_node::start(config).unwrap();
        let client = Client::new(node.url()).unwrap();
        let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
        let mut world = Self { node, local, client, engine, model: ModelId(0), dir };
        let heard = Heard::default();
        let owner = world.competitor(OWNER, &world.client, &world.home("owner"), &heard).await;
        world.model = owner.register("m".to_owned(), Amount::soma(100), 1_000).await.unwrap();
        world
    }

    /// A folder for what one participant keeps.
    fn home(&self, name: &str) -> PathBuf {
        let home = self.dir.path().join(name);
        std::fs::create_dir_all(&home).unwrap();
        home
    }

    async fn competitor<'a>(
        &self,
        account: &str,
        client: &Client,
        home: &Path,
        heard: &'a Heard,
    ) -> Competitor<'a> {
        let key = self.local.key(account).unwrap();
        let sender = Sender::on_any_chain(client.clone(), key).await.unwrap();
        let sender = sender.with_turns(home.join("turns"));
        let spool = Spool::open(home.join("spool")).unwrap();
        Competitor { sender, spool, observer: heard }
    }

    async fn status(&self) -> Status {
        self.client.status().await.unwrap()
    }

    /// Whether what is due in this phase is done. `entered` is whether the submitter has entered
    /// its epoch, which it does once.
    async fn is_done(&self, status: &Status, leaves: u32, entered: &mut bool) -> bool {
        if status.duties > 0 {
            return false;
        }
        let (epoch, phase) = (status.clock.epoch, status.clock.phase.0);
        let submitter = self.local.key(SUBMITTER).unwrap().address();
        let account = self.client.account(submitter).await.unwrap();
        let targets = self.client.targets(None).await.unwrap();
        let model = self.client.model(self.model).await.unwrap();
        let ours = |target: &soma_sdk::api::Target| {
            target.candidates.iter().any(|candidate| candidate.submitter.0 == submitter)
        };
        if phase.submits() {
            let counts = account.corpus.is_some_and(|corpus| corpus.leaves == leaves);
            let committed = counts || account.next_corpus.is_some_and(|next| next.leaves == leaves);
            let mut open = targets.iter().filter(|target| target.epoch == epoch);
            *entered |= counts && open.all(ours);
            let held = model.commits.iter().all(|commit| commit.held);
            // The corpus counts an epoch later.
            return committed && (!counts || *entered) && held;
        }
        let mut due = targets.iter().filter(|target| target.epoch + 1 == epoch);
        let published =
            !due.any(|target| target.status == soma_sdk::api::TargetStatus::Open && ours(target));
        let revealed = model.commits.iter().all(|commit| commit.epoch > epoch);
        published && revealed
    }
}

/// Ends phase after phase, each after some time of trouble and when what was due in it is done.
async fn drive(
    world: &World,
    (home, data): (&Path, &Path),
    proxy: &Proxy,
    rng: &Rng,
    leaves: u32,
    over: &AtomicBool,
) {
    let operator = world.local.key(OPERATOR).unwrap();
    let operator = Sender::on_any_chain(world.client.clone(), operator).await.unwrap();
    let mut entered = false;
    while !over.load(Ordering::Relaxed) {
        proxy.trouble.store(true, Ordering::Relaxed);
        rng.pause(TROUBLE_MS).await;
        let broken = Broken::now(home, data, rng);
        rng.pause(TROUBLE_MS).await;
        broken.fix();
        proxy.trouble.store(false, Ordering::Relaxed);
        let begun = Instant::now();
        while !over.load(Ordering::Relaxed) {
            let status = world.status().await;
            if world.is_done(&status, leaves, &mut entered).await {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "stuck in {:?}", status.clock);
            sleep(POLL).await;
        }
        operator.end_phase().await.unwrap();
    }
}

/// Publishes weights of this seed, downloads them, and checks what arrived.
async fn publish(world: &World, owner: &Competitor<'_>, proxied: &Client, seed: u64) {
    let path = world.dir.path().join(format!("weights-{seed}"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let weights = Weights::init(&world.local.genesis().architecture, bytes).unwrap();
    weights.save(&path).unwrap();
    let hash = Hash(weights.hash());
    let architecture = world.client.governance().await.unwrap().architecture;
    let mut specialization = vec![0; weights.architecture().dim as usize];
    specialization[0] = i16::MAX;
    loop {
        let offer = Offer {
            model: world.model,
            file: &path,
            weights_hash: hash,
            specialization: specialization.clone(),
            architecture,
        };
        match owner.commit(offer).await {
            Ok(_) => break,
            // Nothing was committed, or too late, and the rent was returned: a person would run it
            // again.
            Err(CompeteError::CommitLapsed { .. }) => {}
            Err(error) if error.is_passing() => sleep(POLL).await,
            Err(error) => panic!("{error}"),
        }
    }
    owner.deliver(|_| true).await.unwrap();
    let to = world.dir.path().join(format!("pulled-{seed}"));
    let model = world.client.model(world.model).await.unwrap();
    let public = model.weights.unwrap();
    assert_eq!(public.hash.0, hash, "what was committed is public");
    let remote = Remote::weights(hash, public.size_bytes.0);
    while soma_compete::download(proxied, &remote, &to, owner.observer).await.is_err() {
        assert!(!to.exists(), "what is damaged has no name");
    }
    assert_eq!(Hash::of_bytes(&std::fs::read(&to).unwrap()), hash);
}

/// One seed: a model owner publishes, and a submitter competes, on a network and a disk that fail.
async fn live_through(world: &World, seed: u64, leaves: u32, heard: &Heard) {
    let rng = Rng::new(seed);
    let proxy = Proxy::start(world.node.api(), rng.clone()).await;
    let proxied = Client::new(&proxy.url).unwrap();
    let (home, data) = (world.home("submitter"), world.home(&format!("data-{seed}")));
    for number in 0..DOCUMENTS {
        let text = format!("text {number} of seed {seed}, different from all others; ");
        std::fs::write(data.join(number.to_string()), text.repeat(9)).unwrap();
    }
    let submitting = world.competitor(SUBMITTER, &proxied, &home, heard).await;
    let owner = world.competitor(OWNER, &proxied, &world.home("owner"), heard).await;
    let corpus = Corpus::open(home.join("corpus")).unwrap();
    let (weights, scores) =
        (WeightsCache::new(home.join("weights")), ScoreCache::new(home.join("scores")));
    let submitter = Submitter {
        competitor: &submitting,
        corpus: &corpus,
        scoring: Scoring { engine: &world.engine, weights: &weights, scores: &scores },
        witnesses: &[],
    };
    let what =
        What { paths: vec![data.clone()], target: None, every_epoch: false, replace_corpus: false };
    let library = Library::new(home.join("library"));
    let over = AtomicBool::new(false);
    let mut results: Vec<Submitted> = Vec::new();
    let work = async {
        let compete = Session::new(submitter, what, library).run(|result| {
            results.push(result.clone());
            Ok::<(), CompeteError>(())
        });
        let published = publish(world, &owner, &proxied, seed);
        let (competed, ()) = tokio::join!(compete, published);
        over.store(true, Ordering::Relaxed);
        competed.unwrap();
    };
    let driver = drive(world, (&home, &data), &proxy, &rng, leaves, &over);
    tokio::join!(work, driver);
    assert!(!results.is_empty(), "something is submitted");
    for result in &results {
        assert_eq!(result.outcome, "won", "{result:?}");
        assert!(result.file.contains("data-"), "the document is known: {result:?}");
    }
    assert!(world.status().await.supply.conserved);
    assert!(submitting.dues().is_empty() && owner.dues().is_empty(), "nothing is due anymore");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bond_is_lost_no_result_is_wrong_and_nothing_ends_whatever_fails_for_a_while() {
    let first = number("SOMA_FAULT_FIRST").unwrap_or(1);
    let seeds = number("SOMA_FAULT_SEEDS").unwrap_or(SEEDS);
    let world = World::start().await;
    let mut leaves = 0;
    for seed in first..first + seeds {
        leaves += DOCUMENTS;
        let heard = Heard::default();
        let limit = PATIENCE * 8;
        let lived =
            tokio::time::timeout(limit, Box::pin(live_through(&world, seed, leaves, &heard))).await;
        let told = heard.0.lock().unwrap().join("\n");
        assert!(lived.is_ok(), "seed {seed} takes too long; told:\n{told}");
    }
}
