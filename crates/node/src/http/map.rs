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
    let has_begun = chain.read(|state, _| (1..=read::clock(state).epoch.0).contains(&epoch.0));
    if !has_begun {
        return None;
    }
    let vectors = Vectors::read(chain, epoch);
    let Some(plane) = vectors.plane() else {
        let empty = EpochMap { epoch: epoch.0, targets: Vec::new(), models: Vec::new() };
        return Some((empty, false));
    };
    let map = EpochMap {
        epoch: epoch.0,
        targets: points(&vectors.target_ids, &plane.places(&vectors.targets, false)),
        models: points(&vectors.model_ids, &plane.places(&vectors.models, true)),
    };
    Some((map, vectors.is_whole))
}

/// What a map is drawn from: the models routed to an epoch's targets with their specializations,
/// and the targets with their directions. Nothing before the targets are drawn, and once the
/// specializations of then are no longer kept.
#[derive(Default)]
pub(super) struct Vectors {
    model_ids: Vec<u32>,
    models: Vec<Vec<i16>>,
    target_ids: Vec<u32>,
    pub(super) targets: Vec<Vec<i16>>,
    /// Whether all targets of the epoch are drawn.
    is_whole: bool,
}

impl Vectors {
    pub(super) fn read(chain: &Chain, epoch: Epoch) -> Self {
        let drawn = chain.read(|state, _| {
            let drawn = read::epoch(state, epoch)?;
            let ids: Vec<TargetId> = drawn.target_ids().take(POINTS_MAX).collect();
            let targets: Vec<_> = ids.iter().filter_map(|id| read::target(state, *id)).collect();
            let routed = targets.iter().flat_map(|target| &target.routed);
            let models: BTreeSet<ModelId> = routed.map(|routed| routed.model).collect();
            Some((ids.len() == targets.len(), ids, models))
        });
        let Some((is_whole, ids, models)) = drawn else {
            return Self::default();
        };
        // One question for each vector, so that no block waits for all of them.
        let specialization =
            |id| chain.read(|state, _| read::drawn_specialization(state, epoch, id));
        let models = models.into_iter().filter_map(|id| Some((id.0, specialization(id)?)));
        let (model_ids, models) = models.take(POINTS_MAX).unzip();
        let direction = |id| chain.read(|state, _| json::direction(state, id));
        let targets = ids.into_iter().filter_map(|id| Some((id.0, direction(id)?.components)));
        let (target_ids, targets) = targets.unzip();
        Self { model_ids, models, target_ids, targets, is_whole }
    }

    /// The plane of the map; `None` if there is none to draw.
    pub(super) fn plane(&self) -> Option<Plane> {
        (!self.models.is_empty()).then(|| Plane::of(&self.models, &self.targets))
    }
}

fn points(ids: &[u32], places: &[[i32; 2]]) -> Vec<MapPoint> {
    ids.iter().zip(places).map(|(&id, &[x, y])| MapPoint { id, x, y }).collect()
}
