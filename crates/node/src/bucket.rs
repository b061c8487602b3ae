//! The objects of a cold store: put, read in ranges, listed and deleted, by a service within a time
//! limit. An object's name is the hash of its bytes, so a public bucket is a mirror for everybody.
//!
//! Credentials come from the environment, and must never be shown, nor anything that a service
//! answers: it may repeat what was signed with them.

mod address;
mod connector;
mod credentials;
#[cfg(test)]
pub(crate) mod fake;
mod folder;
mod service;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;

use axum::body::Bytes;
use object_store::MultipartUpload;
use soma_os::file::AtomicFile;
use soma_protocol::Hash;
use soma_sdk::Trust;

pub(crate) use self::address::BucketAddress;
use self::folder::Folder;
use self::service::Service;
use crate::error::NodeError;

/// Why a cold store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ColdFailure {
    /// It has no such object.
    #[error("the object is missing")]
    Missing,
    /// It refuses, is slow or cannot be reached: why.
    #[error("{0}")]
    Failed(String),
}

/// The bucket, or folder, of a cold store.
pub(crate) enum Bucket {
    Service(Service),
    Folder(Folder),
}

impl Bucket {
    /// Opens the one at `url` with the credentials of the environment. Nothing is sent yet.
    ///
    /// # Errors
    /// [`NodeError::ColdStore`] if it cannot be used; a file error.
    pub(crate) fn open(url: &str, trust: &Trust) -> Result<Self, NodeError> {
        let failed = |reason| NodeError::ColdStore { reason };
        match BucketAddress::parse(url).map_err(failed)? {
            BucketAddress::Folder(path) => {
                let folder = Folder::open(&path).map_err(|error| NodeError::io(&path, error))?;
                Ok(Self::Folder(folder))
            }
            BucketAddress::Service { kind, bucket, prefix } => {
                let service = Service::open(kind, &bucket, &prefix, trust);
                Ok(Self::Service(service.map_err(failed)?))
            }
        }
    }

    /// All objects that are named by a hash, and their lengths.
    pub(crate) async fn list(&self) -> Result<BTreeMap<Hash, u64>, ColdFailure> {
        match self {
            Self::Service(service) => service.list().await,
            Self::Folder(folder) => folder.list(),
        }
    }

    /// The length of an object.
    pub(crate) async fn length(&self, hash: &Hash) -> Result<u64, ColdFailure> {
        match self {
            Self::Service(service) => service.length(hash).await,
            Self::Folder(folder) => folder.length(hash),
        }
    }

    /// A range of an object, or what of it the object has.
    pub(crate) async fn range(&self, hash: &Hash, range: Range<u64>) -> Result<Bytes, ColdFailure> {
        match self {
            Self::Service(service) => service.range(hash, range).await,
            Self::Folder(folder) => folder.range(hash, range),
        }
    }

    /// Puts a small object, whole.
    pub(crate) async fn put(&self, hash: &Hash, bytes: Vec<u8>) -> Result<(), ColdFailure> {
        match self {
            Self::Service(service) => service.put(hash, bytes).await,
            Self::Folder(folder) => folder.put(hash, &bytes),
        }
    }

    /// Begins to put an object in parts; it appears when all are there.
    pub(crate) async fn begin(&self, hash: &Hash) -> Result<Parts, ColdFailure> {
        match self {
            Self::Service(service) => service.begin(hash).await.map(Parts::Service),
            Self::Folder(folder) => folder.begin(hash).map(Parts::Folder),
        }
    }

    /// Deletes an object, if it is there.
    pub(crate) async fn delete(&self, hash: &Hash) -> Result<(), ColdFailure> {
        match self {
            Self::Service(service) => service.delete(hash).await,
            Self::Folder(folder) => folder.delete(hash),
        }
    }
}

/// An object that is put in parts. What is dropped is not put.
pub(crate) enum Parts {
    Service(Box<dyn MultipartUpload>),
    Folder(AtomicFile),
}

impl Parts {
    pub(crate) async fn put(mut self, part: Vec<u8>) -> Result<Self, ColdFailure> {
        let put = match &mut self {
            Self::Service(upload) => service::asked(upload.put_part(part.into())).await,
            Self::Folder(file) => file.write_all(&part).map_err(folder::failure),
        };
        match put {
            Ok(()) => Ok(self),
            Err(failure) => {
                self.abort().await;
                Err(failure)
            }
        }
    }

