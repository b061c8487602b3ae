//! Validators at their duties, and the ways to skip them: not to audit, to guess, to copy.

use std::collections::BTreeMap;

use soma_architecture::embedding::distance_squared;
use soma_protocol::record::TargetStatus;
use soma_protocol::{
    Action, Epoch, Hash, HeldFile, MemoryState, TargetId, Validity, Verdict, action, commitment,
    query, read, storage,
};

use crate::actors::{Actor, Kind};
use crate::chain::Chain;
use crate::submitters::{Submitters, prediction};
use crate::weights::{Library, file_in_use};

/// What auditing one target costs, in SOMA.
pub const AUDIT_SOMA: f64 = 0.1;

/// A faulty machine errs in one epoch of this many, on every target.
const FAULT_EVERY: u32 = 100;

/// Verdicts that wait to be shown.
#[derive(Debug, Default)]
pub struct Validators {
    verdicts: BTreeMap<(usize, TargetId), Verdict>,
}

/// Validators that have a seat, with their places in the cast.
fn seated<'a>(chain: &Chain, actors: &'a [Actor]) -> Vec<(usize, &'a Actor)> {
    let seats = read::committee(&chain.state);
    let validators = actors.iter().enumerate();
    validators
        .filter(|(_, one)| one.kind.validates() && seats.seats_validator(&one.address))
        .collect()
}

fn randomness(actor: &Actor, epoch: Epoch) -> Hash {
    Hash::of_parts(
        "economy beacon",
        &[&actor.address.0, &epoch.0.to_le_bytes()],
    )
}

/// What an audit finds: whether loss, winner and distance are as claimed.
fn audit(
    state: &MemoryState,
    library: &Library,
    submitters: &Submitters,
    id: TargetId,
    margin_q32: u64,
) -> Option<Verdict> {
    let target = read::target(state, id)?;
    let TargetStatus::Published { rank } = target.status else {
        return None;
    };
    let claim = *read::candidates(state, id).get(usize::try_from(rank).ok()?)?;
    let document = submitters.published(id)?;
    let direction = query::direction(state, &target)?;
    let truth = prediction(library, &target, document, margin_q32)?;
    let distance = distance_squared(&direction, &document.embedding);
    let validity = if (claim.model, claim.loss_q32) == truth && claim.distance == distance {
        Validity::Valid
    } else {
        Validity::Invalid
    };
    let trace = Hash::of_parts("economy trace", &[&id.0.to_le_bytes(), &document.bytes]);
    Some(Verdict {
        validity,
        trace,
        broken: Vec::new(),
    })
}

impl Validators {
    /// Randomness: opened for this epoch, committed for the next.
    pub fn open_beacons(chain: &mut Chain, actors: &[Actor]) {
        let epoch = read::clock(&chain.state).epoch;
        for actor in actors.iter().filter(|one| one.kind.validates()) {
            if read::beacon_commit(&chain.state, epoch, &actor.address).is_some() {
                let value = randomness(actor, epoch);
                chain.act(
                    &actor.key,
                    Action::RevealBeacon(action::RevealBeacon { epoch, value }),
                );
            }
            let next = epoch.next();
            let value = randomness(actor, next);
            let commitment = commitment::beacon(chain.id(), &actor.address, next, &value);
            let action = Action::CommitBeacon(action::CommitBeacon {
                epoch: next,
                commitment,
            });
            chain.act(&actor.key, action);
        }
    }

    /// Everybody says which committed files it holds, and answers the epoch's challenge.
    pub fn hold_and_answer(chain: &mut Chain, actors: &[Actor]) {
        let epoch = read::clock(&chain.state).epoch;
        let held: Vec<HeldFile> = read::commits(&chain.state, epoch.next())
            .into_iter()
            .map(|(model, commit)| HeldFile {
                model,
                ciphertext_hash: commit.ciphertext_hash,
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
            let asked = storage::challenge(&chain.state, &actor.address);
            let answer = asked
                .and_then(|asked| file_in_use(&chain.state, asked.model)?.answer(epoch, &asked));
            if let Some(answer) = answer {
                chain.act(&actor.key, answer);
            }
        }
    }

    /// Audits what was published. Returns what each spent on it, in SOMA.
    pub fn commit_verdicts(
        &mut self,
        chain: &mut Chain,
        actors: &[Actor],
        library: &Library,
        submitters: &Submitters,
    ) -> Vec<(usize, f64)> {
        let now = query::chain(&chain.state);
        let margin_q32 = now.params.loss_margin_q32;
        let seated = seated(chain, actors);
        let mut costs = Vec::new();
        self.verdicts.clear();
        for target in read::targets(&chain.state, now.clock.epoch.previous()) {
            let id = target.id;
            let truth = audit(&chain.state, library, submitters, id, margin_q32);
            let Some(truth) = truth else {
                continue;
            };
            let honest = seated.iter().find(|(_, one)| one.kind == Kind::Auditor);
            for &(at, actor) in &seated {
                let (verdict, cost) = match actor.kind {
                    Kind::Silent => continue,
                    Kind::HalfAuditor if id.0.is_multiple_of(2) => continue,
                    Kind::Guesser => (guess(), 0.0),
                    Kind::Faulty if now.clock.epoch.0 % FAULT_EVERY == FAULT_EVERY / 2 => {
                        (guess(), AUDIT_SOMA)
                    }
                    _ => (truth.clone(), AUDIT_SOMA),
                };
                let mut whose = &actor.address;
                if let (Kind::Copycat, Some((_, honest))) = (actor.kind, honest) {
                    // What it can see is another's commitment, and that names the other.
                    whose = &honest.address;
                } else {
                    costs.push((at, cost));
                    self.verdicts.insert((at, id), verdict.clone());
                }
                let commitment = commitment::verdict(chain.id(), whose, id, &verdict);
                let action = Action::CommitVerdict(action::CommitVerdict {
                    target: id,
                    commitment,
                });
                chain.act(&actor.key, action);
            }
        }
        costs
    }

    /// Shows the verdicts.
    pub fn open_verdicts(&mut self, chain: &mut Chain, actors: &[Actor]) {
        for ((at, target), verdict) in std::mem::take(&mut self.verdicts) {
            chain.act(
                &actors[at].key,
                Action::RevealVerdict(action::RevealVerdict { target, verdict }),
            );
        }
    }
}

/// What somebody says who has not looked: nobody can guess a trace.
fn guess() -> Verdict {
    Verdict {
        validity: Validity::Valid,
        trace: Hash([0; 32]),
        broken: Vec::new(),
    }
}
