//! A faucet: a server that gives money away on a test network, so that newcomers can take part.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use soma_protocol::Address;

use crate::api::text::{AddressText, HashText, U64};
use crate::{Client, SdkError, Text};

/// Where a faucet says what it gives, and is asked for it.
pub const FAUCET: &str = "/v1/faucet";

/// What a faucet gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faucet {
    /// The chain whose money it gives.
    pub chain_id: HashText,
    /// The account that pays.
    pub address: AddressText,
    /// What it gives at once, in base units.
    pub amount: U64,
    /// How long an account waits until it is paid again, in milliseconds.
    pub pause_ms: U64,
}

/// Who asks a faucet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The account that is to be paid.
    pub address: AddressText,
}

/// What a faucet has paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// The account that was paid.
    pub address: AddressText,
    /// How much, in base units.
    pub amount: U64,
    /// The transaction, which is finalized.
    pub transaction: HashText,
}

impl Client {
    /// What the faucet at this URL gives.
    ///
    /// # Errors
    /// The faucet's own, or that it cannot be reached.
    pub async fn faucet(&self) -> Result<Faucet, SdkError> {
        self.json(self.request(Method::GET, FAUCET)).await
    }

    /// Has the faucet at this URL pay an account, and waits until that is finalized.
    ///
    /// # Errors
    /// The faucet's own: it paid this account a short time ago, or has no more; or that it cannot
    /// be reached.
    pub async fn ask_faucet(&self, account: Address) -> Result<Paid, SdkError> {
        let ask = Ask { address: Text(account) };
        let body = serde_json::to_vec(&ask).unwrap_or_default();
        let request = self.request(Method::POST, FAUCET).header("content-type", "application/json");
        self.json(request.body(body)).await
    }
}
