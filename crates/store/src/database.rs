//! The authenticated database: maps 32-byte keys to values; the block header carries the root of
//! its log.
//!
//! It is an append-only log of updates with a Merkle mountain range over it. Every operation below
//! the log's inactivity floor has been superseded, so reading the log from the floor to its end,
//! with later operations taking precedence, yields the whole state: [`load`] fills the in-memory
//! copy this way, so the log is the only source of truth. Each commit carries the height of its
//! block.

use std::{num::NonZeroU64, sync::Arc};

use commonware_codec::RangeCfg;
use commonware_cryptography::blake3::{Blake3, Digest};
use commonware_glue::stateful::db::{DatabaseSet, Shared, Unmerkleized as _};
use commonware_parallel::Sequential;
use commonware_runtime::{Spawner, buffer::paged::CacheRef};
use commonware_storage::{
    Context,
    journal::contiguous::variable::Config as LogConfig,
    merkle::{Location, full::Config as MerkleConfig},
    mmr,
    qmdb::{
        any::{VariableConfig, unordered::variable},
        sync,
    },
    translator::EightCap,
};
use commonware_utils::{NZU64, NZUsize, non_empty_range, sequence::FixedBytes};
use soma_protocol::{Changes, Key, MemoryState};

use crate::StoreError;

/// The longest value that the database reads, and so the longest that it accepts. The rules bound
/// every record to this length.
pub const VALUE_BYTES_MAX: usize = soma_protocol::VALUE_BYTES_MAX;

/// The number of operations in one read of the log.
pub const OPERATIONS_PER_READ: NonZeroU64 = NZU64!(16);

const LOAD_CHUNK: NonZeroU64 = NZU64!(4096);

/// The database itself, on runtime `E`.
pub type Qmdb<E> =
    variable::Db<mmr::Family, E, FixedBytes<32>, Vec<u8>, Blake3, EightCap, Sequential>;
/// One operation in its log.
pub type Operation = variable::Operation<mmr::Family, FixedBytes<32>, Vec<u8>>;
/// The database as the engine shares it between tasks.
pub type Databases<E> = Shared<Qmdb<E>>;
/// Changes on top of a block's state, before their root is computed.
pub type Batch<E> = <Databases<E> as DatabaseSet<E>>::Unmerkleized;
/// Changes with their root.
pub type Merkleized<E> = <Databases<E> as DatabaseSet<E>>::Merkleized;
/// The root of the log and the range of it that holds a state; a header carries both.
pub type LogCommitment = sync::Target<mmr::Family, Digest>;
/// The configuration of the database.
pub type Config = VariableConfig<EightCap, ((), (RangeCfg<usize>, ())), Sequential>;

/// The longest encoded operation: tag, key, length and value.
pub const OPERATION_BYTES_MAX: usize = 1 + 32 + 5 + VALUE_BYTES_MAX;

/// The configuration of the database; `prefix` separates the nodes of a simulation.
pub fn config(prefix: &str, page_cache: CacheRef) -> Config {
    VariableConfig {
        merkle_config: MerkleConfig {
            journal_partition: format!("{prefix}-state-tree-journal"),
            metadata_partition: format!("{prefix}-state-tree-metadata"),
            items_per_blob: NZU64!(1 << 18),
            write_buffer: NZUsize!(1 << 16),
            replay_buffer: NZUsize!(1 << 16),
            strategy: Sequential,
            page_cache: page_cache.clone(),
        },
        journal_config: LogConfig {
            partition: format!("{prefix}-state-log"),
            items_per_section: NZU64!(1 << 16),
            write_buffer: NZUsize!(1 << 16),
            replay_buffer: NZUsize!(1 << 16),
            compression: None,
            codec_config: ((), ((0..=VALUE_BYTES_MAX).into(), ())),
            page_cache,
        },
        translator: EightCap,
        init_cache: Some(NZUsize!(1 << 14)),
        init_buffer: NZUsize!(1 << 20),
        init_concurrency: (),
    }
}

/// The commitment to the empty database, which the genesis header carries.
pub fn empty_commitment<E: Spawner + Context>() -> LogCommitment {
    <Databases<E> as DatabaseSet<E>>::initial_sync_targets()
}

/// Adds a block's changes to its parent's state and computes the root.
///
/// # Errors
/// [`StoreError::Database`] when the disk fails; [`StoreError::TooLong`] for a value that could not
/// be read again, in which case nothing is written.
pub async fn merkleize<E: Spawner + Context>(
    mut batch: Batch<E>,
    height: u64,
    changes: &Changes,
) -> Result<Merkleized<E>, StoreError> {
    for (key, value) in &changes.0 {
        let bytes = value.as_ref().map_or(0, |value| value.len());
        if bytes > VALUE_BYTES_MAX {
            return Err(StoreError::TooLong { bytes, max: VALUE_BYTES_MAX });
        }
        batch = batch.write(FixedBytes::new(key.0), value.as_deref().map(<[u8]>::to_vec));
    }
    Ok(batch.with_metadata(height.to_le_bytes().to_vec()).merkleize().await?)
}

/// The commitment to the log that holds a state.
pub fn commitment<E: Spawner + Context>(merkleized: &Merkleized<E>) -> LogCommitment {
    let bounds = merkleized.bounds();
    LogCommitment::new(
        merkleized.root(),
        non_empty_range!(bounds.inactivity_floor, bounds.tip.size),
    )
}

/// Reads the whole state and the height of its block; `None` before the first commit.
///
/// # Errors
/// [`StoreError::Database`] when the disk fails, [`StoreError::Damaged`] when the last commit
/// carries no height.
pub async fn load<E: Spawner + Context>(
    database: &Qmdb<E>,
) -> Result<Option<(u64, MemoryState)>, StoreError> {
    let Some(metadata) = database.get_metadata().await? else {
        return Ok(None);
    };
    let height = <[u8; 8]>::try_from(metadata.as_slice())
        .map_err(|_| StoreError::Damaged { record: "state height" })?;
    let mut changes = Changes::default();
    let (mut at, end) = (database.sync_boundary(), database.bounds().end);
    while at < end {
        let (_, operations) = database.proof(at, LOAD_CHUNK).await?;
        at = Location::new(*at + operations.len() as u64);
        for operation in operations {
            match operation {
                Operation::Update(update) => {
                    let value = Arc::from(update.1.as_slice());
                    changes.0.insert(key(&update.0)?, Some(value));
                }
                Operation::Delete(deleted) => {
                    changes.0.insert(key(&deleted)?, None);
                }
                Operation::CommitFloor(..) => {}
            }
        }
    }
    let mut memory = MemoryState::default();
    memory.apply(&changes);
    Ok(Some((u64::from_le_bytes(height), memory)))
}

fn key(bytes: &FixedBytes<32>) -> Result<Key, StoreError> {
    <[u8; 32]>::try_from(bytes.as_ref())
        .map(Key)
        .map_err(|_| StoreError::Damaged { record: "state key" })
}
