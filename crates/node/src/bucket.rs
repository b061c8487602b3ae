//! The objects of a cold store: put, read in ranges, listed and deleted, each within a time limit.
//! An object's name is the hash of its bytes, so a public bucket is a mirror for everybody.
//!
//! A failure must never repeat what a service answers: it may contain what was signed with a
//! secret.

mod address;
mod connector;
mod credentials;

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
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, Error, MultipartUpload, ObjectStore, ObjectStoreExt as _, RetryConfig,
};
use soma_protocol::Hash;
use soma_sdk::{Trust, client};

pub(crate) use self::address::BucketAddress;
use self::connector::Connector;
use crate::error::NodeError;

/// How long one request may take with its retries: a piece of a file comes at 140 KiB a second.
const LIMIT: Duration = Duration::from_secs(60);
/// The most objects that are listed.
const OBJECTS_MAX: usize = 1 << 20;

/// Why a cold store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ColdFailure {
    /// It has no such object.
    Missing,
    /// It refuses, is slow or cannot be reached: why.
    Failed(String),
}

/// The bucket, or folder, of a cold store.
#[derive(Debug)]
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Bucket {
    /// Opens the one at `url` with the credentials of the environment. Nothing is sent yet.
    ///
    /// # Errors
    /// [`NodeError::ColdStore`] if it cannot be used.
    pub(crate) fn open(url: &str, trust: &Trust) -> Result<Self, NodeError> {
        let failed = |reason| NodeError::ColdStore { reason };
        let address = BucketAddress::parse(url).map_err(failed)?;
        Self::at(&address, trust).map_err(failed)
    }

    fn at(address: &BucketAddress, trust: &Trust) -> Result<Self, String> {
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(2), ..Default::default() },
            max_retries: 3,
            retry_timeout: LIMIT / 2,
        };
        let http = client::connector(trust).map_err(|error| error.to_string())?;
        let connector = Connector(http);
        let (store, prefix) = match address {
            BucketAddress::S3 { bucket, prefix } => {
                let builder = credentials::with_files(AmazonS3Builder::from_env());
                let builder = builder.with_bucket_name(bucket).with_retry(retry);
                (builder.with_http_connector(connector).build().map(shared), prefix.as_str())
            }
            BucketAddress::Google { bucket, prefix } => {
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                let builder = builder.with_retry(retry).with_http_connector(connector);
                (builder.build().map(shared), prefix.as_str())
            }
            BucketAddress::Azure { bucket, prefix } => {
                let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
                let builder = builder.with_retry(retry).with_http_connector(connector);
                (builder.build().map(shared), prefix.as_str())
            }
            BucketAddress::Folder(path) => {
                let made = std::fs::create_dir_all(path);
                made.map_err(|error| format!("{}: {error}", path.display()))?;
                let folder = LocalFileSystem::new_with_prefix(path);
                (folder.map(|folder| shared(folder.with_fsync(true))), "")
            }
        };
        let prefix = Path::from_url_path(prefix).map_err(|_| "the prefix is malformed")?;
        Ok(Self { store: store.map_err(|error| unusable(&error))?, prefix })
    }

    fn name(&self, hash: &Hash) -> Path {
        self.prefix.clone().join(hash.to_string())
    }

    /// All objects that are named by a hash, and their lengths.
    pub(crate) async fn list(&self) -> Result<BTreeMap<Hash, u64>, ColdFailure> {
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
    pub(crate) async fn length(&self, hash: &Hash) -> Result<u64, ColdFailure> {
        let name = self.name(hash);
        Ok(asked(self.store.head(&name)).await?.size)
    }

    /// A range of an object.
    pub(crate) async fn range(
        &self,
        hash: &Hash,
        range: Range<u64>,
    ) -> Result<Bytes, ColdFailure> {
        let name = self.name(hash);
        asked(self.store.get_range(&name, range)).await
    }

    /// Puts a small object, whole.
    pub(crate) async fn put(&self, hash: &Hash, bytes: Vec<u8>) -> Result<(), ColdFailure> {
        let name = self.name(hash);
        asked(self.store.put(&name, bytes.into())).await.map(drop).map_err(no_bucket)
    }

    /// Begins to put an object in parts; it appears when all are there.
    pub(crate) async fn begin(&self, hash: &Hash) -> Result<Parts, ColdFailure> {
        let name = self.name(hash);
        asked(self.store.put_multipart(&name)).await.map(Parts).map_err(no_bucket)
    }

    /// Deletes an object, if it is there.
    pub(crate) async fn delete(&self, hash: &Hash) -> Result<(), ColdFailure> {
        let name = self.name(hash);
        match asked(self.store.delete(&name)).await {
            Err(ColdFailure::Missing) => Ok(()),
            done => done,
        }
    }
}

