//! An account that competes: it signs transactions, and keeps its obligations in a spool.
//!
//! An obligation is on disk before the transaction that creates it is sent, so an interrupted
//! command loses nothing: it continues when it is run again.

use soma_protocol::{Action, Amount};
use soma_sdk::SdkError;
use soma_sdk::client::Client;
use soma_sdk::obligation::Obligation;
use soma_sdk::sender::Sender;
use soma_sdk::spool::{Outcome, Spool};

use crate::error::{CompeteError, Result};
use crate::observer::{Advance, Level, Observer};
use crate::watch::Watch;

/// An account, its obligations, and the observer of what it does.
pub struct Competitor<'a> {
    /// Signs and sends transactions.
    pub sender: Sender,
    /// The obligations that are still due.
    pub spool: Spool,
    /// Observes long-running work.
    pub observer: &'a dyn Observer,
}

impl std::fmt::Debug for Competitor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Competitor({})", self.sender.address())
    }
}

impl Competitor<'_> {
    /// The node.
    pub fn client(&self) -> &Client {
        self.sender.client()
    }

    /// Stores the obligation, then sends the action that creates it; retires it only if, as the
    /// node says, the action can never take effect.
    pub(crate) async fn send(&self, obligation: Obligation, action: Action) -> Result {
        self.spool.put(obligation.clone())?;
        match self.sender.run(action).await {
            Ok(_) => Ok(()),
            Err(error) => {
                if never_takes_effect(&error) {
                    self.spool.retire(&obligation, false)?;
                }
                Err(error.into())
            }
        }
    }

    /// Checks everything that is due once, and sends what can be sent now.
    ///
    /// # Errors
    /// Same as [`Spool::deliver`].
    pub async fn deliver_once(&self) -> Result<Vec<(Obligation, Outcome)>> {
        let outcomes = self.spool.deliver(&self.sender).await?;
        for (due, outcome) in &outcomes {
            let (level, text) = match outcome {
                Outcome::Sent => (Level::Success, format!("sent the {due}")),
                Outcome::Missed => (Level::Warning, format!("too late for the {due}")),
                Outcome::Refused(error) => {
                    (Level::Warning, format!("the {due} was rejected: {error}"))
                }
                _ => continue,
            };
            self.observer.notice(level, &text);
        }
        Ok(outcomes)
    }

    /// Sends each due obligation when its phase comes, until none that `wanted` selects is left.
    ///
    /// # Errors
    /// [`CompeteError::TooLate`]; those of [`Competitor::deliver_once`].
    pub async fn deliver(&self, wanted: impl Fn(&Obligation) -> bool) -> Result {
        let mut watch = Watch::start(self.client()).await;
        let mut task: Option<(String, Advance)> = None;
        let mut warned = false;
        loop {
            let mut waiting = false;
            for (due, outcome) in self.deliver_once().await? {
                if !wanted(&due) {
                    continue;
                }
                match outcome {
                    Outcome::Waiting { at_risk } => {
                        waiting = true;
                        let label = format!("waiting for the {due}");
                        if task.as_ref().is_none_or(|(shown, _)| *shown != label) {
                            let advance = self.observer.start(&label, None);
                            task = Some((label, advance));
                        }
                        if at_risk > Amount::ZERO && !std::mem::replace(&mut warned, true) {
                            let text = format!(
                                "{at_risk} SOMA is lost if the {due} is never sent; you may stop \
                                 this command, but run it again before the phase ends"
                            );
                            self.observer.notice(Level::Info, &text);
                        }
                    }
                    Outcome::Missed => {
                        let obligation = Box::new(due);
                        return Err(CompeteError::TooLate { obligation });
                    }
                    Outcome::Failed(error) if error.is_transient() => waiting = true,
                    Outcome::Refused(error) | Outcome::Failed(error) => return Err(error.into()),
                    _ => {}
                }
            }
            if !waiting {
                return Ok(());
            }
            watch.changed().await;
        }
    }
}

/// Whether the chain will certainly never run the action; after other errors it may be included.
fn never_takes_effect(error: &SdkError) -> bool {
    match error {
        SdkError::Rejected { .. } | SdkError::Expired { .. } | SdkError::Superseded { .. } => true,
        SdkError::Api { .. } => !error.is_transient(),
        _ => false,
    }
}
