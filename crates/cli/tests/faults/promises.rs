//! What people met who submit and publish, one promise each.

use std::fs;
use std::path::Path;

use serde_json::Value;
use soma_protocol::Phase;
use tokio::time::{Duration, sleep};

use crate::command::{End, Running};
use crate::machine::Broken;
use crate::proxy::Proxy;
use crate::rng::Rng;
use crate::world::{OWNER, SUBMITTER, World};

/// A network, a folder with documents, and a proxy.
struct Scene {
    world: World,
    proxy: Proxy,
}

impl Scene {
    async fn start() -> Self {
        let world = World::start().await;
        let rng = Rng::new(9);
        let proxy = Proxy::start(world.api(), rng.clone()).await;
        fs::create_dir(world.at("data")).unwrap();
        for number in 0..3 {
            fs::write(world.at("data").join(number.to_string()), rng.text()).unwrap();
        }
        Self { world, proxy }
    }

    /// Starts a command of an account, from its own home.
    fn run(&self, account: &str, home: &str, arguments: &[&str]) -> Running {
        let key = self.world.key(account);
        let common = ["--key", &key, "--url", &self.proxy.url];
        let arguments = [arguments, &common].concat();
        Running::start(&self.world.at(home), &self.world.at(""), &arguments)
    }

    /// Starts to submit the folder, and waits until its documents are committed.
    async fn submit(&self, flags: &[&str]) -> Running {
        let arguments = [&["submit", "data", "--threads", "1"], flags].concat();
        let running = self.run(SUBMITTER, SUBMITTER, &arguments);
        let (client, address) = (&self.world.client, self.world.submitter());
        let committed = async || client.account(address).await.unwrap().next_corpus.is_some();
        self.world.until("the documents are committed", committed).await;
        running
    }

    /// Waits until the submitter has a candidate for all targets of epoch 2.
    async fn entered(&self) {
        let targets = self.world.targets(2).await.len();
        let entered = async || self.world.entered(2).await.len() == targets;
        self.world.until("all targets are entered", entered).await;
    }

    /// Waits until what was entered in epoch 2 is published, and ends its settlement.
    async fn published(&self) {
        self.world.go_to(3, Phase::Reveal).await;
        let published = async || {
            let entered = self.world.entered(2).await;
            entered.iter().all(|target| target.publication.is_some())
        };
        self.world.until("all is published", published).await;
        self.world.go_to(4, Phase::Compete).await;
        let address = self.world.submitter();
        for target in self.world.targets(2).await {
            assert_eq!(target.payment.unwrap().submitter.0, address);
        }
    }

    async fn says(&self, running: &Running, text: &str) {
        self.world.until(text, async || running.said().contains(text)).await;
    }
}

