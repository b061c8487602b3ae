//! The open connections. Their number is bounded, and when all are taken, the one that has been
//! silent longest gives way to a new one: strangers who connect and say nothing must never keep out
//! a client who asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The connections of a server.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    most: usize,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    open: usize,
    /// Counts changes, so that silence can be compared.
    tick: u64,
    /// Connections without a running request, by the tick since which they have been silent.
    silent: BTreeMap<u64, Arc<Notify>>,
}

impl Table {
    fn rest(&mut self, close: &Arc<Notify>) -> u64 {
        self.tick += 1;
        self.silent.insert(self.tick, Arc::clone(close));
        self.tick
    }

    /// Closes the connection that has been silent longest; false if none is silent.
    fn give_way(&mut self) -> bool {
        let Some((_, close)) = self.silent.pop_first() else {
            return false;
        };
        close.notify_one();
        self.open -= 1;
        true
    }
}

impl Connections {
    /// At most `most` at once.
    pub(super) fn new(most: usize) -> Self {
        Self { most, table: Arc::default() }
    }

    /// Takes a place for a new connection; `None` while a request runs on each of the others.
    pub(super) fn open(&self) -> Option<Arc<Connection>> {
        let close = Arc::new(Notify::new());
        let mut table = self.table.lock();
        if table.open >= self.most && !table.give_way() {
            return None;
        }
        table.open += 1;
        let since = Some(table.rest(&close));
        let table = Arc::clone(&self.table);
        Some(Arc::new(Connection { table, close, since: Mutex::new(since) }))
    }

    /// Closes the connection that has been silent longest, to free what it holds.
    pub(super) fn give_way(&self) -> bool {
        self.table.lock().give_way()
    }
}

/// A connection's place; released when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    table: Arc<Mutex<Table>>,
    close: Arc<Notify>,
    /// Since when it has been silent; `None` while a request runs.
    since: Mutex<Option<u64>>,
}

impl Connection {
    /// Waits until the connection has to give way.
    pub(super) async fn must_close(&self) {
        self.close.notified().await;
    }

    /// Ends the connection, whatever runs on it.
    pub(super) fn cut(&self) {
        self.close.notify_one();
    }

    /// Counts as busy until the result is dropped. A connection runs one request at a time.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        let mut table = self.table.lock();
        let mut silent_since = self.since.lock();
        // One that has given way a moment ago stays so: it must not be counted again.
        if silent_since.is_some_and(|since| table.silent.remove(&since).is_some()) {
            *silent_since = None;
        }
        drop(silent_since);
        Busy(Arc::clone(self))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        let closed =
            self.since.get_mut().is_some_and(|since| table.silent.remove(&since).is_none());
        if !closed {
            table.open -= 1;
        }
    }
}

/// A request that runs on a connection.
#[derive(Debug)]
pub(super) struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut table = self.0.table.lock();
        let mut since = self.0.since.lock();
        if since.is_none() {
            *since = Some(table.rest(&self.0.close));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Connections;

    #[tokio::test]
    async fn the_connection_that_was_silent_longest_gives_way_and_no_busy_one_does() {
        let connections = Connections::new(3);
        let [first, second, third] = [(); 3].map(|()| connections.open().unwrap());
        let busy = first.busy();
        let fourth = connections.open().unwrap();
        second.must_close().await;
        let all: Vec<_> = [third.busy(), fourth.busy()].into();
        assert!(connections.open().is_none(), "a request runs on each");
        drop(busy);
        let fifth = connections.open().unwrap();
        first.must_close().await;
        drop((all, first, second, third, fourth, fifth));
        assert_eq!(connections.table.lock().open, 0);
        assert!(connections.table.lock().silent.is_empty());
    }

    #[test]
    fn a_request_on_a_connection_that_gave_way_changes_no_count() {
        let connections = Connections::new(1);
        let first = connections.open().unwrap();
        let second = connections.open().unwrap();
        drop(first.busy());
        drop(first);
        assert_eq!(connections.table.lock().open, 1);
        drop(second);
        assert_eq!(connections.table.lock().open, 0);
        assert!(!connections.give_way());
    }
}
