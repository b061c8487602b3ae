//! What became of an account's submissions.

use std::collections::BTreeMap;

use crate::api::{Returned, Target, TargetStatus, Transaction};
use crate::client::{Client, Subject};
use soma_protocol::{Address, Amount, Event, TargetId};

use super::chronicle::{Chronicle, Entry};
use super::reason::{Distance, Fate, Reason};
use crate::error::SdkError;

/// The most rejected transactions that are told.
const REJECTED_MAX: usize = 64;

/// Actions of a competitor; what a validator owes is another matter.
const ACTIONS: [&str; 5] =
    ["submit", "publish_data", "commit_corpus", "commit_weights", "reveal_weights"];

/// What became of the account's submissions in the last `epochs`, and which of its transactions
/// were rejected, oldest first.
///
/// # Errors
/// Those of requests.
pub async fn of_account(
    client: &Client,
    account: Address,
    epochs: u32,
) -> Result<Vec<Fate>, SdkError> {
    let mut chronicle = Chronicle::of_last(client, epochs).await?;
    let mut courses: BTreeMap<TargetId, Course> = BTreeMap::new();
    for entry in chronicle.events(Subject::Submitter(account)).await? {
        note(&mut courses, account, &entry.event);
    }
    let mut fates = Vec::new();
    for (id, course) in courses {
        let target = chronicle.target(id).await?.clone();
        let reason = match target.status {
            TargetStatus::Returned => {
                let events = chronicle.events(Subject::Target(id)).await?;
                course.reason_returned(account, &target, &events)
            }
            _ => course.reason(account, &target),
        };
        let model = Some(course.model);
        fates.push(Fate { epoch: target.epoch, target: Some(id.0), model, reason });
    }
    fates.extend(refused(&chronicle, account).await?);
    fates.sort_by_key(|fate| (fate.epoch, fate.target));
    Ok(fates)
}

/// What happened to the account's submissions for one target.
struct Course {
    /// The distance of the closest one.
    distance: u64,
    /// The model of that one.
    model: u32,
    /// The bond that was burned because its data was not published.
    forfeited: Option<Amount>,
}

fn note(courses: &mut BTreeMap<TargetId, Course>, account: Address, event: &Event) {
    match *event {
        Event::SubmissionAccepted { target, submitter, model, distance, .. }
            if submitter == account =>
        {
            let course = courses.entry(target).or_insert(Course {
                distance,
                model: model.0,
                forfeited: None,
            });
            if distance < course.distance {
                (course.distance, course.model) = (distance, model.0);
            }
        }
        Event::SubmissionForfeited { target, submitter, bond, .. } if submitter == account => {
            if let Some(course) = courses.get_mut(&target) {
                course.forfeited = Some(bond);
            }
        }
        _ => {}
    }
}

impl Course {
    /// While the target is not decided, or once it is won.
    fn reason(&self, account: Address, target: &Target) -> Reason {
        match (&target.payment, self.forfeited) {
            (Some(payment), _) if payment.submitter.0 == account => {
                Reason::Won { paid: Amount(payment.paid_submitter.0) }
            }
            (_, Some(bond)) => Reason::NotPublished { bond },
            (Some(payment), None) => self.after(Distance(payment.distance.0)),
            (None, None) => self.undecided(account, target),
        }
    }

    fn undecided(&self, account: Address, target: &Target) -> Reason {
        let candidates = &target.candidates;
        if let Some(mine) = candidates.iter().find(|mine| mine.submitter.0 == account) {
            return Reason::Pending { rank: mine.rank };
        }
        let distance = Distance(self.distance);
        let closest = Distance(candidates.first().map_or(0, |closest| closest.distance.0));
        match target.status {
            TargetStatus::Open => Reason::Displaced { distance, closest },
            _ => self.after(closest),
        }
    }

    /// The target was not won: its events tell who published, and what was burned.
    fn reason_returned(&self, account: Address, target: &Target, events: &[Entry]) -> Reason {
        if let Some(bond) = self.forfeited {
            return Reason::NotPublished { bond };
        }
        let (mut publisher, mut bond) = (None, Amount::ZERO);
        for Entry { event, .. } in events {
            match *event {
                Event::DataPublished { submitter, .. } => publisher = Some(submitter),
                Event::TargetReturned { bond_burned, .. } => bond = bond_burned,
                _ => {}
            }
        }
        match (publisher, target.returned) {
            (Some(publisher), Some(Returned::NoQuorum)) if publisher == account => {
                Reason::Undecided { reward: Amount(target.reward.0) }
            }
            (Some(publisher), _) if publisher == account => Reason::FoundInvalid { bond },
            (publisher, _) => self.after(Distance(nearest(events, publisher))),
        }
    }

    /// A closer document was published.
    fn after(&self, closest: Distance) -> Reason {
        Reason::CloserPublished { distance: Distance(self.distance), closest }
    }
}

/// The least distance that was submitted by `publisher`, or by anybody.
fn nearest(events: &[Entry], publisher: Option<Address>) -> u64 {
    let distances = events.iter().filter_map(|entry| match entry.event {
        Event::SubmissionAccepted { submitter, distance, .. } => Some((submitter, distance)),
        _ => None,
    });
    let of_publisher =
        distances.filter(|(by, _)| publisher.is_none_or(|publisher| *by == publisher));
    of_publisher.map(|(_, distance)| distance).min().unwrap_or(0)
}

/// The account's last transactions that the rules rejected, in epochs whose course the node knows.
async fn refused(chronicle: &Chronicle<'_>, account: Address) -> Result<Vec<Fate>, SdkError> {
    let mut courses = Vec::new();
    for epoch in chronicle.first..=chronicle.last {
        let phases = chronicle.phases(epoch).await?;
        courses.extend(phases.into_iter().map(|(began_ms, phase)| (began_ms, epoch, phase)));
    }
    let mut fates = Vec::new();
    let Some(&(earliest_ms, ..)) = courses.first() else { return Ok(fates) };
    let rejected = chronicle.client.rejected_of(account, None).await?.items;
    let of_competitor = rejected.iter().filter(|one| ACTIONS.contains(&one.action.as_str()));
    for transaction in of_competitor.take(REJECTED_MAX) {
        let Some(height) = transaction.height else { continue };
        let at_ms = chronicle.client.block(height.0).await?.timestamp_ms.0;
        if at_ms < earliest_ms {
            break;
        }
        let during = courses.iter().rfind(|(began_ms, ..)| *began_ms <= at_ms);
        fates.extend(during.and_then(|during| refusal(transaction, at_ms, during)));
    }
    Ok(fates)
}

fn refusal(
    transaction: &Transaction,
    at_ms: u64,
    &(began_ms, epoch, phase): &(u64, u32, soma_protocol::Phase),
) -> Option<Fate> {
    let rejection = transaction.receipt.as_ref()?.rejection.as_ref()?;
    let reason = Reason::Refused {
        action: transaction.action.clone(),
        code: rejection.code.to_string(),
        message: rejection.message.clone(),
        help: rejection.help.clone(),
        phase: phase.to_string(),
        phase_age_ms: at_ms.saturating_sub(began_ms),
    };
    Some(Fate { epoch, target: None, model: None, reason })
}
