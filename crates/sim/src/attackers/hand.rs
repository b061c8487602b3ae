//! What attackers act with: their accounts, what they see, and what they send.

use std::collections::BTreeMap;

use rand::{RngExt as _, rngs::Xoshiro256PlusPlus};
use soma_protocol::record::{Clock, Model};
use soma_protocol::{
    Action, Address, Amount, Hash, SecretKey, StateRead, Transaction, VerifiedTransaction, read,
};

use crate::actors::VALID_MS;
use crate::genesis::attacker_key;

/// The tip of attackers that do not flood: more than floods offer, less than the payer's.
const TIP: Amount = Amount(1_000);

/// The attackers of one kind in one step.
pub(super) struct Hand<'a> {
    kind: u8,
    pub(super) chain: &'a Hash,
    pub(super) state: &'a dyn StateRead,
    pub(super) clock: Clock,
    pub(super) rng: &'a mut Xoshiro256PlusPlus,
    now_ms: u64,
    nonces: BTreeMap<Address, u64>,
    pub(super) sent: Vec<VerifiedTransaction>,
}

impl<'a> Hand<'a> {
    pub(super) fn new(
        kind: u8,
        chain: &'a Hash,
        state: &'a dyn StateRead,
        now_ms: u64,
        rng: &'a mut Xoshiro256PlusPlus,
    ) -> Self {
        let clock = read::clock(state);
        let nonces = BTreeMap::new();
        Self { kind, chain, state, clock, rng, now_ms, nonces, sent: Vec::new() }
    }

    /// The key of one of their accounts.
    pub(super) fn key(&self, account: u8) -> SecretKey {
        attacker_key(self.kind, account)
    }

    /// The living models of an owner.
    pub(super) fn own_models(&self, owner: &Address) -> Vec<Model> {
        read::living_models(self.state).filter(|model| model.owner == *owner).collect()
    }

    /// Whether a step in `every` has come.
    pub(super) fn once_in(&mut self, every: u32) -> bool {
        self.rng.random_ratio(1, every)
    }

    /// Sends a payment after those that were sent in this step.
    pub(super) fn pay(&mut self, key: &SecretKey, action: impl Into<Action>) {
        let sender = key.address();
        let next = read::account(self.state, &sender).nonce;
        let nonce = *self.nonces.get(&sender).unwrap_or(&next);
        self.pay_at(key, nonce, TIP, action.into());
        self.nonces.insert(sender, nonce + 1);
    }

    /// Sends a payment with this nonce and tip.
    pub(super) fn pay_at(&mut self, key: &SecretKey, nonce: u64, tip: Amount, action: Action) {
        let fee_limit = Amount::soma(10);
        self.send(key, nonce, tip, fee_limit, action);
    }

    /// Sends a duty.
    pub(super) fn perform(&mut self, key: &SecretKey, action: impl Into<Action>) {
        self.send(key, 0, Amount::ZERO, Amount::ZERO, action.into());
    }

    fn send(
        &mut self,
        key: &SecretKey,
        nonce: u64,
        tip: Amount,
        fee_limit: Amount,
        action: Action,
    ) {
        let transaction = Transaction {
            chain: *self.chain,
            sender: key.address(),
            nonce,
            tip,
            fee_limit,
            valid_until_ms: self.now_ms + VALID_MS,
            action,
        };
        #[expect(clippy::expect_used, reason = "the signature was just made for this chain")]
        let verified = transaction.sign(key).verify(self.chain).expect("it was just signed");
        self.sent.push(verified);
    }
}
