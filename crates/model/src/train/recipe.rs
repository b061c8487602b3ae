//! The recipe of a training run: everything besides architecture and data that determines the
//! weights. Nothing that could differ between two machines (threads, kernel, time) may ever become
//! part of it.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How a model is trained. Two runs of the same recipe on the same data give the same weights, to
/// the last bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Optimizer steps; the schedule ends with the last of them.
    pub steps: u64,
    /// Windows of one context each in a micro-batch. SIGReg's samples are the positions of one
    /// micro-batch.
    pub batch: usize,
    /// Micro-batches whose gradients are added up, in order, for one step.
    pub micro_batches: usize,
    /// The highest learning rate, reached after the warm-up.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises linearly.
    pub warmup: u64,
    /// The value to which the cosine falls at the last step, as a share of `learning_rate`.
    pub final_share: f64,
    /// Decay of the matrices per step, as a share of the learning rate; biases and norms do not
    /// decay.
    pub weight_decay: f64,
    /// The greatest global norm of the gradient; a larger gradient is scaled down to it.
    pub clip: f64,
    /// Decay of the gradient's running mean.
    pub beta_1: f64,
    /// Decay of the squared gradient's running mean.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Weight of SIGReg in the loss.
    pub sigreg_coefficient: f64,
    /// SIGReg's factor is the number of its samples, but at most this.
    pub sigreg_cap: usize,
    /// Determines the initial weights, the order of the data and SIGReg's directions.
    pub seed: [u8; 32],
}

impl Default for Recipe {
    /// Meant for `nano` on about a megabyte of text: many small steps learn the most from the same
    /// number of bytes. Shorter runs keep everything but `steps`.
    ///
    /// `SIGReg` weighs less than in a score, because its factor reaches 256 here and only 16 there.
    fn default() -> Self {
        Self {
            steps: 4000,
            batch: 2,
            micro_batches: 1,
            learning_rate: 2e-3,
            warmup: 100,
            final_share: 0.0,
            weight_decay: 0.1,
            clip: 1.0,
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-8,
            sigreg_coefficient: 0.004,
            sigreg_cap: 256,
            seed: [0; 32],
        }
    }
}

impl Recipe {
    /// Checks that the recipe can be followed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let checks = [
            ("batch", (1..=4096).contains(&self.batch)),
            ("micro_batches", (1..=4096).contains(&self.micro_batches)),
            ("learning_rate", self.learning_rate.is_finite() && self.learning_rate >= 0.0),
            ("final_share", (0.0..=1.0).contains(&self.final_share)),
            ("weight_decay", self.weight_decay.is_finite() && self.weight_decay >= 0.0),
            ("clip", self.clip > 0.0),
            ("beta_1", (0.0..=0.999_999).contains(&self.beta_1)),
            ("beta_2", (0.0..=0.999_999).contains(&self.beta_2)),
            ("epsilon", (1e-30..=1.0).contains(&self.epsilon)),
            (
                "sigreg_coefficient",
                self.sigreg_coefficient.is_finite() && self.sigreg_coefficient >= 0.0,
            ),
        ];
        match checks.into_iter().find(|(_, ok)| !ok) {
            Some((field, _)) => Err(Error::Recipe { field }),
            None => Ok(()),
        }
    }

    /// The seed of SIGReg's directions in one micro-batch.
    pub(crate) fn directions_seed(&self, step: u64, micro_batch: usize) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("soma train: directions v1");
        hasher.update(&self.seed).update(&step.to_le_bytes());
        hasher.update(&(micro_batch as u64).to_le_bytes()).finalize().into()
    }
}
