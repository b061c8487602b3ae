//! What is still due from an account after a commit or a submission: a reveal or a publication.
//!
//! An obligation knows its commitment and the transactions that create and settle it, and derives
//! its status from what a node reports. Nothing here is sent or stored.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use soma_protocol::{
    Action, Address, Amount, Epoch, Hash, ModelId, Params, Phase, TargetId, action, commitment, hex,
};

use crate::api::{Candidate, Clock, Commit, Model, Target, TargetStatus};
use crate::cipher::EncryptedFile;
use crate::secret::Secret;

/// A transaction that is still due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Obligation {
    /// The reveal of committed weights.
    Reveal(Reveal),
    /// The publication of submitted data.
    Publication(Publication),
}

/// Whether an obligation can be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObligationStatus {
    /// It cannot be sent yet.
    Waiting {
        /// What is lost if it is never settled, in base units: a bond, or rent and a slash.
        at_risk: Amount,
    },
    /// It can be sent now.
    Ready {
        /// What is lost if it is not sent in time, in base units.
        at_risk: Amount,
    },
    /// Nothing is due anymore: it was sent, displaced or replaced.
    Settled,
    /// It can no longer be sent.
    Missed,
}

/// The reveal of committed weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reveal {
    /// The chain.
    pub chain: Hash,
    /// The model.
    pub model: ModelId,
    /// Number of the architecture that the weights are for.
    pub architecture: u32,
    /// Its owner.
    pub owner: Address,
    /// The epoch of the reveal.
    pub epoch: Epoch,
    /// Key of the encrypted file.
    pub key: Secret,
    /// BLAKE3 of the weights file.
    pub weights_hash: Hash,
    /// BLAKE3 of the encrypted file.
    pub ciphertext_hash: Hash,
    /// Size of either file.
    #[serde(with = "soma_protocol::decimal")]
    pub size_bytes: u64,
    /// The model's specialization.
    pub specialization: Vec<i16>,
    /// Where the encrypted file is.
    pub ciphertext: PathBuf,
}

/// The publication of submitted data.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The chain.
    pub chain: Hash,
    /// Who submitted it.
    pub submitter: Address,
    /// The target.
    pub target: TargetId,
    /// The target's epoch; publication is in the next epoch.
    pub epoch: Epoch,
    /// Salt of the commitment.
    pub salt: Secret,
    /// The data's place in its submitter's corpus.
    pub index: u32,
    /// Salt of its leaf there.
    pub leaf_salt: Secret,
    /// The path of its leaf under the root that counted when it was submitted.
    pub path: Vec<Hash>,
    /// The data.
    #[serde(with = "hex")]
    pub data: Vec<u8>,
}

/// What a submission asserts about its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The routed model that predicts the data best.
    pub model: ModelId,
    /// Its loss, in 2^-32 nat.
    pub loss_q32: i64,
    /// By how much it predicts the data better than counting does, in 2^-32 nat per byte.
    pub gain_q32: i64,
    /// Distance between the data's direction under it and the target.
    pub distance: u64,
}

impl Obligation {
    /// The chain it is due on.
    pub fn chain(&self) -> Hash {
        match self {
            Self::Reveal(reveal) => reveal.chain,
            Self::Publication(publication) => publication.chain,
        }
    }

    /// The account that must send it.
    pub fn sender(&self) -> Address {
        match self {
            Self::Reveal(reveal) => reveal.owner,
            Self::Publication(publication) => publication.submitter,
        }
    }

    /// The commitment that it settles.
    pub fn commitment(&self) -> Hash {
        match self {
            Self::Reveal(reveal) => reveal.commitment(),
            Self::Publication(publication) => publication.commitment(),
        }
    }

    /// The last epoch in which it can be sent.
    pub fn last_epoch(&self) -> Epoch {
        match self {
            Self::Reveal(reveal) => reveal.epoch,
            Self::Publication(publication) => publication.epoch.next(),
        }
    }

