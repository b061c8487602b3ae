//! The clients of the API: the requests, transactions, connections and bytes of each are limited,
//! so that a greedy or slow client cannot keep the others out.
//!
//! A client is an IPv4 address or a /64 of IPv6. Addresses are cheap where one owner has many of
//! them, so their surroundings, an IPv4 /24 or an IPv6 /48, are limited too, to what a few clients
//! may have. This machine is not limited, unless a proxy on it names the client. The table of
//! clients is bounded, and must never record what a client requests.
//!
//! The buckets are not `governor`'s: its keyed limiter cannot tell whether it knows a client, so a
//! full table would also refuse the clients in it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use parking_lot::{Mutex, MutexGuard};
use soma_os::net::last_forwarded;

use super::lane::{Lane, Running};
use super::origin::Origin;
use super::problem::Problem;
use crate::mempool::Party;
use crate::settings::ClientLimits;

/// Entries in the table. Those with a full allowance are removed first.
const ENTRIES_MAX: usize = 32_768;
/// Time between two searches for entries that can be removed: they cost what a table holds.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// Bytes of answers, and of transactions, that cost as much as a request.
const BYTES_PER_REQUEST: u64 = 64 << 10;
/// Bytes of transactions that cost as much as one.
const BYTES_PER_TRANSACTION: u64 = 512;
/// What a transaction costs more, in transactions, if it is malformed or its signature is forged:
/// nobody sends such a thing by mistake, and the last takes a node's time.
pub(super) const MALFORMED_COST: u64 = 16;
pub(super) const FORGED_COST: u64 = 64;
/// Seconds of its allowance that a client can owe at most.
const DEBT_SECONDS: i64 = 30;
const MILLI: i64 = 1_000;

/// An allowance that refills with time, in thousandths so that integers are exact. It is negative
/// while the client owes for what it has already got.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    milli: i64,
    at: Instant,
}

impl Bucket {
    fn full(per_second: u32, now: Instant) -> Self {
        Self { milli: 2 * i64::from(per_second) * MILLI, at: now }
    }

    /// Adds what has accrued since the last call.
    fn refill(&mut self, per_second: u32, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_millis();
        let gained = i64::try_from(elapsed).unwrap_or(i64::MAX).saturating_mul(per_second.into());
        self.milli = self.milli.saturating_add(gained).min(Self::full(per_second, now).milli);
        self.at = now;
    }

    /// Takes `count`, or returns the time until that many are available.
    fn take(&mut self, count: u64, per_second: u32, now: Instant) -> Result<(), Duration> {
        self.refill(per_second, now);
        let wanted = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(MILLI);
        if wanted <= self.milli {
            self.milli -= wanted;
            return Ok(());
        }
        Err(time_for(wanted.saturating_sub(self.milli), per_second))
    }

    /// Takes what has already been used, and returns the time until nothing is owed.
    fn owe(&mut self, milli: i64, per_second: u32, now: Instant) -> Option<Duration> {
        self.refill(per_second, now);
        let floor = -DEBT_SECONDS * i64::from(per_second) * MILLI;
        self.milli = self.milli.saturating_sub(milli).max(floor);
        (self.milli < 0).then(|| time_for(-self.milli, per_second))
    }
}

/// The time in which this much accrues.
fn time_for(milli: i64, per_second: u32) -> Duration {
    Duration::from_millis(milli.unsigned_abs().div_ceil(u64::from(per_second).max(1)))
}

#[derive(Debug)]
struct Account {
    requests: Bucket,
    transactions: Bucket,
    connections: u32,
    running: [u32; Lane::ALL.len()],
}

/// What a client can hold one of.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Connection,
    Request(Lane),
}

impl Account {
    fn count(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Connection => &mut self.connections,
            Kind::Request(lane) => &mut self.running[lane as usize],
        }
    }

    fn all_running(&self) -> u32 {
        self.running.iter().sum()
    }

    fn is_idle(&self) -> bool {
        self.connections == 0 && self.all_running() == 0
    }
}

/// The accounts of all clients.
#[derive(Debug, Default)]
struct Table {
    accounts: HashMap<Origin, Account>,
    /// When entries were last removed.
    swept: Option<Instant>,
}

/// All clients of this node.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    limits: ClientLimits,
    table: Arc<Mutex<Table>>,
}

