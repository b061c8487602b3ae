//! The certificate of the API: read from files, and again when they change. New files that cannot
//! be used change nothing but the node's troubles: it keeps what it has.
//!
//! It must never show a key.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};
use soma_codes::Coded as _;
use soma_os::clock::now_ms;
use soma_os::data::read_text;
use soma_protocol::Hash;
use soma_sdk::trust::provider;
use soma_sdk::{Client, SdkError, Trust};

use crate::error::NodeError;
use crate::settings::TlsFiles;

/// The pause between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Size limit of each file.
const FILE_BYTES_MAX: usize = 1 << 20;
/// How long before its end a certificate is a trouble: who renews it by a program does so earlier.
const SOON: Duration = Duration::from_hours(3 * 24);

/// The certificate that the API has now.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// The chain, and the key.
    files: [PathBuf; 2],
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    certified: Arc<CertifiedKey>,
    /// The hash of the files that it is from.
    used: Hash,
    /// What the last look found and could not use.
    failed: Option<Hash>,
    /// Why the files of now are not used.
    unused: Option<String>,
}

impl Certificates {
    /// Reads the files of the node in `dir`.
    ///
    /// # Errors
    /// [`NodeError::Tls`] if they cannot be used; [`NodeError::File`].
    pub(crate) fn read(files: &TlsFiles, dir: &Path) -> Result<Self, NodeError> {
        let files = [dir.join(&files.certificate), dir.join(&files.key)];
        let (texts, used) = read(&files)?;
        let certified = certified(&files, &texts)?;
        let now = Now { certified, used, failed: None, unused: None };
        Ok(Self { files, now: Mutex::new(now) })
    }

    /// How the API speaks TLS.
    pub(crate) fn server(self: &Arc<Self>) -> Arc<ServerConfig> {
        #[expect(clippy::expect_used, reason = "the library's own provider has its own versions")]
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("its own versions");
        let resolver = Arc::clone(self) as Arc<dyn ResolvesServerCert>;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// Reads the files again when they change, forever.
    pub(crate) async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let certificates = Arc::clone(&self);
            // Ends early only when the node stops.
            let _looked = tokio::task::spawn_blocking(move || certificates.look()).await;
        }
    }

    /// Takes new files if they can be used. If not, that is a trouble once two looks have found
    /// the same: two files are not replaced in one moment.
    fn look(&self) {
        let found = read(&self.files);
        let of_error = |error: &NodeError| Hash::of_bytes(error.to_string().as_bytes());
        let hash = found.as_ref().map_or_else(of_error, |(_, hash)| *hash);
        if hash == self.now.lock().used {
            let mut now = self.now.lock();
            (now.failed, now.unused) = (None, None);
            return;
        }
        let taken = found.and_then(|(texts, hash)| Ok((certified(&self.files, &texts)?, hash)));
        let mut now = self.now.lock();
        match taken {
            Ok((certified, used)) => {
                tracing::info!("the API has a new certificate");
                *now = Now { certified, used, failed: None, unused: None };
            }
            Err(error) => {
                if now.failed.replace(hash) == Some(hash) {
                    now.unused = Some(public(&error));
                }
            }
        }
    }

    /// What its operator should know about it.
    pub(crate) fn trouble(&self) -> Option<String> {
        let now = self.now.lock();
        let unused = now.unused.as_ref().map(|why| {
            format!("the new certificate of the API cannot be used, it keeps the old one: {why}")
        });
        unused.or_else(|| when_valid(&now.certified, Duration::from_millis(now_ms())))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.now.lock().certified))
    }
}

/// An error without the path, which is nobody else's business.
fn public(error: &NodeError) -> String {
    match error {
        NodeError::Tls { reason, .. } => reason.clone(),
        NodeError::File { source, .. } => source.to_string(),
        error => error.code().explanation().to_owned(),
    }
}

/// The texts of the two files.
type Texts = [String; 2];

fn read(files: &[PathBuf; 2]) -> Result<(Texts, Hash), NodeError> {
    let read = |path: &PathBuf| {
        read_text(path, FILE_BYTES_MAX).map_err(|error| match error.kind() {
            ErrorKind::FileTooLarge | ErrorKind::InvalidData => unusable(path, &error),
            _ => NodeError::io(path, error),
        })
    };
    let texts = [read(&files[0])?, read(&files[1])?];
    let hashes = texts.each_ref().map(|text| Hash::of_bytes(text.as_bytes()).0);
    Ok((texts, Hash::of_bytes(hashes.as_flattened())))
}

fn unusable(path: &Path, reason: &impl ToString) -> NodeError {
    NodeError::Tls { path: path.to_owned(), reason: reason.to_string() }
}

/// The chain and its key, if they belong together.
fn certified(files: &[PathBuf; 2], texts: &Texts) -> Result<Arc<CertifiedKey>, NodeError> {
    let [chain_file, key_file] = files;
    let [chain, key] = texts;
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unusable(chain_file, &error))?;
    let Some(own) = chain.first() else {
        return Err(unusable(chain_file, &"it holds no certificate in PEM"));
    };
    ParsedCertificate::try_from(own).map_err(|error| unusable(chain_file, &error))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| unusable(key_file, &"it holds no private key in PEM"))?;
    let key = provider().key_provider.load_private_key(key);
    let key = key.map_err(|_| unusable(key_file, &"its private key is malformed or encrypted"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(_) => Err(unusable(key_file, &"the key is not that of the certificate")),
    }
}

/// That a certificate is not valid at this time, since 1970, or not for much longer.
fn when_valid(certified: &CertifiedKey, now: Duration) -> Option<String> {
    let certificate = ParsedCertificate::try_from(certified.cert.first()?).ok()?;
    let algorithms = provider().signature_verification_algorithms.all;
    let check = |at| {
        // Times are checked first: that nobody is trusted says nothing.
        let nobody = RootCertStore::empty();
        let at = UnixTime::since_unix_epoch(at);
        match verify_server_cert_signed_by_trust_anchor(&certificate, &nobody, &[], at, algorithms)
        {
            Err(rustls::Error::InvalidCertificate(error)) => Some(error),
            _ => None,
        }
    };
    let expired = |error: &CertificateError| {
        matches!(error, CertificateError::Expired | CertificateError::ExpiredContext { .. })
    };
    match check(now)? {
        error if expired(&error) => Some("the certificate of the API has expired".to_owned()),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some("the certificate of the API is not valid yet".to_owned())
        }
        _ if expired(&check(now + SOON)?) => {
            let days = SOON.as_secs() / 86_400;
            Some(format!("the certificate of the API expires in less than {days} days"))
        }
        _ => None,
    }
}

/// A client of the API at `url`, which is that of a node of this machine: whoever answers at an
/// address of this machine's own is believed, because no certificate is for such an address.
pub(crate) fn own_api(url: &str) -> Result<Client, SdkError> {
    let anybody = Arc::new(Anybody(provider()));
    Ok(Client::trusting(url, &Trust::decided_by(anybody))?.without_retries())
}

/// Accepts every certificate.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
