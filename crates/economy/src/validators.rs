//! Validators: their duties, and the ways to avoid them: not auditing, guessing, copying.

use std::collections::BTreeMap;

use soma_protocol::record::{Broken, Candidate, TargetStatus, WeightsCommit};
use soma_protocol::{
    Action, Epoch, Hash, HeldFile, MemoryState, TargetId, Validity, Verdict, action, commitment,
    query, read, storage,
};

use crate::actors::{Actor, Kind};
use crate::chain::Chain;
use crate::submitters::{Drawn, Statement, Submitters};
use crate::weights::{Library, current_file};

/// Cost of one audit, in SOMA.
const AUDIT_SOMA: f64 = 0.1;

/// A faulty machine is wrong in one epoch out of this many, on every target.
const FAULT_EVERY: u32 = 100;

/// Verdicts that are committed but not yet revealed.
#[derive(Debug, Default)]
pub struct Validators {
    verdicts: BTreeMap<(usize, TargetId), Verdict>,
}

/// Validators that have a seat, with their indices.
fn seated<'a>(chain: &Chain, actors: &'a [Actor]) -> Vec<(usize, &'a Actor)> {
    let seats = read::committee(&chain.state);
    let validators = actors.iter().enumerate();
    validators
        .filter(|(_, actor)| actor.kind.validates() && seats.seats_validator(&actor.address))
        .collect()
}

fn randomness(actor: &Actor, epoch: Epoch) -> Hash {
    Hash::of_parts("economy beacon", &[&actor.address.0, &epoch.0.to_le_bytes()])
}

/// The verdict of an audit: whether the winner, its loss and gain and the distance are as claimed.
fn audit(
    state: &MemoryState,
    library: &Library,
    submitters: &Submitters,
    id: TargetId,
) -> Option<Verdict> {
    let target = read::target(state, id)?;
    let TargetStatus::Published { rank } = target.status else {
        return None;
    };
    let claim = *read::candidates(state, id).get(usize::try_from(rank).ok()?)?;
    let document = submitters.published(id)?;
    let truth = Drawn::of(state, target)?.truth(library, document)?;
    let Candidate { model, loss_q32, gain_q32, distance, .. } = claim;
    let is_true = Statement { model, loss_q32, gain_q32, distance } == truth;
    let validity = if is_true { Validity::Valid } else { Validity::Invalid };
    let trace = Hash::of_parts("economy trace", &[&id.0.to_le_bytes(), &document.bytes]);
    Some(Verdict { validity, trace, broken: Broken::default() })
}

impl Validators {
    /// Reveals the beacon values for this epoch and commits those for the next.
    pub fn reveal_beacons(chain: &mut Chain, actors: &[Actor]) {
        let epoch = read::clock(&chain.state).epoch;
        for (_, actor) in seated(chain, actors) {
            if read::beacon_commit(&chain.state, epoch, &actor.address).is_some() {
                let value = randomness(actor, epoch);
                chain.act(&actor.key, Action::RevealBeacon(action::RevealBeacon { epoch, value }));
            }
            let next = epoch.next();
            let value = randomness(actor, next);
            let commitment = commitment::beacon(chain.id(), &actor.address, next, &value);
            let action = Action::CommitBeacon(action::CommitBeacon { epoch: next, commitment });
            chain.act(&actor.key, action);
        }
    }

    /// Lets all validators attest which committed files they hold, and answer storage challenges.
    pub fn hold_and_answer(chain: &mut Chain, actors: &[Actor]) {
        let epoch = read::clock(&chain.state).epoch;
        let held: Vec<HeldFile> = read::commits(&chain.state, epoch.next())
            .into_iter()
            .map(|(model, WeightsCommit { ciphertext_hash, size_bytes, .. })| HeldFile {
                model,
                ciphertext_hash,
                size_bytes,
            })
            .collect();
        for (_, actor) in seated(chain, actors) {
            if !held.is_empty() {
                let action = Action::HoldWeights(action::HoldWeights {
                    epoch: epoch.next(),
                    held: held.clone(),
                });
                chain.act(&actor.key, action);
            }
            let challenge = storage::challenge(&chain.state, &actor.address);
            let answer = challenge.and_then(|challenge| {
                current_file(&chain.state, challenge.model)?.answer(epoch, &challenge)
            });
            if let Some(answer) = answer {
                chain.act(&actor.key, answer);
            }
        }
    }

    /// Audits published claims and commits verdicts. Returns each validator's cost, in SOMA.
    pub fn commit_verdicts(
        &mut self,
        chain: &mut Chain,
        actors: &[Actor],
        library: &Library,
        submitters: &Submitters,
    ) -> Vec<(usize, f64)> {
        let now = query::chain(&chain.state);
        let seated = seated(chain, actors);
        let mut costs = Vec::new();
        self.verdicts.clear();
        for target in read::targets(&chain.state, now.clock.epoch.previous()) {
            let id = target.id;
            let truth = audit(&chain.state, library, submitters, id);
            let Some(truth) = truth else {
                continue;
            };
            let honest = seated.iter().find(|(_, actor)| actor.kind == Kind::Auditor);
            for &(index, actor) in &seated {
                let (verdict, cost) = match actor.kind {
                    Kind::Silent => continue,
                    Kind::HalfAuditor if id.0.is_multiple_of(2) => continue,
                    Kind::Guesser => (guess(), 0.0),
                    Kind::Faulty if now.clock.epoch.0 % FAULT_EVERY == FAULT_EVERY / 2 => {
                        (guess(), AUDIT_SOMA)
                    }
                    _ => (truth.clone(), AUDIT_SOMA),
                };
                let mut committer = &actor.address;
                if let (Kind::Copycat, Some((_, honest))) = (actor.kind, honest) {
                    // It can only copy a commitment, which binds the address of its author.
                    committer = &honest.address;
                } else {
                    costs.push((index, cost));
                    self.verdicts.insert((index, id), verdict.clone());
                }
                let commitment = commitment::verdict(chain.id(), committer, id, &verdict);
                let action =
                    Action::CommitVerdict(action::CommitVerdict { target: id, commitment });
                chain.act(&actor.key, action);
            }
        }
        costs
    }

    /// Reveals the committed verdicts.
    pub fn reveal_verdicts(&mut self, chain: &mut Chain, actors: &[Actor]) {
        for ((index, target), verdict) in std::mem::take(&mut self.verdicts) {
            chain.act(
                &actors[index].key,
                Action::RevealVerdict(action::RevealVerdict { target, verdict }),
            );
        }
    }
}

/// A verdict without an audit: nobody can guess the trace.
fn guess() -> Verdict {
    Verdict { validity: Validity::Valid, trace: Hash([0; 32]), broken: Broken::default() }
}
