//! A durable folder of obligations: reveals and publications that are still due.
//!
//! An obligation is on disk before its commit or submission is sent, and is retired only when a
//! node says that it is settled. A program that is killed at any moment and started again forgets
//! nothing. The files hold secrets and are readable by this user only.
//!
//! A node may be wrong or lie, and what it says must never destroy what only this machine knows:
//! a retired obligation stays on disk for [`KEPT`], under a name that is not listed, and is looked
//! at again until the last epoch is over in which it could be sent. What has won is remembered.
//! Names say what a retired obligation is of, so that what is over is never read again: the work of
//! a delivery depends on what is due, not on what was.
//!
//! A disk may fail or vanish, too: what a process has seen of the folder it keeps in memory, sends
//! from there, and writes again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use soma_codes::{Code, Coded as _};
use soma_protocol::{Address, Amount, Hash, ModelId, Params, TargetId, sketch};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use crate::api::Status;
use crate::at_stake::Due;
use crate::cipher::{self, EncryptedFile};
use crate::client::{Client, Sent};
use crate::error::SdkError;
use crate::file;
use crate::obligation::{Obligation, ObligationStatus, Publication, phase_ends_ms};
use crate::patience::pause;
use crate::secret::Secret;
use crate::sender::{Sender, is_of_chain};
use crate::turn::Turn;

/// Ending of an obligation that is due.
const ENDING: &str = "json";
/// Ending of one that this machine has settled, by a transaction that the node reports as final.
const SENT: &str = "sent";
/// Beginning of the ending of one of which a node says that nothing is due anymore; the last epoch
/// in which it can be sent follows.
const ENDED: &str = "ended-";
/// Ending of the pieces of data that has won.
const WON: &str = "won";
/// How often an obligation is looked at again of which a node says that nothing is due anymore;
/// sixteen times an epoch if that is shorter.
const LOOK_AGAIN: Duration = Duration::from_mins(5);
/// The same if phases end by command.
const LOOK_AGAIN_BY_COMMAND: Duration = Duration::from_secs(10);
/// How often a process looks for what was retired long ago.
const FORGET_EVERY: Duration = Duration::from_hours(1);
/// How long a retired obligation is kept.
pub const KEPT: Duration = Duration::from_hours(14 * 24);
/// The file at which processes that share the folder take turns to deliver.
const TURNS: &str = "delivering.lock";
/// How long the turn of another process is waited for.
const TURN_LIMIT: Duration = Duration::from_secs(20);
/// How long one delivery waits for one transaction, or uploads one file: others may be due. The
/// next delivery continues.
const WAIT_LIMIT: Duration = Duration::from_secs(10);
/// Pauses before what was refused is sent again: the first one, and the longest one.
const AGAIN_FIRST: Duration = Duration::from_millis(500);
const AGAIN_LAST: Duration = Duration::from_secs(30);

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

/// A folder of obligations. Copies share what they keep in memory.
#[derive(Clone, Debug)]
pub struct Spool {
    path: PathBuf,
    held: Arc<Mutex<BTreeMap<PathBuf, Held>>>,
    /// When retired obligations were last looked at, by path; and when old ones were last looked
    /// for, by the folder's.
    looked: Arc<Mutex<BTreeMap<PathBuf, Instant>>>,
}

/// An obligation that this process has seen.
#[derive(Clone, Debug)]
struct Held {
    obligation: Obligation,
    /// The transaction that was sent for it, while its fate is not known.
    sent: Option<Sent>,
    /// How often in a row it was refused, and when it is sent again.
    refusals: u32,
    again_at: Option<Instant>,
}

impl Held {
    fn new(obligation: Obligation) -> Self {
        Self { obligation, sent: None, refusals: 0, again_at: None }
    }

    fn refused(&mut self) {
        let pause = pause(AGAIN_FIRST, AGAIN_LAST, self.refusals);
        self.refusals = self.refusals.saturating_add(1);
        self.again_at = Some(Instant::now() + pause);
    }
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

/// Data that has won.
#[derive(Serialize, Deserialize)]
struct Win {
    chain: Hash,
    target: TargetId,
    /// The hashes of its pieces.
    pieces: Vec<u64>,
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
    /// It was rejected for a reason that may pass, and stays.
    Refused(SdkError),
    /// It was rejected, and can never be accepted; it is retired.
    Rejected(SdkError),
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
        Ok(Self { path, held: Arc::default(), looked: Arc::default() })
    }

