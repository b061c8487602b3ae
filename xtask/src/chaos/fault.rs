//! What fails, where, and for how long: drawn from a seed, never depending on what nodes do. Only
//! the moment of a fault does: it waits until the network must survive it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::rng::Rng;
use crate::hosts::host::Slow;

/// What happens to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its cable is pulled.
    Cut,
    /// Its link delays and loses, in both directions.
    Slow(Slow),
    /// Its process is killed, and started later.
    Kill,
    /// Its process is stopped, and continues later.
    Pause,
    /// Its disk is full.
    FullDisk,
    /// Its clock is wrong.
    Clock { offset_ms: i64 },
    /// Its process is killed, and its folder replaced by an older copy; without the record of its
    /// last vote, which is kept, or with it.
    Restore { keeps_votes: bool },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("cut off"),
            Self::Slow(_) => f.write_str("slow link"),
            Self::Kill => f.write_str("killed"),
            Self::Pause => f.write_str("paused"),
            Self::FullDisk => f.write_str("full disk"),
            Self::Clock { offset_ms } => write!(f, "clock {offset_ms:+} ms"),
            Self::Restore { keeps_votes: true } => f.write_str("old chain, own votes"),
            Self::Restore { keeps_votes: false } => f.write_str("old copy"),
        }
    }
}

/// The kinds of faults, by their names as arguments.
pub(crate) const KINDS: [&str; 7] = ["cut", "slow", "kill", "pause", "disk", "clock", "restore"];

/// A fault of one host, some time after the fault before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Time since the fault before began.
    pub(crate) after: Duration,
    /// Number of the host.
    pub(crate) host: usize,
    pub(crate) fault: Fault,
    pub(crate) lasts: Duration,
}

/// Draws one fault after the other.
#[derive(Debug)]
pub(crate) struct Faults {
    rng: Rng,
    hosts: usize,
    /// Some of [`KINDS`].
    kinds: Vec<&'static str>,
}

impl Faults {
    /// Faults of these kinds, of which there must be one.
    pub(crate) const fn new(seed: u64, hosts: usize, kinds: Vec<&'static str>) -> Self {
        Self { rng: Rng::new(seed), hosts, kinds }
    }

    pub(crate) fn draw(&mut self) -> Planned {
        let rng = &mut self.rng;
        let after = Duration::from_millis(rng.range(1_000..10_000));
        let host = usize::try_from(rng.range(0..self.hosts as u64)).unwrap_or(0);
        let kind = rng.range(0..self.kinds.len() as u64);
        let (fault, seconds) = match self.kinds[usize::try_from(kind).unwrap_or(0)] {
            "cut" => (Fault::Cut, 3..25),
            "slow" => {
                let delay_ms = rng.range(50..500);
                let (loss_percent, rate_kbit) = (rng.range(1..20), rng.range(128..1_024));
                (Fault::Slow(Slow { delay_ms, loss_percent, rate_kbit }), 8..30)
            }
            "pause" => (Fault::Pause, 2..20),
            "disk" => (Fault::FullDisk, 5..15),
            "clock" => (Fault::Clock { offset_ms: offset_ms(rng) }, 5..25),
            "restore" => (Fault::Restore { keeps_votes: rng.coin() }, 1..6),
            _ => (Fault::Kill, 1..20),
        };
        let lasts = Duration::from_secs(rng.range(seconds));
        Planned { after, host, fault, lasts }
    }
}

/// Between half a second and a day, ahead or behind, as likely small as large.
fn offset_ms(rng: &mut Rng) -> i64 {
    let magnitudes = [500, 5_000, 60_000, 3_600_000, 86_400_000];
    let magnitude = magnitudes[usize::try_from(rng.range(0..5)).unwrap_or(0)];
    let magnitude = i64::try_from(rng.range(magnitude / 2..magnitude + 1)).unwrap_or(0);
    if rng.coin() { magnitude } else { -magnitude }
}

