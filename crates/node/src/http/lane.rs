//! The lanes of the API: each kind of request has places of its own, so that no kind can take the
//! places of another. Whoever holds every stream of events must never keep out a transaction, nor
//! an operator who asks whether the node is well.
//!
//! When all places of such a lane are taken, a request that waits for its client gives way to a new
//! one, first of those whose network has the most. So a client has a place as long as others hold
//! places from fewer networks than there are places.
//!
//! Files move for long, and rightly. When all places for them are taken, the transfer that is
//! furthest behind the least rate gives way, of the network that has most, to one whose network has
//! fewer: it resumes with the bytes that it has. Owners who upload and the peers of this node have
//! places that nobody else can take.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use parking_lot::Mutex;
use soma_engine::PEERS_MAX;
use soma_protocol::ConsensusKey;
use soma_sdk::api::routes;

use super::connections::Connection;
use super::origin::Origin;
use super::pace::Pace;
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
    /// Files that anybody downloads.
    Download,
    /// Files that this node's peers download.
    Peer,
    /// Files that their owners upload.
    Upload,
    /// Files of the page, which are in memory.
    Page,
}

impl Lane {
    pub(super) const ALL: [Self; 9] = [
        Self::Health,
        Self::Send,
        Self::Query,
        Self::Long,
        Self::Stream,
        Self::Download,
        Self::Peer,
        Self::Upload,
        Self::Page,
    ];

    /// The lane of a request, before it is known who a download is for; unknown routes of the API
    /// are questions.
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
            path if uploaded(path).is_some() => Self::Upload,
            path if [routes::CIPHERTEXT, routes::WEIGHTS].iter().any(|file| below(path, file)) => {
                Self::Download
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
            Self::Download | Self::Upload => 128,
            Self::Peer => PEERS_MAX * PLACES_OF_PEER,
        }
    }

    /// Whether a request that waits for its client gives way. Streams do that for long, and
    /// rightly.
    const fn gives_way(self) -> bool {
        !matches!(self, Self::Stream)
    }

    /// Whether it is for files, which move at a pace.
    pub(super) const fn moves_files(self) -> bool {
        matches!(self, Self::Download | Self::Peer | Self::Upload)
    }

    /// Requests that run at once, of one client.
    pub(super) fn places_of_client(self, limits: &ClientLimits) -> u32 {
        let most = match self {
            Self::Health => 8,
            Self::Send => 16,
            Self::Long => 2,
            Self::Query | Self::Page => 32,
            Self::Stream | Self::Download | Self::Peer | Self::Upload => limits.streams,
        };
        most.min(limits.concurrent)
    }

    /// Time until the answer must begin; an upload is limited where it is received.
    pub(super) fn time(self, method: &Method) -> Option<Duration> {
        match self {
            Self::Health | Self::Send => Some(Duration::from_secs(15)),
            Self::Upload if method == Method::PUT => None,
            _ => Some(Duration::from_secs(30)),
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
        !self.moves_files()
    }
}

/// Files that one peer may download at once: more than a node fetches.
const PLACES_OF_PEER: usize = 8;

/// Who holds a place, for the choice of who gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// A client, by its surroundings.
    Network(Origin),
    /// A peer of this node.
    Peer(ConsensusKey),
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
    /// `None` for this machine, whose requests never give way.
    holder: Option<Holder>,
    connection: Arc<Connection>,
    /// Since when it waits, and what of a file has moved meanwhile.
    pace: Arc<Pace>,
}

impl Table {
    /// How many requests of a holder wait.
    fn count(&self, holder: Holder) -> usize {
        self.waiting.values().filter(|waiting| waiting.holder == Some(holder)).count()
    }

    /// Ends a request that waits for its client: of the network that has most of them, the one that
    /// is furthest behind. False if no network has more than `fewest`.
    fn give_way(&mut self, fewest: usize) -> bool {
        let mut most: BTreeMap<Holder, (usize, i64, u64)> = BTreeMap::new();
        for (tick, waiting) in &self.waiting {
            if let Some(holder) = waiting.holder {
                let (count, behind_ms, slowest) = most.entry(holder).or_insert((0, i64::MIN, 0));
                *count += 1;
                if waiting.pace.behind_ms() > *behind_ms {
                    (*behind_ms, *slowest) = (waiting.pace.behind_ms(), *tick);
                }
            }
        }
        let most = most.into_values().filter(|(count, ..)| *count > fewest).max();
        let Some(waiting) = most.and_then(|(.., tick)| self.waiting.remove(&tick)) else {
            return false;
        };
        waiting.connection.cut();
        self.running -= 1;
        true
    }

    /// Whether there is a place for a request of this holder; if need be, another one gives way.
    fn make_room(&mut self, lane: Lane, holder: Option<Holder>) -> bool {
        if let Some(peer @ Holder::Peer(_)) = holder
            && self.count(peer) >= PLACES_OF_PEER
        {
            return false;
        }
        if self.running < lane.places() {
            return true;
        }
        // A transfer is worth no more than another one: only who has fewer comes first.
        let own = holder.filter(|_| lane.moves_files()).map_or(0, |holder| self.count(holder));
        lane.gives_way() && self.give_way(own)
    }
}

