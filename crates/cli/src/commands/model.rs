//! `soma model`: creates, publishes, downloads and shows models.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use soma_codes::Code;
use soma_compete::{Competitor, Offer, specialization};
use soma_model::Weights;
use soma_os::data::read_text;
use soma_protocol::{Action, Amount, Architecture, Epoch, Hash, ModelId, action};
use soma_sdk::api::{Model, ModelStatus};
use soma_sdk::obligation::Obligation;
use soma_sdk::sender::Sender;
use soma_sdk::transfer::Remote;

use crate::error::{Error, Result};
use crate::global::Global;
use crate::model_flags::{self, Arch, ScoringArgs};
use crate::network;
use crate::offline::Offline;
use crate::output::Output;
use crate::output_file::named_or_new;
use crate::seed::Seed;

/// Create, publish, download and inspect models.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ModelCommand {
    /// Create a weights file with random weights.
    Init {
        /// `nano`, `v1` or a JSON file.
        #[arg(long)]
        arch: Arch,
        /// The same seed gives the same file: an integer, or 64 hex digits.
        #[arg(long, default_value = "0")]
        seed: Seed,
        /// The file to write.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check that a file is a valid weights file.
    Check {
        /// The weights file.
        file: PathBuf,
        /// `nano`, `v1` or a JSON file [default: from the file's metadata].
        #[arg(long)]
        arch: Option<Arch>,
    },
    /// Compute a specialization: the mean of a model's embeddings of its domain.
    Specialize {
        /// The weights file.
        file: PathBuf,
        /// Files of its domain.
        #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
        domain: Vec<PathBuf>,
        /// `nano`, `v1` or a JSON file [default: from the file's metadata].
        #[arg(long)]
        arch: Option<Arch>,
        #[command(flatten)]
        engine: ScoringArgs,
    },
    /// Register a model with its stake.
    Register {
        /// Name of the model.
        name: String,
        /// Stake in SOMA; the network routes more targets to models with more stake.
        #[arg(long, default_value = "10")]
        stake: Amount,
        /// The owner's share of the model's earnings, in hundredths of a percent; the rest is added
        /// to its stake.
        #[arg(long, default_value_t = 1000, value_name = "BPS")]
        #[arg(value_parser = clap::value_parser!(u16).range(..=10_000))]
        commission: u16,
        #[command(flatten)]
        offline: Offline,
    },
    /// Commit to weights for the next epoch and upload them, encrypted.
    Commit(Publish),
    /// Reveal committed weights, waiting for the reveal phase.
    Reveal {
        /// The model's number [default: all models of this key].
        #[arg(long, value_name = "ID")]
        model: Option<u32>,
    },
    /// Commit, upload, wait for the epoch, reveal.
    Publish(Publish),
    /// List all models.
    List,
    /// Show a model: stake, weights, wins, and when to publish again.
    Show {
        /// The model's number.
        id: u32,
    },
    /// Download and verify a model's public weights.
    Pull {
        /// The model's number.
        id: u32,
        /// The file to write [default: NAME.safetensors].
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Retire a model from the competition; its stake is released later.
    Retire {
        /// The model's number.
        id: u32,
        #[command(flatten)]
        offline: Offline,
    },
}

/// Commit to weights for the next epoch.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma model publish owl.safetensors --model 1 --domain notes/")]
pub(crate) struct Publish {
    /// The weights file.
    file: PathBuf,
    /// The model's number [default: the only one of this key].
    #[arg(long, value_name = "ID")]
    model: Option<u32>,
    /// Files of its domain; the mean of their embeddings becomes its specialization.
    #[arg(long, required_unless_present = "specialization", num_args = 1.., value_name = "PATH")]
    domain: Vec<PathBuf>,
    /// File with its specialization as a JSON list of integers, instead of --domain.
    #[arg(long, value_name = "FILE", conflicts_with = "domain")]
    specialization: Option<PathBuf>,
    /// Commit weights of the architecture to which the network is migrating.
    #[arg(long)]
    next: bool,
    #[command(flatten)]
    engine: ScoringArgs,
}

/// Size limit of a file with a specialization.
const SPECIALIZATION_BYTES_MAX: usize = 4 << 20;

#[derive(Serialize)]
struct Checked {
    path: String,
    weights_hash: String,
    parameters: u64,
}

#[derive(Serialize)]
struct Committed {
    model: u32,
    weights_hash: String,
    reveal_epoch: u32,
}

impl ModelCommand {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        match self {
            Self::Init { arch, seed, output: path } => {
                let weights = Weights::init(&arch.0, seed.0)?;
                weights.save(&path)?;
                checked(&path, &weights, output)
            }
            Self::Check { file, arch } => {
                let weights = model_flags::open(&file, arch.as_ref())?;
                checked(&file, &weights, output)
            }
            Self::Specialize { file, domain, arch, engine } => {
                let weights = model_flags::open(&file, arch.as_ref())?;
                let specialization =
                    specialization::of_files(&engine.build(output)?, &weights, &domain, output)?;
                let text = serde_json::json!(specialization);
                output.result(text, &specialization)
            }
            networked => network::block_on(networked.run_networked(global, output)),
        }
    }

    async fn run_networked(self, global: &Global, output: &Output) -> Result {
        match self {
            Self::Register { name, stake, commission, offline } => {
                let register =
                    |name| action::RegisterModel { name, commission_bps: commission, stake };
                let action = |_, _| Ok(Action::RegisterModel(register(name.clone())));
                if offline.write(global, output, action)? {
                    return Ok(());
                }
                let competitor = network::competitor(global, output).await?;
                let id = competitor.register(register(name)).await?;
                let model = competitor.client().model(id).await?;
                output.done(format_args!(
                    "{} is model {id} with a stake of {stake} SOMA",
                    model.name
                ));
                output.value("model", id, &model)
            }
            Self::Commit(publish) => {
                let commit = async || publish.commit(global, output).await.map(drop);
                network::while_due(global, output, commit).await
            }
            Self::Publish(publish) => {
                let publish = async || publish.publish(global, output).await;
                network::while_due(global, output, publish).await
            }
            Self::Reveal { model } => {
                let reveal = async || reveal(global, model.map(ModelId), output).await;
                network::while_due(global, output, reveal).await
            }
            Self::List => {
                let models = network::client(global, output)?.models().await?;
                if models.is_empty() {
                    output.say("no models yet; register one with: soma model register NAME");
                }
                output.result(models.iter().map(line).collect::<String>(), &models)?;
                warn_of_equal_names(&models, output);
                Ok(())
            }
            Self::Show { id } => {
                let model = network::client(global, output)?.model(ModelId(id)).await?;
                output.result(describe(&model), &model)
            }
            Self::Pull { id, output: path } => pull(global, ModelId(id), path, output).await,
            Self::Retire { id, offline } => {
                let retire = Action::RetireModel(action::RetireModel { model: ModelId(id) });
                if offline.write(global, output, |_, _| Ok(retire.clone()))? {
                    return Ok(());
                }
                let sender = network::sender(global, output).await?;
                sender.run(retire).await?;
                let model = sender.client().model(ModelId(id)).await?;
                output.done(format_args!("{} is retiring", model.name));
                output.result(describe(&model), &model)
            }
            Self::Init { .. } | Self::Check { .. } | Self::Specialize { .. } => Ok(()),
        }
    }
}

