//! Finds what is damaged among the files of the consensus library, by name. It reads them as a
//! start does, so whatever would stop a start is found here, and changes only what a start repairs.

use std::{
    fs,
    num::NonZeroU64,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
};

use commonware_codec::CodecShared;
use commonware_consensus::simplex::types::Notarization;
use commonware_cryptography::{Crc32, blake3::Digest, certificate::Verifier as _};
use commonware_runtime::{Blob as _, ReadOptions, Spawner, buffer::paged::CacheRef};
use commonware_storage::{
    Context as StorageContext,
    archive::{Archive as _, Identifier, prunable},
    translator::{EightCap, Translator, TwoCap},
};

use futures_util::FutureExt as _;
use soma_protocol::hex;
use soma_store::database::{self, Qmdb};

use crate::{
    EngineError, Remedy,
    archives::{BUFFER, page_cache},
    block::{Block, Certificate},
    consensus::{components::ITEMS_PER_SECTION, stance::read_votes},
    limits::SECTION_BLOCKS,
    scheme::Scheme,
    settings::PREFIX,
    sync::handover::Handover,
};

/// The names of the two copies of a small store of the library.
const COPIES: [&[u8]; 2] = [b"left", b"right"];
/// Version and checksum of a copy.
const COPY_BYTES_MIN: u64 = 12;

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What is read when the files are opened: seconds.
    Opened,
    /// Everything: minutes on a long chain.
    Whole,
}

/// The first thing that is damaged in the folder, which no process uses.
pub(crate) async fn first_damage<E: Spawner + StorageContext>(
    context: &E,
    folder: &Path,
    depth: Depth,
) -> Option<EngineError> {
    let inspection = Inspection { context, page_cache: page_cache(), depth };
    let partitions = partitions(folder);
    for name in &partitions {
        if let Err(reason) = caught(inspection.partition(name)).await {
            return Some(damaged(folder, name, reason));
        }
    }
    for name in &partitions {
        let Some(archive) = name.strip_suffix("-metadata") else {
            continue;
        };
        if let Err(reason) = caught(inspection.archive(archive)).await {
            return Some(damaged(folder, &format!("{archive}-*"), reason));
        }
    }
    let state = inspection.state();
    caught(state).await.err().map(|reason| damaged(folder, &format!("{PREFIX}-state-*"), reason))
}

fn damaged(folder: &Path, name: &str, reason: String) -> EngineError {
    let remedy = if is_votes(name) { Remedy::Votes } else { Remedy::Join };
    EngineError::Damaged { path: folder.join(name), reason, remedy }
}

fn is_votes(partition: &str) -> bool {
    partition.strip_prefix(PREFIX).is_some_and(|name| name.starts_with("-votes-"))
}

/// The folders of the library, in order.
fn partitions(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<_> =
        folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The result of a step; the library panics where it does not expect damage.
async fn caught<T>(step: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let done = AssertUnwindSafe(step).catch_unwind().await;
    done.unwrap_or_else(|_| Err(String::from("it cannot be decoded")))
}

struct Inspection<'a, E> {
    context: &'a E,
    page_cache: CacheRef,
    depth: Depth,
}

