//! Who takes part, and how each of them behaves.

use serde::Serialize;
use soma_protocol::{Address, Hash, ModelId, SecretKey};

/// Models among which an owner splits the stake of a large one.
pub const PARTS: u64 = 8;

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
            Self::Guesser => "guesses verdicts",
            Self::Copycat => "copies verdicts",
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
    const fn count(self, silent: usize) -> usize {
        match self {
            Self::Trainer => 20,
            Self::Idle | Self::Copier | Self::NoisyCopier => 4,
            Self::Submitter => 8,
            Self::Auditor => 9,
            Self::Silent => silent,
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
pub fn cast(silent: usize) -> Vec<Actor> {
    let kinds = Kind::ALL.into_iter();
    let kinds = kinds.flat_map(|kind| std::iter::repeat_n(kind, kind.count(silent)));
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
