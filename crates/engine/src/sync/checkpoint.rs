//! What a node remembers of its state sync across restarts: that it started one, and where the last
//! one ended. Until a sync is complete, the node must not continue from what is on disk.

use commonware_cryptography::certificate::Verifier as _;
use commonware_storage::{
    Context as StorageContext,
    metadata::{Config, Metadata},
};
use commonware_utils::{fixed_bytes, sequence::FixedBytes};

use crate::{EngineError, block::Certificate, scheme::Scheme};

/// The block that a node continues from after a sync: its height and certificate.
pub(crate) type Floor = (u64, Certificate);

const KEY: FixedBytes<1> = fixed_bytes!("00");

/// The checkpoint on disk: `None` from the start of a sync until it is complete.
pub(crate) struct SyncCheckpoint<E: StorageContext>(Metadata<E, FixedBytes<1>, Option<Floor>>);

impl<E: StorageContext> SyncCheckpoint<E> {
    pub(crate) async fn open(context: &E, prefix: &str) -> Result<Self, EngineError> {
        let config = Config {
            partition: format!("{prefix}-join"),
            codec_config: ((), Scheme::certificate_codec_config_unbounded()),
        };
        let metadata = Metadata::init(context.child("sync_checkpoint"), config).await;
        metadata.map(Self).map_err(EngineError::stopped)
    }

    /// Whether a sync was started and is not complete.
    pub(crate) fn is_started(&self) -> bool {
        self.0.get(&KEY).is_some_and(Option::is_none)
    }

    /// Where the last sync ended.
    pub(crate) fn floor(&self) -> Option<Floor> {
        self.0.get(&KEY).cloned().flatten()
    }

    /// Records that a sync has started (`None`) or ended; durable when this returns.
    pub(crate) async fn write(self, floor: Option<Floor>) -> Result<Self, EngineError> {
        let written = self.0.put_sync(KEY, floor).await;
        written.map(Self).map_err(EngineError::stopped)
    }
}
