//! Weights files on this machine: opened, and downloaded once.
//!
//! A file whose hash is wrong must never be scored with: a wrong score would cost a bond. Whether a
//! model has a score depends on its own file, as it does for auditors: the encrypted file that the
//! chain names is downloaded, verified and decrypted here, so no node can make a model look broken.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use soma_model::{Architecture, Weights};
use soma_protocol::Hash;
use soma_sdk::SdkError;
use soma_sdk::api;
use soma_sdk::cipher::{self, EncryptedFile};
use soma_sdk::client::Client;
use soma_sdk::mirrors::Mirrors;
use soma_sdk::secret::Secret;
use soma_sdk::transfer::Remote;
use soma_sdk::turn::Turn;

use crate::error::{CompeteError, Result};
use crate::observer::{Level, Observer};

/// How long another process may take to download a model before this one does it, too.
const TURN_LIMIT: Duration = Duration::from_hours(1);

/// The file with which a model competes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelFile {
    /// BLAKE3 of the weights that the model has revealed.
    pub weights_hash: Hash,
    /// BLAKE3 of its encrypted file.
    pub ciphertext_hash: Hash,
    /// Size of either file in bytes.
    pub size_bytes: u64,
    /// The revealed key of the encrypted file.
    pub key: [u8; 32],
}

impl std::fmt::Debug for ModelFile {
    /// Omits the key, like everything that holds one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModelFile({} in {})", self.weights_hash, self.ciphertext_hash)
    }
}

impl From<&api::Routed> for ModelFile {
    fn from(routed: &api::Routed) -> Self {
        Self {
            weights_hash: routed.weights_hash.0,
            ciphertext_hash: routed.ciphertext_hash.0,
            size_bytes: routed.size_bytes.0,
            key: routed.key.0.0,
        }
    }
}

impl From<&api::Weights> for ModelFile {
    fn from(weights: &api::Weights) -> Self {
        Self {
            weights_hash: weights.hash.0,
            ciphertext_hash: weights.ciphertext_hash.0,
            size_bytes: weights.size_bytes.0,
            key: weights.key.0.0,
        }
    }
}

impl ModelFile {
    /// Names the file with all that decides whether it is broken.
    pub(crate) fn id(&self) -> Hash {
        let Self { weights_hash, ciphertext_hash, size_bytes, key } = self;
        let size_bytes = size_bytes.to_le_bytes();
        let parts: [&[u8]; 4] = [&weights_hash.0, &ciphertext_hash.0, &size_bytes, key];
        Hash::of_parts("soma model file", &parts)
    }

    /// Decrypts a complete download into `to`.
    ///
    /// # Errors
    /// [`CompeteError::BrokenFile`] if it is the model's file but not what the model revealed.
    fn decrypt(&self, from: &Path, to: &Path, progress: impl FnMut(u64)) -> Result {
        let key = Secret::from_bytes(self.key);
        match cipher::decrypt(from, to, &key, self.weights_hash, progress) {
            Err(error @ SdkError::WrongHash { .. }) => {
                // Unless this disk has damaged it since it was verified.
                let EncryptedFile { ciphertext_hash, .. } = cipher::inspect(from, &key)?;
                if ciphertext_hash != self.ciphertext_hash {
                    return Err(error.into());
                }
                let weights_hash = self.weights_hash;
                Err(CompeteError::BrokenFile { ciphertext_hash, weights_hash })
            }
            done => Ok(done?),
        }
    }
}

/// A folder of weights files, and the mirrors that they are fetched from before the node is asked.
#[derive(Clone, Debug)]
pub struct WeightsCache {
    folder: PathBuf,
    mirrors: Arc<Mirrors>,
}

