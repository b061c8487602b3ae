//! What honest people have offered to the nodes and wait for. A block of an honest proposer that
//! had an offer in its pool and left it out was a chance: there must not be many.

use std::collections::{BTreeMap, BTreeSet};

use soma_protocol::{Address, BlockInfo, Event, Hash, Outcome, VerifiedTransaction};

use crate::Violation;
use crate::honest::Due;

/// A block counts as a chance if it was made this long after the offer: then the offer had reached
/// the pool of its proposer, whatever the clocks say.
const ARRIVAL_MS: u64 = 500;
/// So many blocks at most leave a transfer out.
const CHANCES_MAX: u32 = 8;
/// A beacon that had so many chances and is not in the chain was kept out.
const BEACON_CHANCES: u32 = 2;

#[derive(Clone, Copy, Debug)]
struct Offer {
    since_ms: u64,
    chances: u32,
    is_payment: bool,
    at_stake: Option<Address>,
}

/// The offers that wait.
#[derive(Debug)]
pub struct Offers {
    /// The accounts of the honest nodes.
    honest: BTreeSet<Address>,
    waiting: BTreeMap<Hash, Offer>,
}

impl Offers {
    /// No offers yet, to a network with these honest validators.
    pub const fn new(honest: BTreeSet<Address>) -> Self {
        Self { honest, waiting: BTreeMap::new() }
    }

    /// Everything that is due now; what was due before and is not anymore is forgotten.
    pub fn replace(&mut self, due: &[Due], now_ms: u64) {
        let before = std::mem::take(&mut self.waiting);
        for Due { tx, at_stake } in due {
            let is_payment = !tx.transaction().action.is_duty();
            let (since_ms, at_stake) = (now_ms, *at_stake);
            let new = Offer { since_ms, chances: 0, is_payment, at_stake };
            let hash = tx.hash();
            self.waiting.insert(hash, before.get(&hash).copied().unwrap_or(new));
        }
    }

    /// Observes a block.
    ///
    /// # Errors
    /// If a transfer had too many chances, or an honest validator is slashed that did its duties.
    pub fn observe(
        &mut self,
        info: &BlockInfo,
        transactions: &[VerifiedTransaction],
        outcome: &Outcome,
    ) -> Result<(), Violation> {
        let height = info.height;
        self.slashes(height, outcome)?;
        for tx in transactions {
            self.waiting.remove(&tx.hash());
        }
        if !self.honest.contains(&info.proposer) {
            return Ok(());
        }
        for offer in self.waiting.values_mut() {
            if info.timestamp_ms >= offer.since_ms + ARRIVAL_MS {
                offer.chances += 1;
            }
            if offer.is_payment && offer.chances > CHANCES_MAX {
                return Err(Violation::Late { height, blocks: offer.chances });
            }
        }
        Ok(())
    }

    /// No honest validator loses stake. One that no proposer could hear before the beacon was drawn
    /// loses some: that is what faults of the network cost, not what attackers can do.
    fn slashes(&self, height: u64, outcome: &Outcome) -> Result<(), Violation> {
        let drawn = |event: &Event| matches!(event, Event::BeaconDrawn { .. });
        let by_beacon = outcome.events.iter().any(drawn);
        for event in &outcome.events {
            let Event::ValidatorSlashed { validator, .. } = event else {
                continue;
            };
            let mut reveals = self.waiting.values();
            let heard = reveals
                .any(|offer| offer.at_stake == Some(*validator) && offer.chances >= BEACON_CHANCES);
            if self.honest.contains(validator) && (heard || !by_beacon) {
                return Err(Violation::Slashed { height, validator: *validator });
            }
        }
        Ok(())
    }
}
