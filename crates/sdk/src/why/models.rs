//! What became of a model.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Model, ModelStatus, Returned, Target, TargetStatus};
use crate::client::{Client, Subject};
use soma_protocol::event::LapseReason;
use soma_protocol::routing::rank_value;
use soma_protocol::{Amount, Epoch, Event, ModelId, SUPPLY, TargetId};

use super::chronicle::{Chronicle, Entry, answers};
use super::reason::{Fate, Q32, Reason};
use crate::error::SdkError;

/// The most targets of an epoch that are compared to tell what was missing.
const COMPARED_MAX: usize = 24;
/// From so many targets of an epoch on, all of its targets are asked for at once.
const MANY: usize = 4;

/// What became of a model in the last `epochs`, oldest first: for each epoch the targets that it
/// was routed to, or why it was routed to none.
///
/// # Errors
/// Those of requests.
pub async fn of_model(client: &Client, id: ModelId, epochs: u32) -> Result<Vec<Fate>, SdkError> {
    let mut chronicle = Chronicle::of_last(client, epochs).await?;
    let model = client.model(id).await?;
    let events = chronicle.events(Subject::Model(id)).await?;
    let mut fates = Vec::new();
    for epoch in chronicle.first..=chronicle.last {
        let mut reasons = lapses(&events, epoch);
        let routed = targets_of(&events, id, epoch);
        if routed.len() >= MANY {
            chronicle.ask_for_targets(epoch).await?;
        }
        for &target in &routed {
            let reason = outcome(&mut chronicle, target, id).await?;
            reasons.push((Some(target.0), reason));
        }
        if routed.is_empty() {
            let reason = not_routed(&mut chronicle, &model, &events, epoch).await?;
            reasons.extend(reason.map(|reason| (None, reason)));
        }
        let fate = |(target, reason)| Fate { epoch, target, model: Some(id.0), reason };
        fates.extend(reasons.into_iter().map(fate));
    }
    Ok(fates)
}

/// Commits for an epoch that lapsed.
fn lapses(events: &[Entry], of: u32) -> Vec<(Option<u32>, Reason)> {
    let lapsed = events.iter().filter_map(|entry| match entry.event {
        Event::CommitLapsed { epoch, reason, returned, burned, .. } if epoch.0 == of => {
            Some(match reason {
                LapseReason::NotHeld => Reason::NotHeld { returned },
                LapseReason::NotRevealed => Reason::NotRevealed { burned },
                LapseReason::OldArchitecture => Reason::OldArchitecture,
            })
        }
        _ => None,
    });
    lapsed.map(|reason| (None, reason)).collect()
}

/// The targets of an epoch that the model was routed to.
fn targets_of(events: &[Entry], id: ModelId, of: u32) -> Vec<TargetId> {
    let drawn = events.iter().filter_map(|entry| match &entry.event {
        Event::TargetDrawn { target, epoch, models, .. } => {
            (epoch.0 == of && models.contains(&id)).then_some(*target)
        }
        _ => None,
    });
    drawn.collect()
}

/// What became of a target that the model was routed to.
async fn outcome(
    chronicle: &mut Chronicle<'_>,
    target: TargetId,
    id: ModelId,
) -> Result<Reason, SdkError> {
    let Target { payment, status, returned, reward, .. } = chronicle.target(target).await?.clone();
    Ok(match (payment, status, returned) {
        (Some(payment), ..) if payment.model == id.0 => {
            Reason::ModelWon { paid: Amount(payment.paid_model.0) }
        }
        (Some(payment), ..) => {
            let loss_q32 = winning_loss(&chronicle.events(Subject::Target(target)).await?);
            Reason::PredictedWorse { winner: payment.model, loss_q32 }
        }
        (None, TargetStatus::Returned, Some(Returned::Unclaimed)) => Reason::Unclaimed,
        (None, TargetStatus::Returned, Some(Returned::Invalid)) => Reason::ClaimInvalid,
        (None, TargetStatus::Returned, _) => Reason::Undecided { reward: Amount(reward.0) },
        (None, ..) => Reason::Undetermined,
    })
}

