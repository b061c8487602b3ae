//! Who enters data for targets: those that look for it, and those that claim what they do not have.

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

/// Documents that a submitter looks at in an epoch.
const DOCUMENTS: usize = 60;
/// What looking at one costs, in SOMA.
pub const DOCUMENT_SOMA: f64 = 0.05;
/// Those who attack do so in one epoch of this many.
const ATTACK_EVERY: u32 = 10;

/// Data behind a claim.
#[derive(Clone, Debug)]
struct Claim {
    submitter: usize,
    target: TargetId,
    document: Document,
    salt: [u8; 32],
    epoch: Epoch,
}

/// What a submitter says of some data.
struct Statement {
    model: ModelId,
    loss_q32: i64,
    distance: u64,
}

/// All submitters, and what they keep to themselves.
#[derive(Debug, Default)]
pub struct Submitters {
    claims: BTreeMap<Hash, Claim>,
    published: BTreeMap<TargetId, Document>,
    /// Targets that somebody set out to deny, and who.
    pub attacks: BTreeMap<TargetId, usize>,
}

/// The winner among a target's models on some data, with its loss: what honest claims say.
pub fn prediction(
    library: &Library,
    target: &Target,
    document: &Document,
    margin_q32: u64,
) -> Option<(ModelId, i64)> {
    let quality = |weights| library.get(weights).map(|one| one.loss_q32(document));
    let routed = target.routed.iter();
    let losses: Vec<Option<i64>> = routed.map(|one| quality(&one.weights_hash)).collect();
    let ages: Vec<WeightsAge> = target.routed.iter().map(|one| one.age).collect();
    let at = winner(&losses, &ages, margin_q32)?;
    Some((target.routed[at].model, losses[at]?))
}

impl Submitters {
    /// Everybody with something to claim claims it. Returns what each spent on looking, in SOMA.
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
        let targets = Field::of(&chain.state, epoch, now.params.loss_margin_q32);
        let places = now.params.candidates_per_target;
        let mut costs = Vec::new();
        for (at, actor) in actors
            .iter()
            .enumerate()
            .filter(|(_, one)| one.kind.submits())
        {
            let attacks = epoch.0.is_multiple_of(ATTACK_EVERY);
            match actor.kind {
                Kind::Silencer | Kind::Denier | Kind::Liar if !attacks => {}
                Kind::Silencer | Kind::Denier => {
                    self.deny(chain, at, actor, &targets, places, rng);
                }
                _ => {
                    self.search(chain, at, actor, &targets, library, rng);
                    let lots = if actor.kind == Kind::Colluder { 2 } else { 1 };
                    let looked = f64::from(u32::try_from(lots * DOCUMENTS).unwrap_or(0));
                    costs.push((at, looked * DOCUMENT_SOMA));
                }
            }
        }
        costs
    }

    /// Looks at documents and enters the closest for each target.
    fn search(
        &mut self,
        chain: &mut Chain,
        at: usize,
        actor: &Actor,
        field: &Field,
        library: &Library,
        rng: &mut SimRng,
    ) {
        let mut look = |voice| -> Vec<Document> {
            let documents = 0..DOCUMENTS;
            documents.map(|_| Document::found(voice, rng)).collect()
        };
        let (natural, own) = match actor.kind {
            Kind::Colluder => (look(None), look(Some(at))),
            _ => (look(None), Vec::new()),
        };
        for (target, direction) in &field.targets {
            let asked = target
                .routed
                .iter()
                .any(|one| actor.models.contains(&one.model));
            let documents = if asked { &own } else { &natural };
            let distances = documents
                .iter()
                .map(|one| (distance_squared(direction, &one.embedding), one));
            let Some((distance, document)) = distances.min_by_key(|(distance, _)| *distance) else {
                continue;
            };
            let Some((model, loss_q32)) = prediction(library, target, document, field.margin_q32)
            else {
                continue;
            };
            let mut others = target.routed.iter().map(|one| one.model);
            let other = others.find(|one| *one != model).unwrap_or(model);
            let statement = Statement {
                model: if actor.kind == Kind::Liar {
                    other
                } else {
                    model
                },
                loss_q32,
                distance,
            };
            self.claim(chain, at, actor, target, document.clone(), &statement, rng);
        }
    }

    /// Fills all places of one target with claims that nothing can be closer than.
    fn deny(
        &mut self,
        chain: &mut Chain,
        at: usize,
        actor: &Actor,
        field: &Field,
        places: u32,
        rng: &mut SimRng,
    ) {
        let nth = usize::from(actor.kind == Kind::Denier);
        let Some((target, _)) = field.targets.get(nth) else {
            return;
        };
        if chain.balance(&actor.address) < target.reward.times(places.into()) {
            return;
        }
        self.attacks.insert(target.id, at);
        for _ in 0..places {
            let statement = Statement {
                model: target.routed[0].model,
                loss_q32: 0,
                distance: 0,
            };
            let document = Document::found(None, rng);
            self.claim(chain, at, actor, target, document, &statement, rng);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a claim has this many parts")]
    fn claim(
        &mut self,
        chain: &mut Chain,
        at: usize,
        actor: &Actor,
        target: &Target,
        document: Document,
        statement: &Statement,
        rng: &mut SimRng,
    ) {
        let salt = rng.random();
        let hash = Hash::of_bytes(&document.bytes);
        let size_bytes = u32::try_from(document.bytes.len()).unwrap_or(u32::MAX);
        let commitment = commitment::data(
            chain.id(),
            &actor.address,
            target.id,
            &hash,
            size_bytes,
            &salt,
        );
        let action = Action::Submit(action::Submit {
            target: target.id,
            model: statement.model,
            loss_q32: statement.loss_q32,
            distance: statement.distance,
            size_bytes,
            commitment,
        });
        chain.act(&actor.key, action);
        let claim = Claim {
            submitter: at,
            target: target.id,
            document,
            salt,
            epoch: target.epoch,
        };
        self.claims.insert(commitment, claim);
    }

    /// Candidates of this rank show their data, but for those that want or happen not to.
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
            let claim = candidates
                .get(rank)
                .and_then(|one| self.claims.get(&one.commitment));
            let Some(claim) = claim.filter(|claim| claim.target == target.id) else {
                continue;
            };
            let actor = &actors[claim.submitter];
            let silent = match actor.kind {
                Kind::Silencer => true,
                Kind::Forgetful => rng.random_ratio(1, 20),
                _ => false,
            };
            if silent {
                continue;
            }
            let action = Action::PublishData(action::PublishData {
                target: target.id,
                data: claim.document.bytes.clone(),
                salt: claim.salt,
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

/// The targets of an epoch with their directions.
struct Field {
    targets: Vec<(Target, Vec<i16>)>,
    margin_q32: u64,
}

impl Field {
    fn of(state: &MemoryState, epoch: Epoch, margin_q32: u64) -> Self {
        let targets = read::targets(state, epoch).into_iter();
        let targets = targets.filter_map(|target| {
            let direction = query::direction(state, &target)?;
            Some((target, direction))
        });
        Self {
            targets: targets.collect(),
            margin_q32,
        }
    }
}

/// Who submitted a target's published claim.
pub fn publisher(state: &MemoryState, target: &Target) -> Option<Address> {
    let TargetStatus::Published { rank } = target.status else {
        return None;
    };
    let candidates = read::candidates(state, target.id);
    candidates
        .get(usize::try_from(rank).ok()?)
        .map(|one| one.submitter)
}
