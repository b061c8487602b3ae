//! The models that audits have open. Their memory is bounded in bytes: whoever needs a model waits
//! until there is room for it. A file is never opened twice at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use soma_model::Weights;
use soma_protocol::Hash;

use crate::error::NodeError;

/// How often a waiting audit looks whether it may still wait.
const POLL: Duration = Duration::from_millis(200);

/// A verified weights file; `None` if the published file is none, for everybody.
pub(super) type Opened = Option<Arc<Weights>>;

/// A revealed file and the architecture that it is opened as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ModelFile {
    /// [`Revealed::id`](crate::weights::Revealed::id).
    pub(super) id: Hash,
    /// BLAKE3 of the architecture's JSON.
    pub(super) architecture: Hash,
    /// The most memory that it can need.
    pub(super) bytes: u64,
}

/// The open models of all audits.
pub(super) struct OpenModels {
    bytes_max: u64,
    table: Mutex<Table>,
    /// Notified when there may be room, or a model is open.
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    open: BTreeMap<ModelFile, (Opened, u64)>,
    opening: BTreeSet<ModelFile>,
    /// Counts uses, so that the least recently used model is closed first.
    uses: u64,
}

impl Table {
    fn bytes(&self) -> u64 {
        let open = self.open.iter().filter(|(_, (weights, _))| weights.is_some());
        open.map(|(file, _)| file.bytes).chain(self.opening.iter().map(|file| file.bytes)).sum()
    }

    /// Closes models that nobody uses until `bytes` more fit; false if they do not. A model that is
    /// larger than the bound is opened alone.
    fn make_room(&mut self, bytes: u64, bytes_max: u64) -> bool {
        loop {
            let used = self.bytes();
            if used == 0 || used.saturating_add(bytes) <= bytes_max {
                return true;
            }
            let unused = self.open.iter().filter(|(_, (weights, _))| {
                weights.as_ref().is_some_and(|weights| Arc::strong_count(weights) == 1)
            });
            let oldest = unused.min_by_key(|(_, (_, used))| *used).map(|(file, _)| *file);
            let Some(oldest) = oldest else {
                return false;
            };
            self.open.remove(&oldest);
        }
    }

    fn get(&mut self, file: &ModelFile) -> Option<Opened> {
        self.uses += 1;
        let (weights, used) = self.open.get_mut(file)?;
        *used = self.uses;
        Some(weights.clone())
    }
}

impl OpenModels {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, table: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether this model can be used at once.
    pub(super) fn is_open(&self, file: &ModelFile) -> bool {
        self.table.lock().open.contains_key(file)
    }

    /// The model, opened by `open` unless it is open. It counts as used as long as the result
    /// lives. `None` when `proceed` no longer agrees to wait for room.
    ///
    /// # Errors
    /// Those of `open`, after which the model is not open.
    pub(super) fn get(
        &self,
        file: ModelFile,
        proceed: impl Fn() -> bool,
        open: impl FnOnce() -> Result<Option<Weights>, NodeError>,
    ) -> Result<Option<Opened>, NodeError> {
        {
            let mut table = self.table.lock();
            loop {
                if let Some(opened) = table.get(&file) {
                    return Ok(Some(opened));
                }
                let is_opening = table.opening.contains(&file);
                if !is_opening && table.make_room(file.bytes, self.bytes_max) {
                    break;
                }
                if !proceed() {
                    return Ok(None);
                }
                // Nobody says when a model is no longer used, so this also looks by itself.
                self.changed.wait_for(&mut table, POLL);
            }
            table.opening.insert(file);
        }
        let opened = open();
        let mut table = self.table.lock();
        table.opening.remove(&file);
        let opened = opened.map(|weights| weights.map(Arc::new));
        if let Ok(weights) = &opened {
            Self::insert(&mut table, file, weights.clone());
        }
        drop(table);
        self.changed.notify_all();
        opened.map(Some)
    }

    fn insert(table: &mut MutexGuard<'_, Table>, file: ModelFile, weights: Opened) {
        table.uses += 1;
        let uses = table.uses;
        table.open.insert(file, (weights, uses));
    }

    /// Closes all models that nobody uses.
    pub(super) fn close(&self) {
        self.table.lock().open.retain(|_, (weights, _)| {
            weights.as_ref().is_some_and(|weights| Arc::strong_count(weights) > 1)
        });
    }
}

#[cfg(test)]
mod tests {
    use soma_architecture::Architecture;
    use soma_model::Weights;
    use soma_protocol::Hash;

    use super::{ModelFile, OpenModels};
    use crate::error::NodeError;

    fn file(number: u8, bytes: u64) -> ModelFile {
        let architecture = Hash::default();
        ModelFile { id: Hash([number; 32]), architecture, bytes }
    }

    fn weights() -> Result<Option<Weights>, NodeError> {
        let tiny = Architecture { layers: 1, ..Architecture::nano() };
        Ok(Some(Weights::init(&tiny, [0; 32])?))
    }

    fn never() -> Result<Option<Weights>, NodeError> {
        panic!("it is open");
    }

    #[test]
    fn the_memory_of_open_models_is_bounded_by_bytes_and_the_oldest_is_closed() {
        let models = OpenModels::new(100);
        for number in 0..4 {
            let opened = models.get(file(number, 40), || true, weights).unwrap();
            assert!(opened.flatten().is_some());
            assert!(models.table.lock().bytes() <= 100);
        }
        assert!(!models.is_open(&file(1, 40)) && models.is_open(&file(3, 40)));
        models.get(file(3, 40), || true, never).unwrap();
        models.get(file(9, 1_000), || true, weights).unwrap();
        assert_eq!(models.table.lock().open.len(), 1, "one that is too large is alone");
    }

    #[test]
    fn who_needs_room_waits_for_models_in_use_as_long_as_it_may() {
        let models = OpenModels::new(100);
        let used = models.get(file(1, 80), || true, weights).unwrap();
        assert!(models.get(file(2, 80), || false, never).unwrap().is_none());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| models.get(file(2, 80), || true, weights).unwrap());
            drop(used);
            assert!(waits.join().unwrap().is_some());
        });
    }

    #[test]
    fn a_file_is_opened_once_for_all_who_wait_and_a_malformed_one_is_remembered() {
        let models = OpenModels::new(100);
        let opened = std::sync::atomic::AtomicU32::new(0);
        let count = || {
            opened.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(50));
            weights()
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| models.get(file(1, 10), || true, count).unwrap());
            }
        });
        assert_eq!(opened.into_inner(), 1);
        assert!(models.get(file(2, 10), || true, || Ok(None)).unwrap().flatten().is_none());
        assert!(models.get(file(2, 10), || true, never).unwrap().is_some());
        models.close();
        assert!(!models.is_open(&file(2, 10)));
    }
}
