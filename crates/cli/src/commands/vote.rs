//! `soma vote`: what validators change together.

use soma_protocol::{Action, Amount, Architecture, Change, Params, ProposalId, action};
use soma_sdk::api::{Governance, Migration, Proposal};

use crate::error::{Error, Result};
use crate::global::Global;
use crate::model_flags::Arch;
use crate::network;
use crate::output::Output;

/// Propose changes and vote on them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Vote {
    /// List proposals, the migration under way, and the price of keeping files.
    List,
    /// Propose a change; the deposit returns if it passes.
    #[command(subcommand)]
    Propose(Propose),
    /// Vote on a proposal; the last vote counts.
    Cast {
        /// Its number.
        proposal: u32,
        /// `yes` or `no`.
        vote: Answer,
    },
}

/// What to propose.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Propose {
    /// Another value of a parameter.
    #[command(after_help = "Example: soma vote propose parameter targets_per_epoch 200")]
    Parameter {
        /// Its name, as in docs/protocol.md.
        name: String,
        /// Its new value; amounts in base units.
        value: u64,
    },
    /// Another architecture for all models, after a time in which they migrate.
    #[command(after_help = "Example: soma vote propose architecture v1")]
    Architecture {
        /// `nano`, `v1` or a JSON file.
        arch: Arch,
        /// What to call it.
        #[arg(long)]
        name: Option<String>,
    },
}

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Answer {
    /// For it.
    Yes,
    /// Against it.
    No,
}

impl Vote {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        network::block_on(self.run_networked(global, output))
    }

    async fn run_networked(self, global: &Global, output: &Output) -> Result {
        let action = match self {
            Self::List => {
                let governance = network::client(global)?.governance().await?;
                return output.result(describe(&governance), &governance);
            }
            Self::Propose(propose) => Action::Propose(action::Propose {
                change: propose.change()?,
            }),
            Self::Cast { proposal, vote } => Action::Vote(action::Vote {
                proposal: ProposalId(proposal),
                approve: vote == Answer::Yes,
            }),
        };
        let cast = match &action {
            Action::Vote(action::Vote { proposal, .. }) => Some(proposal.0),
            _ => None,
        };
        let sender = network::sender(global).await?;
        let address = sender.address();
        sender.run(action).await?;
        let governance = sender.client().governance().await?;
        let mut newest = governance.proposals.iter().rev();
        let meant = newest.find(|one| match cast {
            Some(id) => one.id == id,
            None => one.proposer.0 == address,
        });
        match meant {
            Some(proposal) => output.result(line(proposal).trim_end(), proposal),
            None => output.result(describe(&governance), &governance),
        }
    }
}

impl Propose {
    fn change(self) -> Result<Change> {
        match self {
            Self::Parameter { name, value } => {
                if Params::bounds(&name).is_none() {
                    return Err(Error::usage(format!("there is no parameter {name:?}"))
                        .hint("docs/protocol.md lists them"));
                }
                Ok(Change::Parameter { name, value })
            }
            Self::Architecture { arch, name } => {
                let name = name.unwrap_or_else(|| "unnamed".to_owned());
                let architecture = Architecture { name, ..arch.0 };
                Ok(Change::Architecture { architecture })
            }
        }
    }
}

fn describe(governance: &Governance) -> String {
    let mut text = format!(
        "rent     {} SOMA for one MiB and epoch\n",
        Amount(governance.rent_price.0)
    );
    if let Some(migration) = &governance.migration {
        text += &moving(migration);
    }
    for proposal in &governance.proposals {
        text += &line(proposal);
    }
    text.trim_end().to_owned()
}

fn moving(migration: &Migration) -> String {
    format!(
        "moving   to {} (architecture {}) in epoch {}, if {} models are ready; {} are\n",
        migration.architecture.name,
        migration.number,
        migration.ends_epoch,
        migration.needed,
        migration.ready.len()
    )
}

fn line(proposal: &Proposal) -> String {
    let change = match &proposal.change {
        Change::Parameter { name, value } => format!("{name} = {value}"),
        Change::Architecture { architecture } => format!("architecture {}", architecture.name),
    };
    let approved = u128::from(proposal.approved.0) * 10_000;
    let share = approved
        .checked_div(proposal.total.0.into())
        .unwrap_or_default();
    let status = match proposal.decided_epoch {
        None => format!(
            "{}.{:02} % approve, open until epoch {}",
            share / 100,
            share % 100,
            proposal.ends_epoch
        ),
        Some(epoch) => format!("{:?} in epoch {epoch}", proposal.status).to_lowercase(),
    };
    format!("{:>4}  {change:40} {status}\n", proposal.id)
}
