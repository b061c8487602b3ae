//! The results of an economy: numbers for programs, tables for people. All amounts are in SOMA.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use soma_protocol::{Amount, read};

use crate::Error;
use crate::actors::Kind;
use crate::economy::{Economy, Sample};
use crate::ledger::{Account, Attack, Record, soma};
use crate::owners::noise_wins;
use crate::rng::stream;
use crate::settings::Settings;

/// The results of all actors of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The kind.
    pub kind: Kind,
    /// Number of actors.
    pub count: usize,
    /// Worth of each at genesis.
    pub first: f64,
    /// Worth of each at the end.
    pub last: f64,
    /// Gain of each per epoch, after fees, rent and burns.
    pub gain: f64,
    /// Spending of each per epoch, outside the network.
    pub spent: f64,
    /// Rent paid by each per epoch.
    pub rent: f64,
    /// Bonds and stakes of each that were burned.
    pub burned: f64,
    /// Gain less spending per epoch, for every 1,000 SOMA of worth.
    pub net_per_1000: f64,
}

/// The results of all models whose owners are of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Models {
    /// The kind of owner.
    pub kind: Kind,
    /// Number of models.
    pub count: usize,
    /// Share of the stake on all models, mean over the epochs.
    pub stake_share: f64,
    /// Share of all routes to targets.
    pub slot_share: f64,
    /// Share of all wins.
    pub win_share: f64,
    /// Wins per route.
    pub wins_per_slot: f64,
    /// Share of all rewards to models, as a multiple of the share of stake.
    pub pay_to_stake: f64,
}

/// One model, for the chart of routing.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// The kind of owner.
    pub kind: Kind,
    /// Mean share of the stake.
    pub stake_share: f64,
    /// Share of all routes to targets.
    pub slot_share: f64,
}

/// What denying targets costs.
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
    /// Bonds that the attacker lost.
    pub burned_soma: f64,
    /// SOMA lost per SOMA denied.
    pub cost: f64,
}

/// All results.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Number of epochs.
    pub epochs: u32,
    /// The seed.
    pub seed: u64,
    /// By kind of actor.
    pub rows: Vec<Row>,
    /// Models by kind of owner.
    pub models: Vec<Models>,
    /// Every model.
    pub places: Vec<Place>,
    /// Attackers.
    pub griefing: Vec<Griefing>,
    /// Shares of documents on which copies with 0.1 % and with 1 % of noise beat their original.
    pub noise_wins: [f64; 2],
    /// Net worth over time.
    pub samples: Vec<Sample>,
    /// Targets won.
    pub settled: u64,
    /// Targets that nobody won.
    pub returned: u64,
    /// Paid for targets.
    pub paid_targets: f64,
    /// Paid to validators.
    pub paid_validators: f64,
    /// Burned in total.
    pub burned: f64,
    /// Remaining reserve.
    pub reserve: f64,
    /// Transactions executed.
    pub transactions: u64,
    /// How many of them were rejected, by error code.
    pub rejected: BTreeMap<&'static str, u64>,
}

/// Simulates an economy and reports its results.
///
/// # Errors
/// Those of [`Economy::run`].
pub fn run(settings: &Settings) -> Result<Report, Error> {
    Ok(Report::of(settings, &Economy::run(settings)?))
}

