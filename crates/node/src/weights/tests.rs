//! Uploads, reads and removal of weights files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use proptest::prelude::*;
use soma_codes::Coded as _;
use soma_protocol::{Address, Hash};
use soma_sdk::{Secret, cipher};
use tempfile::TempDir;

use super::needed::{Ciphertext, Needed, Revealed};
use super::{Progress, WeightsStore};
use crate::error::NodeError;

const OWNER: Address = Address([1; 32]);

struct Fixture {
    dir: TempDir,
    store: Arc<WeightsStore>,
    plain: Vec<u8>,
    ciphertext: Vec<u8>,
}

impl Fixture {
    fn new(size_bytes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(WeightsStore::open(dir.path(), Arc::default()).unwrap());
        let mut plain = vec![0; size_bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut plain);
        let mut ciphertext = plain.clone();
        cipher::apply(&Secret::from_bytes([3; 32]), 0, &mut ciphertext).unwrap();
        let fixture = Self { dir, store, plain, ciphertext };
        fixture.store.set_needed(fixture.needed());
        fixture
    }

    fn hash(&self) -> Hash {
        Hash::of_bytes(&self.ciphertext)
    }

    fn size_bytes(&self) -> u64 {
        self.ciphertext.len() as u64
    }

    fn file(&self) -> Ciphertext {
        Ciphertext { size_bytes: self.size_bytes(), owners: BTreeSet::from([OWNER]) }
    }

    fn needed(&self) -> Needed {
        let revealed = Revealed { ciphertext_hash: self.hash(), key: [3; 32] };
        Needed {
            files: BTreeMap::from([(self.hash(), self.file())]),
            revealed: BTreeMap::from([(Hash::of_bytes(&self.plain), revealed)]),
        }
    }

    fn send(&self, offset: usize, bytes: &[u8]) -> Result<Progress, NodeError> {
        let mut upload = self.store.upload(self.hash(), OWNER, self.size_bytes(), offset as u64)?;
        bytes.chunks(1_000).try_for_each(|piece| upload.write(piece))?;
        upload.finish()
    }

    fn upload_all(&self) {
        assert!(self.send(0, &self.ciphertext).unwrap().complete);
    }
}

#[test]
fn an_upload_resumes_where_it_stopped_even_after_a_restart() {
    let mut fixture = Fixture::new(10_000);
    let progress = fixture.send(0, &fixture.ciphertext[..4_321]).unwrap();
    assert_eq!((progress.received_bytes, progress.complete), (4_321, false));
    fixture.store = Arc::new(WeightsStore::open(fixture.dir.path(), Arc::default()).unwrap());
    assert_eq!(fixture.store.progress(&fixture.hash(), &OWNER, 10_000).received_bytes, 4_321);
    let wrong = fixture.send(4_000, &fixture.ciphertext[4_000..]).unwrap_err();
    assert!(matches!(wrong, NodeError::UploadOffset { received_bytes: 4_321 }));
    assert!(fixture.send(4_321, &fixture.ciphertext[4_321..]).unwrap().complete);
    assert!(fixture.store.holds(&fixture.hash()));
}

#[test]
fn a_file_with_the_wrong_hash_is_removed_and_the_right_one_is_still_accepted() {
    let fixture = Fixture::new(5_000);
    let mut wrong = fixture.ciphertext.clone();
    wrong[4_999] ^= 1;
    let error = fixture.send(0, &wrong).unwrap_err();
    assert_eq!(error.code().as_str(), "ciphertext_mismatch");
    assert!(!fixture.store.holds(&fixture.hash()));
    fixture.upload_all();
}

#[test]
fn more_bytes_than_committed_are_refused() {
    let fixture = Fixture::new(5_000);
    let mut long = fixture.ciphertext.clone();
    long.extend([0; 1_000]);
    assert_eq!(fixture.send(0, &long).unwrap_err().code().as_str(), "upload_too_long");
    assert!(!fixture.store.holds(&fixture.hash()), "it was not finished");
    assert!(
        fixture.store.finish_upload(fixture.hash(), OWNER, 5_000).unwrap().complete,
        "the bytes that fitted were kept"
    );
}

#[test]
fn two_uploads_of_one_file_never_mix() {
    let fixture = Fixture::new(5_000);
    let first = fixture.store.upload(fixture.hash(), OWNER, 5_000, 0).unwrap();
    assert!(matches!(fixture.send(0, &fixture.ciphertext), Err(NodeError::UploadBusy { .. })));
    drop(first);
    fixture.upload_all();
}

