//! Key files.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use soma_codes::{Coded as _, Exit};
use soma_sdk::keys::{KeyFolder, KeyPath, Protection, generate};
use soma_sdk::protocol::SecretKey;
use soma_sdk::words::Words;
use soma_sdk::{SdkError, Secret};

fn folder() -> (tempfile::TempDir, KeyFolder) {
    let dir = tempfile::tempdir().unwrap();
    let keys = KeyFolder::of(dir.path());
    (dir, keys)
}

#[test]
fn an_encrypted_key_loads_with_its_passphrase_only() {
    let (_dir, keys) = folder();
    let key = generate().unwrap();
    keys.create("alice", &key, Protection::Passphrase("correct horse")).unwrap();

    let loaded = keys.load("alice", Some("correct horse")).unwrap();
    assert_eq!(loaded.to_bytes(), key.to_bytes());
    let wrong = keys.load("alice", Some("correct house")).map(|key| key.address()).unwrap_err();
    assert!(matches!(wrong, SdkError::PassphraseWrong { .. }));
    let none = keys.load("alice", None).map(|key| key.address()).unwrap_err();
    assert!(matches!(none, SdkError::PassphraseNeeded { .. }));
    for error in [wrong, none] {
        assert_eq!(error.exit(), Exit::Config);
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn the_address_is_readable_without_the_passphrase_and_the_secret_is_not() {
    let (_dir, keys) = folder();
    let key = generate().unwrap();
    keys.create("alice", &key, Protection::Passphrase("x")).unwrap();
    keys.create("bob", &generate().unwrap(), Protection::Local).unwrap();

    let listed = keys.list().unwrap();
    let names: Vec<&str> = listed.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["alice", "bob"]);
    assert_eq!(listed[0].address, key.address());
    assert!(listed[0].encrypted);
    assert!(!listed[1].encrypted);
    let text = std::fs::read_to_string(keys.path_of("alice")).unwrap();
    assert!(!text.contains(&soma_sdk::protocol::hex::encode(&key.to_bytes())));
    assert!(text.contains(&key.address().to_string()));
}

#[test]
fn a_key_is_never_overwritten() {
    let (_dir, keys) = folder();
    let first = generate().unwrap();
    keys.create("alice", &first, Protection::Local).unwrap();
    let error = keys.create("alice", &generate().unwrap(), Protection::Local).unwrap_err();
    assert!(matches!(error, SdkError::KeyExists { .. }));
    assert_eq!(keys.load("alice", None).unwrap().to_bytes(), first.to_bytes());
}

#[cfg(unix)]
#[test]
fn only_the_user_can_read_a_key_and_a_key_that_others_can_read_is_rejected() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, keys) = folder();
    keys.create("alice", &generate().unwrap(), Protection::Local).unwrap();
    let path = keys.path_of("alice");
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = keys.load("alice", None).map(|key| key.address()).unwrap_err();
    assert!(matches!(error, SdkError::KeyMode { mode: 0o640, .. }));
    let error = keys.check("alice").unwrap_err();
    assert!(matches!(error, SdkError::KeyMode { mode: 0o640, .. }));
}

#[test]
fn the_same_seed_and_label_give_the_same_secret() {
    let derive = |seed: u8, label| *Secret::derive(&[seed; 32], label).bytes();
    assert_eq!(derive(1, "validator 1"), derive(1, "validator 1"));
    assert_ne!(derive(1, "validator 1"), derive(1, "validator 2"));
    assert_ne!(derive(1, "validator 1"), derive(2, "validator 1"));
}

#[test]
fn key_names_cannot_leave_the_folder() {
    let (_dir, keys) = folder();
    for name in ["", ".", "..", "../alice", "a/b", "a.b", "Alice", "a b", &"a".repeat(65)] {
        let error = keys.create(name, &generate().unwrap(), Protection::Local).unwrap_err();
        assert!(matches!(error, SdkError::KeyName { .. }), "{name}");
        let error = keys.load(name, None).map(|key| key.address()).unwrap_err();
        assert!(matches!(error, SdkError::KeyName { .. }), "{name}");
    }
}

#[test]
fn a_missing_key_is_named_in_the_error_and_an_empty_folder_lists_nothing() {
    let (_dir, keys) = folder();
    assert_eq!(keys.list().unwrap(), []);
    let error = keys.info("alice").unwrap_err();
    assert!(matches!(error, SdkError::KeyMissing { .. }));
    assert_eq!(error.exit(), Exit::Config);
}