/// One of a client's connections or running requests; released when dropped.
#[derive(Debug)]
pub(super) struct Place {
    clients: Clients,
    /// `None` for this machine, which is not limited.
    client: Option<Origin>,
    kind: Kind,
}

impl Place {
    /// The surroundings of the client; `None` for this machine.
    pub(super) fn network(&self) -> Option<Origin> {
        self.client.map(Origin::surroundings)
    }

    /// The client; `None` for this machine.
    pub(super) fn client(&self) -> Option<Origin> {
        self.client
    }

    /// Charges the client for these bytes of an answer. Returns how long a stream has to wait.
    pub(super) fn pay_for(&self, bytes: usize) -> Option<Duration> {
        let client = self.client?;
        let Kind::Request(lane) = self.kind else { return None };
        if !lane.pays_for_bytes() {
            return None;
        }
        let cost = in_milli(bytes as u64) / in_i64(BYTES_PER_REQUEST);
        let (now, per_second) = (Instant::now(), self.clients.limits.requests_per_second);
        let mut table = self.clients.lock();
        let mut owe = |origin: Origin| {
            let rate = per_second.saturating_mul(origin.times());
            table.accounts.get_mut(&origin)?.requests.owe(cost, rate, now)
        };
        let waits = [owe(client), owe(client.surroundings())];
        waits.into_iter().max().flatten().filter(|_| lane == Lane::Stream)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(client) = self.client else { return };
        let mut table = self.clients.lock();
        for origin in [client, client.surroundings()] {
            if let Some(account) = table.accounts.get_mut(&origin) {
                let count = account.count(self.kind);
                *count = count.saturating_sub(1);
            }
        }
    }
}

