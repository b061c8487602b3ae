//! What came of an economy: numbers for programs and tables for people. Money is in SOMA.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use soma_protocol::Amount;

use crate::Error;
use crate::actors::Kind;
use crate::economy::{Economy, Sample};
use crate::ledger::{Account, Attack, Record, soma};
use crate::owners::noise_wins;
use crate::rng::stream;
use crate::settings::Settings;

/// What those of one kind have made of what they had.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The kind.
    pub kind: Kind,
    /// How many there are.
    pub count: usize,
    /// What each had at genesis.
    pub first: f64,
    /// What each has at the end.
    pub last: f64,
    /// What each gained on the network in an epoch, fees, rent and burns taken off.
    pub gain: f64,
    /// What each spent in an epoch outside the network.
    pub spent: f64,
    /// What each paid for rent in an epoch.
    pub rent: f64,
    /// What each lost in all, bonds and slashes.
    pub burned: f64,
    /// Gain less spending, in an epoch, for every 1,000 SOMA it had.
    pub net_per_1000: f64,
}

/// How those models have done whose owners are of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Models {
    /// The kind of owner.
    pub kind: Kind,
    /// How many models.
    pub count: usize,
    /// Share of the stake behind all models, mean over the epochs.
    pub stake_share: f64,
    /// Share of all places in targets.
    pub slot_share: f64,
    /// Share of all wins.
    pub win_share: f64,
    /// Wins for each place.
    pub wins_per_slot: f64,
    /// Their share of what all models were paid, as a multiple of their share of the stake.
    pub pay_to_stake: f64,
}

/// One model, for the picture of routing.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// The kind of owner.
    pub kind: Kind,
    /// Mean share of the stake.
    pub stake_share: f64,
    /// Share of the places in targets.
    pub slot_share: f64,
}

/// What denying targets cost.
#[derive(Clone, Debug, Serialize)]
pub struct Griefing {
    /// The kind of attacker.
    pub kind: Kind,
    /// Targets attacked.
    pub targets: u64,
    /// Targets denied.
    pub denied: u64,
    /// Rewards denied to others.
    pub denied_soma: f64,
    /// What the attacker lost.
    pub burned_soma: f64,
    /// Lost for each SOMA denied.
    pub cost: f64,
}

/// All that came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How many epochs.
    pub epochs: u32,
    /// The seed.
    pub seed: u64,
    /// By kind.
    pub rows: Vec<Row>,
    /// Models by kind of owner.
    pub models: Vec<Models>,
    /// Models one by one.
    pub places: Vec<Place>,
    /// Attackers.
    pub griefing: Vec<Griefing>,
    /// On what share of documents a copy beats its original that has 0.1 % of noise, and 1 %.
    pub noise_wins: [f64; 2],
    /// Over time.
    pub samples: Vec<Sample>,
    /// Targets won.
    pub settled: u64,
    /// Targets nobody won.
    pub returned: u64,
    /// Paid for targets.
    pub paid_targets: f64,
    /// Paid to validators.
    pub paid_validators: f64,
    /// Burned in all.
    pub burned: f64,
    /// What the reserve still has.
    pub reserve: f64,
    /// Transactions executed.
    pub transactions: u64,
    /// How many of them were refused, by code.
    pub refused: BTreeMap<&'static str, u64>,
}

/// Simulates an economy and reports what came of it.
///
/// # Errors
/// Those of [`Economy::run`].
pub fn run(settings: &Settings) -> Result<Report, Error> {
    Ok(Report::of(settings, &Economy::run(settings)?))
}

impl Report {
    /// The report of an economy that has been simulated with these settings.
    fn of(settings: &Settings, economy: &Economy) -> Self {
        let ledger = &economy.ledger;
        let supply = soma_protocol::read::supply(&economy.chain.state);
        Self {
            epochs: settings.epochs,
            seed: settings.seed,
            rows: rows(economy),
            models: models(economy),
            places: places(economy),
            griefing: [Kind::Silencer, Kind::Denier]
                .into_iter()
                .filter_map(|kind| griefing(economy, kind))
                .collect(),
            noise_wins: [0.1, 1.0].map(|percent| {
                let mut rng = stream(settings.seed, "noise");
                noise_wins(percent, settings.params.loss_margin_q32, &mut rng)
            }),
            samples: economy.samples.clone(),
            settled: ledger.targets.0,
            returned: ledger.targets.1,
            paid_targets: ledger.paid.0,
            paid_validators: ledger.paid.1,
            burned: soma(supply.burned),
            reserve: soma(supply.reserve),
            transactions: economy.chain.transactions,
            refused: economy.chain.refused.clone(),
        }
    }