impl Report {
    /// The results of an economy simulated with these settings.
    fn of(settings: &Settings, economy: &Economy) -> Self {
        let ledger = &economy.ledger;
        let supply = read::supply(&economy.chain.state);
        let attackers = [Kind::Silencer, Kind::Denier, Kind::Latecomer];
        let attackers = attackers
            .into_iter()
            .filter(|kind| economy.actors.iter().any(|actor| actor.kind == *kind));
        Self {
            epochs: settings.epochs,
            seed: settings.seed,
            rows: rows(economy),
            models: models(economy),
            places: places(economy),
            griefing: attackers.map(|kind| griefing(economy, kind)).collect(),
            noise_wins: [0.1, 1.0].map(|percent| {
                let mut rng = stream(settings.seed, "noise");
                noise_wins(percent, settings.params.loss_margin_q32, &mut rng)
            }),
            samples: economy.samples.clone(),
            settled: ledger.settled,
            returned: ledger.returned,
            paid_targets: ledger.paid_targets,
            paid_validators: ledger.paid_validators,
            burned: soma(supply.burned),
            reserve: soma(supply.reserve),
            transactions: economy.chain.transactions,
            rejected: economy.chain.rejected.clone(),
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

    /// Gain less spending of a kind per epoch, for every 1,000 SOMA of worth.
    pub fn net(&self, kind: Kind) -> f64 {
        self.row(kind).map_or(0.0, |row| row.net_per_1000)
    }

    /// Rewards to models of a kind, as a multiple of their share of stake.
    pub fn pay_to_stake(&self, kind: Kind) -> f64 {
        self.models_of(kind).map_or(0.0, |row| row.pay_to_stake)
    }

    /// What a kind of attacker lost per SOMA denied.
    pub fn griefing_cost(&self, kind: Kind) -> f64 {
        let mut rows = self.griefing.iter();
        rows.find(|row| row.kind == kind).map_or(0.0, |row| row.cost)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a simulation")]
fn rows(economy: &Economy) -> Vec<Row> {
    let ledger = &economy.ledger;
    let epochs = f64::from(ledger.epochs);
    let row = |kind| {
        let accounts: Vec<&Account> = ledger.accounts_of(&economy.actors, kind).collect();
        let count = accounts.len();
        let sum = |of: fn(&Account) -> f64| accounts.iter().map(|account| of(account)).sum::<f64>();
        let mean = |of| sum(of) / count as f64;
        let net = sum(|account| account.worth - account.first - account.spent);
        (count > 0).then(|| Row {
            kind,
            count,
            first: mean(|account| account.first),
            last: mean(|account| account.worth),
            gain: mean(|account| account.worth - account.first) / epochs,
            spent: mean(|account| account.spent) / epochs,
            rent: mean(|account| account.rent) / epochs,
            burned: mean(|account| account.burned),
            net_per_1000: 1_000.0 * net / sum(|account| account.worth_epochs),
        })
    };
    Kind::ALL.into_iter().filter_map(row).collect()
}

/// The records of all models whose owners are of one kind.
fn records(economy: &Economy, kind: Kind) -> Vec<&Record> {
    let owners = economy.actors.iter().filter(|actor| actor.kind == kind);
    let ids = owners.flat_map(|actor| &actor.models);
    ids.filter_map(|id| economy.ledger.models.get(id)).collect()
}

/// Routes, wins and rewards of some models.
#[expect(clippy::cast_precision_loss, reason = "counts of a simulation")]
fn totals<'a>(records: impl IntoIterator<Item = &'a Record>) -> [f64; 3] {
    let values = records.into_iter();
    values.fold([0.0; 3], |[slots, wins, earned], record| {
        let (slots, wins) = (slots + record.slots as f64, wins + record.wins as f64);
        [slots, wins, earned + record.earned]
    })
}

fn models(economy: &Economy) -> Vec<Models> {
    let ledger = &economy.ledger;
    let [all_slots, all_wins, all_earned] = totals(ledger.models.values());
    let row = |kind: Kind| {
        let records = records(economy, kind);
        let [slots, wins, earned] = totals(records.iter().copied());
        let stakes: f64 = records.iter().map(|record| record.stake_shares).sum();
        let stake_share = stakes / f64::from(ledger.epochs);
        (!records.is_empty()).then(|| Models {
            kind,
            count: records.len(),
            stake_share,
            slot_share: slots / all_slots,
            win_share: wins / all_wins.max(1.0),
            wins_per_slot: wins / slots.max(1.0),
            pay_to_stake: earned / all_earned.max(f64::MIN_POSITIVE) / stake_share,
        })
    };
    Kind::ALL.into_iter().filter_map(row).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a simulation")]
fn places(economy: &Economy) -> Vec<Place> {
    let ledger = &economy.ledger;
    let [all_slots, ..] = totals(ledger.models.values());
    let place = |kind| {
        let records = records(economy, kind).into_iter();
        records.map(move |record| Place {
            kind,
            stake_share: record.stake_shares / f64::from(ledger.epochs),
            slot_share: record.slots as f64 / all_slots,
        })
    };
    Kind::ALL.into_iter().flat_map(place).collect()
}

fn griefing(economy: &Economy, kind: Kind) -> Griefing {
    let is_attacker = |index: &usize| economy.actors[*index].kind == kind;
    let mut total = Attack::default();
    for (_, attack) in economy.ledger.attacks.iter().filter(|(index, _)| is_attacker(index)) {
        total.denied += attack.denied;
        total.denied_soma += attack.denied_soma;
        total.burned_soma += attack.burned_soma;
    }
    let attacked = economy.submitters.attacks.values();
    Griefing {
        kind,
        targets: attacked.filter(|index| is_attacker(index)).count() as u64,
        denied: total.denied,
        denied_soma: total.denied_soma,
        burned_soma: total.burned_soma,
        cost: total.burned_soma / total.denied_soma.max(soma(Amount(1))),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} epochs, {} transactions; {} targets won, {} not",
            self.epochs, self.transactions, self.settled, self.returned
        )?;
        writeln!(
            f,
            "SOMA: {:.0} paid for targets, {:.0} to validators, {:.0} burned, {:.0} in reserve\n",
            self.paid_targets, self.paid_validators, self.burned, self.reserve
        )?;
        self.write_rows(f)?;
        self.write_models(f)?;
        self.write_griefing(f)
    }
}

impl Report {
    fn write_rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<22}{:>4}{:>9}{:>9}{:>9}{:>8}{:>8}{:>9}{:>9}",
            "actors", "", "first", "last", "gain", "rent", "spent", "burned", "net"
        )?;
        writeln!(
            f,
            "{:<22}{:>4}{:>9}{:>9}{:>9}{:>8}{:>8}{:>9}{:>9}",
            "", "", "SOMA", "SOMA", "/epoch", "/epoch", "/epoch", "total", "per 1000"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<22}{:>4}{:>9.0}{:>9.0}{:>9.2}{:>8.2}{:>8.2}{:>9.0}{:>9.3}",
                row.kind.label(),
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

    fn write_models(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<22}{:>4}{:>9}{:>9}{:>9}{:>12}{:>13}",
            "models", "", "stake", "routed", "wins", "wins/route", "pay / stake"
        )?;
        for row in &self.models {
            writeln!(
                f,
                "{:<22}{:>4}{:>8.2}%{:>8.2}%{:>8.2}%{:>12.3}{:>13.2}",
                row.kind.label(),
                row.count,
                row.stake_share * 100.0,
                row.slot_share * 100.0,
                row.win_share * 100.0,
                row.wins_per_slot,
                row.pay_to_stake
            )?;
        }
        let [weak, strong] = self.noise_wins.map(|share| share * 100.0);
        writeln!(
            f,
            "\na noisy copy beats its original on {weak:.1}% of documents with 0.1% noise, \
             {strong:.1}% with 1%"
        )
    }

    fn write_griefing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.griefing {
            writeln!(
                f,
                "{:<22}attacked {}, denied {} worth {:.0}, lost {:.0}: {:.2} per SOMA denied",
                row.kind.label(),
                row.targets,
                row.denied,
                row.denied_soma,
                row.burned_soma,
                row.cost
            )?;
        }
        Ok(())
    }
}
