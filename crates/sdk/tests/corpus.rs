//! The corpus of an account on disk: nothing that was ever committed can be forgotten, at whatever
//! moment a process is killed, and what is shown of it verifies under the rules.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use soma_codes::Coded as _;
use soma_sdk::corpus::{Added, Corpus, Listed};
use soma_sdk::protocol::{Hash, corpus};

/// Bytes before the first document, and of each.
const HEADER: usize = 48;
const ENTRY: usize = 40;

fn home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("corpus").join("account");
    (home, path)
}

fn document(number: u32) -> Listed {
    Listed { data_hash: Hash::of_bytes(&number.to_le_bytes()), size_bytes: number }
}

fn add(corpus: &Corpus, numbers: std::ops::Range<u32>) -> Added {
    corpus.add(numbers.map(document)).unwrap()
}

/// Whether what the corpus shows of a document verifies under the root of this length.
fn is_shown(corpus: &Corpus, leaves: u32, number: u32) -> bool {
    let document = document(number);
    corpus.proof(leaves, &document.data_hash).is_some_and(|proof| {
        let salt = proof.leaf_salt.bytes();
        let leaf = corpus::leaf(&document.data_hash, document.size_bytes, salt);
        let root = corpus.root(leaves).unwrap();
        corpus::verifies(&root, leaves, proof.index, &leaf, &proof.path)
    })
}

#[test]
fn every_root_that_was_ever_committed_can_be_shown_from_whatever_was_added_later() {
    let (_home, path) = home();
    let written = Corpus::open(&path).unwrap();
    assert!(written.is_empty() && written.root(0).is_none());
    let mut roots = Vec::new();
    for number in 0..40 {
        assert_eq!(add(&written, number..number + 1), Added { new: 1, beyond: 0 });
        roots.push(written.root(written.len()).unwrap());
    }
    let read = Corpus::open(&path).unwrap();
    for (leaves, root) in (1..).zip(roots) {
        assert_eq!(read.root(leaves), Some(root));
        for number in 0..40 {
            assert_eq!(is_shown(&read, leaves, number), number < leaves, "{number} of {leaves}");
        }
    }
    assert_eq!(read.root(41), None);
}

#[test]
fn a_document_is_listed_once_by_whichever_process_finds_it() {
    let (_home, path) = home();
    let [one, two] = [(); 2].map(|()| Corpus::open(&path).unwrap());
    assert_eq!(add(&one, 0..5).new, 5);
    assert_eq!(add(&two, 3..8).new, 3);
    assert_eq!(add(&one, 0..8).new, 0);
    assert_eq!(one.root(8), two.root(8));
    assert_eq!(one.place(&document(7).data_hash), Some(7));
}

#[test]
fn many_processes_that_add_at_once_lose_nothing() {
    let (_home, path) = home();
    std::thread::scope(|scope| {
        for first in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let corpus = Corpus::open(path).unwrap();
                for number in 0..25 {
                    add(&corpus, number * 4 + first..number * 4 + first + 1);
                }
            });
        }
    });
    let corpus = Corpus::open(&path).unwrap();
    assert_eq!(corpus.len(), 100);
    assert!((0..100).all(|number| is_shown(&corpus, 100, number)));
}