async fn end(running: &mut Running) -> End {
    loop {
        if let Some(end) = running.ended() {
            return end;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_entered_is_published_though_its_folder_has_vanished() {
    let scene = Scene::start().await;
    let mut submitting = scene.submit(&["--watch"]).await;
    scene.world.go_to(2, Phase::Compete).await;
    scene.entered().await;
    fs::rename(scene.world.at("data"), scene.world.at("elsewhere")).unwrap();
    scene.published().await;
    scene.says(&submitting, "data").await;
    let won = async || submitting.printed().matches("\"outcome\":\"won\"").count() == 2;
    scene.world.until("both wins are told", won).await;
    assert!(submitting.ended().is_none(), "{}", submitting.said());
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_read_is_told_and_counted_and_the_others_are_entered() {
    let scene = Scene::start().await;
    std::os::unix::fs::symlink("nothing", scene.world.at("data").join("link")).unwrap();
    let mut submitting = scene.submit(&[]).await;
    scene.world.go_to(2, Phase::Compete).await;
    scene.entered().await;
    scene.published().await;
    let end = end(&mut submitting).await;
    assert!(matches!(&end, End::Failure(code) if code == "left_out"), "{end:?}");
    let printed = submitting.printed();
    let summary: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(summary["submissions"].as_array().unwrap().len(), 2, "{summary}");
    let left_out = summary["left_out"].as_array().unwrap();
    assert_eq!(left_out.len(), 1, "{summary}");
    assert_eq!(left_out[0]["file"], "data/link");
    assert_eq!(left_out[0]["code"], "file_not_found");
    assert!(submitting.said().contains("data/link is left out"), "{}", submitting.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_delays_submissions_and_publications_and_loses_none() {
    let scene = Scene::start().await;
    let mut submitting = scene.submit(&["--watch"]).await;
    let full = Broken::full(submitting.process());
    if matches!(full, Broken::Lost) {
        println!("skipped: there is no `prlimit` here");
        return;
    }
    scene.world.go_to(2, Phase::Compete).await;
    scene.says(&submitting, "trying again").await;
    assert!(scene.world.entered(2).await.is_empty(), "what cannot be kept is not sent");
    full.fix();
    scene.entered().await;
    let full = Broken::full(submitting.process());
    scene.published().await;
    full.fix();
    assert!(submitting.ended().is_none(), "{}", submitting.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_is_entered_once_a_request_that_was_refused_is_answered() {
    let scene = Scene::start().await;
    let mut submitting = scene.submit(&[]).await;
    scene.proxy.refuse(Some("/v1/architecture"));
    scene.world.go_to(2, Phase::Compete).await;
    scene.says(&submitting, "trying again").await;
    assert!(submitting.ended().is_none(), "{}", submitting.said());
    scene.proxy.refuse(None);
    scene.entered().await;
    scene.published().await;
    let end = end(&mut submitting).await;
    assert!(matches!(end, End::Success), "{end:?}: {}", submitting.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_and_submissions_with_one_key_all_get_through() {
    let scene = Scene::start().await;
    let mut submitting = scene.submit(&["--watch"]).await;
    let to = scene.world.submitter().to_string();
    let send = |_| scene.run(SUBMITTER, SUBMITTER, &["send", &to, "1"]);
    let mut sends: Vec<Running> = (0..3).map(send).collect();
    scene.world.go_to(2, Phase::Compete).await;
    sends.extend((0..3).map(send));
    scene.entered().await;
    for running in &mut sends {
        let end = end(running).await;
        assert!(matches!(end, End::Success), "{end:?}: {}", running.said());
    }
    assert!(submitting.ended().is_none(), "{}", submitting.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reveals_without_the_spool_is_told_of_the_commit_and_of_what_is_lost() {
    let scene = Scene::start().await;
    let mut revealing = scene.run(OWNER, "elsewhere", &["model", "reveal"]);
    let end = end(&mut revealing).await;
    assert!(matches!(&end, End::Failure(code) if code == "nothing_due"), "{end:?}");
    let said = revealing.said();
    assert!(said.contains("model 1 has a commit for epoch 2"), "{said}");
    assert!(said.contains("its rent and a part of the stake are lost"), "{said}");
}

/// The most memory that a process has held so far, in bytes.
#[cfg(target_os = "linux")]
fn peak_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_a_folder_that_is_submitted() {
    const LARGE_BYTES: usize = 96 << 20;
    let small = Scene::start().await;
    let few = peak_bytes(small.submit(&[]).await.process());
    let large = Scene::start().await;
    write_random(&large.world.at("data").join("large"), LARGE_BYTES);
    let many = peak_bytes(large.submit(&[]).await.process());
    let grown = many.saturating_sub(few);
    assert!(grown < LARGE_BYTES as u64 / 4, "{grown} bytes more than {few}");
}

#[cfg(target_os = "linux")]
fn write_random(path: &Path, bytes: usize) {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    fs::write(path, content).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_in_which_no_document_can_be_read_is_entered_when_they_are_back() {
    let scene = Scene::start().await;
    let mut submitting = scene.submit(&["--watch"]).await;
    let away = Broken::moved(&scene.world.at("data"));
    scene.world.go_to(2, Phase::Compete).await;
    scene.says(&submitting, "trying again").await;
    away.fix();
    scene.entered().await;
    assert!(submitting.ended().is_none(), "{}", submitting.said());
}
