//! The HTTP client of a node: one method for each route.
//!
//! It holds no key and signs nothing. It checks only the form of an answer, unless it is told to
//! verify what the node says about the state; [`crate::transfer`] checks files by hash.

mod url;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use soma_codes::Code;
use soma_protocol::{
    Address, Architecture, Epoch as EpochId, Genesis, Hash, ModelId, Params, SignedTransaction,
    TargetId,
};
use tokio::time::{Instant, sleep};

use crate::api::permit::PERMIT;
use crate::api::proved::{Node, Proved};
use crate::api::routes;
use crate::api::text::Text;
use crate::api::unproved::VerifyError;
use crate::api::verifier::Verifier;
use crate::api::{
    Account, ApiError, Batch, BatchAnswer, Block, Contacts, Epoch, Event, Model, Page, Receipt,
    Status, Submitted, Target, Transaction, Vector, Winner,
};
use crate::api::{Governance, Stake, Validator};
use crate::error::SdkError;
use crate::handshake::Handshake;
use crate::keys::PeerKey;
use crate::patience::{Listener, QUIET};
use crate::retry::RETRIES;
use crate::trust::Trust;

use self::url::Base;
pub use self::url::{check_url, has_login, names_another_machine, without_login, without_logins};

/// How long a node may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long a node may stay silent; event streams send keep-alives more often than this.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);
/// How long an idle connection is kept: less than nodes wait for its next request.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// How often a question that a node refuses for now is asked again, and the longest pause before.
const PATIENCE: u32 = 8;
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a small answer may take in all.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Size limit of a JSON answer: a page of 500 targets with their candidates has about 2 MB.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// The same for a node that may be anybody's, and is asked short questions only.
const BRIEF_ANSWER_BYTES_MAX: usize = 256 << 10;
/// The pauses between requests for a transaction's state: the first one, and the longest one.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_LAST: Duration = Duration::from_millis(500);

/// Paces requests for a transaction's state, within a time limit.
pub(crate) struct Looks {
    begun: Instant,
    pause: Duration,
    limit: Duration,
}

impl Looks {
    /// Begins with the first request.
    pub(crate) fn begin(limit: Duration) -> Self {
        Self { begun: Instant::now(), pause: LOOK_FIRST, limit }
    }

    /// Pauses before the next request.
    ///
    /// # Errors
    /// [`SdkError::Timeout`] if it would come too late.
    pub(crate) async fn pause(&mut self) -> Result<(), SdkError> {
        if self.begun.elapsed() + self.pause > self.limit {
            let limit_ms = u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX);
            return Err(SdkError::Timeout { what: "a transaction's inclusion", limit_ms });
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 5 / 4).min(LOOK_LAST);
        Ok(())
    }
}

/// A connection to one node.
///
/// # Errors
/// Unless a method says otherwise, a request fails with [`SdkError::Api`], [`SdkError::Network`],
/// [`SdkError::Interrupted`], [`SdkError::Malformed`] or [`SdkError::TooLong`].
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    /// As it is shown.
    url: String,
    base: Base,
    /// Whether requests may go through a proxy that the environment names.
    proxied: bool,
    retries: u32,
    /// The most bytes of an answer that is read into memory.
    answer_bytes_max: usize,
    listener: Listener,
    /// Whether the listener was told that this node is slow or silent.
    told: Arc<AtomicBool>,
    /// The key of a peer of this node, which downloads files as such.
    peer: Option<Arc<PeerKey>>,
    /// Checks what this node says about the state.
    verifier: Option<Arc<Verifier>>,
}

/// Where a transaction is that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// In a finalized block.
    Final(Receipt),
    /// In the node's pool.
    Pending,
    /// The node does not know it, and it can still be included.
    Unknown,
}

