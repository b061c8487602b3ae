//! Submitters, who search for documents close to targets, or claim data that they do not have.

use std::collections::BTreeMap;

use rand::RngExt as _;
use soma_architecture::embedding::distance_squared;
use soma_protocol::record::{Target, TargetStatus, WeightsAge};
use soma_protocol::{
    Action, Address, Epoch, Hash, MemoryState, ModelId, TargetId, action, commitment, query, read,
    winner,
};

use crate::actors::{Actor, Kind};
use crate::chain::Chain;
use crate::quality::Document;
use crate::rng::SimRng;
use crate::weights::Library;

/// Documents that a submitter searches in an epoch.
const DOCUMENTS: usize = 60;
/// Cost of scoring one document, in SOMA.
pub const DOCUMENT_SOMA: f64 = 0.05;
/// Attackers attack in one epoch out of this many.
const ATTACK_EVERY: u32 = 10;

/// The data of a claim, until it is published.
#[derive(Clone, Debug)]
struct Claim {
    submitter: usize,
    target: TargetId,
    document: Document,
    salt: [u8; 32],
    epoch: Epoch,
}

/// What a submitter claims about its data.
struct Statement {
    model: ModelId,
    loss_q32: i64,
    distance: u64,
}

/// All submitters, with their private data.
#[derive(Debug, Default)]
pub struct Submitters {
    claims: BTreeMap<Hash, Claim>,
    published: BTreeMap<TargetId, Document>,
    /// Targets under attack, each with its attacker.
    pub attacks: BTreeMap<TargetId, usize>,
}

/// The winner among a target's models on a document, with its loss.
pub fn prediction(
    library: &Library,
    target: &Target,
    document: &Document,
    margin_q32: u64,
) -> Option<(ModelId, i64)> {
    let quality = |weights| library.get(weights).map(|quality| quality.loss_q32(document));
    let routed = || target.routed.iter();
    let losses: Vec<Option<i64>> = routed().map(|entry| quality(&entry.weights_hash)).collect();
    let ages: Vec<WeightsAge> = routed().map(|entry| entry.age).collect();
    let index = winner(&losses, &ages, margin_q32)?;
    Some((target.routed[index].model, losses[index]?))
}

impl Submitters {
    /// Lets all submitters submit their claims. Returns what each spent on searching, in SOMA.
    pub fn submit(
        &mut self,
        chain: &mut Chain,
        actors: &[Actor],
        library: &Library,
        rng: &mut SimRng,
    ) -> Vec<(usize, f64)> {
        let now = query::chain(&chain.state);
        let epoch = now.clock.epoch;
        self.claims.retain(|_, claim| claim.epoch.next() >= epoch);
        let field = Field::of(&chain.state, epoch);
        let places = now.params.candidates_per_target;
        let mut costs = Vec::new();
        for (index, actor) in actors.iter().enumerate().filter(|(_, actor)| actor.kind.submits()) {
            let attacks = epoch.0.is_multiple_of(ATTACK_EVERY);
            match actor.kind {
                Kind::Silencer | Kind::Denier | Kind::Liar if !attacks => {}
                Kind::Silencer | Kind::Denier => {
                    self.deny(chain, index, actor, &field, places, rng);
                }
                _ => {
                    self.search(chain, index, actor, &field, library, rng);
                    let sets = if actor.kind == Kind::Colluder { 2 } else { 1 };
                    let searched = f64::from(u32::try_from(sets * DOCUMENTS).unwrap_or(0));
                    costs.push((index, searched * DOCUMENT_SOMA));
                }
            }
        }
        costs
    }

    /// Searches documents and claims the closest for each target.
    fn search(
        &mut self,
        chain: &mut Chain,
        index: usize,
        actor: &Actor,
        field: &Field,
        library: &Library,
        rng: &mut SimRng,
    ) {
        let mut search = |voice| -> Vec<Document> {
            let documents = 0..DOCUMENTS;
            documents.map(|_| Document::random(voice, rng)).collect()
        };
        let (natural, own) = match actor.kind {
            Kind::Colluder => (search(None), search(Some(index))),
            _ => (search(None), Vec::new()),
        };
        for (target, direction) in &field.targets {
            let mut routed = target.routed.iter();
            let is_routed = routed.any(|entry| actor.models.contains(&entry.model));
            let documents = if is_routed { &own } else { &natural };
            let distances = documents
                .iter()
                .map(|document| (distance_squared(direction, &document.embedding), document));
            let Some((distance, document)) = distances.min_by_key(|(distance, _)| *distance) else {
                continue;
            };
            let Some((model, loss_q32)) = prediction(library, target, document, field.margin_q32)
            else {
                continue;
            };
            let mut others = target.routed.iter().map(|entry| entry.model);
            let wrong = others.find(|other| *other != model).unwrap_or(model);
            let statement = Statement {
                model: if actor.kind == Kind::Liar { wrong } else { model },
                loss_q32,
                distance,
            };
            self.claim(chain, index, actor, target, document.clone(), &statement, rng);
        }
    }