impl Clients {
    pub(crate) fn new(limits: ClientLimits) -> Self {
        Self { limits, table: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// The client behind a connection; `None` for this machine, which is not limited.
    fn identify(&self, peer: SocketAddr, headers: Option<&HeaderMap>) -> Option<Origin> {
        let local = peer.ip().to_canonical().is_loopback();
        if !local {
            return Some(Origin::client(peer.ip()));
        }
        let headers = headers.filter(|_| self.limits.trust_proxy)?;
        let line = headers.get_all("x-forwarded-for").into_iter().next_back()?;
        let named = line.to_str().ok().and_then(last_forwarded);
        // Those whom the proxy does not name are one client: they must not count as this machine.
        let named = named.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Some(Origin::client(named))
    }

    /// Runs `question` on the surroundings of a client, then on the client itself, each with how
    /// many times a client's limits it may have. A table full of busy clients accepts no new ones.
    fn ask(
        &self,
        table: &mut Table,
        client: Origin,
        mut question: impl FnMut(&mut Account, u32, Instant) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let now = Instant::now();
        // The surroundings come first: whoever exceeds those makes no entries.
        for origin in [client.surroundings(), client] {
            if table.accounts.len() >= ENTRIES_MAX && !table.accounts.contains_key(&origin) {
                self.make_room(table, now);
                if table.accounts.len() >= ENTRIES_MAX {
                    return Err(Problem::busy("too many clients at once"));
                }
            }
            let times = origin.times();
            let account = table.accounts.entry(origin).or_insert_with(|| self.account(times, now));
            question(account, times, now)?;
        }
        Ok(())
    }

    fn account(&self, times: u32, now: Instant) -> Account {
        let full = |per_second: u32| Bucket::full(per_second.saturating_mul(times), now);
        Account {
            requests: full(self.limits.requests_per_second),
            transactions: full(self.limits.transactions_per_second),
            connections: 0,
            running: [0; Lane::ALL.len()],
        }
    }

    /// Forgets the clients that hold nothing and have their whole allowance.
    fn make_room(&self, table: &mut Table, now: Instant) {
        if table.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_EVERY) {
            return;
        }
        table.swept = Some(now);
        let ClientLimits { requests_per_second, transactions_per_second, .. } = self.limits;
        table.accounts.retain(|origin, account| {
            let is_full = |bucket: &mut Bucket, per_second: u32| {
                let rate = per_second.saturating_mul(origin.times());
                bucket.refill(rate, now);
                bucket.milli >= Bucket::full(rate, now).milli
            };
            !account.is_idle()
                || !is_full(&mut account.requests, requests_per_second)
                || !is_full(&mut account.transactions, transactions_per_second)
        });
    }

    /// Takes one of the places that a client may have of a kind.
    fn take(&self, client: Option<Origin>, kind: Kind) -> Result<Place, Problem> {
        let place = |client| Place { clients: self.clone(), client, kind };
        let Some(client) = client else {
            return Ok(place(None));
        };
        let all = self.limits.concurrent;
        let most = match kind {
            Kind::Connection => all,
            Kind::Request(lane) => lane.places_of_client(&self.limits),
        };
        let too_many = |what: u32| {
            let message = format!("this client has {what} running requests, the maximum");
            Problem::rate_limited(message, Duration::from_secs(1))
        };
        // Both are asked before either counts, so that nothing has to be given back.
        let mut table = self.lock();
        self.ask(&mut table, client, |account, times, _| {
            let (count, running) = (*account.count(kind), account.all_running());
            let is_request = matches!(kind, Kind::Request(_));
            if count >= most.saturating_mul(times) {
                return Err(too_many(count));
            }
            if is_request && running >= all.saturating_mul(times) {
                return Err(too_many(running));
            }
            Ok(())
        })?;
        self.ask(&mut table, client, |account, _, _| {
            *account.count(kind) += 1;
            Ok(())
        })?;
        Ok(place(Some(client)))
    }

    /// Takes one of the client's connections.
    ///
    /// # Errors
    /// `rate_limited` if the client has as many connections as it may have.
    pub(super) fn connect(&self, peer: SocketAddr) -> Result<Place, Problem> {
        self.take(self.identify(peer, None), Kind::Connection)
    }

    /// Counts a client's request.
    ///
    /// # Errors
    /// `rate_limited` if the client is above its rate.
    pub(super) fn charge(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(client) = self.identify(peer, Some(headers)) else {
            return Ok(());
        };
        let per_second = self.limits.requests_per_second;
        self.ask(&mut self.lock(), client, |account, times, now| {
            let taken = account.requests.take(1, per_second.saturating_mul(times), now);
            taken.map_err(|wait| {
                let message = format!("this client exceeds {per_second} requests per second");
                Problem::rate_limited(message, wait)
            })
        })
    }

    /// Takes one of the client's places for a request, which counts as running until the result is
    /// dropped.
    ///
    /// # Errors
    /// `rate_limited` if the client is at its maximum.
    pub(super) fn place(
        &self,
        peer: SocketAddr,
        headers: &HeaderMap,
        lane: Lane,
    ) -> Result<Place, Problem> {
        self.take(self.identify(peer, Some(headers)), Kind::Request(lane))
    }
}

/// The address of a connection; set by the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The client of a request that sends something.
#[derive(Debug)]
pub(super) struct Client {
    clients: Clients,
    origin: Option<Origin>,
    party: Party,
    running: Arc<Running>,
}

impl Client {
    pub(super) fn new(
        clients: &Clients,
        peer: SocketAddr,
        headers: &HeaderMap,
        running: Arc<Running>,
    ) -> Self {
        let origin = clients.identify(peer, Some(headers));
        let here = Party::Here(peer.port());
        let party = origin.map_or(here, |origin| Party::Client(origin.address));
        Self { clients: clients.clone(), origin, party, running }
    }

    /// Whether it is at this machine.
    pub(super) const fn is_here(&self) -> bool {
        self.origin.is_none()
    }

    /// Whose transactions take turns with those of others.
    pub(super) const fn party(&self) -> Party {
        self.party
    }

    /// Waits for the client until the body of its request has arrived.
    ///
    /// # Errors
    /// `rate_limited` if the client owes transactions: nothing more is read of it then.
    pub(super) fn may_begin(&self) -> Result<(), Problem> {
        self.running.waits();
        self.take(0)
    }

    /// Takes `count` of the client's transactions, `bytes` long in all, once they have arrived.
    ///
    /// # Errors
    /// `rate_limited` if the client is above its rate.
    pub(super) fn may_send(&self, count: usize, bytes: usize) -> Result<(), Problem> {
        self.running.works();
        let bytes = bytes as u64;
        self.owe(|account, times, now| {
            let rate = self.clients.limits.requests_per_second.saturating_mul(times);
            account.requests.owe(in_milli(bytes) / in_i64(BYTES_PER_REQUEST), rate, now);
        });
        self.take((count as u64).max(bytes / BYTES_PER_TRANSACTION))
    }

