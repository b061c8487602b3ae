//! What is counted over the whole state: supply and active models. No block is finalized during a
//! count, so the result is cached.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use soma_protocol::record::ModelStatus;
use soma_protocol::{Amount, invariants, read};
use soma_sdk::api::Supply;

use super::json;
use crate::chain::Chain;

/// Counting may take one part out of this many of a node's time.
const TIME_SHARE: u32 = 50;

#[derive(Clone)]
pub(super) struct Totals {
    pub(super) supply: Supply,
    pub(super) models_active: u32,
    height: u64,
    counted_at: Instant,
    cost: Duration,
}

#[derive(Clone, Default)]
pub(super) struct TotalsCache(Arc<Cache>);

#[derive(Default)]
struct Cache {
    last: Mutex<Option<Totals>>,
    /// Held by whoever counts: the others get the last count, so that nobody waits for a long one.
    counting: Mutex<()>,
}

impl TotalsCache {
    /// Counts again when the state has changed and [`TIME_SHARE`] times the cost of the last count
    /// has passed.
    pub(super) fn get(&self, chain: &Chain) -> Totals {
        let last = self.0.last.lock().clone();
        let _counting = match &last {
            None => self.0.counting.lock(),
            Some(last) if last.is_good_at(chain.height()) => return last.clone(),
            Some(last) => match self.0.counting.try_lock() {
                Some(counting) => counting,
                None => return last.clone(),
            },
        };
        // Somebody else may have counted meanwhile.
        if let Some(last) = self.0.last.lock().clone()
            && last.is_good_at(chain.height())
        {
            return last;
        }
        let counted = count(chain);
        *self.0.last.lock() = Some(counted.clone());
        counted
    }
}

impl Totals {
    /// Whether there is no reason to count again.
    fn is_good_at(&self, height: u64) -> bool {
        self.height == height || self.counted_at.elapsed() < self.cost * TIME_SHARE
    }
}

fn count(chain: &Chain) -> Totals {
    let begun = Instant::now();
    let (height, supply, models_active) = chain.inspect(|state, height| {
        let held = invariants::check(state).map_or(Amount::ZERO, |holdings| {
            holdings.total().less(holdings.reserve).less(holdings.burned)
        });
        let active =
            read::living_models(state).filter(|model| model.status == ModelStatus::Active).count();
        (height, json::supply(state, held), active)
    });
    Totals {
        supply,
        models_active: u32::try_from(models_active).unwrap_or(u32::MAX),
        height,
        counted_at: Instant::now(),
        cost: begun.elapsed(),
    }
}
