//! The demo's result, as tables and as JSON. It must never contain times or heights: one seed gives
//! one report.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use soma_protocol::Amount;

use crate::output::Output;

/// The result of `soma demo --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: &'static str,
    pub(crate) models: Vec<ModelLine>,
    pub(crate) files: Vec<FileLine>,
    pub(crate) targets: Vec<TargetLine>,
    pub(crate) accounts: Vec<AccountLine>,
    /// Epochs that ended.
    pub(crate) epochs: u32,
    pub(crate) supply_conserved: bool,
}

/// A specialist and what it won.
#[derive(Debug, Serialize)]
pub(crate) struct ModelLine {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) domain: String,
    pub(crate) weights_hash: String,
    pub(crate) stake_before: String,
    pub(crate) stake_after: String,
    /// Targets it won on the network.
    pub(crate) wins: u32,
    /// What it earned with them, in base units.
    pub(crate) reward: String,
}

/// A held-out file, and how well every model predicts it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FileLine {
    pub(crate) path: String,
    pub(crate) domain: String,
    pub(crate) winner_domain: String,
    /// Cross-entropy plus `SIGReg` in nats, by the model's domain.
    pub(crate) losses: BTreeMap<String, f64>,
    /// What the models compete in: cross-entropy in nats per byte, by the model's domain.
    pub(crate) cross_entropies: BTreeMap<String, f64>,
}

/// A target and its result.
#[derive(Debug, Serialize)]
pub(crate) struct TargetLine {
    pub(crate) id: u32,
    pub(crate) epoch: u32,
    pub(crate) routed: Vec<u32>,
    /// In base units.
    pub(crate) reward: String,
    /// `None` unless it was won.
    pub(crate) winner_model: Option<u32>,
    /// Name of the submitter's account.
    pub(crate) submitter: Option<String>,
    /// The file that won it.
    pub(crate) file: Option<String>,
    /// Squared distance of the winning document's direction.
    pub(crate) distance: Option<String>,
    /// By how much the winning model predicts that document better than counting does, in nats per
    /// byte.
    pub(crate) gain: Option<f64>,
    pub(crate) paid_submitter: Option<String>,
    pub(crate) paid_model: Option<String>,
}

/// An account's balance, in base units.
#[derive(Debug, Serialize)]
pub(crate) struct AccountLine {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) balance_before: String,
    pub(crate) balance_after: String,
}

/// Columns of a terminal that every table fits into.
const COLUMNS: usize = 80;

impl Report {
    /// Number of files won by the specialist of their domain, and of all files.
    pub(crate) fn domain_wins(&self) -> (usize, usize) {
        let wins = self.files.iter().filter(|file| file.winner_domain == file.domain).count();
        (wins, self.files.len())
    }

    /// The result as text.
    pub(crate) fn tables(&self, output: &Output) -> String {
        let sections = [
            (
                "Cross-entropy of held-out documents (nats per byte; lower is better)",
                self.cross_entropies(output),
            ),
            (
                "Targets: best prediction picks the model, closest of what it understands wins",
                self.target_table(output),
            ),
            ("Balances: a win pays half to the submitter and half to the model", self.balances()),
        ];
        let mut text = String::new();
        for (heading, table) in sections {
            let _ = write!(text, "\n{}\n{table}", output.strong(heading));
        }
        text
    }

    fn cross_entropies(&self, output: &Output) -> String {
        let domains: Vec<&String> = self.models.iter().map(|model| &model.domain).collect();
        // What the other columns leave of 80.
        let room = COLUMNS.saturating_sub(26 + 9 * domains.len()).max(12);
        let width = self.files.iter().map(|file| file.path.len()).max().unwrap_or(4).min(room);
        let mut text = format!("  {:width$}  {:10}", "file", "domain");
        for domain in &domains {
            let _ = write!(text, " {:>8}", tail(domain, 8));
        }
        text += "  winner\n";
        for file in &self.files {
            let (path, domain) = (tail(&file.path, width), tail(&file.domain, 10));
            let _ = write!(text, "  {path:width$}  {domain:10}");
            for domain in &domains {
                let nats = file.cross_entropies.get(*domain);
                let nats = nats.map_or("-".into(), |nats| format!("{nats:.3}"));
                let cell = format!("{nats:>8}");
                let best = **domain == file.winner_domain;
                let _ = write!(text, " {}", if best { output.good(cell) } else { cell });
            }
            let mark = if file.winner_domain == file.domain { "" } else { "*" };
            let _ = writeln!(text, "  {}{mark}", tail(&file.winner_domain, 9));
        }
        let (wins, all) = self.domain_wins();
        let _ = writeln!(
            text,
            "  {wins} of {all} documents were won by the specialist of their domain{}",
            if wins == all { "." } else { " (*: not so)." }
        );
        text
    }

