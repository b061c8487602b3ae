//! Which peer a node responds to next, and when. A request of 50 bytes may be answered with 1.25
//! MiB, so each peer is charged for what it is sent: up to a rate it is answered at once, beyond it
//! it waits. Of those that wait, the one that has been sent the least comes first.
//!
//! A peer that waits for its response before it asks again needs no other limit, and is never
//! refused. This reads no clock and sends nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime},
};

use commonware_cryptography::ed25519::PublicKey;

use super::messages::Request;

/// What one peer is sent per second: 6 MiB, with which it downloads a state of a gigabyte from four
/// peers in 45 seconds.
const PEER_BYTES_PER_SECOND: u64 = 6 << 20;
/// What all peers together are sent per second: 24 MiB, which leaves most of a line of a gigabit to
/// blocks and votes.
const BYTES_PER_SECOND: u64 = 4 * PEER_BYTES_PER_SECOND;
/// What a response costs at least, for the reads that it takes. A peer that is answered at once is
/// thereby held to 192 requests per second, below the quota of the network, which loses messages.
const RESPONSE_COST_MIN: u64 = 32 << 10;
/// How much may be sent at once, as the time in which it is earned.
const BURST: Duration = Duration::from_secs(1);
/// How many requests of one peer may wait. A node that syncs has at most eight on their way.
const REQUESTS_WAITING_MAX: usize = 16;

/// A rate: what is used too early has to be waited for.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    per_second: u64,
    /// When what was used has been earned.
    earned_at: SystemTime,
}

impl Allowance {
    /// When more may be used.
    fn ready_at(&self) -> SystemTime {
        self.earned_at.checked_sub(BURST).unwrap_or(self.earned_at)
    }

    fn charge(&mut self, now: SystemTime, bytes: u64) {
        let nanos = bytes.saturating_mul(1_000_000_000) / self.per_second;
        self.earned_at = self.earned_at.max(now) + Duration::from_nanos(nanos);
    }
}

/// What one peer has used, and its requests in order.
struct Account {
    allowance: Allowance,
    waiting: VecDeque<(u64, Request)>,
}

/// A request that is to be answered.
pub(crate) struct Due {
    pub(crate) from: PublicKey,
    pub(crate) number: u64,
    pub(crate) request: Request,
}

/// The requests that wait, and what every peer has used.
pub(crate) struct Serving {
    accounts: BTreeMap<PublicKey, Account>,
    all: Allowance,
}

impl Serving {
    /// Nothing waits, and nothing has been used.
    pub(crate) const fn new(now: SystemTime) -> Self {
        let all = Allowance { per_second: BYTES_PER_SECOND, earned_at: now };
        Self { accounts: BTreeMap::new(), all }
    }

    /// Adds a request; it is dropped if as many of this peer wait as may.
    pub(crate) fn add(&mut self, now: SystemTime, from: PublicKey, number: u64, request: Request) {
        if !self.accounts.contains_key(&from) {
            // Accounts of peers that have gone are cleared away when another one comes.
            self.accounts.retain(|_, account| {
                !account.waiting.is_empty() || account.allowance.earned_at > now
            });
        }
        let account = self.accounts.entry(from).or_insert_with(|| Account {
            allowance: Allowance { per_second: PEER_BYTES_PER_SECOND, earned_at: now },
            waiting: VecDeque::new(),
        });
        if account.waiting.len() < REQUESTS_WAITING_MAX {
            account.waiting.push_back((number, request));
        }
    }

    /// The peer that comes next.
    fn next_peer(&self) -> Option<(&PublicKey, SystemTime)> {
        let waiting = self.accounts.iter().filter(|(_, account)| !account.waiting.is_empty());
        let next = waiting.min_by_key(|(_, account)| account.allowance.earned_at)?;
        Some((next.0, next.1.allowance.ready_at().max(self.all.ready_at())))
    }

    /// When the next request is due.
    pub(crate) fn due_at(&self) -> Option<SystemTime> {
        self.next_peer().map(|(_, due_at)| due_at)
    }

    /// Takes the next request if it is due.
    pub(crate) fn next(&mut self, now: SystemTime) -> Option<Due> {
        let (from, _) = self.next_peer().filter(|(_, due_at)| *due_at <= now)?;
        let from = from.clone();
        let (number, request) = self.accounts.get_mut(&from)?.waiting.pop_front()?;
        Some(Due { from, number, request })
    }

