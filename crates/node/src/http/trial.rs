//! Trials: what the active models of a local network make of data, for who is curious.
//!
//! One runs at a time, in bounded time and on bounded data. It must never be offered to others than
//! whoever is at the machine: it scores what anybody sends, for nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use soma_architecture::embedding::document_distance;
use soma_model::counting::counting_q32;
use soma_model::{ByteReport, Directions, Engine, KernelChoice, Score, score_bytes};
use soma_protocol::record::{EpochRecord, Model, ModelStatus, WeightsAge};
use soma_protocol::{
    Architecture, Epoch, ModelId, StateRead, TargetId, query, read, winner as winner_of,
};
use soma_sdk::api::text::Text;
use soma_sdk::api::{MapPoint, Near, Trial, Tried};

use super::map::Vectors;
use super::problem::Problem;
use crate::chain::Chain;
use crate::duties::audit::open_weights;
use crate::error::NodeError;
use crate::shutdown::Shutdown;
use crate::weights::{Revealed, WeightsStore};

/// The most models that try data.
const MODELS_MAX: usize = 64;
/// The most targets that are compared, and that are told.
const TARGETS_MAX: usize = 500;
const TOLD_MAX: usize = 12;
/// How long a trial may take; a model that has not had its turn by then does not try.
const LIMIT: Duration = Duration::from_secs(20);

/// The engine of trials, made when the first one runs. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Trials(Arc<Mutex<Option<Engine>>>);

impl Trials {
    /// What the active models make of data. It takes seconds: it must run where that delays nobody.
    pub(super) fn run(
        &self,
        chain: &Chain,
        files: &WeightsStore,
        shutdown: &Shutdown,
        data: &[u8],
    ) -> Result<Trial, Problem> {
        let Some(mut kept) = self.0.try_lock() else {
            return Err(Problem::busy("another trial is running"));
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let engine = match &mut *kept {
            Some(engine) => engine,
            none => none.insert(
                Engine::new(KernelChoice::Auto, threads)
                    .map_err(|error| Problem::from(NodeError::from(error)))?,
            ),
        };
        let mut ground = chain.read(|state, _| Ground::read(state));
        let positions = ground.architecture.positions as usize;
        let Some(counting_q32) = counting_q32(data, positions) else {
            return Err(Problem::bad_request("the data is too short to predict any of it"));
        };
        let begun = Instant::now();
        let proceed = || begun.elapsed() < LIMIT && !shutdown.has_begun();
        let (outcomes, untried) = ground.score(engine, files, data, &proceed);
        Ok(Trial {
            epoch: ground.epoch.0,
            size_bytes: u32::try_from(data.len()).unwrap_or(u32::MAX),
            counting_q32: Text(counting_q32),
            gain_min_q32: Text(ground.gain_min_q32),
            targets: ground.near(chain, &outcomes),
            models: tried(outcomes, ground.margin_q32, &Vectors::read(chain, ground.epoch)),
            untried,
        })
    }
}

/// What data is tried against, from one state.
struct Ground {
    architecture: Architecture,
    /// The last epoch whose targets are drawn, or the running one.
    epoch: Epoch,
    drawn: Option<EpochRecord>,
    margin_q32: u64,
    gain_min_q32: u64,
    models: Vec<Contender>,
}

/// An active model.
struct Contender {
    id: ModelId,
    revealed: Revealed,
    age: WeightsAge,
    /// The mean from which its documents are seen.
    specialization: Vec<i16>,
}

/// What a model made of the data.
struct Outcome {
    model: Contender,
    score: Score,
    byte_losses: Vec<Option<u32>>,
}

impl Ground {
    fn read(state: &dyn StateRead) -> Self {
        let (network, params) = (read::network(state), read::params(state));
        let now = read::clock(state).epoch;
        let before = Epoch(now.0.saturating_sub(1));
        let drawn = read::epoch(state, now).or_else(|| read::epoch(state, before));
        let active = read::living_models(state).filter(|model| model.status == ModelStatus::Active);
        let contender = |model: Model| {
            let weights = read::weights(state, model.id, &model.weights?)?;
            let revealed = Revealed { weights_hash: weights.weights_hash, file: weights.file() };
            let specialization = read::specialization(state, model.id)?;
            Some(Contender { id: model.id, revealed, age: weights.age, specialization })
        };
        let of_epoch = |now: u64, then: fn(&EpochRecord) -> u64| drawn.as_ref().map_or(now, then);
        Self {
            architecture: network.architecture,
            epoch: drawn.as_ref().map_or(now, |drawn| drawn.epoch),
            margin_q32: of_epoch(params.loss_margin_q32, |drawn| drawn.loss_margin_q32),
            gain_min_q32: of_epoch(params.gain_min_q32, |drawn| drawn.gain_min_q32),
            models: active.filter_map(contender).take(MODELS_MAX).collect(),
            drawn,
        }
    }

