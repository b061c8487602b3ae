//! The demo's competition: owners publish, targets are drawn, submitters compete, validators audit.
//! It must never compete in any other way than `soma model publish` and `soma submit` do.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use soma_compete::{
    Advance, Competitor, Document, Ground, Level, ModelFile, ModelSet, Observer, Offer, ScoreCache,
    Scores, Scoring, Submission, Submitter, WeightsCache,
};
use soma_model::{Architecture, Engine, Report as ScoreReport};
use soma_node::Node;
use soma_node::localnet::{Localnet, OPERATOR, Plan, account_name};
use soma_protocol::action::RegisterModel;
use soma_protocol::{Amount, Epoch, Hash, ModelId, Params, Phase};
use soma_sdk::api::{Status, Target, TargetStatus};
use soma_sdk::client::Client;
use soma_sdk::corpus::Corpus;
use soma_sdk::figures::nats;
use soma_sdk::sender::Sender;
use soma_sdk::spool::Spool;

use super::domains::{Domain, garbage};
use super::report::{AccountLine, FileLine, ModelLine, Report, TargetLine, tail};
use super::specialist::Specialist;
use crate::error::Result;
use crate::network::end_phase;
use crate::output::Output;
use crate::seed::Seed;

/// Epochs in which the submitters compete.
const ROUNDS: u32 = 3;
/// Minimum time between two blocks.
const BLOCK_MS: u64 = 20;
/// Stake of the first model; the second has twice as much, and so on.
const STAKE: Amount = Amount::soma(100);
const COMMISSION_BPS: u16 = 1_000;
/// Columns of a list below an indent of four.
const LISTED_COLUMNS: usize = 76;

/// A person of the demo.
struct Person<'a> {
    name: String,
    competitor: Competitor<'a>,
    corpus: Corpus,
    balance_before: u64,
}

/// Shows progress, but not a line for every submission and reveal.
struct Quiet<'a>(&'a Output);

impl Observer for Quiet<'_> {
    fn start(&self, task: &str, bytes: Option<u64>) -> Advance {
        self.0.start(task, bytes)
    }

    fn notice(&self, level: Level, message: &dyn Display) {
        if level == Level::Warning {
            self.0.notice(level, message);
        }
    }
}

struct Competition<'a> {
    engine: &'a Engine,
    client: Client,
    weights: WeightsCache,
    scores: ScoreCache,
    operator: Sender,
    owners: Vec<Person<'a>>,
    submitters: Vec<Person<'a>>,
    models: Vec<ModelId>,
    domains: &'a [Domain],
    /// A file that nobody understands; the first submitter tries it.
    garbage: Document,
    files: Vec<FileLine>,
    /// Gains of what was submitted, by target and file.
    gains: BTreeMap<(u32, String), i64>,
    output: &'a Output,
}

/// Runs the competition from genesis to the last payment, with all state in `folder`. The network
/// stays up as long as its node.
pub(crate) async fn run(
    engine: &Engine,
    domains: &[Domain],
    specialists: &[Specialist],
    seed: Seed,
    folder: &Path,
    output: &Output,
) -> Result<(Report, Node)> {
    let (node, network) = tokio::task::block_in_place(|| start(seed, domains.len(), folder))?;
    let client = Client::new(node.url())?;
    let chain = network.genesis().chain_id();
    let observer = Quiet(output);
    let mut people = Vec::new();
    for number in 1..=2 * domains.len() {
        let role = if number <= domains.len() { "owner" } else { "submitter" };
        let name = format!("{} {role}", domains[(number - 1) % domains.len()].name);
        let account = account_name(u32::try_from(number).unwrap_or(u32::MAX));
        let sender = Sender::new(client.clone(), network.key(&account)?, chain).await?;
        people.push(Person {
            name,
            balance_before: client.account(sender.address()).await?.balance.0,
            competitor: Competitor {
                sender,
                spool: Spool::open(folder.join("spool").join(&account))?,
                observer: &observer,
            },
            corpus: Corpus::open(folder.join("corpus").join(&account))?,
        });
    }
    let submitters = people.split_off(domains.len());
    let mut competition = Competition {
        engine,
        weights: WeightsCache::new(folder.join("weights")),
        scores: ScoreCache::new(folder.join("scores")),
        operator: Sender::new(client.clone(), network.key(OPERATOR)?, chain).await?,
        client,
        owners: people,
        submitters,
        models: Vec::new(),
        domains,
        garbage: garbage(&seed.0),
        files: Vec::new(),
        gains: BTreeMap::new(),
        output,
    };
    output.heading("2. Commit: models with a stake, and documents, before targets are known");
    competition.publish(specialists).await?;
    competition.commit_documents().await?;
    output.heading("3. Compete: score local files with the models of each target");
    let status = competition.run_epochs().await?;
    let report = competition.report(specialists, &status).await?;
    Ok((report, node))
}

