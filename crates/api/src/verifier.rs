//! Answers that nobody needs to believe: checks what a node proves of the state of a chain, from
//! genesis on.
//!
//! It asks nobody and knows no node: [`Proved`](crate::proved::Proved) does, and hands over what it
//! got.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use soma_os::clock::now_ms;
use soma_proof::{Certificate, Committees, Handover, Header, RecordProof, TERM_BLOCKS, voters};
use soma_protocol::{Changes, Genesis, Hash, Key, MemoryState, StateRead, hex, read, record};

use crate as api;
use crate::unproved::{Unproved, VerifyError};

/// How old the block of an answer may be, or how far ahead of this machine's clock: blocks come at
/// least every second where there are several validators.
pub const AGE_MAX: Duration = Duration::from_mins(2);
/// Size limit of the file in which committees are kept.
const FILE_BYTES_MAX: usize = 1 << 20;
/// The records that every state has, and that answers are computed with: asked for always.
pub(crate) fn every_state() -> [Key; 5] {
    [Key::network(), Key::params(), Key::clock(), Key::supply(), Key::rules()]
}

/// What a client knows about a chain for sure, and how it checks what nodes say.
#[derive(Debug)]
pub struct Verifier {
    chain: Hash,
    /// `None` until the genesis is known.
    committees: Mutex<Option<Committees>>,
    /// The last term before which handovers were asked for.
    followed: Mutex<Option<u64>>,
    /// Where the committees are kept, so that the next process starts with them.
    file: Option<PathBuf>,
    age_max: Duration,
}

/// A state of which some records are known, and which remembers which others were read.
pub(crate) struct PartialState {
    known: BTreeMap<Key, Option<Arc<[u8]>>>,
    missed: Mutex<Vec<Key>>,
}

impl StateRead for PartialState {
    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        if let Some(known) = self.known.get(key) {
            return known.clone();
        }
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        missed.push(*key);
        None
    }
}

