//! Files that leave the disk, and all that can become of them in a cold store: a bucket of a small
//! server on a real socket that fails as it is told, and a folder.

use std::sync::Arc;
use std::time::{Duration, Instant};

use soma_codes::{Code, Coded as _};
use soma_protocol::storage::{self, Challenge};
use soma_protocol::{Hash, ModelId};
use soma_sdk::Trust;

use super::{Cold, UNNEEDED};
use crate::bucket::fake::{FakeS3, Fault};
use crate::error::NodeError;
use crate::weights::WeightsStore;
use crate::weights::needed::Needed;
use crate::weights::tests::{Fixture, LIMITS, needed};
use crate::weights::tree::GROUP_BYTES;

/// Five groups and a part of one.
const SIZE: usize = 5 * (256 << 10) + 4_321;
const MINUTE: Duration = Duration::from_mins(1);

/// A node with a file, and its bucket.
struct Node {
    fixture: Fixture,
    cold: Arc<Cold>,
    fake: FakeS3,
    now: Instant,
}

impl Node {
    async fn start(size: usize) -> Self {
        let (fake, bucket) = FakeS3::start().await;
        let mut opened = None;
        let fixture = Fixture::with(size, |dir| {
            opened = Some(Arc::new(Cold::over(dir, bucket).unwrap()));
            opened.clone()
        });
        fixture.store.set_needed(Needed { bytes_max: size as u64, ..fixture.needed() });
        fixture.upload_all();
        Self { fixture, cold: opened.unwrap(), fake, now: Instant::now() }
    }

    /// One whose file is in the bucket only.
    async fn cold(size: usize) -> Self {
        let mut node = Self::start(size).await;
        node.tend().await.unwrap();
        assert!(!node.is_here() && node.holds());
        node
    }

    fn store(&self) -> &WeightsStore {
        &self.fixture.store
    }

    /// Tends to the cold store an hour later.
    async fn tend(&mut self) -> Result<(), NodeError> {
        self.now += UNNEEDED;
        self.store().tend(&self.cold, self.now).await
    }

    fn is_here(&self) -> bool {
        self.store().is_here(&self.fixture.hash())
    }

    fn holds(&self) -> bool {
        self.store().holds(&self.fixture.file())
    }

    fn is_missing(&self) -> bool {
        self.store().missing() == [self.fixture.file()]
    }

    fn object(&self) -> String {
        format!("a/b/{}", self.fixture.hash())
    }

    fn troubles(&self) -> Vec<Code> {
        self.cold.troubles().into_iter().map(|(code, _)| code).collect()
    }

    /// Reads bytes of the file where it is.
    fn read(&self, from: usize, to: usize) -> Result<Vec<u8>, NodeError> {
        let mut file = self.store().ciphertext(&self.fixture.hash())?;
        let mut bytes = vec![0; to - from];
        file.read_at(from as u64, &mut bytes)?;
        Ok(bytes)
    }

