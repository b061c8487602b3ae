//! A durable folder of what is owed: reveals and publications.
//!
//! An item is on disk before its commit or submission is sent, and is removed only when the chain
//! says that nothing is owed any more. So whoever is killed at any moment, and runs again, forgets
//! nothing. The files hold secrets and are for this user alone.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use soma_codes::{Code, Coded as _};
use soma_protocol::{Amount, Hash};
use zeroize::Zeroizing;

use crate::api::Clock;
use crate::cipher::{self, EncryptedFile};
use crate::client::{Client, Sent};
use crate::error::SdkError;
use crate::file;
use crate::obligation::{Obligation, ObligationStatus};
use crate::secret::Secret;
use crate::sender::Sender;

const ENDING: &str = "json";

/// Rejections that no waiting mends: what was committed to can never be accepted.
const HOPELESS: &[Code] = &[
    Code::CommitmentMismatch,
    Code::DataAlreadyWon,
    Code::BadDataSize,
    Code::BadEmbeddingDimension,
    Code::BadEmbeddingLength,
    Code::ModelRetired,
];

/// A folder of what is owed.
#[derive(Clone, Debug)]
pub struct Spool {
    path: PathBuf,
}

/// A file of the spool, guarded against damage by a hash.
#[derive(Serialize, Deserialize)]
struct Item {
    /// Of the JSON of `due`.
    hash: Hash,
    due: Obligation,
}

impl Item {
    fn new(due: Obligation) -> Result<Self, serde_json::Error> {
        let json = Zeroizing::new(serde_json::to_vec(&due)?);
        Ok(Self {
            hash: Hash::of_bytes(&json),
            due,
        })
    }
}

/// What lies in the folder.
#[derive(Debug, Default)]
pub struct Listing {
    /// What is owed, by file name.
    pub obligations: Vec<Obligation>,
    /// Files that cannot be read; something in them may be owed. They are never touched.
    pub damaged: Vec<SdkError>,
}

/// What became of something owed when it was looked at.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It waits.
    Waiting {
        /// What is lost if it is never sent, in base units.
        at_risk: Amount,
    },
    /// It was sent and accepted, and has left the folder.
    Sent,
    /// Nothing was owed any more; it has left the folder.
    Settled,
    /// Its time had passed; it has left the folder.
    Missed,
    /// It was refused, and stays unless it is hopeless.
    Refused(SdkError),
    /// It could not be looked at or sent now, and stays.
    Failed(SdkError),
    /// It belongs to another chain or account, and stays.
    Foreign,
}

impl Spool {
    /// The spool in the folder `path`, created for this user alone if it is not there.
    ///
    /// # Errors
    /// [`SdkError::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, SdkError> {
        let path = path.into();
        file::private_folder(&path)?;
        Ok(Self { path })
    }

    /// Keeps `due` until it is over; on disk when this returns. Call it before the commit or the
    /// submission is sent.
    ///
    /// # Errors
    /// [`SdkError::Io`].
    pub fn put(&self, due: Obligation) -> Result<(), SdkError> {
        let path = self.path_of(&due);
        let bytes = Item::new(due)
            .and_then(|item| serde_json::to_vec(&item))
            .map(Zeroizing::new);
        let bytes = bytes.map_err(|source| SdkError::Spool {
            path: path.clone(),
            source,
        })?;
        soma_os::file::write_private(&path, &bytes).map_err(SdkError::io(&path))
    }

    /// Where the encrypted file with this hash is, if it was encrypted into this spool.
    pub fn ciphertext(&self, ciphertext_hash: Hash) -> PathBuf {
        self.path.join(format!("{ciphertext_hash}.sealed"))
    }

    /// Encrypts a weights file into the spool, for a reveal. `progress` is called with the bytes
    /// done so far. Returns its hashes and where it is.
    ///
    /// # Errors
    /// As [`cipher::encrypt`].
    pub fn encrypt(
        &self,
        weights: &Path,
        key: &Secret,
        progress: impl FnMut(u64),
    ) -> Result<(EncryptedFile, PathBuf), SdkError> {
        let draft = self.path.join(format!("{}.sealed", std::process::id()));
        let encrypted = cipher::encrypt(weights, &draft, key, progress)?;
        let path = self.ciphertext(encrypted.ciphertext_hash);
        soma_os::file::rename(&draft, &path).map_err(SdkError::io(&path))?;
        Ok((encrypted, path))
    }

    /// All that is owed, and what cannot be read.
    ///
    /// # Errors
    /// [`SdkError::Io`] if the folder cannot be read.
    pub fn list(&self) -> Result<Listing, SdkError> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(SdkError::io(&self.path))? {
            let path = entry.map_err(SdkError::io(&self.path))?.path();
            // Anything else is what a crash left of a write that was never relied on.
            if path.extension().is_some_and(|ending| ending == ENDING) {
                paths.push(path);
            }
        }
        paths.sort();
        let mut listing = Listing::default();
        for path in paths {
            match read(&path) {
                Ok(due) => listing.obligations.push(due),
                Err(error) => listing.damaged.push(error),
            }
        }
        Ok(listing)
    }

    /// Forgets `due`, and the encrypted file of a reveal unless another reveal needs it. Harmless if
    /// it is not there.
    ///
    /// # Errors
    /// [`SdkError::Io`].
    pub fn remove(&self, due: &Obligation) -> Result<(), SdkError> {
        let path = self.path_of(due);
        remove_file(&path)?;
        soma_os::file::sync_parent(&path).map_err(SdkError::io(&path))?;
        let Obligation::Reveal(done) = due else {
            return Ok(());
        };
        let others = self.list()?.obligations;
        let needed = |other: &Obligation| matches!(other, Obligation::Reveal(reveal) if reveal.ciphertext == done.ciphertext);
        if others.iter().any(needed) {
            Ok(())
        } else {
            remove_file(&done.ciphertext)
        }
    }

    /// Looks at all that `sender` owes: sends what can be sent now and goes on with uploads that
    /// broke off. Call it again whenever a phase begins. Files that cannot be read stand in
    /// [`Spool::list`].
    ///
    /// # Errors
    /// [`SdkError::Io`]; as [`Client::status`]. What concerns one item is in its [`Outcome`].
    pub async fn deliver(&self, sender: &Sender) -> Result<Vec<(Obligation, Outcome)>, SdkError> {
        let mut outcomes = Vec::new();
        let listing = self.list()?;
        if listing.obligations.is_empty() {
            return Ok(outcomes);
        }
        let clock = sender.client().status().await?.clock;
        // All are handed in before the first is waited for: a phase may be short.
        let mut begun = Vec::new();
        for due in listing.obligations {
            let step = begin(sender, &clock, &due).await;
            begun.push((due, step));
        }
        for (due, step) in begun {
            let outcome = self.finish(sender, &due, step).await?;
            outcomes.push((due, outcome));
        }
        Ok(outcomes)
    }

    /// Sees through what was begun, and forgets `due` if nothing is owed any more.
    async fn finish(
        &self,
        sender: &Sender,
        due: &Obligation,
        step: Step,
    ) -> Result<Outcome, SdkError> {
        let outcome = match step {
            Step::Stays(outcome) => return Ok(outcome),
            Step::Waits { at_risk } => {
                let upload = finish_upload(sender, due).await;
                return Ok(upload.map_or_else(Outcome::Failed, |()| Outcome::Waiting { at_risk }));
            }
            Step::Over(outcome) => outcome,
            Step::Sent(sent) => match sender.wait(sent).await {
                Ok(_) => Outcome::Sent,
                Err(error) if HOPELESS.contains(&error.code()) => Outcome::Refused(error),
                Err(error @ SdkError::Rejected { .. }) => return Ok(Outcome::Refused(error)),
                Err(error) => return Ok(Outcome::Failed(error)),
            },
        };
        self.remove(due)?;
        Ok(outcome)
    }

    /// One file for each commitment, so that a new commit never replaces what an older one needs.
    fn path_of(&self, due: &Obligation) -> PathBuf {
        let name = match due {
            Obligation::Reveal(reveal) => format!("reveal-{}-{}", reveal.model, reveal.epoch),
            Obligation::Publication(publication) => format!("publication-{}", publication.target),
        };
        self.path
            .join(format!("{name}-{}.{ENDING}", due.commitment()))
    }
}

