//! Owners of models, who train, copy, or do nothing. Each publishes new weights when they beat its
//! published ones by more than the margin, and refreshes them in time.

use soma_protocol::commitment::{self, CommittedWeights};
use soma_protocol::winner::margin;
use soma_protocol::{Action, Amount, Hash, MemoryState, ModelId, PoolId, action, query, read};

use crate::actors::{Actor, Kind};
use crate::chain::Chain;
use crate::quality::{Document, Quality, direction, specialization};
use crate::rng::{SimRng, stream};
use crate::weights::{FILE_BYTES, File, Library, Weights};

/// Cost of an epoch of training with an effort of one, in SOMA.
pub const TRAINING_SOMA: f64 = 4.0;
/// An owner whose balance is below this withdraws the same amount of stake from a model.
const LOW: Amount = Amount::soma(100);
/// How much 1 % of noise on every weight changes the loss on a document, in nats, as measured on
/// small networks. It is proportional to the noise.
const NOISE_NATS: f64 = 0.002_2;
/// Documents on which noisy copies are compared with their original.
const TRIALS: u32 = 4_000;
/// 2^32, the unit of the margin.
const Q32: f64 = 4_294_967_296.0;

/// Weights that are committed but not yet revealed.
#[derive(Clone, Debug)]
pub struct Release {
    /// The model.
    pub model: ModelId,
    /// Hash of the weights.
    pub weights: Hash,
    /// Key of the encrypted file.
    pub key: [u8; 32],
    /// The claimed specialization.
    pub specialization: Vec<i16>,
    /// The encrypted file.
    pub file: File,
}

/// An owner and its weights.
#[derive(Debug)]
pub struct Owner {
    /// Its index among all actors.
    pub index: usize,
    kind: Kind,
    models: Vec<ModelId>,
    /// The specialization that it wants.
    aim: Vec<f64>,
    /// Effort put into an epoch of training.
    effort: f64,
    /// Its latest weights, published or not.
    latest: Quality,
    /// The weights that it publishes.
    published: Weights,
    versions: u64,
    committed: Vec<Release>,
}

impl Owner {
    /// The owner at genesis.
    pub fn new(index: usize, actor: &Actor, rng: &mut SimRng) -> Self {
        let latest = Quality::first(index, rng);
        let aim = direction(rng);
        let mut owner = Self {
            index,
            kind: actor.kind,
            models: actor.models.clone(),
            effort: effort(actor.kind, index),
            published: Weights {
                hash: Hash::default(),
                quality: latest.clone(),
                claimed: aim.clone(),
            },
            aim,
            latest,
            versions: 0,
            committed: Vec::new(),
        };
        owner.published.hash = owner.next_hash();
        owner
    }

    /// The weights that it publishes.
    pub const fn published(&self) -> &Weights {
        &self.published
    }

    fn next_hash(&mut self) -> Hash {
        self.versions += 1;
        let (index, version) = (self.index as u64, self.versions);
        Hash::of_parts("economy weights", &[&index.to_le_bytes(), &version.to_le_bytes()])
    }

    /// The next release of one of its models.
    pub fn release(&self, model: ModelId) -> Release {
        let weights = self.published.hash;
        let specialization = match self.kind {
            Kind::Splitter => specialization(&direction(&mut stream(model.0.into(), "parts"))),
            _ => specialization(&self.published.claimed),
        };
        Release {
            model,
            weights,
            key: Hash::of_parts("economy key", &[&model.0.to_le_bytes(), &weights.0]).0,
            specialization,
            file: File::new(model, &weights),
        }
    }

