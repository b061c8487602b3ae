//! People who want to harm the network through ordinary transactions. Each history draws a few
//! kinds of them; they have enough money and do what they can in every step. What they may reach is
//! stated in `promises` and `offers`.

mod hand;
mod blocks;
mod stake;
mod state;

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use soma_protocol::{Hash, StateRead, VerifiedTransaction};

use blocks::Flood;
use hand::Hand;

use crate::genesis::BREAKER;

/// A kind of attackers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attacker {
    /// Fills blocks and pools with payments that bid nothing; many fail.
    Flooder,
    /// Sends duties that nobody owes, and long lists of held files.
    Starver,
    /// Makes pools with very few shares.
    Inflater,
    /// Moves stake in before draws and elections and out afterwards, changes keys and commissions,
    /// leaves and returns.
    Sniper,
    /// Registers validators with little stake that contribute to the beacon without a seat.
    Swarm,
    /// Submits for one target more than it keeps, proposes and names what is too long.
    Crowd,
    /// Lets stake and withdrawals of many, and retirements, fall due at once.
    Bomber,
    /// A validator that commits to beacons and does not reveal them, and whose verdicts come late.
    Laggard,
    /// Submits one document for target after target.
    Repeater,
    /// Commits a file for each of many models, and reveals none.
    Hoarder,
    /// Gets a model with a broken file routed.
    Breaker,
    /// Claims targets with data that is too long for most validators to audit in time.
    Overloader,
}

const _: () = assert!(Attacker::Breaker as u8 == BREAKER);

impl Attacker {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::Flooder,
        Self::Starver,
        Self::Inflater,
        Self::Sniper,
        Self::Swarm,
        Self::Crowd,
        Self::Bomber,
        Self::Laggard,
        Self::Repeater,
        Self::Hoarder,
        Self::Breaker,
        Self::Overloader,
    ];

    /// Draws the attackers of a history: each kind takes part in three of eight.
    pub fn draw(seed: u64) -> Vec<Self> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(!seed);
        Self::ALL.into_iter().filter(|_| rng.random_ratio(3, 8)).collect()
    }
}

/// The attackers of one history.
#[derive(Debug)]
pub struct Attackers {
    chain: Hash,
    rng: Xoshiro256PlusPlus,
    present: Vec<Attacker>,
    flood: Flood,
}

impl Attackers {
    /// Attackers of these kinds.
    pub fn new(chain: Hash, present: Vec<Attacker>, rng: Xoshiro256PlusPlus) -> Self {
        Self { chain, rng, present, flood: Flood::default() }
    }

    /// What they send in a step.
    pub fn act(&mut self, state: &dyn StateRead, now_ms: u64) -> Vec<VerifiedTransaction> {
        let mut sent = Vec::new();
        for attacker in &self.present {
            let mut hand = Hand::new(*attacker as u8, &self.chain, state, now_ms, &mut self.rng);
            match attacker {
                Attacker::Flooder => self.flood.step(&mut hand),
                Attacker::Starver => blocks::starve(&mut hand),
                Attacker::Inflater => stake::inflate(&mut hand),
                Attacker::Sniper => stake::snipe(&mut hand),
                Attacker::Swarm => stake::swarm(&mut hand),
                Attacker::Crowd => state::crowd(&mut hand),
                Attacker::Bomber => state::bomb(&mut hand),
                Attacker::Laggard => blocks::lag(&mut hand),
                Attacker::Repeater => state::repeat(&mut hand),
                Attacker::Hoarder => state::hoard(&mut hand),
                Attacker::Breaker => state::break_file(&mut hand),
                Attacker::Overloader => state::overload(&mut hand),
            }
            sent.append(&mut hand.sent);
        }
        sent
    }
}