#[test]
fn an_append_that_was_cut_off_anywhere_is_removed_and_repeated() {
    let (_home, path) = home();
    add(&Corpus::open(&path).unwrap(), 0..3);
    let whole = fs::read(&path).unwrap();
    assert_eq!(whole.len(), HEADER + 3 * ENTRY);
    let expected = Corpus::open(&path).unwrap().root(3);
    let torn_ends: [&[u8]; 3] = [&[], &[0; 7], &[0; 2 * ENTRY]];
    for kept in HEADER..=whole.len() {
        for end in torn_ends {
            fs::write(&path, [&whole[..kept], end].concat()).unwrap();
            let corpus = Corpus::open(&path).unwrap();
            assert_eq!(corpus.len() as usize, (kept - HEADER) / ENTRY, "{kept}");
            add(&corpus, 0..3);
            assert_eq!(corpus.root(3), expected);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }
}

#[test]
fn a_file_that_was_cut_off_while_it_was_created_is_created_again() {
    let (_home, path) = home();
    Corpus::open(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for kept in 0..HEADER {
        fs::write(&path, &whole[..kept]).unwrap();
        assert_eq!(add(&Corpus::open(&path).unwrap(), 0..1).new, 1);
        let again = fs::read(&path).unwrap();
        assert_eq!(again.len(), HEADER + ENTRY);
        assert_eq!(Corpus::open(&path).unwrap().len(), 1);
    }
}

#[test]
fn damage_before_the_end_is_an_error_that_changes_nothing() {
    let (_home, path) = home();
    add(&Corpus::open(&path).unwrap(), 0..3);
    let whole = fs::read(&path).unwrap();
    for at in [0, HEADER, HEADER + ENTRY - 1, HEADER + ENTRY, HEADER + ENTRY + 33] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let error = Corpus::open(&path).unwrap_err();
        assert_eq!(error.code().as_str(), "corpus_damaged", "byte {at}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
    // Nor is an entry accepted in another place than its own.
    let (first, second) = (HEADER..HEADER + ENTRY, HEADER + ENTRY..HEADER + 2 * ENTRY);
    let swapped = [&whole[..HEADER], &whole[second], &whole[first], &whole[HEADER + 2 * ENTRY..]];
    fs::write(&path, swapped.concat()).unwrap();
    assert_eq!(Corpus::open(&path).unwrap_err().code().as_str(), "corpus_damaged");
}

/// Names the corpus to a child process.
const CHILD: &str = "SOMA_TEST_CORPUS";

/// Does nothing unless it is run as a child: adds documents and says so, until it fails.
#[test]
fn child_that_adds() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let corpus = Corpus::open(path).unwrap();
    loop {
        let (first, root) = (corpus.len(), corpus.root(corpus.len()).unwrap_or_default());
        println!("\nhas {first} {root}");
        if let Err(error) = corpus.add((first..first + 3).map(document)) {
            println!("\nfailed {first} {error}");
            return;
        }
    }
}

/// Starts the child with a limit on the size of its files, in blocks of 512 bytes: to the child it
/// looks like a full disk.
fn child(path: &Path, blocks: u32) -> (Child, impl Iterator<Item = String>) {
    let mut child = Command::new("sh")
        .args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["child_that_adds", "--exact", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines.map_while(Result::ok))
}

/// Number of documents and root in a line of the child.
fn told(line: &str) -> Option<(u32, Hash)> {
    let (leaves, root) = line.strip_prefix("has ")?.split_once(' ')?;
    Some((leaves.parse().ok()?, root.parse().ok()?))
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_adds_nothing_and_loses_nothing() {
    let (_home, path) = home();
    let (mut adding, lines) = child(&path, 8);
    let lines: Vec<String> = lines.collect();
    adding.wait().unwrap();
    let (leaves, root) = lines.iter().rev().find_map(|line| told(line)).unwrap();
    assert!(leaves >= 30 && lines.iter().any(|line| line.starts_with("failed ")), "{lines:?}");
    let corpus = Corpus::open(&path).unwrap();
    assert_eq!((corpus.len(), corpus.root(leaves)), (leaves, Some(root)));
    assert_eq!(add(&corpus, leaves..leaves + 5).new, 5);
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_is_killed_at_any_moment_has_everything_that_it_said() {
    let (_home, path) = home();
    let mut roots = Vec::new();
    for round in 0..12 {
        let (mut adding, lines) = child(&path, 1 << 20);
        let enough = roots.len() + 3 + 5 * round;
        for line in lines {
            roots.extend(told(&line));
            if roots.len() == enough {
                std::thread::sleep(Duration::from_micros(170 * round as u64));
                adding.kill().unwrap();
            }
        }
        adding.wait().unwrap();
    }
    let corpus = Corpus::open(&path).unwrap();
    for (leaves, root) in roots {
        assert_eq!(corpus.root(leaves).unwrap_or_default(), root, "{leaves}");
    }
    assert!((0..corpus.len()).all(|number| is_shown(&corpus, corpus.len(), number)));
}

#[test]
fn nothing_about_a_document_can_be_told_from_its_leaf() {
    let roots = [(); 2].map(|()| {
        let (_home, path) = home();
        let corpus = Corpus::open(path).unwrap();
        add(&corpus, 0..1);
        corpus.root(1)
    });
    assert_ne!(roots[0], roots[1], "another secret salts it");
}

#[cfg(unix)]
#[test]
fn only_the_user_can_read_a_corpus() {
    use std::os::unix::fs::PermissionsExt;
    let (home, path) = home();
    Corpus::open(&path).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(home.path().join("corpus"), open).unwrap();
    assert_eq!(Corpus::open(&path).unwrap_err().code().as_str(), "folder_open_to_others");
}
