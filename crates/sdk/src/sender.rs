//! Builds, signs and sends the transactions of one account, several at a time if needed. It never
//! prints its key.

use std::path::Path;
use std::time::Duration;

use soma_codes::{Code, Coded as _};
use soma_protocol::{
    Action, Address, Amount, Hash, Params, Phase, SecretKey, SignedTransaction, action,
};
use tokio::sync::Mutex;

use crate::api::{Receipt, Status};
use crate::client::{Client, Sent};
use crate::error::SdkError;
use crate::retry::Retries;
use crate::signing::{Terms, Tip, sign};
use crate::transfer::{Progress, Uploader};

/// How long a transaction may wait for its block.
const VALID: Duration = Duration::from_mins(10);
/// How many failures in a row are retried when a transaction is sent.
const RETRIES: u32 = 4;
/// Codes for a phase that another command has ended, or ends.
const PHASE_ENDS: [Code; 3] = [Code::WrongPhase, Code::WrongEpoch, Code::DutyWaiting];
/// Codes for a nonce that is not the account's next.
const WRONG_NONCE: [Code; 3] = [Code::WrongNonce, Code::NonceTooLow, Code::NonceTooHigh];

/// An account that sends transactions: its key and the node that it sends them to.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    key: Key,
    chain: Hash,
    params: Params,
    /// `None` for what the node suggests.
    tip: Option<Amount>,
    /// Nonce of the next transaction; `None` if it must be read from the node.
    next: Mutex<Option<u64>>,
}

/// The key, without a way to print it.
struct Key(SecretKey);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "(secret of {})", self.0.address())
    }
}

impl Sender {
    /// The account of `key` on `chain`, sending to `client`'s node. Payments have the tip that the
    /// node suggests. The chain must be known from a source other than the node: a node could name
    /// a chain on which its caller never meant to sign.
    ///
    /// # Errors
    /// [`SdkError::OtherChain`] if the node is one of another chain; those of [`Client`]'s
    /// requests.
    pub async fn new(client: Client, key: SecretKey, chain: Hash) -> Result<Self, SdkError> {
        let found = client.status().await?.chain_id.0;
        if found != chain {
            let url = client.url().to_owned();
            return Err(SdkError::OtherChain { url, found, expected: chain });
        }
        let params = client.params().await?;
        let (tip, next) = (None, Mutex::new(None));
        Ok(Self { client, key: Key(key), chain, params, tip, next })
    }

    /// Like [`Self::new`], on whatever chain the node names: for tests, and for keys that are worth
    /// nothing elsewhere.
    ///
    /// # Errors
    /// Those of [`Client`]'s requests.
    pub async fn on_any_chain(client: Client, key: SecretKey) -> Result<Self, SdkError> {
        let chain = client.status().await?.chain_id.0;
        Self::new(client, key, chain).await
    }

    /// Adds this tip to every payment instead of what the node suggests.
    #[must_use]
    pub fn with_tip(mut self, tip: Amount) -> Self {
        self.tip = Some(tip);
        self
    }

    /// The account's address.
    pub fn address(&self) -> Address {
        self.key.0.address()
    }

    /// The node.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Hash of the chain's genesis.
    pub fn chain(&self) -> Hash {
        self.chain
    }

    /// The parameters at the time this sender was created.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Signs `action` without sending it, with the tip of [`Self::with_tip`], if any. The fee limit
    /// covers the most that such an action costs.
    pub fn sign(&self, action: Action, nonce: u64, valid_until_ms: u64) -> SignedTransaction {
        let tip = Tip::Exactly(self.tip.unwrap_or(Amount::ZERO));
        let terms = Terms { chain: self.chain, nonce, tip, valid_until_ms };
        sign(action, &terms, &self.params, &self.key.0)
    }

    /// Signs `action` for a node with this status.
    fn sign_now(&self, action: Action, nonce: u64, status: &Status) -> SignedTransaction {
        let suggested = Tip::PerKib(status.tip_per_kib.0);
        let tip = self.tip.map_or(suggested, Tip::Exactly);
        let valid_until_ms = valid_until_ms(status);
        let terms = Terms { chain: self.chain, nonce, tip, valid_until_ms };
        sign(action, &terms, &self.params, &self.key.0)
    }

