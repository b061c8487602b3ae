//! Commitments: hashes of what participants reveal later. Each names its chain, participant,
//! subject and epoch, so it cannot be replayed, copied or inherited.

use crate::record::{Validity, Verdict};
use crate::{Address, ConsensusKey, Epoch, Hash, ModelId, TargetId};

/// Hash of the one-time key of an encrypted weights file.
pub fn key_hash(key: &[u8; 32]) -> Hash {
    Hash::of_parts("soma weights key", &[key])
}

/// Hash of a specialization: its components as little-endian i16.
pub fn specialization_hash(components: &[i16]) -> Hash {
    let bytes: Vec<u8> = components.iter().flat_map(|component| component.to_le_bytes()).collect();
    Hash::of_parts("soma specialization", &[&bytes])
}

/// What a commitment to weights covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedWeights<'a> {
    /// The model.
    pub model: ModelId,
    /// Its owner.
    pub owner: &'a Address,
    /// Epoch of the reveal.
    pub epoch: Epoch,
    /// BLAKE3 of the weights file.
    pub weights_hash: &'a Hash,
    /// BLAKE3 of the encrypted file.
    pub ciphertext_hash: &'a Hash,
    /// Length of the encrypted file in bytes.
    pub size_bytes: u64,
    /// Key of the encrypted file.
    pub key: &'a [u8; 32],
    /// The model's specialization.
    pub specialization: &'a [i16],
}

/// Commitment to weights, for `Action::CommitWeights`.
pub fn weights(chain: &Hash, content: &CommittedWeights<'_>) -> Hash {
    Hash::of_parts(
        "soma commit weights",
        &[
            &chain.0,
            &content.model.0.to_le_bytes(),
            &content.owner.0,
            &content.epoch.0.to_le_bytes(),
            &content.weights_hash.0,
            &content.ciphertext_hash.0,
            &content.size_bytes.to_le_bytes(),
            &key_hash(content.key).0,
            &specialization_hash(content.specialization).0,
        ],
    )
}

/// Commitment to data, for `Action::Submit`. `data_hash` is BLAKE3 of the data.
pub fn data(
    chain: &Hash,
    submitter: &Address,
    target: TargetId,
    data_hash: &Hash,
    size_bytes: u32,
    salt: &[u8; 32],
) -> Hash {
    Hash::of_parts(
        "soma commit data",
        &[
            &chain.0,
            &submitter.0,
            &target.0.to_le_bytes(),
            &data_hash.0,
            &size_bytes.to_le_bytes(),
            salt,
        ],
    )
}

/// Proof that an audit ran all routed models: a hash over the traces of their scores, in routed
/// order. A model without a score is represented by a fixed mark.
pub fn trace(traces: &[Option<[u8; 32]>]) -> Hash {
    let parts: Vec<&[u8]> =
        traces.iter().map(|trace| trace.as_ref().map_or(&b"none"[..], |trace| trace)).collect();
    Hash::of_parts("soma audit trace", &parts)
}

/// Commitment to a verdict, for `Action::CommitVerdict`. Nobody knows the trace without having run
/// the models, so nobody can guess what another validator has committed to.
pub fn verdict(chain: &Hash, validator: &Address, target: TargetId, verdict: &Verdict) -> Hash {
    let broken = verdict.broken.0.to_le_bytes();
    let validity: &[u8] = match verdict.validity {
        Validity::Valid => b"valid",
        Validity::Invalid => b"invalid",
    };
    Hash::of_parts(
        "soma commit verdict",
        &[&chain.0, &validator.0, &target.0.to_le_bytes(), validity, &verdict.trace.0, &broken],
    )
}

/// Commitment to a part of the beacon, for `Action::CommitBeacon`.
pub fn beacon(chain: &Hash, validator: &Address, epoch: Epoch, value: &Hash) -> Hash {
    Hash::of_parts(
        "soma commit beacon",
        &[&chain.0, &validator.0, &epoch.0.to_le_bytes(), &value.0],
    )
}

/// What a consensus key signs to prove that its holder assigns it to a validator.
pub fn possession(chain: &Hash, validator: &Address, key: &ConsensusKey) -> Hash {
    Hash::of_parts("soma consensus key", &[&chain.0, &validator.0, &key.0])
}

/// What a duty key signs to prove that its holder acts for a validator.
pub fn duty_key(chain: &Hash, validator: &Address, key: &Address) -> Hash {
    Hash::of_parts("soma duty key", &[&chain.0, &validator.0, &key.0])
}