fn shared(store: impl ObjectStore) -> Arc<dyn ObjectStore> {
    Arc::new(store)
}

/// An object that is put in parts.
pub(crate) struct Parts(Box<dyn MultipartUpload>);

impl Parts {
    pub(crate) async fn put(mut self, part: Vec<u8>) -> Result<Self, ColdFailure> {
        match asked(self.0.put_part(part.into())).await {
            Ok(()) => Ok(self),
            Err(failure) => {
                self.abort().await;
                Err(failure)
            }
        }
    }

    pub(crate) async fn complete(mut self) -> Result<(), ColdFailure> {
        let completed = asked(self.0.complete()).await;
        if completed.is_err() {
            self.abort().await;
        }
        completed.map(drop)
    }

    /// Frees the parts. A service that fails keeps them, until a rule of the bucket removes them.
    pub(crate) async fn abort(mut self) {
        let _freed = asked(self.0.abort()).await;
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, ColdFailure> {
    let slow = |_| ColdFailure::Failed("it does not answer in time".to_owned());
    tokio::time::timeout(LIMIT, work).await.map_err(slow)
}

async fn asked<T>(
    work: impl Future<Output = object_store::Result<T>>,
) -> Result<T, ColdFailure> {
    within(work).await?.map_err(|error| failure(&error))
}

/// Writes an object that is named by the hash of `bytes`, reads it, whole and in a range, and deletes
/// it.
///
/// # Errors
/// [`NodeError::ColdStore`] with what does not work.
pub(crate) async fn probe(url: &str, trust: &Trust, bytes: &[u8]) -> Result<(), NodeError> {
    let failed = |reason| NodeError::ColdStore { reason };
    let bucket = Bucket::open(url, trust)?;
    let (hash, length) = (Hash::of_bytes(bytes), bytes.len() as u64);
    let step = |what: &'static str| {
        move |failure| match failure {
            ColdFailure::Missing => failed(format!("{what}: the object is missing")),
            ColdFailure::Failed(reason) => failed(format!("{what}: {reason}")),
        }
    };
    bucket.put(&hash, bytes.to_vec()).await.map_err(step("writing"))?;
    let read = async {
        let whole = bucket.range(&hash, 0..length).await.map_err(step("reading"))?;
        let part = bucket.range(&hash, 1..length / 2).await.map_err(step("reading a range"))?;
        let listed = bucket.list().await.map_err(step("listing"))?;
        let part_expected = bytes.get(1..bytes.len() / 2).unwrap_or_default();
        match (whole == *bytes, part == *part_expected, listed.get(&hash) == Some(&length)) {
            (true, true, true) => Ok(()),
            (false, ..) => Err(failed("it returns other bytes than were written".to_owned())),
            (_, false, _) => Err(failed("it returns another range than was asked for".to_owned())),
            (.., false) => Err(failed("it does not list what was written".to_owned())),
        }
    };
    let read = read.await;
    let deleted = bucket.delete(&hash).await.map_err(step("deleting"));
    read.and(deleted)
}

impl From<ColdFailure> for NodeError {
    fn from(failure: ColdFailure) -> Self {
        let reason = match failure {
            ColdFailure::Missing => "the object is missing".to_owned(),
            ColdFailure::Failed(reason) => reason,
        };
        Self::ColdStore { reason }
    }
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
        let code = code.filter(|code| code.chars().all(|letter| letter.is_ascii_alphanumeric()));
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
