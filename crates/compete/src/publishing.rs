//! From a weights file to public weights: encrypt, commit, upload; the reveal is an obligation.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use soma_codes::{Code, Coded as _};
use soma_protocol::{Action, Amount, Epoch, Hash, ModelId, action, rent};
use soma_sdk::api::{Commit, Model};
use soma_sdk::cipher::EncryptedFile;
use soma_sdk::obligation::{Obligation, Reveal};
use soma_sdk::secret::Secret;

use crate::competitor::Competitor;
use crate::error::{CompeteError, Result};
use crate::observer::Level;
use crate::troubles::Troubles;
use crate::watch::Watch;

/// What the troubles of an upload are told as.
const UPLOAD: &str = "uploading the weights";
/// Time after which a complete upload that too few validators hold is looked at again.
const UPLOAD_AGAIN: Duration = Duration::from_secs(20);

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

impl Offer<'_> {
    /// Whether a reveal is of these weights.
    fn is_in(&self, reveal: &Reveal) -> bool {
        (reveal.model, reveal.architecture) == (self.model, self.architecture)
            && reveal.weights_hash == self.weights_hash
            && reveal.specialization == self.specialization
    }
}

/// An encrypted weights file, ready to be committed to.
struct Encrypted {
    file: EncryptedFile,
    key: Secret,
    path: PathBuf,
}

/// Whether a model has revealed the file that it committed for this epoch.
fn is_revealed(model: &Model, ciphertext_hash: Hash, epoch: Epoch) -> bool {
    let mut weights = model.weights.iter().chain(&model.next);
    weights.any(|weights| {
        weights.ciphertext_hash.0 == ciphertext_hash && weights.revealed_epoch >= epoch.0
    })
}

