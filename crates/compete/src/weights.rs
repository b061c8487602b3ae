//! Weights files on this machine: opened, and downloaded once by hash.
//!
//! A file whose hash is wrong must never be scored with: a wrong score would cost a bond.

use std::path::{Path, PathBuf};

use soma_model::{Architecture, Weights};
use soma_protocol::Hash;
use soma_sdk::client::Client;
use soma_sdk::transfer::Remote;

use crate::error::{CompeteError, Result};
use crate::observer::Observer;

/// A folder of weights files named by their hashes.
#[derive(Clone, Debug)]
pub struct WeightsCache {
    folder: PathBuf,
}

impl WeightsCache {
    /// The cache in `folder`, which is created when something is downloaded.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Opens the weights `remote`, downloading them first if they are not here yet, and again if
    /// the file here is damaged.
    ///
    /// # Errors
    /// Same as [`download`] and [`open`].
    pub async fn open(
        &self,
        client: &Client,
        hash: Hash,
        size_bytes: u64,
        architecture: &Architecture,
        observer: &dyn Observer,
    ) -> Result<Weights> {
        let path = self.folder.join(format!("{hash}.safetensors"));
        let remote = Remote::weights(hash, size_bytes);
        if path.is_file() {
            let weights = open(&path, Some(architecture))?;
            if weights.hash() == hash.0 {
                return Ok(weights);
            }
            std::fs::remove_file(&path).map_err(CompeteError::file(&path, "delete"))?;
        }
        let folder = &self.folder;
        std::fs::create_dir_all(folder).map_err(CompeteError::file(folder, "create"))?;
        download(client, &remote, &path, observer).await?;
        open(&path, Some(architecture))
    }
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
        // This error already names the file.
        soma_model::Error::Io { .. } => source.into(),
        source => CompeteError::Weights { path: path.to_owned(), source },
    })
}
