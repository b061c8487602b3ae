//! A bucket of a service for objects. A failure must never repeat what the service answers: it may
//! contain what was signed with a secret.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ops::Range;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::StreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, Error, MultipartUpload, ObjectStore, ObjectStoreExt as _, RetryConfig,
};
use soma_protocol::Hash;
use soma_sdk::{Trust, client};

use super::address::Kind;
use super::connector::Connector;
use super::{ColdFailure, credentials};

/// How long one request may take with its retries: a piece of a file comes at 140 KiB a second.
const LIMIT: Duration = Duration::from_mins(1);
/// The longest name that a service has for an error; what is longer is not shown.
const WORD_BYTES_MAX: usize = 64;
/// The most objects that are listed.
const OBJECTS_MAX: usize = 1 << 20;

/// A bucket.
pub(crate) struct Service {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Service {
    /// Opens it with the credentials of the environment. Nothing is sent yet.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn open(
        kind: Kind,
        bucket: &str,
        prefix: &str,
        trust: &Trust,
    ) -> Result<Self, String> {
        let connector = connector(trust)?;
        let store = match kind {
            Kind::S3 => s3(credentials::with_files(AmazonS3Builder::from_env()), bucket, connector),
            Kind::Google => {
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                builder.with_retry(retry()).with_http_connector(connector).build().map(shared)
            }
            Kind::Azure => {
                let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
                builder.with_retry(retry()).with_http_connector(connector).build().map(shared)
            }
        };
        Self::of(store, prefix)
    }

    /// A bucket of S3 that the environment knows nothing of.
    #[cfg(test)]
    pub(super) fn s3(builder: AmazonS3Builder, bucket: &str, prefix: &str) -> Result<Self, String> {
        Self::of(s3(builder, bucket, connector(&Trust::system())?), prefix)
    }

    fn of(store: object_store::Result<Arc<dyn ObjectStore>>, prefix: &str) -> Result<Self, String> {
        let prefix = Path::from_url_path(prefix).map_err(|_| "the prefix is malformed")?;
        Ok(Self { store: store.map_err(|error| unusable(&error))?, prefix })
    }

    fn name(&self, hash: &Hash) -> Path {
        self.prefix.clone().join(hash.to_string())
    }

    /// All objects that are named by a hash, and their lengths.
    pub(super) async fn list(&self) -> Result<BTreeMap<Hash, u64>, ColdFailure> {
        let mut objects = BTreeMap::new();
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let mut listed = self.store.list(prefix);
        while let Some(object) = within(listed.next()).await? {
            let object = object.map_err(|error| no_bucket(failure(&error)))?;
            let hash = object.location.filename().and_then(|name| Hash::from_str(name).ok());
            let hash = hash.filter(|hash| self.name(hash) == object.location);
            objects.extend(hash.map(|hash| (hash, object.size)));
            if objects.len() > OBJECTS_MAX {
                return Err(ColdFailure::Failed("it has too many objects".to_owned()));
            }
        }
        Ok(objects)
    }

    /// The length of an object.
    pub(super) async fn length(&self, hash: &Hash) -> Result<u64, ColdFailure> {
        let name = self.name(hash);
        Ok(asked(self.store.head(&name)).await?.size)
    }

    /// A range of an object.
    pub(super) async fn range(&self, hash: &Hash, range: Range<u64>) -> Result<Bytes, ColdFailure> {
        let name = self.name(hash);
        asked(self.store.get_range(&name, range)).await
    }

    /// Puts a small object, whole.
    pub(super) async fn put(&self, hash: &Hash, bytes: Vec<u8>) -> Result<(), ColdFailure> {
        let name = self.name(hash);
        asked(self.store.put(&name, bytes.into())).await.map(drop).map_err(no_bucket)
    }

    /// Begins to put an object in parts; it appears when all are there.
    pub(super) async fn begin(&self, hash: &Hash) -> Result<Box<dyn MultipartUpload>, ColdFailure> {
        let name = self.name(hash);
        asked(self.store.put_multipart(&name)).await.map_err(no_bucket)
    }

    /// Deletes an object, if it is there.
    pub(super) async fn delete(&self, hash: &Hash) -> Result<(), ColdFailure> {
        let name = self.name(hash);
        match asked(self.store.delete(&name)).await {
            Err(ColdFailure::Missing) => Ok(()),
            done => done,
        }
    }
}

fn connector(trust: &Trust) -> Result<Connector, String> {
    client::connector(trust).map(Connector).map_err(|error| error.to_string())
}

fn retry() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..Default::default() };
    RetryConfig { backoff, max_retries: 3, retry_timeout: LIMIT / 2 }
}

fn s3(
    builder: AmazonS3Builder,
    bucket: &str,
    connector: Connector,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    // Objects are deleted one by one, and not every service has the other request.
    let builder = builder.with_bucket_name(bucket).with_disable_bulk_delete(true);
    builder.with_retry(retry()).with_http_connector(connector).build().map(shared)
}

fn shared(store: impl ObjectStore) -> Arc<dyn ObjectStore> {
    Arc::new(store)
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, ColdFailure> {
    let slow = |_| ColdFailure::Failed("it does not answer in time".to_owned());
    tokio::time::timeout(LIMIT, work).await.map_err(slow)
}

pub(super) async fn asked<T>(
    work: impl Future<Output = object_store::Result<T>>,
) -> Result<T, ColdFailure> {
    within(work).await?.map_err(|error| failure(&error))
}

/// Why it cannot be opened: the library's sentence, without what it quotes.
fn unusable(error: &Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("Generic ").and_then(|text| text.split_once("error: "));
    let reason = text.map_or("its configuration is invalid", |(_, reason)| reason);
    let reason = reason.split([':', '"']).next().unwrap_or_default().trim();
    format!("the environment of the node does not say how to use it ({reason})")
}

fn failure(error: &Error) -> ColdFailure {
    if matches!(error, Error::NotFound { .. }) {
        return ColdFailure::Missing;
    }
    ColdFailure::Failed(reason(error))
}

/// Nothing needs to exist for this but the bucket.
fn no_bucket(failure: ColdFailure) -> ColdFailure {
    match failure {
        ColdFailure::Missing => ColdFailure::Failed("there is no such bucket".to_owned()),
        failed @ ColdFailure::Failed(_) => failed,
    }
}

/// What failed, in words of our own. Of an answer only its status and the service's name for the
/// error are shown.
fn reason(error: &Error) -> String {
    let text = error.to_string();
    if let Some(status) = text.split("status code: ").nth(1) {
        let status: String = status.chars().take_while(char::is_ascii_digit).collect();
        let code = text.split("<Code>").nth(1).and_then(|rest| rest.split("</Code>").next());
        let is_word = |text: &&str| {
            text.len() <= WORD_BYTES_MAX
                && text.chars().all(|letter| letter.is_ascii_alphanumeric())
        };
        let code = code.filter(is_word);
        let code = code.map(|code| format!(" {code}")).unwrap_or_default();
        return format!("it answers with {status}{code}");
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<HttpError>() {
            return of_connection(error).to_owned();
        }
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return error.kind().to_string();
        }
        source = cause.source();
    }
    "it cannot do what was asked".to_owned()
}

fn of_connection(error: &HttpError) -> &'static str {
    match error.kind() {
        HttpErrorKind::Connect => "it cannot be reached",
        HttpErrorKind::Timeout => "it does not answer in time",
        HttpErrorKind::Request | HttpErrorKind::Interrupted => "the connection was interrupted",
        _ => "its answer is malformed, or its endpoint has no TLS",
    }
}
