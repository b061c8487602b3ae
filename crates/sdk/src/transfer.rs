//! Uploads and downloads of large files: resumed where they were interrupted, and files kept only
//! if their hash is right.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use soma_os::file::{Destination, destination};
use soma_protocol::{Hash, SecretKey};

use crate::api::Upload;
use crate::api::permit::{PERMIT_MS, UploadPermit};
use crate::api::routes;
use crate::cipher::digest;
use crate::client::Client;
use crate::error::SdkError;
use crate::file;
use crate::retry::Retries;
use crate::turn;

/// How long a piece of an upload may take: enough for 64 KiB a second.
const PIECE_LIMIT: Duration = Duration::from_secs(routes::UPLOAD_PIECE_BYTES >> 16);
const READ_BYTES: usize = 1 << 20;

/// How often the rate of a download at a pace is looked at, and the least that comes in that time.
const WINDOW: Duration = Duration::from_secs(10);
const WINDOW_BYTES: u64 = 640 << 10;
/// How fast what was received before, which comes first, is read and hashed even on a slow disk.
const HASHED_BYTES_PER_SECOND: u64 = 32 << 20;

/// Called during a transfer with the bytes done so far and the total.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// A file that a node serves, with its expected hash and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its path on the node.
    pub path: String,
    /// BLAKE3 of its bytes.
    pub hash: Hash,
    /// Its size.
    pub size_bytes: u64,
}

impl Remote {
    /// The plaintext of revealed weights.
    pub fn weights(hash: Hash, size_bytes: u64) -> Self {
        Self { path: routes::path(routes::WEIGHTS, hash), hash, size_bytes }
    }

    /// An encrypted weights file.
    pub fn ciphertext(hash: Hash, size_bytes: u64) -> Self {
        Self { path: routes::path(routes::CIPHERTEXT, hash), hash, size_bytes }
    }
}

/// The uploader: a node accepts a file only from an account whose commit names it.
#[expect(missing_debug_implementations, reason = "a secret is never printed")]
pub struct Uploader<'a> {
    /// The key of the account that committed.
    pub key: &'a SecretKey,
    /// The chain.
    pub chain: Hash,
}

impl Uploader<'_> {
    /// A permit that is valid from now on: each piece gets its own.
    fn permit(&self, ciphertext_hash: &Hash) -> String {
        UploadPermit::sign(self.key, &self.chain, ciphertext_hash, until_ms()).to_string()
    }
}

/// When a permit that is signed now expires.
fn until_ms() -> u64 {
    soma_os::clock::now_ms().saturating_add(PERMIT_MS)
}

/// A file that is uploaded to a node.
struct LocalFile<'a> {
    path: &'a Path,
    file: File,
    size_bytes: u64,
    hash: Hash,
    route: String,
    uploader: &'a Uploader<'a>,
}

impl LocalFile<'_> {
    /// The next bytes from `offset` on; at least one.
    fn piece(&mut self, offset: u64) -> Result<Vec<u8>, SdkError> {
        let length = routes::UPLOAD_PIECE_BYTES.min(self.size_bytes.saturating_sub(offset));
        let mut piece = Vec::new();
        let file = &mut self.file;
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.take(length).read_to_end(&mut piece))
            .map_err(SdkError::io(self.path))?;
        if piece.len() as u64 == length && !piece.is_empty() {
            return Ok(piece);
        }
        Err(SdkError::WrongSize {
            what: self.path.display().to_string(),
            expected: self.size_bytes,
            found: offset + piece.len() as u64,
        })
    }
}

