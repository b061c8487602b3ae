//! Who takes part, with how much, and the genesis that gives it to them.

use serde::Serialize;
use soma_protocol::{
    Address, Amount, ArchitectureSpec, ConsensusKey, Genesis, GenesisAccount, GenesisModel,
    GenesisValidator, Hash, ModelId, Params, SecretKey,
};

use super::Settings;
use super::owners::{FILE_BYTES, Owner};
use super::quality::DIM;
use crate::dice::Dice;

/// The beginning, in milliseconds since 1970.
const BEGINNING_MS: u64 = 1_767_225_600_000;
/// Stake of a model, in SOMA, but for the large one and the parts of a split one.
const MODEL_SOMA: u64 = 10_000;
/// How many ordinary stakes are behind the large model.
const LARGE: u64 = 4;
/// Models among which another owner splits as much as is behind the large one.
const PARTS: u64 = 8;
const VALIDATOR_SOMA: u64 = 100_000;
/// What owners and validators have to spend, in SOMA.
const PURSE_SOMA: u64 = 1_000;
/// What submitters and delegators have to spend, in SOMA.
const CAPITAL_SOMA: u64 = 20_000;

/// What somebody does. The words are those of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Owner: starts from the best public weights or its own, trains, publishes what gains enough.
    Trainer,
    /// Owner: has trained once and refreshes the same weights.
    Idle,
    /// Owner: publishes last epoch's best public weights, byte for byte.
    Copier,
    /// Owner: the same with 1 % of noise, in the place of the original.
    NoisyCopier,
    /// Owner: trains as well, and splits four times the stake over eight models with the same weights.
    Splitter,
    /// Owner: a trainer with four times the stake behind one model.
    Large,
    /// Owner who also submits: text sampled from its own model wherever that is asked.
    Colluder,
    /// Submitter: looks for data, and publishes what it claimed.
    Submitter,
    /// Submitter that is away for one publication in twenty.
    Forgetful,
    /// Submitter that names another winner than the data has.
    Liar,
    /// Fills a target with false claims and shows none of them.
    Silencer,
    /// Fills a target with false claims and shows the first.
    Denier,
    /// Validator that does its duties.
    Auditor,
    /// Validator that does them, on a machine that errs for one epoch in a hundred.
    Faulty,
    /// Validator that audits every other target.
    HalfAuditor,
    /// Validator that finds everything valid without a look.
    Guesser,
    /// Validator that commits to what another has committed to.
    Copycat,
    /// Validator that keeps files and never audits.
    Silent,
    /// Moves its money behind the models that have earned most per stake.
    YieldDelegator,
    /// Spreads its money over the trainers.
    EvenDelegator,
}

impl Kind {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 20] = [
        Self::Trainer,
        Self::Large,
        Self::Splitter,
        Self::Idle,
        Self::Copier,
        Self::NoisyCopier,
        Self::Colluder,
        Self::Submitter,
        Self::Forgetful,
        Self::Liar,
        Self::Silencer,
        Self::Denier,
        Self::Auditor,
        Self::Faulty,
        Self::HalfAuditor,
        Self::Guesser,
        Self::Copycat,
        Self::Silent,
        Self::YieldDelegator,
        Self::EvenDelegator,
    ];

    /// What it does, in a few words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Trainer => "trains further",
            Self::Idle => "stands still",
            Self::Copier => "copies the best",
            Self::NoisyCopier => "shadows with noise",
            Self::Splitter => "splits into eight",
            Self::Large => "one large model",
            Self::Colluder => "submits own text",
            Self::Submitter => "submits",
            Self::Forgetful => "forgets one in 20",
            Self::Liar => "names a false winner",
            Self::Silencer => "claims, stays silent",
            Self::Denier => "claims falsely",
            Self::Auditor => "audits",
            Self::Faulty => "errs one day in 100",
            Self::HalfAuditor => "audits half",
            Self::Guesser => "guesses findings",
            Self::Copycat => "copies findings",
            Self::Silent => "never audits",
            Self::YieldDelegator => "follows yield",
            Self::EvenDelegator => "backs all trainers",
        }
    }

    /// Whether it has models.
    pub const fn owns(self) -> bool {
        matches!(
            self,
            Self::Trainer
                | Self::Idle
                | Self::Copier
                | Self::NoisyCopier
                | Self::Splitter
                | Self::Large
                | Self::Colluder
        )
    }

    /// Whether it enters data for targets.
    pub const fn submits(self) -> bool {
        matches!(
            self,
            Self::Colluder
                | Self::Submitter
                | Self::Forgetful
                | Self::Liar
                | Self::Silencer
                | Self::Denier
        )
    }

    /// Whether it has a seat at first.
    pub const fn validates(self) -> bool {
        matches!(
            self,
            Self::Auditor
                | Self::Faulty
                | Self::HalfAuditor
                | Self::Guesser
                | Self::Copycat
                | Self::Silent
        )
    }

    /// Whether it puts its money behind others.
    pub const fn delegates(self) -> bool {
        matches!(self, Self::YieldDelegator | Self::EvenDelegator)
    }

    /// How many of them there are.
    const fn count(self, settings: &Settings) -> usize {
        match self {
            Self::Trainer => 20,
            Self::Idle | Self::Copier | Self::NoisyCopier => 4,
            Self::Submitter => 8,
            Self::Auditor => 9,
            Self::Silent => settings.silent,
            Self::YieldDelegator | Self::EvenDelegator => 2,
            _ => 1,
        }
    }
}

/// Somebody.
#[expect(missing_debug_implementations, reason = "it has a secret key")]
pub struct Actor {
    /// What it does.
    pub kind: Kind,
    /// Its key.
    pub key: SecretKey,
    /// Its account.
    pub address: Address,
    /// Its models.
    pub models: Vec<ModelId>,
}

/// Everybody, in the order of [`Kind::ALL`]; ids of models follow that order.
pub fn cast(settings: &Settings) -> Vec<Actor> {
    let kinds = Kind::ALL.into_iter();
    let kinds = kinds.flat_map(|kind| std::iter::repeat_n(kind, kind.count(settings)));
    let mut models = (1..).map(ModelId);
    let mut actors = Vec::new();
    for (at, kind) in (0_u64..).zip(kinds) {
        let seed = Hash::of_parts("economy actor", &[&at.to_le_bytes()]);
        let key = SecretKey::from_bytes(&seed.0);
        let count = match kind {
            Kind::Splitter => PARTS,
            _ => kind.owns().into(),
        };
        actors.push(Actor {
            kind,
            address: key.address(),
            key,
            models: (0..count).filter_map(|_| models.next()).collect(),
        });
    }
    actors
}

/// The rules of a real network with fewer targets, and a price that makes the rent of the small files
/// here that of the full architecture's.
pub fn params() -> Params {
    let network = Params::network();
    let scale = ArchitectureSpec::v1().weights_bytes_max() / FILE_BYTES;
    Params {
        halt_ms: 86_400_000,
        targets_per_epoch: 20,
        rent_price_per_mib_epoch: network.rent_price_per_mib_epoch.times(scale),
        ..network
    }
}

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
        architecture: ArchitectureSpec {
            name: "modelled".into(),
            layers: 1,
            dim: u32::try_from(DIM).unwrap_or(u32::MAX),
            heads: 1,
            ffn: 1_024,
            positions: 32,
            ..ArchitectureSpec::nano()
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

/// Chance for one part of the simulation, from the seed alone.
pub fn dice(settings: &Settings, purpose: &str) -> Dice {
    Dice::new(settings.seed, purpose)
}
