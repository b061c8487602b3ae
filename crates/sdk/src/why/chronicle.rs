//! Reading what the chain keeps about the last epochs: events, newest first, as far back as asked.

use std::collections::HashMap;

use crate::api::{Event as ApiEvent, Target};
use crate::client::{Client, Subject};
use futures_util::{StreamExt, TryStreamExt, stream};
use soma_protocol::{Epoch, Event, Phase, TargetId};

use crate::error::SdkError;

/// The most events of one subject that are read.
const READ_MAX: usize = 5_000;
/// The most questions that wait for an answer at a time.
const AT_ONCE: usize = 8;

/// Epochs after its own in which a target may still be settled.
const SETTLED_WITHIN: u32 = 2;

/// An event with the time of its block.
pub(super) struct Entry {
    pub(super) timestamp_ms: u64,
    pub(super) event: Event,
}

/// The last epochs of a chain.
pub(super) struct Chronicle<'a> {
    pub(super) client: &'a Client,
    /// The first of the epochs.
    pub(super) first: u32,
    /// The running epoch.
    pub(super) last: u32,
    /// Its phase.
    phase: Phase,
    targets: HashMap<u32, Target>,
}

impl<'a> Chronicle<'a> {
    /// The running epoch and those before it, `epochs` in all.
    pub(super) async fn of_last(client: &'a Client, epochs: u32) -> Result<Self, SdkError> {
        let clock = client.status().await?.clock;
        let (last, phase) = (clock.epoch, clock.phase.0);
        let first = last.saturating_sub(epochs.saturating_sub(1)).max(1);
        Ok(Self { client, first, last, phase, targets: HashMap::new() })
    }

    /// Whether all that decides the draw of an epoch has happened, though it may still take blocks.
    pub(super) fn is_drawn_or_being_drawn(&self, epoch: u32) -> bool {
        epoch < self.last || self.phase.submits()
    }

    /// The targets of an epoch, if all are drawn that there are.
    pub(super) async fn drawn(&self, epoch: u32) -> Result<Vec<u32>, SdkError> {
        let targets = self.client.epoch(Epoch(epoch)).await?.targets;
        // Their number is known from the first on, and the last one exists when all are drawn.
        let Some(&last) = targets.last().filter(|_| epoch == self.last) else {
            return Ok(targets);
        };
        match self.client.target(TargetId(last)).await {
            Err(SdkError::Api { status: 404, .. }) => Ok(Vec::new()),
            found => found.map(|_| targets),
        }
    }

    /// A target; asked for once.
    pub(super) async fn target(&mut self, id: TargetId) -> Result<&Target, SdkError> {
        if !self.targets.contains_key(&id.0) {
            self.targets.insert(id.0, self.client.target(id).await?);
        }
        Ok(&self.targets[&id.0])
    }

    /// Asks for all targets of an epoch at once: less work than for each of many.
    pub(super) async fn ask_for_targets(&mut self, epoch: u32) -> Result<(), SdkError> {
        let targets = self.client.targets(Some(Epoch(epoch))).await?;
        self.targets.extend(targets.into_iter().map(|target| (target.id, target)));
        Ok(())
    }

    /// The events of these epochs that concern `subject`, oldest first.
    pub(super) async fn events(&mut self, subject: Subject) -> Result<Vec<Entry>, SdkError> {
        let mut found = Vec::new();
        let (mut after, mut read) = (None, 0);
        'pages: while read < READ_MAX {
            let page = self.client.events_of(subject, after.as_deref()).await?;
            read += page.items.len();
            for event in &page.items {
                // A node may be newer than this software and tell of what it does not know.
                let Some(entry) = entry(event) else { continue };
                let epoch = self.epoch_of(&entry.event).await?;
                match epoch.unwrap_or(self.first) {
                    epoch if epoch >= self.first => found.push(entry),
                    // Targets are settled while those of the next epoch are open.
                    epoch if epoch + SETTLED_WITHIN >= self.first => {}
                    _ => break 'pages,
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }

    /// The epoch that an event belongs to, if it says so.
    async fn epoch_of(&mut self, event: &Event) -> Result<Option<u32>, SdkError> {
        Ok(match (epoch_of(event), target_of(event)) {
            (Some(epoch), _) => Some(epoch.0),
            (None, Some(target)) => Some(self.target(target).await?.epoch),
            (None, None) => None,
        })
    }

    /// When each phase of an epoch began, oldest first; nothing if the node does not know anymore.
    pub(super) async fn phases(&self, epoch: u32) -> Result<Vec<(u64, Phase)>, SdkError> {
        let page = match self.client.events_of(Subject::Epoch(Epoch(epoch)), None).await {
            Err(SdkError::Api { status: 404, .. }) => return Ok(Vec::new()),
            page => page?,
        };
        let phases = page.items.iter().filter_map(entry).filter_map(|entry| match entry.event {
            Event::PhaseBegan { phase, .. } => Some((entry.timestamp_ms, phase)),
            _ => None,
        });
        let mut phases: Vec<_> = phases.collect();
        phases.reverse();
        Ok(phases)
    }
}

/// The answers to questions, in their order; several wait at a time.
///
/// # Errors
/// The first of those of the questions.
pub(super) async fn answers<T>(
    questions: impl Iterator<Item = impl Future<Output = Result<T, SdkError>>>,
) -> Result<Vec<T>, SdkError> {
    stream::iter(questions).buffered(AT_ONCE).try_collect().await
}

fn entry(event: &ApiEvent) -> Option<Entry> {
    Some(Entry { timestamp_ms: event.timestamp_ms.0, event: event.typed()? })
}

/// The epoch that an event belongs to, if it names one. The epochs of announcements and releases
/// lie ahead.
fn epoch_of(event: &Event) -> Option<Epoch> {
    Some(match *event {
        Event::WeightsCommitted { epoch, .. }
        | Event::WeightsHeld { epoch, .. }
        | Event::WeightsAvailable { epoch, .. }
        | Event::CommitLapsed { epoch, .. }
        | Event::WeightsRevealed { epoch, .. }
        | Event::ModelInactive { epoch, .. }
        | Event::ChallengeAnswered { epoch, .. }
        | Event::TargetDrawn { epoch, .. }
        | Event::TargetSettled { epoch, .. }
        | Event::TargetReturned { epoch, .. }
        | Event::ValidatorRewarded { epoch, .. }
        | Event::RentPaid { epoch, .. } => epoch,
        _ => return None,
    })
}

fn target_of(event: &Event) -> Option<TargetId> {
    Some(match *event {
        Event::SubmissionAccepted { target, .. }
        | Event::SubmissionDisplaced { target, .. }
        | Event::SubmissionReleased { target, .. }
        | Event::SubmissionForfeited { target, .. }
        | Event::DataPublished { target, .. }
        | Event::ModelBroken { target, .. } => target,
        _ => return None,
    })
}
