//! The URLs of nodes: what they may be, and what of them is never shown.

use std::fmt;
use std::net::IpAddr;

use soma_os::net;

use crate::error::SdkError;

/// The URL that requests begin with. It may have a name and a password for a server in front of the
/// node, and is never shown.
#[derive(Clone)]
pub(super) struct Base(reqwest::Url);

impl Base {
    pub(super) fn parse(url: &str) -> Result<Self, SdkError> {
        let bad = || SdkError::Url { url: without_login(url) };
        let parsed = reqwest::Url::parse(url).map_err(|_| bad())?;
        // Paths are appended to it.
        let is_base = matches!(parsed.scheme(), "http" | "https")
            && parsed.host_str().is_some()
            && parsed.query().is_none()
            && parsed.fragment().is_none();
        if is_base { Ok(Self(parsed)) } else { Err(bad()) }
    }

    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    pub(super) fn has_login(&self) -> bool {
        !self.0.username().is_empty() || self.0.password().is_some()
    }

    /// Whether the environment names a proxy for it. This machine is reached without.
    pub(super) fn proxied(&self) -> bool {
        let own = if self.is_tls() { HTTPS_PROXY } else { HTTP_PROXY };
        let mut named = own.iter().chain(&ANY_PROXY);
        !self.0.host_str().is_some_and(is_this_machine) && named.any(|name| is_set(name))
    }

    pub(super) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Base(..)")
    }
}

/// Variables of the environment that name a proxy: for plain HTTP, for TLS, and for both.
const HTTP_PROXY: [&str; 2] = ["http_proxy", "HTTP_PROXY"];
const HTTPS_PROXY: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];
const ANY_PROXY: [&str; 2] = ["all_proxy", "ALL_PROXY"];

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Whether a host is this machine, which no proxy can reach for us.
fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Checks the form of the URL of a node.
///
/// # Errors
/// [`SdkError::Url`].
pub fn check_url(url: &str) -> Result<(), SdkError> {
    Base::parse(url).map(drop)
}

/// Whether a URL that somebody else names may be another machine's: its host is no address that can
/// only be this machine's own.
pub fn names_another_machine(url: &str) -> bool {
    let Ok(Base(url)) = Base::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    // A path at an address within a private network could be a command to a device there.
    let may_have_path = !address.is_ok_and(net::is_private);
    net::names_another_host(host) && (may_have_path || url.path() == "/")
}

/// Whether a URL has a name or a password for its server.
pub fn has_login(url: &str) -> bool {
    Base::parse(url).is_ok_and(|base| base.has_login())
}

/// A text without what may be a name and a password in any URL in it.
pub fn without_logins(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let (url, next) = after.split_at(after.find(char::is_whitespace).unwrap_or(after.len()));
        shown += before;
        shown += url.rsplit_once('@').map_or(url, |(_, after)| after);
        rest = next;
    }
    shown + rest
}

/// A URL, or what was given for one, without the name and the password in it.
pub fn without_login(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = url.split_at(start);
    // Whatever a password may be: nothing before the last @ is shown.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, after)| after);
    format!("{scheme}{rest}")
}

#[cfg(test)]
mod tests {
    use super::{is_this_machine, without_login, without_logins};
    use crate::Client;

    #[test]
    fn a_password_in_a_url_is_never_shown() {
        for url in [
            "http://bob:secret@host:1/x",
            "https://bob:secret@host",
            "bob:secret@host",
            "http://bob:se/cret@sec:ret@host:1",
            "http://:secret@host",
        ] {
            assert!(!without_login(url).contains("secret"), "{url}");
            let shown = match Client::new(url) {
                Ok(client) => format!("{} {client:?}", client.url()),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("secret") && !shown.contains("cret@"), "{shown}");
        }
        assert_eq!(without_login("http://host:1"), "http://host:1");
        assert_eq!(Client::new("http://bob:secret@host:1/").unwrap().url(), "http://host:1");
    }

    #[test]
    fn a_login_in_any_url_of_a_text_is_hidden() {
        let text = "url = \"https://bob:se:cret@host/x\" and 'http://a@b' at c@d, x://y";
        let shown = "url = \"https://host/x\" and 'http://b' at c@d, x://y";
        assert_eq!(without_logins(text), shown);
    }

    #[test]
    fn this_machine_is_known_by_all_its_names() {
        for host in
            ["127.0.0.1", "127.9.9.9", "localhost", "a.localhost", "localhost.", "[::1]", "0.0.0.0"]
        {
            assert!(is_this_machine(host), "{host}");
        }
        assert!(is_this_machine("[::ffff:127.0.0.1]") && is_this_machine("[::]"));
        for host in ["128.0.0.1", "localhost.example", "notlocalhost", "[::2]"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
