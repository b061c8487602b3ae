//! What a node knows about its connections: who is connected, whom it refused and why, and who
//! ended a connection that this node began. It only takes notes; nothing is decided by them.
//!
//! The key of a refused node is what that node claims: it was not proved.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use commonware_cryptography::{
    ed25519::{PrivateKey, PublicKey},
    handshake::sake::Error as SakeError,
    transcript::Transcript,
};
use commonware_runtime::{Clock, Sink, Stream};
use commonware_stream::{
    Handshake,
    sake::{Error as HandshakeError, Sake},
};
use rand_core::CryptoRng;
use soma_os::clock::unix_ms;
use soma_protocol::ConsensusKey;

use crate::keys::consensus_key;

/// Notes about nodes that are neither connected nor expected, of which anybody can make up many.
const UNEXPECTED_MAX: usize = 64;
/// The shortest time between two warnings about one node.
const WARNING_INTERVAL: Duration = Duration::from_mins(10);
/// How long a node must have been connected, and how often somebody must have claimed its key
/// since, before that shows that two nodes run with it: two nodes often dial each other at once.
const TWICE_AFTER: Duration = Duration::from_secs(5);
const TWICE_CLAIMS: u32 = 3;

/// Why a node was refused here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedFor {
    /// Its key is neither registered nor in this node's settings.
    Unknown,
    /// Another node that is connected has the same key.
    Twice,
    /// Its clock and this node's differ by more than a handshake allows.
    Clock,
}

/// What is known about one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Since when it is connected.
    pub connected: Option<SystemTime>,
    /// When it last ended a connection that this node began, before both were authenticated.
    pub turned_away: Option<SystemTime>,
    /// When it was last refused here, and why.
    pub refused: Option<(SystemTime, RefusedFor)>,
    /// How far its clock was ahead of this node's when it was refused for that, in milliseconds.
    pub clock_ahead_ms: Option<i64>,
    /// Whether this node expects it: it is registered or in the settings.
    pub is_expected: bool,
    /// Claims of its key since it is connected.
    claims: u32,
    warned: Option<SystemTime>,
}

/// Notes about all nodes, shared with whoever reads them. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Contacts(Arc<Mutex<BTreeMap<ConsensusKey, Contact>>>);

impl Contacts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConsensusKey, Contact>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All notes, by key.
    pub fn all(&self) -> BTreeMap<ConsensusKey, Contact> {
        self.lock().clone()
    }

    /// The nodes that are expected from now on.
    pub(crate) fn expect(&self, keys: impl IntoIterator<Item = PublicKey>) {
        let keys: BTreeSet<_> = keys.into_iter().map(|key| consensus_key(&key)).collect();
        let mut all = self.lock();
        for (key, contact) in &mut *all {
            contact.is_expected = keys.contains(key);
        }
        for key in keys {
            all.entry(key).or_default().is_expected = true;
        }
        all.retain(|_, contact| contact.is_expected || contact.refused.is_some());
    }

    /// The nodes that are connected now.
    pub(crate) fn connected(&self, keys: &[ConsensusKey], now: SystemTime) {
        let mut all = self.lock();
        for (key, contact) in &mut *all {
            if contact.connected.is_some() && !keys.contains(key) {
                (contact.connected, contact.claims) = (None, 0);
            }
        }
        for key in keys {
            let contact = all.entry(*key).or_default();
            contact.connected.get_or_insert(now);
            contact.turned_away = None;
            contact.refused = contact.refused.filter(|(_, why)| *why == RefusedFor::Twice);
        }
    }

    fn turned_away(&self, key: &PublicKey, now: SystemTime) {
        self.lock().entry(consensus_key(key)).or_default().turned_away = Some(now);
    }

    /// Somebody with this key was refused before it could prove that the key is its own.
    fn refused(&self, key: &PublicKey, now: SystemTime) {
        let key = consensus_key(key);
        let mut all = self.lock();
        make_room(&mut all, &key);
        let contact = all.entry(key).or_default();
        let why = match contact.connected {
            None if contact.is_expected => return,
            None => RefusedFor::Unknown,
            Some(since) => {
                contact.claims = contact.claims.saturating_add(1);
                let lasts = now.duration_since(since).is_ok_and(|lasts| lasts >= TWICE_AFTER);
                if !lasts || contact.claims < TWICE_CLAIMS {
                    return;
                }
                RefusedFor::Twice
            }
        };
        contact.refused = Some((now, why));
        if contact.warns(now) {
            drop(all);
            warn(&key, why);
        }
    }

    /// The clock of a node differs too much from this one's.
    fn clocks_differ(&self, key: &PublicKey, theirs_ms: u64, now: SystemTime) {
        let key = consensus_key(key);
        let mut all = self.lock();
        make_room(&mut all, &key);
        let contact = all.entry(key).or_default();
        let ahead_ms = i128::from(theirs_ms) - i128::from(unix_ms(now));
        let ahead_ms = i64::try_from(ahead_ms).unwrap_or(i64::MAX);
        contact.clock_ahead_ms = Some(ahead_ms);
        contact.refused = Some((now, RefusedFor::Clock));
        if contact.warns(now) {
            drop(all);
            tracing::warn!(%key, ahead_ms, "refused a node: its clock and this one differ");
        }
    }
}

