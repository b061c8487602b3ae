//! The lanes of the API: each kind of request has places of its own, so that no kind can take the
//! places of another. Whoever holds every stream of events must never keep out a transaction, nor
//! an operator who asks whether the node is well.
//!
//! When all places of such a lane are taken, a request that waits for its client gives way to a new
//! one, first of those whose network has the most. So a client has a place as long as others hold
//! places from fewer networks than there are places.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use parking_lot::Mutex;
use soma_sdk::api::routes;

use super::connections::Connection;
use super::origin::Origin;
use crate::settings::ClientLimits;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// What operators and their tools ask: health, readiness, status, contacts, metrics.
    Health,
    /// Transactions.
    Send,
    /// Questions about the state and the history.
    Query,
    /// Questions that take long: for them the node asks itself much, or runs models.
    Long,
    /// Streams of events.
    Stream,
    /// Files, up and down.
    Transfer,
    /// Files of the page, which are in memory.
    Page,
}

impl Lane {
    pub(super) const ALL: [Self; 7] = [
        Self::Health,
        Self::Send,
        Self::Query,
        Self::Long,
        Self::Stream,
        Self::Transfer,
        Self::Page,
    ];

    /// The lane of a request; unknown routes of the API are questions.
    pub(super) fn of(method: &Method, path: &str) -> Self {
        match path {
            routes::HEALTH
            | routes::READY
            | routes::STATUS
            | routes::CONTACTS
            | routes::METRICS => Self::Health,
            routes::EVENTS => Self::Stream,
            routes::TRANSACTIONS | routes::TRANSACTIONS_BATCH if method == Method::POST => {
                Self::Send
            }
            path if [routes::CIPHERTEXT, routes::WEIGHTS].iter().any(|file| below(path, file)) => {
                Self::Transfer
            }
            routes::TRIAL => Self::Long,
            path if path.starts_with("/v1/") && path.ends_with("/why") => Self::Long,
            routes::OPENAPI => Self::Query,
            path if path.starts_with("/v1/") => Self::Query,
            _ => Self::Page,
        }
    }

    /// Requests that run at once, of all clients. The sum is far below the number of connections,
    /// so a connection without a request can always be found.
    pub(super) const fn places(self) -> usize {
        match self {
            Self::Health | Self::Query | Self::Stream | Self::Page => 256,
            // Each asks one question at a time, so they take some of the turns of `Query`, not all.
            Self::Long => 3,
            Self::Send => 512,
            Self::Transfer => 128,
        }
    }

    /// Whether a request that waits for its client gives way. Streams and files do that for long,
    /// and rightly.
    const fn gives_way(self) -> bool {
        matches!(self, Self::Health | Self::Send | Self::Query | Self::Long | Self::Page)
    }

    /// Requests that run at once, of one client.
    pub(super) fn places_of_client(self, limits: &ClientLimits) -> u32 {
        let most = match self {
            Self::Health => 8,
            Self::Send => 16,
            Self::Long => 2,
            Self::Query | Self::Page => 32,
            Self::Stream | Self::Transfer => limits.streams,
        };
        most.min(limits.concurrent)
    }

    /// Time until the answer must begin; an upload is limited where it is received.
    pub(super) fn time(self, method: &Method) -> Option<Duration> {
        match self {
            Self::Health | Self::Send => Some(Duration::from_secs(15)),
            Self::Transfer if method == Method::PUT => None,
            Self::Query | Self::Long | Self::Stream | Self::Transfer | Self::Page => {
                Some(Duration::from_secs(30))
            }
        }
    }

    /// Whether its handlers read the state without a pause, so that they must not run on the
    /// threads that serve all clients.
    pub(super) const fn reads_state(self) -> bool {
        matches!(self, Self::Health | Self::Query)
    }

    /// Whether the bytes of its answers count as requests: those of files are limited by their
    /// lane alone.
    pub(super) const fn pays_for_bytes(self) -> bool {
        !matches!(self, Self::Transfer)
    }
}

/// The requests of all lanes.
#[derive(Clone, Debug, Default)]
pub(super) struct Lanes([Arc<Mutex<Table>>; Lane::ALL.len()]);

/// The requests of a lane.
#[derive(Debug, Default)]
struct Table {
    running: usize,
    /// Counts changes, so that waiting can be compared.
    tick: u64,
    /// Those that wait for their clients, by the tick since which they do.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// The client's surroundings; `None` for this machine, whose requests never give way.
    network: Option<Origin>,
    connection: Arc<Connection>,
}

impl Table {
    /// Ends a request that waits for its client: of the network that has most of them, the one that
    /// waits longest. False if there is none.
    fn give_way(&mut self) -> bool {
        let mut counts: BTreeMap<Origin, (usize, u64)> = BTreeMap::new();
        for (tick, waiting) in &self.waiting {
            if let Some(network) = waiting.network {
                counts.entry(network).or_insert((0, *tick)).0 += 1;
            }
        }
        let most = counts.into_values().max_by_key(|(count, tick)| (*count, u64::MAX - tick));
        let Some(waiting) = most.and_then(|(_, tick)| self.waiting.remove(&tick)) else {
            return false;
        };
        waiting.connection.cut();
        self.running -= 1;
        true
    }
}

