//! A cold store: a bucket that holds files which this node has attested to and seldom needs, so
//! that they leave its disk. For each of them a record with its hash tree stays on the disk, by
//! which every byte that is read is verified before anybody gets it.
//!
//! A record must exist only while nothing shows that the object does not: a file is attested as
//! held because of it. What is lost or damaged loses its record and is fetched from other nodes.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use parking_lot::Mutex;
use soma_codes::Code;
use soma_protocol::Hash;
use soma_sdk::Trust;
use tokio::runtime::{Builder, Handle, Runtime};

use super::needed::Ciphertext;
use super::store::remove;
use super::tree::{GROUP_BYTES, Tree, TreeHasher, subtree_of};
use crate::bucket::{Bucket, ColdFailure};
use crate::error::NodeError;

/// Bytes of a part of an object that is put, and of a range when a file comes back.
const PART_BYTES: u64 = 8 << 20;
/// The most parts of an object: the limit of S3 is 10,000.
const PARTS_MAX: u64 = 9_000;
/// How many groups of an object are read back before the file may leave the disk.
const SAMPLES: u64 = 16;
/// How often groups are read before they count as damaged.
const READS: u32 = 2;
/// How many groups are read at once by whoever reads on from the last ones.
const GROUPS_AHEAD: u64 = 4;
/// How often all objects are listed, and how often while the cold store fails.
const LIST_INTERVAL: Duration = Duration::from_mins(10);
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// How long a file must not have been needed before its object is deleted: a node that still
/// catches up with the chain needs other files for a while.
const UNNEEDED: Duration = Duration::from_hours(1);
/// How long the loss of a file is told at least.
const TOLD: Duration = Duration::from_mins(10);

/// What is known of a cold store.
#[derive(Default)]
struct Known {
    /// The files that it has, and their sizes.
    records: BTreeMap<Hash, u64>,
    /// The objects when they were last listed, and their lengths.
    objects: BTreeMap<Hash, u64>,
    listed: Option<Instant>,
    /// Why it failed last, and when, until something succeeds.
    failing: Option<(String, Instant)>,
    /// Files that it has lost or damaged, and when that was noticed.
    lost: BTreeMap<Hash, Instant>,
    /// Files that could not be read when somebody asked for them: other nodes have them.
    wanted: BTreeSet<Hash>,
    /// Since when nobody needs a file.
    unneeded: BTreeMap<Hash, Instant>,
}

/// The cold store of a node.
pub(crate) struct Cold {
    bucket: Arc<Bucket>,
    /// Its connections belong to this runtime, whoever asks. `None` once it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
    /// The folder of the records.
    dir: PathBuf,
    known: Mutex<Known>,
}

impl Drop for Cold {
    fn drop(&mut self) {
        // Whoever drops it last may be within a runtime, where waiting is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Cold {
    /// Opens a cold store whose records are in `dir`.
    ///
    /// # Errors
    /// [`NodeError::ColdStore`] if it cannot be used; a file error.
    pub(crate) fn open(dir: &Path, url: &str, trust: &Trust) -> Result<Self, NodeError> {
        Self::over(dir, Bucket::open(url, trust)?)
    }

    fn over(dir: &Path, bucket: Bucket) -> Result<Self, NodeError> {
        let mut threads = Builder::new_multi_thread();
        threads.worker_threads(1).thread_name("soma-cold").enable_all();
        let runtime = threads.build().map_err(NodeError::Thread)?;
        fs::create_dir_all(dir).map_err(|error| NodeError::io(dir, error))?;
        let cold = Self {
            bucket: Arc::new(bucket),
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            dir: dir.to_path_buf(),
            known: Mutex::default(),
        };
        cold.read_records()?;
        Ok(cold)
    }

    fn read_records(&self) -> Result<(), NodeError> {
        let failed = |error| NodeError::io(&self.dir, error);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(hash) = name.to_str().and_then(|name| name.parse::<Hash>().ok()) else {
                continue;
            };
            match self.tree(&hash)? {
                Some(tree) => {
                    self.known.lock().records.insert(hash, tree.size_bytes);
                }
                // Damaged: what the object is worth shows when it is read again.
                None => remove(&self.record(&hash))?,
            }
        }
        Ok(())
    }

    fn record(&self, hash: &Hash) -> PathBuf {
        self.dir.join(hash.to_string())
    }

