//! An economy, epoch after epoch: everybody acts, the rules decide, the ledger keeps the books.

use serde::Serialize;
use soma_protocol::{Event, Phase, read};

use crate::Error;
use crate::actors::{self, Actor, Kind};
use crate::chain::Chain;
use crate::delegators;
use crate::genesis::genesis;
use crate::ledger::Ledger;
use crate::owners::Owner;
use crate::rng::{SimRng, stream};
use crate::settings::Settings;
use crate::submitters::Submitters;
use crate::validators::Validators;
use crate::weights::Library;

/// Epochs between two checks of the invariants.
const CHECK_EVERY: u32 = 50;
/// Points of a line in a chart.
const SAMPLES: u32 = 125;

/// A point in time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// After which epoch.
    pub epoch: u32,
    /// What a kind has, less what it spent, as a multiple of what it had.
    pub worth: Vec<(Kind, f64)>,
}

/// Everything there is.
#[expect(missing_debug_implementations, reason = "its people have secret keys")]
pub struct Economy {
    pub(crate) chain: Chain,
    pub(crate) actors: Vec<Actor>,
    owners: Vec<Owner>,
    pub(crate) submitters: Submitters,
    validators: Validators,
    library: Library,
    pub(crate) ledger: Ledger,
    pub(crate) samples: Vec<Sample>,
    training: SimRng,
    looking: SimRng,
}

impl Economy {
    /// Simulates an economy to its end.
    ///
    /// # Errors
    /// If genesis is invalid, or the rules violate an invariant.
    pub fn run(settings: &Settings) -> Result<Self, Error> {
        let mut economy = Self::new(settings)?;
        for epoch in 1..=settings.epochs {
            economy.epoch()?;
            if epoch % CHECK_EVERY == 0 || epoch == settings.epochs {
                economy.chain.check()?;
            }
            if epoch % settings.epochs.div_ceil(SAMPLES) == 0 {
                economy.sample(epoch);
            }
        }
        Ok(economy)
    }

    fn new(settings: &Settings) -> Result<Self, Error> {
        let actors = actors::cast(settings.silent);
        let mut training = stream(settings.seed, "training");
        let owning = actors.iter().enumerate().filter(|(_, one)| one.kind.owns());
        let owners: Vec<Owner> = owning
            .map(|(at, one)| Owner::new(at, one, at, &mut training))
            .collect();
        let mut library = Library::default();
        for owner in &owners {
            library.add(owner.shown().clone());
        }
        let chain = Chain::new(&genesis(settings, &actors, &owners))?;
        let ledger = Ledger::new(&actors, &chain.state);
        Ok(Self {
            chain,
            actors,
            owners,
            submitters: Submitters::default(),
            validators: Validators::default(),
            library,
            ledger,
            samples: Vec::new(),
            training,
            looking: stream(settings.seed, "looking"),
        })
    }

    /// An epoch from its reveal phase to the beginning of the next.
    fn epoch(&mut self) -> Result<(), Error> {
        for owner in &mut self.owners {
            owner.reveal(&mut self.chain, &self.actors[owner.actor]);
        }
        Validators::open_beacons(&mut self.chain, &self.actors);
        self.publish(0);
        let events = self.chain.block()?;
        self.note(&events);
        self.publishing()?;
        self.competing()?;
        self.validators.open_verdicts(&mut self.chain, &self.actors);
        let events = self.chain.next_phase()?;
        self.note(&events);
        let events = self.chain.next_phase()?;
        self.note(&events);
        self.ledger.close_epoch(&self.actors, &self.chain.state);
        Ok(())
    }

    fn note(&mut self, events: &[Event]) {
        self.ledger.note(events, &self.submitters);
    }

    fn publish(&mut self, rank: usize) {
        let (chain, actors) = (&mut self.chain, &self.actors);
        self.submitters
            .publish(chain, actors, rank, &mut self.looking);
    }

    /// The publish phase: each rank in its part, then the draw of targets.
    fn publishing(&mut self) -> Result<(), Error> {
        while self.chain.phase() != Phase::Compete {
            let next = match self.chain.phase() {
                Phase::Publish(rank) => usize::try_from(rank).unwrap_or(usize::MAX - 1) + 1,
                _ => 0,
            };
            if next > 0 {
                self.publish(next);
            }
            let events = self.chain.next_phase()?;
            self.note(&events);
        }
        self.ledger.note_publishers(&self.chain.state);
        Ok(())
    }

    /// The compete phase: training, commits, submissions, audits, stakes.
    fn competing(&mut self) -> Result<(), Error> {
        let margin_q32 = read::params(&self.chain.state).loss_margin_q32;
        for owner in &mut self.owners {
            let state = &self.chain.state;
            let spent = owner.work(&self.library, state, margin_q32, &mut self.training);
            self.ledger.spend(owner.actor, spent);
        }
        self.commit();
        let events = self.chain.block()?;
        self.note(&events);
        Validators::hold_and_answer(&mut self.chain, &self.actors);
        let spent = self.submitters.submit(
            &mut self.chain,
            &self.actors,
            &self.library,
            &mut self.looking,
        );
        for (at, soma) in spent {
            self.ledger.spend(at, soma);
        }
        let spent = self.validators.commit_verdicts(
            &mut self.chain,
            &self.actors,
            &self.library,
            &self.submitters,
        );
        for (at, soma) in spent {
            self.ledger.spend(at, soma);
        }
        delegators::delegate(&mut self.chain, &self.actors, &self.ledger);
        let events = self.chain.block()?;
        self.note(&events);
        Ok(())
    }

    /// Copiers commit first: what they copy lies open since the reveal, while others still train.
    fn commit(&mut self) {
        let trains = |owner: &Owner| {
            let kind = self.actors[owner.actor].kind;
            !matches!(kind, Kind::Copier | Kind::NoisyCopier)
        };
        let mut order: Vec<usize> = (0..self.owners.len()).collect();
        order.sort_by_key(|at| trains(&self.owners[*at]));
        for at in order {
            let owner = &mut self.owners[at];
            let actor = &self.actors[owner.actor];
            owner.commit(&mut self.chain, actor, &mut self.library);
        }
    }

    fn sample(&mut self, epoch: u32) {
        let worth = |kind| {
            let accounts = self.ledger.places_of(&self.actors, kind);
            let accounts: Vec<_> = accounts.map(|at| &self.ledger.accounts[at]).collect();
            let first: f64 = accounts.iter().map(|one| one.first).sum();
            let net: f64 = accounts.iter().map(|one| one.worth - one.spent).sum();
            (kind, if first > 0.0 { net / first } else { 1.0 })
        };
        let worth = Kind::ALL.map(worth).to_vec();
        self.samples.push(Sample { epoch, worth });
    }
}
