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

use std::sync::{Arc, MutexGuard, PoisonError};

use crate::device::{Card, Cards, Device, DeviceChoice, SharedCard, Warn};
use crate::error::{DeviceFault, Error};
use crate::kernels::Engine;
use crate::pass::{Outcome, Rows, Subject};
use crate::weights::Weights;
use stages::Stages;

/// Maximum positions of a pass on a card; a longer chunk has a pass to itself. Weights are read
/// once per pass, and few rows do not fill a card.
pub(crate) const CARD_POSITIONS: usize = 8192;

/// A card that gives the bits of the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardInfo {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Memory of it that is free, in bytes.
    pub free_bytes: usize,
}

impl CardInfo {
    /// Opens a card of this machine and compares it with the reference, unless this process has
    /// done so.
    ///
    /// # Errors
    /// [`Error::Device`], with the reason why it cannot be used.
    pub fn find(index: u32) -> Result<Self, Error> {
        let card = open(&Cards::of_system(), index)?;
        let card = locked(&card);
        Ok(Self { index, name: card.name().to_owned(), free_bytes: card.free_bytes()? })
    }

    /// Compares a product with the engine's CPU, with every shape of tile and everything that may
    /// become of its chains: its extents, its hostile values and what its weights are (float32 or
    /// half precision) follow from the seed. Returns what was compared, for display.
    ///
    /// # Errors
    /// [`Error::Device`] if it differs, or if the card fails.
    pub fn compare_product(&self, engine: &Engine, seed: &[u8]) -> Result<String, Error> {
        let product = self_test::Product::random(seed);
        let card = open(&Cards::of_system(), self.index)?;
        if product.is_equal(&locked(&card), engine, seed)? {
            return Ok(product.to_string());
        }
        let what = "a product";
        Err(Error::Device(DeviceFault::Unequal { name: self.name.clone(), what }))
    }
}

/// Opens a card and compares it with the reference, unless it is open.
fn open(cards: &Cards, index: u32) -> Result<SharedCard, DeviceFault> {
    cards.open(index, self_test::run).map_err(|unusable| unusable.fault)
}

impl Engine {
    /// The same engine, with a device that computes the passes of scores; training and sampling
    /// stay on the CPU. `warn` is told when a card cannot be used, and why.
    ///
    /// A card that is asked for by number is opened now, and for [`DeviceChoice::Auto`] when the
    /// first large model is scored. One that fails later is tried again after some scores.
    ///
    /// # Errors
    /// [`Error::Device`] if that card cannot be used.
    pub fn on(
        self,
        choice: DeviceChoice,
        warn: impl Fn(&Error) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let (cards, warn) = (Cards::of_system(), Some(Warn(Arc::new(warn))));
        self.on_device(Device { choice, cards, warn, ..Device::default() })
    }

    fn on_device(self, device: Device) -> Result<Self, Error> {
        if let DeviceChoice::Cuda(index) = device.choice {
            open(&device.cards, index)?;
        }
        Ok(self.with_device(device))
    }
}

impl Device {
    /// The card for a model, if one is to be used.
    fn card_for(&self, weights: &Weights) -> Option<SharedCard> {
        let index = self.index_for(weights.parameters())?;
        match self.cards.open(index, self_test::run) {
            Ok(card) => Some(card),
            Err(unusable) => {
                let is_expected = self.choice == DeviceChoice::Auto && unusable.fault.is_absence();
                if unusable.is_new && !is_expected {
                    self.tell(unusable.fault);
                }
                None
            }
        }
    }
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
            Ok(outcomes) => {
                self.device.forget_told();
                Some(outcomes)
            }
            Err(fault) => {
                // Too little memory may be enough for other models.
                if fault != DeviceFault::OutOfMemory {
                    card.give_up();
                    self.device.cards.close(&self.card, &fault);
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

/// Runs a pass, or smaller ones if there is too little memory for it. What is kept for other models
/// is freed only if that helps.
fn run_in_parts(
    card: &mut Card,
    subject: Subject<'_>,
    chunks: &[Vec<u16>],
    mut rows: Option<&mut Rows>,
) -> Result<Vec<Option<Outcome>>, DeviceFault> {
    match run_at_once(card, subject, chunks, rows.as_deref_mut()) {
        Err(DeviceFault::OutOfMemory) if chunks.len() > 1 => {}
        result => return result,
    }
    let longest = chunks.iter().max_by_key(|tokens| tokens.len());
    let longest = Stages::new(subject, longest.map_or(&[], std::slice::from_ref));
    if !card.has_memory_for(&longest.need())? {
        return Err(DeviceFault::OutOfMemory);
    }
    let (first, second) = chunks.split_at(chunks.len() / 2);
    let mut outcomes = run_in_parts(card, subject, first, rows.as_deref_mut())?;
    outcomes.extend(run_in_parts(card, subject, second, rows)?);
    Ok(outcomes)
}

/// Runs a pass if there is memory for it.
fn run_at_once(
    card: &mut Card,
    subject: Subject<'_>,
    chunks: &[Vec<u16>],
    rows: Option<&mut Rows>,
) -> Result<Vec<Option<Outcome>>, DeviceFault> {
    let stages = Stages::new(subject, chunks);
    let need = stages.need();
    if !card.has_memory_for(&need)? {
        return Err(DeviceFault::OutOfMemory);
    }
    let result = stages.run(card, rows);
    if matches!(result, Err(DeviceFault::OutOfMemory)) {
        card.note_shortage(&need)?;
    }
    result
}
