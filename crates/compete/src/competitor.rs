//! An account that competes: it signs transactions, and keeps its obligations in a spool.
//!
//! An obligation is on disk before the transaction that creates it is sent, so an interrupted
//! command loses nothing: it continues when it is run again. While something is due, only a final
//! answer ends the work: the network, other programs and this machine's disk may fail and recover.

use soma_codes::{Code, Coded as _};
use soma_protocol::Action;
use soma_sdk::SdkError;
use soma_sdk::at_stake::Due;
use soma_sdk::client::Client;
use soma_sdk::obligation::Obligation;
use soma_sdk::sender::Sender;
use soma_sdk::spool::{Outcome, Spool};

use crate::error::{CompeteError, Result};
use crate::observer::{Advance, Level, Observer};
use crate::troubles::Troubles;
use crate::watch::Watch;

/// Rejections of what an earlier attempt has already brought there.
const DONE_BEFORE: [Code; 1] = [Code::DuplicateSubmission];

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

    /// What is due of this account, as this process knows it.
    pub fn dues(&self) -> Vec<Due> {
        self.sender.at_stake().dues()
    }

    /// Sends the action that creates an obligation, which is in the spool; retires it only if the
    /// action can never take effect, and no earlier attempt may have: `is_new` says that there was
    /// none.
    pub(crate) async fn send(
        &self,
        obligation: &Obligation,
        is_new: bool,
        action: Action,
    ) -> Result {
        match self.sender.run(action).await {
            Ok(_) => Ok(()),
            Err(error) if DONE_BEFORE.contains(&error.code()) => Ok(()),
            Err(error) => {
                // Only after a time limit the fate of the transaction is not known.
                if is_new && !matches!(error, SdkError::Timeout { .. }) {
                    self.spool.retire(obligation, false)?;
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
        self.deliver_now(&mut Troubles::default()).await
    }

    /// Like [`Self::deliver_once`]; what goes wrong is told once.
    pub(crate) async fn deliver_now(
        &self,
        troubles: &mut Troubles,
    ) -> Result<Vec<(Obligation, Outcome)>> {
        let outcomes = self.spool.deliver(&self.sender).await?;
        for (due, outcome) in &outcomes {
            let place = due.to_string();
            let (level, text) = match outcome {
                Outcome::Sent => (Level::Success, format!("sent the {due}")),
                Outcome::Missed => (Level::Warning, format!("too late for the {due}")),
                Outcome::Rejected(error) => {
                    (Level::Warning, format!("the {due} was rejected: {error}"))
                }
                Outcome::Refused(error) | Outcome::Failed(error) => {
                    troubles.tell(self.observer, &place, error);
                    continue;
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
    /// [`CompeteError::TooLate`]; a final rejection.
    pub async fn deliver(&self, wanted: impl Fn(&Obligation) -> bool) -> Result {
        let mut watch = Watch::start(self.client()).await;
        let mut task: Option<(String, Advance)> = None;
        let (mut troubles, mut told) = (Troubles::default(), false);
        loop {
            let outcomes = match self.deliver_now(&mut troubles).await {
                Err(error) if error.is_passing() => {
                    troubles.tell_of_all(self.observer, &error);
                    watch.changed().await;
                    continue;
                }
                outcomes => outcomes?,
            };
            troubles.over_all(self.observer);
            let mut waiting = false;
            for (due, outcome) in outcomes.into_iter().filter(|(due, _)| wanted(due)) {
                match outcome {
                    Outcome::Missed => {
                        let obligation = Box::new(due);
                        return Err(CompeteError::TooLate { obligation });
                    }
                    Outcome::Rejected(error) => return Err(error.into()),
                    Outcome::Waiting { .. } | Outcome::Refused(_) | Outcome::Failed(_) => {
                        waiting = true;
                        let label = format!("waiting for the {due}");
                        if task.as_ref().is_none_or(|(shown, _)| *shown != label) {
                            let advance = self.observer.start(&label, None);
                            task = Some((label, advance));
                        }
                    }
                    _ => {}
                }
            }
            if !waiting {
                return Ok(());
            }
            let dues = self.dues();
            if dues.iter().any(|due| due.at_risk.0 > 0) && !std::mem::replace(&mut told, true) {
                for due in dues {
                    self.observer.notice(Level::Info, &due);
                }
                let text = "you may stop this command, but run it again in time";
                self.observer.notice(Level::Info, &text);
            }
            watch.changed().await;
        }
    }
}