fn checked(path: &std::path::Path, weights: &Weights, output: &Output) -> Result {
    let checked = Checked {
        path: path.display().to_string(),
        weights_hash: hex::encode(weights.hash()),
        parameters: weights.parameters(),
    };
    let text = format!("{}  {} parameters", checked.weights_hash, checked.parameters);
    output.result(text, &checked)
}

impl Publish {
    async fn commit<'a>(
        &self,
        global: &Global,
        output: &'a Output,
    ) -> Result<(Competitor<'a>, ModelId, Epoch)> {
        let competitor = network::competitor(global, output).await?;
        let id = self.model(&competitor.sender).await?;
        let (number, spec) = self.architecture(&competitor.sender).await?;
        let weights = model_flags::open(&self.file, Some(&Arch(spec)))?;
        let specialization = self.specialization(&weights, output)?;
        let weights_hash = Hash(weights.hash());
        let offer = Offer {
            model: id,
            file: &self.file,
            weights_hash,
            specialization,
            architecture: number,
        };
        let epoch = competitor.commit(offer).await?;
        output.done(format_args!(
            "committed; validators hold the file; the reveal is due in epoch {epoch}"
        ));
        let committed = Committed {
            model: id.0,
            weights_hash: weights_hash.to_string(),
            reveal_epoch: epoch.0,
        };
        output.value("weights hash", weights_hash, &committed)?;
        Ok((competitor, id, epoch))
    }

    async fn publish(&self, global: &Global, output: &Output) -> Result {
        let (competitor, id, epoch) = self.commit(global, output).await?;
        competitor.deliver(|due| is_reveal(due, Some(id))).await?;
        output.done(format_args!("model {id} is public from epoch {epoch} on"));
        Ok(())
    }

    /// The architecture that the weights are for, and its number.
    async fn architecture(&self, sender: &Sender) -> Result<(u32, Architecture)> {
        let governance = sender.client().governance().await?;
        match governance.migration {
            Some(migration) if self.next => Ok((migration.number, migration.architecture)),
            None if self.next => {
                let message = "the network is not migrating to another architecture";
                Err(Error::new(Code::NoMigration, message).hint("see `soma vote list`"))
            }
            _ => Ok((governance.architecture, sender.client().architecture().await?)),
        }
    }

    /// The model of `--model`, or the only one of the key.
    async fn model(&self, sender: &Sender) -> Result<ModelId> {
        if let Some(id) = self.model {
            return Ok(ModelId(id));
        }
        let models = sender.client().account(sender.address()).await?.models;
        match models.as_slice() {
            [id] => Ok(ModelId(*id)),
            [] => Err(Error::new(Code::NoModel, "this key has no model")
                .hint("register one: soma model register NAME")),
            _ => Err(Error::usage(format!("this key has several models: {models:?}"))
                .hint("choose one: --model ID")),
        }
    }

    fn specialization(&self, weights: &Weights, output: &Output) -> Result<Vec<i16>> {
        let Some(path) = &self.specialization else {
            let engine = self.engine.build(output)?;
            return Ok(tokio::task::block_in_place(|| {
                specialization::of_files(&engine, weights, &self.domain, output)
            })?);
        };
        let json = read_text(path, SPECIALIZATION_BYTES_MAX)
            .map_err(|error| Error::file(path, "read", &error))?;
        serde_json::from_str(&json).map_err(|error| {
            let message =
                format!("{} is not a JSON list of 16-bit integers: {error}", path.display());
            Error::new(Code::BadSpecialization, message)
        })
    }
}

