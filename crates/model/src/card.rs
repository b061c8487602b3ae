//! A pass on a card: the kernels of `crates/model/cuda`, stage by stage, with the bits of [`Pass`].
//!
//! A card is compared with the reference before it is used. If it fails, the CPU computes instead,
//! which changes no result. Nothing here may look at a clock or at the other users of the card.
//!
//! [`Pass`]: crate::pass::Pass

mod attention;
mod layout;
mod linear;
mod self_test;
mod stages;
#[cfg(test)]
mod tests;

use std::sync::{Arc, MutexGuard, OnceLock, PoisonError};

use crate::device::{Card, Device, DeviceChoice, SharedCard, Warn, open};
use crate::error::{DeviceFault, Error};
use crate::kernels::Engine;
use crate::pass::{Outcome, Rows, Subject};
use crate::weights::Weights;

/// Maximum positions of a pass on a card; a longer chunk has a pass to itself. Weights are read
/// once per pass, and few rows do not fill a card.
pub(crate) const CARD_POSITIONS: usize = 8192;
/// Models with fewer parameters stay on the CPU unless a card is asked for by name: opening a card
/// takes time that they do not repay. An estimate.
const AUTO_PARAMETERS: u64 = 1 << 26;

/// A card that gives the bits of the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardInfo {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
}

impl CardInfo {
    /// Opens a card of this machine and compares it with the reference, once per process.
    ///
    /// # Errors
    /// [`Error::Device`], with the reason why it cannot be used.
    pub fn find(index: u32) -> Result<Self, Error> {
        let card = open(index, self_test::run)?;
        let name = locked(&card).name().to_owned();
        Ok(Self { index, name })
    }

    /// Compares a product with the engine's CPU, in every shape of tile: its extents and its
    /// hostile values follow from the seed. Returns what was compared, for display.
    ///
    /// # Errors
    /// [`Error::Device`] if it differs, or if the card fails.
    pub fn compare_product(&self, engine: &Engine, seed: &[u8]) -> Result<String, Error> {
        let random = blake3::hash(seed);
        let extent = |at: usize, most: u16| {
            let bytes = [random.as_bytes()[at], random.as_bytes()[at + 1]];
            usize::from(u16::from_le_bytes(bytes) % most) + 1
        };
        let extents = self_test::Extents {
            rows: 32 * extent(0, 40),
            depth: extent(2, 2500),
            columns: extent(4, 2500),
        };
        let card = open(self.index, self_test::run)?;
        if self_test::product_equal(&locked(&card), engine, extents, seed)? {
            return Ok(format!("{}x{}x{}", extents.rows, extents.columns, extents.depth));
        }
        let what = "a product";
        Err(Error::Device(DeviceFault::Unequal { name: self.name.clone(), what }))
    }
}

impl Engine {
    /// The same engine, with a device that computes the passes of scores; training and sampling
    /// stay on the CPU. `warn` is told when a card cannot be used any more.
    ///
    /// A card that is asked for by number is opened now, and for [`DeviceChoice::Auto`] when the
    /// first large model is scored.
    ///
    /// # Errors
    /// [`Error::Device`] if that card cannot be used.
    pub fn on(
        self,
        choice: DeviceChoice,
        warn: impl Fn(&Error) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let warn = Some(Warn(Arc::new(warn)));
        let device = Device { choice, warn, card: OnceLock::new() };
        if let DeviceChoice::Cuda(index) = choice {
            // Nothing was there before.
            let _ = device.card.set(Some(open(index, self_test::run)?));
        }
        Ok(self.with_device(device))
    }
}

impl Device {
    /// The card for a model, if one is to be used.
    fn card_for(&self, weights: &Weights) -> Option<SharedCard> {
        let is_wanted = match self.choice {
            DeviceChoice::Cpu => false,
            DeviceChoice::Auto => weights.parameters() >= AUTO_PARAMETERS,
            DeviceChoice::Cuda(_) => true,
        };
        if !is_wanted {
            return None;
        }
        let found = self.card.get_or_init(|| match open(0, self_test::run) {
            Ok(card) => Some(card),
            Err(fault) => {
                if is_worth_a_warning(&fault) {
                    self.tell(fault);
                }
                None
            }
        });
        found.clone().filter(|card| !locked(card).has_failed())
    }

    fn tell(&self, fault: DeviceFault) {
        if let Some(Warn(warn)) = &self.warn {
            warn(&Error::Device(fault));
        }
    }
}

/// Whether somebody who asked for any device should know of it: not that there is no card.
fn is_worth_a_warning(fault: &DeviceFault) -> bool {
    matches!(fault, DeviceFault::Unequal { .. } | DeviceFault::Failed { .. })
}

fn locked(card: &SharedCard) -> MutexGuard<'_, Card> {
    card.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The passes of one model on a card.
#[derive(Debug)]
pub(crate) struct CardPass<'a> {
    device: &'a Device,
    card: SharedCard,
}

impl<'a> CardPass<'a> {
    /// `None` if the engine's device is the CPU.
    pub(crate) fn new(engine: &'a Engine, weights: &Weights) -> Option<Self> {
        let device = engine.device();
        Some(Self { card: device.card_for(weights)?, device })
    }

    /// Computes chunks of tokens as [`Pass::run`] does; `None` if the card cannot.
    ///
    /// [`Pass::run`]: crate::pass::Pass::run
    pub(crate) fn run(
        &self,
        subject: Subject<'_>,
        chunks: &[Vec<u16>],
        mut rows: Option<&mut Rows>,
    ) -> Option<Vec<Option<Outcome>>> {
        let mut card = locked(&self.card);
        if card.has_failed() {
            return None;
        }
        let before = rows.as_ref().map(|rows| (**rows).clone());
        match run_in_parts(&mut card, subject, chunks, rows.as_deref_mut()) {
            Ok(outcomes) => Some(outcomes),
            Err(fault) => {
                if fault == DeviceFault::OutOfMemory {
                    // It may be enough for other models.
                    card.free_rooms();
                } else {
                    card.give_up();
                }
                self.device.tell(fault);
                if let (Some(rows), Some(before)) = (rows, before) {
                    *rows = before;
                }
                None
            }
        }
    }
}

/// Runs a pass, or smaller ones if there is too little memory for it.
fn run_in_parts(
    card: &mut Card,
    subject: Subject<'_>,
    chunks: &[Vec<u16>],
    mut rows: Option<&mut Rows>,
) -> Result<Vec<Option<Outcome>>, DeviceFault> {
    match stages::run(card, subject, chunks, rows.as_deref_mut()) {
        Err(DeviceFault::OutOfMemory) => card.free_others(subject.weights.identity()),
        result => return result,
    }
    match stages::run(card, subject, chunks, rows.as_deref_mut()) {
        Err(DeviceFault::OutOfMemory) if chunks.len() > 1 => {
            card.free_rooms();
            let (first, second) = chunks.split_at(chunks.len() / 2);
            let mut outcomes = run_in_parts(card, subject, first, rows.as_deref_mut())?;
            outcomes.extend(run_in_parts(card, subject, second, rows)?);
            Ok(outcomes)
        }
        result => result,
    }
}