    /// Keeps an obligation until it is settled; it is on disk when this returns. Call it before the
    /// commit or the submission is sent.
    ///
    /// # Errors
    /// [`SdkError::Io`].
    pub fn put(&self, obligation: Obligation) -> Result<(), SdkError> {
        let path = self.path_of(&obligation);
        self.write(&path, obligation.clone())?;
        self.with_held(|held| drop(held.insert(path, Held::new(obligation))));
        Ok(())
    }

    /// Writes an obligation; the folder is created again if it has vanished.
    fn write(&self, path: &Path, obligation: Obligation) -> Result<(), SdkError> {
        let bytes =
            Item::new(obligation).and_then(|item| serde_json::to_vec(&item)).map(Zeroizing::new);
        let bytes = bytes.map_err(|source| SdkError::Spool { path: path.to_owned(), source })?;
        file::private_folder(&self.path)?;
        soma_os::file::write_private(path, &bytes).map_err(SdkError::io(path))
    }

    /// Like [`Self::put`], unless the obligation is on the list; returns whether it was not.
    ///
    /// # Errors
    /// Same as [`Self::list`] and [`Self::put`].
    pub fn put_new(&self, obligation: &Obligation) -> Result<bool, SdkError> {
        let is_new = !self.list()?.obligations.contains(obligation);
        if is_new {
            self.put(obligation.clone())?;
        }
        Ok(is_new)
    }

    /// The publication of this data for this target that is on the list, if there is one: an
    /// earlier attempt to submit it ended before its fate was known, or it was submitted.
    ///
    /// # Errors
    /// Same as [`Self::list`].
    pub fn publication(
        &self,
        (chain, submitter): (Hash, Address),
        target: TargetId,
        data_hash: Hash,
    ) -> Result<Option<Publication>, SdkError> {
        Ok(self.list()?.obligations.into_iter().find_map(|due| match due {
            Obligation::Publication(publication)
                if publication.target == target
                    && (publication.chain, publication.submitter) == (chain, submitter)
                    && publication.data_hash() == data_hash =>
            {
                Some(publication)
            }
            _ => None,
        }))
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
        file::private_folder(&self.path)?;
        let draft = self.path.join(format!("{}.encrypted", std::process::id()));
        let encrypted = cipher::encrypt(weights, &draft, key, progress)?;
        let path = self.ciphertext(encrypted.ciphertext_hash);
        soma_os::file::rename(&draft, &path).map_err(SdkError::io(&path))?;
        Ok((encrypted, path))
    }

    /// All obligations and damaged files. What this process has seen before stays on the list if
    /// its file, or the whole folder, vanishes or cannot be read, and is written again if possible.
    ///
    /// # Errors
    /// [`SdkError::Io`] if the folder cannot be read and this process knows of no obligation.
    pub fn list(&self) -> Result<Listing, SdkError> {
        self.list_of(self.files())
    }

    /// The same, given the files of the folder.
    fn list_of(&self, files: Result<Vec<PathBuf>, SdkError>) -> Result<Listing, SdkError> {
        let (mut found, mut listing) = (BTreeMap::new(), Listing::default());
        match files {
            Ok(paths) => {
                // Other files are retired, or left over from writes that never completed.
                for path in with_ending(paths, ENDING) {
                    match read(&path) {
                        Ok(obligation) => drop(found.insert(path, obligation)),
                        Err(error) => listing.damaged.push(error),
                    }
                }
            }
            Err(error) if self.with_held(|held| held.is_empty()) => return Err(error),
            Err(error) => listing.damaged.push(error),
        }
        let gone: Vec<(PathBuf, Obligation)> = self.with_held(|held| {
            let gone = held.iter().filter(|(path, _)| !found.contains_key(*path));
            gone.map(|(path, held)| (path.clone(), held.obligation.clone())).collect()
        });
        for (path, obligation) in gone {
            if [true, false].iter().any(|sent| retired(&path, &obligation, *sent).exists()) {
                // Another process has retired it.
                self.with_held(|held| drop(held.remove(&path)));
                continue;
            }
            // A failure to write it again is no reason not to send it.
            let _written = self.write(&path, obligation.clone());
            found.insert(path, obligation);
        }
        self.with_held(|held| {
            for (path, obligation) in &found {
                let new = || Held::new(obligation.clone());
                held.entry(path.clone()).or_insert_with(new);
            }
        });
        listing.obligations = found.into_values().collect();
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
        self.with_held(|held| drop(held.remove(&path)));
        let retired = retired(&path, obligation, was_sent);
        self.looked_at(&retired);
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
        if others.iter().any(needs) { Ok(()) } else { remove(&removed.ciphertext) }
    }

