//! The chain that every history starts with, and the keys of its nodes and users.

use commonware_cryptography::{Signer as _, ed25519::PublicKey};
use soma_engine::{ConsensusSecret, generic::private_key};
use soma_protocol::{
    Amount, Architecture, ConsensusKey, Endpoints, Genesis, GenesisAccount, GenesisModel,
    GenesisValidator, Hash, Params, SecretKey,
};

/// Validators at genesis. One more node may register later.
pub const VALIDATORS: usize = 4;
/// All nodes.
pub const NODES: usize = VALIDATORS + 1;
/// The node that is the adversary, if there is one. Attackers have its validator in every history.
pub const ADVERSARY: usize = VALIDATORS - 1;
/// Accounts that belong to no node.
pub const USERS: u8 = 6;
/// Accounts of each kind of attacker.
pub const HANDS: u8 = 16;
/// The kind of attackers whose models have broken files.
pub const BREAKER: u8 = 10;
/// The work that a block may spend on tasks: little, so that the end of an epoch takes several
/// blocks even on this small network.
pub const TASK_WORK: u64 = 600;
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

/// The key of the user that pays for what it sends and has to be served.
pub fn payer_key() -> SecretKey {
    SecretKey::from_bytes(&[90; 32])
}

/// The key of an account of the attackers of a kind, of which there are [`HANDS`].
pub fn attacker_key(kind: u8, hand: u8) -> SecretKey {
    SecretKey::from_bytes(&Hash::of_parts("sim attacker", &[&[kind, hand]]).0)
}

/// An embedding of unit length, along one axis.
pub fn embedding(axis: usize) -> Vec<i16> {
    let dim = usize::try_from(Architecture::nano().dim).unwrap_or(1);
    let mut embedding = vec![0; dim];
    embedding[axis % dim] = i16::MAX;
    embedding
}

/// Genesis: four validators, six users, two models, a payer, and `attackers` kinds of attackers.
pub fn genesis(epoch_ms: u64, attackers: u8) -> Genesis {
    let funded = |address| GenesisAccount { address, balance: Amount::soma(5_000) };
    let users = (0..USERS).map(|user| user_key(user).address());
    let nodes = (0..NODES).map(|node| node_key(node).address());
    let hands = (0..attackers).flat_map(|kind| (0..HANDS).map(move |hand| (kind, hand)));
    let hands = hands.map(|(kind, hand)| attacker_key(kind, hand).address());
    let rich = |address| GenesisAccount { address, balance: Amount::soma(20_000) };
    let payer = std::iter::once(payer_key().address());
    let validator = |node| GenesisValidator {
        address: node_key(node).address(),
        consensus_key: consensus_key(node),
        stake: Amount::soma(200),
        endpoints: Endpoints::default(),
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
        params: Params {
            epoch_ms,
            // Less than an attacker's models can fill, and more than others need.
            files_bytes_max: 32 << 20,
            // A hundredth of the rewards, of which a model's stake pays for many.
            broken_slash_bps: 100,
            ..Params::local()
        },
        architecture: Architecture::nano(),
        accounts: users.chain(nodes).chain(payer).map(funded).chain(hands.map(rich)).collect(),
        validators: (0..VALIDATORS).map(validator).collect(),
        models: (0..2).map(model).collect(),
        operator: None,
    }
}
