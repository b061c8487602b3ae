//! The genesis of an economy: all actors with their capital, all models active.

use soma_protocol::{
    Amount, Architecture, ConsensusKey, Endpoints, Genesis, GenesisAccount, GenesisModel,
    GenesisValidator, ModelId,
};

use crate::actors::{Actor, Kind, PARTS};
use crate::owners::Owner;
use crate::quality::DIM;
use crate::settings::Settings;
use crate::weights::FILE_BYTES;

/// Time of genesis, in milliseconds since 1970.
const GENESIS_MS: u64 = 1_767_225_600_000;
/// Stake of an ordinary model, in SOMA.
const MODEL_SOMA: u64 = 10_000;
/// Ordinary stakes behind the large model, and behind all parts of the split one.
const LARGE: u64 = 4;
const VALIDATOR_SOMA: u64 = 100_000;
/// Balance of owners and validators, in SOMA.
const BALANCE_SOMA: u64 = 1_000;
/// Balance of submitters and delegators, in SOMA.
const CAPITAL_SOMA: u64 = 20_000;

/// The genesis of these actors and owners.
pub fn genesis(settings: &Settings, actors: &[Actor], owners: &[Owner]) -> Genesis {
    let account = |actor: &Actor| GenesisAccount {
        address: actor.address,
        balance: Amount::soma(if actor.kind.submits() || actor.kind.delegates() {
            CAPITAL_SOMA
        } else {
            BALANCE_SOMA
        }),
    };
    let validator = |actor: &Actor| GenesisValidator {
        address: actor.address,
        consensus_key: ConsensusKey(actor.address.0),
        stake: Amount::soma(VALIDATOR_SOMA),
        endpoints: Endpoints::default(),
    };
    let validators = actors.iter().filter(|actor| actor.kind.validates());
    Genesis {
        chain: "economy".into(),
        timestamp_ms: GENESIS_MS,
        params: settings.params.clone(),
        architecture: Architecture {
            name: "modeled".into(),
            layers: 1,
            dim: u32::try_from(DIM).unwrap_or(u32::MAX),
            heads: 1,
            ffn: 1_024,
            positions: 32,
            ..Architecture::nano()
        },
        accounts: actors.iter().map(account).collect(),
        validators: validators.map(validator).collect(),
        models: owners.iter().flat_map(|owner| first_models(&actors[owner.index], owner)).collect(),
        operator: None,
    }
}

fn first_models(actor: &Actor, owner: &Owner) -> Vec<GenesisModel> {
    let soma = match actor.kind {
        Kind::Splitter => MODEL_SOMA * LARGE / PARTS,
        Kind::Large => MODEL_SOMA * LARGE,
        _ => MODEL_SOMA,
    };
    let model = |id: &ModelId| {
        let release = owner.release(*id);
        GenesisModel {
            owner: actor.address,
            name: format!("{} {id}", actor.kind.label()),
            commission_bps: 1_000,
            stake: Amount::soma(soma),
            weights_hash: release.weights,
            ciphertext_hash: release.file.hash(),
            size_bytes: FILE_BYTES,
            key: release.key,
            specialization: release.specialization,
        }
    };
    actor.models.iter().map(model).collect()
}
