//! The transactions that this node sends to the others. What counts most goes first: duties, then
//! payments by their tip for each unit of weight. Without room the least is left out: the other
//! nodes get it in a block.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use parking_lot::Mutex;
use soma_protocol::SignedTransaction;
use tokio::sync::Notify;

use super::queue::Bid;

/// The most transactions that wait to be sent, and the most bytes.
const WAITING_MAX: usize = 32_768;
const WAITING_BYTES_MAX: usize = 8 << 20;

/// What waits to be sent to the other nodes.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    by_bid: BTreeMap<Bid, SignedTransaction>,
    bytes: usize,
    arrivals: u64,
}

impl Waiting {
    fn take(&mut self, bid: &Bid) -> Option<SignedTransaction> {
        let signed = self.by_bid.remove(bid)?;
        self.bytes -= signed.bytes().len();
        Some(signed)
    }
}

impl Outbox {
    /// Adds a transaction; the one that counts least leaves if there are too many.
    pub(crate) fn push(&self, signed: SignedTransaction) {
        let mut waiting = self.waiting.lock();
        waiting.arrivals += 1;
        let arrival = Reverse(waiting.arrivals);
        let is_duty = signed.transaction().action.is_duty();
        let bid = if is_duty {
            Bid { tip: u64::MAX, weight: 1, turn: Reverse(0), arrival }
        } else {
            Bid { arrival, ..Bid::of(&signed) }
        };
        waiting.bytes += signed.bytes().len();
        waiting.by_bid.insert(bid, signed);
        while waiting.by_bid.len() > WAITING_MAX || waiting.bytes > WAITING_BYTES_MAX {
            let Some(least) = waiting.by_bid.first_key_value().map(|(bid, _)| *bid) else {
                break;
            };
            waiting.take(&least);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Waits for the next transaction to send.
    pub(crate) async fn next(&self) -> SignedTransaction {
        loop {
            if let Some(signed) = self.next_within(usize::MAX) {
                return signed;
            }
            self.changed.notified().await;
        }
    }

    /// The next transaction to send, if it has at most this many bytes.
    pub(crate) fn next_within(&self, bytes: usize) -> Option<SignedTransaction> {
        let mut waiting = self.waiting.lock();
        let (bid, signed) = waiting.by_bid.last_key_value()?;
        if signed.bytes().len() > bytes {
            return None;
        }
        let bid = *bid;
        waiting.take(&bid)
    }
}

#[cfg(test)]
mod tests {
    use soma_protocol::{
        Action, Amount, Epoch, Hash, SecretKey, SignedTransaction, Transaction, action,
    };

    use super::{Outbox, WAITING_BYTES_MAX};

    fn signed(nonce: u64, tip: u64, action: Action) -> SignedTransaction {
        let key = SecretKey::from_bytes(&[1; 32]);
        let transaction = Transaction {
            chain: Hash([0; 32]),
            sender: key.address(),
            nonce,
            tip: Amount(tip),
            fee_limit: Amount::ZERO,
            valid_until_ms: 0,
            action,
        };
        SignedTransaction::new(transaction, [0; 64])
    }

    #[test]
    fn a_duty_and_a_payment_with_a_tip_are_sent_before_a_flood_that_is_bounded() {
        let outbox = Outbox::default();
        let large = |nonce| {
            let (target, data) = (soma_protocol::TargetId(1), vec![0; 100_000]);
            signed(
                nonce,
                0,
                action::PublishData { target, data, ..action::PublishData::default() }.into(),
            )
        };
        for nonce in 0..200 {
            outbox.push(large(nonce));
        }
        let to = SecretKey::from_bytes(&[2; 32]).address();
        let paid = signed(7, 5, action::Transfer { to, amount: Amount(1) }.into());
        let commit = action::CommitBeacon { epoch: Epoch(1), commitment: Hash([1; 32]) };
        let duty = signed(0, 0, commit.into());
        outbox.push(paid.clone());
        outbox.push(duty.clone());
        assert!(outbox.waiting.lock().bytes <= WAITING_BYTES_MAX);
        assert_eq!(outbox.next_within(usize::MAX), Some(duty));
        assert_eq!(outbox.next_within(usize::MAX), Some(paid));
        assert_eq!(outbox.next_within(1_000), None, "the rest does not fit");
        assert_eq!(outbox.next_within(usize::MAX), Some(large(0)), "in order of arrival");
    }
}
