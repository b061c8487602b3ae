//! Why there is no TLS connection: read from the errors of the libraries below, in words for
//! people.
//!
//! It must never take an interrupted connection for one of these: that passes by itself.

use std::error::Error;
use std::io;
use std::iter::successors;

use rustls::pki_types::UnixTime;
use rustls::{CertificateError, InvalidMessage};
use soma_codes::Code;

use crate::figures::span;

/// Names of a certificate that a message shows.
const NAMES_MAX: usize = 4;

/// What came between a client and a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The certificate is signed by nobody that is trusted.
    UnknownIssuer,
    /// The certificate is for other names.
    OtherName {
        /// Some of them.
        names: Vec<String>,
    },
    /// The certificate has expired.
    Expired {
        /// How long ago, in seconds, if that is known.
        ago_s: Option<u64>,
    },
    /// The certificate is not valid yet.
    NotYetValid {
        /// In how many seconds it is, if that is known.
        in_s: Option<u64>,
    },
    /// Something else is wrong with the certificate.
    Invalid {
        /// What.
        reason: String,
    },
    /// The URL says TLS, and the server does not speak it.
    PlainServer,
    /// The URL says plain HTTP, and the server answers in something else.
    TlsServer,
    /// Client and server do not agree.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Handshake {
    /// What an error that came before any connection says about TLS, if anything.
    pub(crate) fn in_connecting(error: &(dyn Error + 'static)) -> Option<Self> {
        causes(error).find_map(|cause| cause.downcast_ref().map(Self::of_tls))
    }

    /// Whether the answer to a request in plain HTTP was no HTTP.
    pub(crate) fn in_plain_answer(error: &(dyn Error + 'static)) -> Option<Self> {
        let is_http = |error: &hyper::Error| !error.is_parse();
        let answer = causes(error).find_map(|cause| cause.downcast_ref().map(is_http));
        answer.filter(|is_http| !is_http).map(|_| Self::TlsServer)
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => Self::of_certificate(error),
            // No message of TLS begins as an answer in HTTP does.
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::PlainServer,
            error => Self::Failed { reason: error.to_string() },
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        let between = |from: &UnixTime, to: &UnixTime| to.as_secs().checked_sub(from.as_secs());
        match error {
            // With the others, an issuer that is trusted has the same name, and another key.
            CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                Self::UnknownIssuer
            }
            CertificateError::NotValidForName => Self::OtherName { names: Vec::new() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names = presented.iter().take(NAMES_MAX).map(|name| bare(name).to_owned());
                Self::OtherName { names: names.collect() }
            }
            CertificateError::Expired => Self::Expired { ago_s: None },
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired { ago_s: between(not_after, time) }
            }
            CertificateError::NotValidYet => Self::NotYetValid { in_s: None },
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotYetValid { in_s: between(time, not_before) }
            }
            error => Self::Invalid { reason: error.to_string() },
        }
    }

    /// The code of the error.
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownIssuer => Code::CertificateUnknownIssuer,
            Self::OtherName { .. } => Code::CertificateOtherName,
            Self::Expired { .. } | Self::NotYetValid { .. } => Code::CertificateNotValidNow,
            Self::Invalid { .. } => Code::CertificateInvalid,
            Self::PlainServer | Self::TlsServer | Self::Failed { .. } => Code::TlsFailed,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::PlainServer => "if the server is to speak plain HTTP, begin its URL with http://",
            Self::TlsServer => "if the server speaks TLS, begin its URL with https://",
            _ => self.code().hint(),
        }
    }

    /// A sentence about the server at `url`.
    pub(crate) fn at(&self, url: &str) -> String {
        let time = |seconds: u64| span(seconds.saturating_mul(1_000));
        let certificate = format!("the certificate of {url}");
        match self {
            Self::UnknownIssuer => {
                format!("{certificate} is signed by nobody that this machine trusts")
            }
            Self::OtherName { names } if names.is_empty() => {
                format!("{certificate} is for another name")
            }
            Self::OtherName { names } => format!("{certificate} is for {}", names.join(", ")),
            Self::Expired { ago_s: None } => format!("{certificate} has expired"),
            Self::Expired { ago_s: Some(ago_s) } => {
                format!("{certificate} expired {} ago", time(*ago_s))
            }
            Self::NotYetValid { in_s: None } => format!("{certificate} is not valid yet"),
            Self::NotYetValid { in_s: Some(in_s) } => {
                format!("{certificate} is not valid yet, but in {}", time(*in_s))
            }
            Self::Invalid { reason } => format!("{certificate} is invalid: {reason}"),
            Self::PlainServer => format!("{url} does not speak TLS"),
            Self::TlsServer => format!("{url} does not answer in HTTP: perhaps it speaks TLS"),
            Self::Failed { reason } => format!("no TLS connection to {url}: {reason}"),
        }
    }
}

/// The name in the form of the library below, `DnsName("node.example")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
    inner.map_or(name, |(inner, _)| inner.trim_matches('"'))
}

/// What caused an error at first, in words.
pub(crate) fn first_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

/// An error and what caused it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error: &&'a (dyn Error + 'static)| {
        // The cause of an I/O error is not what it holds, but the cause of that.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::CertificateError;

    use super::{Handshake, bare};

    #[test]
    fn a_failed_handshake_is_found_behind_any_number_of_io_errors() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = io::Error::other(io::Error::other(tls));
        assert_eq!(Handshake::in_connecting(&error), Some(Handshake::UnknownIssuer));
    }

    #[test]
    fn an_interrupted_connection_is_no_failed_handshake() {
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset] {
            assert_eq!(Handshake::in_connecting(&io::Error::new(kind, "tls handshake eof")), None);
        }
    }

    #[test]
    fn names_are_shown_as_in_a_url() {
        assert_eq!(bare("DnsName(\"node.example\")"), "node.example");
        assert_eq!(bare("IpAddress(127.0.0.1)"), "127.0.0.1");
        assert_eq!(bare("node.example"), "node.example");
    }
}