    /// The tree of a file that the cold store has.
    fn tree(&self, hash: &Hash) -> Result<Option<Tree>, NodeError> {
        let path = self.record(hash);
        match fs::read(&path) {
            Ok(bytes) => Ok(borsh::from_slice(&bytes).ok().filter(|tree: &Tree| tree.is_of(hash))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(NodeError::io(&path, error)),
        }
    }

    /// Notes that the cold store has a file.
    fn remember(&self, hash: &Hash, tree: &Tree) -> Result<(), NodeError> {
        let path = self.record(hash);
        let bytes = borsh::to_vec(tree).map_err(|error| NodeError::io(&path, error))?;
        soma_os::file::write(&path, &bytes).map_err(|error| NodeError::io(&path, error))?;
        let mut known = self.known.lock();
        known.records.insert(*hash, tree.size_bytes);
        known.objects.insert(*hash, tree.size_bytes);
        Ok(())
    }

    fn forget(&self, hash: &Hash) -> Result<(), NodeError> {
        let mut known = self.known.lock();
        known.records.remove(hash);
        known.objects.remove(hash);
        drop(known);
        remove(&self.record(hash))
    }

    /// The size of a file that the cold store has.
    pub(super) fn size_bytes(&self, hash: &Hash) -> Option<u64> {
        self.known.lock().records.get(hash).copied()
    }

    /// Whether somebody asked for a file in vain, so that it is to be fetched.
    pub(super) fn is_wanted(&self, hash: &Hash) -> bool {
        self.known.lock().wanted.contains(hash)
    }

    /// Asks for a file to be brought to the disk.
    pub(super) fn want(&self, hash: &Hash) {
        self.known.lock().wanted.insert(*hash);
    }

    /// Whether it did not do what was asked last.
    pub(crate) fn is_failing(&self) -> bool {
        self.known.lock().failing.is_some()
    }

    /// What its operator should know.
    pub(crate) fn troubles(&self) -> Vec<(Code, String)> {
        let known = self.known.lock();
        let failing = known.failing.as_ref().map(|(reason, _)| {
            let message = format!("the cold store of weights files fails: {reason}");
            (Code::ColdStore, message)
        });
        let lost = known.lost.first_key_value().map(|(hash, _)| {
            let message = match known.lost.len() {
                1 => format!("the cold store has lost or damaged the file {hash}"),
                count => format!("the cold store has lost or damaged {count} files, {hash} first"),
            };
            (Code::ColdFileLost, message)
        });
        failing.into_iter().chain(lost).collect()
    }

    /// Runs work where the connections are.
    async fn on_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ColdFailure>> + Send + 'static,
    ) -> Result<T, ColdFailure> {
        let stopping = |_| ColdFailure::Failed("the node is stopping".to_owned());
        let done = self.handle.spawn(work).await.map_err(stopping)?;
        self.note(done)
    }

    /// Reads groups of an object, verified, on a thread that may block.
    fn wait_for(
        self: &Arc<Self>,
        hash: &Hash,
        tree: &Arc<Tree>,
        groups: Range<u64>,
    ) -> Result<Bytes, NodeError> {
        let (sender, done) = mpsc::sync_channel(1);
        let (cold, hash, tree) = (Arc::clone(self), *hash, Arc::clone(tree));
        self.handle.spawn(async move {
            let _gone = sender.send(cold.read(&hash, &tree, groups).await);
        });
        let stopping = || NodeError::ColdStore { reason: "the node is stopping".to_owned() };
        done.recv().map_err(|_| stopping())?
    }

    /// Notes whether it works.
    fn note<T>(&self, done: Result<T, ColdFailure>) -> Result<T, ColdFailure> {
        let mut known = self.known.lock();
        known.failing = match &done {
            Err(ColdFailure::Failed(reason)) => Some((reason.clone(), Instant::now())),
            Ok(_) | Err(ColdFailure::Missing) => None,
        };
        done
    }

    /// Notes that an object is not there, or not what it was.
    fn lose(&self, hash: &Hash, what: &str) -> NodeError {
        tracing::warn!(%hash, "an object of the cold store {what}: other nodes are asked for it");
        self.known.lock().lost.insert(*hash, Instant::now());
        if let Err(error) = self.forget(hash) {
            return error;
        }
        NodeError::WeightsNotHeld { hash: *hash }
    }