    /// Remembers that this data of an account has won, whatever a node says later, if this machine
    /// has published it.
    ///
    /// # Errors
    /// [`SdkError::Io`].
    pub fn remember_win(
        &self,
        account: (Hash, Address),
        target: TargetId,
        data_hash: Hash,
    ) -> Result<(), SdkError> {
        for path in self.sent(format!("publication-{target}-"))? {
            let Ok(Obligation::Publication(publication)) = read(&path) else {
                continue;
            };
            let same = (publication.chain, publication.submitter) == account
                && publication.target == target
                && publication.data_hash() == data_hash;
            if same {
                let won = path.with_extension(WON);
                let pieces = sketch::sketch(&publication.data);
                let bytes = serde_json::to_vec(&Win { chain: publication.chain, target, pieces });
                let malformed = |source| SdkError::Spool { path: won.clone(), source };
                let bytes = bytes.map_err(malformed)?;
                return soma_os::file::write_private(&won, &bytes).map_err(SdkError::io(&won));
            }
        }
        Ok(())
    }

    /// The pieces of data that has won on a chain, with its targets. Damaged files are left out.
    ///
    /// # Errors
    /// [`SdkError::Io`].
    pub fn wins(&self, chain: Hash) -> Result<Vec<(TargetId, Vec<u64>)>, SdkError> {
        let read = |path: PathBuf| {
            let win: Win = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
            (win.chain == chain).then_some((win.target, win.pieces))
        };
        Ok(with_ending(self.files()?, WON).filter_map(read).collect())
    }

    /// Looks again at obligations of an account of which a node has said that nothing is due
    /// anymore, while they could still be sent: another node, or the same one later, may say
    /// something else. Returns whether one is due, and is on the list again.
    async fn look_again(&self, sender: &Sender, status: &Status, ended: Vec<PathBuf>) -> bool {
        let epoch_ms = sender.params().epoch_ms;
        let by_time = LOOK_AGAIN.min(Duration::from_millis(epoch_ms / 16));
        let pause = if epoch_ms == 0 { LOOK_AGAIN_BY_COMMAND } else { by_time };
        let can_be_sent = |path: &PathBuf| ended_epoch(path) >= Some(status.clock.epoch);
        let mut found = false;
        for path in ended.into_iter().filter(can_be_sent) {
            if !self.is_time(&path, pause) {
                continue;
            }
            let Ok(obligation) = read(&path) else {
                continue;
            };
            let is_ours =
                obligation.chain() == sender.chain() && obligation.sender() == sender.address();
            if !is_ours {
                continue;
            }
            let looked = look(sender.client(), status, sender.params(), &obligation).await;
            let is_due = match looked {
                Ok((
                    ObligationStatus::Waiting { at_risk } | ObligationStatus::Ready { at_risk },
                    _,
                )) => at_risk > Amount::ZERO,
                _ => false,
            };
            found |= is_due && soma_os::file::rename(&path, &path.with_extension(ENDING)).is_ok();
        }
        found
    }

    /// The key under which this machine has revealed these weights of a model, if it still knows:
    /// it is public then, whatever a node says.
    ///
    /// # Errors
    /// [`SdkError::Io`] if the folder cannot be read.
    pub fn revealed_key(
        &self,
        model: ModelId,
        weights_hash: Hash,
        ciphertext_hash: Hash,
    ) -> Result<Option<Secret>, SdkError> {
        for path in self.sent(format!("reveal-{model}-"))? {
            if let Ok(Obligation::Reveal(reveal)) = read(&path)
                && reveal.weights_hash == weights_hash
                && reveal.ciphertext_hash == ciphertext_hash
            {
                return Ok(Some(reveal.key));
            }
        }
        Ok(None)
    }

