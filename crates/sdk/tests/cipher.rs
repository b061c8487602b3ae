//! The encryption of committed weights.

use proptest::prelude::*;
use soma_codes::{Coded as _, Exit};
use soma_sdk::cipher::{LIMIT_BYTES, apply, decrypt, encrypt};
use soma_sdk::protocol::Hash;
use soma_sdk::{SdkError, Secret};

const KEY: [u8; 32] = [7; 32];

/// First block of the keystream, from another implementation that agrees with the test vectors of
/// draft-irtf-cfrg-xchacha-03.
const KEYSTREAM: &str = "6407955444c48a749c83df25b07114f81a16598d7d75c930c20012ca62abbf3e\
    33b297b04239b557007fc4040a655da4eee8a3d9b258a34ad4db347a7fe5188e";

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 256).to_le_bytes()[0]).collect()
}

proptest! {
    #[test]
    fn any_range_decrypts_to_the_bytes_of_the_whole_file(
        length in 0usize..5_000,
        from in 0usize..5_000,
        to in 0usize..5_000,
        key: [u8; 32],
    ) {
        let key = Secret::from_bytes(key);
        let plain = pattern(length);
        let mut cipher = plain.clone();
        apply(&key, 0, &mut cipher).unwrap();
        let (from, to) = (from.min(to).min(length), to.max(from).min(length));
        let mut range = cipher[from..to].to_vec();
        apply(&key, from as u64, &mut range).unwrap();
        prop_assert_eq!(&range, &plain[from..to]);
    }
}

#[test]
fn an_encrypted_file_decrypts_to_the_same_bytes_and_both_hashes_are_those_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let plain = pattern((1 << 20) + 17);
    std::fs::write(path("plain"), &plain).unwrap();
    let key = Secret::generate().unwrap();

    let mut done = 0;
    let encrypted = encrypt(&path("plain"), &path("cipher"), &key, |bytes| done = bytes).unwrap();
    let cipher = std::fs::read(path("cipher")).unwrap();
    assert_ne!(cipher, plain);
    assert_eq!(encrypted.size_bytes, plain.len() as u64);
    assert_eq!(done, encrypted.size_bytes);
    assert_eq!(encrypted.weights_hash, Hash::of_bytes(&plain));
    assert_eq!(encrypted.ciphertext_hash, Hash::of_bytes(&cipher));

    decrypt(&path("cipher"), &path("opened"), &key, encrypted.weights_hash, |_| {}).unwrap();
    assert_eq!(std::fs::read(path("opened")).unwrap(), plain);
}

#[test]
fn a_wrong_key_leaves_no_file_and_is_a_failed_verification() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("plain"), b"weights").unwrap();
    let key = Secret::from_bytes(KEY);
    let encrypted = encrypt(&path("plain"), &path("cipher"), &key, |_| {}).unwrap();

    let wrong = Secret::from_bytes([8; 32]);
    let outcome = decrypt(&path("cipher"), &path("opened"), &wrong, encrypted.weights_hash, |_| {});
    let error = outcome.unwrap_err();
    assert!(matches!(error, SdkError::WrongHash { .. }));
    assert_eq!(error.exit(), Exit::Verification);
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["cipher", "plain"]);
}

#[test]
fn the_stream_is_xchacha20_with_a_nonce_of_zero() {
    let mut bytes = [0; 64];
    apply(&Secret::from_bytes(KEY), 0, &mut bytes).unwrap();
    assert_eq!(soma_sdk::protocol::hex::encode(&bytes), KEYSTREAM);
}

#[test]
fn a_file_longer_than_one_key_encrypts_is_rejected() {
    let key = Secret::from_bytes(KEY);
    assert!(apply(&key, LIMIT_BYTES - 64, &mut [0; 64]).is_ok());
    assert!(matches!(apply(&key, LIMIT_BYTES, &mut [0; 1]), Err(SdkError::TooLarge { .. })));
}

#[test]
fn secrets_are_not_printed() {
    let secret = Secret::from_bytes([0xab; 32]);
    assert_eq!(format!("{secret:?}"), "(secret)");
}