/// Whether this is the reveal of a model, or of any.
fn is_reveal(due: &Obligation, model: Option<ModelId>) -> bool {
    matches!(due, Obligation::Reveal(reveal) if model.is_none_or(|id| reveal.model == id))
}

async fn reveal(global: &Global, model: Option<ModelId>, output: &Output) -> Result {
    let competitor = network::competitor(global, output).await?;
    let listing = competitor.spool.list()?;
    for damaged in listing.damaged {
        output.warn(damaged);
    }
    if !listing.obligations.iter().any(|due| is_reveal(due, model)) {
        return Err(nothing_to_reveal(&competitor, model).await?);
    }
    Ok(competitor.deliver(|due| is_reveal(due, model)).await?)
}

/// Why there is nothing to reveal: there is no commit, or its secret is not here.
async fn nothing_to_reveal(competitor: &Competitor<'_>, id: Option<ModelId>) -> Result<Error> {
    let account = competitor.client().account(competitor.sender.address()).await?;
    let ids = account.models.into_iter().map(ModelId);
    for id in ids.filter(|own| id.is_none_or(|id| id == *own)) {
        let model = competitor.client().model(id).await?;
        if let Some(commit) = model.commits.first() {
            let message = format!(
                "model {id} has a commit for epoch {}, but the key of its file is not in the spool \
                 of this home",
                commit.epoch
            );
            return Ok(Error::new(Code::NothingDue, message).hint(
                "run `soma model reveal` on the machine that committed, or restore its SOMA_HOME: \
                 without the reveal, its rent and a part of the stake are lost",
            ));
        }
    }
    let error = Error::new(Code::NothingDue, "there is nothing to reveal on this chain");
    Ok(error.hint("commit first: soma model commit FILE --domain DIR"))
}