    /// The row of a kind.
    pub fn row(&self, kind: Kind) -> Option<&Row> {
        self.rows.iter().find(|row| row.kind == kind)
    }

    /// The models of a kind of owner.
    pub fn models_of(&self, kind: Kind) -> Option<&Models> {
        self.models.iter().find(|row| row.kind == kind)
    }

    /// What a kind gains, less what it spends, in an epoch for every 1,000 SOMA.
    pub fn net(&self, kind: Kind) -> f64 {
        self.row(kind).map_or(0.0, |row| row.net_per_1000)
    }

    /// What models of a kind were paid, as a multiple of their share of stake.
    pub fn pay_to_stake(&self, kind: Kind) -> f64 {
        self.models_of(kind).map_or(0.0, |row| row.pay_to_stake)
    }

    /// What a kind of attacker lost for each SOMA that it denied.
    pub fn griefing_cost(&self, kind: Kind) -> f64 {
        let mut all = self.griefing.iter();
        all.find(|one| one.kind == kind).map_or(0.0, |one| one.cost)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a simulation")]
fn rows(economy: &Economy) -> Vec<Row> {
    let ledger = &economy.ledger;
    let epochs = f64::from(ledger.epochs);
    let row = |kind| {
        let places = ledger.places_of(&economy.actors, kind);
        let accounts: Vec<&Account> = places.map(|at| &ledger.accounts[at]).collect();
        let count = accounts.len();
        let sum = |what: fn(&Account) -> f64| accounts.iter().map(|one| what(one)).sum::<f64>();
        let each = |what| sum(what) / count as f64;
        let (gain, spent) = (each(|one| one.worth - one.first), each(|one| one.spent));
        let net = sum(|one| one.worth - one.first - one.spent);
        (count > 0).then(|| Row {
            kind,
            count,
            first: each(|one| one.first),
            last: each(|one| one.worth),
            gain: gain / epochs,
            spent: spent / epochs,
            rent: each(|one| one.rent) / epochs,
            burned: each(|one| one.burned),
            net_per_1000: 1_000.0 * net / sum(|one| one.worth_epochs),
        })
    };
    Kind::ALL.into_iter().filter_map(row).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a simulation")]
fn models(economy: &Economy) -> Vec<Models> {
    let ledger = &economy.ledger;
    let all: Vec<&Record> = ledger.models.values().collect();
    let slots: u64 = all.iter().map(|one| one.slots).sum();
    let wins: u64 = all.iter().map(|one| one.wins).sum();
    let earned: f64 = all.iter().map(|one| one.earned).sum();
    let row = |kind: Kind| {
        let owners = ledger.places_of(&economy.actors, kind);
        let ids = owners.flat_map(|at| &economy.actors[at].models);
        let records: Vec<&Record> = ids.filter_map(|id| ledger.models.get(id)).collect();
        let stakes: f64 = records.iter().map(|one| one.stake_shares).sum();
        let stake_share = stakes / f64::from(ledger.epochs);
        let (their_slots, their_wins): (u64, u64) = (
            records.iter().map(|one| one.slots).sum(),
            records.iter().map(|one| one.wins).sum(),
        );
        let their_pay: f64 = records.iter().map(|one| one.earned).sum();
        (!records.is_empty()).then(|| Models {
            kind,
            count: records.len(),
            stake_share,
            slot_share: their_slots as f64 / slots as f64,
            win_share: their_wins as f64 / wins.max(1) as f64,
            wins_per_slot: their_wins as f64 / their_slots.max(1) as f64,
            pay_to_stake: their_pay / earned.max(f64::MIN_POSITIVE) / stake_share,
        })
    };
    Kind::ALL.into_iter().filter_map(row).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a simulation")]
fn places(economy: &Economy) -> Vec<Place> {
    let ledger = &economy.ledger;
    let slots: u64 = ledger.models.values().map(|one| one.slots).sum();
    let actors = economy.actors.iter();
    let ids = actors.flat_map(|actor| actor.models.iter().map(|id| (actor.kind, id)));
    ids.filter_map(|(kind, id)| {
        let record = ledger.models.get(id)?;
        Some(Place {
            kind,
            stake_share: record.stake_shares / f64::from(ledger.epochs),
            slot_share: record.slots as f64 / slots as f64,
        })
    })
    .collect()
}

fn griefing(economy: &Economy, kind: Kind) -> Option<Griefing> {
    let ledger = &economy.ledger;
    let places: Vec<usize> = ledger.places_of(&economy.actors, kind).collect();
    let mut sum = Attack::default();
    for attack in places.iter().filter_map(|at| ledger.attacks.get(at)) {
        sum.denied += attack.denied;
        sum.denied_soma += attack.denied_soma;
        sum.burned_soma += attack.burned_soma;
    }
    let attacked = economy.submitters.attacks.values();
    Some(Griefing {
        kind,
        targets: u64::try_from(attacked.filter(|at| places.contains(at)).count()).ok()?,
        denied: sum.denied,
        denied_soma: sum.denied_soma,
        burned_soma: sum.burned_soma,
        cost: sum.burned_soma / sum.denied_soma.max(soma(Amount(1))),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} epochs, {} transactions; {} targets won, {} returned",
            self.epochs, self.transactions, self.settled, self.returned
        )?;
        writeln!(
            f,
            "SOMA: {:.0} paid for targets, {:.0} to validators, {:.0} burned, {:.0} in reserve\n",
            self.paid_targets, self.paid_validators, self.burned, self.reserve
        )?;
        self.people(f)?;
        self.competition(f)?;
        self.attacks(f)
    }
}

impl Report {
    fn people(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<22}{:>4}{:>9}{:>9}{:>9}{:>8}{:>8}{:>9}{:>9}",
            "who", "", "at first", "at last", "gain", "rent", "spent", "burned", "net"
        )?;
        writeln!(
            f,
            "{:<22}{:>4}{:>9}{:>9}{:>9}{:>8}{:>8}{:>9}{:>9}",
            "", "", "SOMA", "SOMA", "/epoch", "/epoch", "/epoch", "in all", "per 1000"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<22}{:>4}{:>9.0}{:>9.0}{:>9.2}{:>8.2}{:>8.2}{:>9.0}{:>9.3}",
                row.kind.words(),
                row.count,
                row.first,
                row.last,
                row.gain,
                row.rent,
                row.spent,
                row.burned,
                row.net_per_1000
            )?;
        }
        Ok(())
    }

    fn competition(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<22}{:>4}{:>9}{:>9}{:>9}{:>12}{:>13}",
            "models", "", "stake", "routed", "wins", "wins/place", "pay / stake"
        )?;
        for row in &self.models {
            writeln!(
                f,
                "{:<22}{:>4}{:>8.2}%{:>8.2}%{:>8.2}%{:>12.3}{:>13.2}",
                row.kind.words(),
                row.count,
                row.stake_share * 100.0,
                row.slot_share * 100.0,
                row.win_share * 100.0,
                row.wins_per_slot,
                row.pay_to_stake
            )?;
        }
        let [little, much] = self.noise_wins.map(|share| share * 100.0);
        writeln!(
            f,
            "\na copy beats its original on {little:.1}% of documents with 0.1% of noise, \
             {much:.1}% with 1%"
        )
    }

    fn attacks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.griefing {
            writeln!(
                f,
                "{:<22}attacked {}, denied {} worth {:.0}, lost {:.0}: {:.2} for each 1 denied",
                one.kind.words(),
                one.targets,
                one.denied,
                one.denied_soma,
                one.burned_soma,
                one.cost
            )?;
        }
        Ok(())
    }
}
