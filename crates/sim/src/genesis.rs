//! The chain that every history starts with, and the keys of its nodes and users.

use commonware_cryptography::{Signer as _, ed25519::PublicKey};
use soma_engine::{ConsensusSecret, generic::private_key};
use soma_protocol::{
    Amount, Architecture, ConsensusKey, Genesis, GenesisAccount, GenesisModel, GenesisValidator,
    Hash, Params, SecretKey,
};

/// Validators at genesis. One more node may register later.
pub const VALIDATORS: usize = 4;
/// All nodes.
pub const NODES: usize = VALIDATORS + 1;
/// Accounts that belong to no node.
pub const USERS: u8 = 6;
/// Time of genesis, in milliseconds since 1970.
pub const GENESIS_MS: u64 = 1_767_225_600_000;

/// The seed of a node's two keys: its account's, and the one it votes with.
#[expect(clippy::cast_possible_truncation, reason = "few nodes")]
const fn node_seed(node: usize) -> [u8; 32] {
    [100 + node as u8; 32]
}

/// The key of a node's account.
pub fn node_key(node: usize) -> SecretKey {
    SecretKey::from_bytes(&node_seed(node))
}

/// The key that a node votes with.
pub fn consensus_secret(node: usize) -> ConsensusSecret {
    ConsensusSecret(node_seed(node))
}

/// The public half of the key that a node votes with.
pub fn consensus_key(node: usize) -> ConsensusKey {
    ConsensusKey(node_key(node).address().0)
}

/// A node's identity on the network.
pub fn peer_key(node: usize) -> PublicKey {
    private_key(&consensus_secret(node)).public_key()
}

/// The key of a user's account.
pub fn user_key(user: u8) -> SecretKey {
    SecretKey::from_bytes(&[1 + user; 32])
}

/// An embedding of unit length, along one axis.
pub fn embedding(axis: usize) -> Vec<i16> {
    let dim = usize::try_from(Architecture::nano().dim).unwrap_or(1);
    let mut embedding = vec![0; dim];
    embedding[axis % dim] = i16::MAX;
    embedding
}

/// Genesis: four validators, six users, two models.
pub fn genesis() -> Genesis {
    let funded = |address| GenesisAccount { address, balance: Amount::soma(5_000) };
    let users = (0..USERS).map(|user| user_key(user).address());
    let nodes = (0..NODES).map(|node| node_key(node).address());
    let validator = |node| GenesisValidator {
        address: node_key(node).address(),
        consensus_key: consensus_key(node),
        stake: Amount::soma(200),
    };
    let model = |index: u8| GenesisModel {
        owner: user_key(index).address(),
        name: format!("model {index}"),
        commission_bps: 1_000,
        stake: Amount::soma(10),
        weights_hash: Hash([index; 32]),
        ciphertext_hash: Hash([index + 100; 32]),
        size_bytes: 1_000,
        key: [index; 32],
        specialization: embedding(index.into()),
    };
    Genesis {
        chain: "sim".into(),
        timestamp_ms: GENESIS_MS,
        params: Params::local(),
        architecture: Architecture::nano(),
        accounts: users.chain(nodes).map(funded).collect(),
        validators: (0..VALIDATORS).map(validator).collect(),
        models: (0..2).map(model).collect(),
        operator: None,
    }
}