/// The loss of the model that won, on the data that won.
fn winning_loss(events: &[Entry]) -> Option<Q32> {
    events.iter().find_map(|entry| match entry.event {
        Event::TargetSettled { loss_q32, .. } => Some(Q32(loss_q32)),
        _ => None,
    })
}

/// Why the model was routed to no target of an epoch; `None` if the chain no longer says.
async fn not_routed(
    chronicle: &mut Chronicle<'_>,
    model: &Model,
    events: &[Entry],
    epoch: u32,
) -> Result<Option<Reason>, SdkError> {
    // Until then it can still be entered.
    if !chronicle.is_drawn_or_being_drawn(epoch) {
        return Ok(Some(Reason::NotDrawn));
    }
    if let Some(reason) = out_of_competition(model, events, epoch) {
        return Ok(Some(reason));
    }
    if is_bound(events, epoch) {
        return Ok(Some(Reason::Bound));
    }
    let drawn = chronicle.drawn(epoch).await?;
    if drawn.is_empty() {
        let is_ahead = epoch == chronicle.last;
        return Ok(is_ahead.then_some(Reason::NotDrawn));
    }
    let minimum = chronicle.client.params().await?.model_stake_min;
    let stake = Amount(model.stake.0);
    if stake < minimum {
        return Ok(Some(Reason::StakeTooLow { stake, minimum }));
    }
    if epoch + 1 < chronicle.last {
        let targets = u32::try_from(drawn.len()).unwrap_or(u32::MAX);
        return Ok(Some(Reason::NotRoutedThen { targets }));
    }
    chronicle.ask_for_targets(epoch).await?;
    nearest_miss(chronicle, model, epoch, &drawn).await.map(Some)
}

/// Whether the model had a commit for an epoch that could be revealed and was not.
fn is_bound(events: &[Entry], of: u32) -> bool {
    let has = |is_one: fn(&Event) -> Option<u32>| {
        events.iter().any(|entry| is_one(&entry.event) == Some(of))
    };
    let available = has(|event| match event {
        Event::WeightsAvailable { epoch, .. } => Some(epoch.0),
        _ => None,
    });
    available
        && !has(|event| match event {
            Event::WeightsRevealed { epoch, .. } => Some(epoch.0),
            _ => None,
        })
}

/// Why the model did not compete at all in an epoch.
fn out_of_competition(model: &Model, events: &[Entry], epoch: u32) -> Option<Reason> {
    let mut revealed = None;
    let mut reason = None;
    for entry in events {
        match entry.event {
            Event::WeightsRevealed { epoch: at, .. } => {
                revealed = revealed.or(Some(at.0));
                if at.0 <= epoch {
                    reason = None;
                }
            }
            Event::ModelInactive { epoch: since, .. } if since.0 <= epoch => {
                reason = Some(Reason::WeightsDue { since: since.0 });
            }
            Event::ModelBroken { .. } => reason = Some(Reason::Broken),
            Event::ModelRetired { .. } => return Some(Reason::Retired),
            _ => {}
        }
    }
    if reason.is_some() {
        return reason;
    }
    match (&model.weights, model.status) {
        (None, _) => Some(Reason::NoWeights),
        (_, ModelStatus::Retiring | ModelStatus::Retired) => Some(Reason::Retired),
        (Some(weights), _) if weights.first_epoch > epoch => {
            let revealed = revealed.unwrap_or(weights.first_epoch);
            Some(Reason::RevealedLater { revealed })
        }
        // Its status changes as the next epoch begins.
        (Some(weights), _) if weights.refresh_epoch <= epoch => {
            Some(Reason::WeightsDue { since: weights.refresh_epoch })
        }
        _ => None,
    }
}

