//! Key files: one ed25519 key each, in JSON, mode 0600, encrypted under a passphrase.
//!
//! A file is created once and never overwritten, except by the same key under another passphrase.
//! It keeps a key, or the bytes of the words that a key follows from. Unencrypted files are marked
//! `local` and are for local networks only. Nothing here prints, logs or formats a secret.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use soma_protocol::{Address, ConsensusKey, Hash, SecretKey, hex};
use zeroize::Zeroizing;

use crate::api::permit::PeerPermit;
use crate::error::SdkError;
use crate::file;
use crate::secret::{Secret, fill_random};
use crate::words::Words;

/// A random key.
///
/// # Errors
/// [`SdkError::Randomness`].
pub fn generate() -> Result<SecretKey, SdkError> {
    Ok(SecretKey::from_bytes(Secret::generate()?.bytes()))
}

/// A node that downloads files from another one, which names it as a peer.
#[derive(Clone)]
pub struct PeerKey {
    /// Its consensus key.
    pub key: SecretKey,
    /// The chain.
    pub chain: Hash,
    /// The key of the node that serves the files.
    pub server: ConsensusKey,
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey(of {:?})", self.server)
    }
}

impl PeerKey {
    /// A permit for a file, valid until this time (ms since 1970).
    pub(crate) fn permit(&self, ciphertext_hash: &Hash, until_ms: u64) -> String {
        let Self { key, chain, server } = self;
        PeerPermit::sign(key, chain, server, ciphertext_hash, until_ms).to_string()
    }
}

/// How a new key file protects its secret.
#[derive(Clone, Copy)]
pub enum Protection<'a> {
    /// Encrypted with `XChaCha20-Poly1305` under a key that Argon2id derives from this passphrase.
    Passphrase(&'a str),
    /// Not at all, for worthless keys of local networks.
    Local,
}

impl fmt::Debug for Protection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(secret)",
            Self::Local => "Local",
        })
    }
}

/// What can be read in a key file without its passphrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name: the file's name without `.json`.
    pub name: String,
    /// Its address.
    pub address: Address,
    /// Whether the secret is encrypted; false for keys of local networks.
    pub encrypted: bool,
}

/// A folder of key files.
#[derive(Clone, Debug)]
pub struct KeyFolder {
    path: PathBuf,
}

/// One key file, which need not exist: a key of a folder, or a file of any name.
#[derive(Clone, Debug)]
pub struct KeyPath {
    path: PathBuf,
    name: String,
    /// The folder whose key it is, if it was named so.
    folder: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    schema: String,
    address: Address,
    /// How the key follows from the secret; left out if the secret is the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    derivation: Option<Derivation>,
    secret: StoredSecret,
}

/// How a key follows from 32 secret bytes.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Derivation {
    /// The bytes are those of [`Words`].
    #[serde(rename = "bip39+slip10")]
    Words,
}

/// What a key file keeps secret, decrypted: opening it again would derive a key from its passphrase
/// again, which takes time and memory by intent.
pub struct OpenKey {
    path: KeyPath,
    kept: Kept,
}

impl fmt::Debug for OpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenKey({})", self.path.name)
    }
}

/// A secret and how its key follows from it.
struct Kept {
    secret: Secret,
    derivation: Option<Derivation>,
}

impl OpenKey {
    /// The key.
    pub fn key(&self) -> SecretKey {
        self.kept.key()
    }

    /// The words that the key was made from.
    ///
    /// # Errors
    /// [`SdkError::NoWords`].
    pub fn words(&self) -> Result<Words, SdkError> {
        match self.kept.derivation {
            Some(Derivation::Words) => Ok(Words::of(&self.kept.secret)),
            None => Err(SdkError::NoWords { name: self.path.name.clone() }),
        }
    }

    /// Protects the file in another way: it is replaced as a whole, or stays as it was.
    ///
    /// # Errors
    /// [`SdkError::KeyFile`] if the file has another key by now; those of [`KeyPath::info`];
    /// [`SdkError::Io`]; [`SdkError::Randomness`].
    pub fn protect(&self, protection: Protection<'_>) -> Result<(), SdkError> {
        let path = &self.path.path;
        if self.path.info()?.address != self.key().address() {
            return Err(bad(path, "it has another key by now"));
        }
        let bytes = self.kept.file(protection)?;
        soma_os::file::write_private(path, &bytes).map_err(SdkError::io(path))
    }
}

