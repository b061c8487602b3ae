//! The genesis of an economy: everybody with what they have, all models active.

use soma_protocol::{
    Amount, Architecture, ConsensusKey, Genesis, GenesisAccount, GenesisModel, GenesisValidator,
    ModelId,
};

use crate::actors::{Actor, Kind, PARTS};
use crate::owners::Owner;
use crate::quality::DIM;
use crate::settings::Settings;
use crate::weights::FILE_BYTES;

/// The beginning, in milliseconds since 1970.
const BEGINNING_MS: u64 = 1_767_225_600_000;
/// Stake of a model, in SOMA, but for the large one and the parts of a split one.
const MODEL_SOMA: u64 = 10_000;
/// How many ordinary stakes are behind the large model.
const LARGE: u64 = 4;
const VALIDATOR_SOMA: u64 = 100_000;
/// What owners and validators have to spend, in SOMA.
const PURSE_SOMA: u64 = 1_000;
/// What submitters and delegators have to spend, in SOMA.
const CAPITAL_SOMA: u64 = 20_000;

/// The first state: everybody with what they have, all models active.
pub fn genesis(settings: &Settings, actors: &[Actor], owners: &[Owner]) -> Genesis {
    let account = |actor: &Actor| GenesisAccount {
        address: actor.address,
        balance: Amount::soma(if actor.kind.submits() || actor.kind.delegates() {
            CAPITAL_SOMA
        } else {
            PURSE_SOMA
        }),
    };
    let validator = |actor: &Actor| GenesisValidator {
        address: actor.address,
        consensus_key: ConsensusKey(actor.address.0),
        stake: Amount::soma(VALIDATOR_SOMA),
    };
    let validators = actors.iter().filter(|one| one.kind.validates());
    Genesis {
        chain: "economy".into(),
        timestamp_ms: BEGINNING_MS,
        params: settings.params.clone(),
        architecture: Architecture {
            name: "modelled".into(),
            layers: 1,
            dim: u32::try_from(DIM).unwrap_or(u32::MAX),
            heads: 1,
            ffn: 1_024,
            positions: 32,
            ..Architecture::nano()
        },
        accounts: actors.iter().map(account).collect(),
        validators: validators.map(validator).collect(),
        models: owners
            .iter()
            .flat_map(|owner| first_models(&actors[owner.actor], owner))
            .collect(),
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
            name: format!("{} {id}", actor.kind.words()),
            commission_bps: 1_000,
            stake: Amount::soma(soma),
            weights_hash: release.weights,
            ciphertext_hash: release.file.hash(),
            size_bytes: FILE_BYTES,
            key: release.key,
            embedding: release.embedding,
        }
    };
    actor.models.iter().map(model).collect()
}
