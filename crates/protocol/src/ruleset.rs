//! Which rules blocks follow: all of the version that is in force. Only a simulation leaves one
//! out, to see that what it defends against is then found.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The versions of the rules that this software executes.
pub const RULES: RulesRange = RulesRange { min: 1, max: 1 };

/// Consecutive versions of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl RulesRange {
    /// Whether a version is one of them.
    pub const fn contains(self, version: u16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// As in `rules 1` and `rules 1 to 2`.
impl fmt::Display for RulesRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rules {}", self.min)?;
        if self.max > self.min { write!(f, " to {}", self.max) } else { Ok(()) }
    }
}

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
    /// What the version after the newest leaves out, in a rehearsal.
    rehearsed: Option<Defense>,
    /// The version that the block follows.
    version: u16,
    task_work_max: u64,
}

impl Ruleset {
    /// All rules.
    pub const WHOLE: Self =
        Self { without: None, rehearsed: None, version: RULES.max, task_work_max: TASK_WORK_MAX };

    /// These rules, and as another version the same without a defense; for tests and simulations,
    /// which rehearse a change of the rules, and see by it which blocks follow the new ones.
    #[must_use]
    pub const fn rehearsing(self, defense: Defense) -> Self {
        Self { rehearsed: Some(defense), ..self }
    }

    /// The versions that can be executed.
    pub const fn versions(&self) -> RulesRange {
        let rehearsed = if self.rehearsed.is_some() { 1 } else { 0 };
        RulesRange { min: RULES.min, max: RULES.max.saturating_add(rehearsed) }
    }

    /// The rules of one version; `None` if it cannot be executed.
    pub(crate) const fn of(self, version: u16) -> Option<Self> {
        if self.versions().contains(version) { Some(Self { version, ..self }) } else { None }
    }

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
        let is_rehearsed = self.version > RULES.max && self.rehearsed == Some(defense);
        self.without != Some(defense) && !is_rehearsed
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
    use super::{Defense, RULES, RulesRange, Ruleset};

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

    #[test]
    fn only_versions_of_the_range_can_be_executed_and_a_rehearsal_has_one_more() {
        let next = RULES.max + 1;
        assert!(Ruleset::WHOLE.of(RULES.min).is_some() && Ruleset::WHOLE.of(RULES.max).is_some());
        assert_eq!((Ruleset::WHOLE.of(RULES.min - 1), Ruleset::WHOLE.of(next)), (None, None));
        let rehearsal = Ruleset::WHOLE.rehearsing(Defense::Quarters);
        assert!(rehearsal.of(RULES.max).unwrap().defends(Defense::Quarters));
        assert!(!rehearsal.of(next).unwrap().defends(Defense::Quarters));
        assert_eq!(rehearsal.of(next + 1), None);
    }

    #[test]
    fn a_range_is_written_as_people_say_it() {
        assert_eq!(RulesRange { min: 1, max: 1 }.to_string(), "rules 1");
        assert_eq!(RulesRange { min: 2, max: 4 }.to_string(), "rules 2 to 4");
    }
}