    /// The error for a failed attempt to read an object.
    fn unread(&self, hash: &Hash, failure: ColdFailure) -> NodeError {
        match failure {
            ColdFailure::Missing => self.lose(hash, "is missing"),
            ColdFailure::Failed(reason) => NodeError::ColdStore { reason },
        }
    }

    /// An object that is not what it was is deleted: it must not mislead others, and is put again.
    async fn damaged(&self, hash: &Hash) -> NodeError {
        let (bucket, object) = (Arc::clone(&self.bucket), *hash);
        let _deleted = self.on_runtime(async move { bucket.delete(&object).await }).await;
        self.lose(hash, "is damaged")
    }

    /// Opens a file that the cold store has.
    ///
    /// # Errors
    /// [`NodeError::WeightsNotHeld`] if it has none; a file error.
    pub(super) fn file(self: &Arc<Self>, hash: &Hash) -> Result<ColdFile, NodeError> {
        let Some(tree) = self.tree(hash)? else {
            return Err(match self.size_bytes(hash) {
                Some(_) => self.lose(hash, "has no usable record"),
                None => NodeError::WeightsNotHeld { hash: *hash },
            });
        };
        let (cold, hash) = (Arc::clone(self), *hash);
        Ok(ColdFile { cold, hash, tree: Arc::new(tree), first: 0, bytes: Bytes::new() })
    }

    /// Whether objects are to be listed again.
    pub(super) fn is_list_due(&self, now: Instant) -> bool {
        let known = self.known.lock();
        let pause = if known.failing.is_some() { RETRY_INTERVAL } else { LIST_INTERVAL };
        known.listed.is_none_or(|listed| now.saturating_duration_since(listed) >= pause)
    }

    /// Lists all objects. A file whose object is gone or has another length is lost.
    ///
    /// # Errors
    /// If it fails.
    pub(super) async fn list(&self, now: Instant) -> Result<(), ColdFailure> {
        self.known.lock().listed = Some(now);
        let bucket = Arc::clone(&self.bucket);
        let mut objects = self.on_runtime(async move { bucket.list().await }).await?;
        let records = self.known.lock().records.clone();
        for (hash, size_bytes) in records {
            match objects.get(&hash).copied() {
                Some(length) if length == size_bytes => continue,
                Some(_) => drop(self.damaged(&hash).await),
                None => drop(self.lose(&hash, "is missing")),
            }
            objects.remove(&hash);
        }
        self.known.lock().objects = objects;
        Ok(())
    }

    /// Forgets losses and wishes that are over. Returns the files that nobody has `needed` for a
    /// while.
    pub(super) fn review(
        &self,
        now: Instant,
        needed: impl Fn(&Ciphertext) -> bool,
        is_over: impl Fn(&Hash) -> bool,
    ) -> Vec<Hash> {
        // The questions have locks of their own, under which others ask for what is known.
        let (mut idle, mut over) = {
            let known = self.known.lock();
            let named = known.lost.keys().chain(&known.wanted).copied();
            (known.records.clone(), named.collect::<BTreeSet<Hash>>())
        };
        idle.retain(|hash, size_bytes| {
            !needed(&Ciphertext { hash: *hash, size_bytes: *size_bytes })
        });
        over.retain(|hash| is_over(hash));
        let since = |at: &Instant| now.saturating_duration_since(*at);
        let mut known = self.known.lock();
        let Known { records, lost, wanted, unneeded, .. } = &mut *known;
        lost.retain(|hash, at| !over.contains(hash) || since(at) < TOLD);
        wanted.retain(|hash| !over.contains(hash) && records.contains_key(hash));
        unneeded.retain(|hash, _| idle.contains_key(hash));
        for hash in idle.into_keys() {
            unneeded.entry(hash).or_insert(now);
        }
        unneeded.iter().filter(|(_, at)| since(at) >= UNNEEDED).map(|(hash, _)| *hash).collect()
    }

    /// Deletes the object of a file that nobody needs.
    ///
    /// # Errors
    /// If it fails; a file error.
    pub(super) async fn delete(&self, hash: &Hash) -> Result<(), NodeError> {
        let (bucket, object) = (Arc::clone(&self.bucket), *hash);
        let deleted = self.on_runtime(async move { bucket.delete(&object).await }).await;
        deleted.map_err(|failure| self.unread(hash, failure))?;
        self.forget(hash)
    }

