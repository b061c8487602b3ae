//! `soma submit`, `soma model publish` and `soma model pull` behind a network, and on a disk, that
//! fail for a while, and killed at any moment: what was entered is published and wins, what was
//! committed is revealed, and what was downloaded is what was revealed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use soma_protocol::{Amount, Hash, Phase};
use soma_sdk::api::{Commit, Status, Target, TargetStatus};
use tokio::time::{Duration, sleep};

use crate::command::{End, PATIENCE, Running};
use crate::machine::{Broken, cut, files};
use crate::proxy::Proxy;
use crate::rng::Rng;
use crate::world::{OWNER, SUBMITTER, World, specialization};

/// Documents of the submitter; those from the second on change and vanish.
const DOCUMENTS: usize = 5;
const INTACT: usize = 2;
/// Epochs of a seed: documents are committed, submitted, published, and won.
const LAST_EPOCH: u32 = 4;
/// How often a command may end by an error before it has begun to hold anything.
const FAILURES_MAX: u32 = 40;
const TROUBLE_MS: u64 = 350;
const POLL: Duration = Duration::from_millis(20);

/// A command that its user runs again when it was killed, or failed before anything was at stake.
struct User {
    home: PathBuf,
    folder: PathBuf,
    arguments: Vec<String>,
    running: Option<Running>,
    failures: u32,
    kills: u32,
    printed: String,
    said: String,
}

impl User {
    fn new(world: &World, proxy: &Proxy, name: &str, arguments: &[&str]) -> Self {
        let key = world.key(name);
        let common = ["--key", &key, "--url", &proxy.url];
        let arguments = arguments.iter().chain(&common).map(ToString::to_string).collect();
        let (home, folder) = (world.at(name), world.at(""));
        let (running, failures, kills) = (None, 0, 0);
        let [printed, said] = [String::new(), String::new()];
        let mut user = Self { home, folder, arguments, running, failures, kills, printed, said };
        user.start();
        user
    }

    fn start(&mut self) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.running = Some(Running::start(&self.home, &self.folder, &arguments));
    }

    /// Whether the command has an obligation on disk.
    fn owes(&self) -> bool {
        let is_due = |file: &PathBuf| file.extension().is_some_and(|ending| ending == "json");
        files(&self.home.join("spool")).iter().any(is_due)
    }

    /// Runs the command again if it has ended and is not done.
    fn tend(&mut self) {
        let Some(end) = self.running.as_mut().and_then(Running::ended) else {
            return;
        };
        let run = self.running.take().unwrap();
        self.printed += &run.printed();
        self.said += &format!("{:?}:\n{}\n", self.arguments, run.said());
        match end {
            End::Success => {}
            // All is done but for files that this test has spoiled.
            End::Failure(code) if code == "left_out" => {}
            End::Killed => {
                self.kills += 1;
                self.start();
            }
            End::Failure(code) => {
                assert!(!self.owes(), "{code} though something is due; told:\n{}", self.said);
                self.failures += 1;
                assert!(self.failures < FAILURES_MAX, "{code} again; told:\n{}", self.said);
                self.start();
            }
        }
    }

    fn kill(&mut self) {
        if let Some(running) = &mut self.running {
            running.kill();
        }
    }

    /// What it has said so far.
    fn told(&self) -> String {
        let now = self.running.iter().map(|run| format!("{:?}:\n{}", self.arguments, run.said()));
        format!("{}{}", self.said, now.collect::<String>())
    }

    /// The results that it has printed so far: one a line, or all in a summary.
    fn results(&self) -> Vec<Value> {
        let now = self.running.iter().map(Running::printed).collect::<String>();
        let text = format!("{}{now}", self.printed);
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .flat_map(|line| line["submissions"].as_array().cloned().unwrap_or_else(|| vec![line]))
            .collect()
    }
}

/// One seed.
struct Life<'a> {
    world: &'a World,
    rng: Rng,
    proxy: Proxy,
    data: PathBuf,
    /// Whether processes are killed, in which case nothing is taken from the spool: what neither a
    /// process nor the disk has is lost.
    kills: bool,
    submitter: User,
    owner: Option<User>,
}

