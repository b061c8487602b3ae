//! Uploads, reads and removal of weights files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use soma_codes::Coded as _;
use soma_protocol::record::RevealedFile;
use soma_protocol::{Address, Epoch, Hash, ModelId};
use soma_sdk::{Secret, cipher};
use tempfile::TempDir;

use super::cold::Cold;
use super::needed::{Ciphertext, Named, Needed, Revealed};
use super::{Progress, WeightsStore};
use crate::error::NodeError;
use crate::settings::WeightsSettings;

const OWNER: Address = Address([1; 32]);
const MODEL: ModelId = ModelId(1);
pub(super) const LIMITS: WeightsSettings =
    WeightsSettings { free_bytes_min: 0, local_bytes_max: 0, cold: None, mirrors: Vec::new() };

pub(super) struct Fixture {
    pub(super) dir: TempDir,
    pub(super) store: Arc<WeightsStore>,
    pub(super) plain: Vec<u8>,
    pub(super) ciphertext: Vec<u8>,
}

impl Fixture {
    fn new(size_bytes: usize) -> Self {
        Self::with(size_bytes, |_| None)
    }

    /// With a cold store whose records are in a folder.
    pub(super) fn with(size_bytes: usize, cold: impl FnOnce(&Path) -> Option<Arc<Cold>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cold = cold(&dir.path().join("cold"));
        let store = WeightsStore::open(dir.path(), LIMITS, cold, Arc::default()).unwrap();
        let store = Arc::new(store);
        let mut plain = vec![0; size_bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut plain);
        let mut ciphertext = plain.clone();
        cipher::apply(&Secret::from_bytes([3; 32]), 0, &mut ciphertext).unwrap();
        let fixture = Self { dir, store, plain, ciphertext };
        fixture.store.set_needed(fixture.needed());
        fixture
    }

    pub(super) fn hash(&self) -> Hash {
        Hash::of_bytes(&self.ciphertext)
    }

    pub(super) fn file(&self) -> Ciphertext {
        Ciphertext { hash: self.hash(), size_bytes: self.ciphertext.len() as u64 }
    }

    pub(super) fn weights_hash(&self) -> Hash {
        Hash::of_bytes(&self.plain)
    }

    /// The weights as their owner reveals them.
    pub(super) fn revealed(&self) -> Revealed {
        let Ciphertext { hash: ciphertext_hash, size_bytes } = self.file();
        let file = RevealedFile { ciphertext_hash, size_bytes, key: [3; 32] };
        Revealed { weights_hash: self.weights_hash(), file }
    }

    /// The same weights as revealed by a model with a file of its own: these bytes.
    fn revealed_by_another(&self, file: &[u8]) -> Revealed {
        let (ciphertext_hash, size_bytes) = (Hash::of_bytes(file), file.len() as u64);
        let file = RevealedFile { ciphertext_hash, size_bytes, key: [7; 32] };
        Revealed { weights_hash: self.weights_hash(), file }
    }

    pub(super) fn needed(&self) -> Needed {
        needed(&[self.revealed()])
    }

    fn send(&self, offset: usize, bytes: &[u8]) -> Result<Progress, NodeError> {
        let mut upload = self.store.upload(self.file(), OWNER, offset as u64)?;
        bytes.chunks(1_000).try_for_each(|piece| upload.write(piece))?;
        upload.finish()
    }

    pub(super) fn upload_all(&self) {
        assert!(self.send(0, &self.ciphertext).unwrap().complete);
    }
}

/// A file that one model names, in a commit.
fn named(model: ModelId, owner: Address) -> Named {
    Named { models: BTreeMap::from([(model, owner)]), is_revealed: false }
}

/// What is needed if exactly these are revealed.
pub(super) fn needed(revealed: &[Revealed]) -> Needed {
    let mut needed = Needed { epoch: Epoch(1), bytes_max: 5_000, ..Needed::default() };
    for revealed in revealed {
        needed.files.insert(revealed.ciphertext(), named(MODEL, OWNER));
        let of_weights = needed.revealed.entry(revealed.weights_hash).or_default();
        of_weights.insert(revealed.id(), *revealed);
    }
    needed
}