/// What was begun for something owed.
enum Step {
    /// Nothing to do now.
    Stays(Outcome),
    /// Its time has not come; an upload may have to go on.
    Waits { at_risk: Amount },
    /// Nothing is owed any more.
    Over(Outcome),
    /// The node has its transaction.
    Sent(Sent),
}

/// Sends `due` if it can be sent now.
async fn begin(sender: &Sender, clock: &Clock, due: &Obligation) -> Step {
    if due.chain() != sender.chain() || due.sender() != sender.address() {
        return Step::Stays(Outcome::Foreign);
    }
    let slash_bps = sender.params().missed_reveal_slash_bps;
    match status(sender.client(), clock, due, slash_bps).await {
        Err(error) => Step::Stays(Outcome::Failed(error)),
        Ok(ObligationStatus::Waiting { at_risk }) => Step::Waits { at_risk },
        Ok(ObligationStatus::Settled) => Step::Over(Outcome::Settled),
        Ok(ObligationStatus::Missed) => Step::Over(Outcome::Missed),
        Ok(ObligationStatus::Ready { .. }) => match sender.send(due.action()).await {
            Ok(sent) => Step::Sent(sent),
            Err(error) => Step::Stays(Outcome::Failed(error)),
        },
    }
}

/// Where `due` stands, by what the node says. `slash_bps` is what a missed reveal costs.
///
/// # Errors
/// As [`Client::status`].
pub async fn status(
    client: &Client,
    clock: &Clock,
    due: &Obligation,
    slash_bps: u16,
) -> Result<ObligationStatus, SdkError> {
    Ok(match due {
        Obligation::Reveal(reveal) => {
            reveal.status(clock, &client.model(reveal.model).await?, slash_bps)
        }
        Obligation::Publication(publication) => {
            publication.status(clock, &client.target(publication.target).await?)
        }
    })
}

/// Goes on with the upload of a committed file that too few validators hold yet: unless they do
/// before the epoch begins, the commit lapses.
async fn finish_upload(sender: &Sender, due: &Obligation) -> Result<(), SdkError> {
    let Obligation::Reveal(reveal) = due else {
        return Ok(());
    };
    let model = sender.client().model(reveal.model).await?;
    match reveal.commit_in(&model) {
        Some(commit) if !commit.held && reveal.ciphertext.exists() => {
            let ignore = &mut |_, _| {};
            sender
                .upload(&reveal.ciphertext, reveal.ciphertext_hash, ignore)
                .await
        }
        _ => Ok(()),
    }
}

/// Removes a file that may be gone already.
fn remove_file(path: &Path) -> Result<(), SdkError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(SdkError::io(path)(error))
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Obligation, SdkError> {
    let damaged = |source| SdkError::Spool {
        path: path.to_owned(),
        source,
    };
    let bytes = std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(SdkError::io(path))?;
    let Item { hash, due } = serde_json::from_slice(&bytes).map_err(damaged)?;
    let whole = Item::new(due).map_err(damaged)?;
    if whole.hash == hash {
        Ok(whole.due)
    } else {
        Err(damaged(serde::de::Error::custom(
            "its content does not match its hash",
        )))
    }
}