    /// Removes obligations that were retired long ago, if it is time to look for them.
    fn forget_old(&self) -> Result<(), SdkError> {
        if !self.is_time(&self.path, FORGET_EVERY) {
            return Ok(());
        }
        let is_retired = |path: &PathBuf| ending(path) == SENT || ended_epoch(path).is_some();
        for path in self.files()?.into_iter().filter(is_retired) {
            let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > KEPT) {
                remove(&path)?;
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
        let files = self.files();
        // A folder that cannot be read is told by the list.
        let mut ended = files.as_ref().map_or_else(|_| Vec::new(), Clone::clone);
        ended.retain(|path| ended_epoch(path).is_some());
        let mut listing = self.list_of(files)?;
        // Another process may have settled what is not on the list.
        let listed: BTreeSet<Hash> =
            listing.obligations.iter().map(Obligation::commitment).collect();
        sender.at_stake().keep_dues(&listed);
        if listing.obligations.is_empty() && ended.is_empty() {
            return Ok(outcomes);
        }
        let (turns, listener) = (self.path.join(TURNS), sender.client().listener());
        let _turn = Turn::take(&turns, TURN_LIMIT, listener, "send what is due").await;
        let status = sender.client().status().await?;
        is_of_chain(sender.client(), &status, sender.chain())?;
        if self.look_again(sender, &status, ended).await {
            listing = self.list()?;
        }
        // All are sent before the first is awaited, because a phase may be short.
        let mut begun = Vec::new();
        for obligation in listing.obligations {
            let step = self.begin(sender, &status, &obligation).await;
            begun.push((obligation, step));
        }
        for (obligation, step) in begun {
            let outcome = self.finish(sender, &obligation, step).await;
            outcomes.push((obligation, outcome));
        }
        Ok(outcomes)
    }

    /// Sends the obligation if it can be sent now.
    async fn begin(&self, sender: &Sender, status: &Status, obligation: &Obligation) -> Step {
        if obligation.chain() != sender.chain() || obligation.sender() != sender.address() {
            return Step::Stays(Outcome::Foreign);
        }
        let (at_stake, commitment) = (sender.at_stake(), obligation.commitment());
        let found = look(sender.client(), status, sender.params(), obligation).await;
        let (found, due) = match found {
            Ok(found) => found,
            Err(error) => return Step::Stays(Outcome::Failed(error)),
        };
        at_stake.set_due(commitment, due);
        let at_risk = match found {
            ObligationStatus::Waiting { at_risk } => return Step::Waits { at_risk },
            ObligationStatus::Ready { at_risk } => at_risk,
            ObligationStatus::Settled => return Step::Over(Outcome::Settled),
            ObligationStatus::Missed => return Step::Over(Outcome::Missed),
        };
        let path = self.path_of(obligation);
        let held = self.with_held(|held| held.get(&path).cloned());
        let held = held.unwrap_or_else(|| Held::new(obligation.clone()));
        if let Some(sent) = held.sent {
            return Step::Sent { sent, at_risk };
        }
        if held.again_at.is_some_and(|again_at| Instant::now() < again_at) {
            return Step::Stays(Outcome::Waiting { at_risk });
        }
        match sender.send(obligation.action()).await {
            Ok(sent) => {
                self.change(&path, |held| held.sent = Some(sent));
                Step::Sent { sent, at_risk }
            }
            Err(error) => {
                self.change(&path, Held::refused);
                Step::Stays(Outcome::Failed(error))
            }
        }
    }

    /// Waits for what was begun, and retires the obligation if it is settled.
    async fn finish(&self, sender: &Sender, obligation: &Obligation, step: Step) -> Outcome {
        let path = self.path_of(obligation);
        let outcome = match step {
            Step::Stays(outcome) => return outcome,
            Step::Waits { at_risk } => {
                return match timeout(WAIT_LIMIT, finish_upload(sender, obligation)).await {
                    Ok(Err(error)) => Outcome::Failed(error),
                    Ok(Ok(())) | Err(_) => Outcome::Waiting { at_risk },
                };
            }
            Step::Over(outcome) => outcome,
            Step::Sent { sent, at_risk } => {
                let Ok(fate) = timeout(WAIT_LIMIT, sender.wait(sent)).await else {
                    return Outcome::Waiting { at_risk };
                };
                if !matches!(fate, Err(SdkError::Timeout { .. })) {
                    self.change(&path, |held| held.sent = None);
                }
                match fate {
                    Ok(_) => Outcome::Sent,
                    Err(error) if PERMANENT.contains(&error.code()) => Outcome::Rejected(error),
                    Err(error @ SdkError::Rejected { .. }) => {
                        self.change(&path, Held::refused);
                        return Outcome::Refused(error);
                    }
                    Err(error) => return Outcome::Failed(error),
                }
            }
        };
        sender.at_stake().set_due(obligation.commitment(), None);
        // If it cannot be taken off the list, the next process sees again that nothing is due.
        let _retired = self.retire(obligation, matches!(outcome, Outcome::Sent));
        outcome
    }

    /// Changes what this process keeps of an obligation.
    fn change(&self, path: &Path, change: impl FnOnce(&mut Held)) {
        self.with_held(|held| held.get_mut(path).map_or((), change));
    }

    /// Whether this process last looked at a path at least `pause` ago; then it is looked at now.
    fn is_time(&self, path: &Path, pause: Duration) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = looked.get(path).is_none_or(|last| last.elapsed() >= pause);
        if is_time {
            looked.insert(path.to_owned(), Instant::now());
        }
        is_time
    }