impl PartialState {
    /// The keys that were read and are not known.
    pub(crate) fn missed(self) -> Vec<Key> {
        self.missed.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verifier {
    /// Trusts the genesis with this hash and nothing else. It is asked for when it is needed.
    pub fn new(chain: Hash) -> Self {
        Self {
            chain,
            committees: Mutex::default(),
            followed: Mutex::default(),
            file: None,
            age_max: AGE_MAX,
        }
    }

    /// The same, which keeps the committees that it verifies in `file`, and begins with those that
    /// an earlier process has kept there.
    ///
    /// # Errors
    /// [`VerifyError::Io`] if the file cannot be read. One that holds something else is replaced:
    /// all of it follows from genesis.
    pub fn kept(chain: Hash, file: PathBuf) -> Result<Self, VerifyError> {
        // Hex, so that it is read with the limit and the care of texts.
        let committees = match soma_os::data::read_text(&file, FILE_BYTES_MAX) {
            Ok(text) => decode(&text).filter(|kept| kept.chain() == chain),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(VerifyError::io(&file)(error)),
        };
        let committees = Mutex::new(committees);
        Ok(Self { committees, file: Some(file), ..Self::new(chain) })
    }

    /// The same, with another limit for the age of blocks.
    #[must_use]
    pub fn with_age_max(self, age_max: Duration) -> Self {
        Self { age_max, ..self }
    }

    /// The chain.
    pub const fn chain(&self) -> Hash {
        self.chain
    }

    fn committees(&self) -> MutexGuard<'_, Option<Committees>> {
        self.committees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followed(&self) -> MutexGuard<'_, Option<u64>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it needs the genesis to begin with.
    pub(crate) fn needs_genesis(&self) -> bool {
        self.committees().is_none()
    }

    /// Begins with the genesis of the chain, unless it has begun already.
    ///
    /// # Errors
    /// [`VerifyError::Genesis`] if it is another chain's or breaks its own rules;
    /// [`VerifyError::Io`].
    pub fn begin(&self, genesis: &Genesis) -> Result<(), VerifyError> {
        let bad = |reason: String| VerifyError::Genesis(reason);
        if genesis.chain_id() != self.chain {
            return Err(bad(format!("it is that of chain {}", genesis.chain_id())));
        }
        let state = genesis.state().map_err(|error| bad(error.to_string()))?;
        let seats = read::committee(&memory(&state)).seats;
        let first = Committees::new(self.chain, TERM_BLOCKS, &voters(&seats));
        self.committees().get_or_insert(first);
        self.keep()
    }

    /// Begins with the committees of a checkpoint, which is believed, unless it has come as far
    /// already.
    ///
    /// # Errors
    /// [`VerifyError::CheckpointOfOtherChain`], [`VerifyError::Io`].
    pub fn begin_at(&self, checkpoint: Checkpoint) -> Result<(), VerifyError> {
        let Checkpoint { path, committees } = checkpoint;
        let (found, expected) = (committees.chain(), self.chain);
        if found != expected {
            return Err(VerifyError::CheckpointOfOtherChain { path, found, expected });
        }
        let is_further = |known: &Committees| committees.reached() > known.reached();
        let mut known = self.committees();
        if known.as_ref().is_none_or(is_further) {
            *known = Some(committees);
        }
        drop(known);
        self.keep()
    }

    /// Writes a checkpoint from which another verifier can begin. Returns whether there is one: not
    /// before this verifier has begun.
    ///
    /// # Errors
    /// [`VerifyError::Io`].
    pub fn save(&self, file: &Path) -> Result<bool, VerifyError> {
        let Some(mut committees) = self.committees().clone() else { return Ok(false) };
        committees.forget_past();
        let bytes = borsh::to_vec(&committees).map_err(VerifyError::io(file))?;
        let text = hex::encode(&bytes) + "\n";
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(VerifyError::io(folder))?;
        }
        soma_os::file::write_private(file, text.as_bytes()).map_err(VerifyError::io(file))?;
        Ok(true)
    }

    fn keep(&self) -> Result<(), VerifyError> {
        self.file.as_deref().map_or(Ok(()), |file| self.save(file).map(drop))
    }

    /// Whether handovers have been asked for since the term of this height began.
    pub(crate) fn is_followed(&self, height: u64) -> bool {
        let term = self.committees().as_ref().map(|committees| committees.term_of(height));
        self.followed().is_some_and(|followed| term.is_some_and(|term| term <= followed))
    }

    /// The term of the last handover that was followed.
    pub(crate) fn reached(&self) -> Option<u64> {
        self.committees().as_ref().and_then(Committees::reached)
    }

    /// Follows handovers, and returns how many there were. Those that have been followed meanwhile,
    /// for another question, count and change nothing.
    ///
    /// # Errors
    /// [`Unproved::Malformed`], [`Unproved::Handover`].
    fn follow_all(&self, answer: &api::Handovers) -> Result<usize, Unproved> {
        let mut committees = self.committees();
        let committees = committees.as_mut().ok_or(Unproved::Malformed)?;
        for handover in &answer.handovers {
            let next = hex::decode(handover).and_then(|bytes| Handover::decode(&bytes));
            let next = next.ok_or(Unproved::Malformed)?;
            if committees.reached() >= Some(committees.term_of(next.header.height)) {
                continue;
            }
            committees.follow(&next).map_err(Unproved::Handover)?;
        }
        Ok(answer.handovers.len())
    }

    /// Follows handovers that a node at `url` gave, and returns how many there were.
    ///
    /// # Errors
    /// [`VerifyError::Unproved`]; [`VerifyError::Io`] if they cannot be kept.
    pub(crate) fn follow(&self, url: &str, answer: &api::Handovers) -> Result<usize, VerifyError> {
        let unproved = |reason| VerifyError::Unproved { url: url.to_owned(), reason };
        let followed = self.follow_all(answer).map_err(unproved)?;
        if followed > 0 {
            self.keep()?;
        }
        Ok(followed)
    }

    /// All handovers before a block of this height have been followed.
    pub(crate) fn has_followed(&self, height: u64) {
        let term = self.committees().as_ref().map(|committees| committees.term_of(height));
        // Of several questions at once, that of an earlier term may be answered last.
        let mut followed = self.followed();
        *followed = (*followed).max(term);
    }

    /// The height that an answer names, before anything of it is checked.
    ///
    /// # Errors
    /// [`Unproved::Malformed`].
    pub(crate) fn height_in(answer: &api::Proof) -> Result<u64, Unproved> {
        let header = hex::decode(&answer.header).and_then(|bytes| Header::decode(&bytes));
        header.map(|header| header.height).ok_or(Unproved::Malformed)
    }

    /// What the records of `keys` are, by an answer to the question for them.
    ///
    /// # Errors
    /// [`Unproved`].
    pub(crate) fn check(
        &self,
        keys: &[Key],
        answer: &api::Proof,
    ) -> Result<(PartialState, Header), Unproved> {
        let bytes = |text: &str| hex::decode(text).ok_or(Unproved::Malformed);
        let header = Header::decode(&bytes(&answer.header)?).ok_or(Unproved::Malformed)?;
        let certificate = Certificate::decode(&bytes(&answer.certificate)?);
        let certificate = certificate.ok_or(Unproved::Malformed)?;
        let height = header.height;
        let is_certified = |known: &Committees| known.believe(&header, &certificate);
        if !self.committees().as_ref().is_some_and(is_certified) {
            return Err(Unproved::Block { height });
        }
        self.check_time(&header)?;
        if answer.records.len() != keys.len() {
            return Err(Unproved::Malformed);
        }
        let mut known = BTreeMap::new();
        for (key, record) in keys.iter().zip(&answer.records) {
            let proof = RecordProof::decode(&bytes(record)?).ok_or(Unproved::Malformed)?;
            let shown = proof.shows(key, &header.state_root).ok_or(Unproved::Record { height })?;
            if shown.is_some_and(|value| !record::is_readable(value)) {
                return Err(Unproved::Format { height });
            }
            known.insert(*key, shown.map(Arc::from));
        }
        // Every state since the first block has them.
        if every_state().iter().any(|key| known.get(key).is_none_or(Option::is_none)) {
            return Err(Unproved::Malformed);
        }
        Ok((PartialState { known, missed: Mutex::default() }, header))
    }

    /// An old state is genuine, too: whoever shows it may hide what has changed since.
    fn check_time(&self, header: &Header) -> Result<(), Unproved> {
        let (now, then) = (now_ms(), header.timestamp_ms);
        let off_ms = now.abs_diff(then);
        if u128::from(off_ms) <= self.age_max.as_millis() {
            return Ok(());
        }
        Err(Unproved::Time { height: header.height, off_ms, ahead: then > now })
    }
}

/// Committees that a verifier has kept, and that are believed as genesis is.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    committees: Committees,
}

