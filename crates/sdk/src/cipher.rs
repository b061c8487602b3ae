//! The encryption of committed weights: `XChaCha20` under a key that is used once, then revealed.
//!
//! The stream is seekable, so a node serves any range of the plaintext from the encrypted file.
//! There is no tag: the revealed weights hash proves that the plaintext is the one committed to. A
//! key must never encrypt two different files.

use std::io::{Read, Write};
use std::path::Path;

use chacha20::XChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use soma_os::file::AtomicFile;
use soma_protocol::Hash;
use zeroize::Zeroizing;

use crate::error::SdkError;
use crate::secret::Secret;

/// The most bytes that one key encrypts: the block counter has 32 bits and must not wrap around.
pub const LIMIT_BYTES: u64 = 64 * (u32::MAX as u64);

const PIECE_BYTES: usize = 1 << 20;

/// Encrypts or decrypts `bytes` in place under `key`; they lie at `offset` in the file.
///
/// # Errors
/// [`SdkError::TooLarge`] if they reach beyond [`LIMIT_BYTES`]; `bytes` is then undefined.
pub fn apply(key: &Secret, offset: u64, bytes: &mut [u8]) -> Result<(), SdkError> {
    // The key is used only once, so the nonce can be constant.
    let mut stream = XChaCha20::new(key.bytes().into(), &[0; 24].into());
    let too_large = |_| SdkError::TooLarge { limit_bytes: LIMIT_BYTES };
    stream.try_seek(offset).map_err(too_large)?;
    stream.try_apply_keystream(bytes).map_err(too_large)
}

/// The hashes and size of an encrypted file, as a commit states them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptedFile {
    /// BLAKE3 of the plaintext.
    pub weights_hash: Hash,
    /// BLAKE3 of the ciphertext.
    pub ciphertext_hash: Hash,
    /// The size of either file in bytes.
    pub size_bytes: u64,
}

/// Encrypts the file `from` into the file `to`, hashing both in one pass. `to` appears only when it
/// is complete and synced. `progress` is called with the bytes done so far.
///
/// # Errors
/// [`SdkError::Io`]; [`SdkError::TooLarge`].
pub fn encrypt(
    from: &Path,
    to: &Path,
    key: &Secret,
    progress: impl FnMut(u64),
) -> Result<EncryptedFile, SdkError> {
    let (size_bytes, weights_hash, ciphertext_hash, part) = translate(from, to, key, progress)?;
    part.commit().map_err(SdkError::io(to))?;
    Ok(EncryptedFile { weights_hash, ciphertext_hash, size_bytes })
}

/// Decrypts the file `from` into the file `to`, which appears only if it hashes to `weights_hash`.
///
/// # Errors
/// [`SdkError::WrongHash`]; [`SdkError::Io`]; [`SdkError::TooLarge`].
pub fn decrypt(
    from: &Path,
    to: &Path,
    key: &Secret,
    weights_hash: Hash,
    progress: impl FnMut(u64),
) -> Result<(), SdkError> {
    let (_, _, found, part) = translate(from, to, key, progress)?;
    if found != weights_hash {
        let what = format!("the plaintext of {}", from.display());
        return Err(SdkError::WrongHash { what, expected: weights_hash, found });
    }
    part.commit().map_err(SdkError::io(to))
}

/// The hashes and size of the encrypted file at `path` and of what it decrypts to, which is written
/// nowhere.
///
/// # Errors
/// [`SdkError::Io`]; [`SdkError::TooLarge`].
pub fn inspect(path: &Path, key: &Secret) -> Result<EncryptedFile, SdkError> {
    let nothing = |_: &[u8]| Ok(());
    let (size_bytes, ciphertext_hash, weights_hash) = apply_to_file(path, key, nothing)?;
    Ok(EncryptedFile { weights_hash, ciphertext_hash, size_bytes })
}

/// Returns the size, the hash of what was read, the hash of what was written, and the written file.
fn translate(
    from: &Path,
    to: &Path,
    key: &Secret,
    mut progress: impl FnMut(u64),
) -> Result<(u64, Hash, Hash, AtomicFile), SdkError> {
    let mut part = AtomicFile::create_private(to).map_err(SdkError::io(to))?;
    let mut written = 0;
    let write = |bytes: &[u8]| {
        part.write_all(bytes).map_err(SdkError::io(to))?;
        written += bytes.len() as u64;
        progress(written);
        Ok(())
    };
    let (size_bytes, before, after) = apply_to_file(from, key, write)?;
    Ok((size_bytes, before, after, part))
}

/// Applies the key to the file `from`, one piece at a time. Returns the size, the hash of what was
/// read, and the hash of what was passed to `take`.
fn apply_to_file(
    from: &Path,
    key: &Secret,
    mut take: impl FnMut(&[u8]) -> Result<(), SdkError>,
) -> Result<(u64, Hash, Hash), SdkError> {
    let mut source = std::fs::File::open(from).map_err(SdkError::io(from))?;
    let (mut before, mut after) = (blake3::Hasher::new(), blake3::Hasher::new());
    let mut piece = Zeroizing::new(vec![0; PIECE_BYTES]);
    let mut offset = 0;
    loop {
        let length = source.read(&mut piece).map_err(SdkError::io(from))?;
        if length == 0 {
            break;
        }
        let bytes = &mut piece[..length];
        before.update(bytes);
        apply(key, offset, bytes)?;
        after.update(bytes);
        take(bytes)?;
        offset += length as u64;
    }
    Ok((offset, digest(&before), digest(&after)))
}

/// The hasher's result as the protocol's hash.
pub(crate) fn digest(hasher: &blake3::Hasher) -> Hash {
    Hash(*hasher.finalize().as_bytes())
}
