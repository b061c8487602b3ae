//! Where a score is computed: on this CPU, or on an NVIDIA card that gives the same bits.
//!
//! The driver's library is looked for only when a card is asked for, so a machine without one pays
//! nothing. Nothing here may influence a result: a card that fails or differs is not used.

mod card;
mod driver;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

pub(crate) use card::{Card, Kept, Need, Number};
#[cfg(test)]
pub(crate) use driver::Type;
pub(crate) use driver::{Argument, Kernel, Memory};

use serde::{Deserialize, Serialize};

use crate::error::{DeviceFault, Error};

/// The device that the caller asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// A card for models that are large enough, if there is one that gives the bits of the
    /// reference; else this CPU.
    Auto,
    /// This CPU.
    #[default]
    Cpu,
    /// This card of the machine, counted from 0, or an error.
    Cuda(u32),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let unknown = || Error::UnknownDevice { name: name.to_owned() };
        match name.split_once(':') {
            None if name == "auto" => Ok(Self::Auto),
            None if name == "cpu" => Ok(Self::Cpu),
            None if name == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) => index.parse().map(Self::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        name.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(device: DeviceChoice) -> Self {
        device.to_string()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// A card that engines share; a pass has it to itself.
pub(crate) type SharedCard = Arc<Mutex<Card>>;

/// Models with fewer parameters stay on the CPU unless a card is asked for by name: opening a card
/// takes time that they do not repay. An estimate.
const AUTO_PARAMETERS: u64 = 1 << 26;
/// After a failure, at most this many scores are computed without trying the card again.
const PATIENCE_MAX: u64 = 1 << 10;

/// The cards that are open, and why others are not.
#[derive(Debug, Default)]
pub(crate) struct Cards {
    /// The driver's library, if it is not the system's.
    library: Option<PathBuf>,
    slots: Mutex<Vec<Slot>>,
}

/// A card of this machine that was asked for.
#[derive(Debug)]
struct Slot {
    index: u32,
    /// How often it failed.
    failures: u32,
    /// How often it is not to be tried.
    patience: u64,
    card: Result<SharedCard, DeviceFault>,
}

impl Slot {
    /// After each failure it is left alone twice as long, counted in requests.
    fn fail(&mut self, fault: DeviceFault) {
        self.patience = (1 << self.failures.min(63)).min(PATIENCE_MAX);
        self.failures = self.failures.saturating_add(1);
        self.card = Err(fault);
    }
}

/// Why there is no card.
#[derive(Debug)]
pub(crate) struct Unusable {
    pub(crate) fault: DeviceFault,
    /// Whether this was found now, not remembered.
    pub(crate) is_new: bool,
}

impl Cards {
    /// Those of this machine, which all engines of the process share.
    pub(crate) fn of_system() -> Arc<Self> {
        static CARDS: LazyLock<Arc<Cards>> = LazyLock::new(Arc::default);
        Arc::clone(&CARDS)
    }

    /// Those of another driver.
    #[cfg(test)]
    pub(crate) fn of(library: PathBuf) -> Arc<Self> {
        Arc::new(Self { library: Some(library), slots: Mutex::default() })
    }

    /// One card that is open.
    #[cfg(test)]
    pub(crate) fn with(card: Card) -> Arc<Self> {
        let card = Ok(Arc::new(Mutex::new(card)));
        let slots = Mutex::new(vec![Slot { index: 0, failures: 0, patience: 0, card }]);
        Arc::new(Self { library: None, slots })
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a card, unless it is open; `test` compares it with the reference before anybody uses
    /// it. One that failed is tried again after some requests, if that can help.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn open(
        &self,
        index: u32,
        test: impl FnOnce(&mut Card) -> Result<(), DeviceFault>,
    ) -> Result<SharedCard, Unusable> {
        let mut slots = self.slots();
        let found = slots.iter().position(|slot| slot.index == index);
        let at = found.unwrap_or_else(|| {
            let card = Err(DeviceFault::NoDriver);
            slots.push(Slot { index, failures: 0, patience: 0, card });
            slots.len() - 1
        });
        let slot = &mut slots[at];
        if let Ok(card) = &slot.card {
            return Ok(Arc::clone(card));
        }
        if let (true, Err(fault)) = (slot.failures > 0, &slot.card)
            && (slot.patience > 0 || fault.is_permanent())
        {
            slot.patience = slot.patience.saturating_sub(1);
            return Err(Unusable { fault: fault.clone(), is_new: false });
        }
        let opened = Card::open(self.library.as_deref(), index).and_then(|mut card| {
            test(&mut card)?;
            Ok(Arc::new(Mutex::new(card)))
        });
        match opened {
            Ok(card) => {
                slot.card = Ok(Arc::clone(&card));
                Ok(card)
            }
            Err(fault) => {
                slot.fail(fault.clone());
                Err(Unusable { fault, is_new: true })
            }
        }
    }

    /// Closes a card that failed while it computed. It is tried again as one that could not be
    /// opened.
    pub(crate) fn close(&self, card: &SharedCard, fault: &DeviceFault) {
        let mut slots = self.slots();
        let is_this = |slot: &&mut Slot| slot.card.as_ref().is_ok_and(|it| Arc::ptr_eq(it, card));
        if let Some(slot) = slots.iter_mut().find(is_this) {
            slot.fail(fault.clone());
        }
    }
}

/// Told when a card cannot be used.
#[derive(Clone)]
pub(crate) struct Warn(pub(crate) Arc<dyn Fn(&Error) + Send + Sync>);

impl fmt::Debug for Warn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Warn")
    }
}

/// The device of an engine.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) choice: DeviceChoice,
    /// The least parameters of a model that [`DeviceChoice::Auto`] takes a card for.
    pub(crate) auto_parameters: u64,
    pub(crate) cards: Arc<Cards>,
    pub(crate) warn: Option<Warn>,
    /// What was told last, until a card computes again.
    pub(crate) told: Mutex<Option<DeviceFault>>,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            choice: DeviceChoice::Cpu,
            auto_parameters: AUTO_PARAMETERS,
            cards: Arc::default(),
            warn: None,
            told: Mutex::default(),
        }
    }
}

impl Device {
    /// The number of the card for a model of so many parameters, if one is to be used.
    pub(crate) fn index_for(&self, parameters: u64) -> Option<u32> {
        match self.choice {
            DeviceChoice::Cpu => None,
            DeviceChoice::Auto => (parameters >= self.auto_parameters).then_some(0),
            DeviceChoice::Cuda(index) => Some(index),
        }
    }

    /// Tells of a fault, unless it is what was told last.
    pub(crate) fn tell(&self, fault: DeviceFault) {
        let is_known = self.told().replace(fault.clone()).is_some_and(|told| told == fault);
        if let (false, Some(Warn(warn))) = (is_known, &self.warn) {
            warn(&Error::Device(fault));
        }
    }

    /// A card computes: whatever happens next is news.
    pub(crate) fn forget_told(&self) {
        *self.told() = None;
    }

    fn told(&self) -> MutexGuard<'_, Option<DeviceFault>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceChoice;

    #[test]
    fn a_device_is_named_by_its_kind_and_number() {
        for (name, device) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap(), device);
            assert_eq!(device.to_string(), name);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
        for name in ["", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "CUDA"] {
            assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
        }
    }
}
