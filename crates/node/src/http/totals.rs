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
pub(super) struct TotalsCache(Arc<Mutex<Option<Totals>>>);

impl TotalsCache {
    /// Counts again when the state has changed and [`TIME_SHARE`] times the cost of the last count
    /// has passed.
    pub(super) fn get(&self, chain: &Chain) -> Totals {
        let mut cached = self.0.lock();
        if let Some(last) = cached.as_ref()
            && (last.height == chain.height() || last.counted_at.elapsed() < last.cost * TIME_SHARE)
        {
            return last.clone();
        }
        cached.insert(count(chain)).clone()
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
