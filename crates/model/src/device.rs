//! Where a score is computed: on this CPU, or on an NVIDIA card that gives the same bits.
//!
//! The driver's library is looked for only when a card is asked for, so a machine without one pays
//! nothing. Nothing here may influence a result: a card that fails or differs is not used.

mod card;
mod driver;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock};

pub(crate) use card::{Card, Number, bytes_of};
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

/// The cards that this process has opened, or why it could not, by their number.
static OPENED: Mutex<Vec<(u32, Result<SharedCard, DeviceFault>)>> = Mutex::new(Vec::new());

/// Opens a card of this machine, once per process.
///
/// `test` compares it with the reference before anybody uses it.
///
/// # Errors
/// Why it cannot be used.
pub(crate) fn open(
    index: u32,
    test: impl FnOnce(&mut Card) -> Result<(), DeviceFault>,
) -> Result<SharedCard, DeviceFault> {
    let mut opened = OPENED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, card)) = opened.iter().find(|(other, _)| *other == index) {
        return card.clone();
    }
    let card = Card::open(None, index).and_then(|mut card| {
        test(&mut card)?;
        Ok(Arc::new(Mutex::new(card)))
    });
    opened.push((index, card.clone()));
    card
}

/// Told when a card cannot be used any more.
#[derive(Clone)]
pub(crate) struct Warn(pub(crate) Arc<dyn Fn(&Error) + Send + Sync>);

impl fmt::Debug for Warn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Warn")
    }
}

/// The device of an engine.
#[derive(Debug, Default)]
pub(crate) struct Device {
    pub(crate) choice: DeviceChoice,
    pub(crate) warn: Option<Warn>,
    /// The card, once it is known whether there is one.
    pub(crate) card: OnceLock<Option<SharedCard>>,
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