impl Lanes {
    /// Takes a place for a request; `None` while all are taken by requests that the node works on.
    pub(super) fn enter(
        &self,
        lane: Lane,
        holder: Option<Holder>,
        connection: &Arc<Connection>,
    ) -> Option<Arc<Running>> {
        let table = Arc::clone(&self.0[lane as usize]);
        let mut locked = table.lock();
        if !locked.make_room(lane, holder) {
            return None;
        }
        locked.running += 1;
        drop(locked);
        let (connection, pace) = (Arc::clone(connection), Arc::new(Pace::begin()));
        let running = Running { table, lane, holder, connection, pace, since: Mutex::new(None) };
        if lane.moves_files() {
            running.waits();
        }
        Some(Arc::new(running))
    }
}

/// A request's place in its lane; released when dropped.
#[derive(Debug)]
pub(super) struct Running {
    table: Arc<Mutex<Table>>,
    lane: Lane,
    holder: Option<Holder>,
    connection: Arc<Connection>,
    pace: Arc<Pace>,
    /// Since when it waits for its client; `None` while the node works on it.
    since: Mutex<Option<u64>>,
}

impl Running {
    /// The pace of a file that moves.
    pub(super) fn pace(&self) -> Option<&Pace> {
        self.lane.moves_files().then_some(&*self.pace)
    }

    /// The pace of an answer that is a file.
    pub(super) fn pace_of_answer(&self) -> Option<&Pace> {
        self.pace().filter(|_| self.lane != Lane::Upload)
    }

    /// From now on, the client takes the answer.
    pub(super) fn answers(&self) {
        if let Some(pace) = self.pace_of_answer() {
            pace.restart();
        }
        self.waits();
    }

    /// From now on, the request waits for its client: for the rest of its body, or until its answer
    /// is taken.
    pub(super) fn waits(&self) {
        let mut table = self.table.lock();
        let mut since = self.since.lock();
        if since.is_none() {
            table.tick += 1;
            let tick = table.tick;
            let connection = Arc::clone(&self.connection);
            // What moves a file counts from the beginning, other requests from now on.
            let pace = if self.lane.moves_files() { &self.pace } else { &Arc::new(Pace::begin()) };
            let (holder, pace) = (self.holder, Arc::clone(pace));
            table.waiting.insert(tick, Waiting { holder, connection, pace });
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

/// The hash, as it is written, in the path of an upload.
pub(super) fn uploaded(path: &str) -> Option<&str> {
    let (begin, end) = routes::UPLOAD.split_once("{hash}")?;
    path.strip_prefix(begin)?.strip_suffix(end)
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

    use super::{Holder, Lane, Lanes, PLACES_OF_PEER};
    use crate::http::connections::Connections;
    use crate::http::origin::Origin;

    fn network(number: u32) -> Holder {
        let address = std::net::Ipv4Addr::from_bits(number << 8);
        Holder::Network(Origin::client(address.into()).surroundings())
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
    fn the_slowest_download_of_the_network_with_most_gives_way_to_one_that_has_fewer() {
        let (lanes, connections) = (Lanes::default(), Connections::new(4_096));
        let connection = connections.open().unwrap();
        let enter = |number| lanes.enter(Lane::Download, Some(network(number)), &connection);
        let greedy: Vec<_> = (0..Lane::Download.places()).map(|_| enter(1).unwrap()).collect();
        for download in &greedy[1..] {
            download.pace().unwrap().moved(1 << 20);
        }
        assert!(enter(1).is_none(), "nobody makes room for more of the same");
        let modest = enter(2).unwrap();
        let waits = |running: &super::Running| {
            running.table.lock().waiting.contains_key(&running.since.lock().unwrap())
        };
        assert!(!waits(&greedy[0]) && waits(&greedy[1]), "the slowest one");
        // At last every network has one, and each newcomer has another network's slowest place.
        let many: Vec<_> =
            (3..Lane::Download.places()).map(|n| enter(n.try_into().unwrap())).collect();
        assert!(many.iter().all(Option::is_some) && waits(&modest));
        drop((greedy, modest, many));
        assert_eq!(lanes.0[Lane::Download as usize].lock().running, 0);
    }

    #[test]
    fn a_peer_has_places_of_its_own_and_no_more() {
        let (lanes, connections) = (Lanes::default(), Connections::new(4_096));
        let connection = connections.open().unwrap();
        let enter = |peer| {
            let holder = Holder::Peer(soma_protocol::ConsensusKey([peer; 32]));
            lanes.enter(Lane::Peer, Some(holder), &connection)
        };
        let held: Vec<_> = (0..20).filter_map(|_| enter(1)).collect();
        assert_eq!(held.len(), PLACES_OF_PEER);
        assert!(enter(2).is_some());
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
        assert_eq!(Lane::of(&Method::PUT, &routes::path(routes::UPLOAD, "x")), Lane::Upload);
        assert_eq!(get(&routes::path(routes::UPLOAD, "x")), Lane::Upload);
        assert_eq!(get(&routes::path(routes::CIPHERTEXT, "x")), Lane::Download);
        assert_eq!(get(&routes::path(routes::WEIGHTS, "x")), Lane::Download);
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
