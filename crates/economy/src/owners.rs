//! Owners of models: who trains further, who copies, who stands still. All of them publish when what
//! they have beats what they show by more than the margin, and refresh in time.

use soma_protocol::commitment::{self, CommittedWeights};
use soma_protocol::winner::margin;
use soma_protocol::{Action, Amount, Hash, MemoryState, ModelId, PoolId, action, query, read};

use crate::actors::{Actor, Kind};
use crate::chain::Chain;
use crate::quality::{Document, Quality, direction, embedding};
use crate::rng::{SimRng, stream};
use crate::weights::{FILE_BYTES, File, Library, Weights};

/// What an epoch of training costs at an effort of one, in SOMA.
pub const TRAINING_SOMA: f64 = 4.0;
/// An owner with less than this to spend takes as much from behind a model.
const LOW: Amount = Amount::soma(100);
/// How far 1 % of noise on every weight moves the loss on a document, in nats, as measured on small
/// networks. A tenth of the noise does a tenth of that.
const NOISE_NATS: f64 = 0.002_2;
/// Documents on which copies with noise are tried.
const TRIALS: u32 = 4_000;
/// 2^32, the unit of the margin.
const Q32: f64 = 4_294_967_296.0;

/// Weights on their way to the public.
#[derive(Clone, Debug)]
pub struct Release {
    /// Of which model.
    pub model: ModelId,
    /// Hash of the weights.
    pub weights: Hash,
    /// Key of the encrypted file.
    pub key: [u8; 32],
    /// The specialization that is claimed.
    pub embedding: Vec<i16>,
    /// The encrypted file.
    pub file: File,
}

/// Somebody who has models.
#[derive(Debug)]
pub struct Owner {
    /// Its place in the cast.
    pub actor: usize,
    kind: Kind,
    models: Vec<ModelId>,
    /// Where it wants its models to predict best.
    aim: Vec<f64>,
    /// Effort that it puts into an epoch of training.
    effort: f64,
    /// Its best weights, public or not.
    own: Quality,
    /// What it has decided to show.
    shown: Weights,
    versions: u64,
    due: Vec<Release>,
}

impl Owner {
    /// The owner at genesis.
    pub fn new(actor: usize, someone: &Actor, nth: usize, rng: &mut SimRng) -> Self {
        let own = Quality::first(actor, rng);
        let aim = direction(rng);
        let mut owner = Self {
            actor,
            kind: someone.kind,
            models: someone.models.clone(),
            effort: effort(someone.kind, nth),
            shown: Weights {
                hash: Hash::default(),
                quality: own.clone(),
                claimed: aim.clone(),
            },
            aim,
            own,
            versions: 0,
            due: Vec::new(),
        };
        owner.shown.hash = owner.next_hash();
        owner
    }

    /// What it shows.
    pub const fn shown(&self) -> &Weights {
        &self.shown
    }

    fn next_hash(&mut self) -> Hash {
        self.versions += 1;
        let (actor, version) = (self.actor as u64, self.versions);
        Hash::of_parts(
            "economy weights",
            &[&actor.to_le_bytes(), &version.to_le_bytes()],
        )
    }

    /// What it shows, as one of its models' next release.
    pub fn release(&self, model: ModelId) -> Release {
        let weights = self.shown.hash;
        let embedding = match self.kind {
            Kind::Splitter => embedding(&direction(&mut stream(model.0.into(), "parts"))),
            _ => embedding(&self.shown.claimed),
        };
        Release {
            model,
            weights,
            key: Hash::of_parts("economy key", &[&model.0.to_le_bytes(), &weights.0]).0,
            embedding,
            file: File::new(model, &weights),
        }
    }

    /// An epoch at home. Returns what it cost, in SOMA.
    pub fn work(
        &mut self,
        library: &Library,
        state: &MemoryState,
        margin_q32: u64,
        rng: &mut SimRng,
    ) -> f64 {
        let best = library.best(state);
        match self.kind {
            Kind::Idle => 0.0,
            Kind::Copier | Kind::NoisyCopier => {
                if let Some(best) = best {
                    self.copy(best, margin_q32, rng);
                }
                0.0
            }
            _ => {
                let loss = self.own.general_loss();
                let ahead = best.filter(|best| best.quality.general_loss() < loss);
                let base = ahead.map_or(&self.own, |best| &best.quality);
                self.own = base.trained(self.effort, &self.aim, self.actor, rng);
                if self.gains(&self.own, margin_q32) {
                    self.shown = Weights {
                        hash: self.next_hash(),
                        quality: self.own.clone(),
                        claimed: self.aim.clone(),
                    };
                }
                self.effort * TRAINING_SOMA
            }
        }
    }