    /// Lets an audit need the file.
    fn audit(&self) {
        let mut needed = self.fixture.needed();
        needed.audited.insert(self.fixture.file());
        self.store().set_needed(needed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_leaves_the_disk_only_after_the_cold_store_was_made_sure_of() {
    for size in [5_000, SIZE] {
        let mut node = Node::start(size).await;
        let revealed = node.fixture.revealed();
        let plain = node.store().plain_file(&revealed).unwrap().unwrap();
        for fault in [Fault::Unavailable, Fault::Refuses, Fault::Shortens, Fault::Changes] {
            node.fake.fail(fault);
            assert!(node.tend().await.is_err(), "{fault:?}");
            assert!(node.is_here() && plain.is_file(), "{fault:?}");
        }
        node.fake.fail(Fault::None);
        node.tend().await.unwrap();
        assert!(!node.is_here() && node.holds() && !node.is_missing(), "{size}");
        assert!(!plain.exists(), "nor does its copy stay");
        assert_eq!(node.fake.names(), [node.object()]);
        assert_eq!(node.read(0, size).unwrap(), node.fixture.ciphertext);
        assert!(node.troubles().is_empty(), "{size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_put_in_parts_and_one_that_this_disk_damaged_never_appears() {
    let size = 9 << 20;
    let mut node = Node::start(size).await;
    let path = node.store().path("ciphertexts", &node.fixture.hash());
    let mut damaged = node.fixture.ciphertext.clone();
    damaged[size - 1] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    assert_eq!(node.tend().await.unwrap_err().code(), Code::CiphertextMismatch);
    assert!(node.fake.names().is_empty() && !node.holds() && node.is_missing());
    node.fixture.upload_all();
    node.tend().await.unwrap();
    assert!(!node.is_here());
    assert_eq!(node.read(size - 70_000, size).unwrap(), node.fixture.ciphertext[size - 70_000..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_audits_run_stays_on_the_disk_or_comes_back_and_is_verified() {
    let mut node = Node::start(SIZE).await;
    node.audit();
    node.tend().await.unwrap();
    assert!(node.is_here(), "an audit may run it");
    let mut node = Node::cold(SIZE).await;
    let revealed = node.fixture.revealed();
    let refused = node.store().plain_file(&revealed).unwrap_err();
    assert_eq!(refused.code(), Code::WeightsNotHeld, "the audit waits for it");
    node.audit();
    assert!(node.is_missing());
    assert!(node.store().recall(&node.fixture.file()).await);
    let plain = node.store().plain_file(&revealed).unwrap().unwrap();
    assert_eq!(std::fs::read(plain).unwrap(), node.fixture.plain);
    node.store().set_needed(node.fixture.needed());
    node.tend().await.unwrap();
    assert!(!node.is_here(), "it leaves again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_challenge_is_answered_after_reading_one_group_of_the_object() {
    let node = Node::cold(SIZE).await;
    for chunk in [0, 300, 1_023, 1_280, SIZE as u64 / 1_024] {
        let before = node.fake.read_bytes();
        let mut file = node.store().ciphertext(&node.fixture.hash()).unwrap();
        let challenge = Challenge {
            model: ModelId(1),
            ciphertext_hash: node.fixture.hash(),
            size_bytes: SIZE as u64,
            chunk,
        };
        let start = chunk * storage::CHUNK_BYTES;
        let length = storage::CHUNK_BYTES.min(SIZE as u64 - start);
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        file.read_at(start, &mut bytes).unwrap();
        let subtree = |offset, length| file.subtree(offset, length);
        let path = storage::path(SIZE as u64, chunk, subtree).unwrap();
        assert!(storage::verifies(&challenge, &bytes, &path), "{chunk}");
        assert!(node.fake.read_bytes() - before <= usize::try_from(GROUP_BYTES).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revealed_weights_are_served_from_the_cold_store_in_any_range() {
    let node = Node::cold(SIZE).await;
    let mut weights = node.store().plaintext(&node.fixture.weights_hash()).unwrap();
    for (from, to) in [(0, 10), (262_000, 263_000), (100, SIZE), (SIZE - 1, SIZE)] {
        let mut bytes = vec![0; to - from];
        weights.read_at(from as u64, &mut bytes).unwrap();
        assert_eq!(bytes, node.fixture.plain[from..to]);
    }
    assert!(weights.read_at(SIZE as u64, &mut [0]).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_object_is_noticed_and_named_and_fetched_from_others_and_put_again() {
    let mut node = Node::cold(SIZE).await;
    node.fake.with_object(&node.object(), |object| {
        object[300_000] ^= 1;
        true
    });
    assert_eq!(node.read(0, 1_000).unwrap(), node.fixture.ciphertext[..1_000]);
    assert_eq!(node.read(299_000, 299_001).unwrap_err().code(), Code::WeightsNotHeld);
    assert!(!node.holds() && node.is_missing(), "it is not attested, and others are asked for it");
    let (code, message) = node.cold.troubles().remove(0);
    assert_eq!(code, Code::ColdFileLost);
    assert!(message.contains(&node.fixture.hash().to_string()), "{message}");
    node.fixture.upload_all();
    assert!(node.holds());
    node.tend().await.unwrap();
    assert!(!node.is_here());
    assert_eq!(node.read(0, SIZE).unwrap(), node.fixture.ciphertext);
    assert!(node.troubles().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_gone_or_has_another_length_is_noticed_when_objects_are_listed() {
    for is_kept in [false, true] {
        let mut node = Node::cold(SIZE).await;
        node.fake.with_object(&node.object(), |object| {
            object.pop();
            is_kept
        });
        node.tend().await.unwrap();
        assert!(!node.holds() && node.is_missing());
        assert_eq!(node.troubles(), [Code::ColdFileLost]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_store_that_fails_attests_nothing_and_what_is_asked_for_is_fetched_from_others() {
    let mut node = Node::cold(5_000).await;
    let file = node.fixture.file();
    assert!(node.store().can_show(&file));
    for fault in [Fault::Unavailable, Fault::Cuts] {
        node.fake.fail(fault);
        assert_eq!(node.read(0, 10).unwrap_err().code(), Code::ColdStore);
        assert!(node.holds() && !node.store().can_show(&file) && node.is_missing());
        assert!(!node.store().recall(&file).await, "others are asked at once");
        assert_eq!(node.troubles(), [Code::ColdStore]);
    }
    node.fake.fail(Fault::None);
    node.tend().await.unwrap();
    assert!(node.troubles().is_empty() && node.store().can_show(&file));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_deleted_once_nobody_has_needed_their_files_for_a_while() {
    let mut node = Node::cold(5_000).await;
    node.store().set_needed(needed(&[]));
    node.now += MINUTE;
    node.store().tend(&node.cold, node.now).await.unwrap();
    assert_eq!(node.fake.names().len(), 1, "the chain may be caught up with only now");
    node.tend().await.unwrap();
    assert!(node.fake.names().is_empty() && node.cold.size_bytes(&node.fixture.hash()).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_stay_on_the_disk_stays() {
    let (_, bucket) = FakeS3::start().await;
    let fixture = Fixture::with(5_000, |_| None);
    fixture.upload_all();
    let cold = Arc::new(Cold::over(&fixture.dir.path().join("cold"), bucket).unwrap());
    for (local_bytes_max, stays) in [(5_000, true), (4_999, false)] {
        let limits = crate::settings::WeightsSettings { local_bytes_max, ..LIMITS };
        let cold = Some(Arc::clone(&cold));
        let store = WeightsStore::open(fixture.dir.path(), limits, cold, Arc::default()).unwrap();
        store.set_needed(fixture.needed());
        store.tend(store.cold().unwrap(), Instant::now()).await.unwrap();
        assert_eq!(store.is_here(&fixture.hash()), stays);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_a_cold_store_that_a_restart_knows_and_a_new_disk_is_filled_from() {
    let objects = tempfile::tempdir().unwrap();
    let url = format!("file://{}", objects.path().display());
    let open =
        |records: &std::path::Path| Arc::new(Cold::open(records, &url, &Trust::system()).unwrap());
    let fixture = Fixture::with(SIZE, |dir| Some(open(dir)));
    fixture.store.set_needed(Needed { bytes_max: SIZE as u64, ..fixture.needed() });
    fixture.upload_all();
    let cold = Arc::clone(fixture.store.cold().unwrap());
    fixture.store.tend(&cold, Instant::now()).await.unwrap();
    assert!(objects.path().join(fixture.hash().to_string()).is_file());
    let records = fixture.dir.path().join("cold");
    assert_eq!(open(&records).size_bytes(&fixture.hash()), Some(SIZE as u64));
    // A damaged record counts for nothing, and goes.
    let record = records.join(fixture.hash().to_string());
    let mut bytes = std::fs::read(&record).unwrap();
    bytes[50] ^= 1;
    std::fs::write(&record, bytes).unwrap();
    assert_eq!(open(&records).size_bytes(&fixture.hash()), None);
    assert!(!record.exists());

    let empty = tempfile::tempdir().unwrap();
    let cold = Some(open(&empty.path().join("cold")));
    let store = WeightsStore::open(empty.path(), LIMITS, cold, Arc::default()).unwrap();
    store.set_needed(Needed { bytes_max: SIZE as u64, ..fixture.needed() });
    assert_eq!(store.missing(), [fixture.file()]);
    store.tend(store.cold().unwrap(), Instant::now()).await.unwrap();
    assert!(store.recall(&fixture.file()).await && store.is_here(&fixture.hash()));
    assert_eq!(
        Hash::of_bytes(&std::fs::read(store.path("ciphertexts", &fixture.hash())).unwrap()),
        fixture.hash()
    );
}
