//! Waiting for the chain to move: by the node's events, or by polling where they fail.
//!
//! An event only says when to look; the facts are read from the API.

use std::time::Duration;

use soma_sdk::client::Client;
use soma_sdk::events::Events;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Shortest time between two checks, however many events arrive.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest time between two checks while the event stream works, even if it is silent.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Time between two checks of a node without events.
const POLL: Duration = Duration::from_millis(250);

/// Wakes its owner when something may have changed on the chain.
#[derive(Debug)]
pub struct Watch {
    events: Events,
}

impl Watch {
    /// Watches from now on. A node that does not answer is polled until it does.
    pub async fn start(client: &Client) -> Self {
        let mut events = client.events(None);
        // If this fails, `changed` connects again.
        let _ = timeout(PAUSE_MAX, events.connect()).await;
        Self { events }
    }

    /// Returns when something may have changed since the last call.
    pub async fn changed(&mut self) {
        let earliest = Instant::now() + PAUSE_MIN;
        match timeout(PAUSE_MAX, self.events.next()).await {
            // The events of a block arrive together, and one check sees them all.
            Ok(Ok(_)) => while let Ok(Ok(_)) = timeout_at(earliest, self.events.next()).await {},
            Ok(Err(_)) => sleep(POLL).await,
            Err(_) => {}
        }
    }
}