impl WeightsCache {
    /// The cache in `folder`, which is created when something is downloaded.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, mirrors: Arc::default() }
    }

    /// The same, with mirrors.
    #[must_use]
    pub fn with_mirrors(self, mirrors: Mirrors) -> Self {
        Self { mirrors: Arc::new(mirrors), ..self }
    }

    /// Where a model's weights are once they are here.
    pub fn path(&self, file: &ModelFile) -> PathBuf {
        self.folder.join(format!("{}.safetensors", file.id()))
    }

    /// Opens a model's weights, downloading them first if they are not here yet, and again if the
    /// file here is damaged. A file that is broken is downloaded only once, too.
    ///
    /// # Errors
    /// [`CompeteError::BrokenFile`]; same as [`download`] and [`open`].
    pub async fn open(
        &self,
        client: &Client,
        file: &ModelFile,
        architecture: &Architecture,
        observer: &dyn Observer,
    ) -> Result<Weights> {
        let ModelFile { weights_hash, ciphertext_hash, size_bytes, .. } = *file;
        let in_folder = |name: String| self.folder.join(name);
        let path = self.path(file);
        let broken = in_folder(format!("{}.broken", file.id()));
        if broken.is_file() {
            return Err(CompeteError::BrokenFile { ciphertext_hash, weights_hash });
        }
        if let Some(weights) = self.kept(file, architecture)? {
            return Ok(weights);
        }
        let folder = &self.folder;
        std::fs::create_dir_all(folder).map_err(CompeteError::file(folder, "create"))?;
        // Several processes need the same models at the same time: one downloads, the others wait.
        let lock = in_folder(format!("{}.lock", file.id()));
        let _turn = Turn::take(&lock, TURN_LIMIT, client.listener(), "download a model").await;
        if let Some(weights) = self.kept(file, architecture)? {
            return Ok(weights);
        }
        let encrypted = in_folder(format!("{ciphertext_hash}.encrypted"));
        let remote = Remote::ciphertext(ciphertext_hash, size_bytes);
        let mut advance = observer.start("downloading", Some(size_bytes));
        let mut progress = |done, _: u64| advance(done);
        let tell = |text: &str| observer.notice(Level::Warning, &text);
        if !self.mirrors.download(&remote, &encrypted, &mut progress, &tell).await {
            client.download(&remote, &encrypted, &mut progress).await?;
        }
        let advance = observer.start("decrypting", Some(size_bytes));
        let decrypted = tokio::task::block_in_place(|| file.decrypt(&encrypted, &path, advance));
        match decrypted {
            // A full disk, say: what was downloaded is used by the next attempt.
            Err(error) if error.is_local() => return Err(error),
            Err(error) => {
                delete(&encrypted)?;
                if matches!(error, CompeteError::BrokenFile { .. }) {
                    // Without the mark, the file is downloaded again the next time.
                    let _marked = std::fs::write(&broken, []);
                }
                return Err(error);
            }
            Ok(()) => delete(&encrypted)?,
        }
        // If something has changed the file since, that says nothing about the model.
        self.kept(file, architecture)?.ok_or(CompeteError::Modified { path })
    }

    /// A model's weights, if they are here and whole; what is damaged is deleted.
    fn kept(&self, file: &ModelFile, architecture: &Architecture) -> Result<Option<Weights>> {
        let path = self.path(file);
        if !path.is_file() {
            return Ok(None);
        }
        match open(&path, Some(architecture)) {
            Ok(weights) if weights.hash() == file.weights_hash.0 => Ok(Some(weights)),
            Err(error) if hash_of(&path)? == file.weights_hash => Err(error),
            Ok(_) | Err(_) => delete(&path).map(|()| None),
        }
    }
}

/// Deletes a file that another process may have deleted.
fn delete(path: &Path) -> Result {
    soma_os::file::remove(path).map_err(CompeteError::file(path, "delete"))
}

/// BLAKE3 of a file.
///
/// # Errors
/// [`CompeteError::File`].
pub fn hash_of(path: &Path) -> Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    let hashed = std::fs::File::open(path).and_then(|file| hasher.update_reader(file).map(drop));
    hashed.map_err(CompeteError::file(path, "read"))?;
    Ok(Hash(*hasher.finalize().as_bytes()))
}

/// Downloads a file, resuming an interrupted attempt; what arrives is verified.
///
/// # Errors
/// Same as [`Client::download`].
pub async fn download(
    client: &Client,
    remote: &Remote,
    path: &Path,
    observer: &dyn Observer,
) -> Result {
    let mut advance = observer.start("downloading", Some(remote.size_bytes));
    Ok(client.download(remote, path, &mut |done, _| advance(done)).await?)
}