impl<E: Spawner + StorageContext> Inspection<'_, E> {
    /// Opens all files of a folder, and reads it if it is a small store or a journal of votes.
    async fn partition(&self, name: &str) -> Result<(), String> {
        let blobs = self.context.scan(name).await.map_err(text)?;
        for blob in &blobs {
            let opened = self.context.open(name, blob).await;
            opened.map_err(|error| format!("file {}: {error}", hex::encode(blob)))?;
        }
        if !blobs.is_empty() && blobs.iter().all(|blob| COPIES.contains(&blob.as_slice())) {
            return self.copies(name, &blobs).await;
        }
        if is_votes(name) {
            let context = self.context.child("votes");
            let read = read_votes(&context, name.to_owned(), &self.page_cache, |_| {});
            return read.await.map_err(text);
        }
        Ok(())
    }

    /// Reads the copies of a small store; one of them may be incomplete.
    async fn copies(&self, name: &str, blobs: &[Vec<u8>]) -> Result<(), String> {
        let mut invalid = 0;
        for blob in blobs {
            let (file, length) = self.context.open(name, blob).await.map_err(text)?;
            if length == 0 {
                continue;
            }
            let bytes = usize::try_from(length).map_err(text)?;
            let content = file.read_at(0, bytes, ReadOptions::default()).await.map_err(text)?;
            let content = content.coalesce();
            let is_valid = length >= COPY_BYTES_MIN
                && content.as_ref().split_last_chunk::<4>().is_some_and(|(content, sum)| {
                    Crc32::checksum(content) == u32::from_be_bytes(*sum)
                });
            invalid += usize::from(!is_valid);
        }
        match invalid {
            2 => Err(String::from("the checksums of both copies are wrong")),
            _ => Ok(()),
        }
    }

    /// Opens an archive by its name without the kind of its parts; nothing happens if there is no
    /// archive of that name.
    async fn archive(&self, name: &str) -> Result<(), String> {
        let Some(kind) = name.strip_prefix(PREFIX) else {
            return Ok(());
        };
        let certificates = Scheme::certificate_codec_config_unbounded();
        let (own, cache) = (SECTION_BLOCKS, ITEMS_PER_SECTION);
        match kind.rsplit('-').next() {
            Some("certificates") => {
                self.items::<_, Certificate>(EightCap, name, "s", own, certificates).await
            }
            Some("blocks") => self.items::<_, Arc<Block>>(EightCap, name, "s", own, ()).await,
            Some("handovers") => self.items::<_, Handover>(EightCap, name, "s", own, ()).await,
            Some("verified" | "notarized" | "certified") => {
                self.items::<_, Arc<Block>>(TwoCap, name, "", cache, ()).await
            }
            Some("finalizations") => {
                self.items::<_, Certificate>(TwoCap, name, "", cache, certificates).await
            }
            Some("notarizations") => {
                let codec = certificates;
                self.items::<_, Notarization<Scheme, Digest>>(TwoCap, name, "", cache, codec).await
            }
            _ => Ok(()),
        }
    }

    async fn items<T: Translator, V: CodecShared>(
        &self,
        translator: T,
        name: &str,
        plural: &str,
        items_per_section: NonZeroU64,
        codec_config: V::Cfg,
    ) -> Result<(), String> {
        let config = prunable::Config {
            translator,
            metadata_partition: format!("{name}-metadata"),
            key_partition: format!("{name}-key{plural}"),
            key_page_cache: self.page_cache.clone(),
            value_partition: format!("{name}-value{plural}"),
            compression: None,
            codec_config,
            items_per_section,
            key_write_buffer: BUFFER,
            value_write_buffer: BUFFER,
            replay_buffer: BUFFER,
        };
        let archive =
            prunable::Archive::<T, E, Digest, V>::init(self.context.child("archive"), config);
        let archive = archive.await.map_err(text)?;
        if self.depth == Depth::Opened {
            return Ok(());
        }
        let ranges: Vec<_> = archive.ranges().collect();
        for index in ranges.into_iter().flat_map(|(first, last)| first..=last) {
            let item = archive.get(Identifier::Index(index)).await;
            item.map_err(|error| format!("item {index}: {error}"))?;
        }
        Ok(())
    }

    /// Opens the state.
    async fn state(&self) -> Result<(), String> {
        let config = database::config(PREFIX, self.page_cache.clone());
        let database: Qmdb<E> =
            Qmdb::init(self.context.child("state"), config, None).await.map_err(text)?;
        if self.depth == Depth::Whole {
            database::load(&database).await.map_err(text)?;
        }
        Ok(())
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Adds the folder to an error that names only a part of it.
pub(crate) fn located(error: EngineError, folder: &Path) -> EngineError {
    match error {
        EngineError::Damaged { path, reason, remedy } if path.is_relative() => {
            let path: PathBuf = folder.join(path);
            EngineError::Damaged { path, reason, remedy }
        }
        error => error,
    }
}