/// The target to which least was missing: the stake with which the model would rank before the last
/// one that was routed. Stakes are those of now: the chain does not keep those of the draw.
async fn nearest_miss(
    chronicle: &mut Chronicle<'_>,
    model: &Model,
    epoch: u32,
    drawn: &[u32],
) -> Result<Reason, SdkError> {
    let client = chronicle.client;
    let own = client.specialization(ModelId(model.id), None).await?.components;
    let stake = Amount(model.stake.0);
    let compared = &drawn[..drawn.len().min(COMPARED_MAX)];
    let mut routed: Vec<Vec<u32>> = Vec::with_capacity(compared.len());
    for &id in compared {
        let target = chronicle.target(TargetId(id)).await?;
        // In routed order, so the last one is the farthest.
        routed.push(target.routed.iter().map(|routed| routed.model).collect());
    }
    let last: BTreeSet<u32> = routed.iter().filter_map(|models| models.last().copied()).collect();
    let last = answers(last.into_iter().map(|id| competitor(client, id, epoch))).await?;
    let last: BTreeMap<u32, Competitor> = last.into_iter().map(|one| (one.id, one)).collect();
    let directions = compared.iter().copied().map(|id| client.direction(TargetId(id)));
    let directions = answers(directions).await?;
    let missing = |(models, direction): (&Vec<u32>, &[i16])| {
        let last = &last[models.last()?];
        let rank = rank_value(&last.specialization, last.stake, direction)?;
        let needed = stake_for(&own, direction, rank)?;
        Some(Amount(needed.0.saturating_sub(stake.0)))
    };
    let directions = directions.iter().map(|direction| direction.components.as_slice());
    let missing = routed.iter().zip(directions).map(missing);
    // A target to which no stake would have led comes after all others.
    let nearest = missing.enumerate().min_by_key(|(_, missing)| (missing.is_none(), *missing));
    let (place, missing) = nearest.unwrap_or((0, None));
    let count = |targets: &[u32]| u32::try_from(targets.len()).unwrap_or(u32::MAX);
    Ok(Reason::NotRouted {
        targets: count(drawn),
        compared: count(compared),
        nearest: compared.get(place).copied().unwrap_or(0),
        routed: routed.into_iter().nth(place).unwrap_or_default(),
        stake,
        missing,
    })
}

/// A model that was routed.
struct Competitor {
    id: u32,
    /// At the draw.
    specialization: Vec<i16>,
    /// Now.
    stake: Amount,
}

async fn competitor(client: &Client, id: u32, epoch: u32) -> Result<Competitor, SdkError> {
    let drawn = client.specialization(ModelId(id), Some(Epoch(epoch))).await?;
    let stake = client.model(ModelId(id)).await?.stake;
    Ok(Competitor { id, specialization: drawn.components, stake: Amount(stake.0) })
}

/// The least stake with which a specialization ranks before `last`; `None` if none is enough.
fn stake_for(specialization: &[i16], direction: &[i16], last: i128) -> Option<Amount> {
    let is_enough = |stake: u64| {
        rank_value(specialization, Amount(stake), direction).is_some_and(|value| value < last)
    };
    if !is_enough(SUPPLY.0) {
        return None;
    }
    let (mut low, mut high) = (0, SUPPLY.0);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_enough(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(Amount(high))
}

#[cfg(test)]
mod tests {
    use soma_protocol::routing::rank_value;
    use soma_protocol::{Amount, SUPPLY};

    use super::stake_for;

    #[test]
    fn the_least_stake_that_is_enough_is_found() {
        let (near, far, direction) = ([300, 100], [-300, 100], [400, 0]);
        let last = rank_value(&near, Amount(1_000), &direction).unwrap();
        let enough = stake_for(&near, &direction, last).unwrap();
        assert!(rank_value(&near, enough, &direction).unwrap() < last);
        assert!(rank_value(&near, Amount(enough.0 - 1), &direction).unwrap() >= last);
        assert!(enough > Amount(1_000), "an equal rank is none before it");
        let farther = stake_for(&far, &direction, last);
        assert!(farther.is_none_or(|farther| farther > enough));
        let best = rank_value(&near, SUPPLY, &direction).unwrap();
        assert_eq!(stake_for(&far, &direction, best), None, "no stake is enough");
    }
}
