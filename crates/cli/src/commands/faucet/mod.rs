//! `soma faucet`: gives money away on a test network, and asks for it.
//!
//! Everything is in the open: whoever can reach it may ask. What it can lose is what its account
//! has, so give it an account of its own.

mod ledger;
mod page;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use soma_protocol::{Address, Amount};

use crate::error::{Error, Result};
use crate::global::Global;
use crate::home::Home;
use crate::network;
use crate::output::Output;
use crate::signals;
use ledger::{Ledger, Limits};
use server::Server;

/// Give money away on a test network, or ask for it.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Faucet {
    /// Give money from the account of the key to whoever asks.
    Serve(Serve),
    /// Ask a faucet to pay an account.
    Ask(Ask),
}

/// Give money from the account of the key to whoever asks.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma faucet serve --key faucet --amount 20")]
pub(crate) struct Serve {
    /// What an account is paid at once, in SOMA.
    #[arg(long, default_value = "10", value_name = "SOMA")]
    amount: Amount,
    /// How long an account waits until it is paid again.
    #[arg(long, default_value = "24h", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pause: Duration,
    /// How many accounts are paid in that time for one internet address (IPv6: one /48).
    #[arg(long, default_value_t = 3, value_name = "N")]
    per_client: u32,
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:8651", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// A proxy on this machine names the client in `X-Forwarded-For`.
    #[arg(long)]
    trust_proxy: bool,
}

/// Ask a faucet to pay an account.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma faucet ask --faucet https://faucet.example.org")]
pub(crate) struct Ask {
    /// The account [default: that of the key].
    address: Option<Address>,
    /// URL of the faucet.
    #[arg(long, value_name = "URL")]
    faucet: String,
}

/// What is served, and where.
#[derive(Serialize)]
struct Serving<'a> {
    schema: &'static str,
    url: &'a str,
    address: Address,
    amount: Amount,
}

impl Faucet {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        match self {
            Self::Serve(serve) => network::block_on(serve.run(global, output)),
            Self::Ask(ask) => network::block_on(ask.run(global, output)),
        }
    }
}

impl Serve {
    async fn run(self, global: &Global, output: &Output) -> Result {
        let Self { amount, pause, per_client, listen, trust_proxy } = self;
        if amount == Amount::ZERO || per_client == 0 {
            return Err(Error::usage("a faucet that gives nothing is none"));
        }
        let sender = network::sender(global, output).await?;
        let file =
            Home::find(global)?.faucet(&sender.chain().to_string(), &sender.address().to_string());
        let ledger = Ledger::open(&file, Limits { pause, per_client })?;
        let (listener, url) =
            network::listen(listen, "choose another address with --listen").await?;
        let address = sender.address();
        output.say(format_args!("giving {amount} SOMA at a time until Ctrl-C"));
        let serving = Serving { schema: "faucet/1", url: &url, address, amount };
        output.value("url", &url, &serving)?;
        let server = Arc::new(Server::new(sender, ledger, amount, pause, trust_proxy));
        let router = server::router(Arc::clone(&server));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let ended = tokio::select! {
            ended = axum::serve(listener, service) =>
                ended.map_err(|error| network::not_served(&error)),
            signal = signals::stopped() => signal,
        };
        server.end().await;
        ended
    }
}

impl Ask {
    async fn run(self, global: &Global, output: &Output) -> Result {
        let account = network::account(global, self.address)?;
        let faucet = network::client_at(&self.faucet, global, output)?;
        let paid = faucet.ask_faucet(account).await?;
        let amount = Amount(paid.amount.0);
        output.done(format_args!("{account} was paid {amount} SOMA"));
        output.value("transaction", paid.transaction, &paid)
    }
}