impl<'a> Life<'a> {
    async fn begin(world: &'a World, seed: u64) -> Self {
        let rng = Rng::new(seed);
        let proxy = Proxy::start(world.api(), rng.clone()).await;
        let data = world.at("data");
        fs::create_dir(&data).unwrap();
        for number in 0..DOCUMENTS {
            fs::write(data.join(number.to_string()), rng.text()).unwrap();
        }
        proxy.trouble(true);
        let kills = rng.once_in(2);
        let watches: &[&str] = if rng.once_in(2) { &["--watch"] } else { &[] };
        let submit = [&["submit", "data", "--threads", "1"], watches].concat();
        let submitter = User::new(world, &proxy, SUBMITTER, &submit);
        Self { world, rng, proxy, data, kills, submitter, owner: None }
    }

    fn users(&mut self) -> impl Iterator<Item = &mut User> {
        std::iter::once(&mut self.submitter).chain(&mut self.owner)
    }

    fn told(&mut self) -> String {
        self.users().map(|user| user.told()).collect::<Vec<_>>().join("\n")
    }

    /// Tends the commands for a while.
    async fn live(&mut self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.users().for_each(User::tend);
            sleep(POLL).await;
        }
    }

    /// Everything may fail for a while, and is right again when this returns.
    async fn trouble(&mut self) {
        self.proxy.trouble(true);
        for _ in 0..=self.rng.below(2) {
            let (before, after) = (self.rng.time(TROUBLE_MS), self.rng.time(TROUBLE_MS));
            self.live(before).await;
            let broken = self.disturb();
            self.live(after).await;
            broken.fix();
        }
        self.proxy.trouble(false);
    }

    fn disturb(&mut self) -> Broken {
        let rng = self.rng.clone();
        let of_owner = rng.once_in(3);
        let user = if of_owner { self.owner.as_mut() } else { None };
        let user = user.unwrap_or(&mut self.submitter);
        let spool = user.home.join("spool");
        match rng.below(10) {
            0 | 1 if self.kills => user.kill(),
            0 => return Broken::moved(&spool),
            1 => drop(fs::remove_dir_all(spool)),
            2 if !self.kills => {
                for file in files(&spool) {
                    // Encrypted files, too.
                    let _gone = fs::remove_file(file);
                }
            }
            3 | 4 => {
                if let Some(running) = &user.running {
                    return Broken::full(running.process());
                }
            }
            5 => return Broken::moved(&self.data),
            6 => spoil(&self.data, &rng),
            7 => drop(fs::remove_dir_all(user.home.join("cache/weights"))),
            8 => {
                let cache = user.home.join("cache");
                for file in files(&cache) {
                    let _gone = cut(&file);
                }
            }
            _ => {}
        }
        Broken::Lost
    }

    /// Waits until what is due in this phase is done.
    async fn until_done(&mut self, status: &Status) {
        let begun = Instant::now();
        loop {
            let now = self.world.status().await;
            if now.duties == 0 && self.is_done(status).await {
                return;
            }
            let in_time = begun.elapsed() <= PATIENCE;
            assert!(in_time, "stuck in {:?}; told:\n{}", status.clock, self.told());
            self.live(POLL).await;
        }
    }

    async fn is_done(&self, status: &Status) -> bool {
        let (world, epoch, phase) = (self.world, status.clock.epoch, status.clock.phase.0);
        let model = world.client.model(world.model).await.unwrap();
        if phase == Phase::Attest {
            return true;
        }
        if !phase.submits() {
            let entered = world.entered(epoch.saturating_sub(1)).await;
            let revealed = model.commits.iter().all(|commit| commit.epoch > epoch);
            return revealed && entered.iter().all(|target| target.publication.is_some());
        }
        let address = world.submitter();
        let account = world.client.account(address).await.unwrap();
        match epoch {
            1 => account.next_corpus.is_some(),
            2 => {
                let entered = world.entered(epoch).await.len();
                let held = |commit: &Commit| commit.epoch > epoch && commit.held;
                entered == world.targets(epoch).await.len()
                    && !model.commits.is_empty()
                    && model.commits.iter().all(held)
            }
            _ => true,
        }
    }

    /// Lives through one phase.
    async fn phase(&mut self, status: &Status) {
        let (epoch, phase) = (status.clock.epoch, status.clock.phase.0);
        if epoch == 2 && phase == Phase::Compete {
            let (file, _) = self.world.weights(1);
            let components = serde_json::to_string(&specialization()).unwrap();
            fs::write(self.world.at("specialization"), components).unwrap();
            let file = file.display().to_string();
            let publish = ["model", "publish", &file, "--specialization", "specialization"];
            self.proxy.trouble(true);
            self.owner = Some(User::new(self.world, &self.proxy, OWNER, &publish));
        }
        if phase != Phase::Attest && epoch + u32::from(phase.submits()) > 1 {
            self.trouble().await;
        }
        self.until_done(status).await;
    }

    /// Downloads the public weights; what fails leaves nothing under the file's name.
    async fn pull(&mut self) {
        let world = self.world;
        let (to, home) = (world.at("pulled"), world.at("reader"));
        let id = world.model.to_string();
        let pull = ["model", "pull", &id, "-o", "pulled", "--url", &self.proxy.url];
        let begun = Instant::now();
        loop {
            self.proxy.trouble(begun.elapsed() < Duration::from_millis(2 * TROUBLE_MS));
            let mut running = Running::start(&home, &world.at(""), &pull);
            let end = loop {
                if let Some(end) = running.ended() {
                    break end;
                }
                assert!(begun.elapsed() < PATIENCE, "told:\n{}", running.said());
                sleep(POLL).await;
            };
            if matches!(end, End::Success) {
                break;
            }
            assert!(!to.exists(), "what is not whole has no name; told:\n{}", running.said());
        }
        self.proxy.trouble(false);
        let model = world.client.model(world.model).await.unwrap();
        assert_eq!(Hash::of_bytes(&fs::read(to).unwrap()), model.weights.unwrap().hash.0);
    }

    /// Checks what all came to.
    async fn check(&mut self, seed: u64) {
        let world = self.world;
        let model = world.client.model(world.model).await.unwrap();
        let (_, weights) = world.weights(1);
        let told = self.told();
        assert_eq!(model.weights.unwrap().hash.0.0, weights.hash(), "seed {seed}; told:\n{told}");
        assert!(model.stake.0 >= Amount::soma(100).0, "seed {seed}: a reveal was missed; {told}");
        let address = world.submitter();
        // All were entered before epoch 2 could end.
        let entered = world.targets(2).await;
        for target in &entered {
            let payment = target.payment.as_ref().map(|payment| payment.submitter.0);
            assert_eq!(target.status, TargetStatus::Settled, "seed {seed}; told:\n{told}");
            assert_eq!(payment, Some(address), "seed {seed}: {target:?}; told:\n{told}");
        }
        assert!(world.status().await.supply.conserved);
        let results = self.submitter.results();
        for result in &results {
            assert_eq!(result["outcome"], "won", "seed {seed}: {result}; told:\n{told}");
        }
    }

    /// Waits until the wins of epoch 2 are told, unless that may have been the word of a run that
    /// was killed.
    async fn until_told(&mut self) {
        let (begun, targets) = (Instant::now(), self.world.targets(2).await);
        while self.submitter.kills == 0 {
            let results = self.submitter.results();
            let is_told = |target: &Target| {
                let of_it = |it: &Value| it["target"] == target.id && !it["paid"].is_null();
                results.iter().any(of_it)
            };
            if targets.iter().all(is_told) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "no word of the wins; told:\n{}", self.told());
            self.live(POLL).await;
        }
    }
}