impl Lanes {
    /// Takes a place for a request; `None` while all are taken by requests that the node works on.
    pub(super) fn enter(
        &self,
        lane: Lane,
        network: Option<Origin>,
        connection: &Arc<Connection>,
    ) -> Option<Arc<Running>> {
        let table = Arc::clone(&self.0[lane as usize]);
        let mut locked = table.lock();
        if locked.running >= lane.places() && !(lane.gives_way() && locked.give_way()) {
            return None;
        }
        locked.running += 1;
        drop(locked);
        let connection = Arc::clone(connection);
        Some(Arc::new(Running { table, network, connection, since: Mutex::new(None) }))
    }
}

/// A request's place in its lane; released when dropped.
#[derive(Debug)]
pub(super) struct Running {
    table: Arc<Mutex<Table>>,
    network: Option<Origin>,
    connection: Arc<Connection>,
    /// Since when it waits for its client; `None` while the node works on it.
    since: Mutex<Option<u64>>,
}

impl Running {
    /// From now on, the request waits for its client: for the rest of its body, or until its answer
    /// is taken.
    pub(super) fn waits(&self) {
        let mut table = self.table.lock();
        let mut since = self.since.lock();
        if since.is_none() {
            table.tick += 1;
            let tick = table.tick;
            let connection = Arc::clone(&self.connection);
            table.waiting.insert(tick, Waiting { network: self.network, connection });
            *since = Some(tick);
        }
    }

    /// From now on, the node works on the request.
    pub(super) fn works(&self) {
        let mut table = self.table.lock();
        let mut since = self.since.lock();
        // One that has given way a moment ago stays so: its place must not be released twice.
        if since.is_some_and(|since| table.waiting.remove(&since).is_some()) {
            *since = None;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        let gave_way = self.since.get_mut().is_some_and(|at| table.waiting.remove(&at).is_none());
        if !gave_way {
            table.running -= 1;
        }
    }
}

/// Whether a path begins like this template.
fn below(path: &str, template: &str) -> bool {
    let fixed = template.split('{').next().unwrap_or(template);
    path.starts_with(fixed)
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use soma_protocol::Hash;
    use soma_sdk::api::routes;

    use super::{Lane, Lanes};
    use crate::http::connections::Connections;
    use crate::http::origin::Origin;

    fn network(number: u32) -> Origin {
        let address = std::net::Ipv4Addr::from_bits(number << 8);
        Origin::client(address.into()).surroundings()
    }

    #[test]
    fn a_request_that_waits_for_its_client_gives_way_first_of_the_network_with_most() {
        let (lanes, connections) = (Lanes::default(), Connections::new(4_096));
        let connection = connections.open().unwrap();
        let enter = |number| lanes.enter(Lane::Send, Some(network(number)), &connection);
        let slow = |number| {
            let running = enter(number).unwrap();
            running.waits();
            running
        };
        let alone = slow(1);
        let greedy: Vec<_> = (0..Lane::Send.places() - 1).map(|_| slow(2)).collect();
        let newcomers: Vec<_> = (3..300).map(|number| enter(number).unwrap()).collect();
        assert!(alone.table.lock().waiting.contains_key(&alone.since.lock().unwrap()));
        drop(newcomers);
        let working: Vec<_> = (3..700).map_while(enter).collect();
        assert!(working.len() >= Lane::Send.places() - 1, "those that wait have given way");
        assert!(enter(3).is_none(), "the node works on all others");
        drop(working);
        drop(alone);
        drop(greedy);
        assert_eq!(lanes.0[Lane::Send as usize].lock().running, 0);
    }

    #[test]
    fn a_stream_and_a_request_of_this_machine_give_way_to_nobody() {
        let (lanes, connections) = (Lanes::default(), Connections::new(4_096));
        let connection = connections.open().unwrap();
        for (lane, holder) in [(Lane::Stream, Some(network(1))), (Lane::Health, None)] {
            let hold = |_| {
                let running = lanes.enter(lane, holder, &connection).unwrap();
                running.waits();
                running
            };
            let _held: Vec<_> = (0..lane.places()).map(hold).collect();
            assert!(lanes.enter(lane, Some(network(2)), &connection).is_none());
        }
    }

    #[test]
    fn each_route_runs_in_the_lane_of_its_kind() {
        let get = |path: &str| Lane::of(&Method::GET, path);
        for path in [routes::HEALTH, routes::READY, routes::STATUS, routes::METRICS] {
            assert_eq!(get(path), Lane::Health, "{path}");
        }
        assert_eq!(get(routes::EVENTS), Lane::Stream);
        assert_eq!(Lane::of(&Method::POST, routes::TRANSACTIONS), Lane::Send);
        assert_eq!(Lane::of(&Method::POST, routes::TRANSACTIONS_BATCH), Lane::Send);
        assert_eq!(get(&routes::path(routes::TRANSACTION, Hash([1; 32]))), Lane::Query);
        assert_eq!(Lane::of(&Method::PUT, &routes::path(routes::UPLOAD, "x")), Lane::Transfer);
        assert_eq!(get(&routes::path(routes::WEIGHTS, "x")), Lane::Transfer);
        assert_eq!(get(&routes::path(routes::MODEL_WHY, 7)), Lane::Long);
        assert_eq!(Lane::of(&Method::POST, routes::TRIAL), Lane::Long);
        assert_eq!(get("/why"), Lane::Page);
        assert_eq!(get("/v1/models"), Lane::Query);
        assert_eq!(get("/v1/nothing"), Lane::Query);
        assert_eq!(get(routes::OPENAPI), Lane::Query);
        for path in ["/", "/models/1", "/assets/page.js", "/nothing"] {
            assert_eq!(get(path), Lane::Page, "{path}");
        }
    }
}