    /// Signs `action` and sends it, in order after everything that this sender sent before.
    ///
    /// # Errors
    /// Same as [`Client::send`].
    pub async fn send(&self, action: Action) -> Result<Sent, SdkError> {
        if action.is_duty() {
            let signed = self.sign_now(action, 0, &self.client.status().await?);
            self.submit(&signed).await?;
            return Ok(Sent::from(&signed));
        }
        // Locked until the node has it, so that the node gets them in the order of their nonces.
        let mut next = self.next.lock().await;
        let status = self.client.status().await?;
        let expected = next.take();
        let nonce = match expected {
            Some(nonce) => nonce,
            None => self.next_nonce().await?,
        };
        let mut signed = self.sign_now(action.clone(), nonce, &status);
        let mut outcome = self.submit(&signed).await;
        let wrong_nonce = |error: &SdkError| WRONG_NONCE.contains(&error.code());
        if expected.is_some() && outcome.as_ref().is_err_and(wrong_nonce) {
            // Another program sends from this account, or an earlier transaction was dropped.
            let nonce = self.next_nonce().await?;
            signed = self.sign_now(action, nonce, &status);
            outcome = self.submit(&signed).await;
        }
        outcome?;
        *next = Some(signed.transaction().nonce.saturating_add(1));
        Ok(Sent::from(&signed))
    }

    async fn next_nonce(&self) -> Result<u64, SdkError> {
        Ok(self.client.account(self.address()).await?.next_nonce.0)
    }

    /// Waits for the receipt of a transaction. A rejection is an error.
    ///
    /// # Errors
    /// [`SdkError::Rejected`] with the rule's code; otherwise those of [`Client::wait`].
    pub async fn wait(&self, sent: Sent) -> Result<Receipt, SdkError> {
        let receipt = self.client.wait(&sent, VALID + VALID).await;
        if matches!(receipt, Err(SdkError::Expired { .. } | SdkError::Superseded { .. })) {
            // Transactions that were sent after it can no longer be included.
            *self.next.lock().await = None;
        }
        let receipt = receipt?;
        match receipt.rejection {
            Some(rejection) => Err(SdkError::Rejected { hash: sent.hash, rejection }),
            None => Ok(receipt),
        }
    }

    /// Signs, sends and waits for the receipt.
    ///
    /// # Errors
    /// Those of [`Sender::send`] and [`Sender::wait`].
    pub async fn run(&self, action: Action) -> Result<Receipt, SdkError> {
        let sent = self.send(action).await?;
        self.wait(sent).await
    }

    /// Uploads the encrypted file that a commit of this account names, like [`Client::upload`].
    ///
    /// # Errors
    /// Same as [`Client::upload`].
    pub async fn upload(
        &self,
        path: &Path,
        ciphertext_hash: Hash,
        progress: Progress<'_>,
    ) -> Result<(), SdkError> {
        let uploader = Uploader { key: &self.key.0, chain: self.chain };
        self.client.upload(path, ciphertext_hash, &uploader, progress).await
    }

    /// Ends the current phase of a local network whose operator is this account. Returns the status
    /// afterwards.
    ///
    /// # Errors
    /// Those of [`Sender::run`].
    pub async fn end_phase(&self) -> Result<Status, SdkError> {
        let clock = self.client.status().await?.clock;
        let (epoch, phase): (_, Phase) = (soma_protocol::Epoch(clock.epoch), clock.phase.0);
        match self.run(Action::EndPhase(action::EndPhase { epoch, phase })).await {
            Err(error) if PHASE_ENDS.contains(&error.code()) => {}
            ended => drop(ended?),
        }
        self.client.status().await
    }

    /// Sends the transaction, repeatedly while the network fails: to the node it is one
    /// transaction.
    async fn submit(&self, signed: &SignedTransaction) -> Result<Hash, SdkError> {
        let mut retries = Retries::new(RETRIES);
        loop {
            match self.client.send(signed).await {
                Err(error) => retries.pause_or_fail(error).await?,
                accepted => return accepted,
            }
        }
    }
}

/// Ten minutes from now, by the chain's clock or this machine's, whichever is ahead: the clock of
/// an idle chain does not advance.
fn valid_until_ms(status: &Status) -> u64 {
    let now_ms = soma_os::clock::now_ms();
    let valid_ms = u64::try_from(VALID.as_millis()).unwrap_or(u64::MAX);
    now_ms.max(status.timestamp_ms.0).saturating_add(valid_ms)
}
