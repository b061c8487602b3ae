//! Asks the APIs of this node's peers what they know about it: whether they accept it and why not,
//! how far they are, and what time it is. Answers are hints for the operator: nothing is decided by
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use parking_lot::Mutex;
use soma_os::clock::now_ms;
use soma_protocol::{ConsensusKey, Hash};
use soma_sdk::Client;
use soma_sdk::api::{Contact, Contacts, RefusedFor};

/// The pause between two rounds.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a peer may take to answer; the clock of one that takes longer is not compared.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// How long an answer counts.
const FRESH: Duration = Duration::from_secs(30);

/// What a peer answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    /// The same by this machine's clock.
    pub(crate) time: SystemTime,
    /// How far its clock is ahead of this machine's, in milliseconds.
    pub(crate) clock_ahead_ms: i64,
    /// The height of its last finalized block.
    pub(crate) height: u64,
    /// Whether it is on the same chain.
    pub(crate) same_chain: bool,
    /// Whether a node with this node's key is connected to it.
    pub(crate) knows_connected: bool,
    /// Whether it accepts this node's key.
    pub(crate) expects: bool,
    /// Why it refused this node's key last, if that was a moment ago.
    pub(crate) refused: Option<RefusedFor>,
}

/// What all peers answered last, by key. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerNews(Arc<Mutex<BTreeMap<ConsensusKey, Heard>>>);

impl PeerNews {
    /// What was heard a moment ago.
    pub(crate) fn fresh(&self) -> BTreeMap<ConsensusKey, Heard> {
        let heard = self.0.lock();
        let fresh = heard.iter().filter(|(_, heard)| heard.at.elapsed() < FRESH);
        fresh.map(|(key, heard)| (*key, *heard)).collect()
    }

    /// Takes answers over, and forgets whoever was not asked.
    fn take(&self, answers: Vec<(ConsensusKey, Option<Heard>)>) {
        let mut heard = self.0.lock();
        heard.retain(|key, _| answers.iter().any(|(asked, _)| asked == key));
        heard.extend(answers.into_iter().filter_map(|(key, answer)| Some((key, answer?))));
    }

    /// Asks all peers, again and again: those that `peers` returns each time.
    pub(crate) async fn follow(
        self,
        asker: Asker,
        peers: impl Fn() -> Vec<(ConsensusKey, Client)>,
    ) {
        let Asker { chain, me } = asker;
        loop {
            let ask = |(key, client): (ConsensusKey, Client)| async move {
                (key, ask(&client, &chain, &me).await)
            };
            let answers = join_all(peers().into_iter().map(ask)).await;
            self.take(answers);
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) chain: Hash,
    pub(crate) me: ConsensusKey,
}

/// What one peer answers; `None` if it does not, or too late.
async fn ask(client: &Client, chain: &Hash, me: &ConsensusKey) -> Option<Heard> {
    let before_ms = now_ms();
    let answered = tokio::time::timeout(ANSWER_LIMIT, client.contacts()).await;
    let contacts = answered.ok()?.ok()?;
    Some(heard(&contacts, (before_ms, now_ms()), chain, me))
}

/// What an answer that was asked for and arrived at these times says.
fn heard(contacts: &Contacts, asked_ms: (u64, u64), chain: &Hash, me: &ConsensusKey) -> Heard {
    let ours = contacts.of(me);
    let middle_ms = asked_ms.0.midpoint(asked_ms.1);
    let ahead_ms = i128::from(*contacts.now_ms) - i128::from(middle_ms);
    Heard {
        at: Instant::now(),
        time: SystemTime::now(),
        clock_ahead_ms: i64::try_from(ahead_ms).unwrap_or(i64::MAX),
        height: *contacts.height,
        same_chain: contacts.chain_id.0 == *chain,
        knows_connected: ours.is_some_and(|ours| ours.connected),
        expects: ours.is_some_and(|ours| ours.expected),
        refused: ours.and_then(Contact::refused_now),
    }
}
