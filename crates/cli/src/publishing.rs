//! From a weights file to public weights: encrypt, commit, upload, wait for the epoch, reveal.
//!
//! What a reveal needs is in the spool, on disk, before the commit is sent; so whoever is stopped at
//! any moment runs the same command again and loses nothing.

use std::path::Path;
use std::time::Duration;

use soma_codes::Code;
use soma_protocol::{Address, Amount, Epoch, Hash, ModelId};
use soma_sdk::SdkError;
use soma_sdk::cipher::{self, Sealed};
use soma_sdk::due::{Due, Reveal};
use soma_sdk::secret::Secret;
use soma_sdk::sender::Sender;
use soma_sdk::spool::{Outcome, Spool};
use soma_sdk::types::{Commit, Model, Weights};

use crate::error::{Error, Result};
use crate::output::{Output, Unit};

/// Between two looks at the chain.
pub(crate) const PAUSE: Duration = Duration::from_millis(150);

/// Weights that a model is about to commit to.
pub(crate) struct Offer<'a> {
    pub(crate) model: ModelId,
    pub(crate) file: &'a Path,
    pub(crate) weights_hash: Hash,
    pub(crate) embedding: Vec<i16>,
    /// Number of the architecture that they are for.
    pub(crate) architecture: u32,
}

/// Commits for the next epoch and hands the encrypted file to the node. Returns the epoch of the
/// reveal once validators hold the file.
pub(crate) async fn commit(
    sender: &Sender,
    (spool, folder): (&Spool, &Path),
    offer: Offer<'_>,
    output: &Output,
) -> Result<Epoch> {
    let client = sender.client();
    let model = client.model(offer.model).await?;
    if model.owner.0 != sender.address() {
        return Err(not_owner(&model, sender.address()));
    }
    let (sealed, key, ciphertext) = seal(&model, folder, &offer, output)?;
    let clock = client.status().await?.clock;
    let reveal = Reveal {
        chain: sender.chain(),
        model: offer.model,
        architecture: offer.architecture,
        owner: sender.address(),
        epoch: Epoch(clock.epoch + 1),
        key,
        weights_hash: sealed.weights_hash,
        ciphertext_hash: sealed.ciphertext_hash,
        size_bytes: sealed.size_bytes,
        embedding: offer.embedding,
        ciphertext: ciphertext.clone(),
    };
    let epoch = reveal.epoch;
    let action = reveal.commit();
    let due = Due::Reveal(reveal);
    spool.put(due.clone())?;
    if let Err(error) = sender.run(action).await {
        if was_refused(&error) {
            spool.remove(&due)?;
        }
        return Err(error.into());
    }
    let bar = output.bar(sealed.size_bytes, "uploading", Unit::Bytes);
    sender
        .upload(&ciphertext, sealed.ciphertext_hash, &mut |done, _| {
            bar.set_position(done);
        })
        .await?;
    bar.finish_and_clear();
    held(sender, (offer.model, sealed.ciphertext_hash), epoch, output).await?;
    Ok(epoch)
}

/// Encrypts the file, unless its very bytes are public already: those are committed to again as they
/// are, and nobody has to store or fetch them twice.
fn seal(
    model: &Model,
    folder: &Path,
    offer: &Offer<'_>,
    output: &Output,
) -> Result<(Sealed, Secret, std::path::PathBuf)> {
    let mut public = model.weights.iter().chain(&model.next);
    if let Some(weights) = public.find(|one| one.hash.0 == offer.weights_hash) {
        let Weights {
            size_bytes,
            ciphertext_hash,
            key,
            ..
        } = weights;
        let sealed = Sealed {
            weights_hash: offer.weights_hash,
            ciphertext_hash: ciphertext_hash.0,
            size_bytes: size_bytes.0,
        };
        let key = Secret::from_bytes(key.0.0);
        let path = folder.join(format!("{}.sealed", sealed.ciphertext_hash));
        if !path.is_file() {
            cipher::seal(offer.file, &path, &key, |_| {})?;
        }
        return Ok((sealed, key, path));
    }
    let size_bytes = std::fs::metadata(offer.file)
        .map_err(|error| Error::file(offer.file, "read", &error))?
        .len();
    let key = Secret::generate()?;
    let bar = output.bar(size_bytes, "encrypting", Unit::Bytes);
    let fresh = folder.join(format!("model-{}.sealed", offer.model));
    let sealed = cipher::seal(offer.file, &fresh, &key, |done| bar.set_position(done))?;
    bar.finish_and_clear();
    if sealed.weights_hash != offer.weights_hash {
        let message = format!("{} changed while it was read", offer.file.display());
        return Err(Error::new(Code::WrongHash, message));
    }
    let path = folder.join(format!("{}.sealed", sealed.ciphertext_hash));
    soma_os::file::rename(&fresh, &path).map_err(|error| Error::file(&path, "write", &error))?;
    Ok((sealed, key, path))
}