impl Contact {
    /// Whether a warning about it is due.
    fn warns(&mut self, now: SystemTime) -> bool {
        let is_due = self.warned.is_none_or(|last| {
            now.duration_since(last).is_ok_and(|since| since > WARNING_INTERVAL)
        });
        if is_due {
            self.warned = Some(now);
        }
        is_due
    }
}

/// Forgets the unexpected node whose attempt is the oldest, so that one more has room.
fn make_room(all: &mut BTreeMap<ConsensusKey, Contact>, key: &ConsensusKey) {
    let is_unexpected = |contact: &Contact| !contact.is_expected && contact.connected.is_none();
    if all.contains_key(key) || all.values().filter(|it| is_unexpected(it)).count() < UNEXPECTED_MAX
    {
        return;
    }
    let unexpected = all.iter().filter(|(_, contact)| is_unexpected(contact));
    let oldest = unexpected.min_by_key(|(_, contact)| contact.refused.map(|(at, _)| at));
    if let Some(oldest) = oldest.map(|(key, _)| *key) {
        all.remove(&oldest);
    }
}

fn warn(key: &ConsensusKey, why: RefusedFor) {
    if why == RefusedFor::Twice {
        tracing::warn!(
            %key,
            "another node uses the key of one that is connected: the key runs twice, or its last \
             connection is still open"
        );
    } else {
        tracing::info!(
            %key,
            "refused a node that is neither a registered validator nor in the settings"
        );
    }
}

/// The handshake of a real node, with notes about how it ends.
#[derive(Clone)]
pub(crate) struct NotedHandshake {
    pub(crate) sake: Sake<PrivateKey>,
    pub(crate) contacts: Contacts,
}

impl Handshake for NotedHandshake {
    type PublicKey = PublicKey;
    type Error = HandshakeError;

    fn public_key(&self) -> PublicKey {
        self.sake.public_key()
    }

    async fn dial<E, I, O>(
        self,
        context: E,
        namespace: &[u8],
        peer: PublicKey,
        stream: &mut I,
        sink: &mut O,
    ) -> Result<Transcript, HandshakeError>
    where
        E: Clock + CryptoRng,
        I: Stream,
        O: Sink,
    {
        let now = context.current();
        let dialed = self.sake.dial(context, namespace, peer.clone(), stream, sink).await;
        if dialed.is_err() {
            self.contacts.turned_away(&peer, now);
        }
        dialed
    }

