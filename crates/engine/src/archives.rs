//! Finalized blocks and their certificates on disk, and the page cache that all files of a node
//! share. Nothing here prunes on its own.

use std::{
    num::{NonZeroU16, NonZeroU64, NonZeroUsize},
    sync::Arc,
};

use commonware_codec::CodecShared;
use commonware_cryptography::{blake3::Digest, certificate::Verifier as _};
use commonware_runtime::buffer::paged::CacheRef;
use commonware_storage::{
    Context as StorageContext,
    archive::{Archive as _, Identifier, prunable},
    translator::EightCap,
};
use commonware_utils::{NZU16, NZUsize};

use crate::{
    EngineError,
    block::{Block, Certificate},
    scheme::Scheme,
};

/// The write and replay buffer of one file, in bytes.
pub(crate) const BUFFER: NonZeroUsize = NZUsize!(1 << 16);
/// The size of a cached page; together with its checksum, it fills one disk page.
const PAGE_BYTES: NonZeroU16 = NZU16!(4_084);
const PAGES: NonZeroUsize = NZUsize!(2_048);

/// The cache that all files of a node share: 8 MiB.
pub(crate) fn page_cache() -> CacheRef {
    CacheRef::new(PAGE_BYTES, PAGES)
}

/// Finalized items by height or term, many of them in one file.
pub(crate) type Archive<E, V> = prunable::Archive<EightCap, E, Digest, V>;

/// Opens an archive in which `section` items share a file.
///
/// # Errors
/// [`EngineError::Stopped`] if the disk fails.
pub(crate) async fn open_archive<E: StorageContext, V: CodecShared>(
    context: &E,
    prefix: &str,
    name: &'static str,
    page_cache: &CacheRef,
    section: NonZeroU64,
    codec_config: V::Cfg,
) -> Result<Archive<E, V>, EngineError> {
    let config = prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{prefix}-{name}-metadata"),
        key_partition: format!("{prefix}-{name}-keys"),
        key_page_cache: page_cache.clone(),
        value_partition: format!("{prefix}-{name}-values"),
        compression: None,
        codec_config,
        items_per_section: section,
        key_write_buffer: BUFFER,
        value_write_buffer: BUFFER,
        replay_buffer: BUFFER,
    };
    prunable::Archive::init(context.child(name), config).await.map_err(EngineError::stopped)
}

/// Finalized blocks and their certificates.
pub(crate) struct Archives<E: StorageContext> {
    pub(crate) certificates: Archive<E, Certificate>,
    pub(crate) blocks: Archive<E, Arc<Block>>,
}

impl<E: StorageContext> Archives<E> {
    /// Opens both archives, in which `section` blocks share a file.
    ///
    /// # Errors
    /// Same as [`open_archive`].
    pub(crate) async fn open(
        context: &E,
        prefix: &str,
        page_cache: &CacheRef,
        section: NonZeroU64,
    ) -> Result<Self, EngineError> {
        let codec = Scheme::certificate_codec_config_unbounded();
        let certificates =
            open_archive(context, prefix, "certificates", page_cache, section, codec).await?;
        let blocks = open_archive(context, prefix, "blocks", page_cache, section, ()).await?;
        Ok(Self { certificates, blocks })
    }

    /// Whether there is no block but that of genesis.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.last_index().is_none_or(|last| last == 0)
    }

    /// The block at a height.
    ///
    /// # Errors
    /// [`EngineError::MissingBlock`], or [`EngineError::Stopped`] if the disk fails.
    pub(crate) async fn block(&self, height: u64) -> Result<Arc<Block>, EngineError> {
        let block = self.blocks.get(Identifier::Index(height)).await;
        block.map_err(EngineError::stopped)?.ok_or(EngineError::MissingBlock { height })
    }
}
