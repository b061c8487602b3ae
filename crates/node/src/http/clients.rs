//! The clients of the API: the requests, transactions and connections of each are limited, so that
//! a greedy or slow client cannot keep the others out.
//!
//! A client is an IPv4 address or a /64 of IPv6. This machine is not limited, unless a proxy on it
//! names the client. The table of clients is bounded, and must never record what a client requests.
//!
//! The buckets are not `governor`'s: its keyed limiter cannot tell whether it knows a client, so a
//! full table would also refuse the clients in it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use parking_lot::{Mutex, MutexGuard};

use super::problem::Problem;
use crate::settings::ClientLimits;

/// Clients in the table. Those with a full allowance are removed first.
const CLIENTS_MAX: usize = 16_384;
const MILLI: u64 = 1_000;

/// An allowance that refills with time, in thousandths so that integers are exact.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    milli: u64,
    at: Instant,
}

impl Bucket {
    fn full(per_second: u32, now: Instant) -> Self {
        Self { milli: 2 * u64::from(per_second) * MILLI, at: now }
    }

    /// Adds what has accrued since the last call.
    fn refill(&mut self, per_second: u32, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_millis();
        let gained = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_mul(per_second.into());
        self.milli = self.milli.saturating_add(gained).min(2 * u64::from(per_second) * MILLI);
        self.at = now;
    }

    /// Takes `count`, or returns the time until that many are available.
    fn take(&mut self, count: u64, per_second: u32, now: Instant) -> Result<(), Duration> {
        self.refill(per_second, now);
        let wanted = count.saturating_mul(MILLI);
        match self.milli.checked_sub(wanted) {
            Some(remaining) => {
                self.milli = remaining;
                Ok(())
            }
            None => Err(Duration::from_millis(
                (wanted - self.milli).div_ceil(u64::from(per_second).max(1)),
            )),
        }
    }
}

#[derive(Debug)]
struct Account {
    requests: Bucket,
    transactions: Bucket,
    connections: u32,
    running: u32,
}

/// All clients of this node.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    limits: ClientLimits,
    accounts: Arc<Mutex<HashMap<IpAddr, Account>>>,
}

/// One of a client's connections or running requests; released when dropped.
#[derive(Debug)]
pub(super) struct Place {
    clients: Clients,
    address: Option<IpAddr>,
    of: fn(&mut Account) -> &mut u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        if let Some(account) = self.clients.lock().get_mut(&address) {
            let count = (self.of)(account);
            *count = count.saturating_sub(1);
        }
    }
}

/// The address of a client: all addresses of a /64 belong to one.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[4..].fill(0);
            IpAddr::V6(Ipv6Addr::from(segments))
        }
        address @ IpAddr::V4(_) => address,
    }
}