    /// Charges a peer for its response.
    pub(crate) fn charge(&mut self, now: SystemTime, peer: &PublicKey, bytes: usize) {
        let cost = u64::try_from(bytes).unwrap_or(u64::MAX).max(RESPONSE_COST_MIN);
        self.all.charge(now, cost);
        if let Some(account) = self.accounts.get_mut(peer) {
            account.allowance.charge(now, cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use commonware_cryptography::{
        Signer as _,
        ed25519::{PrivateKey, PublicKey},
    };

    use super::{
        BURST, BYTES_PER_SECOND, PEER_BYTES_PER_SECOND, REQUESTS_WAITING_MAX, Request, Serving,
    };
    use crate::limits::RESPONSE_BYTES_MAX;

    fn peer(seed: u64) -> PublicKey {
        PrivateKey::from_seed(seed).public_key()
    }

    /// Bytes sent to each peer in `seconds`, if each keeps its queue full and every response is
    /// `bytes` long.
    fn sent(peers: &[PublicKey], seconds: u64, bytes: usize) -> Vec<u64> {
        let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let (mut now, mut serving) = (begun, Serving::new(begun));
        let mut sent = vec![0; peers.len()];
        while now < begun + Duration::from_secs(seconds) {
            for peer in peers {
                for number in 0..REQUESTS_WAITING_MAX as u64 {
                    serving.add(now, peer.clone(), number, Request::Offer);
                }
            }
            while let Some(due) = serving.next(now) {
                let index = peers.iter().position(|peer| *peer == due.from).unwrap();
                sent[index] += bytes as u64;
                serving.charge(now, &due.from, bytes);
            }
            now += Duration::from_millis(1);
        }
        sent
    }

    #[test]
    fn a_peer_is_sent_its_rate_and_one_burst_however_often_it_asks() {
        let most = |seconds: u64| (seconds + BURST.as_secs()) * PEER_BYTES_PER_SECOND;
        let largest = RESPONSE_BYTES_MAX as u64;
        let sent = sent(&[peer(1)], 10, RESPONSE_BYTES_MAX)[0];
        assert!(sent <= most(10) + largest && sent >= most(10) - largest, "{sent}");
    }

    #[test]
    fn small_responses_are_charged_too() {
        let responses = sent(&[peer(1)], 4, 9)[0] / 9;
        assert!((900..=1_000).contains(&responses), "{responses}");
    }

    #[test]
    fn peers_share_what_is_sent_in_all_and_nobody_is_left_out() {
        let peers: Vec<_> = (0..16).map(peer).collect();
        let sent = sent(&peers, 10, RESPONSE_BYTES_MAX);
        let all: u64 = sent.iter().sum();
        assert!(all <= 11 * BYTES_PER_SECOND + RESPONSE_BYTES_MAX as u64, "{all}");
        let fair = 10 * BYTES_PER_SECOND / 16;
        assert!(sent.iter().all(|sent| *sent >= fair / 10 * 9), "{sent:?}");
    }

    #[test]
    fn a_peer_that_asks_seldom_is_answered_at_once_while_another_floods() {
        let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let mut serving = Serving::new(begun);
        let (flooding, modest) = (peer(1), peer(2));
        for number in 0..1_000 {
            serving.add(begun, flooding.clone(), number, Request::Offer);
        }
        for _ in 0..5 {
            let due = serving.next(begun).unwrap();
            serving.charge(begun, &due.from, RESPONSE_BYTES_MAX);
        }
        assert!(serving.next(begun).is_none(), "its burst is used up");
        let due_at = serving.due_at().unwrap();
        assert!(due_at > begun && due_at < begun + BURST);
        serving.add(begun, modest.clone(), 7, Request::Block(3));
        let due = serving.next(begun).unwrap();
        assert_eq!((due.from, due.number, due.request), (modest, 7, Request::Block(3)));
        // The flood's requests beyond those that may wait were dropped.
        let later = begun + Duration::from_hours(1);
        let left = std::iter::from_fn(|| serving.next(later)).count();
        assert_eq!(left, REQUESTS_WAITING_MAX - 5);
    }
}