/// Changes, cuts or removes documents; some stay as they are.
fn spoil(data: &Path, rng: &Rng) {
    let file = data.join((INTACT + rng.place(DOCUMENTS - INTACT)).to_string());
    // It may be elsewhere.
    match rng.below(3) {
        0 => drop(fs::remove_file(file)),
        1 => drop(cut(&file)),
        _ if file.is_file() => drop(fs::write(file, rng.text())),
        _ => {}
    }
}

/// Lives through one seed.
async fn live_through(seed: u64) {
    let world = World::start().await;
    let mut life = Life::begin(&world, seed).await;
    loop {
        let status = world.status().await;
        let (epoch, phase) = (status.clock.epoch, status.clock.phase.0);
        life.phase(&status).await;
        if epoch == LAST_EPOCH && phase == Phase::Compete {
            break;
        }
        world.end_phase().await;
    }
    life.pull().await;
    life.until_told().await;
    life.check(seed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bond_or_rent_is_lost_and_no_result_is_wrong_whatever_fails_for_a_while() {
    for seed in crate::seeds() {
        eprintln!("seed {seed}");
        let lived = tokio::time::timeout(4 * PATIENCE, Box::pin(live_through(seed))).await;
        assert!(lived.is_ok(), "seed {seed} takes too long");
    }
}
