//! Who takes part, and how each actor behaves.

use serde::Serialize;
use soma_protocol::{Address, Hash, ModelId, SecretKey};

use crate::settings::Settings;

/// Models over which the splitter spreads its stake.
pub const PARTS: u64 = 8;

/// How an actor behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Owner: trains the best of the public weights and its own; publishes if it gains enough.
    Trainer,
    /// Owner: never trains, refreshes the same weights.
    Idle,
    /// Owner: publishes the best public weights of the last epoch, byte for byte.
    Copier,
    /// Owner: a copier that adds 1 % of noise and claims the specialization of the original.
    NoisyCopier,
    /// Owner: a trainer with four times the stake, split over eight models with the same weights.
    Splitter,
    /// Owner: a trainer with four times the stake behind one model.
    Large,
    /// Owner that also submits text sampled from its own model where that model is routed.
    Colluder,
    /// Submitter: searches documents, submits the closest, publishes what it claimed.
    Submitter,
    /// Submitter: misses one publication in twenty.
    Forgetful,
    /// Submitter: claims the wrong winner.
    Liar,
    /// Attacker: fills a target with false claims and publishes no data.
    Silencer,
    /// Attacker: fills a target with false claims and publishes data for only the first.
    Denier,
    /// Validator: performs all duties.
    Auditor,
    /// Validator: performs all duties, on a machine that is wrong in one epoch out of a hundred.
    Faulty,
    /// Validator: audits every other target.
    HalfAuditor,
    /// Validator: calls every claim valid without an audit.
    Guesser,
    /// Validator: copies the commitment of another.
    Copycat,
    /// Validator: holds files and never audits.
    Silent,
    /// Delegator: stakes on the models with the best recent yield.
    YieldDelegator,
    /// Delegator: spreads its stake over all trainers.
    EvenDelegator,
    /// Attacker: fills a target with claims whose data comes too long, and then too late.
    Latecomer,
    /// Attacker: fills a block with payments that fail, and outbids whoever offers the usual fee.
    Flooder,
    /// Attacker: stakes on the models that are about to win, and withdraws once it may.
    Sniper,
    /// Attacker: stakes as little as it can and leaves one base unit, to be rounded up by others.
    Inflater,
    /// Attacker: submits data that no model understands, and claims the least gain for it.
    Garbler,
    /// Attacker: searches documents for arbitrary directions, before targets are drawn.
    Searcher,
    /// Attacker: submits text sampled from public models.
    Sampler,
}

impl Kind {
    /// All kinds, in the order of the tables.
    pub const ALL: [Self; 27] = [
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
        Self::Latecomer,
        Self::Flooder,
        Self::Sniper,
        Self::Inflater,
        Self::Garbler,
        Self::Searcher,
        Self::Sampler,
    ];

    /// The name in tables and charts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Trainer => "trainer",
            Self::Idle => "idle",
            Self::Copier => "copier",
            Self::NoisyCopier => "noisy copier",
            Self::Splitter => "split stake",
            Self::Large => "large stake",
            Self::Colluder => "colluder",
            Self::Submitter => "submitter",
            Self::Forgetful => "forgetful submitter",
            Self::Liar => "false winner",
            Self::Garbler => "garbage submitter",
            Self::Searcher => "searcher",
            Self::Sampler => "sampler",
            Self::Silencer => "silent claimer",
            Self::Denier => "false claimer",
            Self::Auditor => "auditor",
            Self::Faulty => "faulty auditor",
            Self::HalfAuditor => "half auditor",
            Self::Guesser => "guessing validator",
            Self::Copycat => "copying validator",
            Self::Silent => "silent validator",
            Self::YieldDelegator => "yield delegator",
            Self::EvenDelegator => "even delegator",
            Self::Latecomer => "late claimer",
            Self::Flooder => "flooder",
            Self::Sniper => "sniper",
            Self::Inflater => "share inflater",
        }
    }

    /// Whether it owns models.
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

    /// Whether it submits data for targets.
    pub const fn submits(self) -> bool {
        matches!(
            self,
            Self::Colluder
                | Self::Submitter
                | Self::Forgetful
                | Self::Liar
                | Self::Garbler
                | Self::Searcher
                | Self::Sampler
                | Self::Silencer
                | Self::Denier
                | Self::Latecomer
        )
    }

    /// Whether it submits only in epochs in which attackers attack.
    pub const fn attacks_now_and_then(self) -> bool {
        matches!(self, Self::Liar | Self::Silencer | Self::Denier | Self::Latecomer | Self::Garbler)
    }

    /// Whether it has a seat at genesis.
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

    /// Whether it stakes on models of others.
    pub const fn delegates(self) -> bool {
        matches!(self, Self::YieldDelegator | Self::EvenDelegator | Self::Sniper | Self::Inflater)
    }

    /// Whether it takes part in economies with [`Settings::attackers`] only.
    ///
    /// [`Settings::attackers`]: crate::Settings::attackers
    const fn attacks_rules(self) -> bool {
        matches!(
            self,
            Self::Latecomer
                | Self::Flooder
                | Self::Sniper
                | Self::Inflater
                | Self::Garbler
                | Self::Searcher
                | Self::Sampler
        )
    }

    /// Number of actors of this kind.
    const fn count(self, settings: &Settings) -> usize {
        match self {
            _ if self.attacks_rules() && !settings.attackers => 0,
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

/// One participant.
#[expect(missing_debug_implementations, reason = "it has a secret key")]
pub struct Actor {
    /// How it behaves.
    pub kind: Kind,
    /// The key of its account.
    pub key: SecretKey,
    /// The address of its account.
    pub address: Address,
    /// Its models.
    pub models: Vec<ModelId>,
}

/// All actors, in the order of [`Kind::ALL`]; model ids follow that order.
pub fn cast(settings: &Settings) -> Vec<Actor> {
    let kinds = Kind::ALL.into_iter();
    let kinds = kinds.flat_map(|kind| std::iter::repeat_n(kind, kind.count(settings)));
    let mut models = (1..).map(ModelId);
    let mut actors = Vec::new();
    for (index, kind) in (0_u64..).zip(kinds) {
        let seed = Hash::of_parts("economy actor", &[&index.to_le_bytes()]);
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