impl Competitor<'_> {
    /// Registers a model and returns its number.
    ///
    /// # Errors
    /// Same as [`soma_sdk::Sender::run`].
    pub async fn register(&self, model: action::RegisterModel) -> Result<ModelId> {
        self.sender.run(Action::RegisterModel(model)).await?;
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
        if let Some(earlier) = Box::pin(self.continued(&model, &offer)).await? {
            let epoch = earlier.epoch;
            let text = format!("continuing with the commit for epoch {epoch}, made before");
            self.observer.notice(Level::Info, &text);
            self.upload(&offer, &self.encrypted_before(earlier), epoch).await?;
            return Ok(epoch);
        }
        let encrypted = self.encrypt(&model, &offer)?;
        loop {
            let epoch = Epoch(client.status().await?.clock.epoch + 1);
            let reveal = self.reveal_in(epoch, &offer, &encrypted);
            self.tell_stake(&model, offer.architecture, epoch, reveal.size_bytes).await?;
            let action = reveal.commit();
            let obligation = Obligation::Reveal(reveal);
            let is_new = self.spool.put_new(&obligation)?;
            match self.send(&obligation, is_new, action).await {
                // The epoch ended while the commit was on its way.
                Err(error) if error.code() == Code::WrongEpoch => {}
                sent => {
                    sent?;
                    let uploaded = self.upload(&offer, &encrypted, epoch).await;
                    if let Err(CompeteError::CommitLapsed { .. }) = uploaded {
                        self.spool.retire(&obligation, false)?;
                    }
                    return uploaded.map(|()| epoch);
                }
            }
        }
    }

    /// The reveal of these weights that an earlier run has left, if its commit can still be
    /// revealed. Before that, sends what is due: the reveal may be.
    async fn continued(&self, model: &Model, offer: &Offer<'_>) -> Result<Option<Reveal>> {
        let left = self.spool.list()?.obligations;
        self.deliver_once().await?;
        let clock = self.client().status().await?.clock;
        let is_ahead = |commit: &Commit| {
            let is_time = clock.phase.0.reveals() && commit.held;
            commit.epoch > clock.epoch || (commit.epoch == clock.epoch && is_time)
        };
        let stands = |reveal: &Reveal| {
            // The commitment covers chain and owner, too.
            let commit = reveal.commit_in(model);
            offer.is_in(reveal) && commit.is_some_and(is_ahead)
        };
        Ok(left.into_iter().find_map(|due| match due {
            Obligation::Reveal(reveal) if stands(&reveal) => Some(reveal),
            _ => None,
        }))
    }

    /// The encrypted file of an earlier run.
    fn encrypted_before(&self, reveal: Reveal) -> Encrypted {
        let path = self.spool.ciphertext(reveal.ciphertext_hash);
        Encrypted { file: reveal.encrypted_file(), key: reveal.key, path }
    }

    /// What is revealed in an epoch.
    fn reveal_in(&self, epoch: Epoch, offer: &Offer<'_>, encrypted: &Encrypted) -> Reveal {
        let EncryptedFile { weights_hash, ciphertext_hash, size_bytes } = encrypted.file;
        Reveal {
            chain: self.sender.chain(),
            model: offer.model,
            architecture: offer.architecture,
            owner: self.sender.address(),
            epoch,
            key: encrypted.key.clone(),
            weights_hash,
            ciphertext_hash,
            size_bytes,
            specialization: offer.specialization.clone(),
            ciphertext: encrypted.path.clone(),
        }
    }

    /// Tells what a commit costs, before it is sent.
    async fn tell_stake(
        &self,
        model: &Model,
        architecture: u32,
        epoch: Epoch,
        size_bytes: u64,
    ) -> Result {
        let governance = self.client().governance().await?;
        let (price, files_bytes) = (Amount(governance.rent_price.0), governance.files_bytes.0);
        let params = self.client().params().await?;
        let rent = rent::due(size_bytes, epoch, price, &params);
        // An inactive model has no room but that of what it has committed to.
        let weights = model.weights.as_ref().filter(|_| model.rent.is_some());
        let revealed = weights.map_or(0, |weights| weights.size_bytes.0);
        let committed = model.commits.iter().filter(|commit| commit.architecture == architecture);
        let committed = committed.map(|commit| commit.size_bytes.0).max().unwrap_or(0);
        let in_use = revealed.max(committed);
        let others = files_bytes.saturating_sub(in_use);
        let free_bytes = params.files_bytes_max.saturating_sub(others.saturating_add(size_bytes));
        let new_bytes = size_bytes.saturating_sub(in_use);
        let premium = rent::premium(new_bytes, free_bytes, price, &params);
        if premium > Amount::ZERO {
            let text =
                format!("little room for files is left: a commit pays {premium} SOMA for it");
            self.observer.notice(Level::Info, &text);
        }
        let slash = Amount(model.stake.0).bps(params.missed_reveal_slash_bps);
        let text = format!(
            "a commit pays a rent of at most {rent} SOMA; the rent and {slash} SOMA of stake are \
             lost if the weights are not revealed in epoch {epoch}, by this command or a later one"
        );
        self.observer.notice(Level::Info, &text);
        Ok(())
    }

    /// Encrypts the file, unless this machine has revealed the same bytes before: then the existing
    /// ciphertext is committed to again, so nobody stores or downloads it twice. That weights are
    /// public is never taken from the node: whoever knows a key could read them before the reveal.
    fn encrypt(&self, model: &Model, offer: &Offer<'_>) -> Result<Encrypted> {
        let mut public = model.weights.iter().chain(&model.next);
        let public = public.find(|weights| weights.hash.0 == offer.weights_hash);
        if let Some(weights) = public
            && let Some(key) = self.spool.revealed_key(
                offer.model,
                offer.weights_hash,
                weights.ciphertext_hash.0,
            )?
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

    /// Uploads the committed file, and waits until enough validators have attested that they hold
    /// it. The rent is paid: only a lapse ends this.
    async fn upload(&self, offer: &Offer<'_>, encrypted: &Encrypted, epoch: Epoch) -> Result {
        let Encrypted { file, path, .. } = encrypted;
        let mut watch = Watch::start(self.client()).await;
        let mut troubles = Troubles::default();
        self.restore(offer, encrypted, &mut troubles);
        let mut advance = Some(self.observer.start("uploading", Some(file.size_bytes)));
        let (mut task, mut uploaded_at) = (None, None::<Instant>);
        loop {
            match self.is_held(offer.model, file.ciphertext_hash, epoch).await {
                Ok(true) => return Ok(()),
                Ok(false) => troubles.over_all(self.observer),
                Err(error) if error.is_passing() => {
                    troubles.tell_of_all(self.observer, &error);
                }
                Err(error) => return Err(error),
            }
            // A node that has lost the file is sent it again.
            if uploaded_at.is_none_or(|at| at.elapsed() > UPLOAD_AGAIN) {
                let progress = &mut |done, _| {
                    if let Some(advance) = &mut advance {
                        advance(done);
                    }
                };
                match self.sender.upload(path, file.ciphertext_hash, progress).await {
                    Ok(()) => {
                        troubles.over(self.observer, UPLOAD);
                        uploaded_at = Some(Instant::now());
                        advance = None;
                        let waiting = "waiting for validators to hold the file";
                        task.get_or_insert_with(|| self.observer.start(waiting, None));
                    }
                    Err(error) => {
                        troubles.tell(self.observer, UPLOAD, &error);
                        self.restore(offer, encrypted, &mut troubles);
                    }
                }
            }
            watch.changed().await;
        }
    }

    /// Makes the encrypted file again if it has vanished or was cut.
    fn restore(&self, offer: &Offer<'_>, encrypted: &Encrypted, troubles: &mut Troubles) {
        let Encrypted { file, key, path } = encrypted;
        if std::fs::metadata(path).is_ok_and(|found| found.len() == file.size_bytes) {
            return;
        }
        match self.encrypt_with(key.clone(), offer) {
            Ok(_) => {}
            Err(error) => troubles.tell(self.observer, "encrypting the weights again", &error),
        }
    }

    /// Whether enough validators have attested that they hold the file.
    async fn is_held(&self, id: ModelId, ciphertext_hash: Hash, epoch: Epoch) -> Result<bool> {
        let now = self.client().status().await?.clock.epoch;
        let model = self.client().model(id).await?;
        let ours = |commit: &&Commit| {
            commit.epoch == epoch.0 && commit.ciphertext_hash.0 == ciphertext_hash
        };
        match model.commits.iter().find(ours) {
            Some(commit) => Ok(commit.held),
            // Another process with this key was faster to reveal.
            None if is_revealed(&model, ciphertext_hash, epoch) => Ok(true),
            // The node may not have seen the block of the commit yet.
            None if now < epoch.0 => Ok(false),
            None => Err(CompeteError::CommitLapsed { model: id }),
        }
    }
}
