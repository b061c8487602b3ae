//! Submitters, who find documents, fix them, and claim targets with the closest of them an epoch
//! later; or claim data that they do not have.

use std::collections::BTreeMap;

use rand::RngExt as _;
use soma_architecture::embedding::document_distance;
use soma_protocol::record::{Candidate, Target, TargetStatus, WeightsAge};
use soma_protocol::{
    Action, Address, Epoch, Hash, MemoryState, ModelId, TargetId, action, commitment, corpus,
    query, read, winner,
};

use crate::actors::{Actor, Kind};
use crate::chain::Chain;
use crate::quality::{Document, gain_q32};
use crate::rng::SimRng;
use crate::weights::Library;

/// Documents that a submitter finds in an epoch.
const DOCUMENTS: usize = 60;
/// Documents of garbage for a target: they cost nothing but their scores.
const GARBAGE: usize = 600;
/// Documents that a searcher makes in an epoch. On real models they win as often as natural ones.
const SEARCHED: usize = 4;
/// Scores that a searcher spends on a document.
const SEARCH_SCORES: usize = 250;
/// What a sampler's 60 documents are worth: on real models they win as often as this many natural
/// ones.
const SAMPLED: usize = 53;
/// What 60 sampled documents cost, in scores: as much to make as to score.
const SAMPLED_SCORES: usize = 120;
/// Cost of scoring one document, in SOMA.
pub const DOCUMENT_SOMA: f64 = 0.05;
/// Attackers attack in one epoch out of this many.
pub const ATTACK_EVERY: u32 = 10;

/// The data of a claim, until it is published.
#[derive(Clone, Debug)]
struct Claim {
    submitter: usize,
    target: TargetId,
    document: Document,
    salt: [u8; 32],
    index: u32,
    path: Vec<Hash>,
    epoch: Epoch,
}

impl Claim {
    /// The publication of its data.
    fn publish(&self) -> action::PublishData {
        action::PublishData {
            target: self.target,
            data: self.document.bytes.clone(),
            salt: self.salt,
            index: self.index,
            leaf_salt: LEAF_SALT,
            path: self.path.clone(),
        }
    }
}

/// What a submitter claims about its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The model that predicts it best.
    pub model: ModelId,
    /// Its loss.
    pub loss_q32: i64,
    /// How much better than counting it predicts.
    pub gain_q32: i64,
    /// Squared distance of the data's direction from the target's.
    pub distance: u64,
}

/// The documents that a submitter has found and fixed for the targets of the next epoch.
#[derive(Debug, Default)]
struct Corpus {
    documents: Vec<Document>,
    leaves: Vec<Hash>,
}

/// Documents have salts of their own only where somebody could guess them.
const LEAF_SALT: [u8; 32] = [0; 32];

impl Corpus {
    /// Finds documents as an actor of this kind does: natural ones or garbage, and text that is
    /// sampled from the models of `owners`.
    fn find(kind: Kind, owners: &[usize], rng: &mut SimRng) -> Self {
        let (natural, sampled) = match kind {
            Kind::Colluder => (DOCUMENTS, DOCUMENTS),
            Kind::Searcher => (SEARCHED, 0),
            Kind::Garbler => (GARBAGE, 0),
            Kind::Sampler => (0, SAMPLED),
            _ => (DOCUMENTS, 0),
        };
        let mut documents = Vec::new();
        for _ in 0..natural {
            documents.push(match kind {
                Kind::Garbler => Document::garbage(rng),
                _ => Document::random(None, rng),
            });
        }
        for _ in 0..sampled {
            let voice = owners.get(rng.random_range(0..owners.len().max(1))).copied();
            documents.push(Document::random(voice, rng));
        }
        let leaf = |document: &Document| {
            let size_bytes = u32::try_from(document.bytes.len()).unwrap_or(u32::MAX);
            corpus::leaf(&Hash::of_bytes(&document.bytes), size_bytes, &LEAF_SALT)
        };
        Self { leaves: documents.iter().map(leaf).collect(), documents }
    }