/// Which hosts are not in step now, and how many validators more may be hit: the network must
/// survive a third of its validators less one seat in between.
#[derive(Debug)]
pub(crate) struct Budget {
    validators: usize,
    hit: BTreeMap<usize, Standing>,
}

/// Since when a host cannot be hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// A fault holds, or the node is not in step yet.
    Out,
    /// The node is in step again, and has not yet shown that it meets its duties: one that missed
    /// several epochs in a row because of faults would be jailed, rightly.
    Catching,
}

impl Budget {
    /// Of a network whose first `validators` hosts are validators.
    pub(crate) const fn new(validators: usize) -> Self {
        Self { validators, hit: BTreeMap::new() }
    }

    /// Validators that may be out at once.
    pub(crate) const fn most(&self) -> usize {
        self.validators.saturating_sub(1) / 3
    }

    /// Whether the network must survive that this host is hit now. If so, it counts as out.
    pub(crate) fn hit(&mut self, host: usize) -> bool {
        let is_out = |(host, standing): (&usize, &Standing)| {
            *host < self.validators && *standing == Standing::Out
        };
        let out = self.hit.iter().filter(|entry| is_out(*entry)).count();
        let allowed =
            !self.hit.contains_key(&host) && (host >= self.validators || out < self.most());
        if allowed {
            self.hit.insert(host, Standing::Out);
        }
        allowed
    }

    /// The host is in step again. A validator has to meet its duties before it is hit again.
    pub(crate) fn in_step(&mut self, host: usize) {
        if host < self.validators {
            self.hit.insert(host, Standing::Catching);
        } else {
            self.hit.remove(&host);
        }
    }

    /// The validator meets its duties again.
    pub(crate) fn dutiful(&mut self, host: usize) {
        self.hit.remove(&host);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Budget, Fault, Faults, KINDS, Planned};

    #[test]
    fn a_seed_draws_the_same_faults_and_another_seed_others() {
        let drawn = |seed| -> Vec<Planned> {
            let mut faults = Faults::new(seed, 6, KINDS.to_vec());
            (0..50).map(|_| faults.draw()).collect()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn every_kind_of_fault_hits_every_host() {
        let mut faults = Faults::new(1, 6, KINDS.to_vec());
        let kind = |fault: Fault| std::mem::discriminant(&fault);
        let mut seen = Vec::new();
        for _ in 0..2_000 {
            let planned = faults.draw();
            let pair = (planned.host, kind(planned.fault));
            if !seen.contains(&pair) {
                seen.push(pair);
            }
        }
        assert_eq!(seen.len(), 6 * 7);
    }

    #[test]
    fn never_more_validators_are_out_than_the_network_must_survive() {
        for (validators, most) in [(1, 0), (3, 0), (4, 1), (6, 1), (7, 2), (10, 3)] {
            let mut faults = Faults::new(9, validators + 2, KINDS.to_vec());
            let mut budget = Budget::new(validators);
            assert_eq!(budget.most(), most);
            let mut out = BTreeSet::new();
            for step in 0..1_000 {
                let host = faults.draw().host;
                if budget.hit(host) {
                    assert!(out.insert(host), "{host} is hit twice");
                }
                let hit = out.iter().filter(|host| **host < validators).count();
                assert!(hit <= most, "{out:?}");
                if step % 3 == 0
                    && let Some(host) = out.pop_first()
                {
                    budget.in_step(host);
                    budget.dutiful(host);
                }
            }
        }
    }

    #[test]
    fn a_validator_that_is_in_step_makes_room_for_others_and_is_hit_again_once_it_is_dutiful() {
        let mut budget = Budget::new(4);
        assert!(budget.hit(0) && !budget.hit(1));
        budget.in_step(0);
        assert!(!budget.hit(0), "its duties come first");
        assert!(budget.hit(1));
        budget.dutiful(0);
        assert!(!budget.hit(0), "another one is out");
        budget.in_step(1);
        assert!(budget.hit(0));
    }
}
