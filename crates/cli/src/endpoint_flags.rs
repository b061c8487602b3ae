//! The flags that say where a node is reached.

use soma_node::settings::check_endpoints;
use soma_protocol::Endpoints;

use crate::error::{Error, Result};

/// What a flag says if there is no such place.
const NONE: &str = "none";

/// Where a node is reached, which its validator says on the chain.
#[derive(Debug, clap::Args)]
pub(crate) struct EndpointFlags {
    /// Where other nodes will connect to yours; left out, or `none`, if yours connects to them.
    #[arg(long, value_name = "HOST:PORT")]
    p2p: Option<String>,
    /// The URL of its API, from which other nodes download weights files, or `none`.
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
}

impl EndpointFlags {
    /// What the flags change of the endpoints that were known; `None` if there are neither.
    ///
    /// # Errors
    /// If nobody could use them.
    pub(crate) fn change(self, known: Option<&Endpoints>) -> Result<Option<Endpoints>> {
        if self.p2p.is_none() && self.api_url.is_none() {
            return Ok(known.cloned());
        }
        let Endpoints { p2p, url } = known.cloned().unwrap_or_default();
        let said = |flag: Option<String>, known| match flag {
            None => known,
            Some(text) => Some(text).filter(|text| text != NONE),
        };
        let endpoints = Endpoints { p2p: said(self.p2p, p2p), url: said(self.api_url, url) };
        check_endpoints(&endpoints).map_err(Error::usage)?;
        Ok(Some(endpoints))
    }
}

#[cfg(test)]
mod tests {
    use super::{EndpointFlags, Endpoints};

    #[test]
    fn a_flag_changes_what_it_names_and_nothing_else() {
        let flags = |p2p: Option<&str>, url: Option<&str>| EndpointFlags {
            p2p: p2p.map(str::to_owned),
            api_url: url.map(str::to_owned),
        };
        let place = |p2p: Option<&str>, url: Option<&str>| Endpoints {
            p2p: p2p.map(str::to_owned),
            url: url.map(str::to_owned),
        };
        let known = place(Some("one:1"), Some("http://one"));
        let changed = |p2p, url| flags(p2p, url).change(Some(&known)).unwrap();
        assert_eq!(changed(None, None), Some(known.clone()));
        assert_eq!(changed(Some("two:2"), None), Some(place(Some("two:2"), Some("http://one"))));
        assert_eq!(changed(None, Some("none")), Some(place(Some("one:1"), None)));
        assert_eq!(changed(Some("none"), Some("none")), Some(Endpoints::default()));
        assert_eq!(flags(None, None).change(None).unwrap(), None);
        assert!(flags(Some("nowhere"), None).change(None).is_err());
    }
}