impl Kept {
    fn key(&self) -> SecretKey {
        match self.derivation {
            None => SecretKey::from_bytes(self.secret.bytes()),
            Some(Derivation::Words) => Words::of(&self.secret).key(),
        }
    }

    /// The file of this secret.
    fn file(&self, protection: Protection<'_>) -> Result<Zeroizing<Vec<u8>>, SdkError> {
        let address = self.key().address();
        let secret = match protection {
            Protection::Passphrase(passphrase) => encrypt(&self.secret, &address, passphrase)?,
            Protection::Local => StoredSecret::Local { seed: self.secret.clone() },
        };
        let derivation = self.derivation;
        Ok(KeyFile { schema: SCHEMA.to_owned(), address, derivation, secret }.bytes())
    }
}

impl KeyFile {
    /// Reads the content of a file.
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, SdkError> {
        // The parser's own message is dropped, because it could quote the secret.
        let content: Self = serde_json::from_slice(bytes)
            .map_err(|_| bad(path, "it is not the JSON of a key file"))?;
        if content.schema == SCHEMA { Ok(content) } else { Err(bad(path, "unknown schema")) }
    }

    /// The text of the file. Its buffer never grows, because that would leave a copy of a secret
    /// behind.
    fn bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_MAX_BYTES));
        #[expect(clippy::expect_used, reason = "these always have a JSON form")]
        serde_json::to_writer_pretty(&mut *bytes, self).expect("a key file has a JSON form");
        bytes.push(b'\n');
        bytes
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum StoredSecret {
    Encrypted {
        kdf: Kdf,
        cipher: Cipher,
        #[serde(with = "hex::array")]
        nonce: [u8; 24],
        #[serde(with = "hex")]
        ciphertext: Vec<u8>,
    },
    Local {
        seed: Secret,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    name: KdfName,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    #[serde(with = "hex::array")]
    salt: [u8; 16],
}

#[derive(Serialize, Deserialize)]
enum KdfName {
    #[serde(rename = "argon2id")]
    Argon2id,
}

#[derive(Serialize, Deserialize)]
enum Cipher {
    #[serde(rename = "xchacha20-poly1305")]
    XChaCha20Poly1305,
}

const SCHEMA: &str = "soma-key/1";
const ENDING: &str = "json";
const NAME_MAX: usize = 64;
const FILE_MAX_BYTES: usize = 16 << 10;
/// The second recommendation of RFC 9106, section 4: 64 MiB.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// Bounds for a file from elsewhere, which must not exhaust memory or time.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;

impl KeyFolder {
    /// The keys that belong to `base`: a home folder, or the folder of a node or a local network.
    pub fn of(base: &Path) -> Self {
        Self::new(base.join("keys"))
    }

    /// The keys in the folder `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the key `name` is or would be.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name).with_extension(ENDING)
    }

    /// Writes `key` to a new file.
    ///
    /// # Errors
    /// [`SdkError::KeyExists`]; [`SdkError::KeyName`]; [`SdkError::FolderMode`]; [`SdkError::Io`];
    /// [`SdkError::Randomness`].
    pub fn create(
        &self,
        name: &str,
        key: &SecretKey,
        protection: Protection<'_>,
    ) -> Result<(), SdkError> {
        let secret = Secret::from_bytes(key.to_bytes());
        self.keep(name, &Kept { secret, derivation: None }, protection)
    }

    /// Writes the key of `words` to a new file, which remembers them.
    ///
    /// # Errors
    /// As for [`Self::create`].
    pub fn create_from_words(
        &self,
        name: &str,
        words: &Words,
        protection: Protection<'_>,
    ) -> Result<(), SdkError> {
        let kept = Kept { secret: words.entropy(), derivation: Some(Derivation::Words) };
        self.keep(name, &kept, protection)
    }

    /// Copies a key file, as it is encrypted, to a new file.
    ///
    /// # Errors
    /// As for [`Self::create`] and [`KeyPath::info`]; [`SdkError::KeyMode`].
    pub fn import(&self, name: &str, from: &KeyPath) -> Result<(), SdkError> {
        self.checked_path(name)?;
        self.adopt(name, &from.content()?)
    }

    /// Writes the content of a key file, as it is encrypted, to a new file.
    ///
    /// # Errors
    /// As for [`Self::create`]; [`SdkError::KeyFile`] if it is none.
    pub fn adopt(&self, name: &str, content: &[u8]) -> Result<(), SdkError> {
        let path = self.checked_path(name)?;
        let bytes = KeyFile::parse(&path, content)?.bytes();
        file::private_folder(&self.path)?;
        write_new(name, &path, &bytes)
    }

    fn keep(&self, name: &str, kept: &Kept, protection: Protection<'_>) -> Result<(), SdkError> {
        let path = self.checked_path(name)?;
        let bytes = kept.file(protection)?;
        file::private_folder(&self.path)?;
        write_new(name, &path, &bytes)
    }

    /// All keys in the folder, by name. Other files are left out; [`Self::list_all`] tells which.
    ///
    /// # Errors
    /// [`SdkError::Io`] if the folder exists and cannot be read.
    pub fn list(&self) -> Result<Vec<KeyInfo>, SdkError> {
        Ok(self.list_all()?.0)
    }

    /// All keys in the folder, by name, and why the other files that end in `.json` are none.
    ///
    /// # Errors
    /// [`SdkError::Io`] if the folder exists and cannot be read.
    pub fn list_all(&self) -> Result<(Vec<KeyInfo>, Vec<SdkError>), SdkError> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok((Vec::new(), Vec::new()));
            }
            Err(error) => return Err(SdkError::io(&self.path)(error)),
        };
        let (mut keys, mut errors) = (Vec::new(), Vec::new());
        for entry in entries {
            let path = entry.map_err(SdkError::io(&self.path))?.path();
            if path.extension().is_none_or(|ending| ending != ENDING) {
                continue;
            }
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            match self.info(&name) {
                Ok(key) => keys.push(key),
                Err(error) => errors.push(error),
            }
        }
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((keys, errors))
    }

    /// The key `name`.
    ///
    /// # Errors
    /// [`SdkError::KeyName`].
    pub fn key(&self, name: &str) -> Result<KeyPath, SdkError> {
        let path = self.checked_path(name)?;
        Ok(KeyPath { path, name: name.to_owned(), folder: Some(self.path.clone()) })
    }

    /// What the key `name` shows without its passphrase.
    ///
    /// # Errors
    /// [`SdkError::KeyName`]; those of [`KeyPath::info`].
    pub fn info(&self, name: &str) -> Result<KeyInfo, SdkError> {
        self.key(name)?.info()
    }

    /// Checks that no other user can read the file of the key `name`, which is not opened.
    ///
    /// # Errors
    /// [`SdkError::KeyMode`] if others can; [`SdkError::KeyName`]; [`SdkError::Io`].
    pub fn check(&self, name: &str) -> Result<(), SdkError> {
        check_mode(&self.checked_path(name)?)
    }

    /// The key `name`, decrypted with its passphrase if it has one.
    ///
    /// # Errors
    /// [`SdkError::KeyName`]; those of [`KeyPath::load`].
    pub fn load(&self, name: &str, passphrase: Option<&str>) -> Result<SecretKey, SdkError> {
        self.key(name)?.load(passphrase)
    }

    fn checked_path(&self, name: &str) -> Result<PathBuf, SdkError> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(plain) {
            return Err(SdkError::KeyName { name: name.to_owned() });
        }
        Ok(self.path_of(name))
    }
}

