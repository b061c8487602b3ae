//! A validator whose files rest in a cold store: they are held, shown and audited all the same, and
//! mirrors and other nodes stand in for what it loses.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use soma_codes::{Code, Coded as _};
use soma_model::Weights;
use soma_protocol::{Epoch, Phase};
use soma_sdk::api::TargetStatus;
use soma_sdk::transfer::Remote;

use crate::competition::{Claim, Corpus, commit, enter, reveal, submit};
use crate::network::{Network, wait_until};

/// How many files a folder has.
fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_rest_in_a_cold_store_until_audits_need_them_and_are_held_and_shown_all_the_while() {
    let objects = tempfile::tempdir().unwrap();
    let url = format!("file://{}", objects.path().display());
    let configure = |config: &mut soma_node::NodeConfig| {
        config.settings.weights.cold = Some(url.clone());
    };
    let network = Network::of(&Network::plan(), configure);
    let submitter = network.sender("account-3").await;
    let corpus = Corpus::commit(&submitter, &["a text that nobody has seen "]).await;
    let owners = [network.sender("account-1").await, network.sender("account-2").await];
    let weights = [1, 2].map(|seed| Weights::init(&network.architecture(), [seed; 32]).unwrap());
    let reveals = [
        commit(&network, &owners[0], "one", &weights[0]).await,
        commit(&network, &owners[1], "two", &weights[1]).await,
    ];
    let local = network.path("state/node-1/weights/ciphertexts");
    let rest = async || count(objects.path()) == 2 && count(&local) == 0;
    wait_until("no audit runs them", rest).await;
    reveal(&network, &owners, &reveals, 2).await;
    wait_until("what audits may run is on the disk", async || count(&local) == 2).await;
    let targets = network.client.targets(Some(Epoch(2))).await.unwrap();
    let claim = submit(&network, &submitter, &targets[0], &corpus, 0, Claim::True).await;
    network.go_to(3, Phase::Reveal).await;
    submitter.run(claim.publish()).await.unwrap();
    network.go_to(3, Phase::Attest).await;
    network.wait_for_attestations(&[claim.target]).await;
    network.go_to(4, Phase::Reveal).await;
    let won = network.client.target(claim.target).await.unwrap();
    assert_eq!(won.status, TargetStatus::Settled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_file_leaves_the_disk_and_is_served_from_the_cold_store_until_that_loses_it() {
    let objects = tempfile::tempdir().unwrap();
    let url = format!("file://{}", objects.path().display());
    let configure = |config: &mut soma_node::NodeConfig| {
        config.settings.weights.cold = Some(url.clone());
    };
    let network = Network::of(&Network::plan(), configure);
    let owner = network.sender("account-1").await;
    let weights = Weights::init(&network.architecture(), [1; 32]).unwrap();
    let reveal = commit(&network, &owner, "cold", &weights).await;
    let local = network.path("state/node-1/weights/ciphertexts");
    let object = objects.path().join(reveal.ciphertext_hash.to_string());
    let moved = async || object.is_file() && count(&local) == 0;
    wait_until("the file is in the cold store only", moved).await;
    let remote = Remote::ciphertext(reveal.ciphertext_hash, reveal.size_bytes);
    let to = network.path("copy");
    network.client.download(&remote, &to, &mut |_, _| ()).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), std::fs::read(&reveal.ciphertext).unwrap());

    std::fs::remove_file(&to).unwrap();
    let mut damaged = std::fs::read(&object).unwrap();
    damaged[10] ^= 1;
    std::fs::write(&object, damaged).unwrap();
    network
        .client
        .clone()
        .without_retries()
        .download(&remote, &to, &mut |_, _| ())
        .await
        .unwrap_err();
    assert!(!to.exists());
    let troubles = async || network.client.status().await.unwrap().troubles;
    let told = async || troubles().await.iter().any(|told| *told.code == Code::ColdFileLost);
    wait_until("the operator is told", told).await;
    let gone =
        network.client.clone().without_retries().download(&remote, &to, &mut |_, _| ()).await;
    assert_eq!(gone.unwrap_err().code(), Code::WeightsNotHeld);
    owner.upload(&reveal.ciphertext, reveal.ciphertext_hash, &mut |_, _| ()).await.unwrap();
    wait_until("it is put again", moved).await;
    network.client.download(&remote, &to, &mut |_, _| ()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_fetches_files_from_a_mirror_and_leaves_one_that_lies_alone() {
    let files = tempfile::tempdir().unwrap();
    let (honest, liar) = (files.path().join("honest"), files.path().join("liar"));
    let [(false_url, lies), (url, _)] = [serve(&liar).await, serve(&honest).await];
    let urls = [false_url, url];
    let configure = |config: &mut soma_node::NodeConfig| {
        config.settings.weights.mirrors = urls.to_vec();
    };
    let network = Network::of(&Network::plan(), configure);
    enter(&network).await;
    let local = network.path("state/node-1/weights/ciphertexts");
    for (folder, change) in [(&honest, 0), (&liar, 1)] {
        std::fs::create_dir(folder).unwrap();
        for entry in std::fs::read_dir(&local).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[0] ^= change;
            std::fs::write(folder.join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
    for entry in std::fs::read_dir(&local).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    wait_until("all files are back", async || count(&local) == 2).await;
    assert!(lies.load(Ordering::SeqCst) <= 2, "at most once for each file, at the same time");
    for entry in std::fs::read_dir(&local).unwrap() {
        let path = entry.unwrap().path();
        let honest = honest.join(path.file_name().unwrap());
        assert_eq!(std::fs::read(path).unwrap(), std::fs::read(honest).unwrap());
    }
}

/// Serves the files of a folder that need not exist yet. Returns its URL, and how many it served.
async fn serve(folder: &Path) -> (String, Arc<AtomicUsize>) {
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let folder = folder.to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = async move |uri: axum::http::Uri| {
        let file = std::fs::read(folder.join(uri.path().trim_start_matches('/')));
        count.fetch_add(usize::from(file.is_ok()), Ordering::SeqCst);
        file.map_err(|_| axum::http::StatusCode::NOT_FOUND)
    };
    let app = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, served)
}