    /// Puts the file at `path`, unless it is there, and makes sure of it: its length, and groups of
    /// it as they are read back. Only then may the file leave the disk.
    ///
    /// # Errors
    /// [`NodeError::CiphertextMismatch`] if the file is not what its name says;
    /// [`NodeError::ColdStore`]; [`NodeError::WeightsNotHeld`] if the object is not what was put; a
    /// file error.
    pub(super) async fn secure(&self, hash: &Hash, path: &Path) -> Result<(), NodeError> {
        let tree = match self.tree(hash)? {
            Some(tree) => tree,
            None => self.put(hash, path).await?,
        };
        let (bucket, object) = (Arc::clone(&self.bucket), *hash);
        let length = self.on_runtime(async move { bucket.length(&object).await }).await;
        let length = length.map_err(|failure| self.unread(hash, failure))?;
        if length != tree.size_bytes {
            return Err(self.damaged(hash).await);
        }
        for first in samples(tree.len()) {
            self.read(hash, &tree, first..first + 1).await?;
        }
        self.remember(hash, &tree)
    }

    async fn put(&self, hash: &Hash, path: &Path) -> Result<Tree, NodeError> {
        let failed = |error| NodeError::io(path, error);
        let mut file = fs::File::open(path).map_err(failed)?;
        let size_bytes = file.metadata().map_err(failed)?.len();
        let part_bytes = PART_BYTES.max(size_bytes / PARTS_MAX + 1);
        let mut hasher = TreeHasher::new();
        let mut next = |hasher: &mut TreeHasher| {
            let mut part = Vec::new();
            (&mut file).take(part_bytes).read_to_end(&mut part).map_err(failed)?;
            hasher.update(&part);
            Ok::<_, NodeError>(part)
        };
        let mut part = next(&mut hasher)?;
        let (bucket, object) = (Arc::clone(&self.bucket), *hash);
        let unsent = |failure| self.unread(hash, failure);
        if part.len() as u64 == size_bytes {
            let tree = checked(hasher, hash)?;
            let sent = self.on_runtime(async move { bucket.put(&object, part).await }).await;
            return sent.map(|()| tree).map_err(unsent);
        }
        let begun = self.on_runtime(async move { bucket.begin(&object).await }).await;
        let mut parts = begun.map_err(unsent)?;
        while !part.is_empty() {
            parts = self.on_runtime(parts.put(part)).await.map_err(unsent)?;
            part = match next(&mut hasher) {
                Ok(part) => part,
                Err(error) => {
                    let _freed = self.handle.spawn(parts.abort()).await;
                    return Err(error);
                }
            };
        }
        match checked(hasher, hash) {
            Ok(tree) => {
                self.on_runtime(parts.complete()).await.map_err(unsent)?;
                Ok(tree)
            }
            Err(mismatch) => {
                let _freed = self.handle.spawn(parts.abort()).await;
                Err(mismatch)
            }
        }
    }

    /// Whether to ask it for a file: it has an object of this name and length, and works.
    pub(super) fn offers(&self, file: &Ciphertext) -> bool {
        let known = self.known.lock();
        let size_bytes = known.records.get(&file.hash).or_else(|| known.objects.get(&file.hash));
        let failed = known.failing.as_ref().map(|(_, at)| at.elapsed());
        size_bytes == Some(&file.size_bytes) && failed.is_none_or(|ago| ago >= RETRY_INTERVAL)
    }

    /// Brings a file back, to `to`, and verifies it.
    ///
    /// # Errors
    /// [`NodeError::ColdStore`]; [`NodeError::WeightsNotHeld`] if the object is missing or not the
    /// file; a file error.
    pub(super) async fn fetch(&self, file: &Ciphertext, to: &Path) -> Result<(), NodeError> {
        let Ciphertext { hash, size_bytes } = *file;
        let failed = |error| NodeError::io(to, error);
        let mut copy = soma_os::file::open_own(to).map_err(failed)?;
        copy.set_len(0).map_err(failed)?;
        let (mut hasher, mut offset) = (TreeHasher::new(), 0);
        while offset < size_bytes {
            let range = offset..size_bytes.min(offset + PART_BYTES);
            let bytes = self.range(&hash, range.clone()).await?;
            copy.write_all(&bytes).map_err(failed)?;
            hasher.update(&bytes);
            offset = range.end;
        }
        let (found, tree) = hasher.finish();
        if found != hash {
            remove(to)?;
            // Without a record it is somebody else's: a bucket may be shared.
            return Err(match self.size_bytes(&hash) {
                Some(_) => self.damaged(&hash).await,
                None => self.lose(&hash, "is not what its name says"),
            });
        }
        copy.sync_all().map_err(failed)?;
        self.remember(&hash, &tree)
    }