/// A transaction that a node accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its hash.
    pub hash: Hash,
    /// Who signed it.
    pub sender: Address,
    /// Its number among the sender's payments, from 0; a duty has none.
    pub nonce: Option<u64>,
    /// Block time after which it can no longer be included.
    pub valid_until_ms: u64,
}

/// What events are asked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An account, or its validator.
    Account(Address),
    /// A model.
    Model(ModelId),
    /// A target.
    Target(TargetId),
    /// The course of an epoch.
    Epoch(EpochId),
    /// Proposals and what they changed.
    Governance,
    /// The submissions of an account.
    Submitter(Address),
}

impl Subject {
    fn path(self) -> String {
        match self {
            Self::Account(address) => routes::path(routes::ACCOUNT_EVENTS, address),
            Self::Model(id) => routes::path(routes::MODEL_EVENTS, id),
            Self::Target(id) => routes::path(routes::TARGET_EVENTS, id),
            Self::Epoch(epoch) => routes::path(routes::EPOCH_EVENTS, epoch),
            Self::Governance => routes::GOVERNANCE_EVENTS.to_owned(),
            Self::Submitter(address) => routes::path(routes::ACCOUNT_SUBMISSIONS, address),
        }
    }
}

impl From<&SignedTransaction> for Sent {
    fn from(signed: &SignedTransaction) -> Self {
        let transaction = signed.transaction();
        Self {
            hash: signed.hash(),
            sender: transaction.sender,
            nonce: Some(transaction.nonce).filter(|_| !transaction.action.is_duty()),
            valid_until_ms: transaction.valid_until_ms,
        }
    }
}

/// How connections are made that trust whom `tls` trusts.
fn connections(tls: rustls::ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_LIMIT)
        .read_timeout(SILENCE_LIMIT)
        .pool_idle_timeout(IDLE_LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("soma-sdk/", env!("CARGO_PKG_VERSION")))
}

/// Connections to services that are no nodes.
///
/// # Errors
/// [`SdkError::Network`] if the system cannot make them.
pub fn connector(trust: &Trust) -> Result<reqwest::Client, SdkError> {
    let failed = |failure| SdkError::Network { url: String::new(), failure, proxied: false };
    connections(trust.config()).build().map_err(failed)
}

impl Client {
    /// A client of the node at `url`, as in `http://127.0.0.1:8645` or `https://host/path`, whose
    /// certificate this machine trusts. Nothing is sent yet.
    ///
    /// # Errors
    /// [`SdkError::Url`] if `url` is not a valid URL.
    pub fn new(url: &str) -> Result<Self, SdkError> {
        Self::trusting(url, &Trust::system())
    }

    /// The same, with others who are trusted.
    ///
    /// # Errors
    /// [`SdkError::Url`] if `url` is not a valid URL.
    pub fn trusting(url: &str, trust: &Trust) -> Result<Self, SdkError> {
        let base = Base::parse(url)?;
        let proxied = base.proxied();
        // A proxy may speak TLS where the node does not.
        let tls = if base.is_tls() || proxied { trust.config() } else { Trust::nobody() };
        let mut http = connections(tls);
        if !proxied {
            http = http.no_proxy();
        }
        let url = without_login(url).trim_end_matches('/').to_owned();
        let failed = |failure| SdkError::Network { url: url.clone(), failure, proxied };
        let http = http.build().map_err(failed)?;
        let (listener, told) = (Listener::default(), Arc::default());
        Ok(Self {
            http,
            url,
            base,
            proxied,
            retries: RETRIES,
            answer_bytes_max: ANSWER_BYTES_MAX,
            listener,
            told,
            peer: None,
            verifier: None,
        })
    }

    /// The same client, which believes nothing of what the node says about the state of the chain:
    /// the clock, parameters, prices, the architecture, accounts, epochs, models, targets, and
    /// which data has won are computed of records that the node proves. Answers about anything
    /// else are believed as before: the history, lists of all models, validators or proposals, the
    /// pool.
    #[must_use]
    pub fn verifying(self, verifier: Arc<Verifier>) -> Self {
        Self { verifier: Some(verifier), ..self }
    }

