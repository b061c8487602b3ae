//! `soma submit`: commits data, scores it with the assigned models, and submits the closest for
//! each target. The data must never leave this machine unless it wins.

use std::path::PathBuf;

use serde::Serialize;
use soma_compete::{Library, Plan, ScoreCache, Scoring, Session, Submitted, Submitter};
use soma_protocol::Amount;
use soma_sdk::figures::nats;

use crate::data::{self, LeftOut};
use crate::error::Result;
use crate::global::Global;
use crate::home::Home;
use crate::model_flags::ScoringArgs;
use crate::network;
use crate::output::Output;

/// Score data with the assigned models and submit it for targets.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma submit notes/ --watch\n\n\
                  A document counts from the epoch after the one in which it was first \
                  submitted:\nuntil then, the command waits. The data stays on this machine \
                  unless it wins; only\nthen is it published.")]
pub(crate) struct Submit {
    /// Data: files, or folders of files.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only for this target [default: every open one].
    #[arg(long, value_name = "ID")]
    target: Option<u32>,
    /// Continue in every epoch, until interrupted.
    #[arg(long, conflicts_with = "target")]
    watch: bool,
    /// URL of another node, which must say the same about targets and rules; repeat for more.
    #[arg(long, value_name = "URL")]
    witness: Vec<String>,
    /// Begin another list of documents, though the account has committed one elsewhere, whose
    /// documents will no longer count.
    #[arg(long)]
    replace_corpus: bool,
    /// Compute every score, even if it is cached.
    #[arg(long)]
    no_cache: bool,
    #[command(flatten)]
    engine: ScoringArgs,
}

/// What became of it all; with `--watch`, each submission is a line of its own.
#[derive(Serialize)]
struct Summary {
    schema: &'static str,
    submissions: Vec<Submitted>,
    /// What could not be used.
    left_out: Vec<LeftOut>,
}

impl Submit {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        let home = Home::find(global)?;
        let engine = self.engine.build(output)?;
        let weights = network::weights(global, &home)?;
        let scores = if self.no_cache { ScoreCache::off() } else { ScoreCache::new(home.scores()) };
        let witnesses = self.witness.iter().map(|url| network::client_at(url, global, output));
        let witnesses = witnesses.collect::<Result<Vec<_>>>()?;
        network::block_on(async {
            let competitor = network::competitor(global, output).await?;
            let corpus = network::corpus(global, &competitor)?;
            let submitter = Submitter {
                competitor: &competitor,
                corpus: &corpus,
                scoring: Scoring { engine: &engine, weights: &weights, scores: &scores },
                witnesses: &witnesses,
            };
            let plan = Plan {
                paths: self.paths,
                target: self.target,
                every_epoch: self.watch,
                replace_corpus: self.replace_corpus,
            };
            let session = Session::new(submitter, plan, Library::new(home.library()));
            if self.watch {
                let told = session.run(|submitted| output.result(line(submitted), submitted));
                return told.await.map(drop);
            }
            let mut submissions = Vec::new();
            let unusable = session
                .run(|submitted| {
                    submissions.push(submitted.clone());
                    Result::Ok(())
                })
                .await?;
            let left_out = unusable.into_iter().map(LeftOut::from).collect();
            let summary = Summary { schema: "submit/1", submissions, left_out };
            output.result(summary.text(), &summary)?;
            data::ended(&summary.left_out)
        })
    }
}

impl Summary {
    fn text(&self) -> String {
        let lines = self.submissions.iter().map(line);
        let left_out = data::count(&self.left_out).map(|count| format!("left out: {count}\n"));
        lines.chain(left_out).collect()
    }
}

fn line(submitted: &Submitted) -> String {
    let paid = submitted.paid.map(|paid| format!(", paid {} SOMA", Amount(paid.0)));
    format!(
        "target {}: {}{}  {} with model {}, gain {:.3}\n",
        submitted.target,
        submitted.outcome,
        paid.unwrap_or_default(),
        submitted.file,
        submitted.model,
        nats(submitted.gain_q32.0)
    )
}
