//! Which rules blocks follow: all of them. Only a simulation leaves one out, to see that what it
//! defends against is then found.

use std::fmt;

/// The work that a block may spend on tasks, in units of about a microsecond on one core.
pub const TASK_WORK_MAX: u64 = 100_000;

/// A defense and its name, in the order of the list.
macro_rules! defenses {
    ($($(#[$meta:meta])* $variant:ident = $name:literal,)*) => {
        /// A rule that keeps somebody from harming the network.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Defense {
            $($(#[$meta])* $variant,)*
        }

        impl Defense {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
        }

        /// The name on the command line of a simulation.
        impl fmt::Display for Defense {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $name),* })
            }
        }
    };
}

defenses! {
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
    /// Data that won does not win again, nor data that is made of what won.
    WinsOnce = "wins_once",
    /// What depends on the settlement of an epoch waits for it.
    SettledFirst = "settled_first",
    /// A model that has not revealed what it committed to is not routed.
    BoundCommit = "bound_commit",
    /// Proposals have places: some for seats, one for each of the others.
    ProposalPlaces = "proposal_places",
    /// A claim that keeps others from a target and is not decided costs its bond or a part of it.
    UndecidedCosts = "undecided_costs",
    /// A broken model that was routed loses what it may have denied.
    BrokenCosts = "broken_costs",
    /// New room for files is bounded, and costs more the less is left.
    FileRoom = "file_room",
}

/// The rules that blocks follow. Every network follows the [whole](Self::WHOLE) of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruleset {
    without: Option<Defense>,
    task_work_max: u64,
}

impl Ruleset {
    /// All rules.
    pub const WHOLE: Self = Self { without: None, task_work_max: TASK_WORK_MAX };

    /// These rules without a defense; for simulations.
    #[must_use]
    pub const fn without(self, defense: Defense) -> Self {
        Self { without: Some(defense), ..self }
    }

    /// These rules with another limit for the work of a block; for simulations, whose networks are
    /// small.
    #[must_use]
    pub const fn with_task_work(self, task_work_max: u64) -> Self {
        Self { task_work_max, ..self }
    }

    /// Whether a defense is part of these rules.
    pub(crate) fn defends(&self, defense: Defense) -> bool {
        self.without != Some(defense)
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
    use super::{Defense, Ruleset};

    #[test]
    fn the_whole_ruleset_has_every_defense_and_the_default_is_whole() {
        let whole = Ruleset::default();
        assert_eq!(whole, Ruleset::WHOLE);
        assert!(Defense::ALL.iter().all(|defense| whole.defends(*defense)));
        let without = whole.without(Defense::Quarters);
        assert!(
            Defense::ALL
                .iter()
                .all(|defense| { without.defends(*defense) == (*defense != Defense::Quarters) })
        );
    }
}