async fn pull(global: &Global, id: ModelId, path: Option<PathBuf>, output: &Output) -> Result {
    let client = network::client(global, output)?;
    let model = client.model(id).await?;
    let Some(weights) = &model.weights else {
        let message = format!("model {id} has not revealed any weights");
        return Err(Error::new(Code::NoWeights, message));
    };
    let path = named_or_new(path, format!("{}.safetensors", file_name(&model.name)))?;
    let spec = client.architecture().await?;
    let remote = Remote::weights(weights.hash.0, weights.size_bytes.0);
    soma_compete::download(&client, &remote, &path, output).await?;
    output.done(format_args!("{} of epoch {}, verified", model.name, weights.revealed_epoch));
    let opened = model_flags::open(&path, Some(&Arch(spec)))?;
    let checked = Checked {
        path: path.display().to_string(),
        weights_hash: weights.hash.to_string(),
        parameters: opened.parameters(),
    };
    output.value("file", path.display(), &checked)
}

/// A model's name as a file name, which cannot leave the current folder.
fn file_name(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }
    };
    name.chars().map(plain).collect()
}

/// A model within 80 columns. The owner tells it from another one of the same name.
fn line(model: &Model) -> String {
    let owner = model.owner.to_string();
    let (first, last) = owner.split_at_checked(owner.len().saturating_sub(4)).unwrap_or_default();
    format!(
        "{:>4}  {:19} {:8} stake {:<12} wins {:<4} {:.10}..{last}\n",
        model.id,
        model.name,
        status(model.status),
        Amount(model.stake.0),
        model.wins,
        first,
    )
}

/// A name belongs to nobody: whoever looks for a model must know its number or its owner.
fn warn_of_equal_names(models: &[Model], output: &Output) {
    let mut by_name = BTreeMap::<&str, Vec<String>>::new();
    for model in models {
        by_name.entry(&model.name).or_default().push(model.id.to_string());
    }
    for (name, ids) in by_name.into_iter().filter(|(_, ids)| ids.len() > 1) {
        output.warn(format_args!(
            "models {} have the name {name}: tell them by number and owner",
            ids.join(", ")
        ));
    }
}

pub(crate) fn status(status: ModelStatus) -> String {
    format!("{status:?}").to_lowercase()
}

fn describe(model: &Model) -> String {
    let mut text = format!(
        "model {}: {}\nstatus   {}\nowner    {}\nstake    {} SOMA, commission {}.{:02} %\n\
         wins     {}, earned {} SOMA\n",
        model.id,
        model.name,
        status(model.status),
        model.owner,
        Amount(model.stake.0),
        model.commission_bps / 100,
        model.commission_bps % 100,
        model.wins,
        Amount(model.earned.0)
    );
    if let Some(weights) = &model.weights {
        text += &format!(
            "weights  {}, {} bytes, revealed in epoch {}\n\
             due      publish again before epoch {}, or the model becomes inactive\n",
            weights.hash, weights.size_bytes, weights.revealed_epoch, weights.refresh_epoch
        );
    }
    if let Some(rent) = &model.rent {
        text += &format!(
            "rent     {} SOMA for {} more epochs, held by {} validators; \
             publishing again costs {} SOMA\n",
            Amount(rent.prepaid.0),
            rent.epochs_left,
            rent.holders.len(),
            Amount(rent.refresh_cost.0)
        );
    }
    if let Some(next) = &model.next {
        text += &format!(
            "next     {}, {} bytes, for the next architecture\n",
            next.hash, next.size_bytes
        );
    }
    if let Some(next) = &model.next_commission {
        text += &format!(
            "change   commission {}.{:02} % from epoch {}\n",
            next.bps / 100,
            next.bps % 100,
            next.epoch
        );
    }
    for commit in &model.commits {
        let held = if commit.held { "held" } else { "not held yet" };
        text +=
            &format!("commit   for epoch {}: {} bytes, {held}\n", commit.epoch, commit.size_bytes);
    }
    text.trim_end().to_owned()
}