    /// Trains or copies for an epoch. Returns the cost, in SOMA.
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
                let loss = self.latest.general_loss();
                let ahead = best.filter(|best| best.quality.general_loss() < loss);
                let base = ahead.map_or(&self.latest, |best| &best.quality);
                self.latest = base.trained(self.effort, &self.aim, self.index, rng);
                if self.gains(&self.latest, margin_q32) {
                    self.published = Weights {
                        hash: self.next_hash(),
                        quality: self.latest.clone(),
                        claimed: self.aim.clone(),
                    };
                }
                self.effort * TRAINING_SOMA
            }
        }
    }

    /// A plain copy claims a different specialization from its original, which is older and wins
    /// ties. A noisy copy claims the same, to win the targets of its original.
    fn copy(&mut self, best: &Weights, margin_q32: u64, rng: &mut SimRng) {
        if !self.gains(&best.quality, margin_q32) {
            return;
        }
        self.published = if self.kind == Kind::NoisyCopier {
            Weights {
                hash: self.next_hash(),
                quality: best.quality.noisy(NOISE_NATS, rng),
                claimed: best.claimed.clone(),
            }
        } else {
            Weights { claimed: self.aim.clone(), ..best.clone() }
        };
    }

    /// Whether publishing new weights is worth the loss of age.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "losses of a few nats, in 2^-32 nat, are far below 2^52"
    )]
    fn gains(&self, new: &Quality, margin_q32: u64) -> bool {
        let published = &self.published.quality;
        let (before, after) = match self.kind {
            Kind::Copier | Kind::NoisyCopier => (published.general_loss(), new.general_loss()),
            _ => (published.expected_loss(&self.aim), new.expected_loss(&self.aim)),
        };
        before - after > margin((after * Q32) as i64, margin_q32) as f64 / Q32
    }

    /// Commits weights that changed or must be refreshed, for the next epoch.
    pub fn commit(&mut self, chain: &mut Chain, actor: &Actor, library: &mut Library) {
        let chain_view = query::chain(&chain.state);
        let (epoch, refresh) = (chain_view.clock.epoch, chain_view.params.refresh_epochs);
        self.committed.clear();
        self.raise_cash(chain, actor);
        for &model in &self.models {
            let Some(record) = read::model(&chain.state, model) else {
                continue;
            };
            let fresh = epoch.0 + 2 < record.revealed.0 + refresh;
            if record.weights == Some(self.published.hash) && fresh {
                continue;
            }
            let release = self.release(model);
            library.add(self.published.clone());
            let ciphertext_hash = release.file.hash();
            let opening = CommittedWeights {
                model,
                owner: &actor.address,
                epoch: epoch.next(),
                weights_hash: &release.weights,
                ciphertext_hash: &ciphertext_hash,
                size_bytes: FILE_BYTES,
                key: &release.key,
                specialization: &release.specialization,
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
            self.committed.push(release);
        }
    }

    /// Withdraws stake from the first model when rent has used up the balance.
    fn raise_cash(&self, chain: &mut Chain, actor: &Actor) {
        if chain.balance(&actor.address) < LOW
            && let Some(model) = self.models.first()
        {
            let (pool, amount) = (PoolId::Model(*model), LOW);
            chain.act(&actor.key, Action::WithdrawStake(action::WithdrawStake { pool, amount }));
        }
    }

    /// Reveals the committed weights.
    pub fn reveal(&mut self, chain: &mut Chain, actor: &Actor) {
        for release in self.committed.drain(..) {
            let action = Action::RevealWeights(action::RevealWeights {
                model: release.model,
                key: release.key,
                weights_hash: release.weights,
                specialization: release.specialization,
            });
            chain.act(&actor.key, action);
        }
    }
}

/// Trainers differ: their efforts range from 0.5 to 1.5.
fn effort(kind: Kind, index: usize) -> f64 {
    match kind {
        Kind::Trainer => 0.5 + f64::from(u32::try_from(index % 20).unwrap_or(0)) / 19.0,
        _ => 1.0,
    }
}

/// The share of documents on which a copy with `percent` of noise on every weight beats its
/// original.
pub fn noise_wins(percent: f64, margin_q32: u64, rng: &mut SimRng) -> f64 {
    let original = Quality::first(0, rng);
    let wins = (0..TRIALS).filter(|_| {
        let copy = original.noisy(percent * NOISE_NATS, rng);
        let document = Document::random(None, rng);
        let gain = original.loss_q32(&document) - copy.loss_q32(&document);
        gain > 0 && gain.unsigned_abs() > margin_q32
    });
    f64::from(u32::try_from(wins.count()).unwrap_or(0)) / f64::from(TRIALS)
}