    fn take(&self, count: u64) -> Result<(), Problem> {
        let Some(origin) = self.origin else {
            return Ok(());
        };
        let per_second = self.clients.limits.transactions_per_second;
        self.clients.ask(&mut self.clients.lock(), origin, |account, times, now| {
            let rate = per_second.saturating_mul(times);
            account.transactions.take(count, rate, now).map_err(|wait| {
                let message = format!("this client exceeds {per_second} transactions per second");
                Problem::rate_limited(message, wait)
            })
        })
    }

    /// Charges the client for transactions that no honest client sends; it may owe them.
    pub(super) fn pay_for_garbage(&self, transactions: u64) {
        self.owe(|account, times, now| {
            let rate = self.clients.limits.transactions_per_second.saturating_mul(times);
            account.transactions.owe(in_milli(transactions), rate, now);
        });
    }

    fn owe(&self, charge: impl Fn(&mut Account, u32, Instant)) {
        let Some(origin) = self.origin else { return };
        let (now, mut table) = (Instant::now(), self.clients.lock());
        for origin in [origin, origin.surroundings()] {
            if let Some(account) = table.accounts.get_mut(&origin) {
                charge(account, origin.times(), now);
            }
        }
    }
}

fn in_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number in thousandths.
fn in_milli(number: u64) -> i64 {
    in_i64(number).saturating_mul(MILLI)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use axum::http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::{Bucket, Clients, ENTRIES_MAX, Lane, Origin, Place, Problem};
    use crate::settings::ClientLimits;

    fn peer(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 1)
    }

    impl Clients {
        fn request(
            &self,
            peer: SocketAddr,
            headers: &HeaderMap,
            lane: Lane,
        ) -> Result<Place, Problem> {
            self.charge(peer, headers)?;
            self.place(peer, headers, lane)
        }
    }

    fn clients(trust_proxy: bool) -> Clients {
        Clients::new(ClientLimits {
            requests_per_second: 3,
            concurrent: 2,
            trust_proxy,
            ..ClientLimits::default()
        })
    }

    #[test]
    fn a_client_above_its_rate_is_refused_and_others_are_not() {
        let clients = clients(false);
        let is_allowed =
            |address: &str| clients.request(peer(address), &HeaderMap::new(), Lane::Query).is_ok();
        assert_eq!((0..9).filter(|_| is_allowed("192.0.2.1")).count(), 6);
        assert!(is_allowed("192.0.2.2"));
        assert_eq!(
            (0..9).filter(|_| is_allowed("127.0.0.1")).count(),
            9,
            "this machine is not limited"
        );
        let within_64 = ["2001:db8::1", "2001:db8::2:0:0:1"];
        let allowed = (0..8).filter(|at| is_allowed(within_64[at % 2])).count();
        assert_eq!(allowed, 6, "a /64 is one client");
    }

    #[test]
    fn one_client_cannot_hold_all_connections() {
        let clients = clients(false);
        let connect = || clients.connect(peer("192.0.2.1"));
        let (first, second) = (connect().unwrap(), connect().unwrap());
        assert!(connect().is_err());
        drop(first);
        drop((connect().unwrap(), second));
        assert!(connect().is_ok());
    }

    #[test]
    fn the_kinds_of_requests_of_a_client_are_limited_each_and_together() {
        let clients = Clients::new(ClientLimits { streams: 2, ..ClientLimits::default() });
        let ask = |address: &str, lane| clients.request(peer(address), &HeaderMap::new(), lane);
        let mut held = Vec::new();
        while let Ok(place) = ask("192.0.2.1", Lane::Stream) {
            held.push(place);
        }
        assert_eq!(held.len(), 2);
        assert!(ask("192.0.2.1", Lane::Health).is_ok() && ask("192.0.2.1", Lane::Send).is_ok());
        held.extend((0..70).filter_map(|_| ask("192.0.2.1", Lane::Query).ok()));
        held.extend((0..70).filter_map(|_| ask("192.0.2.1", Lane::Send).ok()));
        held.extend((0..70).filter_map(|_| ask("192.0.2.1", Lane::Health).ok()));
        let most = clients.limits.concurrent as usize;
        assert!(held.len() <= most, "{} of {most}", held.len());
        assert!(ask("192.0.2.2", Lane::Stream).is_ok());
    }

