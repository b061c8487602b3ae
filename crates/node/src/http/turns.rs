//! Turns of questions about the state: few are answered at once, so that those about much of it
//! leave processors to the others. A client has one turn at a time, and its neighbors few together:
//! whoever asks much waits for itself alone.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::origin::Origin;

/// Questions that are answered at once.
const TURNS: usize = 4;
/// Those of a client, and those of all its neighbors.
const TURNS_OF_CLIENT: usize = 1;
const TURNS_OF_NETWORK: usize = 2;
/// Clients in the table from which on those who ask nothing are removed.
const SWEEP_FROM: usize = 1_024;

/// Whose turn it is; `None` is this machine, which waits for the others alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker(pub(super) Option<Origin>);

/// All turns. Clones share them.
#[derive(Clone)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    of: Arc<Mutex<HashMap<Origin, Weak<Semaphore>>>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(TURNS)), of: Arc::default() }
    }
}

/// A turn; the next one begins when it is dropped.
pub(super) struct Turn {
    _held: Vec<OwnedSemaphorePermit>,
    /// The turns of the client and its neighbors are known while one of them waits or runs.
    _known: Vec<Arc<Semaphore>>,
}

impl Turns {
    fn of(&self, origin: Origin, turns: usize) -> Arc<Semaphore> {
        let mut of = self.of.lock();
        if of.len() >= SWEEP_FROM {
            of.retain(|_, known| known.strong_count() > 0);
        }
        let known = of.get(&origin).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let new = Arc::new(Semaphore::new(turns));
            of.insert(origin, Arc::downgrade(&new));
            new
        })
    }

    /// Waits for a turn of this client.
    pub(super) async fn take(&self, Asker(client): Asker) -> Turn {
        let mut known = Vec::new();
        if let Some(client) = client {
            known.push(self.of(client, TURNS_OF_CLIENT));
            known.push(self.of(client.surroundings(), TURNS_OF_NETWORK));
        }
        let mut held = Vec::new();
        for turns in known.iter().chain([&self.all]) {
            // They are never closed.
            held.extend(Arc::clone(turns).acquire_owned().await.ok());
        }
        Turn { _held: held, _known: known }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::{Asker, Origin, TURNS, Turns};

    fn client(network: u32, number: u32) -> Asker {
        Asker(Some(Origin::client(Ipv4Addr::from_bits((network << 8) + number).into())))
    }

    #[tokio::test]
    async fn a_client_that_asks_much_takes_no_turn_of_others() {
        let turns = Turns::default();
        let running = turns.take(client(1, 1)).await;
        for _ in 0..100 {
            let turns = turns.clone();
            tokio::spawn(async move {
                let _turn = turns.take(client(1, 1)).await;
                std::future::pending::<()>().await;
            });
        }
        tokio::task::yield_now().await;
        let neighbor = turns.take(client(1, 2)).await;
        let soon = Duration::from_millis(50);
        assert!(timeout(soon, turns.take(client(1, 3))).await.is_err(), "two of a network");
        let others = [turns.take(client(2, 1)).await, turns.take(Asker(None)).await];
        assert!(timeout(soon, turns.take(client(3, 1))).await.is_err(), "{TURNS} in all");
        drop((running, neighbor, others));
    }

    #[tokio::test]
    async fn whoever_has_no_turn_anymore_is_forgotten() {
        let turns = Turns::default();
        for network in 0..5_000 {
            drop(turns.take(client(network, 1)).await);
        }
        assert!(turns.of.lock().len() <= super::SWEEP_FROM + 2);
    }
}