impl Checkpoint {
    /// Reads what a verifier has kept or saved in a file.
    ///
    /// # Errors
    /// [`VerifyError::NotACheckpoint`], [`VerifyError::Io`].
    pub fn read(path: &Path) -> Result<Self, VerifyError> {
        let path = path.to_owned();
        let text = match soma_os::data::read_text(&path, FILE_BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(VerifyError::NotACheckpoint { path });
            }
            Err(source) => return Err(VerifyError::Io { path, source }),
        };
        match decode(&text) {
            Some(committees) => Ok(Self { path, committees }),
            None => Err(VerifyError::NotACheckpoint { path }),
        }
    }

    /// The chain.
    pub const fn chain(&self) -> Hash {
        self.committees.chain()
    }
}

/// Reads the genesis in a file.
///
/// # Errors
/// [`VerifyError::Genesis`] if it is malformed; [`VerifyError::Io`].
pub fn read_genesis(path: &Path) -> Result<Genesis, VerifyError> {
    let bytes = soma_os::data::read(path).map_err(VerifyError::io(path))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| VerifyError::Genesis(format!("{}: {error}", path.display())))
}

/// Where the programs of a person keep the committees of a chain, in the folder of their data.
pub fn kept_in(home: &Path, chain: &Hash) -> PathBuf {
    home.join("verified").join(chain.to_string())
}

/// Committees, as a file keeps them; `None` if it holds something else.
fn decode(text: &str) -> Option<Committees> {
    let kept: Committees = borsh::from_slice(&hex::decode(text.trim())?).ok()?;
    let begins = Committees::new(kept.chain(), TERM_BLOCKS, &[]);
    (kept.is_of_the_chain_of(&begins) && !kept.at(u64::MAX).is_empty()).then_some(kept)
}

fn memory(changes: &Changes) -> MemoryState {
    let mut memory = MemoryState::default();
    memory.apply(changes);
    memory
}