    fn looked_at(&self, path: &Path) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.insert(path.to_owned(), Instant::now());
    }

    fn with_held<T>(&self, change: impl FnOnce(&mut BTreeMap<PathBuf, Held>) -> T) -> T {
        change(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What this machine has settled whose name begins so.
    fn sent(&self, name: String) -> Result<impl Iterator<Item = PathBuf>, SdkError> {
        let is_wanted = move |path: &PathBuf| {
            let found = path.file_name().unwrap_or_default().as_encoded_bytes();
            found.starts_with(name.as_bytes())
        };
        Ok(with_ending(self.files()?, SENT).filter(is_wanted))
    }

    /// The files of the folder, by name; none if it has vanished, which [`Self::write`] creates
    /// again.
    fn files(&self) -> Result<Vec<PathBuf>, SdkError> {
        let mut paths = Vec::new();
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(paths),
            entries => entries.map_err(SdkError::io(&self.path))?,
        };
        for entry in entries {
            paths.push(entry.map_err(SdkError::io(&self.path))?.path());
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

/// The ending of a file's name.
fn ending(path: &Path) -> &str {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default()
}

/// Those of these files that have an ending.
fn with_ending(paths: Vec<PathBuf>, wanted: &'static str) -> impl Iterator<Item = PathBuf> {
    paths.into_iter().filter(move |path| ending(path) == wanted)
}

/// The last epoch in which an ended obligation can be sent, by its name; `None` for other files.
fn ended_epoch(path: &Path) -> Option<u32> {
    ending(path).strip_prefix(ENDED)?.parse().ok()
}

/// Where the obligation of the file `path` is once it is retired.
fn retired(path: &Path, obligation: &Obligation, was_sent: bool) -> PathBuf {
    if was_sent {
        path.with_extension(SENT)
    } else {
        path.with_extension(format!("{ENDED}{}", obligation.last_epoch()))
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
    /// The node has its transaction, or may have it.
    Sent { sent: Sent, at_risk: Amount },
}

/// The status of an obligation, and what is due of it, from what a node with this status reports.
///
/// # Errors
/// Same as the requests of [`Client`].
pub async fn look(
    client: &Client,
    status: &Status,
    params: &Params,
    obligation: &Obligation,
) -> Result<(ObligationStatus, Option<Due>), SdkError> {
    let clock = &status.clock;
    let (found, (epoch, phase)) = match obligation {
        Obligation::Reveal(reveal) => {
            let model = client.model(reveal.model).await?;
            let found = reveal.status(clock, &model, params.missed_reveal_slash_bps);
            (found, obligation.last_phase(None, params))
        }
        Obligation::Publication(publication) => {
            let target = client.target(publication.target).await?;
            (publication.status(clock, &target), obligation.last_phase(Some(&target), params))
        }
    };
    let due = match found {
        ObligationStatus::Waiting { at_risk } | ObligationStatus::Ready { at_risk } => Some(Due {
            what: obligation.to_string(),
            at_risk: at_risk.into(),
            until_epoch: epoch.0,
            until_phase: phase.into(),
            until_ms: phase_ends_ms(clock, params, epoch, phase).map(Into::into),
        }),
        ObligationStatus::Settled | ObligationStatus::Missed => None,
    };
    Ok((found, due))
}

/// Resumes the upload of a committed file that too few validators hold: unless enough hold it
/// before the epoch begins, the commit lapses.
async fn finish_upload(sender: &Sender, obligation: &Obligation) -> Result<(), SdkError> {
    let Obligation::Reveal(reveal) = obligation else {
        return Ok(());
    };
    let model = sender.client().model(reveal.model).await?;
    match reveal.commit_in(&model) {
        Some(commit) if !commit.held => {
            let ignore = &mut |_, _| {};
            sender.upload(&reveal.ciphertext, reveal.ciphertext_hash, ignore).await
        }
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), SdkError> {
    soma_os::file::remove(path).map_err(SdkError::io(path))
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