/// Opens and checks a weights file; without a given architecture, as one of the architecture that
/// its metadata names.
///
/// # Errors
/// [`CompeteError::Weights`]; [`CompeteError::Model`] if the file cannot be read.
pub fn open(path: &Path, architecture: Option<&Architecture>) -> Result<Weights> {
    Weights::open(path, architecture).map_err(|source| match source {
        // These errors already name the file.
        soma_model::Error::Io { .. }
        | soma_model::Error::NotAFile { .. }
        | soma_model::Error::Changed { .. } => source.into(),
        source => CompeteError::Weights { path: path.to_owned(), source },
    })
}

#[cfg(test)]
impl ModelFile {
    /// A file that no node has, for weights with this hash.
    pub(crate) fn of_weights(weights_hash: Hash) -> Self {
        Self { weights_hash, ciphertext_hash: Hash([1; 32]), size_bytes: 9, key: [2; 32] }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use soma_model::{Architecture, Weights};
    use soma_protocol::Hash;
    use soma_sdk::cipher;
    use soma_sdk::client::Client;
    use soma_sdk::secret::Secret;

    use super::{ModelFile, WeightsCache};
    use crate::error::CompeteError;
    use crate::observer::Silent;

    #[test]
    fn a_model_is_broken_only_if_its_own_file_is_not_what_it_revealed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("weights"), [5; 3_000]).unwrap();
        let key = Secret::from_bytes([3; 32]);
        let file = cipher::encrypt(&path("weights"), &path("file"), &key, |_| ()).unwrap();
        let right = ModelFile {
            weights_hash: file.weights_hash,
            ciphertext_hash: file.ciphertext_hash,
            size_bytes: file.size_bytes,
            key: [3; 32],
        };
        right.decrypt(&path("file"), &path("copy"), |_| ()).unwrap();
        assert_eq!(fs::read(path("copy")).unwrap(), [5; 3_000]);
        for wrong in [
            ModelFile { key: [4; 32], ..right },
            ModelFile { weights_hash: Hash([1; 32]), ..right },
        ] {
            assert_ne!(wrong.id(), right.id());
            let error = wrong.decrypt(&path("file"), &path("none"), |_| ()).unwrap_err();
            assert!(matches!(error, CompeteError::BrokenFile { .. }) && error.is_broken_file());
            assert!(!path("none").exists());
        }
        // A file that this disk has damaged says nothing about the model.
        fs::write(path("file"), [6; 3_000]).unwrap();
        let error = right.decrypt(&path("file"), &path("none"), |_| ()).unwrap_err();
        assert!(!error.is_broken_file());
    }

    #[tokio::test]
    async fn a_damaged_copy_on_this_machine_says_nothing_about_the_model() {
        let home = tempfile::tempdir().unwrap();
        let cache = WeightsCache::new(home.path().to_owned());
        let architecture = Architecture { layers: 1, ..Architecture::nano() };
        let weights = Weights::init(&architecture, [1; 32]).unwrap();
        let of_model = ModelFile::of_weights(Hash(weights.hash()));
        let path = home.path().join(format!("{}.safetensors", of_model.id()));
        weights.save(&path).unwrap();
        let nowhere = Client::new("http://127.0.0.1:1").unwrap().without_retries();
        let open = async |file| cache.open(&nowhere, file, &architecture, &Silent).await;
        assert_eq!(open(&of_model).await.unwrap().hash(), weights.hash());
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = open(&of_model).await.unwrap_err();
        assert!(!error.is_broken_file(), "{error}");
        assert!(!path.exists(), "it is downloaded again");

        let malformed = b"not a weights file";
        let of_another = ModelFile::of_weights(Hash::of_bytes(malformed));
        let path = home.path().join(format!("{}.safetensors", of_another.id()));
        fs::write(path, malformed).unwrap();
        assert!(open(&of_another).await.unwrap_err().is_broken_file(), "it was published so");
    }
}