    pub(crate) async fn complete(self) -> Result<(), ColdFailure> {
        match self {
            Self::Folder(file) => file.commit().map_err(folder::failure),
            Self::Service(mut upload) => match service::asked(upload.complete()).await {
                Ok(_) => Ok(()),
                Err(failure) => {
                    Self::Service(upload).abort().await;
                    Err(failure)
                }
            },
        }
    }

    /// Frees the parts. A service that fails keeps them, until a rule of the bucket removes them.
    pub(crate) async fn abort(self) {
        if let Self::Service(mut upload) = self {
            let _freed = service::asked(upload.abort()).await;
        }
    }
}

/// Writes an object that is named by the hash of `bytes`, reads it, whole and in a range, and
/// deletes it.
///
/// # Errors
/// [`NodeError::ColdStore`] with what does not work.
pub(crate) async fn probe(url: &str, trust: &Trust, bytes: &[u8]) -> Result<(), NodeError> {
    let failed = |reason| NodeError::ColdStore { reason };
    let bucket = Bucket::open(url, trust)?;
    let (hash, length) = (Hash::of_bytes(bytes), bytes.len() as u64);
    let step =
        |what: &'static str| move |failure: ColdFailure| failed(format!("{what}: {failure}"));
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
        Self::ColdStore { reason: failure.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use soma_protocol::Hash;
    use soma_sdk::Trust;

    use super::fake::{FakeS3, Fault, SECRET};
    use super::{Bucket, ColdFailure, probe};

    /// Puts, reads, lists and deletes an object.
    async fn use_all_of(bucket: &Bucket) {
        let bytes = b"some bytes of a file".to_vec();
        let hash = Hash::of_bytes(&bytes);
        assert_eq!(bucket.length(&hash).await, Err(ColdFailure::Missing));
        assert_eq!(bucket.range(&hash, 0..4).await, Err(ColdFailure::Missing));
        bucket.put(&hash, bytes.clone()).await.unwrap();
        assert_eq!(bucket.length(&hash).await, Ok(20));
        assert_eq!(bucket.range(&hash, 5..10).await.unwrap(), &bytes[5..10]);
        bucket.delete(&hash).await.unwrap();
        bucket.delete(&hash).await.unwrap();
        let mut parts = bucket.begin(&hash).await.unwrap();
        for part in bytes.chunks(8) {
            parts = parts.put(part.to_vec()).await.unwrap();
        }
        assert!(bucket.list().await.unwrap().is_empty(), "it is not complete");
        parts.complete().await.unwrap();
        assert_eq!(bucket.list().await.unwrap().into_iter().collect::<Vec<_>>(), [(hash, 20)]);
        assert_eq!(bucket.range(&hash, 0..20).await.unwrap(), bytes);
    }

    #[tokio::test]
    async fn objects_are_put_read_in_ranges_listed_and_deleted_in_buckets_and_folders_alike() {
        let (fake, bucket) = FakeS3::start().await;
        use_all_of(&bucket).await;
        assert!(fake.names().iter().all(|name| name.starts_with("a/b/")), "{:?}", fake.names());
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().join("new").display());
        use_all_of(&Bucket::open(&url, &Trust::system()).unwrap()).await;
        probe(&url, &Trust::system(), b"a probe").await.unwrap();
        assert_eq!(Bucket::open(&url, &Trust::system()).unwrap().list().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_failure_says_what_is_wrong_and_repeats_nothing_that_the_service_answers() {
        let (fake, bucket) = FakeS3::start().await;
        let hash = Hash::of_bytes(b"bytes");
        bucket.put(&hash, b"bytes".to_vec()).await.unwrap();
        let mut shown = String::new();
        for (fault, words) in [
            (Fault::Unavailable, "it answers with 503"),
            (Fault::Refuses, "it answers with 403 AccessDenied"),
            (Fault::Cuts, "the connection was interrupted"),
        ] {
            fake.fail(fault);
            let failure = bucket.range(&hash, 0..5).await.unwrap_err();
            assert_eq!(failure, ColdFailure::Failed(words.to_owned()));
            shown += &format!("{failure:?}");
        }
        assert!(!shown.contains(SECRET), "{shown}");
    }
}