#[test]
fn an_account_that_names_the_same_file_cannot_block_the_upload_of_its_owner() {
    let fixture = Fixture::new(5_000);
    let other = Address([2; 32]);
    assert!(fixture.store.may_upload(&fixture.hash(), &OWNER));
    assert!(!fixture.store.may_upload(&fixture.hash(), &other));
    let mut begun = fixture.store.upload(fixture.hash(), other, 5_000, 0).unwrap();
    begun.write(b"junk").unwrap();
    fixture.upload_all();
    drop(begun);
    fixture.store.sweep().unwrap();
    assert!(fixture.store.holds(&fixture.hash()));
    assert!(fixture.store.files("partial").unwrap().is_empty());
}

#[test]
fn a_wrong_key_gives_an_error_and_no_file() {
    let fixture = Fixture::new(5_000);
    fixture.upload_all();
    let weights_hash = Hash::of_bytes(&fixture.plain);
    let mut needed = fixture.needed();
    needed
        .revealed
        .insert(weights_hash, Revealed { ciphertext_hash: fixture.hash(), key: [4; 32] });
    fixture.store.set_needed(needed);
    assert_eq!(
        fixture.store.plain_file(&weights_hash).unwrap_err().code().as_str(),
        "weights_mismatch"
    );
    fixture.store.set_needed(fixture.needed());
    let path = fixture.store.plain_file(&weights_hash).unwrap();
    assert_eq!(fs::read(path).unwrap(), fixture.plain);
}

#[test]
fn a_ciphertext_that_was_damaged_on_this_disk_is_removed_and_can_be_uploaded_again() {
    let fixture = Fixture::new(5_000);
    fixture.upload_all();
    let weights_hash = Hash::of_bytes(&fixture.plain);
    fixture.store.check_ciphertext(&weights_hash).unwrap();
    let path = fixture.store.path("ciphertexts", &fixture.hash());
    let mut damaged = fixture.ciphertext.clone();
    damaged[100] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let plain = fixture.store.plain_file(&weights_hash);
    assert_eq!(plain.unwrap_err().code().as_str(), "weights_mismatch");
    let checked = fixture.store.check_ciphertext(&weights_hash);
    assert_eq!(checked.unwrap_err().code().as_str(), "ciphertext_mismatch");
    assert!(!path.exists(), "there is room for a good one");
    fixture.upload_all();
    fixture.store.plain_file(&weights_hash).unwrap();
}

#[test]
fn files_that_no_rule_needs_are_removed_and_no_others() {
    let fixture = Fixture::new(5_000);
    fixture.upload_all();
    let weights_hash = Hash::of_bytes(&fixture.plain);
    let plain = fixture.store.plain_file(&weights_hash).unwrap();
    fixture.store.sweep().unwrap();
    assert!(fixture.store.holds(&fixture.hash()) && plain.is_file());
    fixture.store.set_needed(Needed::default());
    fixture.store.sweep().unwrap();
    assert!(!fixture.store.holds(&fixture.hash()) && !plain.exists());
    assert_eq!(
        fixture.store.plaintext(&weights_hash).err().unwrap().code().as_str(),
        "weights_not_found"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_of_an_upload_gives_the_file_and_any_range_of_it_is_the_plaintext(
        cuts in prop::collection::vec(0usize..20_000, 0..5),
        ranges in prop::collection::vec((0usize..20_000, 0usize..20_000), 1..8),
    ) {
        let fixture = Fixture::new(20_000);
        let mut cuts = cuts;
        cuts.extend([0, 20_000]);
        cuts.sort_unstable();
        for cut in cuts.windows(2) {
            fixture.send(cut[0], &fixture.ciphertext[cut[0]..cut[1]]).unwrap();
        }
        let mut plain = fixture.store.plaintext(&Hash::of_bytes(&fixture.plain)).unwrap();
        let mut encrypted = fixture.store.ciphertext(&fixture.hash()).unwrap();
        for (a, b) in ranges {
            let range = a.min(b)..a.max(b);
            let mut bytes = vec![0; range.len()];
            plain.read_at(range.start as u64, &mut bytes).unwrap();
            prop_assert_eq!(&bytes, &fixture.plain[range.clone()]);
            encrypted.read_at(range.start as u64, &mut bytes).unwrap();
            prop_assert_eq!(&bytes, &fixture.ciphertext[range]);
        }
    }
}