#[test]
fn an_upload_resumes_where_it_stopped_even_after_a_restart() {
    let mut fixture = Fixture::new(10_000);
    let progress = fixture.send(0, &fixture.ciphertext[..4_321]).unwrap();
    assert_eq!((progress.received_bytes, progress.complete), (4_321, false));
    fixture.store =
        Arc::new(WeightsStore::open(fixture.dir.path(), LIMITS, None, Arc::default()).unwrap());
    fixture.store.set_needed(Needed { bytes_max: 10_000, ..fixture.needed() });
    assert_eq!(fixture.store.progress(&fixture.file(), &OWNER).received_bytes, 4_321);
    let wrong = fixture.send(4_000, &fixture.ciphertext[4_000..]).unwrap_err();
    assert!(matches!(wrong, NodeError::UploadOffset { received_bytes: 4_321 }));
    assert!(fixture.send(4_321, &fixture.ciphertext[4_321..]).unwrap().complete);
    assert!(fixture.store.holds(&fixture.file()));
}

#[test]
fn a_file_with_the_wrong_hash_is_removed_and_the_right_one_is_still_accepted() {
    let fixture = Fixture::new(5_000);
    let mut wrong = fixture.ciphertext.clone();
    wrong[4_999] ^= 1;
    let error = fixture.send(0, &wrong).unwrap_err();
    assert_eq!(error.code().as_str(), "ciphertext_mismatch");
    assert!(!fixture.store.holds(&fixture.file()));
    fixture.upload_all();
}

#[test]
fn more_bytes_than_committed_are_refused() {
    let fixture = Fixture::new(5_000);
    let mut long = fixture.ciphertext.clone();
    long.extend([0; 1_000]);
    assert_eq!(fixture.send(0, &long).unwrap_err().code().as_str(), "upload_too_long");
    assert!(!fixture.store.holds(&fixture.file()), "it was not finished");
    assert!(
        fixture.store.finish_upload(fixture.file(), OWNER).unwrap().complete,
        "the bytes that fitted were kept"
    );
}

#[test]
fn two_uploads_of_one_file_never_mix() {
    let fixture = Fixture::new(5_000);
    let first = fixture.store.upload(fixture.file(), OWNER, 0).unwrap();
    assert!(matches!(fixture.send(0, &fixture.ciphertext), Err(NodeError::UploadBusy { .. })));
    drop(first);
    fixture.upload_all();
}

#[test]
fn an_account_that_names_the_same_file_cannot_block_the_upload_of_its_owner() {
    let fixture = Fixture::new(5_000);
    let other = Address([2; 32]);
    assert!(fixture.store.may_upload(&fixture.file(), &OWNER));
    assert!(!fixture.store.may_upload(&fixture.file(), &other));
    let mut needed = fixture.needed();
    let named = needed.files.get_mut(&fixture.file()).unwrap();
    named.models.insert(ModelId(2), other);
    fixture.store.set_needed(needed);
    assert!(fixture.store.may_upload(&fixture.file(), &other));
    let mut begun = fixture.store.upload(fixture.file(), other, 0).unwrap();
    begun.write(b"junk").unwrap();
    fixture.upload_all();
    drop(begun);
    fixture.store.sweep().unwrap();
    assert!(fixture.store.holds(&fixture.file()));
    assert!(fixture.store.files("partial").unwrap().is_empty());
}

#[test]
fn a_file_that_is_not_needed_anymore_is_due_for_removal_however_often_the_state_is_read() {
    let fixture = Fixture::new(5_000);
    fixture.upload_all();
    assert!(!fixture.store.is_unswept());
    for _ in 0..2 {
        fixture.store.set_needed(needed(&[]));
        assert!(fixture.store.is_unswept());
    }
    fixture.store.sweep().unwrap();
    assert!(!fixture.store.is_unswept() && !fixture.store.holds(&fixture.file()));
}

#[test]
fn a_wrong_key_is_a_broken_file_and_leaves_no_copy() {
    let fixture = Fixture::new(5_000);
    fixture.upload_all();
    let mut wrong = fixture.revealed();
    wrong.file.key = [4; 32];
    fixture.store.set_needed(needed(&[wrong]));
    assert_eq!(fixture.store.plain_file(&wrong).unwrap(), None);
    let served = fixture.store.plaintext(&fixture.weights_hash());
    assert_eq!(served.err().unwrap().code().as_str(), "weights_mismatch");
    fixture.store.set_needed(fixture.needed());
    let path = fixture.store.plain_file(&fixture.revealed()).unwrap().unwrap();
    assert_eq!(fs::read(path).unwrap(), fixture.plain);
    assert_eq!(fixture.store.plain_file(&wrong).unwrap(), None, "whatever else is known");
}

