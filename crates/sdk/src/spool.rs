//! A durable folder of obligations: reveals and publications that are still due.
//!
//! An obligation is on disk before its commit or submission is sent, and is retired only when a
//! node says that it is settled. A program that is killed at any moment and started again forgets
//! nothing. The files hold secrets and are readable by this user only.
//!
//! A node may be wrong or lie, and what it says must never destroy what only this machine knows:
//! a retired obligation stays on disk for [`KEPT`], under a name that is not listed.

use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// Ending of an obligation that is due.
const ENDING: &str = "json";
/// Ending of one that this machine has settled, by a transaction that the node reports as final.
const SENT: &str = "sent";
/// Ending of one of which a node says that nothing is due anymore.
const ENDED: &str = "ended";
/// How long a retired obligation is kept.
pub const KEPT: Duration = Duration::from_hours(14 * 24);

/// Rejections that no retry can fix: what was committed can never be accepted.
const PERMANENT: &[Code] = &[
    Code::CommitmentMismatch,
    Code::DataSeenBefore,
    Code::NotInCorpus,
    Code::BadDataSize,
    Code::BadSpecializationDimension,
    Code::BadSpecializationLength,
    Code::ModelRetired,
];

/// A folder of obligations.
#[derive(Clone, Debug)]
pub struct Spool {
    path: PathBuf,
}

/// A file of the spool, with a hash that detects damage.
#[derive(Serialize, Deserialize)]
struct Item {
    /// BLAKE3 of the JSON of the obligation.
    hash: Hash,
    #[serde(rename = "due")]
    obligation: Obligation,
}

impl Item {
    fn new(obligation: Obligation) -> Result<Self, serde_json::Error> {
        let json = Zeroizing::new(serde_json::to_vec(&obligation)?);
        Ok(Self { hash: Hash::of_bytes(&json), obligation })
    }
}

/// The contents of the folder.
#[derive(Debug, Default)]
pub struct Listing {
    /// The obligations, by file name.
    pub obligations: Vec<Obligation>,
    /// Damaged files; an obligation in them may be due. They are never changed or removed.
    pub damaged: Vec<SdkError>,
}

/// What a delivery did with an obligation.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It cannot be sent yet.
    Waiting {
        /// What is lost if it is never sent, in base units.
        at_risk: Amount,
    },
    /// It was sent and accepted, and is retired.
    Sent,
    /// Nothing was due anymore; it is retired.
    Settled,
    /// It could no longer be sent; it is retired.
    Missed,
    /// It was rejected, and stays unless the rejection is permanent.
    Refused(SdkError),
    /// It could not be checked or sent now, and stays.
    Failed(SdkError),
    /// It belongs to another chain or account, and stays.
    Foreign,
}

