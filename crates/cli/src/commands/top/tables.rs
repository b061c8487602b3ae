//! Models, targets and what belongs to an account, as tables that fit into the terminal: what is
//! less important is left out where there is no room.

use std::fmt::Write as _;

use serde::Serialize;
use soma_protocol::Amount;
use soma_sdk::api::text::Text;
use soma_sdk::api::{Account, Model, Target};
use soma_sdk::at_stake::Due;
use soma_sdk::figures::relative_distance;

use crate::commands::model::status;
use crate::commands::target::state;
use crate::output::Output;

/// Columns from which a table has all of its columns.
const WIDE: usize = 72;
/// The most models of an account that are asked for.
pub(super) const OWN_MAX: usize = 16;
/// Columns of a name.
const NAME: usize = 16;

/// The models, those with most wins first.
#[derive(Serialize)]
pub(super) struct Models {
    models: Vec<Model>,
}

impl Models {
    pub(super) fn new(mut models: Vec<Model>) -> Self {
        models.sort_by_key(|model| std::cmp::Reverse((model.wins, model.stake.0)));
        Self { models }
    }

    pub(super) fn line(&self) -> String {
        let first = self.models.first();
        let first = first.map_or_else(String::new, |model| {
            format!(", most wins: {} {} ({})", model.id, short(&model.name), model.wins)
        });
        format!("{} models{first}", self.models.len())
    }

    pub(super) fn page(&self, output: &Output, columns: usize) -> String {
        table(&self.models, output, columns)
    }
}

fn table(models: &[Model], output: &Output, columns: usize) -> String {
    let wide = columns >= WIDE;
    let rest = if wide { "  stake        earned       status" } else { "  status" };
    let head = format!("{:>5} {:NAME$} {:>5}{rest}", "model", "name", "wins");
    let rows = models.iter().map(|model| row(model, wide));
    std::iter::once(output.strong(head)).chain(rows).collect::<Vec<_>>().join("\n")
}

fn row(model: &Model, wide: bool) -> String {
    let mut row = format!("{:>5} {:NAME$} {:>5}", model.id, short(&model.name), model.wins);
    if wide {
        let (stake, earned) = (Amount(model.stake.0), Amount(model.earned.0));
        let _infallible = write!(row, "  {:<12} {:<12}", stake.to_string(), earned.to_string());
    } else {
        row.push_str("  ");
    }
    row.push_str(&status(model.status));
    row
}

/// The beginning of a name.
fn short(name: &str) -> String {
    console::truncate_str(name, NAME, "\u{2026}").into_owned()
}

/// The targets of an epoch.
#[derive(Serialize)]
pub(super) struct Targets {
    pub(super) epoch: u32,
    pub(super) targets: Vec<Target>,
}

impl Targets {
    pub(super) fn line(&self) -> String {
        let entered = self.targets.iter().filter(|target| !target.candidates.is_empty()).count();
        format!("epoch {}  {} targets, {entered} with candidates", self.epoch, self.targets.len())
    }

    pub(super) fn page(&self, columns: usize) -> String {
        if self.targets.is_empty() {
            return format!("epoch {} has no targets yet", self.epoch);
        }
        let head = format!("epoch {}\n\ntarget  closest  model  state", self.epoch);
        let row = |target: &Target| {
            let best = target.candidates.first();
            let closest = best.map_or_else(
                || "-".into(),
                |best| format!("{:.4}", relative_distance(best.distance.0)),
            );
            let model = best.map_or_else(|| "-".into(), |best| best.model.to_string());
            let state = state(target);
            let mut row = format!("{:>6}  {closest:>7}  {model:>5}  {state}", target.id);
            if columns >= WIDE {
                let routed = target.routed.iter().map(|routed| routed.model.to_string());
                let routed = routed.collect::<Vec<_>>().join(" ");
                let _infallible = write!(row, "  (models {routed})");
            }
            row
        };
        let rows = self.targets.iter().map(row);
        std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
    }
}

/// An account, its models, and what the keys of this machine still have to send.
#[derive(Serialize)]
pub(super) struct Mine {
    pub(super) account: Account,
    pub(super) models: Vec<Model>,
    pub(super) due: Vec<Due>,
    pub(super) now_ms: Text<u64>,
}

impl Mine {
    pub(super) fn line(&self) -> String {
        let balance = Amount(self.account.balance.0);
        let (models, due) = (self.account.models.len(), self.due.len());
        format!("{}  {balance} SOMA  {models} models  {due} due", self.account.address)
    }

    pub(super) fn page(&self, output: &Output, columns: usize) -> String {
        let account = &self.account;
        let mut page = format!(
            "balance   {} SOMA\naccount   {}\n",
            output.strong(Amount(account.balance.0)),
            account.address
        );
        let corpora = [("corpus", account.corpus), ("next", account.next_corpus)];
        for (name, corpus) in corpora {
            if let Some(corpus) = corpus {
                let (leaves, from) = (corpus.leaves, corpus.from_epoch);
                let _infallible =
                    writeln!(page, "{name:<9} {leaves} documents, from epoch {from} on");
            }
        }
        for due in &self.due {
            let left = due.until_ms.map(|until| until.0.saturating_sub(self.now_ms.0) / 1_000);
            let left = left.map_or_else(String::new, |left| format!(", {left} s left"));
            let _infallible = writeln!(page, "due       {due}{left}");
        }
        if self.due.is_empty() {
            page.push_str("due       nothing from the keys of this home\n");
        }
        if !self.models.is_empty() {
            page.push('\n');
            page.push_str(&table(&self.models, output, columns));
        }
        let more = account.models.len().saturating_sub(self.models.len());
        if more > 0 {
            let _infallible = write!(page, "\nand {more} more");
        }
        page
    }
}