fn start(seed: Seed, domains: usize, folder: &Path) -> Result<(Node, Localnet)> {
    let accounts = u32::try_from(2 * domains).unwrap_or(u32::MAX);
    let mut plan = Plan { chain: "demo".to_owned(), accounts, ..Plan::manual(seed.0) };
    // What wins must be understood, as on a real network.
    plan.params.gain_min_q32 = Params::network().gain_min_q32;
    let network = Localnet::create(&folder.join("network"), &plan)?;
    let mut config = network.node(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    config.settings.block_ms = BLOCK_MS;
    Ok((soma_node::start(config)?, network))
}

impl Competition<'_> {
    /// Every owner registers and commits to weights for the next epoch.
    async fn publish(&mut self, specialists: &[Specialist]) -> Result {
        for (place, (owner, specialist)) in (1..).zip(self.owners.iter().zip(specialists)) {
            let stake = STAKE.times(place);
            let (owner, name) = (&owner.competitor, specialist.domain.clone());
            let register = RegisterModel { name, commission_bps: COMMISSION_BPS, stake };
            let model = owner.register(register).await?;
            let offer = Offer {
                model,
                file: &specialist.file,
                weights_hash: specialist.weights_hash,
                specialization: specialist.specialization.clone(),
                architecture: 1,
            };
            let epoch = owner.commit(offer).await?;
            self.models.push(model);
            self.output.done(format_args!(
                "model {model} {:10} stake {stake:>4} SOMA, reveal in epoch {epoch}",
                specialist.domain
            ));
        }
        Ok(())
    }

    /// What a submitter has: the held-out files of its domain, and the first one garbage as well.
    fn documents(&self, submitter: usize) -> Vec<Document> {
        let held_out = self.domains.get(submitter).map(|domain| domain.held_out.clone());
        let garbage = (submitter == 0).then(|| self.garbage.clone());
        held_out.into_iter().flatten().chain(garbage).collect()
    }

    /// Every submitter commits its documents, which count from the next epoch on.
    async fn commit_documents(&self) -> Result {
        let mut committed = 0;
        for (place, person) in self.submitters.iter().enumerate() {
            let documents = self.documents(place);
            let Person { competitor, corpus, .. } = person;
            let standing = competitor.commit_corpus(corpus, &documents, false).await?;
            committed += standing.committed;
        }
        let submitters = self.submitters.len();
        self.output.done(format_args!(
            "{committed} documents of {submitters} submitters, which count in epoch 2"
        ));
        Ok(())
    }

    /// Ends phase after phase until the last round is paid: targets of an epoch are settled when
    /// the epoch after it ends.
    async fn run_epochs(&mut self) -> Result<Status> {
        let mut status = self.client.status().await?;
        let first = status.clock.epoch + 1;
        while status.clock.epoch < first + ROUNDS + 1 {
            let Status { clock, .. } = &status;
            if clock.phase.0 == Phase::Compete && (first..first + ROUNDS).contains(&clock.epoch) {
                self.compete(Epoch(clock.epoch)).await?;
            }
            for person in self.owners.iter().chain(&self.submitters) {
                person.competitor.deliver_once().await?;
            }
            status = end_phase(&self.operator, &[], self.output).await?;
        }
        Ok(status)
    }

    /// Every submitter submits the closest of its own files for every target.
    async fn compete(&mut self, epoch: Epoch) -> Result {
        let targets = self.client.targets(Some(epoch)).await?;
        let Some(first) = targets.first() else {
            return Ok(());
        };
        if self.files.is_empty() {
            self.files = self.score_held_out(first.seed.0).await?;
        }
        let (mut submissions, mut refused) = (Vec::new(), Vec::new());
        for (place, person) in self.submitters.iter().enumerate() {
            let Person { competitor, corpus, .. } = person;
            let submitter =
                Submitter { competitor, corpus, scoring: self.scoring(), witnesses: &[] };
            let rules = submitter.rules().await?;
            let documents = submitter.qualifying(self.documents(place), &rules)?;
            let standing = competitor.standing(corpus).await?;
            let ground = Ground {
                targets: &targets,
                documents: &documents,
                standing: &standing,
                rules: &rules,
            };
            let left_out = submitter.enter(&ground, &mut submissions).await?;
            refused.extend(left_out.not_understood);
        }
        let documents: usize = self.domains.iter().map(|domain| domain.held_out.len()).sum();
        self.output.done(format_args!(
            "epoch {epoch}: {} targets, {documents} files scored by {} models, {} submissions",
            targets.len(),
            self.models.len(),
            submissions.len()
        ));
        if self.gains.is_empty() && !refused.is_empty() {
            self.output.say("  left out, because nobody understands them:");
            for line in listed(&refused) {
                self.output.say(format_args!("    {line}"));
            }
        }
        self.gains.extend(submissions.into_iter().map(|submission| {
            let Submission { target, file, gain_q32, .. } = submission;
            ((target, file), gain_q32)
        }));
        Ok(())
    }

    fn scoring(&self) -> Scoring<'_> {
        Scoring { engine: self.engine, weights: &self.weights, scores: &self.scores }
    }

    /// Scores every held-out file with every model, for the report.
    async fn score_held_out(&self, seed: Hash) -> Result<Vec<FileLine>> {
        let held_out = self.domains.iter().flat_map(|domain| &domain.held_out);
        let documents: Vec<Document> = held_out.cloned().collect();
        let models = self.client.models().await?;
        let weights = models.iter().filter_map(|model| model.weights.as_ref());
        let models = ModelSet {
            architecture: Architecture::nano(),
            seed,
            files: weights.map(ModelFile::from).collect(),
        };
        let observer = Quiet(self.output);
        let scoring = self.scoring();
        let scores = scoring.score(&self.client, &models, &documents, None, &observer);
        self.file_lines(&documents, &scores.await?).await
    }

    /// Every held-out file with every model's loss on it.
    async fn file_lines(&self, documents: &[Document], scores: &Scores) -> Result<Vec<FileLine>> {
        let models = self.client.models().await?;
        let domains =
            self.domains.iter().flat_map(|domain| domain.held_out.iter().map(|_| &domain.name));
        let line = |(index, (document, domain)): (usize, (&Document, &String))| {
            let reports = models.iter().filter_map(|model| {
                let file = model.weights.as_ref()?.into();
                Some((model.name.clone(), scores.get(index, file)?))
            });
            let reports: Vec<_> = reports.collect();
            let best = reports.iter().min_by_key(|(_, report)| report.score.cross_entropy_q32())?;
            let figures = |figure: fn(&ScoreReport) -> f64| {
                reports.iter().map(|(name, report)| (name.clone(), figure(report))).collect()
            };
            Some(FileLine {
                path: document.path().to_owned(),
                domain: domain.clone(),
                winner_domain: best.0.clone(),
                losses: figures(|report| report.loss),
                cross_entropies: figures(|report| report.cross_entropy),
            })
        };
        Ok(documents.iter().zip(domains).enumerate().filter_map(line).collect())
    }

    async fn report(self, specialists: &[Specialist], status: &Status) -> Result<Report> {
        let models = self.client.models().await?;
        let models =
            models.iter().zip(specialists).zip(1..).map(|((model, specialist), place)| ModelLine {
                id: model.id,
                name: model.name.clone(),
                domain: specialist.domain.clone(),
                weights_hash: specialist.weights_hash.to_string(),
                stake_before: STAKE.times(place).base_units().to_string(),
                stake_after: model.stake.to_string(),
                wins: model.wins,
                reward: model.earned.to_string(),
            });
        let mut accounts = Vec::new();
        for person in self.owners.iter().chain(&self.submitters) {
            let after = self.client.account(person.competitor.sender.address()).await?.balance;
            accounts.push(AccountLine {
                name: person.name.clone(),
                address: person.competitor.sender.address().to_string(),
                balance_before: person.balance_before.to_string(),
                balance_after: after.to_string(),
            });
        }
        let targets = self.client.targets(None).await?;
        let decided = targets.iter().filter(|target| {
            matches!(target.status, TargetStatus::Settled | TargetStatus::Returned)
        });
        Ok(Report {
            schema: "demo/1",
            models: models.collect(),
            files: self.files.clone(),
            targets: decided.map(|target| self.target_line(target)).collect(),
            accounts,
            epochs: status.clock.epoch - 1,
            supply_conserved: status.supply.conserved,
        })
    }

    fn target_line(&self, target: &Target) -> TargetLine {
        let payment = target.payment.as_ref();
        let documents = || self.domains.iter().flat_map(|domain| &domain.held_out);
        let file = |hash: Hash| documents().find(|document| document.hash() == hash);
        let name = |address| {
            let person =
                self.submitters.iter().find(|person| person.competitor.sender.address() == address);
            person.map(|person| person.name.clone())
        };
        let file = payment.and_then(|payment| Some(file(payment.data_hash.0)?.path().to_owned()));
        let gain = file.clone().and_then(|file| self.gains.get(&(target.id, file)));
        TargetLine {
            id: target.id,
            epoch: target.epoch,
            routed: target.routed.iter().map(|routed| routed.model).collect(),
            reward: target.reward.to_string(),
            winner_model: payment.map(|payment| payment.model),
            submitter: payment.and_then(|payment| name(payment.submitter.0)),
            file,
            distance: payment.map(|payment| payment.distance.to_string()),
            gain: gain.copied().map(nats),
            paid_submitter: payment.map(|payment| payment.paid_submitter.to_string()),
            paid_model: payment.map(|payment| payment.paid_model.to_string()),
        }
    }
}

/// Names with commas between them, in lines that fit the screen.
fn listed(names: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for name in names.iter().map(|name| tail(name, LISTED_COLUMNS)) {
        match lines.last_mut() {
            Some(line) if columns(line) + 2 + columns(&name) <= LISTED_COLUMNS => {
                line.push_str(", ");
                line.push_str(&name);
            }
            _ => lines.push(name),
        }
    }
    lines
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::{LISTED_COLUMNS, columns, listed};

    #[test]
    fn a_list_of_names_has_them_all_in_order_and_fits_the_screen() {
        let names: Vec<String> = (0..90).map(|at| "x".repeat(at)).collect();
        let lines = listed(&names);
        assert!(lines.iter().all(|line| columns(line) <= LISTED_COLUMNS), "{lines:?}");
        let again: Vec<&str> = lines.iter().flat_map(|line| line.split(", ")).collect();
        assert_eq!(again.len(), names.len());
        assert_eq!(again[..70], names[..70]);
    }
}
