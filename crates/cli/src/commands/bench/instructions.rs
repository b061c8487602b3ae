//! Counts the instructions that this process retires, where the system has a counter.

#[cfg(target_os = "linux")]
use std::cell::RefCell;

#[cfg(target_os = "linux")]
use perf_event::{Builder, Counter, events::Hardware};

/// A counter of this thread and of all threads that it starts later.
#[derive(Debug)]
pub(super) struct Instructions(#[cfg(target_os = "linux")] RefCell<Counter>);

impl Instructions {
    /// Starts counting; `None` without such a counter or the permission to use it.
    #[cfg(target_os = "linux")]
    pub(super) fn count() -> Option<Self> {
        let mut counter = Builder::new(Hardware::INSTRUCTIONS).inherit(true).build().ok()?;
        counter.enable().ok()?;
        Some(Self(RefCell::new(counter)))
    }

    /// There is no counter on this system.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn count() -> Option<Self> {
        None
    }

    /// Instructions so far.
    pub(super) fn total(&self) -> Option<u64> {
        #[cfg(target_os = "linux")]
        return self.0.borrow_mut().read().ok();
        #[cfg(not(target_os = "linux"))]
        None
    }
}
