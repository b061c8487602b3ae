//! What a history may be run without, for the checker to find: a defense of the rules, or one of
//! the pools, or correct arithmetic.

use std::{fmt, str::FromStr};

use soma_protocol::{Defense, Ruleset};

use crate::genesis::TASK_WORK;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Every node adds one unit too many to one account, in one block out of twenty.
    Counterfeit,
    /// The rules of all nodes lack a defense.
    Without(Defense),
    /// Pools take payments in the order of their arrival, whatever they bid.
    NoBids,
    /// Pools have no room of their own for duties.
    NoDutyRoom,
}

impl Plant {
    /// All of them but [`Plant::Counterfeit`], by the name of what is missing.
    pub fn all() -> impl Iterator<Item = Self> {
        let defenses = Defense::ALL.iter().map(|defense| Self::Without(*defense));
        defenses.chain([Self::NoBids, Self::NoDutyRoom])
    }

    /// The rules of all nodes.
    pub const fn ruleset(plant: Option<Self>) -> Ruleset {
        let whole = Ruleset::WHOLE.with_task_work(TASK_WORK);
        match plant {
            Some(Self::Without(defense)) => whole.without(defense),
            _ => whole,
        }
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counterfeit => f.write_str("counterfeit"),
            Self::Without(defense) => defense.fmt(f),
            Self::NoBids => f.write_str("bids"),
            Self::NoDutyRoom => f.write_str("duty_room"),
        }
    }
}

impl FromStr for Plant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::all().find(|plant| plant.to_string() == name);
        found.ok_or_else(|| {
            let names: Vec<String> = Self::all().map(|plant| plant.to_string()).collect();
            format!("no defense has this name; there are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Plant;

    #[test]
    fn the_name_of_what_is_missing_finds_the_plant() {
        for plant in Plant::all() {
            assert_eq!(plant.to_string().parse(), Ok(plant));
        }
        assert!("nothing".parse::<Plant>().is_err_and(|error| error.contains("quarters")));
    }
}
