//! Builds, signs and sends the transactions of one account, several at a time if needed. It never
//! prints its key.
//!
//! An account's payments are numbered, and several programs and machines may share its key. One
//! place hands out the numbers, [`Sender::send`]: processes that share a folder take turns there,
//! and a number that another machine was faster to use is asked for again. A transaction whose fate
//! is not known is never signed again with another number: it could be executed twice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use soma_codes::{Code, Coded as _};
use soma_protocol::{
    Action, Address, Amount, Hash, Params, Phase, SecretKey, SignedTransaction, action,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api::unproved::VerifyError;
use crate::api::{Receipt, Status};
use crate::at_stake::AtStake;
use crate::client::{Client, Looks, Sent, Whereabouts};
use crate::error::SdkError;
use crate::retry::Retries;
use crate::signing::{Terms, Tip, sign};
use crate::transfer::{Progress, Uploader};
use crate::turn::Turn;

/// How long a transaction may wait for its block.
const VALID: Duration = Duration::from_mins(10);
/// How many failures in a row are retried when a transaction is sent.
const RETRIES: u32 = 4;
/// How often in a row another transaction may be faster to use a nonce: half a minute.
const CONFLICTS: u32 = 12;
/// How long the turn of another process is waited for.
const TURN_LIMIT: Duration = Duration::from_mins(1);
/// Time between two attempts to hand in a transaction that the node does not know anymore.
const HAND_IN_AGAIN: Duration = Duration::from_secs(1);
/// Codes for a phase that another command has ended, or ends.
const PHASE_ENDS: [Code; 3] = [Code::WrongPhase, Code::WrongEpoch, Code::DutyWaiting];
/// Codes for a nonce that another transaction has.
const CONFLICT: [Code; 4] =
    [Code::WrongNonce, Code::NonceTooLow, Code::NonceTooHigh, Code::ReplacementUnderpriced];
/// Codes for fees that follow from older parameters.
const FEES_CHANGED: [Code; 2] = [Code::FeeTooLow, Code::FeeLimit];

/// An account that sends transactions: its key and the node that it sends them to.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    key: Key,
    chain: Hash,
    params: Params,
    /// `None` for what the node suggests.
    tip: Option<Amount>,
    /// What fees follow from. Locked while a nonce is given to a transaction.
    fees: Mutex<Params>,
    /// The file at which processes that share it take turns.
    turns: Option<PathBuf>,
    at_stake: AtStake,
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
    /// [`VerifyError::OtherChain`] if the node is one of another chain; those of [`Client`]'s
    /// requests.
    pub async fn new(client: Client, key: SecretKey, chain: Hash) -> Result<Self, SdkError> {
        is_of_chain(&client, &client.status().await?, chain)?;
        let params = client.params().await?;
        Ok(Self {
            client,
            key: Key(key),
            chain,
            fees: Mutex::new(params.clone()),
            params,
            tip: None,
            turns: None,
            at_stake: AtStake::default(),
        })
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

    /// Takes turns with all processes that have the same key and the same file `turns`, which is
    /// created.
    #[must_use]
    pub fn with_turns(mut self, turns: PathBuf) -> Self {
        self.turns = Some(turns);
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

    /// What would be lost if this process ended now.
    pub fn at_stake(&self) -> &AtStake {
        &self.at_stake
    }

    /// Signs `action` without sending it, with the tip of [`Self::with_tip`], if any. The fee limit
    /// covers the most that such an action costs.
    pub fn sign(&self, action: Action, nonce: u64, valid_until_ms: u64) -> SignedTransaction {
        let tip = Tip::Exactly(self.tip.unwrap_or(Amount::ZERO));
        let terms = Terms { chain: self.chain, nonce, tip, valid_until_ms };
        sign(action, &terms, &self.params, &self.key.0)
    }

    /// Signs `action` for a node with this status.
    fn sign_now(
        &self,
        action: Action,
        nonce: u64,
        status: &Status,
        fees: &Params,
    ) -> SignedTransaction {
        let suggested = Tip::PerKib(status.tip_per_kib.0);
        let tip = self.tip.map_or(suggested, Tip::Exactly);
        let valid_until_ms = valid_until_ms(status);
        let terms = Terms { chain: self.chain, nonce, tip, valid_until_ms };
        sign(action, &terms, fees, &self.key.0)
    }

    /// Signs `action` and sends it, in order after everything that this sender sent before. When it
    /// returns, the node has the transaction, or may have it: [`Self::wait`] tells.
    ///
    /// # Errors
    /// Same as [`Client::send`]; the transaction can then never be included.
    pub async fn send(&self, action: Action) -> Result<Sent, SdkError> {
        if action.is_duty() {
            let signed = self.sign_now(action, 0, &self.client.status().await?, &self.params);
            self.hand_in(&signed).await?;
            return Ok(Sent::from(&signed));
        }
        // Locked until the node has it, so that the node gets them in the order of their nonces.
        let mut fees = self.fees.lock().await;
        let _turn = self.take_turn().await;
        let mut conflicts = Retries::new(CONFLICTS);
        let mut refreshed = false;
        loop {
            let status = self.client.status().await?;
            is_of_chain(&self.client, &status, self.chain)?;
            let nonce = self.client.account(self.address()).await?.next_nonce.0;
            let signed = self.sign_now(action.clone(), nonce, &status, &fees);
            let error = match self.hand_in(&signed).await {
                Ok(()) => return Ok(Sent::from(&signed)),
                Err(error) => error,
            };
            if FEES_CHANGED.contains(&error.code()) && !std::mem::replace(&mut refreshed, true) {
                *fees = self.client.params().await?;
                continue;
            }
            if !CONFLICT.contains(&error.code()) {
                return Err(error);
            }
            let what = || "waiting for other transactions of this key".to_owned();
            if !self.client.listener().during(what, conflicts.pause()).await {
                return Err(error);
            }
        }
    }

    /// The turn of this process among those that share the key.
    async fn take_turn(&self) -> Option<Turn> {
        let path = self.turns.as_deref()?;
        let _created = std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")));
        let what = "hand in its transaction with this key";
        Some(Turn::take(path, TURN_LIMIT, self.client.listener(), what).await)
    }

    /// Waits for the receipt of a transaction, and hands it in again if the node has lost it. A
    /// rejection is an error.
    ///
    /// # Errors
    /// [`SdkError::Rejected`] with the rule's code; otherwise those of [`Client::wait`].
    pub async fn wait(&self, sent: Sent) -> Result<Receipt, SdkError> {
        let what = || format!("waiting for the network to include transaction {}", sent.hash);
        let outcome = if self.at_stake.is_told(&sent.hash) {
            Box::pin(self.fate(&sent)).await
        } else {
            self.client.listener().during(what, Box::pin(self.fate(&sent))).await
        };
        if !matches!(outcome, Err(SdkError::Timeout { .. })) {
            self.at_stake.decided(&sent.hash);
        }
        let receipt = outcome?;
        match receipt.rejection {
            Some(rejection) => Err(SdkError::Rejected { hash: sent.hash, rejection }),
            None => Ok(receipt),
        }
    }

    /// What becomes of a transaction. Failures of the network, and answers of what is no node of
    /// this chain, say nothing about it.
    async fn fate(&self, sent: &Sent) -> Result<Receipt, SdkError> {
        let mut looks = Looks::begin(VALID + VALID);
        let (mut again_at, mut told) = (Instant::now() + HAND_IN_AGAIN, false);
        loop {
            match self.client.look(sent).await {
                Ok(Whereabouts::Final(receipt)) => return Ok(receipt),
                Ok(Whereabouts::Unknown) if Instant::now() >= again_at => {
                    if let Some(signed) = self.at_stake.transaction(&sent.hash) {
                        // A refusal says nothing about other nodes, which may still have it.
                        let _answer = self.client.send(&signed).await;
                    }
                    again_at = Instant::now() + HAND_IN_AGAIN;
                }
                Ok(Whereabouts::Pending | Whereabouts::Unknown) => {}
                Err(error) if error.is_passing() => {
                    if !std::mem::replace(&mut told, true) {
                        let text = format!("{error}; still waiting for transaction {}", sent.hash);
                        self.client.listener().tell(&text);
                    }
                }
                Err(error) => return Err(error),
            }
            looks.pause().await?;
        }
    }

    /// Signs, sends and waits for the receipt; signs again if another machine's transaction took
    /// the nonce, because this one can never be included then. That it was another one is the
    /// node's word: who verifies does not pay on it again.
    ///
    /// # Errors
    /// Those of [`Sender::send`] and [`Sender::wait`].
    pub async fn run(&self, action: Action) -> Result<Receipt, SdkError> {
        Ok(self.settle(action).await?.1)
    }

    /// Like [`Self::run`]; returns what was sent in the end, too.
    ///
    /// # Errors
    /// Same as [`Self::run`].
    pub async fn settle(&self, action: Action) -> Result<(Sent, Receipt), SdkError> {
        loop {
            let sent = self.send(action.clone()).await?;
            match self.wait(sent).await {
                Err(SdkError::Superseded { .. }) if !self.client.verifies() => {}
                outcome => return Ok((sent, outcome?)),
            }
        }
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
    /// transaction. If an attempt may have brought it there, only [`Self::wait`] can tell.
    async fn hand_in(&self, signed: &SignedTransaction) -> Result<(), SdkError> {
        self.at_stake.hand_in(signed.clone());
        let mut retries = Retries::new(RETRIES);
        let mut in_doubt = false;
        let error = loop {
            match self.client.send(signed).await {
                Ok(_) => return Ok(()),
                Err(error) if in_doubt && CONFLICT.contains(&error.code()) => return Ok(()),
                Err(error) => {
                    in_doubt |= error.may_have_arrived();
                    if let Err(error) = retries.pause_or_fail(error).await {
                        break error;
                    }
                }
            }
        };
        if in_doubt {
            return Ok(());
        }
        self.at_stake.decided(&signed.hash());
        Err(error)
    }
}

/// Checks that a node is one of this chain.
pub(crate) fn is_of_chain(client: &Client, status: &Status, chain: Hash) -> Result<(), SdkError> {
    let found = status.chain_id.0;
    if found == chain {
        return Ok(());
    }
    let url = client.url().to_owned();
    Err(VerifyError::OtherChain { url, found, expected: chain }.into())
}

/// Ten minutes from now, by the chain's clock or this machine's, whichever is ahead: the clock of
/// an idle chain does not advance.
fn valid_until_ms(status: &Status) -> u64 {
    let now_ms = soma_os::clock::now_ms();
    let valid_ms = u64::try_from(VALID.as_millis()).unwrap_or(u64::MAX);
    now_ms.max(status.timestamp_ms.0).saturating_add(valid_ms)
}
