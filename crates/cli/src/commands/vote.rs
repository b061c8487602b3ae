//! `soma vote`: proposals of changes to the network, and votes on them.

use soma_protocol::{Action, Amount, Architecture, Change, Params, ProposalId, action};
use soma_sdk::api::{Governance, Migration, Proposal};

use crate::error::{Error, Result};
use crate::global::Global;
use crate::model_flags::Arch;
use crate::network;
use crate::offline::Offline;
use crate::output::Output;

/// Propose changes to the network and vote on them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Vote {
    /// List proposals, the current migration and the rent price.
    List,
    /// Propose a change; the deposit is returned if it passes.
    #[command(subcommand)]
    Propose(Propose),
    /// Vote on a proposal; a later vote replaces an earlier one.
    Cast {
        /// The proposal's number.
        proposal: u32,
        /// `yes` or `no`.
        vote: Answer,
        #[command(flatten)]
        offline: Offline,
    },
}

/// A change to propose.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Propose {
    /// A new value of a parameter.
    #[command(after_help = "Example: soma vote propose parameter targets_per_epoch 200")]
    Parameter {
        /// The parameter's name, as in docs/protocol.md.
        name: String,
        /// The new value; amounts in base units.
        value: u64,
        #[command(flatten)]
        offline: Offline,
    },
    /// A new architecture for all models, after a migration.
    #[command(after_help = "Example: soma vote propose architecture v1")]
    Architecture {
        /// `nano`, `v1` or a JSON file.
        arch: Arch,
        /// Name of the architecture.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        offline: Offline,
    },
    /// The next version of the rules, which blocks follow after a notice; or, while that is
    /// scheduled, the version in force, which cancels it.
    #[command(after_help = "Example: soma vote propose rules 2")]
    Rules {
        /// The version.
        #[arg(value_name = "VERSION")]
        rules: u16,
        #[command(flatten)]
        offline: Offline,
    },
}

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Answer {
    /// Approve.
    Yes,
    /// Reject.
    No,
}

impl Vote {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        network::block_on(self.run_networked(global, output))
    }

    async fn run_networked(self, global: &Global, output: &Output) -> Result {
        let (action, offline) = match self {
            Self::List => {
                let governance = network::client(global, output)?.governance().await?;
                return output.result(describe(&governance), &governance);
            }
            Self::Propose(propose) => {
                let (change, offline) = propose.change()?;
                (Action::Propose(action::Propose { change }), offline)
            }
            Self::Cast { proposal, vote, offline } => {
                let (proposal, approve) = (ProposalId(proposal), vote == Answer::Yes);
                (Action::Vote(action::Vote { proposal, approve }), offline)
            }
        };
        if offline.write(global, output, |_, _| Ok(action.clone()))? {
            return Ok(());
        }
        let voted = match &action {
            Action::Vote(action::Vote { proposal, .. }) => Some(proposal.0),
            _ => None,
        };
        let sender = network::sender(global, output).await?;
        let address = sender.address();
        sender.run(action).await?;
        let governance = sender.client().governance().await?;
        let mut newest = governance.proposals.iter().rev();
        let changed = newest.find(|proposal| match voted {
            Some(id) => proposal.id == id,
            None => proposal.proposer.0 == address,
        });
        match changed {
            Some(proposal) => output.result(line(proposal).trim_end(), proposal),
            None => output.result(describe(&governance), &governance),
        }
    }
}

impl Propose {
    fn change(self) -> Result<(Change, Offline)> {
        match self {
            Self::Parameter { name, value, offline } => {
                if Params::bounds(&name).is_none() {
                    return Err(Error::usage(format!("there is no parameter `{name}`"))
                        .hint("see the list in docs/protocol.md"));
                }
                Ok((Change::Parameter { name, value }, offline))
            }
            Self::Architecture { arch, name, offline } => {
                let name = name.unwrap_or_else(|| "unnamed".to_owned());
                let architecture = Architecture { name, ..arch.0 };
                Ok((Change::Architecture { architecture }, offline))
            }
            Self::Rules { rules, offline } => Ok((Change::Rules { version: rules }, offline)),
        }
    }
}

fn describe(governance: &Governance) -> String {
    let mut text = format!("rent     {} SOMA per MiB and epoch\n", Amount(governance.rent_price.0));
    if let Some(next) = &governance.next_rules {
        text += &format!(
            "rules    {}, and {} from epoch {} on\n",
            governance.rules, next.version, next.from_epoch
        );
    }
    if let Some(migration) = &governance.migration {
        text += &describe_migration(migration);
    }
    for proposal in &governance.proposals {
        text += &line(proposal);
    }
    text.trim_end().to_owned()
}

fn describe_migration(migration: &Migration) -> String {
    format!(
        "migrating to {} (architecture {}) in epoch {}, if {} models are ready ({} now)\n",
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
        Change::Rules { version } => format!("rules {version}"),
    };
    let approved = u128::from(proposal.approved.0) * 10_000;
    let share = approved.checked_div(proposal.total.0.into()).unwrap_or_default();
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
