//! What honest people need from the network whatever attackers do: a user that pays, with an
//! ordinary tip, and the duties of honest validators. Each is sent again until it is done, as
//! wallets and nodes do.

use std::collections::BTreeMap;

use soma_protocol::record::TargetStatus;
use soma_protocol::{
    Action, Address, Amount, Epoch, Hash, Phase, SecretKey, StateRead, Transaction,
    VerifiedTransaction, action, commitment, read,
};

use crate::actors::{DATA_BYTES, beacon_value, verdict};
use crate::genesis::{GENESIS_MS, node_key, payer_key, user_key};

/// The tip of the payer: about 40 base units for each byte, where floods offer none.
const TIP: Amount = Amount(10_000);
/// Until when the transactions are valid: long after every history.
const VALID_UNTIL_MS: u64 = GENESIS_MS + (1 << 40);

/// Something that is due.
#[derive(Clone, Debug)]
pub struct Due {
    /// The transaction.
    pub tx: VerifiedTransaction,
    /// The validator that is slashed if this is a beacon that it does not reveal in time.
    pub at_stake: Option<Address>,
}

/// The payer and the honest validators.
#[derive(Debug, Default)]
pub struct Honest {
    signed: BTreeMap<(Address, &'static str, u64), VerifiedTransaction>,
}

impl Honest {
    /// What is due from the payer and from these nodes.
    pub fn due(&mut self, state: &dyn StateRead, chain: &Hash, nodes: &[usize]) -> Vec<Due> {
        let payer = payer_key();
        let nonce = read::account(state, &payer.address()).nonce;
        let transfer = action::Transfer { to: user_key(0).address(), amount: Amount(1) };
        let tx = self.sign(chain, &payer, nonce, &Action::Transfer(transfer));
        let mut due = vec![Due { tx, at_stake: None }];
        for node in nodes {
            let key = node_key(*node);
            if read::committee(state).seats_validator(&key.address()) {
                self.beacon(state, chain, &key, &mut due);
                self.verdicts(state, chain, &key, &mut due);
            }
        }
        due
    }

    /// A transaction, signed once and then remembered; `about` tells those of one kind apart.
    fn sign(
        &mut self,
        chain: &Hash,
        key: &SecretKey,
        about: u64,
        action: &Action,
    ) -> VerifiedTransaction {
        let sender = key.address();
        let make = || {
            let is_duty = action.is_duty();
            let transaction = Transaction {
                chain: *chain,
                sender,
                nonce: if is_duty { 0 } else { about },
                tip: if is_duty { Amount::ZERO } else { TIP },
                fee_limit: if is_duty { Amount::ZERO } else { Amount::soma(1) },
                valid_until_ms: VALID_UNTIL_MS,
                action: action.clone(),
            };
            #[expect(clippy::expect_used, reason = "the signature was just made for this chain")]
            transaction.sign(key).verify(chain).expect("a signed transaction verifies")
        };
        self.signed.entry((sender, action.name(), about)).or_insert_with(make).clone()
    }

    fn beacon(&mut self, state: &dyn StateRead, chain: &Hash, key: &SecretKey, due: &mut Vec<Due>) {
        let (clock, sender) = (read::clock(state), key.address());
        let (epoch, next) = (clock.epoch, Epoch(clock.epoch.0 + 1));
        if read::beacon_commit(state, next, &sender).is_none() {
            let commitment = commitment::beacon(chain, &sender, next, &beacon_value(&sender, next));
            let action = Action::CommitBeacon(action::CommitBeacon { epoch: next, commitment });
            let tx = self.sign(chain, key, next.0.into(), &action);
            due.push(Due { tx, at_stake: None });
        }
        let committed = read::beacon_commit(state, epoch, &sender);
        let is_open = committed.is_some_and(|commit| commit.value.is_none());
        if is_open && clock.phase.reveals() {
            let value = beacon_value(&sender, epoch);
            let action = Action::RevealBeacon(action::RevealBeacon { epoch, value });
            let tx = self.sign(chain, key, epoch.0.into(), &action);
            due.push(Due { tx, at_stake: Some(sender) });
        }
    }

    fn verdicts(
        &mut self,
        state: &dyn StateRead,
        chain: &Hash,
        key: &SecretKey,
        due: &mut Vec<Due>,
    ) {
        let (clock, sender) = (read::clock(state), key.address());
        for target in read::targets(state, Epoch(clock.epoch.0.saturating_sub(1))) {
            if !matches!(target.status, TargetStatus::Published { .. }) {
                continue;
            }
            let id = target.id;
            let data = read::publication(state, id).map_or(Vec::new(), |one| one.data);
            // One machine is fast enough for the longest data.
            if data.len() > DATA_BYTES as usize && sender != node_key(0).address() {
                continue;
            }
            let verdict = verdict(state, id);
            let action = match read::verdict(state, id, &sender) {
                None if clock.phase != Phase::Attest => {
                    let commitment = commitment::verdict(chain, &sender, id, &verdict);
                    Action::CommitVerdict(action::CommitVerdict { target: id, commitment })
                }
                Some(commit) if clock.phase == Phase::Attest && commit.verdict.is_none() => {
                    Action::RevealVerdict(action::RevealVerdict { target: id, verdict })
                }
                _ => continue,
            };
            let tx = self.sign(chain, key, id.0.into(), &action);
            due.push(Due { tx, at_stake: None });
        }
    }
}
