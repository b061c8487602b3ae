//! An economy, epoch after epoch: the actors act, the rules decide, and the ledger keeps the books.

use serde::Serialize;
use soma_protocol::{Phase, read};

use crate::Error;
use crate::actors::{self, Actor, Kind};
use crate::chain::Chain;
use crate::delegators;
use crate::flooders;
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

/// The net worth of each kind at one time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The epoch after which it was taken.
    pub epoch: u32,
    /// Worth less spending, as a multiple of the worth at genesis.
    pub worth: Vec<(Kind, f64)>,
}

/// The chain, the actors and their books.
#[expect(missing_debug_implementations, reason = "actors have secret keys")]
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
    searching: SimRng,
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
        let actors = actors::cast(settings);
        let mut training = stream(settings.seed, "training");
        let owning = actors.iter().enumerate().filter(|(_, actor)| actor.kind.owns());
        let owners: Vec<Owner> =
            owning.map(|(index, actor)| Owner::new(index, actor, &mut training)).collect();
        let mut library = Library::default();
        for owner in &owners {
            library.add(owner.published().clone());
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
            searching: stream(settings.seed, "searching"),
        })
    }

    /// Simulates one epoch, from its reveal phase on.
    fn epoch(&mut self) -> Result<(), Error> {
        for owner in &mut self.owners {
            owner.reveal(&mut self.chain, &self.actors[owner.index]);
        }
        Validators::reveal_beacons(&mut self.chain, &self.actors);
        self.publish(0);
        self.block()?;
        self.publish_phase()?;
        self.compete_phase()?;
        self.validators.reveal_verdicts(&mut self.chain, &self.actors);
        self.next_phase()?;
        self.next_phase()?;
        self.ledger.close_epoch(&self.actors, &self.chain.state);
        Ok(())
    }

    fn block(&mut self) -> Result<(), Error> {
        let events = self.chain.block()?;
        self.ledger.note(&events, &self.submitters);
        Ok(())
    }

    fn next_phase(&mut self) -> Result<(), Error> {
        let events = self.chain.next_phase()?;
        self.ledger.note(&events, &self.submitters);
        Ok(())
    }

    fn publish(&mut self, rank: usize) {
        let (chain, actors) = (&mut self.chain, &self.actors);
        self.submitters.publish(chain, actors, rank, &mut self.searching);
    }

    /// The publish phase: the candidates of each rank in turn; then targets are drawn.
    fn publish_phase(&mut self) -> Result<(), Error> {
        while self.chain.phase() != Phase::Compete {
            let next = match self.chain.phase() {
                Phase::Publish(rank) => usize::try_from(rank).unwrap_or(usize::MAX - 1) + 1,
                _ => 0,
            };
            if next > 0 {
                self.publish(next);
            }
            self.next_phase()?;
        }
        self.ledger.note_publishers(&self.chain.state);
        Ok(())
    }

    /// The compete phase: training, commits, submissions, audits, stakes.
    fn compete_phase(&mut self) -> Result<(), Error> {
        let margin_q32 = read::params(&self.chain.state).loss_margin_q32;
        for owner in &mut self.owners {
            let state = &self.chain.state;
            let spent = owner.work(&self.library, state, margin_q32, &mut self.training);
            self.ledger.spend(owner.index, spent);
        }
        self.commit();
        self.block()?;
        Validators::hold_and_answer(&mut self.chain, &self.actors);
        let spent = self.submitters.submit(
            &mut self.chain,
            &self.actors,
            &self.library,
            &mut self.searching,
        );
        for (index, soma) in spent {
            self.ledger.spend(index, soma);
        }
        let spent = self.validators.commit_verdicts(
            &mut self.chain,
            &self.actors,
            &self.library,
            &self.submitters,
        );
        for (index, soma) in spent {
            self.ledger.spend(index, soma);
        }
        delegators::delegate(&mut self.chain, &self.actors, &self.ledger);
        flooders::flood(&mut self.chain, &self.actors);
        self.block()
    }

    /// Copiers commit first: what they copy is public since the reveal, while others still train.
    fn commit(&mut self) {
        let trains = |owner: &Owner| {
            let kind = self.actors[owner.index].kind;
            !matches!(kind, Kind::Copier | Kind::NoisyCopier)
        };
        let mut order: Vec<usize> = (0..self.owners.len()).collect();
        order.sort_by_key(|index| trains(&self.owners[*index]));
        for index in order {
            let owner = &mut self.owners[index];
            let actor = &self.actors[owner.index];
            owner.commit(&mut self.chain, actor, &mut self.library);
        }
    }

    fn sample(&mut self, epoch: u32) {
        let worth = |kind| {
            let accounts: Vec<_> = self.ledger.accounts_of(&self.actors, kind).collect();
            let first: f64 = accounts.iter().map(|account| account.first).sum();
            let net: f64 = accounts.iter().map(|account| account.worth - account.spent).sum();
            (kind, if first > 0.0 { net / first } else { 1.0 })
        };
        let worth = Kind::ALL.map(worth).to_vec();
        self.samples.push(Sample { epoch, worth });
    }
}
