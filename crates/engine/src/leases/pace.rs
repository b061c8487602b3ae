//! How often leases are renewed, and how long they last: the only times that this promise rests on.

use std::time::Duration;

/// The times of leases, all of them multiples of one: a second, but in simulations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    renewal: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { renewal: Duration::from_secs(1) }
    }
}

impl Pace {
    /// Leases that are renewed this often.
    pub const fn renewing_every(renewal: Duration) -> Self {
        Self { renewal }
    }

    /// The pause between two claims, while enough are granted.
    pub(crate) const fn renewal(self) -> Duration {
        self.renewal
    }

    /// The same, while they are not.
    pub(crate) fn attempt(self) -> Duration {
        self.renewal / 2
    }

    /// How long a lease binds whoever granted it.
    pub(crate) fn granted(self) -> Duration {
        self.renewal * 5
    }

    /// How long its holder counts on it. Two clocks may differ by a quarter of what they measure.
    pub(crate) fn counted_on(self) -> Duration {
        self.renewal * 4
    }

    /// How long a process counts as connected to this node after it spoke.
    pub(crate) fn speaks(self) -> Duration {
        self.renewal * 5
    }

    /// How long another process with this node's key counts as alive after it was heard.
    pub(crate) fn alive(self) -> Duration {
        self.renewal * 15
    }

    /// How far the clocks of two machines may differ that are connected, and as much again: a
    /// process that speaks this long after the start of another one lives beside it.
    pub(crate) fn clocks_differ_ms(self) -> u64 {
        u64::try_from(self.renewal.as_millis()).unwrap_or(u64::MAX).saturating_mul(10)
    }
}