impl KeyPath {
    /// The key in the file `path`, whatever its name.
    pub fn file(path: &Path) -> Self {
        Self { path: path.to_owned(), name: path.display().to_string(), folder: None }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the key, or the path of a file that was named.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The genesis beside the key's folder, if there is one: the folders of nodes and of local
    /// networks have theirs there, and their keys are for no other chain.
    pub fn genesis_beside(&self) -> Option<PathBuf> {
        let path = std::path::absolute(&self.path).ok()?;
        let genesis = path.parent()?.parent()?.join("genesis.json");
        genesis.is_file().then_some(genesis)
    }

    /// What it shows without its passphrase.
    ///
    /// # Errors
    /// [`SdkError::KeyMissing`]; [`SdkError::KeyFile`]; [`SdkError::Io`].
    pub fn info(&self) -> Result<KeyInfo, SdkError> {
        let content = self.read()?;
        let encrypted = matches!(content.secret, StoredSecret::Encrypted { .. });
        Ok(KeyInfo { name: self.name.clone(), address: content.address, encrypted })
    }

    /// The key, decrypted with its passphrase if it has one.
    ///
    /// # Errors
    /// Those of [`KeyPath::info`]; [`SdkError::PassphraseNeeded`]; [`SdkError::PassphraseWrong`];
    /// [`SdkError::KeyMode`] if others can read the file.
    pub fn load(&self, passphrase: Option<&str>) -> Result<SecretKey, SdkError> {
        Ok(self.open(passphrase)?.key())
    }

    /// The content of the file, as it is encrypted.
    ///
    /// # Errors
    /// Those of [`Self::info`]; [`SdkError::KeyMode`].
    pub fn content(&self) -> Result<Zeroizing<Vec<u8>>, SdkError> {
        check_mode(&self.path)?;
        Ok(self.read()?.bytes())
    }

    /// Copies the file as it is to `path`, for this user only.
    ///
    /// # Errors
    /// Those of [`Self::content`]; [`SdkError::Io`].
    pub fn export(&self, path: &Path) -> Result<(), SdkError> {
        soma_os::file::write_private(path, &self.content()?).map_err(SdkError::io(path))
    }

    /// What the file keeps, decrypted with its passphrase if it has one.
    ///
    /// # Errors
    /// Those of [`Self::load`].
    pub fn open(&self, passphrase: Option<&str>) -> Result<OpenKey, SdkError> {
        let content = self.read()?;
        let (path, name) = (&self.path, || self.name.clone());
        check_mode(path)?;
        let seed = match &content.secret {
            StoredSecret::Local { seed } => seed.clone(),
            StoredSecret::Encrypted { kdf, nonce, ciphertext, .. } => {
                let passphrase =
                    passphrase.ok_or_else(|| SdkError::PassphraseNeeded { name: name() })?;
                let cipher = stretch(kdf, passphrase)
                    .ok_or_else(|| bad(path, "its key derivation parameters are out of bounds"))?;
                let payload = Payload { msg: ciphertext, aad: &content.address.0 };
                let plain = cipher
                    .decrypt(&XNonce::from(*nonce), payload)
                    .map_err(|_| SdkError::PassphraseWrong { name: name() })?;
                let plain = Zeroizing::new(plain);
                let seed = plain.as_slice().try_into();
                Secret::from_bytes(seed.map_err(|_| bad(path, "its secret is not 32 bytes"))?)
            }
        };
        let kept = Kept { secret: seed, derivation: content.derivation };
        if kept.key().address() == content.address {
            Ok(OpenKey { path: self.clone(), kept })
        } else {
            Err(bad(path, "its secret belongs to another address"))
        }
    }

    fn read(&self) -> Result<KeyFile, SdkError> {
        let path = &self.path;
        // The buffer never grows, because that would leave a copy of a secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_MAX_BYTES + 1));
        let read = soma_os::data::open(path)
            .and_then(|file| file.take(FILE_MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
        match (read, &self.folder) {
            (Ok(size_bytes), _) if size_bytes > FILE_MAX_BYTES => {
                return Err(bad(path, "it is too large"));
            }
            (Ok(_), _) => {}
            (Err(error), Some(dir)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(SdkError::KeyMissing { name: self.name.clone(), dir: dir.clone() });
            }
            (Err(error), _) => return Err(SdkError::io(path)(error)),
        }
        KeyFile::parse(path, &bytes)
    }
}

fn bad(path: &Path, reason: &'static str) -> SdkError {
    SdkError::KeyFile { path: path.to_owned(), reason }
}

fn encrypt(secret: &Secret, address: &Address, passphrase: &str) -> Result<StoredSecret, SdkError> {
    let (mut salt, mut nonce) = ([0; 16], [0; 24]);
    fill_random(&mut salt)?;
    fill_random(&mut nonce)?;
    let kdf =
        Kdf { name: KdfName::Argon2id, memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES, salt };
    let payload = Payload { msg: secret.bytes(), aad: &address.0 };
    #[expect(clippy::expect_used, reason = "constants within bounds, and 32 bytes to encrypt")]
    let ciphertext = stretch(&kdf, passphrase)
        .and_then(|cipher| cipher.encrypt(&XNonce::from(nonce), payload).ok())
        .expect("our own parameters are valid");
    Ok(StoredSecret::Encrypted { kdf, cipher: Cipher::XChaCha20Poly1305, nonce, ciphertext })
}

/// The cipher keyed by `passphrase`; `None` if the parameters are out of bounds.
fn stretch(kdf: &Kdf, passphrase: &str) -> Option<XChaCha20Poly1305> {
    #[cfg(test)]
    tests::STRETCHED.with(|count| count.set(count.get() + 1));
    if kdf.memory_kib > MEMORY_KIB_MAX || kdf.passes > PASSES_MAX {
        return None;
    }
    let params = Params::new(kdf.memory_kib, kdf.passes, kdf.lanes, Some(32)).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), &kdf.salt, key.as_mut())
        .ok()?;
    XChaCha20Poly1305::new_from_slice(key.as_ref()).ok()
}

/// Creates the file and writes it; removes it if that fails.
fn write_new(name: &str, path: &Path, bytes: &[u8]) -> Result<(), SdkError> {
    let mut options = OpenOptions::new();
    let mut created = match file::private(options.write(true).create_new(true)).open(path) {
        Ok(created) => created,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(SdkError::KeyExists { name: name.to_owned() });
        }
        Err(error) => return Err(SdkError::io(path)(error)),
    };
    let written = created.write_all(bytes).and_then(|()| created.sync_all());
    written.and_then(|()| soma_os::file::sync_parent(path)).map_err(SdkError::io(path)).inspect_err(
        |_| {
            // The first error is the one to report.
            let _ = std::fs::remove_file(path);
        },
    )
}

