//! Public weights on this machine: fetched once by hash, verified while they arrive, kept.

use std::path::PathBuf;

use soma_model::{Architecture, Weights};
use soma_protocol::Hash;
use soma_sdk::client::Client;
use soma_sdk::transfer::Remote;

use crate::error::{Error, Result};
use crate::model_files::{self, Arch};
use crate::output::{Output, Unit};

/// A folder of weights files named by their hashes.
#[derive(Clone, Debug)]
pub(crate) struct WeightsCache {
    folder: PathBuf,
}

impl WeightsCache {
    /// The cache in `folder`, which is made when something arrives.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Opens the weights with this hash, fetching them first if they are not here yet.
    pub(crate) async fn open(
        &self,
        client: &Client,
        (hash, size_bytes): (Hash, u64),
        architecture: &Architecture,
        output: &Output,
    ) -> Result<Weights> {
        let path = self.folder.join(format!("{hash}.safetensors"));
        if !path.is_file() {
            std::fs::create_dir_all(&self.folder)
                .map_err(|error| Error::file(&self.folder, "create", &error))?;
            fetch(client, &Remote::weights(hash, size_bytes), &path, output).await?;
        }
        let arch = Arch(architecture.clone());
        let weights = model_files::open(&path, Some(&arch))?;
        if weights.hash() == hash.0 {
            return Ok(weights);
        }
        // Damaged since it was fetched; a wrong score would cost a bond.
        std::fs::remove_file(&path).map_err(|error| Error::file(&path, "delete", &error))?;
        fetch(client, &Remote::weights(hash, size_bytes), &path, output).await?;
        model_files::open(&path, Some(&arch))
    }
}

/// Fetches a file, going on where an earlier attempt broke off.
pub(crate) async fn fetch(
    client: &Client,
    remote: &Remote,
    path: &std::path::Path,
    output: &Output,
) -> Result {
    let bar = output.bar(remote.size_bytes, "fetching", Unit::Bytes);
    let fetched = client
        .download(remote, path, &mut |done, _| bar.set_position(done))
        .await;
    bar.finish_and_clear();
    Ok(fetched?)
}