#[test]
fn a_ciphertext_that_was_damaged_on_this_disk_is_removed_and_can_be_uploaded_again() {
    let fixture = Fixture::new(5_000);
    fixture.upload_all();
    let path = fixture.store.path("ciphertexts", &fixture.hash());
    let mut damaged = fixture.ciphertext.clone();
    damaged[100] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let plain = fixture.store.plain_file(&fixture.revealed());
    assert_eq!(plain.unwrap_err().code().as_str(), "ciphertext_mismatch");
    assert!(!path.exists(), "there is room for a good one");
    fixture.upload_all();
    assert!(fixture.store.plain_file(&fixture.revealed()).unwrap().is_some());
}

#[test]
fn a_copy_that_was_damaged_on_this_disk_is_removed_and_made_again() {
    let fixture = Fixture::new(5_000);
    fixture.upload_all();
    let revealed = fixture.revealed();
    let path = fixture.store.plain_file(&revealed).unwrap().unwrap();
    fixture.store.check_plain(&revealed).unwrap();
    fs::write(&path, b"junk").unwrap();
    let damaged = fixture.store.check_plain(&revealed).unwrap_err();
    assert_eq!(damaged.code().as_str(), "weights_mismatch");
    let path = fixture.store.plain_file(&revealed).unwrap().unwrap();
    assert_eq!(fs::read(path).unwrap(), fixture.plain);
}