    /// What checks the node's answers, if anything does.
    pub fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_deref()
    }

    /// The same client, whose waits of more than two seconds are told.
    #[must_use]
    pub fn with_listener(self, listener: Listener) -> Self {
        Self { listener, ..self }
    }

    /// Who is told of waits.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// The same client, but transfers fail at the first error, for callers that can ask other
    /// nodes.
    #[must_use]
    pub fn without_retries(self) -> Self {
        Self { retries: 0, ..self }
    }

    /// The same client, which reads short answers only: of a node that may be anybody's.
    #[must_use]
    pub fn brief(self) -> Self {
        Self { answer_bytes_max: BRIEF_ANSWER_BYTES_MAX, ..self }
    }

    /// The same client, which downloads files as a peer of the node.
    #[must_use]
    pub fn as_peer(self, peer: PeerKey) -> Self {
        Self { peer: Some(Arc::new(peer)), ..self }
    }

    /// The key of the peer as which it downloads files, if it is one.
    pub(crate) fn peer_key(&self) -> Option<&PeerKey> {
        self.peer.as_deref()
    }

    /// What this node proves, if this client verifies.
    fn proved(&self) -> Option<Proved<'_, Self>> {
        self.verifier.as_deref().map(|verifier| Proved::by(self, verifier))
    }

    /// Whether it verifies what the node says of the state.
    pub(crate) fn verifies(&self) -> bool {
        self.verifier.is_some()
    }

    /// How many failures in a row a transfer retries.
    pub(crate) fn retries(&self) -> u32 {
        self.retries
    }

    /// The node's URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The state of the chain and of the node.
    pub async fn status(&self) -> Result<Status, SdkError> {
        match self.proved() {
            Some(proved) => Box::pin(proved.status()).await,
            None => self.get(routes::STATUS).await,
        }
    }

    /// The genesis of the chain with this id.
    ///
    /// # Errors
    /// As for other requests; [`VerifyError::OtherChain`] if the node has another one.
    pub async fn genesis(&self, chain: Hash) -> Result<Genesis, SdkError> {
        let genesis: Genesis = self.get(routes::GENESIS).await?;
        let found = genesis.chain_id();
        if found != chain {
            let url = self.url.clone();
            return Err(VerifyError::OtherChain { url, found, expected: chain }.into());
        }
        Ok(genesis)
    }

    /// What the node knows about its connections.
    pub async fn contacts(&self) -> Result<Contacts, SdkError> {
        self.get(routes::CONTACTS).await
    }

    /// All validators, seated or not.
    pub async fn validators(&self) -> Result<Vec<Validator>, SdkError> {
        self.get(routes::VALIDATORS).await
    }

    /// An account's stakes in models and validators.
    pub async fn stakes(&self, address: Address) -> Result<Vec<Stake>, SdkError> {
        self.all(&routes::path(routes::STAKES, address), "").await
    }

    /// All proposals, the running migration, and the rent price.
    pub async fn governance(&self) -> Result<Governance, SdkError> {
        let page = async |after: &str| {
            let limit = routes::PAGE_MAX;
            self.get::<Governance>(&format!("{}?limit={limit}{after}", routes::GOVERNANCE)).await
        };
        let mut governance = page("").await?;
        while let Some(after) = governance.next.take() {
            let before = page(&format!("&after={after}")).await?;
            // One without proposals is the last, whatever the node says.
            governance.next = before.next.filter(|_| !before.proposals.is_empty());
            governance.proposals.splice(..0, before.proposals);
        }
        match self.proved() {
            Some(proved) => Box::pin(proved.governance(governance)).await,
            None => Ok(governance),
        }
    }

    /// The parameters in force.
    pub async fn params(&self) -> Result<Params, SdkError> {
        match self.proved() {
            Some(proved) => proved.params().await,
            None => self.get(routes::PARAMS).await,
        }
    }

    /// The architecture in force.
    pub async fn architecture(&self) -> Result<Architecture, SdkError> {
        match self.proved() {
            Some(proved) => proved.architecture().await,
            None => self.get(routes::ARCHITECTURE).await,
        }
    }

    /// An account; an unknown one is empty.
    pub async fn account(&self, address: Address) -> Result<Account, SdkError> {
        match self.proved() {
            Some(proved) => Box::pin(proved.account(address)).await,
            None => self.get(&routes::path(routes::ACCOUNT, address)).await,
        }
    }

    /// An epoch that has begun.
    pub async fn epoch(&self, epoch: EpochId) -> Result<Epoch, SdkError> {
        match self.proved() {
            Some(proved) => proved.epoch(epoch).await,
            None => self.get(&routes::path(routes::EPOCH, epoch)).await,
        }
    }

    /// All models, by id.
    pub async fn models(&self) -> Result<Vec<Model>, SdkError> {
        self.all(routes::MODELS, "").await
    }

    /// A model.
    pub async fn model(&self, id: ModelId) -> Result<Model, SdkError> {
        match self.proved() {
            Some(proved) => proved.model(id).await,
            None => self.get(&routes::path(routes::MODEL, id)).await,
        }
    }

    /// A model's specialization as it is now, or, if it was routed to the targets of `epoch`, the
    /// running one or the one before, as it was when they were drawn.
    pub async fn specialization(
        &self,
        id: ModelId,
        epoch: Option<EpochId>,
    ) -> Result<Vector, SdkError> {
        match self.proved() {
            Some(proved) => proved.specialization(id, epoch).await,
            None => self.get(&routes::specialization(id, epoch)).await,
        }
    }

    /// The targets of `epoch`, or of all epochs, by id.
    pub async fn targets(&self, epoch: Option<EpochId>) -> Result<Vec<Target>, SdkError> {
        if let (Some(proved), Some(epoch)) = (self.proved(), epoch) {
            return Box::pin(proved.targets(epoch)).await;
        }
        let filter = epoch.map(|epoch| format!("epoch={epoch}&")).unwrap_or_default();
        self.all(routes::TARGETS, &filter).await
    }

    /// A target.
    pub async fn target(&self, id: TargetId) -> Result<Target, SdkError> {
        match self.proved() {
            Some(proved) => proved.target(id).await,
            None => self.get(&routes::path(routes::TARGET, id)).await,
        }
    }

    /// The direction of a target.
    pub async fn direction(&self, id: TargetId) -> Result<Vector, SdkError> {
        match self.proved() {
            Some(proved) => proved.direction(id).await,
            None => self.get(&routes::path(routes::TARGET_DIRECTION, id)).await,
        }
    }

    /// The data published for a target, while it is kept.
    ///
    /// # Errors
    /// As for other requests; [`SdkError::WrongHash`] if it is not what `data_hash` promises.
    pub async fn target_data(&self, id: TargetId, data_hash: Hash) -> Result<Vec<u8>, SdkError> {
        let path = routes::path(routes::TARGET_DATA, id);
        let (_, bytes) =
            self.answer(self.request(Method::GET, &path).timeout(ANSWER_LIMIT)).await?;
        let found = Hash::of_bytes(&bytes);
        if found != data_hash {
            let what = format!("the data of target {id}");
            return Err(SdkError::WrongHash { what, expected: data_hash, found });
        }
        Ok(bytes)
    }

    /// The targets that were first won with data that has these pieces, at most
    /// [`PIECES_MAX`](soma_protocol::sketch::PIECES_MAX) of them.
    pub async fn winners(&self, pieces: &[u64]) -> Result<Vec<Option<Winner>>, SdkError> {
        if let Some(proved) = self.proved() {
            return proved.winners(pieces).await;
        }
        let hashes: Vec<String> = pieces.iter().map(u64::to_string).collect();
        self.get(&format!("{}?hashes={}", routes::PIECES, hashes.join(","))).await
    }

    /// A block.
    pub async fn block(&self, height: u64) -> Result<Block, SdkError> {
        self.get(&routes::path(routes::BLOCK, height)).await
    }

    /// The last `limit` blocks, or the last ones below height `below`, newest first.
    pub async fn blocks(&self, below: Option<u64>, limit: u32) -> Result<Page<Block>, SdkError> {
        let after = below.map(|height| format!("&after={height}")).unwrap_or_default();
        self.get(&format!("{}?limit={limit}{after}", routes::BLOCKS)).await
    }

    /// A page of the events that concern `subject`, newest first: the last ones, or those before
    /// the one at the cursor `after`.
    pub async fn events_of(
        &self,
        subject: Subject,
        after: Option<&str>,
    ) -> Result<Page<Event>, SdkError> {
        self.page(&subject.path(), "", after).await
    }

    /// A page of the transactions that an account signed and the rules rejected, newest first, as
    /// for [`Client::events_of`].
    pub async fn rejected_of(
        &self,
        account: Address,
        after: Option<&str>,
    ) -> Result<Page<Transaction>, SdkError> {
        let path = routes::path(routes::ACCOUNT_TRANSACTIONS, account);
        self.page(&path, "rejected=true&", after).await
    }

    /// A transaction: pending in the node's pool, or finalized.
    pub async fn transaction(&self, hash: Hash) -> Result<Transaction, SdkError> {
        self.get(&routes::path(routes::TRANSACTION, hash)).await
    }

    /// Sends a transaction to the node's pool. Sending it again is harmless.
    ///
    /// # Errors
    /// As for other requests: [`SdkError::Api`] with the pool's reason if it refuses the
    /// transaction.
    pub async fn send(&self, transaction: &SignedTransaction) -> Result<Hash, SdkError> {
        let request = self
            .request(Method::POST, routes::TRANSACTIONS)
            .header("content-type", "application/octet-stream")
            .body(transaction.bytes().to_vec())
            .timeout(ANSWER_LIMIT);
        let submitted: Submitted = self.patiently(self.json(request)).await?;
        Ok(submitted.hash.0)
    }

    /// Sends many transactions to the node's pool; returns one answer for each, in order. `batch`
    /// is built with [`batch::push`](crate::api::batch::push).
    ///
    /// # Errors
    /// As for other requests, if the node accepted none.
    pub async fn send_batch(&self, batch: Vec<u8>) -> Result<Vec<BatchAnswer>, SdkError> {
        let request = self
            .request(Method::POST, routes::TRANSACTIONS_BATCH)
            .header("content-type", "application/octet-stream")
            .body(batch)
            .timeout(ANSWER_LIMIT);
        Ok(self.json::<Batch>(request).await?.answers)
    }

    /// Waits until a transaction that was sent is finalized; transient errors are ignored. A
    /// receipt with a rejection is a result, not an error.
    ///
    /// # Errors
    /// [`SdkError::Superseded`] if another transaction with its nonce is finalized;
    /// [`SdkError::Expired`] once block time has passed its expiry; [`SdkError::Timeout`] after
    /// `limit`; otherwise as for other requests.
    pub async fn wait(&self, sent: &Sent, limit: Duration) -> Result<Receipt, SdkError> {
        let mut looks = Looks::begin(limit);
        loop {
            match self.look(sent).await {
                Ok(Whereabouts::Final(receipt)) => return Ok(receipt),
                Ok(_) => {}
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
            looks.pause().await?;
        }
    }

    /// Where the transaction is.
    pub(crate) async fn look(&self, sent: &Sent) -> Result<Whereabouts, SdkError> {
        let Sent { hash, nonce, .. } = *sent;
        if let Some(transaction) = self.find(hash).await? {
            return Ok(transaction.receipt.map_or(Whereabouts::Pending, Whereabouts::Final));
        }
        let superseded = match nonce {
            Some(nonce) => self.is_used(sent.sender, nonce).await?.then_some(nonce),
            None => None,
        };
        let expired = self.status().await?.timestamp_ms.0 > sent.valid_until_ms;
        if superseded.is_none() && !expired {
            return Ok(Whereabouts::Unknown);
        }
        // It may have been finalized between the two answers.
        match (self.find(hash).await?, superseded) {
            (Some(transaction), _) => {
                Ok(transaction.receipt.map_or(Whereabouts::Pending, Whereabouts::Final))
            }
            (None, Some(nonce)) => Err(SdkError::Superseded { hash, nonce }),
            (None, None) => Err(SdkError::Expired { hash }),
        }
    }

    /// Whether a payment with this nonce is in a block that the history has. Where the account is
    /// proved, what the node says of its history does not count.
    async fn is_used(&self, sender: Address, nonce: u64) -> Result<bool, SdkError> {
        let account = self.account(sender).await?;
        let is_used = account.nonce.0 > nonce;
        Ok(is_used && (self.verifies() || self.has_block(account.height.0).await?))
    }

    async fn has_block(&self, height: u64) -> Result<bool, SdkError> {
        match self.block(height).await {
            Ok(_) => Ok(true),
            Err(SdkError::Api { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The transaction, if the node knows it.
    async fn find(&self, hash: Hash) -> Result<Option<Transaction>, SdkError> {
        match self.transaction(hash).await {
            Ok(transaction) => Ok(Some(transaction)),
            Err(SdkError::Api { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn all<T: DeserializeOwned>(&self, path: &str, filter: &str) -> Result<Vec<T>, SdkError> {
        let mut items = Vec::new();
        let mut after = None;
        loop {
            let page: Page<T> = self.page(path, filter, after.as_deref()).await?;
            items.extend(page.items);
            after = page.next;
            if after.is_none() {
                return Ok(items);
            }
        }
    }

    /// A page of a list. One without items is the last, whatever the node says: whoever reads all
    /// pages must come to an end.
    async fn page<T: DeserializeOwned>(
        &self,
        path: &str,
        filter: &str,
        after: Option<&str>,
    ) -> Result<Page<T>, SdkError> {
        let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let limit = routes::PAGE_MAX;
        let page: Page<T> = self.get(&format!("{path}?{filter}limit={limit}{after}")).await?;
        let next = page.next.filter(|_| !page.items.is_empty());
        Ok(Page { next, ..page })
    }

    /// Asks a question, again after a pause while the node limits this client's rate.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, SdkError> {
        let ask = async {
            let mut refusals = 0;
            loop {
                let question = self.request(Method::GET, path).timeout(ANSWER_LIMIT);
                match self.json(question).await {
                    Err(SdkError::Api { status: 429, .. }) if refusals < PATIENCE => {
                        refusals += 1;
                        sleep((LOOK_LAST * refusals).min(PAUSE_MAX)).await;
                    }
                    answer => return answer,
                }
            }
        };
        self.patiently(ask).await
    }

    /// A request to this node, without a time limit.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.base.at(path))
    }

    /// Adds a permit to a request. The usual header is taken if the URL has a name and a password
    /// for a server in front of the node.
    pub(crate) fn with_permit(&self, request: RequestBuilder, permit: String) -> RequestBuilder {
        request.header(if self.base.has_login() { PERMIT } else { "authorization" }, permit)
    }

    /// Sends the request and reads the JSON of its answer.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, SdkError> {
        let (url, bytes) = self.answer(request).await?;
        serde_json::from_slice(&bytes).map_err(|source| SdkError::Malformed { url, source })
    }

    /// Waits for a small answer. Of a node that does not answer soon the listener is told, once
    /// until it does.
    async fn patiently<T>(&self, answer: impl Future<Output = T>) -> T {
        if self.told.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let answer = answer.await;
            self.told.store(begun.elapsed() > QUIET, Ordering::Relaxed);
            return answer;
        }
        let what = || {
            self.told.store(true, Ordering::Relaxed);
            format!("waiting for an answer from {}", self.url)
        };
        self.listener.during(what, answer).await
    }

    /// Sends the request and returns the response if it succeeds.
    pub(crate) async fn respond(&self, request: RequestBuilder) -> Result<Response, SdkError> {
        let response = request.send().await.map_err(|error| self.network(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.map(without_login);
        let (url, bytes) = self.read(response).await?;
        Err(match location.filter(|_| status.is_redirection()) {
            Some(location) => self.elsewhere(status, &url, &location),
            None => refusal(status, &url, &bytes),
        })
    }

    /// The error of an answer that sends elsewhere. It is not followed: a node never does that, and
    /// what is sent is for the one that was named.
    fn elsewhere(&self, status: StatusCode, url: &str, location: &str) -> SdkError {
        let there = reqwest::Url::parse(url).and_then(|url| url.join(location));
        let there = there.map_or_else(|_| location.to_owned(), |there| there.to_string());
        // The URL of the node itself, if it answers the same question.
        let base = without_login(&self.base.at(""));
        let node = url.strip_prefix(&base).and_then(|route| there.strip_suffix(route));
        let node = node.filter(|node| *node != base);
        let hint = node.map(|node| format!("if that is the node, give its URL: --url {node}"));
        let error = ApiError {
            code: Text(Code::RedirectRefused),
            message: format!("{url} answers {status}, and names {there}"),
            hint,
        };
        SdkError::Api { status: status.as_u16(), error }
    }

    /// What a failed request says about TLS, if anything.
    fn handshake(&self, source: &reqwest::Error) -> Option<Handshake> {
        if self.base.is_tls() {
            return Handshake::in_connecting(source).filter(|_| source.is_connect());
        }
        Handshake::in_plain_answer(source)
    }

    /// A network failure, without the URL's query.
    pub(crate) fn network(&self, source: reqwest::Error) -> SdkError {
        if let Some(failure) = self.handshake(&source) {
            return SdkError::Handshake { url: self.url.clone(), failure };
        }
        let url = source.url().map_or_else(|| self.url.clone(), |url| without_login(url.as_str()));
        SdkError::Network { url, failure: source.without_url(), proxied: self.proxied }
    }

    async fn answer(&self, request: RequestBuilder) -> Result<(String, Vec<u8>), SdkError> {
        let response = self.respond(request).await?;
        self.read(response).await
    }

    /// The URL that answered, and its whole answer, up to the size limit.
    async fn read(&self, mut response: Response) -> Result<(String, Vec<u8>), SdkError> {
        let url = without_login(response.url().as_str());
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.network(error))? {
            if bytes.len() + piece.len() > self.answer_bytes_max {
                let limit_bytes = self.answer_bytes_max as u64;
                return Err(SdkError::TooLong { url, limit_bytes });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok((url, bytes))
    }
}

impl Node for Client {
    type Error = SdkError;

    fn url(&self) -> &str {
        Self::url(self)
    }

    async fn ask<T: DeserializeOwned + Send>(&self, path: &str) -> Result<Option<T>, SdkError> {
        match self.get(path).await {
            Err(SdkError::Api { status: 404, .. }) => Ok(None),
            answer => answer.map(Some),
        }
    }
}

/// The error in an answer. A proxy in front of the node may answer in another form.
fn refusal(status: StatusCode, url: &str, bytes: &[u8]) -> SdkError {
    let error = serde_json::from_slice(bytes).unwrap_or_else(|_| ApiError {
        code: Text(Code::HttpError),
        message: format!("{url} answers {status}"),
        hint: None,
    });
    SdkError::Api { status: status.as_u16(), error }
}
