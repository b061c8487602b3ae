//! Which servers are believed to be who they say they are: those whose certificates are signed by
//! somebody that this machine trusts, or that a file names.
//!
//! Roots are read when the first connection needs them, which with plain HTTP is never.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock, OnceLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use crate::error::SdkError;

/// The most bytes of a file of certificates: all that a system trusts have about 250 KB.
const FILE_BYTES_MAX: usize = 4 << 20;

/// Whom a client trusts. Clones share what is read.
#[derive(Clone)]
pub struct Trust(Arc<Shared>);

struct Shared {
    /// Besides those of the system.
    extra: Vec<CertificateDer<'static>>,
    config: OnceLock<ClientConfig>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("extra", &self.0.extra.len()).finish_non_exhaustive()
    }
}

static SYSTEM: LazyLock<Trust> = LazyLock::new(|| Trust::besides_the_system(Vec::new()));

/// Trusts nobody: for clients that never speak TLS.
static NOBODY: LazyLock<ClientConfig> =
    LazyLock::new(|| complete(|builder| builder.with_root_certificates(RootCertStore::empty())));

/// The cryptography of TLS.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

impl Trust {
    /// What this machine trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` may name something else.
    pub fn system() -> Self {
        SYSTEM.clone()
    }

    /// The same, and the certificates in a PEM file.
    ///
    /// # Errors
    /// [`SdkError::CaFile`] if it holds no certificate, or a malformed one; [`SdkError::Io`].
    pub fn with_file(path: &Path) -> Result<Self, SdkError> {
        let bad = |reason: String| SdkError::CaFile { path: path.to_owned(), reason };
        let text = soma_os::data::read_text(path, FILE_BYTES_MAX);
        let text = text.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => bad(error.to_string()),
            _ => SdkError::io(path)(error),
        })?;
        let found = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
        let extra = found.map_err(|error| bad(error.to_string()))?;
        if extra.is_empty() {
            return Err(bad("it holds no certificate in PEM".to_owned()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &extra {
            roots.add(certificate.clone()).map_err(|error| bad(error.to_string()))?;
        }
        Ok(Self::besides_the_system(extra))
    }

    /// Whoever `verifier` accepts.
    pub fn decided_by(verifier: Arc<dyn ServerCertVerifier>) -> Self {
        let config =
            complete(|builder| builder.dangerous().with_custom_certificate_verifier(verifier));
        Self(Arc::new(Shared { extra: Vec::new(), config: config.into() }))
    }

    fn besides_the_system(extra: Vec<CertificateDer<'static>>) -> Self {
        Self(Arc::new(Shared { extra, config: OnceLock::new() }))
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let Shared { extra, config } = &*self.0;
        let read = || match Verifier::new_with_extra_roots(extra.clone(), provider()) {
            Ok(verifier) => complete(|builder| {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }),
            // A system without certificates: whoever connects learns that no issuer is known.
            Err(_) => NOBODY.clone(),
        };
        config.get_or_init(read).clone()
    }

    pub(crate) fn nobody() -> ClientConfig {
        NOBODY.clone()
    }
}

type Unverified = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;
type Verified = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn complete(verified: impl FnOnce(Unverified) -> Verified) -> ClientConfig {
    #[expect(clippy::expect_used, reason = "the library's own provider has its own versions")]
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("its own versions");
    let mut config = verified(builder).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}