    fn target_table(&self, output: &Output) -> String {
        let name = |id: u32| {
            let model = self.models.iter().find(|model| model.id == id);
            model.map_or_else(|| id.to_string(), |model| tail(&model.name, 10))
        };
        let mut text = format!(
            "  {:>2} {:>5}  {:10} {:>8} {:>6} {:>13}  file\n",
            "id", "epoch", "winner", "distance", "gain", "reward"
        );
        for target in &self.targets {
            let routed: Vec<String> = target.routed.iter().map(|id| name(*id)).collect();
            let winner = target.winner_model.map_or("-".into(), name);
            let file = target.file.as_deref().unwrap_or("-");
            let _ = writeln!(
                text,
                "  {:>2} {:>5}  {} {:>8} {:>6} {:>13}  {}",
                target.id,
                target.epoch,
                output.good(format!("{winner:10}")),
                target.distance.as_deref().map_or("-".into(), relative),
                target.gain.map_or("-".into(), |gain| format!("{gain:.3}")),
                amount(&target.reward),
                tail(file, COLUMNS - 54),
            );
            let submitter = target.submitter.as_deref().unwrap_or("nobody");
            let _ = writeln!(
                text,
                "            routed to {}; submitted by {}",
                routed.join(" "),
                tail(submitter, 20)
            );
        }
        text += "  Distance: 0 is at the target, 1.000 is at right angles to it.\n";
        text +=
            "  Gain: nats per byte by which the model predicts the file better than counting.\n";
        text
    }

    fn balances(&self) -> String {
        let mut text = format!("  {:20} {:>18} {:>18} {:>18}\n", "", "before", "after", "change");
        let mut line = |name: &str, before: &str, after: &str| {
            let _ = writeln!(
                text,
                "  {:20} {:>18} {:>18} {:>18}",
                tail(name, 20),
                amount(before),
                amount(after),
                change(before, after)
            );
        };
        for account in &self.accounts {
            line(&account.name, &account.balance_before, &account.balance_after);
        }
        for model in &self.models {
            line(&format!("{} stake", model.name), &model.stake_before, &model.stake_after);
        }
        text +=
            "  An owner pays its model's stake and earns a commission on the model's rewards.\n";
        let supply = if self.supply_conserved { "conserved exactly" } else { "NOT CONSERVED" };
        let _ = writeln!(text, "  {} epochs. Supply: {supply}.", self.epochs);
        text
    }
}

/// Base units as SOMA.
fn amount(base_units: &str) -> String {
    base_units.parse().map_or_else(|_| base_units.to_owned(), |units| Amount(units).to_string())
}

fn change(before: &str, after: &str) -> String {
    match (before.parse::<u64>(), after.parse::<u64>()) {
        (Ok(before), Ok(after)) if after >= before => {
            format!("+{}", Amount(after - before))
        }
        (Ok(before), Ok(after)) => format!("-{}", Amount(before - after)),
        _ => "?".into(),
    }
}

/// A squared distance as text.
fn relative(distance: &str) -> String {
    let parsed = distance.parse().map(soma_sdk::figures::relative_distance);
    parsed.map_or_else(|_| distance.to_owned(), |share| format!("{share:.3}"))
}

/// The end of a long path or name.
pub(super) fn tail(path: &str, width: usize) -> String {
    let characters = path.chars().count();
    if characters <= width {
        return path.to_owned();
    }
    let kept: String = path.chars().skip(characters - (width - 2)).collect();
    format!("..{kept}")
}