impl Clients {
    pub(crate) fn new(limits: ClientLimits) -> Self {
        Self { limits, accounts: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Account>> {
        self.accounts.lock()
    }

    /// The client behind a connection; `None` for this machine, which is not limited.
    fn identify(&self, peer: SocketAddr, headers: Option<&HeaderMap>) -> Option<IpAddr> {
        let local = peer.ip().to_canonical().is_loopback();
        if !local {
            return Some(client_of(peer.ip()));
        }
        let forwarded = headers.filter(|_| self.limits.trust_proxy)?.get("x-forwarded-for")?;
        // The proxy wrote the last entry; the client can forge those before it.
        let last = forwarded.to_str().ok()?.rsplit(',').next()?.trim();
        last.parse().ok().map(client_of)
    }

    /// Runs `question` on a client's account. A table full of busy clients accepts no new ones.
    fn with_account<T>(
        &self,
        address: IpAddr,
        question: impl FnOnce(&mut Account, Instant) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let (now, limits) = (Instant::now(), self.limits);
        let mut accounts = self.lock();
        if accounts.len() >= CLIENTS_MAX && !accounts.contains_key(&address) {
            accounts.retain(|_, account| {
                account.requests.refill(limits.requests_per_second, now);
                account.connections + account.running > 0
                    || account.requests.milli < Bucket::full(limits.requests_per_second, now).milli
            });
            if accounts.len() >= CLIENTS_MAX {
                return Err(Problem::busy("too many clients at once"));
            }
        }
        let account = accounts.entry(address).or_insert_with(|| Account {
            requests: Bucket::full(limits.requests_per_second, now),
            transactions: Bucket::full(limits.transactions_per_second, now),
            connections: 0,
            running: 0,
        });
        question(account, now)
    }

    fn take_use(
        &self,
        address: Option<IpAddr>,
        of: fn(&mut Account) -> &mut u32,
    ) -> Result<Place, Problem> {
        if let Some(address) = address {
            self.with_account(address, |account, _| {
                let count = of(account);
                if *count >= self.limits.concurrent {
                    return Err(Problem::rate_limited(
                        format!("this client has {count} running requests, the maximum"),
                        Duration::from_secs(1),
                    ));
                }
                *count += 1;
                Ok(())
            })?;
        }
        let clients = self.clone();
        Ok(Place { clients, address, of })
    }

    /// Takes one of the client's connections.
    ///
    /// # Errors
    /// `rate_limited` if the client has as many connections as it may have.
    pub(super) fn connect(&self, peer: SocketAddr) -> Result<Place, Problem> {
        self.take_use(self.identify(peer, None), |account| &mut account.connections)
    }

    /// Counts a client's request, which counts as running until the result is dropped.
    ///
    /// # Errors
    /// `rate_limited` if the client is above its rate or at its maximum.
    pub(super) fn request(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<Place, Problem> {
        let address = self.identify(peer, Some(headers));
        if let Some(address) = address {
            let per_second = self.limits.requests_per_second;
            self.with_account(address, |account, now| {
                let taken = account.requests.take(1, per_second, now);
                taken.map_err(|wait| {
                    Problem::rate_limited(
                        format!("this client exceeds {per_second} requests per second"),
                        wait,
                    )
                })
            })?;
        }
        self.take_use(address, |account| &mut account.running)
    }
}

/// The address of a connection; set by the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The client of a request.
#[derive(Debug)]
pub(super) struct Client {
    clients: Clients,
    address: Option<IpAddr>,
}

impl Client {
    pub(super) fn new(clients: &Clients, peer: SocketAddr, headers: &HeaderMap) -> Self {
        Self { clients: clients.clone(), address: clients.identify(peer, Some(headers)) }
    }

    /// Takes `count` of the client's transactions.
    ///
    /// # Errors
    /// `rate_limited` if the client is above its rate.
    pub(super) fn may_send(&self, count: usize) -> Result<(), Problem> {
        let Some(address) = self.address else {
            return Ok(());
        };
        let per_second = self.clients.limits.transactions_per_second;
        self.clients.with_account(address, |account, now| {
            let taken = account.transactions.take(count as u64, per_second, now);
            taken.map_err(|wait| {
                Problem::rate_limited(
                    format!("this client exceeds {per_second} transactions per second"),
                    wait,
                )
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use axum::http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::{Bucket, CLIENTS_MAX, Clients};
    use crate::settings::ClientLimits;

    fn peer(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 1)
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
        let is_allowed = |address: &str| clients.request(peer(address), &HeaderMap::new()).is_ok();
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
    fn concurrent_requests_are_limited_and_released() {
        let clients = clients(false);
        let connect = || clients.connect(peer("192.0.2.1"));
        let (first, second) = (connect().unwrap(), connect().unwrap());
        assert!(connect().is_err());
        drop(first);
        drop((connect().unwrap(), second));
        assert!(connect().is_ok());
    }

    #[test]
    fn only_a_trusted_proxy_on_this_machine_names_another_client() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("198.51.100.7, 192.0.2.9"));
        let identify =
            |trust, address: &str| clients(trust).identify(peer(address), Some(&headers));
        assert_eq!(identify(true, "127.0.0.1"), Some("192.0.2.9".parse().unwrap()));
        assert_eq!(identify(false, "127.0.0.1"), None);
        assert_eq!(identify(true, "192.0.2.1"), Some("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn the_table_of_clients_is_bounded() {
        let clients = clients(false);
        for number in 0..u32::try_from(CLIENTS_MAX).unwrap() + 10 {
            let address = SocketAddr::from((std::net::Ipv4Addr::from_bits(number + (1 << 28)), 1));
            let _answer = clients.request(address, &HeaderMap::new());
        }
        assert!(clients.lock().len() <= CLIENTS_MAX);
    }

    proptest! {
        #[test]
        fn a_client_gets_at_most_its_rate_and_one_burst(
            per_second in 1u32..50,
            requests in prop::collection::vec((0u64..500, 1u64..5), 1..100),
        ) {
            let mut now = Instant::now();
            let (begun, mut bucket) = (now, Bucket::full(per_second, now));
            let mut taken = 0;
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