    /// The last phase in which it can be sent, with its epoch. `target` is that of a publication:
    /// it says whose turn it is when.
    pub fn last_phase(&self, target: Option<&Target>, params: &Params) -> (Epoch, Phase) {
        match self {
            Self::Reveal(reveal) => {
                let ranks = params.candidates_per_target;
                (reveal.epoch, Phase::Publish(ranks.saturating_sub(1)))
            }
            Self::Publication(publication) => {
                let candidate = target.and_then(|target| publication.candidate_in(target));
                let rank = candidate.map_or(0, |candidate| candidate.rank);
                (publication.epoch.next(), Phase::Publish(rank))
            }
        }
    }

    /// The action that settles it.
    pub fn action(&self) -> Action {
        match self {
            Self::Reveal(reveal) => reveal.reveal(),
            Self::Publication(publication) => publication.publish(),
        }
    }
}

impl fmt::Display for Obligation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reveal(Reveal { model, epoch, .. }) => {
                write!(f, "reveal of model {model} in epoch {epoch}")
            }
            Self::Publication(Publication { target, epoch, .. }) => {
                write!(f, "publication for target {target} after epoch {epoch}")
            }
        }
    }
}

impl Reveal {
    /// The hashes and size of its file.
    pub fn encrypted_file(&self) -> EncryptedFile {
        let Self { weights_hash, ciphertext_hash, size_bytes, .. } = *self;
        EncryptedFile { weights_hash, ciphertext_hash, size_bytes }
    }

    /// The commitment in the commit, which the reveal must match.
    pub fn commitment(&self) -> Hash {
        let opening = commitment::CommittedWeights {
            model: self.model,
            owner: &self.owner,
            epoch: self.epoch,
            weights_hash: &self.weights_hash,
            ciphertext_hash: &self.ciphertext_hash,
            size_bytes: self.size_bytes,
            key: self.key.bytes(),
            specialization: &self.specialization,
        };
        commitment::weights(&self.chain, &opening)
    }

    /// The commit, sent one epoch ahead.
    pub fn commit(&self) -> Action {
        Action::CommitWeights(action::CommitWeights {
            model: self.model,
            architecture: self.architecture,
            epoch: self.epoch,
            commitment: self.commitment(),
            ciphertext_hash: self.ciphertext_hash,
            size_bytes: self.size_bytes,
        })
    }

    /// The reveal, sent in the epoch's reveal or publish phase.
    pub fn reveal(&self) -> Action {
        Action::RevealWeights(action::RevealWeights {
            model: self.model,
            key: *self.key.bytes(),
            weights_hash: self.weights_hash,
            specialization: self.specialization.clone(),
        })
    }

    /// This reveal's commit, if the chain has it.
    pub fn commit_in<'a>(&self, model: &'a Model) -> Option<&'a Commit> {
        let (epoch, commitment) = (self.epoch.0, self.commitment());
        let mut commits = model.commits.iter();
        commits.find(|commit| commit.epoch == epoch && commit.commitment.0 == commitment)
    }

    /// Its status, from what a node reports. A missed reveal costs the rent and `slash_bps` of the
    /// model's stake.
    pub fn status(&self, clock: &Clock, model: &Model, slash_bps: u16) -> ObligationStatus {
        let mut weights = model.weights.iter().chain(&model.next);
        let revealed = weights.any(|weights| {
            weights.hash.0 == self.weights_hash && weights.revealed_epoch >= self.epoch.0
        });
        if revealed {
            return ObligationStatus::Settled;
        }
        let commit = self.commit_in(model);
        let at_risk = commit.map_or(Amount::ZERO, |commit| {
            Amount(commit.rent.0).plus(Amount(model.stake.0).bps(slash_bps))
        });
        match (clock.epoch.cmp(&self.epoch.0), commit) {
            // The commit may not be finalized yet.
            (std::cmp::Ordering::Less, _) => ObligationStatus::Waiting { at_risk },
            // A commit that too few hold is about to lapse: its reveal would show the key in vain.
            (std::cmp::Ordering::Equal, Some(commit)) if clock.phase.reveals() => {
                if commit.held {
                    ObligationStatus::Ready { at_risk }
                } else {
                    ObligationStatus::Waiting { at_risk }
                }
            }
            (std::cmp::Ordering::Equal, None) if clock.phase.reveals() => ObligationStatus::Settled,
            _ => ObligationStatus::Missed,
        }
    }
}

impl Publication {
    /// Bytes of the data; saturates beyond what any network accepts.
    pub fn size_bytes(&self) -> u32 {
        u32::try_from(self.data.len()).unwrap_or(u32::MAX)
    }