    fn commit(&self) -> Action {
        let root = corpus::root(&self.leaves).unwrap_or_default();
        let leaves = u32::try_from(self.leaves.len()).unwrap_or(u32::MAX);
        Action::CommitCorpus(action::CommitCorpus { root, leaves })
    }
}

/// Whether an actor of this kind submits nothing for the targets of an epoch.
const fn rests(kind: Kind, epoch: Epoch) -> bool {
    kind.attacks_now_and_then() && !epoch.0.is_multiple_of(ATTACK_EVERY)
}

/// The owners from whose models an actor samples text, if it does: itself, or all.
fn voices(actors: &[Actor], index: usize) -> Vec<usize> {
    let owners = (0..actors.len()).filter(|at| actors[*at].kind.owns());
    match actors[index].kind {
        Kind::Sampler => owners.collect(),
        _ => vec![index],
    }
}

/// How often an actor scores something, or does as much work, until it has these documents.
const fn scores(kind: Kind, documents: usize) -> usize {
    match kind {
        // Whoever only denies targets to others scores nothing.
        Kind::Silencer | Kind::Denier | Kind::Latecomer => 0,
        Kind::Searcher => documents.saturating_mul(SEARCH_SCORES),
        Kind::Sampler => SAMPLED_SCORES,
        _ => documents,
    }
}

/// All submitters, with their private data.
#[derive(Debug, Default)]
pub struct Submitters {
    /// What each has fixed, by its index.
    fixed: BTreeMap<usize, Corpus>,
    claims: BTreeMap<Hash, Claim>,
    published: BTreeMap<TargetId, Document>,
    /// Targets under attack, each with its attacker.
    pub attacks: BTreeMap<TargetId, usize>,
}

/// A target with all that the distance and the loss of data depend on.
#[derive(Debug)]
pub struct Drawn {
    target: Target,
    direction: Vec<i16>,
    /// What each routed model sees data from.
    seen_from: Vec<Vec<i16>>,
    margin_q32: u64,
    gain_min_q32: i64,
}

impl Drawn {
    /// A target of the running epoch or the one before.
    pub fn of(state: &MemoryState, target: Target) -> Option<Self> {
        let direction = query::direction(state, &target)?;
        let epoch = read::epoch(state, target.epoch)?;
        let gain_min_q32 = i64::try_from(epoch.gain_min_q32).unwrap_or(i64::MAX);
        let routed = target.routed.iter();
        let seen_from = routed
            .map(|entry| read::drawn_specialization(state, target.epoch, entry.model))
            .collect::<Option<_>>()?;
        let margin_q32 = epoch.loss_margin_q32;
        Some(Self { target, direction, seen_from, margin_q32, gain_min_q32 })
    }

    /// The place and loss of the routed model that wins on a document.
    fn prediction(&self, library: &Library, document: &Document) -> Option<(usize, i64)> {
        let quality = |weights| library.get(weights).map(|quality| quality.loss_q32(document));
        let routed = || self.target.routed.iter();
        let losses: Vec<Option<i64>> = routed().map(|entry| quality(&entry.weights_hash)).collect();
        let ages: Vec<WeightsAge> = routed().map(|entry| entry.age).collect();
        let place = winner(&losses, &ages, self.margin_q32)?;
        Some((place, losses[place]?))
    }

    fn distance(&self, document: &Document, place: usize) -> Option<u64> {
        document_distance(&document.embedding, &self.seen_from[place], &self.direction)
    }

    /// What is true of a document.
    pub fn truth(&self, library: &Library, document: &Document) -> Option<Statement> {
        let (place, loss_q32) = self.prediction(library, document)?;
        Some(Statement {
            model: self.target.routed[place].model,
            loss_q32,
            gain_q32: gain_q32(loss_q32),
            distance: self.distance(document, place)?,
        })
    }

