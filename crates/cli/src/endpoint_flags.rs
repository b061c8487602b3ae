//! The flags that say where a node is reached.

use soma_node::settings::check_endpoints;
use soma_protocol::Endpoints;

use crate::error::{Error, Result};

/// Where a node is reached, which its validator says on the chain.
#[derive(Debug, clap::Args)]
pub(crate) struct EndpointFlags {
    /// Where other nodes will connect to yours; left out if yours connects to them.
    #[arg(long, value_name = "HOST:PORT")]
    p2p: Option<String>,
    /// The URL of its API, from which other nodes download weights files.
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
}

impl EndpointFlags {
    /// What the flags say.
    ///
    /// # Errors
    /// If nobody could use them.
    pub(crate) fn endpoints(self) -> Result<Endpoints> {
        let endpoints = Endpoints { p2p: self.p2p, url: self.api_url };
        check_endpoints(&endpoints).map_err(Error::usage)?;
        Ok(endpoints)
    }
}
