//! The documents of these tests. Everybody has fixed them before the first epoch, as a corpus that
//! counts from the beginning on; the tests of corpora commit others.

use std::sync::LazyLock;

use soma_protocol::record::{Corpus, CorpusRoot};
use soma_protocol::{Epoch, Hash, corpus};

use crate::world::CHUNK;

/// The salt of every leaf.
pub(crate) const LEAF_SALT: [u8; 32] = [6; 32];

const TEXTS: &[&str] = &[
    "farther away",
    "nearest",
    "run twice",
    "good",
    "never audited",
    "audited later",
    "fraud",
    "audited by one",
    "audited by nobody",
    "audited by too few",
    "mine",
    "one",
    "two",
    "three",
    "shared by two",
    "a",
    "b",
    "c",
    "d",
    "data",
    "late",
    "poor",
    "near",
    "far",
    "silent",
    "the data itself",
    "xxxxxxxxxxxxxxxxx",
    "won once",
    "new",
    "found by two",
    "a lie",
    "disputed",
    "audited",
    "shared",
    "won before the switch",
    "almost true",
    "true",
    "secret",
    "audited by three",
    "only one model runs",
    "shared by nobody else",
    "claim",
];

/// The bytes of a text: at least one chunk of the architecture.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    text.bytes().cycle().take(CHUNK.max(text.len())).collect()
}

/// Text of random histories: each participant has its own, long enough for any architecture.
pub(crate) fn text_of(person: u8, number: u8) -> String {
    Hash::of_bytes(&[person, number]).to_string()
}

/// All documents.
static DOCUMENTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let numbered = (0..100).flat_map(|n| [format!("attempt {n}"), format!("fake {n}")]);
    let random = (1..9).flat_map(|person| (0..3).map(move |number| text_of(person, number)));
    let generated = numbered.chain(random).map(|text| bytes(&text));
    TEXTS.iter().map(|text| bytes(text)).chain(generated).collect()
});

/// Their leaves.
static LEAVES: LazyLock<Vec<Hash>> =
    LazyLock::new(|| DOCUMENTS.iter().map(|document| leaf(document)).collect());

/// The leaf of a document.
pub(crate) fn leaf(document: &[u8]) -> Hash {
    let size_bytes = u32::try_from(document.len()).unwrap();
    corpus::leaf(&Hash::of_bytes(document), size_bytes, &LEAF_SALT)
}

/// The place of a text among the documents.
#[track_caller]
pub(crate) fn index(bytes: &[u8]) -> u32 {
    let at = DOCUMENTS.iter().position(|document| document == bytes);
    let at = at.unwrap_or_else(|| panic!("{:?} is in no corpus", String::from_utf8_lossy(bytes)));
    u32::try_from(at).unwrap()
}

/// The path of a document.
pub(crate) fn path(index: u32) -> Vec<Hash> {
    static PATHS: LazyLock<Vec<Vec<Hash>>> = LazyLock::new(|| {
        let count = u32::try_from(LEAVES.len()).unwrap();
        (0..count).map(|index| corpus::path(&LEAVES, index).unwrap()).collect()
    });
    PATHS[index as usize].clone()
}

/// The root over all documents, and their number.
pub(crate) fn root() -> (Hash, u32) {
    static ROOT: LazyLock<Hash> = LazyLock::new(|| corpus::root(&LEAVES).unwrap());
    (*ROOT, u32::try_from(LEAVES.len()).unwrap())
}

/// What everybody has fixed.
pub(crate) fn everybodys() -> Corpus {
    let (root, leaves) = root();
    Corpus { latest: CorpusRoot { epoch: Epoch(0), root, leaves }, before: None }
}