    /// BLAKE3 of the data.
    pub fn data_hash(&self) -> Hash {
        Hash::of_bytes(&self.data)
    }

    /// The commitment in the submission, which the publication must match.
    pub fn commitment(&self) -> Hash {
        let (data_hash, size_bytes) = (self.data_hash(), self.size_bytes());
        let salt = self.salt.bytes();
        commitment::data(&self.chain, &self.submitter, self.target, &data_hash, size_bytes, salt)
    }

    /// The submission: `model` predicts the data best, with this loss, gain and distance.
    pub fn submit(&self, claim: Claim) -> Action {
        let Claim { model, loss_q32, gain_q32, distance } = claim;
        Action::Submit(action::Submit {
            target: self.target,
            model,
            loss_q32,
            gain_q32,
            distance,
            size_bytes: self.size_bytes(),
            commitment: self.commitment(),
        })
    }

    /// The publication, sent in the next epoch when its rank's turn comes.
    pub fn publish(&self) -> Action {
        Action::PublishData(action::PublishData {
            target: self.target,
            data: self.data.clone(),
            salt: *self.salt.bytes(),
            index: self.index,
            leaf_salt: *self.leaf_salt.bytes(),
            path: self.path.clone(),
        })
    }

    /// This publication's candidate, if the chain has it. Others may have copied the commitment,
    /// but can do nothing with it.
    pub fn candidate_in<'a>(&self, target: &'a Target) -> Option<&'a Candidate> {
        let commitment = self.commitment();
        let ours = |candidate: &&Candidate| {
            (candidate.submitter.0, candidate.commitment.0) == (self.submitter, commitment)
        };
        target.candidates.iter().find(ours)
    }

    /// Its status, from what a node reports.
    pub fn status(&self, clock: &Clock, target: &Target) -> ObligationStatus {
        if target.status != TargetStatus::Open {
            return ObligationStatus::Settled;
        }
        let candidate = self.candidate_in(target);
        let at_risk = Amount(candidate.map_or(0, |candidate| candidate.bond.0));
        if clock.epoch <= self.epoch.0 {
            // The submission may not be finalized yet, or may have been displaced.
            return ObligationStatus::Waiting { at_risk };
        }
        let Some(candidate) = candidate else {
            return ObligationStatus::Settled;
        };
        match clock.phase.publishing_rank() {
            _ if clock.epoch > self.epoch.next().0 => ObligationStatus::Missed,
            Some(rank) if rank < candidate.rank => ObligationStatus::Waiting { at_risk },
            Some(rank) if rank == candidate.rank => ObligationStatus::Ready { at_risk },
            Some(_) | None => ObligationStatus::Missed,
        }
    }
}

/// Block time at which a phase ends, now or in a later epoch; `None` if phases end by command.
/// Right to a few milliseconds while the parameters stay.
pub fn phase_ends_ms(clock: &Clock, params: &Params, epoch: Epoch, phase: Phase) -> Option<u64> {
    let ends_ms = clock.ends_ms?.0;
    let begun_ms = ends_ms.saturating_sub(end_in_epoch_ms(clock.phase.0, params));
    let epochs = u64::from(epoch.0.saturating_sub(clock.epoch));
    let before_ms = params.epoch_ms.saturating_mul(epochs);
    Some(begun_ms.saturating_add(before_ms).saturating_add(end_in_epoch_ms(phase, params)))
}

/// Time from the beginning of an epoch to the end of its phase.
fn end_in_epoch_ms(phase: Phase, params: &Params) -> u64 {
    let published = |ranks: u32| {
        params.reveal_ms().saturating_add(params.publish_part_ms().saturating_mul(ranks.into()))
    };
    match phase {
        Phase::Reveal => params.reveal_ms(),
        Phase::Publish(rank) => published(rank.saturating_add(1)),
        Phase::Compete => {
            published(params.candidates_per_target).saturating_add(params.compete_ms())
        }
        Phase::Attest => params.epoch_ms,
    }
}

impl fmt::Debug for Publication {
    /// Omits the data, which is private until it is published.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publication({} bytes for target {})", self.data.len(), self.target)
    }
}