    /// What each model makes of the data, and the models that could not try it.
    fn score(
        &mut self,
        engine: &Engine,
        files: &WeightsStore,
        data: &[u8],
        proceed: &dyn Fn() -> bool,
    ) -> (Vec<Outcome>, Vec<u32>) {
        // The part of the loss that depends on the seed is not shown.
        let directions = Directions::new(&self.architecture, [0; 32]);
        let (mut outcomes, mut untried) = (Vec::new(), Vec::new());
        for model in std::mem::take(&mut self.models) {
            let scored = proceed()
                .then(|| open_weights(files, &model.revealed, &self.architecture).ok().flatten())
                .flatten()
                .and_then(|weights| {
                    score_bytes(engine, &weights, data, &directions, proceed).ok().flatten()
                });
            match scored {
                Some(ByteReport { report, byte_losses }) => {
                    outcomes.push(Outcome { model, score: report.score, byte_losses });
                }
                None => untried.push(model.id.0),
            }
        }
        (outcomes, untried)
    }

    /// The targets of the epoch that the data lies closest to, closest first.
    fn near(&self, chain: &Chain, outcomes: &[Outcome]) -> Vec<Near> {
        let ids = self.drawn.iter().flat_map(EpochRecord::target_ids).take(TARGETS_MAX);
        // One question for each, so that no block waits for all of them.
        let near = ids.filter_map(|id| chain.read(|state, _| self.near_to(state, id, outcomes)));
        let mut near: Vec<Near> = near.collect();
        near.sort_unstable_by_key(|near| (*near.distance, near.target));
        near.truncate(TOLD_MAX);
        near
    }

    /// How near the data is to a target, seen from the routed model that predicts it best; `None`
    /// if none of them has tried it with the weights of the target.
    fn near_to(&self, state: &dyn StateRead, id: TargetId, outcomes: &[Outcome]) -> Option<Near> {
        let target = read::target(state, id)?;
        let tried = target.routed.iter().map(|routed| {
            outcomes.iter().find(|Outcome { model, .. }| {
                (model.id, model.revealed.weights_hash) == (routed.model, routed.weights_hash)
            })
        });
        let tried: Vec<Option<&Outcome>> = tried.collect();
        let losses: Vec<_> =
            tried.iter().map(|outcome| Some(outcome.as_ref()?.score.cross_entropy_q32())).collect();
        let ages: Vec<_> = target.routed.iter().map(|routed| routed.age).collect();
        let best = (*tried.get(winner_of(&losses, &ages, self.margin_q32)?)?)?;
        let mean = read::drawn_specialization(state, target.epoch, best.model.id)?;
        let direction = query::direction(state, &target)?;
        let distance = document_distance(&best.score.embedding, &mean, &direction)?;
        let closest = read::candidates(state, id).first().map(|first| Text(first.distance));
        Some(Near { target: id.0, model: best.model.id.0, distance: Text(distance), closest })
    }
}

/// The outcomes, the winner's first.
fn tried(mut outcomes: Vec<Outcome>, margin_q32: u64, vectors: &Vectors) -> Vec<Tried> {
    outcomes.sort_by_key(|outcome| (outcome.score.cross_entropy_q32(), outcome.model.id));
    let losses: Vec<_> =
        outcomes.iter().map(|outcome| Some(outcome.score.cross_entropy_q32())).collect();
    let ages: Vec<_> = outcomes.iter().map(|outcome| outcome.model.age).collect();
    if let Some(winner) = winner_of(&losses, &ages, margin_q32) {
        let winner = outcomes.remove(winner);
        outcomes.insert(0, winner);
    }
    let plane = vectors.plane();
    let tried = outcomes.into_iter().map(|Outcome { model, score, byte_losses }| {
        let parts = score.embedding.iter().zip(&model.specialization);
        let seen: Vec<i64> =
            parts.map(|(part, mean)| i64::from(*part) - i64::from(*mean)).collect();
        let place = plane.as_ref().and_then(|plane| plane.place_among(seen, &vectors.targets));
        Tried {
            model: model.id.0,
            cross_entropy_q32: Text(score.cross_entropy_q32()),
            gain_q32: Text(score.gain_q32),
            byte_losses,
            place: place.map(|[x, y]| MapPoint { id: model.id.0, x, y }),
        }
    });
    tried.collect()
}