impl Client {
    /// Uploads the encrypted file at `path`, and continues where an earlier attempt stopped.
    /// Returns when the node has the complete file with the right hash.
    ///
    /// # Errors
    /// [`SdkError::Api`] if no commit names the hash or the node refuses it;
    /// [`SdkError::WrongSize`] if the file is not as long as committed;
    /// [`SdkError::Network`] after several attempts; [`SdkError::Io`].
    pub async fn upload(
        &self,
        path: &Path,
        ciphertext_hash: Hash,
        uploader: &Uploader<'_>,
        progress: Progress<'_>,
    ) -> Result<(), SdkError> {
        let file = File::open(path).map_err(SdkError::io(path))?;
        let size_bytes = file.metadata().map_err(SdkError::io(path))?.len();
        let route = routes::path(routes::UPLOAD, ciphertext_hash);
        let route = format!("{route}?size_bytes={size_bytes}");
        let mut local =
            LocalFile { path, file, size_bytes, hash: ciphertext_hash, route, uploader };
        let mut retries = Retries::new(self.retries());
        loop {
            let state = match self.upload_state(&local).await {
                Ok(state) => state,
                Err(error) => {
                    retries.pause_or_fail(error).await?;
                    continue;
                }
            };
            if state.size_bytes.0 != size_bytes {
                let (what, expected) = (path.display().to_string(), state.size_bytes.0);
                return Err(SdkError::WrongSize { what, expected, found: size_bytes });
            }
            progress(state.received.0, size_bytes);
            if state.complete {
                return Ok(());
            }
            let mut offset = state.received.0;
            let sent = self.send_pieces(&mut local, &mut offset, progress);
            match sent.await {
                Ok(()) => return Ok(()),
                // The node is at a different offset than expected: ask for it and continue from
                // there.
                Err(error @ SdkError::Api { status: 409, .. }) => {
                    retries.progress(offset);
                    if !retries.pause().await {
                        return Err(error);
                    }
                }
                Err(error) => {
                    retries.progress(offset);
                    retries.pause_or_fail(error).await?;
                }
            }
        }
    }

    async fn upload_state(&self, local: &LocalFile<'_>) -> Result<Upload, SdkError> {
        let request = self.request(Method::GET, &local.route);
        let request = self.with_permit(request, local.uploader.permit(&local.hash));
        self.json(request.timeout(PIECE_LIMIT)).await
    }

    /// Sends the file from `offset`, piece by piece, updating `offset` to what the node has.
    async fn send_pieces(
        &self,
        local: &mut LocalFile<'_>,
        offset: &mut u64,
        progress: Progress<'_>,
    ) -> Result<(), SdkError> {
        loop {
            let piece = local.piece(*offset)?;
            let (last, size_bytes) = (*offset + piece.len() as u64 - 1, local.size_bytes);
            let request = self
                .request(Method::PUT, &local.route)
                .header("content-type", "application/octet-stream")
                .header("content-range", format!("bytes {offset}-{last}/{size_bytes}"))
                .body(piece)
                .timeout(PIECE_LIMIT);
            let request = self.with_permit(request, local.uploader.permit(&local.hash));
            let state: Upload = self.json(request).await?;
            let before = std::mem::replace(offset, state.received.0);
            progress(*offset, size_bytes);
            if state.complete {
                return Ok(());
            }
            // A node that has no more than before would be sent the same piece forever.
            if *offset <= before {
                return Err(SdkError::Interrupted { url: self.url().to_owned() });
            }
        }
    }

