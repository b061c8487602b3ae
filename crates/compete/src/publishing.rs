//! From a weights file to public weights: encrypt, commit, upload; the reveal is an obligation.

use std::path::{Path, PathBuf};

use soma_protocol::{Action, Amount, Epoch, Hash, ModelId, action};
use soma_sdk::api::{Commit, Model};
use soma_sdk::cipher::EncryptedFile;
use soma_sdk::obligation::{Obligation, Reveal};
use soma_sdk::secret::Secret;

use crate::competitor::Competitor;
use crate::error::{CompeteError, Result};
use crate::watch::Watch;

/// Weights that a model is about to commit to.
#[derive(Debug)]
pub struct Offer<'a> {
    /// The model.
    pub model: ModelId,
    /// The weights file.
    pub file: &'a Path,
    /// BLAKE3 of the file.
    pub weights_hash: Hash,
    /// The model's specialization.
    pub specialization: Vec<i16>,
    /// Number of the architecture that the weights are for.
    pub architecture: u32,
}

/// An encrypted weights file, ready to be committed to.
struct Encrypted {
    file: EncryptedFile,
    key: Secret,
    path: PathBuf,
}

impl Competitor<'_> {
    /// Registers a model and returns its number.
    ///
    /// # Errors
    /// Same as [`soma_sdk::Sender::run`].
    pub async fn register(
        &self,
        name: String,
        stake: Amount,
        commission_bps: u16,
    ) -> Result<ModelId> {
        let action = Action::RegisterModel(action::RegisterModel { name, commission_bps, stake });
        self.sender.run(action).await?;
        let account = self.client().account(self.sender.address()).await?;
        let id = account.models.last().copied().map(ModelId);
        id.ok_or(CompeteError::NotRegistered)
    }

    /// Commits for the next epoch and uploads the encrypted file. Returns the epoch of the reveal
    /// once enough validators hold the file; the reveal is in the spool.
    ///
    /// # Errors
    /// [`CompeteError::NotOwner`]; [`CompeteError::CommitLapsed`]; [`CompeteError::Modified`];
    /// network and file errors.
    pub async fn commit(&self, offer: Offer<'_>) -> Result<Epoch> {
        let client = self.client();
        let model = client.model(offer.model).await?;
        if model.owner.0 != self.sender.address() {
            return Err(CompeteError::NotOwner {
                model: offer.model,
                owner: model.owner.0,
                signer: self.sender.address(),
            });
        }
        let Encrypted { file: encrypted, key, path } = self.encrypt(&model, &offer)?;
        let reveal = Reveal {
            chain: self.sender.chain(),
            model: offer.model,
            architecture: offer.architecture,
            owner: self.sender.address(),
            epoch: Epoch(client.status().await?.clock.epoch + 1),
            key,
            weights_hash: encrypted.weights_hash,
            ciphertext_hash: encrypted.ciphertext_hash,
            size_bytes: encrypted.size_bytes,
            specialization: offer.specialization,
            ciphertext: path.clone(),
        };
        let (epoch, action) = (reveal.epoch, reveal.commit());
        self.send(Obligation::Reveal(reveal), action).await?;
        let mut advance = self.observer.start("uploading", Some(encrypted.size_bytes));
        let progress = &mut |done, _| advance(done);
        self.sender.upload(&path, encrypted.ciphertext_hash, progress).await?;
        self.held(offer.model, encrypted.ciphertext_hash, epoch).await?;
        Ok(epoch)
    }

    /// Encrypts the file, unless this machine has revealed the same bytes before: then the existing
    /// ciphertext is committed to again, so nobody stores or downloads it twice. That weights are
    /// public is never taken from the node: whoever knows a key could read them before the reveal.
    fn encrypt(&self, model: &Model, offer: &Offer<'_>) -> Result<Encrypted> {
        let mut public = model.weights.iter().chain(&model.next);
        let public = public.find(|weights| weights.hash.0 == offer.weights_hash);
        if let Some(weights) = public
            && let Some(key) =
                self.spool.revealed_key(offer.weights_hash, weights.ciphertext_hash.0)?
        {
            let encrypted = EncryptedFile {
                weights_hash: offer.weights_hash,
                ciphertext_hash: weights.ciphertext_hash.0,
                size_bytes: weights.size_bytes.0,
            };
            let path = self.spool.ciphertext(encrypted.ciphertext_hash);
            if path.is_file() {
                return Ok(Encrypted { file: encrypted, key, path });
            }
            return self.encrypt_with(key, offer);
        }
        self.encrypt_with(Secret::generate()?, offer)
    }

    fn encrypt_with(&self, key: Secret, offer: &Offer<'_>) -> Result<Encrypted> {
        let metadata = std::fs::metadata(offer.file);
        let bytes = metadata.map_err(CompeteError::file(offer.file, "read"))?.len();
        let advance = self.observer.start("encrypting", Some(bytes));
        let (encrypted, path) = self.spool.encrypt(offer.file, &key, advance)?;
        if encrypted.weights_hash != offer.weights_hash {
            let path = offer.file.to_owned();
            return Err(CompeteError::Modified { path });
        }
        Ok(Encrypted { file: encrypted, key, path })
    }

    /// Waits until enough validators have attested that they hold the file.
    async fn held(&self, id: ModelId, ciphertext_hash: Hash, epoch: Epoch) -> Result {
        let mut watch = Watch::start(self.client()).await;
        let _task = self.observer.start("waiting for validators to hold the file", None);
        loop {
            let model = self.client().model(id).await?;
            let ours = |commit: &&Commit| {
                commit.epoch == epoch.0 && commit.ciphertext_hash.0 == ciphertext_hash
            };
            match model.commits.iter().find(ours) {
                Some(commit) if commit.held => return Ok(()),
                Some(_) => watch.changed().await,
                None => return Err(CompeteError::CommitLapsed { model: id }),
            }
        }
    }
}