/// Rejects a file that other users may have read.
fn check_mode(path: &Path) -> Result<(), SdkError> {
    match file::mode_for_others(path)? {
        Some(mode) => Err(SdkError::KeyMode { path: path.to_owned(), mode }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{KeyFolder, Protection};
    use crate::words::Words;

    thread_local! {
        /// How many keys this thread has derived from passphrases.
        pub(super) static STRETCHED: Cell<u32> = const { Cell::new(0) };
    }

    /// How many keys are derived from passphrases by `work`.
    fn stretched<T>(work: impl FnOnce() -> T) -> (u32, T) {
        STRETCHED.set(0);
        let done = work();
        (STRETCHED.get(), done)
    }

    #[test]
    fn a_passphrase_is_stretched_once_to_read_a_key_and_once_to_write_it() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::of(folder.path());
        let words = Words::generate().unwrap();
        let protection = Protection::Passphrase("the first one");
        let (count, ()) =
            stretched(|| keys.create_from_words("alice", &words, protection).unwrap());
        assert_eq!(count, 1, "created");
        let key = keys.key("alice").unwrap();
        let (count, opened) = stretched(|| {
            key.open(None).unwrap_err();
            let opened = key.open(Some("the first one")).unwrap();
            assert_eq!(opened.words().unwrap().phrase(), words.phrase());
            assert_eq!(opened.key().address(), words.key().address());
            opened
        });
        assert_eq!(count, 1, "opened");
        let (count, ()) = stretched(|| {
            opened.protect(Protection::Passphrase("the second one")).unwrap();
            key.export(&folder.path().join("copy")).unwrap();
            key.info().unwrap();
        });
        assert_eq!(count, 1, "written again");
    }

    #[test]
    fn a_file_that_has_another_key_by_now_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::of(folder.path());
        let [first, second] = [(); 2].map(|()| super::generate().unwrap());
        keys.create("alice", &first, Protection::Local).unwrap();
        let opened = keys.key("alice").unwrap().open(None).unwrap();
        std::fs::remove_file(keys.path_of("alice")).unwrap();
        keys.create("alice", &second, Protection::Local).unwrap();
        opened.protect(Protection::Passphrase("a passphrase")).unwrap_err();
        assert_eq!(keys.load("alice", None).unwrap().to_bytes(), second.to_bytes());
    }
}