    /// Downloads `remote` to the file `to`, which appears only if its hash is right. The received
    /// bytes are kept in `to` with `.part` after its name, and a later call continues from there.
    /// A link stays, and the file that it names is replaced; a device or a pipe is refused.
    /// If another process downloads it, this one waits, and takes what the other one has brought.
    ///
    /// # Errors
    /// [`SdkError::WrongHash`] or [`SdkError::WrongSize`] if the node serves something else
    /// (nothing is kept then);
    /// [`SdkError::Network`] after several attempts; [`SdkError::Api`]; [`SdkError::Io`].
    pub async fn download(
        &self,
        remote: &Remote,
        to: &Path,
        progress: Progress<'_>,
    ) -> Result<(), SdkError> {
        let to = &regular(to).map_err(SdkError::io(to))?;
        let part_path = part_of(to);
        let Some(file) = self.lock_part(remote, &part_path, to).await? else {
            return Ok(());
        };
        // Hashing gigabytes left by an earlier attempt takes seconds.
        let (path, size_bytes) = (part_path.clone(), remote.size_bytes);
        let opening = tokio::task::spawn_blocking(move || PartialFile::new(file, path, size_bytes));
        let mut part = opening.await.map_err(|error| SdkError::io(&part_path)(error.into()))??;
        // After resuming, the wrong bytes may be the ones that were already here: start from
        // scratch.
        let resumed = part.received > 0;
        let mut outcome = self.receive(remote, &mut part, progress).await;
        if resumed && matches!(outcome, Err(SdkError::WrongHash { .. })) {
            part.restart()?;
            outcome = self.receive(remote, &mut part, progress).await;
        }
        match outcome {
            Ok(()) => {
                part.file.sync_all().map_err(SdkError::io(&part_path))?;
                soma_os::file::rename(&part_path, to).map_err(SdkError::io(to))
            }
            Err(error @ (SdkError::WrongHash { .. } | SdkError::WrongSize { .. })) => {
                std::fs::remove_file(&part_path).map_err(SdkError::io(&part_path))?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Downloads like [`Self::download`] from whoever may be slow on purpose; `None` if less than
    /// 64 KiB a second come, or less than `window_bytes` in ten seconds. What came is kept.
    pub async fn download_at_pace(
        &self,
        remote: &Remote,
        to: &Path,
        window_bytes: u64,
        progress: Progress<'_>,
    ) -> Option<Result<(), SdkError>> {
        let received = AtomicU64::new(0);
        let mut note = |bytes, total| {
            received.store(bytes, Ordering::Relaxed);
            progress(bytes, total);
        };
        let hashed_bytes = std::fs::metadata(part_of(to)).map_or(0, |part| part.len());
        let mut window = WINDOW + Duration::from_secs(hashed_bytes / HASHED_BYTES_PER_SECOND);
        let mut download = std::pin::pin!(self.download(remote, to, &mut note));
        let mut before = 0;
        loop {
            if let Ok(outcome) = tokio::time::timeout(window, &mut download).await {
                return Some(outcome);
            }
            window = WINDOW;
            let now = received.load(Ordering::Relaxed);
            // What others sent before was wrong: it began again.
            if now < before {
                before = 0;
            }
            if now < before + window_bytes.max(WINDOW_BYTES) {
                return None;
            }
            before = now;
        }
    }

    /// Opens and locks the partial file; the lock ends with the file. `None` if another process has
    /// completed the download meanwhile.
    async fn lock_part(
        &self,
        remote: &Remote,
        part: &Path,
        to: &Path,
    ) -> Result<Option<File>, SdkError> {
        loop {
            // Its name must be known to a later process, so others can guess it.
            let file = soma_os::file::open_own(part).map_err(SdkError::io(part))?;
            if file.try_lock().is_ok() {
                if is_named(&file, part) {
                    return Ok(Some(file));
                }
                continue;
            }
            let what = || format!("waiting for another process to download {}", to.display());
            let locked = self.listener().during(what, turn::lock(&file, Duration::MAX)).await;
            locked.map_err(SdkError::io(part))?;
            if hash_of_file(to).is_ok_and(|found| found == remote.hash) {
                return Ok(None);
            }
        }
    }

    /// Fetches what is missing from `part`, and checks the hash.
    async fn receive(
        &self,
        remote: &Remote,
        part: &mut PartialFile,
        progress: Progress<'_>,
    ) -> Result<(), SdkError> {
        let mut retries = Retries::new(self.retries());
        while part.received < remote.size_bytes {
            let result = self.receive_some(remote, part, progress).await;
            if part.received < remote.size_bytes {
                let interrupted = || SdkError::Interrupted { url: self.url().to_owned() };
                retries.progress(part.received);
                let error = result.err().unwrap_or_else(interrupted);
                retries.pause_or_fail(error).await?;
            }
        }
        progress(part.received, remote.size_bytes);
        let found = digest(&part.hasher);
        if found != remote.hash {
            let what = format!("{}{}", self.url(), remote.path);
            return Err(SdkError::WrongHash { what, expected: remote.hash, found });
        }
        Ok(())
    }

    /// Appends what a single request for the bytes from `part.received` on returns.
    async fn receive_some(
        &self,
        remote: &Remote,
        part: &mut PartialFile,
        progress: Progress<'_>,
    ) -> Result<(), SdkError> {
        let mut request = self.request(Method::GET, &remote.path);
        if let Some(peer) = self.peer_key() {
            request = self.with_permit(request, peer.permit(&remote.hash, until_ms()));
        }
        if part.received > 0 {
            request = request.header("range", format!("bytes={}-", part.received));
        }
        let mut response = match self.respond(request).await {
            Err(SdkError::Api { status: 416, .. }) => {
                let what = format!("{}{}", self.url(), remote.path);
                let (expected, found) = (remote.size_bytes, part.received);
                return Err(SdkError::WrongSize { what, expected, found });
            }
            response => response?,
        };
        if part.received > 0 && !continues(&response, part.received) {
            part.restart()?;
            if response.status() != StatusCode::OK {
                return Ok(());
            }
        }
        while let Some(piece) = response.chunk().await.map_err(|error| self.network(error))? {
            let found = part.received + piece.len() as u64;
            if found > remote.size_bytes {
                let what = format!("{}{}", self.url(), remote.path);
                return Err(SdkError::WrongSize { what, expected: remote.size_bytes, found });
            }
            part.append(&piece)?;
            progress(part.received, remote.size_bytes);
        }
        Ok(())
    }
}

/// Whether an open file still has this name: another process may have renamed it since.
fn is_named(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let (open, named) = (file.metadata().map(id), std::fs::metadata(path).map(id));
        matches!((open, named), (Ok(open), Ok(named)) if open == named)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

fn hash_of_file(path: &Path) -> std::io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(digest(&hasher))
}

/// Whether the response is the rest of the file from `offset` on.
fn continues(response: &Response, offset: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|value| value.to_str().ok());
    response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {offset}-")))
}

/// The file that a download of this name becomes: the one that a link names. A device or a pipe
/// cannot be resumed, and is never replaced.
fn regular(to: &Path) -> io::Result<PathBuf> {
    match destination(to)? {
        Destination::File(path) => Ok(path),
        Destination::Stream(_) => {
            let reason = "it is a device or a pipe, and a download needs a regular file";
            Err(io::Error::new(io::ErrorKind::NotSeekable, reason))
        }
    }
}

/// Where a download to this file keeps what it has received.
pub(crate) fn part_of(to: &Path) -> PathBuf {
    file::beside(to, "part")
}

/// A file that is being downloaded, with the hash of what was received.
struct PartialFile {
    file: File,
    path: PathBuf,
    hasher: blake3::Hasher,
    received: u64,
}

impl PartialFile {
    /// Continues with what is in the file at `path`.
    fn new(file: File, path: PathBuf, size_bytes: u64) -> Result<Self, SdkError> {
        let mut part = Self { file, path, hasher: blake3::Hasher::new(), received: 0 };
        part.hash_existing()?;
        if part.received > size_bytes {
            part.restart()?;
        }
        Ok(part)
    }

    /// Hashes what was received earlier.
    fn hash_existing(&mut self) -> Result<(), SdkError> {
        let mut piece = vec![0; READ_BYTES];
        loop {
            let length = self.file.read(&mut piece).map_err(SdkError::io(&self.path))?;
            if length == 0 {
                return Ok(());
            }
            self.hasher.update(&piece[..length]);
            self.received += length as u64;
        }
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), SdkError> {
        self.file.write_all(piece).map_err(SdkError::io(&self.path))?;
        self.hasher.update(piece);
        self.received += piece.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), SdkError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(SdkError::io(&self.path))?;
        self.hasher.reset();
        self.received = 0;
        Ok(())
    }
}