impl Spool {
    /// Opens the spool in the folder `path`, creating it for this user only if it does not exist.
    ///
    /// # Errors
    /// [`SdkError::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, SdkError> {
        let path = path.into();
        file::private_folder(&path)?;
        Ok(Self { path })
    }

    /// Keeps an obligation until it is settled; it is on disk when this returns. Call it before the
    /// commit or the submission is sent.
    ///
    /// # Errors
    /// [`SdkError::Io`].
    pub fn put(&self, obligation: Obligation) -> Result<(), SdkError> {
        let path = self.path_of(&obligation);
        let bytes =
            Item::new(obligation).and_then(|item| serde_json::to_vec(&item)).map(Zeroizing::new);
        let bytes = bytes.map_err(|source| SdkError::Spool { path: path.clone(), source })?;
        soma_os::file::write_private(&path, &bytes).map_err(SdkError::io(&path))
    }

    /// The path of the encrypted file with this hash, if it was encrypted into this spool.
    pub fn ciphertext(&self, ciphertext_hash: Hash) -> PathBuf {
        self.path.join(format!("{ciphertext_hash}.encrypted"))
    }

    /// Encrypts a weights file into the spool, for a reveal. `progress` is called with the bytes
    /// done so far. Returns its hashes and where it is.
    ///
    /// # Errors
    /// Same as [`cipher::encrypt`].
    pub fn encrypt(
        &self,
        weights: &Path,
        key: &Secret,
        progress: impl FnMut(u64),
    ) -> Result<(EncryptedFile, PathBuf), SdkError> {
        let draft = self.path.join(format!("{}.encrypted", std::process::id()));
        let encrypted = cipher::encrypt(weights, &draft, key, progress)?;
        let path = self.ciphertext(encrypted.ciphertext_hash);
        soma_os::file::rename(&draft, &path).map_err(SdkError::io(&path))?;
        Ok((encrypted, path))
    }

    /// All obligations and damaged files.
    ///
    /// # Errors
    /// [`SdkError::Io`] if the folder cannot be read.
    pub fn list(&self) -> Result<Listing, SdkError> {
        // Other files are retired, or left over from writes that never completed.
        let paths = self.files(ENDING)?;
        let mut listing = Listing::default();
        for path in paths {
            match read(&path) {
                Ok(obligation) => listing.obligations.push(obligation),
                Err(error) => listing.damaged.push(error),
            }
        }
        Ok(listing)
    }

    /// Takes an obligation off the list, and removes the encrypted file of a reveal unless another
    /// reveal needs it: it can be made again. The obligation is kept for [`KEPT`]; `was_sent` says
    /// whether this machine has settled it. Harmless if it is not on the list.
    ///
    /// # Errors
    /// [`SdkError::Io`].
    pub fn retire(&self, obligation: &Obligation, was_sent: bool) -> Result<(), SdkError> {
        let path = self.path_of(obligation);
        let retired = path.with_extension(if was_sent { SENT } else { ENDED });
        match soma_os::file::rename(&path, &retired) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SdkError::io(&path)(error));
            }
            _ => {}
        }
        self.forget_old()?;
        let Obligation::Reveal(removed) = obligation else {
            return Ok(());
        };
        let others = self.list()?.obligations;
        let file = &removed.ciphertext;
        let needs =
            |other: &Obligation| matches!(other, Obligation::Reveal(r) if r.ciphertext == *file);
        if others.iter().any(needs) { Ok(()) } else { remove_file(&removed.ciphertext) }
    }

    /// The key under which this machine has revealed these weights, if it still knows: it is public
    /// then, whatever a node says.
    ///
    /// # Errors
    /// [`SdkError::Io`] if the folder cannot be read.
    pub fn revealed_key(
        &self,
        weights_hash: Hash,
        ciphertext_hash: Hash,
    ) -> Result<Option<Secret>, SdkError> {
        for path in self.files(SENT)? {
            if let Ok(Obligation::Reveal(reveal)) = read(&path)
                && reveal.weights_hash == weights_hash
                && reveal.ciphertext_hash == ciphertext_hash
            {
                return Ok(Some(reveal.key));
            }
        }
        Ok(None)
    }

    /// Removes obligations that were retired long ago.
    fn forget_old(&self) -> Result<(), SdkError> {
        for path in [self.files(SENT)?, self.files(ENDED)?].concat() {
            let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > KEPT) {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Sends all obligations of `sender` that can be sent now, and resumes interrupted uploads.
    /// Call it again whenever a phase begins. Damaged files are in [`Spool::list`].
    ///
    /// # Errors
    /// [`SdkError::Io`]; errors of [`Client`]'s requests. An error that concerns one obligation is
    /// in its [`Outcome`].
    pub async fn deliver(&self, sender: &Sender) -> Result<Vec<(Obligation, Outcome)>, SdkError> {
        let mut outcomes = Vec::new();
        let listing = self.list()?;
        if listing.obligations.is_empty() {
            return Ok(outcomes);
        }
        let clock = sender.client().status().await?.clock;
        // All are sent before the first is awaited, because a phase may be short.
        let mut begun = Vec::new();
        for obligation in listing.obligations {
            let step = begin(sender, &clock, &obligation).await;
            begun.push((obligation, step));
        }
        for (obligation, step) in begun {
            let outcome = self.finish(sender, &obligation, step).await?;
            outcomes.push((obligation, outcome));
        }
        Ok(outcomes)
    }

    /// Waits for what was begun, and retires the obligation if it is settled.
    async fn finish(
        &self,
        sender: &Sender,
        obligation: &Obligation,
        step: Step,
    ) -> Result<Outcome, SdkError> {
        let outcome = match step {
            Step::Stays(outcome) => return Ok(outcome),
            Step::Waits { at_risk } => {
                let upload = finish_upload(sender, obligation).await;
                return Ok(upload.map_or_else(Outcome::Failed, |()| Outcome::Waiting { at_risk }));
            }
            Step::Over(outcome) => outcome,
            Step::Sent(sent) => match sender.wait(sent).await {
                Ok(_) => Outcome::Sent,
                Err(error) if PERMANENT.contains(&error.code()) => Outcome::Refused(error),
                Err(error @ SdkError::Rejected { .. }) => return Ok(Outcome::Refused(error)),
                Err(error) => return Ok(Outcome::Failed(error)),
            },
        };
        self.retire(obligation, matches!(outcome, Outcome::Sent))?;
        Ok(outcome)
    }

    /// The files with this ending, by name.
    fn files(&self, ending: &str) -> Result<Vec<PathBuf>, SdkError> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(SdkError::io(&self.path))? {
            let path = entry.map_err(SdkError::io(&self.path))?.path();
            if path.extension().is_some_and(|found| found == ending) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// One file for each commitment, so that a new commit never replaces what an older one needs.
    fn path_of(&self, obligation: &Obligation) -> PathBuf {
        let name = match obligation {
            Obligation::Reveal(reveal) => format!("reveal-{}-{}", reveal.model, reveal.epoch),
            Obligation::Publication(publication) => format!("publication-{}", publication.target),
        };
        self.path.join(format!("{name}-{}.{ENDING}", obligation.commitment()))
    }
}

/// What was begun for an obligation.
enum Step {
    /// There is nothing to do now.
    Stays(Outcome),
    /// It cannot be sent yet; an upload may have to be resumed.
    Waits { at_risk: Amount },
    /// Nothing is due anymore.
    Over(Outcome),
    /// The node has its transaction.
    Sent(Sent),
}

/// Sends the obligation if it can be sent now.
async fn begin(sender: &Sender, clock: &Clock, obligation: &Obligation) -> Step {
    if obligation.chain() != sender.chain() || obligation.sender() != sender.address() {
        return Step::Stays(Outcome::Foreign);
    }
    let slash_bps = sender.params().missed_reveal_slash_bps;
    match status(sender.client(), clock, obligation, slash_bps).await {
        Err(error) => Step::Stays(Outcome::Failed(error)),
        Ok(ObligationStatus::Waiting { at_risk }) => Step::Waits { at_risk },
        Ok(ObligationStatus::Settled) => Step::Over(Outcome::Settled),
        Ok(ObligationStatus::Missed) => Step::Over(Outcome::Missed),
        Ok(ObligationStatus::Ready { .. }) => match sender.send(obligation.action()).await {
            Ok(sent) => Step::Sent(sent),
            Err(error) => Step::Stays(Outcome::Failed(error)),
        },
    }
}

/// The status of an obligation, from what the node reports. `slash_bps` is what a missed reveal
/// costs.
///
/// # Errors
/// Same as the requests of [`Client`].
pub async fn status(
    client: &Client,
    clock: &Clock,
    obligation: &Obligation,
    slash_bps: u16,
) -> Result<ObligationStatus, SdkError> {
    Ok(match obligation {
        Obligation::Reveal(reveal) => {
            reveal.status(clock, &client.model(reveal.model).await?, slash_bps)
        }
        Obligation::Publication(publication) => {
            publication.status(clock, &client.target(publication.target).await?)
        }
    })
}

/// Resumes the upload of a committed file that too few validators hold: unless enough hold it
/// before the epoch begins, the commit lapses.
async fn finish_upload(sender: &Sender, obligation: &Obligation) -> Result<(), SdkError> {
    let Obligation::Reveal(reveal) = obligation else {
        return Ok(());
    };
    let model = sender.client().model(reveal.model).await?;
    match reveal.commit_in(&model) {
        Some(commit) if !commit.held && reveal.ciphertext.exists() => {
            let ignore = &mut |_, _| {};
            sender.upload(&reveal.ciphertext, reveal.ciphertext_hash, ignore).await
        }
        _ => Ok(()),
    }
}

/// Removes a file unless it is already gone.
fn remove_file(path: &Path) -> Result<(), SdkError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(SdkError::io(path)(error))
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Obligation, SdkError> {
    let damaged = |source| SdkError::Spool { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map(Zeroizing::new).map_err(SdkError::io(path))?;
    let Item { hash, obligation } = serde_json::from_slice(&bytes).map_err(damaged)?;
    let item = Item::new(obligation).map_err(damaged)?;
    if item.hash == hash {
        Ok(item.obligation)
    } else {
        Err(damaged(serde::de::Error::custom("its content does not match its hash")))
    }
}
