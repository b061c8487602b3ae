//! `soma submit`: scores data with the assigned models and enters the closest for each target. The
//! data leaves this machine only if it wins.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use soma_codes::Code;
use soma_model::{Architecture, Engine};
use soma_protocol::{Amount, Epoch, Params, Phase, TargetId};
use soma_sdk::sender::Sender;
use soma_sdk::spool::Spool;
use soma_sdk::types::{Payment, Status, Target, TargetStatus};

use crate::args::Global;
use crate::commands::target::relative;
use crate::documents::{self, Document};
use crate::error::{Error, Result};
use crate::home::Home;
use crate::model_files::EngineArgs;
use crate::output::Output;
use crate::score_cache::ScoreCache;
use crate::submission::{self, Choice, Scores};
use crate::weights_cache::WeightsCache;
use crate::{network, publishing};
use soma_codes::Exit;

/// Score data with the assigned models and enter it for targets.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: soma submit notes/ --watch\n\nThe data stays here unless it wins: only then is it published."
)]
pub(crate) struct Submit {
    /// Data: files, or folders of files.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only for this target [default: every open one].
    #[arg(long, value_name = "ID")]
    target: Option<u32>,
    /// Go on in every epoch, until stopped.
    #[arg(long, conflicts_with = "target")]
    watch: bool,
    /// Compute every score, also those computed before.
    #[arg(long)]
    no_cache: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// What became of one submission.
#[derive(Debug, Serialize)]
struct Entered {
    target: u32,
    epoch: u32,
    file: String,
    model: u32,
    loss_q32: String,
    distance: String,
    /// `won`, `lost`, or why the target was not won by anyone.
    outcome: String,
    /// In base units; none unless it won.
    paid: Option<String>,
}

impl Submit {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        network::block_on(async {
            let submitter = Submitter::start(&self, global, output).await?;
            let spinner = output.spinner("waiting for targets");
            let mut course = Course::default();
            let mut silent = false;
            loop {
                match submitter.step(&self, &mut course).await {
                    Ok(true) => {
                        spinner.finish_and_clear();
                        let text: String = course.decided.iter().map(line).collect();
                        return output.result(text, &course.decided);
                    }
                    Ok(false) => silent = false,
                    // What was submitted may have to be published: giving up would cost its bond.
                    Err(error) if error.exit == Exit::Network => {
                        if !std::mem::replace(&mut silent, true) {
                            output.warn(format_args!("{}; trying again", error.message));
                        }
                    }
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(publishing::PAUSE).await;
            }
        })
    }
}

/// How far a run has come.
#[derive(Default)]
struct Course {
    last_epoch: u32,
    /// Documents that there was time for in the epochs before: the next epoch begins behind them.
    scored: usize,
    pending: Vec<(Target, String, Choice)>,
    decided: Vec<Entered>,
}

fn line(entered: &Entered) -> String {
    let paid = entered
        .paid
        .as_ref()
        .and_then(|paid| paid.parse().ok())
        .map(Amount);
    let paid = paid.map_or_else(String::new, |paid| format!(", paid {paid} SOMA"));
    let Entered {
        target,
        file,
        model,
        outcome,
        ..
    } = entered;
    format!("target {target}: {outcome}{paid}  {file} with model {model}\n")
}

/// Someone with data, a key and a node.
struct Submitter<'a> {
    sender: Sender,
    spool: Spool,
    cache: WeightsCache,
    scores: ScoreCache,
    engine: Engine,
    output: &'a Output,
}

/// When to stop scoring: at half of the time that is left for submissions. The other half is for sending them, and what was won
/// must be published when the next epoch begins. None if phases end by command.
fn scoring_ends(status: &Status, params: &Params) -> Option<Instant> {
    let ends_ms = status.clock.ends_ms?.0.saturating_add(params.attest_ms());
    let left_ms = ends_ms.saturating_sub(status.timestamp_ms.0);
    Instant::now().checked_add(Duration::from_millis(left_ms / 2))
}

/// What the network asks for now; votes change it between two epochs.
struct Rules {
    architecture: Architecture,
    params: Params,
}

impl<'a> Submitter<'a> {
    async fn start(submit: &Submit, global: &Global, output: &'a Output) -> Result<Self> {
        let sender = network::sender(global).await?;
        let home = Home::find(global)?;
        let scores = if submit.no_cache {
            ScoreCache::off()
        } else {
            ScoreCache::new(home.scores())
        };
        Ok(Self {
            spool: network::spool(global, &sender)?,
            cache: WeightsCache::new(home.weights()),
            scores,
            engine: submit.engine.build()?,
            sender,
            output,
        })
    }

    /// Does what can be done now; true once all is decided.
    async fn step(&self, submit: &Submit, course: &mut Course) -> Result<bool> {
        publishing::deliver_once(&self.sender, &self.spool, self.output).await?;
        let status = self.sender.client().status().await?;
        let clock = &status.clock;
        let begins = clock.phase.0 == Phase::Compete && clock.epoch > course.last_epoch;
        if begins && (submit.watch || course.last_epoch == 0) {
            course.last_epoch = clock.epoch;
            match self.enter(submit, &status, course).await {
                Err(error) if submit.watch && error.code == Code::NoTarget => {
                    self.output.say(&error.message);
                }
                entered => entered?,
            }
        }
        self.decide(course).await?;
        if submit.watch {
            let mut decided = course.decided.drain(..);
            decided.try_for_each(|entered| self.output.result(line(&entered), &entered))?;
            return Ok(false);
        }
        Ok(course.last_epoch > 0 && course.pending.is_empty())
    }