/// Waits until enough validators have attested that they hold the file.
async fn held(
    sender: &Sender,
    (id, file): (ModelId, Hash),
    epoch: Epoch,
    output: &Output,
) -> Result {
    let spinner = output.spinner("waiting for validators to hold the file");
    loop {
        let model = sender.client().model(id).await?;
        let ours = |commit: &&Commit| commit.epoch == epoch.0 && commit.ciphertext_hash.0 == file;
        match model.commits.iter().find(ours) {
            Some(commit) if commit.held => break,
            Some(_) => tokio::time::sleep(PAUSE).await,
            None => {
                let message =
                    format!("the commit of model {id} lapsed before validators held its file");
                return Err(Error::new(Code::CommitLapsed, message)
                    .hint("run the command again; its rent was returned"));
            }
        }
    }
    spinner.finish_and_clear();
    Ok(())
}

/// Looks once at everything that is due, sends what can be sent, and says so.
pub(crate) async fn deliver_once(
    sender: &Sender,
    spool: &Spool,
    output: &Output,
) -> Result<Vec<(Due, Outcome)>> {
    let outcomes = spool.deliver(sender).await?;
    for (due, outcome) in &outcomes {
        match outcome {
            Outcome::Sent => output.done(format_args!("sent the {due}")),
            Outcome::Missed => output.warn(format_args!("too late for the {due}")),
            Outcome::Refused(error) => output.warn(format_args!("the {due} was refused: {error}")),
            _ => {}
        }
    }
    Ok(outcomes)
}

/// Sends what is due when its time comes, until nothing that `wanted` is left.
pub(crate) async fn deliver(
    sender: &Sender,
    spool: &Spool,
    wanted: impl Fn(&Due) -> bool,
    output: &Output,
) -> Result {
    let spinner = output.spinner("");
    let mut warned = false;
    loop {
        let mut waiting = false;
        for (due, outcome) in deliver_once(sender, spool, output).await? {
            if !wanted(&due) {
                continue;
            }
            match outcome {
                Outcome::Waiting { at_risk } => {
                    waiting = true;
                    spinner.set_message(format!("waiting for the {due}"));
                    if at_risk > Amount::ZERO && !std::mem::replace(&mut warned, true) {
                        output.say(format_args!(
                            "{at_risk} SOMA is lost if the {due} is never sent; to stop is safe, to stay away is not"
                        ));
                    }
                }
                Outcome::Missed => return Err(missed(&due)),
                Outcome::Failed(error) if error.is_passing() => waiting = true,
                Outcome::Refused(error) | Outcome::Failed(error) => return Err(error.into()),
                _ => {}
            }
        }
        if !waiting {
            spinner.finish_and_clear();
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn missed(due: &Due) -> Error {
    Error::new(Code::TooLate, format!("the {due} was not sent in time"))
        .hint("commit or submit again, and let a soma command run through the reveal phase")
}

fn not_owner(model: &Model, address: Address) -> Error {
    let message = format!(
        "model {} belongs to {}, not to {address}",
        model.id, model.owner
    );
    Error::new(Code::NotModelOwner, message).hint("name the owner's key: --key NAME")
}

/// True if the chain will certainly never have it; after anything else it may be on its way.
pub(crate) fn was_refused(error: &SdkError) -> bool {
    match error {
        SdkError::Rejected { .. } | SdkError::Expired { .. } | SdkError::Superseded { .. } => true,
        SdkError::Api { .. } => !error.is_passing(),
        _ => false,
    }
}