    /// Fills all candidates of one target with claims at distance 0.
    fn deny(
        &mut self,
        chain: &mut Chain,
        index: usize,
        actor: &Actor,
        field: &Field,
        places: u32,
        rng: &mut SimRng,
    ) {
        let position = usize::from(actor.kind == Kind::Denier);
        let Some((target, _)) = field.targets.get(position) else {
            return;
        };
        if chain.balance(&actor.address) < target.reward.times(places.into()) {
            return;
        }
        self.attacks.insert(target.id, index);
        for _ in 0..places {
            let statement = Statement { model: target.routed[0].model, loss_q32: 0, distance: 0 };
            let document = Document::random(None, rng);
            self.claim(chain, index, actor, target, document, &statement, rng);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all of them are parts of a claim")]
    fn claim(
        &mut self,
        chain: &mut Chain,
        index: usize,
        actor: &Actor,
        target: &Target,
        document: Document,
        statement: &Statement,
        rng: &mut SimRng,
    ) {
        let salt = rng.random();
        let hash = Hash::of_bytes(&document.bytes);
        let size_bytes = u32::try_from(document.bytes.len()).unwrap_or(u32::MAX);
        let commitment =
            commitment::data(chain.id(), &actor.address, target.id, &hash, size_bytes, &salt);
        let action = Action::Submit(action::Submit {
            target: target.id,
            model: statement.model,
            loss_q32: statement.loss_q32,
            gain_q32: 0,
            distance: statement.distance,
            size_bytes,
            commitment,
        });
        chain.act(&actor.key, action);
        let claim =
            Claim { submitter: index, target: target.id, document, salt, epoch: target.epoch };
        self.claims.insert(commitment, claim);
    }

    /// Publishes the data of the candidates of this rank, unless they withhold or forget it.
    pub fn publish(&mut self, chain: &mut Chain, actors: &[Actor], rank: usize, rng: &mut SimRng) {
        let epoch = read::clock(&chain.state).epoch.previous();
        if rank == 0 {
            self.published.clear();
        }
        for target in read::targets(&chain.state, epoch) {
            if target.status != TargetStatus::Open {
                continue;
            }
            let candidates = read::candidates(&chain.state, target.id);
            let claim =
                candidates.get(rank).and_then(|candidate| self.claims.get(&candidate.commitment));
            let Some(claim) = claim.filter(|claim| claim.target == target.id) else {
                continue;
            };
            let actor = &actors[claim.submitter];
            let withholds = match actor.kind {
                Kind::Silencer => true,
                Kind::Forgetful => rng.random_ratio(1, 20),
                _ => false,
            };
            if withholds {
                continue;
            }
            let action = Action::PublishData(action::PublishData {
                target: target.id,
                data: claim.document.bytes.clone(),
                salt: claim.salt,
                index: 0,
                leaf_salt: [0; 32],
                path: Vec::new(),
            });
            chain.act(&actor.key, action);
            self.published.insert(target.id, claim.document.clone());
        }
    }

    /// The data published for a target.
    pub fn published(&self, target: TargetId) -> Option<&Document> {
        self.published.get(&target)
    }
}

/// The targets of an epoch, with their directions.
struct Field {
    targets: Vec<(Target, Vec<i16>)>,
    margin_q32: u64,
}

impl Field {
    fn of(state: &MemoryState, epoch: Epoch) -> Self {
        let margin_q32 = read::epoch(state, epoch).map_or(0, |record| record.loss_margin_q32);
        let targets = read::targets(state, epoch).into_iter();
        let targets = targets.filter_map(|target| {
            let direction = query::direction(state, &target)?;
            Some((target, direction))
        });
        Self { targets: targets.collect(), margin_q32 }
    }
}

/// The submitter of a target's published claim.
pub fn publisher(state: &MemoryState, target: &Target) -> Option<Address> {
    let TargetStatus::Published { rank } = target.status else {
        return None;
    };
    let candidates = read::candidates(state, target.id);
    candidates.get(usize::try_from(rank).ok()?).map(|candidate| candidate.submitter)
}