    /// A plain copy claims a direction of its own, so that it rarely meets its original, which is older;
    /// one with noise claims its original's, to take its targets from it.
    fn copy(&mut self, best: &Weights, margin_q32: u64, rng: &mut SimRng) {
        if !self.gains(&best.quality, margin_q32) {
            return;
        }
        self.shown = if self.kind == Kind::NoisyCopier {
            Weights {
                hash: self.next_hash(),
                quality: best.quality.noisy(NOISE_NATS, rng),
                claimed: best.claimed.clone(),
            }
        } else {
            Weights {
                claimed: self.aim.clone(),
                ..best.clone()
            }
        };
    }

    /// Whether showing other weights is worth the loss of age.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "losses of some nats, in 2^-32 nat, are far below 2^52"
    )]
    fn gains(&self, other: &Quality, margin_q32: u64) -> bool {
        let shown = &self.shown.quality;
        let (before, after) = match self.kind {
            Kind::Copier | Kind::NoisyCopier => (shown.general_loss(), other.general_loss()),
            _ => (
                shown.expected_loss(&self.aim),
                other.expected_loss(&self.aim),
            ),
        };
        before - after > margin((after * Q32) as i64, margin_q32) as f64 / Q32
    }

    /// Commits for the next epoch what has changed or must be refreshed.
    pub fn commit(&mut self, chain: &mut Chain, actor: &Actor, library: &mut Library) {
        let chain_view = query::chain(&chain.state);
        let (epoch, refresh) = (chain_view.clock.epoch, chain_view.params.refresh_epochs);
        self.due.clear();
        self.raise_cash(chain, actor);
        for &model in &self.models {
            let Some(record) = read::model(&chain.state, model) else {
                continue;
            };
            let fresh = epoch.0 + 2 < record.revealed.0 + refresh;
            if record.weights == Some(self.shown.hash) && fresh {
                continue;
            }
            let release = self.release(model);
            library.add(self.shown.clone());
            let ciphertext_hash = release.file.hash();
            let opening = CommittedWeights {
                model,
                owner: &actor.address,
                epoch: epoch.next(),
                weights_hash: &release.weights,
                key: &release.key,
                embedding: &release.embedding,
            };
            let action = Action::CommitWeights(action::CommitWeights {
                model,
                architecture: 1,
                epoch: epoch.next(),
                commitment: commitment::weights(chain.id(), &opening),
                ciphertext_hash,
                size_bytes: FILE_BYTES,
            });
            chain.act(&actor.key, action);
            self.due.push(release);
        }
    }

    /// Takes a little from behind its first model when rent has used up what it can spend.
    fn raise_cash(&self, chain: &mut Chain, actor: &Actor) {
        if chain.balance(&actor.address) < LOW
            && let Some(model) = self.models.first()
        {
            let (pool, amount) = (PoolId::Model(*model), LOW);
            chain.act(
                &actor.key,
                Action::WithdrawStake(action::WithdrawStake { pool, amount }),
            );
        }
    }

    /// Reveals what was committed.
    pub fn reveal(&mut self, chain: &mut Chain, actor: &Actor) {
        for release in self.due.drain(..) {
            let action = Action::RevealWeights(action::RevealWeights {
                model: release.model,
                key: release.key,
                weights_hash: release.weights,
                embedding: release.embedding,
            });
            chain.act(&actor.key, action);
        }
    }
}

/// Trainers differ: from half an effort to one and a half.
fn effort(kind: Kind, nth: usize) -> f64 {
    match kind {
        Kind::Trainer => 0.5 + f64::from(u32::try_from(nth % 20).unwrap_or(0)) / 19.0,
        _ => 1.0,
    }
}

/// On what share of documents a copy beats its original that has `percent` of noise on every weight.
pub fn noise_wins(percent: f64, margin_q32: u64, rng: &mut SimRng) -> f64 {
    let original = Quality::first(0, rng);
    let wins = (0..TRIALS).filter(|_| {
        let copy = original.noisy(percent * NOISE_NATS, rng);
        let document = Document::found(None, rng);
        let gain = original.loss_q32(&document) - copy.loss_q32(&document);
        gain > 0 && gain.unsigned_abs() > margin_q32
    });
    f64::from(u32::try_from(wins.count()).unwrap_or(0)) / f64::from(TRIALS)
}
