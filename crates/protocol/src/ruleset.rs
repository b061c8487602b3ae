//! Which rules blocks follow: all of them. Only a simulation leaves one out, to see that what it
//! defends against is then found.

use std::{fmt, str::FromStr};

/// The work that a block may spend on tasks, in units of about a microsecond on one core.
pub const TASK_WORK_MAX: u64 = 100_000;

/// A defence and its name, in the order of the list.
macro_rules! defences {
    ($($(#[$meta:meta])* $variant:ident = $name:literal,)*) => {
        /// A rule that keeps somebody from harming the network.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Defence {
            $($(#[$meta])* $variant,)*
        }

        impl Defence {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name on the command line of a simulation.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

defences! {
    /// A payment that is rejected pays for itself all the same.
    AdmissionFee = "admission_fee",
    /// A duty that the rules reject makes its block invalid.
    DutyValidity = "duty_validity",
    /// Payments and duties each leave the other a quarter of a block.
    Quarters = "quarters",
    /// Whoever creates a permanent record pays for its room.
    RoomFee = "room_fee",
    /// A target keeps only the closest candidates, so that its list has a bound.
    ClosestOnly = "closest_only",
    /// A block does no more than its part of the work that is due.
    TaskBudget = "task_budget",
    /// Added stake waits until the wins that were known when it came are settled.
    JoiningWait = "joining_wait",
    /// A staker has no shares, or so many that rounding takes nothing noticeable.
    SharesMin = "shares_min",
    /// A seat needs about as much stake as the others have.
    SeatStake = "seat_stake",
    /// A seat counts no more than leaves the cheapest third a quarter.
    SeatLimit = "seat_limit",
    /// Only seats contribute to the beacon.
    SeatedBeacon = "seated_beacon",
}

impl fmt::Display for Defence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No defence has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no defence has this name")]
pub struct UnknownDefence;

impl FromStr for Defence {
    type Err = UnknownDefence;

    fn from_str(name: &str) -> Result<Self, UnknownDefence> {
        let mut all = Self::ALL.iter().copied();
        all.find(|defence| defence.name() == name).ok_or(UnknownDefence)
    }
}

/// The rules that blocks follow. Every network follows the [whole](Self::WHOLE) of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruleset {
    without: Option<Defence>,
    task_work_max: u64,
}

impl Ruleset {
    /// All rules.
    pub const WHOLE: Self = Self { without: None, task_work_max: TASK_WORK_MAX };

    /// These rules without a defence; for simulations.
    #[must_use]
    pub const fn without(self, defence: Defence) -> Self {
        Self { without: Some(defence), ..self }
    }

    /// These rules with other limits for the work of a block; for simulations, whose networks are
    /// small.
    #[must_use]
    pub const fn with_task_work(self, task_work_max: u64) -> Self {
        Self { task_work_max, ..self }
    }

    /// Whether a defence is part of these rules.
    pub(crate) fn defends(&self, defence: Defence) -> bool {
        self.without != Some(defence)
    }

    /// The work that a block may spend on tasks.
    pub(crate) const fn task_work_max(&self) -> u64 {
        self.task_work_max
    }
}

impl Default for Ruleset {
    fn default() -> Self {
        Self::WHOLE
    }
}

#[cfg(test)]
mod tests {
    use super::{Defence, Ruleset, UnknownDefence};

    #[test]
    fn the_name_of_a_defence_finds_it() {
        for defence in Defence::ALL {
            assert_eq!(defence.name().parse(), Ok(*defence));
        }
        assert_eq!("nothing".parse::<Defence>(), Err(UnknownDefence));
    }

    #[test]
    fn the_whole_ruleset_has_every_defence_and_the_default_is_whole() {
        let whole = Ruleset::default();
        assert_eq!(whole, Ruleset::WHOLE);
        assert!(Defence::ALL.iter().all(|defence| whole.defends(*defence)));
        let without = whole.without(Defence::Quarters);
        assert!(
            Defence::ALL
                .iter()
                .all(|defence| { without.defends(*defence) == (*defence != Defence::Quarters) })
        );
    }
}
