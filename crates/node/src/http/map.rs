//! The map of an epoch: its models and targets in a plane. What it is computed from is fixed when
//! the targets are drawn, so the last maps are kept.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use soma_protocol::{Epoch, ModelId, TargetId, read};
use soma_sdk::api::{EpochMap, MapPoint};

use super::json;
use super::projection::Plane;
use crate::chain::Chain;

/// The most targets of a map, and the most models.
const POINTS_MAX: usize = 500;
/// Maps that are kept: specializations are, for the running epoch and the one before.
const KEPT: usize = 2;

/// The last maps. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Maps(Arc<Mutex<VecDeque<EpochMap>>>);

impl Maps {
    /// The map of an epoch, if it has begun. Whoever asks while it is computed waits for it.
    pub(super) fn get(&self, chain: &Chain, epoch: Epoch) -> Option<EpochMap> {
        let mut kept = self.0.lock();
        if let Some(map) = kept.iter().find(|map| map.epoch == epoch.0) {
            return Some(map.clone());
        }
        let (map, is_whole) = draw(chain, epoch)?;
        if is_whole {
            kept.push_back(map.clone());
            if kept.len() > KEPT {
                kept.pop_front();
            }
        }
        Some(map)
    }
}

/// The map, and whether all targets of the epoch are drawn, so that it stays as it is; `None` if
/// the epoch has not begun.
fn draw(chain: &Chain, epoch: Epoch) -> Option<(EpochMap, bool)> {
    let empty = EpochMap { epoch: epoch.0, targets: Vec::new(), models: Vec::new() };
    let (has_begun, drawn) = chain.read(|state, _| {
        let has_begun = (1..=read::clock(state).epoch.0).contains(&epoch.0);
        let drawn = read::epoch(state, epoch).map(|drawn| {
            let ids: Vec<TargetId> = drawn.target_ids().take(POINTS_MAX).collect();
            let targets: Vec<_> = ids.iter().filter_map(|id| read::target(state, *id)).collect();
            let routed = targets.iter().flat_map(|target| &target.routed);
            let models: BTreeSet<ModelId> = routed.map(|routed| routed.model).collect();
            (ids.len() == targets.len(), ids, models)
        });
        (has_begun, drawn)
    });
    let Some((is_whole, ids, models)) = drawn else {
        return has_begun.then_some((empty, false));
    };
    // One question for each vector, so that no block waits for all of them.
    let specialization = |id| chain.read(|state, _| read::drawn_specialization(state, epoch, id));
    let models = models.into_iter().filter_map(|id| Some((id.0, specialization(id)?)));
    let (model_ids, models): (Vec<_>, Vec<_>) = models.take(POINTS_MAX).unzip();
    if models.is_empty() {
        return Some((empty, false));
    }
    let direction = |id| chain.read(|state, _| json::direction(state, id));
    let targets = ids.into_iter().filter_map(|id| Some((id.0, direction(id)?.components)));
    let (target_ids, targets): (Vec<_>, Vec<_>) = targets.unzip();
    let plane = Plane::of(&models, &targets);
    let map = EpochMap {
        epoch: epoch.0,
        targets: points(target_ids, &plane.places(&targets, false)),
        models: points(model_ids, &plane.places(&models, true)),
    };
    Some((map, is_whole))
}

fn points(ids: Vec<u32>, places: &[[i32; 2]]) -> Vec<MapPoint> {
    ids.into_iter().zip(places).map(|(id, &[x, y])| MapPoint { id, x, y }).collect()
}