    async fn listen<E, I, O, B, F>(
        self,
        context: E,
        namespace: &[u8],
        bouncer: B,
        stream: &mut I,
        sink: &mut O,
    ) -> Result<(PublicKey, Transcript), HandshakeError>
    where
        E: Clock + CryptoRng,
        I: Stream,
        O: Sink,
        B: FnOnce(PublicKey) -> F + Send,
        F: Future<Output = bool> + Send,
    {
        let now = context.current();
        let claimed = Arc::new(Mutex::new(None));
        let (notes, claim) = (self.contacts.clone(), Arc::clone(&claimed));
        let noting = move |key: PublicKey| {
            *claim.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
            let admitted = bouncer(key.clone());
            async move {
                let is_admitted = admitted.await;
                if !is_admitted {
                    notes.refused(&key, now);
                }
                is_admitted
            }
        };
        let listened = self.sake.listen(context, namespace, noting, stream, sink).await;
        if let Err(HandshakeError::HandshakeError(SakeError::InvalidTimestamp(theirs_ms, _))) =
            &listened
            && let Some(key) = &*claimed.lock().unwrap_or_else(PoisonError::into_inner)
        {
            self.contacts.clocks_differ(key, *theirs_ms, now);
        }
        listened
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use commonware_cryptography::{
        Signer as _,
        ed25519::{PrivateKey, PublicKey},
    };

    use super::{Contacts, RefusedFor, UNEXPECTED_MAX, consensus_key};

    fn key(seed: u64) -> PublicKey {
        PrivateKey::from_seed(seed).public_key()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + seconds)
    }

    fn refusal(contacts: &Contacts, of: u64) -> Option<RefusedFor> {
        contacts.all().get(&consensus_key(&key(of)))?.refused.map(|(_, why)| why)
    }

    #[test]
    fn a_key_that_others_claim_while_its_node_is_connected_runs_twice() {
        let contacts = Contacts::default();
        contacts.expect([key(1)]);
        contacts.refused(&key(1), at(0));
        assert_eq!(refusal(&contacts, 1), None, "an expected node that is just connecting");
        contacts.connected(&[consensus_key(&key(1))], at(1));
        contacts.refused(&key(1), at(2));
        assert_eq!(refusal(&contacts, 1), None, "both dialed at once");
        contacts.refused(&key(1), at(7));
        contacts.refused(&key(1), at(8));
        assert_eq!(refusal(&contacts, 1), Some(RefusedFor::Twice));
        contacts.connected(&[], at(9));
        contacts.refused(&key(1), at(10));
        contacts.connected(&[consensus_key(&key(1))], at(11));
        contacts.refused(&key(1), at(20));
        let seen = contacts.all()[&consensus_key(&key(1))].refused.unwrap();
        assert_eq!(seen.0, at(8), "a new connection counts from its beginning");
    }

    #[test]
    fn unexpected_nodes_are_noted_but_not_without_bound() {
        let contacts = Contacts::default();
        for number in 0..2 * UNEXPECTED_MAX as u64 {
            contacts.refused(&key(number), at(number));
        }
        assert_eq!(contacts.all().len(), UNEXPECTED_MAX);
        assert_eq!(refusal(&contacts, 0), None);
        let last = 2 * UNEXPECTED_MAX as u64 - 1;
        assert_eq!(refusal(&contacts, last), Some(RefusedFor::Unknown));
        contacts.expect([key(last)]);
        contacts.connected(&[consensus_key(&key(last))], at(500));
        assert_eq!(refusal(&contacts, last), None, "it is connected now");
    }

    #[test]
    fn the_direction_in_which_a_clock_is_wrong_is_known() {
        let contacts = Contacts::default();
        let hour_ms = 3_600_000;
        contacts.clocks_differ(&key(1), 1_000_000 + hour_ms, at(0));
        contacts.clocks_differ(&key(2), 0, at(0));
        let ahead = |of: u64| contacts.all()[&consensus_key(&key(of))].clock_ahead_ms;
        assert_eq!(ahead(1), Some(hour_ms.cast_signed()));
        assert_eq!(ahead(2), Some(-1_000_000));
    }
}