/// The bytes that the store serves as weights.
fn served(store: &WeightsStore, weights_hash: &Hash) -> Result<Vec<u8>, NodeError> {
    let mut file = store.plaintext(weights_hash)?;
    let mut bytes = vec![0; usize::try_from(file.size_bytes()).unwrap()];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn a_model_that_reveals_another_models_weights_with_its_own_broken_file_changes_nothing_for_it() {
    let fixture = Fixture::new(5_000);
    let junk = fixture.revealed_by_another(b"x");
    fixture.store.set_needed(needed(&[fixture.revealed(), junk]));
    assert_eq!(fixture.store.missing().len(), 2);
    let mut upload = fixture.store.upload(junk.ciphertext(), OWNER, 0).unwrap();
    upload.write(b"x").unwrap();
    assert!(upload.finish().unwrap().complete);
    // Only the broken file is here: no weights are served.
    let refused = served(&fixture.store, &fixture.weights_hash()).unwrap_err();
    assert!(matches!(refused.code().as_str(), "weights_mismatch" | "weights_not_held"));
    fixture.upload_all();
    for _ in 0..2 {
        let bytes = served(&fixture.store, &fixture.weights_hash()).unwrap();
        assert_eq!(Hash::of_bytes(&bytes), fixture.weights_hash());
        assert_eq!(fixture.store.plain_file(&junk).unwrap(), None, "its own file is broken");
        assert!(fixture.store.plain_file(&fixture.revealed()).unwrap().is_some());
    }
    // Without the honest file, the copy that was made of it is still right, and still its own.
    fs::remove_file(fixture.store.path("ciphertexts", &fixture.hash())).unwrap();
    assert!(fixture.store.plain_file(&fixture.revealed()).unwrap().is_some());
    assert_eq!(fixture.store.plain_file(&junk).unwrap(), None);
}

#[test]
fn a_commit_that_names_a_file_with_another_size_blocks_no_upload() {
    let fixture = Fixture::new(5_000);
    let lie = Ciphertext { size_bytes: 1, ..fixture.file() };
    let other = Address([2; 32]);
    let mut needed = fixture.needed();
    needed.files.insert(lie, named(ModelId(2), other));
    fixture.store.set_needed(needed);
    assert!(fixture.store.may_upload(&lie, &other) && !fixture.store.may_upload(&lie, &OWNER));
    let mut upload = fixture.store.upload(lie, other, 0).unwrap();
    upload.write(&fixture.ciphertext[..1]).unwrap();
    assert_eq!(upload.finish().unwrap_err().code().as_str(), "ciphertext_mismatch");
    fixture.upload_all();
    assert!(fixture.store.holds(&fixture.file()) && !fixture.store.holds(&lie));
    assert!(fixture.store.missing().is_empty(), "there is no such file to be fetched");
    fixture.store.sweep().unwrap();
    assert!(fixture.store.holds(&fixture.file()));
}

#[test]
fn files_that_no_rule_needs_are_removed_and_no_others() {
    let fixture = Fixture::new(5_000);
    fixture.upload_all();
    let plain = fixture.store.plain_file(&fixture.revealed()).unwrap().unwrap();
    fixture.store.sweep().unwrap();
    assert!(fixture.store.holds(&fixture.file()) && plain.is_file());
    fixture.store.set_needed(Needed::default());
    fixture.store.sweep().unwrap();
    assert!(!fixture.store.holds(&fixture.file()) && !plain.exists());
    assert_eq!(
        fixture.store.plaintext(&fixture.weights_hash()).err().unwrap().code().as_str(),
        "weights_not_found"
    );
}

#[test]
fn a_commit_that_is_replaced_frees_its_file_at_once_even_while_it_is_uploaded() {
    let fixture = Fixture::new(5_000);
    fixture.upload_all();
    fixture.store.set_needed(fixture.needed());
    assert!(!fixture.store.is_unswept(), "nothing has changed");
    let replacement = Ciphertext { hash: Hash([9; 32]), size_bytes: 5_000 };
    let mut replaced = needed(&[]);
    replaced.files.insert(replacement, named(MODEL, OWNER));
    fixture.store.set_needed(replaced);
    assert!(fixture.store.is_unswept(), "a file is not needed any more");
    fixture.store.sweep().unwrap();
    assert!(!fixture.store.holds(&fixture.file()));

    let mut upload = fixture.store.upload(replacement, OWNER, 0).unwrap();
    upload.write(&[0; 1_000]).unwrap();
    fixture.store.set_needed(fixture.needed());
    assert!(fixture.store.is_unswept());
    let error = upload.write(&[0; 1_000]).unwrap_err();
    assert_eq!(error.code().as_str(), "commit_not_found");
    assert!(fixture.store.files("partial").unwrap().is_empty());
}

#[test]
fn a_model_that_replaces_its_commit_again_and_again_uses_up_its_quota_and_no_other() {
    let fixture = Fixture::new(5_000);
    let other = Address([2; 32]);
    let (mut brought, mut refused) = (0, None);
    for number in 0..10 {
        let file = Ciphertext { hash: Hash([number; 32]), size_bytes: 5_000 };
        let mut needed = needed(&[]);
        needed.files.insert(file, named(MODEL, OWNER));
        fixture.store.set_needed(needed);
        fixture.store.sweep().unwrap();
        let mut upload = fixture.store.upload(file, OWNER, 0).unwrap();
        match upload.write(&[number; 4_999]) {
            Ok(()) => brought += 4_999,
            Err(error) => refused = Some(error),
        }
    }
    assert_eq!(refused.unwrap().code().as_str(), "upload_quota");
    assert!(brought <= 4 * 5_000);
    let mut needed = fixture.needed();
    let of_both = needed.files.get_mut(&fixture.file()).unwrap();
    of_both.models.insert(ModelId(2), other);
    fixture.store.set_needed(needed);
    let mut upload = fixture.store.upload(fixture.file(), other, 0).unwrap();
    upload.write(&fixture.ciphertext).unwrap();
    assert!(upload.finish().unwrap().complete);
    fixture.store.set_needed(Needed { epoch: Epoch(2), ..fixture.needed() });
    fixture.store.count_upload(&fixture.file(), &OWNER, 5_000).unwrap();
}

#[test]
fn weights_files_leave_the_chain_its_space_on_the_disk() {
    let fixture = Fixture::new(5_000);
    fixture.upload_all();
    let limits = WeightsSettings { free_bytes_min: u64::MAX / 2, ..LIMITS };
    let full = WeightsStore::open(fixture.dir.path(), limits, None, Arc::default()).unwrap();
    let full = Arc::new(full);
    full.set_needed(fixture.needed());
    let other = Ciphertext { hash: Hash([9; 32]), size_bytes: 1 };
    assert_eq!(full.upload(other, OWNER, 0).err().unwrap().code().as_str(), "disk_full");
    assert_eq!(full.may_fetch(&fixture.file()).unwrap_err().code().as_str(), "disk_full");
    let revealed = fixture.revealed();
    let plain = fixture.store.plain_file(&revealed).unwrap().unwrap();
    assert_eq!(full.plain_file(&revealed).unwrap(), Some(plain.clone()), "it was decrypted before");
    fs::remove_file(plain).unwrap();
    assert_eq!(full.plain_file(&revealed).unwrap_err().code().as_str(), "disk_full");
    full.plaintext(&fixture.weights_hash()).unwrap();
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