    async fn range(&self, hash: &Hash, range: Range<u64>) -> Result<Bytes, NodeError> {
        let (bucket, object, length) = (Arc::clone(&self.bucket), *hash, range.end - range.start);
        let read = self.on_runtime(async move { bucket.range(&object, range).await }).await;
        let bytes = read.map_err(|failure| {
            if matches!(failure, ColdFailure::Failed(_)) {
                self.want(hash);
            }
            self.unread(hash, failure)
        })?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(self.damaged(hash).await) }
    }

    /// Reads groups of an object, verified.
    async fn read(&self, hash: &Hash, tree: &Tree, groups: Range<u64>) -> Result<Bytes, NodeError> {
        // A byte that changed on the way does not condemn the object.
        for _ in 0..READS {
            let bytes = self.range(hash, tree.bytes_of(&groups)).await?;
            if tree.verifies(hash, groups.start, &bytes) {
                return Ok(bytes);
            }
        }
        Err(self.damaged(hash).await)
    }
}

/// The tree of a file that has the hash of its name.
fn checked(hasher: TreeHasher, expected: &Hash) -> Result<Tree, NodeError> {
    let (found, tree) = hasher.finish();
    if found == *expected {
        return Ok(tree);
    }
    Err(NodeError::CiphertextMismatch { expected: *expected, found })
}

/// Which of so many groups are read back: some that are spread evenly, and the last.
fn samples(groups: u64) -> BTreeSet<u64> {
    let spread = (0..SAMPLES.min(groups)).map(|number| number * groups / SAMPLES.min(groups));
    spread.chain(groups.checked_sub(1)).collect()
}

/// A file that is read where it is, in the cold store: each group is verified before any byte of it
/// is passed on.
pub(crate) struct ColdFile {
    cold: Arc<Cold>,
    hash: Hash,
    tree: Arc<Tree>,
    /// The first group of those in `bytes`.
    first: u64,
    bytes: Bytes,
}

impl ColdFile {
    pub(super) fn size_bytes(&self) -> u64 {
        self.tree.size_bytes
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`NodeError::ColdStore`]; [`NodeError::WeightsNotHeld`] if the object is missing or damaged.
    pub(super) fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), NodeError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = self.rest(offset + filled as u64)?;
            let length = rest.len().min(buffer.len() - filled);
            buffer[filled..filled + length].copy_from_slice(&rest[..length]);
            filled += length;
        }
        Ok(())
    }

    /// What is in memory from `offset` on, at least a byte.
    fn rest(&mut self, offset: u64) -> Result<Bytes, NodeError> {
        if offset >= self.tree.size_bytes {
            let past_end = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(NodeError::io(&self.cold.record(&self.hash), past_end));
        }
        let start = self.first * GROUP_BYTES;
        let end = start + self.bytes.len() as u64;
        if !(start..end).contains(&offset) {
            // Whoever reads on reads more.
            let count = if offset == end && end > 0 { GROUPS_AHEAD } else { 1 };
            let first = offset / GROUP_BYTES;
            let groups = first..self.tree.len().min(first + count);
            self.bytes = self.cold.wait_for(&self.hash, &self.tree, groups)?;
            self.first = first;
        }
        let within = usize::try_from(offset - self.first * GROUP_BYTES).unwrap_or(usize::MAX);
        Ok(self.bytes.slice(within.min(self.bytes.len())..))
    }

    /// The chaining value of a part of the file.
    ///
    /// # Errors
    /// Same as [`Self::read_at`].
    pub(super) fn subtree(&mut self, offset: u64, length: u64) -> Result<[u8; 32], NodeError> {
        if let Some(value) = self.tree.subtree(offset, length) {
            return Ok(value);
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.read_at(offset, &mut bytes)?;
        Ok(subtree_of(offset, &bytes))
    }
}