    /// The closest of some documents, each seen from the model that wins on it, by its place.
    fn closest(&self, library: &Library, documents: &[Document]) -> Option<(usize, Statement)> {
        let mut seen: Vec<(u64, usize, usize)> = (0..documents.len())
            .flat_map(|at| (0..self.seen_from.len()).map(move |place| (at, place)))
            .filter_map(|(at, place)| Some((self.distance(&documents[at], place)?, at, place)))
            .collect();
        seen.sort_unstable();
        // The first that is seen from its winner; scoring all documents would take longer.
        seen.into_iter().find_map(|(distance, at, _)| {
            let truth = self.truth(library, &documents[at])?;
            (truth.distance == distance).then_some((at, truth))
        })
    }
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
        let targets = read::targets(&chain.state, epoch).into_iter();
        let targets: Vec<Drawn> =
            targets.filter_map(|target| Drawn::of(&chain.state, target)).collect();
        let places = now.params.candidates_per_target;
        let mut costs = Vec::new();
        for (index, actor) in actors.iter().enumerate().filter(|(_, actor)| actor.kind.submits()) {
            let corpus = self.fixed.remove(&index).unwrap_or_default();
            match actor.kind {
                kind if rests(kind, epoch) => {}
                Kind::Silencer | Kind::Denier | Kind::Latecomer => {
                    self.deny(chain, index, actor, &corpus, &targets, places, rng);
                }
                _ => self.enter(chain, index, actor, &corpus, &targets, library, rng),
            }
            costs.push((index, self.find(chain, index, actors, epoch.next(), rng)));
        }
        costs
    }

    /// Finds documents for the targets of an epoch and fixes them. Returns the cost, in SOMA.
    fn find(
        &mut self,
        chain: &mut Chain,
        index: usize,
        actors: &[Actor],
        epoch: Epoch,
        rng: &mut SimRng,
    ) -> f64 {
        let actor = &actors[index];
        if rests(actor.kind, epoch) {
            return 0.0;
        }
        let corpus = Corpus::find(actor.kind, &voices(actors, index), rng);
        chain.act(&actor.key, corpus.commit());
        let scores = scores(actor.kind, corpus.documents.len());
        self.fixed.insert(index, corpus);
        f64::from(u32::try_from(scores).unwrap_or(u32::MAX)) * DOCUMENT_SOMA
    }

    /// Claims the closest document for each target.
    #[expect(clippy::too_many_arguments, reason = "all of them decide what is claimed")]
    fn enter(
        &mut self,
        chain: &mut Chain,
        index: usize,
        actor: &Actor,
        corpus: &Corpus,
        targets: &[Drawn],
        library: &Library,
        rng: &mut SimRng,
    ) {
        let targets = match actor.kind {
            Kind::Garbler => targets.get(3..4).unwrap_or_default(),
            _ => targets,
        };
        let (natural, own) = corpus.documents.split_at(match actor.kind {
            Kind::Colluder => DOCUMENTS.min(corpus.documents.len()),
            _ => corpus.documents.len(),
        });
        for drawn in targets {
            let mut routed = drawn.target.routed.iter();
            let is_routed = routed.any(|entry| actor.models.contains(&entry.model));
            let (documents, first) = if is_routed { (own, natural.len()) } else { (natural, 0) };
            let Some((at, truth)) = drawn.closest(library, documents) else {
                continue;
            };
            let mut others = drawn.target.routed.iter().map(|entry| entry.model);
            let wrong = others.find(|other| *other != truth.model).unwrap_or(truth.model);
            let model = if actor.kind == Kind::Liar { wrong } else { truth.model };
            let gain_q32 = match actor.kind {
                Kind::Garbler => drawn.gain_min_q32,
                _ => truth.gain_q32,
            };
            let statement = Statement { model, gain_q32, ..truth };
            self.claim(chain, index, actor, &drawn.target, corpus, first + at, &statement, rng);
        }
    }

    /// Fills all candidates of one target with claims at distance 0.
    #[expect(clippy::too_many_arguments, reason = "all of them decide what is claimed")]
    fn deny(
        &mut self,
        chain: &mut Chain,
        index: usize,
        actor: &Actor,
        corpus: &Corpus,
        targets: &[Drawn],
        places: u32,
        rng: &mut SimRng,
    ) {
        let position = match actor.kind {
            Kind::Silencer => 0,
            Kind::Denier => 1,
            _ => 2,
        };
        let Some(Drawn { target, .. }) = targets.get(position) else {
            return;
        };
        if chain.balance(&actor.address) < target.reward.times(places.into()) {
            return;
        }
        self.attacks.insert(target.id, index);
        let places = usize::try_from(places).unwrap_or(usize::MAX).min(corpus.documents.len());
        for at in 0..places {
            let model = target.routed[0].model;
            let statement = Statement { model, loss_q32: 0, gain_q32: gain_q32(0), distance: 0 };
            self.claim(chain, index, actor, target, corpus, at, &statement, rng);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all of them are parts of a claim")]
    fn claim(
        &mut self,
        chain: &mut Chain,
        index: usize,
        actor: &Actor,
        target: &Target,
        corpus: &Corpus,
        at: usize,
        statement: &Statement,
        rng: &mut SimRng,
    ) {
        let (salt, document) = (rng.random(), corpus.documents[at].clone());
        let hash = Hash::of_bytes(&document.bytes);
        let size_bytes = u32::try_from(document.bytes.len()).unwrap_or(u32::MAX);
        let commitment =
            commitment::data(chain.id(), &actor.address, target.id, &hash, size_bytes, &salt);
        let action = Action::Submit(action::Submit {
            target: target.id,
            model: statement.model,
            loss_q32: statement.loss_q32,
            gain_q32: statement.gain_q32,
            distance: statement.distance,
            size_bytes,
            commitment,
        });
        chain.act(&actor.key, action);
        let index_of_leaf = u32::try_from(at).unwrap_or(u32::MAX);
        let claim = Claim {
            submitter: index,
            target: target.id,
            document,
            salt,
            index: index_of_leaf,
            path: corpus::path(&corpus.leaves, index_of_leaf).unwrap_or_default(),
            epoch: target.epoch,
        };
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
            self.publish_badly(chain, actors, &candidates, rank);
            let claim =
                candidates.get(rank).and_then(|candidate| self.claims.get(&candidate.commitment));
            let Some(claim) = claim.filter(|claim| claim.target == target.id) else {
                continue;
            };
            let actor = &actors[claim.submitter];
            let withholds = match actor.kind {
                Kind::Silencer | Kind::Latecomer => true,
                Kind::Forgetful => rng.random_ratio(1, 20),
                _ => false,
            };
            if withholds {
                continue;
            }
            chain.act(&actor.key, claim.publish().into());
            self.published.insert(target.id, claim.document.clone());
        }
    }

    /// Lets latecomers publish data that is longer than they claimed in their part, and the right
    /// data in the part after it.
    fn publish_badly(
        &self,
        chain: &mut Chain,
        actors: &[Actor],
        candidates: &[Candidate],
        rank: usize,
    ) {
        for (at, bytes_more) in [(Some(rank), 1), (rank.checked_sub(1), 0)] {
            let candidate = at.and_then(|at| candidates.get(at));
            let claim = candidate.and_then(|candidate| self.claims.get(&candidate.commitment));
            let Some(claim) = claim else {
                continue;
            };
            let actor = &actors[claim.submitter];
            if actor.kind == Kind::Latecomer {
                let mut publication = claim.publish();
                publication.data.extend(std::iter::repeat_n(0, bytes_more));
                chain.act(&actor.key, publication.into());
            }
        }
    }

    /// The data published for a target.
    pub fn published(&self, target: TargetId) -> Option<&Document> {
        self.published.get(&target)
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