    /// Submits the closest document for every open target where it has a chance.
    async fn enter(&self, submit: &Submit, status: &Status, course: &mut Course) -> Result {
        let epoch = status.clock.epoch;
        let mut targets = self.sender.client().targets(Some(Epoch(epoch))).await?;
        targets.retain(|target| submit.target.is_none_or(|id| target.id == id));
        if targets.is_empty() {
            let message = match submit.target {
                Some(id) => format!("target {id} is not open in epoch {epoch}"),
                None => format!("epoch {epoch} has no targets: no model is active"),
            };
            return Err(Error::new(Code::NoTarget, message));
        }
        let rules = self.rules().await?;
        let mut documents = self.documents(&submit.paths, &rules).await?;
        let behind = course.scored.checked_rem(documents.len()).unwrap_or(0);
        documents.rotate_left(behind);
        let client = (self.sender.client(), &self.cache, &self.scores);
        let model = (&self.engine, &rules.architecture);
        // All targets are of one epoch, so one seed and one score serve them all.
        let asked = (targets[0].seed.0, submission::routed_files(&targets));
        let wanted = (&documents[..], scoring_ends(status, &rules.params));
        let scores = Scores::compute(client, model, asked, wanted, self.output).await?;
        if scores.documents() < documents.len() {
            course.scored = behind + scores.documents();
            self.output.say(format_args!(
                "epoch {epoch} leaves time for {} of {} documents; the next begins with the others",
                scores.documents(),
                documents.len()
            ));
        }
        for target in targets {
            let closest = self.closest(&scores, &target, documents.len(), &rules.params);
            let Some(choice) = closest.await? else {
                continue;
            };
            let document = &documents[choice.document];
            match submission::submit(&self.sender, &self.spool, &target, (document, &choice)).await
            {
                Ok(()) => {
                    self.output.say(format_args!(
                        "target {:<4} {} with model {}: distance {:.4}",
                        target.id,
                        document.path,
                        choice.model,
                        relative(choice.distance)
                    ));
                    course.pending.push((target, document.path.clone(), choice));
                }
                Err(error) if error.exit == Exit::Rejected => {
                    self.output
                        .warn(format_args!("target {}: {}", target.id, error.message));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn rules(&self) -> Result<Rules> {
        let client = self.sender.client();
        Ok(Rules {
            architecture: soma_node::architecture(&client.architecture().await?)?,
            params: client.params().await?,
        })
    }

    /// Documents that the rules take: not too small, not too large, not won with before.
    async fn documents(&self, paths: &[PathBuf], rules: &Rules) -> Result<Vec<Document>> {
        let bytes_max = rules.params.data_bytes_max as usize;
        let bytes_min = rules.architecture.positions;
        let mut documents = Vec::new();
        for path in paths {
            for file in documents::files_below(path)? {
                documents.extend(documents::read(&file, &file, bytes_max)?);
            }
        }
        let found = documents.len();
        documents.retain(|document| document.bytes.len() >= bytes_min);
        if documents.is_empty() {
            let message = format!("none of {found} files has {bytes_min} bytes or more");
            return Err(Error::new(Code::TooLittleData, message)
                .hint("the network takes data from one full chunk on"));
        }
        let taken = submission::taken(self.sender.client()).await?;
        documents.retain(|document| !taken.contains(&document.hash()));
        Ok(documents)
    }

    /// The document whose embedding is closest to the target, if it would be a candidate.
    async fn closest(
        &self,
        scores: &Scores,
        target: &Target,
        documents: usize,
        params: &Params,
    ) -> Result<Option<Choice>> {
        let direction = self
            .sender
            .client()
            .direction(TargetId(target.id))
            .await?
            .components;
        let margin = params.loss_margin_q32;
        let choices = (0..documents)
            .filter_map(|document| scores.choice(document, (target, &direction), margin));
        let best = submission::closest(choices);
        let full = target.candidates.len() >= params.candidates_per_target as usize;
        let worst = target
            .candidates
            .last()
            .map_or(u64::MAX, |candidate| candidate.distance.0);
        Ok(best.filter(|choice| !full || choice.distance < worst))
    }

    /// Moves what has been decided out of what is pending.
    async fn decide(&self, course: &mut Course) -> Result {
        let mut place = 0;
        while let Some((target, ..)) = course.pending.get(place) {
            let now = self.sender.client().target(TargetId(target.id)).await?;
            if matches!(now.status, TargetStatus::Settled | TargetStatus::Returned) {
                let entry = course.pending.remove(place);
                course.decided.push(self.entered(entry, &now));
            } else {
                place += 1;
            }
        }
        Ok(())
    }

    fn entered(&self, (target, file, choice): (Target, String, Choice), now: &Target) -> Entered {
        let mine = |payment: &&Payment| payment.submitter.0 == self.sender.address();
        let paid = now
            .payment
            .as_ref()
            .filter(mine)
            .map(|payment| payment.paid_submitter.to_string());
        let outcome = match (&paid, now.returned) {
            (Some(_), _) => "won".to_owned(),
            (None, Some(reason)) => format!("{reason:?}").to_lowercase(),
            (None, None) => "lost".to_owned(),
        };
        Entered {
            target: target.id,
            epoch: target.epoch,
            file,
            model: choice.model,
            loss_q32: choice.loss_q32.to_string(),
            distance: choice.distance.to_string(),
            outcome,
            paid,
        }
    }
}