/// Every change of a key file is detected, and no message quotes the secret.
#[test]
fn a_damaged_or_hostile_key_file_is_rejected_without_showing_the_secret() {
    let (_dir, keys) = folder();
    let key = generate().unwrap();
    keys.create("alice", &key, Protection::Local).unwrap();
    let path = keys.path_of("alice");
    let text = std::fs::read_to_string(&path).unwrap();
    let secret = soma_sdk::protocol::hex::encode(&key.to_bytes());
    let other = generate().unwrap();
    let other_secret = soma_sdk::protocol::hex::encode(&other.to_bytes());
    let hostile = [
        text[..text.len() / 2].to_owned(),
        text.replace(&secret, &secret[1..]),
        text.replace(&secret, &other_secret),
        text.replace("soma-key/1", "soma-key/2"),
        text.replace("\"schema\"", "\"scheme\""),
        "x".repeat(20_000),
        String::new(),
    ];
    for content in hostile {
        std::fs::write(&path, &content).unwrap();
        let error = keys.load("alice", None).map(|key| key.address()).unwrap_err();
        assert!(matches!(error, SdkError::KeyFile { .. }), "{content}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(&secret[1..]) && !shown.contains(&other_secret));
    }
}

#[test]
fn a_key_file_cannot_exhaust_memory() {
    let (_dir, keys) = folder();
    keys.create("alice", &SecretKey::from_bytes(&[3; 32]), Protection::Passphrase("x")).unwrap();
    let path = keys.path_of("alice");
    let text = std::fs::read_to_string(&path).unwrap();
    for (honest, hostile) in [
        ("\"memory_kib\": 65536", "\"memory_kib\": 4294967295"),
        ("\"passes\": 3", "\"passes\": 4294967295"),
        ("\"lanes\": 4", "\"lanes\": 0"),
    ] {
        assert!(text.contains(honest));
        std::fs::write(&path, text.replace(honest, hostile)).unwrap();
        let error = keys.load("alice", Some("x")).map(|key| key.address()).unwrap_err();
        assert!(matches!(error, SdkError::KeyFile { .. }), "{hostile}");
    }
}

#[test]
fn a_key_of_words_gives_the_words_again_and_the_words_give_the_key() {
    let (_dir, keys) = folder();
    let words = Words::generate().unwrap();
    keys.create_from_words("alice", &words, Protection::Passphrase("correct horse")).unwrap();
    let key = keys.key("alice").unwrap();
    assert_eq!(key.load(Some("correct horse")).unwrap().to_bytes(), words.key().to_bytes());
    let shown = key.open(Some("correct horse")).unwrap().words().unwrap();
    assert_eq!(shown.phrase(), words.phrase());
    assert!(matches!(key.open(None).unwrap_err(), SdkError::PassphraseNeeded { .. }));

    let again = Words::parse(shown.phrase()).unwrap();
    keys.create_from_words("again", &again, Protection::Local).unwrap();
    assert_eq!(keys.info("again").unwrap().address, keys.info("alice").unwrap().address);

    keys.create("bare", &generate().unwrap(), Protection::Local).unwrap();
    let bare = keys.key("bare").unwrap().open(None).unwrap();
    let none = bare.words().map(|words| words.key().address()).unwrap_err();
    assert_eq!((none.code().as_str(), none.exit()), ("no_words", Exit::Config));
}

#[test]
fn another_passphrase_protects_the_same_key_and_the_old_one_is_worth_nothing() {
    let (_dir, keys) = folder();
    let words = Words::generate().unwrap();
    keys.create_from_words("alice", &words, Protection::Local).unwrap();
    let key = keys.key("alice").unwrap();
    key.open(None).unwrap().protect(Protection::Passphrase("first one")).unwrap();
    assert!(key.info().unwrap().encrypted);
    let wrong = key.open(Some("not it")).unwrap_err();
    assert!(matches!(wrong, SdkError::PassphraseWrong { .. }));
    let opened = key.open(Some("first one")).unwrap();
    opened.protect(Protection::Passphrase("second one")).unwrap();
    assert!(matches!(key.load(Some("first one")), Err(SdkError::PassphraseWrong { .. })));
    assert_eq!(key.load(Some("second one")).unwrap().to_bytes(), words.key().to_bytes());
    assert_eq!(key.open(Some("second one")).unwrap().words().unwrap().phrase(), words.phrase());
    keys.check("alice").unwrap();
}

#[test]
fn a_key_file_moves_between_machines_as_it_is_encrypted_and_replaces_no_key() {
    let (dir, keys) = folder();
    let key = generate().unwrap();
    keys.create("alice", &key, Protection::Passphrase("correct horse")).unwrap();
    let copy = dir.path().join("copy");
    keys.key("alice").unwrap().export(&copy).unwrap();
    let (_other, theirs) = folder();
    theirs.import("bob", &KeyPath::file(&copy)).unwrap();
    assert_eq!(theirs.load("bob", Some("correct horse")).unwrap().to_bytes(), key.to_bytes());
    theirs.check("bob").unwrap();
    let twice = theirs.import("bob", &KeyPath::file(&copy)).unwrap_err();
    assert!(matches!(twice, SdkError::KeyExists { .. }));
    std::fs::write(&copy, "{}").unwrap();
    assert!(matches!(
        theirs.import("carol", &KeyPath::file(&copy)),
        Err(SdkError::KeyFile { .. } | SdkError::KeyMode { .. })
    ));
}