    #[test]
    fn the_addresses_around_a_client_have_no_more_than_a_few_clients_together() {
        let clients = Clients::new(ClientLimits { concurrent: 2, ..ClientLimits::default() });
        let connect = |address: String| clients.connect(peer(&address)).ok();
        let in_24: Vec<_> = (1..=99).filter_map(|n| connect(format!("192.0.2.{n}"))).collect();
        assert_eq!(in_24.len(), 8);
        assert!(connect("192.0.3.1".to_owned()).is_some());
        let in_48: Vec<_> = (1..99).filter_map(|n| connect(format!("2001:db8:1:{n}::1"))).collect();
        assert_eq!(in_48.len(), 8);
        assert!(connect("2001:db8:2::1".to_owned()).is_some());
        drop(in_24);
        assert!(connect("192.0.2.200".to_owned()).is_some(), "places are released");
    }

    #[test]
    fn a_client_pays_for_the_bytes_of_its_answers_before_it_may_ask_again() {
        let clients = clients(false);
        let ask = |address: &str, lane| clients.request(peer(address), &HeaderMap::new(), lane);
        let question = ask("192.0.2.1", Lane::Query).unwrap();
        assert_eq!(question.pay_for(1 << 20), None, "its answer is complete already");
        assert!(ask("192.0.2.1", Lane::Health).is_err());
        let stream = ask("198.51.100.1", Lane::Stream).unwrap();
        assert_eq!(stream.pay_for(1 << 10), None);
        assert!(stream.pay_for(1 << 20).unwrap() > Duration::from_secs(1), "a stream waits");
        let file = ask("203.0.113.1", Lane::Download).unwrap();
        assert_eq!(file.pay_for(1 << 30), None);
        assert!(ask("203.0.113.1", Lane::Query).is_ok(), "files are limited by their lane");
    }

    #[test]
    fn only_a_trusted_proxy_on_this_machine_names_another_client() {
        let named = |trust, address: &str, lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            clients(trust).identify(peer(address), Some(&headers))
        };
        let client = |text: &str| Some(Origin::client(text.parse().unwrap()));
        let forged = ["198.51.100.7, 192.0.2.9"];
        assert_eq!(named(true, "127.0.0.1", &forged), client("192.0.2.9"));
        assert_eq!(named(false, "127.0.0.1", &forged), None);
        assert_eq!(named(true, "192.0.2.1", &forged), client("192.0.2.1"));
        let lines = ["198.51.100.7", "203.0.113.5, 192.0.2.9"];
        assert_eq!(named(true, "127.0.0.1", &lines), client("192.0.2.9"), "the proxy's own line");
        assert_eq!(named(true, "127.0.0.1", &["192.0.2.9:4711"]), client("192.0.2.9"));
        assert_eq!(named(true, "127.0.0.1", &["[2001:db8::1]:1"]), client("2001:db8::1"));
        assert_eq!(named(true, "127.0.0.1", &["unknown"]), client("0.0.0.0"), "limited");
        assert_eq!(named(true, "127.0.0.1", &[]), None, "not through the proxy");
    }

    #[test]
    fn the_table_of_clients_is_bounded() {
        let clients = clients(false);
        for number in 0..u32::try_from(ENTRIES_MAX).unwrap() + 10 {
            let address =
                SocketAddr::from((std::net::Ipv4Addr::from_bits((number << 8) + (1 << 28)), 1));
            let _answer = clients.request(address, &HeaderMap::new(), Lane::Query);
        }
        assert!(clients.lock().accounts.len() <= ENTRIES_MAX);
    }

    proptest! {
        #[test]
        fn a_client_gets_at_most_its_rate_and_one_burst(
            per_second in 1u32..50,
            requests in prop::collection::vec((0u64..500, 1u64..5), 1..100),
        ) {
            let mut now = Instant::now();
            let (begun, mut bucket) = (now, Bucket::full(per_second, now));
            let mut taken = 0_u64;
            for (pause_ms, count) in requests {
                now += Duration::from_millis(pause_ms);
                match bucket.take(count, per_second, now) {
                    Ok(()) => taken += count,
                    Err(wait) if count <= 2 * u64::from(per_second) => {
                        let mut later = bucket;
                        let taken = later.take(count, per_second, now + wait);
                        prop_assert!(taken.is_ok(), "the wait was enough");
                    }
                    Err(_) => {}
                }
            }
            let elapsed_ms = u64::try_from(now.duration_since(begun).as_millis()).unwrap();
            prop_assert!(taken * 1000 <= (2000 + elapsed_ms) * u64::from(per_second));
        }
    }
}
