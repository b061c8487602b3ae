//! The routes of a faucet. A request is checked and noted before anything is paid, and only so many
//! are paid at a time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use soma_codes::{Code, Coded as _, Exit};
use soma_os::net::last_forwarded;
use soma_protocol::{Action, Address, Amount, action};
use soma_sdk::api::ApiError;
use soma_sdk::faucet::{Ask, FAUCET, Faucet, Paid};
use soma_sdk::{Sender, Text};
use tokio::sync::Semaphore;

use super::ledger::Ledger;
use super::page::{News, STYLE, page};
use crate::error::Error;

/// The most bytes of a request: an address with some words around it.
const BODY_BYTES_MAX: usize = 1 << 10;
/// Payments at a time, and how many more wait for their turn.
const AT_ONCE: usize = 16;
const WAITING_MAX: usize = 256;
/// How long payments may take when the faucet ends.
const END_LIMIT: Duration = Duration::from_secs(30);
/// What a faucet keeps for fees.
const FEES: Amount = Amount::soma(1);

/// A faucet.
pub(super) struct Server {
    sender: Sender,
    ledger: Ledger,
    amount: Amount,
    pause: Duration,
    trust_proxy: bool,
    places: Semaphore,
    turns: Semaphore,
}

type Shared = Arc<Server>;

impl Server {
    pub(super) fn new(
        sender: Sender,
        ledger: Ledger,
        amount: Amount,
        pause: Duration,
        trust_proxy: bool,
    ) -> Self {
        let (places, turns) = (Semaphore::new(AT_ONCE + WAITING_MAX), Semaphore::new(AT_ONCE));
        Self { sender, ledger, amount, pause, trust_proxy, places, turns }
    }

    /// The address that asks, or that a proxy on this machine names.
    fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let line = headers.get_all("x-forwarded-for").into_iter().next_back();
        let forwarded = line.and_then(|line| last_forwarded(line.to_str().ok()?));
        let is_proxy = self.trust_proxy && peer.ip().to_canonical().is_loopback();
        forwarded.filter(|_| is_proxy).unwrap_or_else(|| peer.ip())
    }

    /// Pays an account for a client. It continues if nobody waits for the answer anymore: whoever
    /// is noted is paid.
    async fn pay(self: &Arc<Self>, account: Address, client: IpAddr) -> Result<Paid, Error> {
        let server = Arc::clone(self);
        let paid = tokio::spawn(async move { server.pay_in_turn(account, client).await });
        paid.await.unwrap_or_else(|_| Err(Error::new(Code::Busy, "the faucet is stopping")))
    }

    async fn pay_in_turn(&self, account: Address, client: IpAddr) -> Result<Paid, Error> {
        let busy = || Error::new(Code::Busy, "too many ask at the same time");
        let _place = self.places.try_acquire().map_err(|_| busy())?;
        let _turn = self.turns.acquire().await.map_err(|_| busy())?;
        let balance = self.sender.client().account(self.sender.address()).await?.balance;
        if Amount(balance.0) < self.amount.plus(FEES) {
            return Err(Error::new(Code::FaucetEmpty, "the faucet has nothing left to give"));
        }
        let noted_ms = tokio::task::block_in_place(|| self.ledger.note(account, client))?;
        let transfer = action::Transfer { to: account, amount: self.amount };
        let sent = self.sender.send(Action::Transfer(transfer)).await.inspect_err(|_| {
            // What could not be sent is never paid, so nobody waits for it.
            self.ledger.forget(account, client, noted_ms);
        })?;
        self.sender.wait(sent).await.inspect_err(|error| {
            if error.exit() == Exit::Rejected || error.code() == Code::TransactionExpired {
                self.ledger.forget(account, client, noted_ms);
            }
        })?;
        let (address, amount) = (Text(account), self.amount.into());
        Ok(Paid { address, amount, transaction: Text(sent.hash) })
    }

    /// Refuses all further requests, and waits until whoever is being paid has been.
    pub(super) async fn end(&self) {
        self.places.close();
        let all = u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
        let _ended = tokio::time::timeout(END_LIMIT, self.turns.acquire_many(all)).await;
    }

    fn pause(&self) -> String {
        humantime::format_duration(self.pause).to_string()
    }

    fn show(&self, news: &News<'_>) -> Response {
        page(&self.sender.chain().to_string(), self.amount, &self.pause(), news)
    }

    fn refuse(&self, error: &Error) -> Response {
        let mut page = self.show(&News::Refused { message: &error.message, hint: &error.hint });
        *page.status_mut() = status(error.code);
        page
    }
}

/// The routes.
pub(super) fn router(server: Shared) -> Router {
    Router::new()
        .route("/", get(form).post(answer_form))
        .route("/style.css", get(style))
        .route(FAUCET, get(about).post(answer))
        .fallback(nothing)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(server)
}

/// The status of an answer with this code; what the faucet's node did has none of its own.
fn status(code: Code) -> StatusCode {
    let status = code.http_status().and_then(|status| StatusCode::from_u16(status).ok());
    status.unwrap_or(StatusCode::BAD_GATEWAY)
}

/// A request that is refused, as a node's API refuses.
struct Refusal(Error);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let status = status(error.code);
        let problem =
            ApiError { code: Text(error.code), message: error.message, hint: Some(error.hint) };
        let mut response = (status, Json(problem)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

async fn nothing() -> Refusal {
    Refusal(Error::new(Code::NoSuchRoute, format!("a faucet has a page at / and {FAUCET}")))
}

async fn about(State(server): State<Shared>) -> Json<Faucet> {
    Json(Faucet {
        chain_id: Text(server.sender.chain()),
        address: Text(server.sender.address()),
        amount: server.amount.into(),
        pause_ms: Text(u64::try_from(server.pause.as_millis()).unwrap_or(u64::MAX)),
    })
}

async fn answer(
    State(server): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: String,
) -> Result<Json<Paid>, Refusal> {
    let asked: Ask = serde_json::from_str(&body).map_err(|error| {
        let message = format!("expected {{\"address\": \"soma1...\"}}: {error}");
        Refusal(Error::new(Code::BadRequest, message))
    })?;
    let client = server.client(peer, &headers);
    server.pay(asked.address.0, client).await.map(Json).map_err(Refusal)
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css")], STYLE).into_response()
}

async fn form(State(server): State<Shared>) -> Response {
    server.show(&News::None)
}

async fn answer_form(
    State(server): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: String,
) -> Response {
    // An address has no character that a form encodes.
    let asked = body.split('&').find_map(|field| field.strip_prefix("address="));
    let address = asked.unwrap_or_default().trim_matches(['+', ' ']).parse::<Address>();
    let Ok(address) = address else {
        let error = Error::new(Code::BadRequest, "this is no address");
        return server.refuse(&error.hint("copy the whole address, which begins with soma1"));
    };
    let client = server.client(peer, &headers);
    match server.pay(address, client).await {
        Ok(paid) => {
            let (address, transaction) = (paid.address.to_string(), paid.transaction.to_string());
            server.show(&News::Paid { address: &address, transaction: &transaction })
        }
        Err(error) => server.show(&News::Refused { message: &error.message, hint: &error.hint }),
    }
}
