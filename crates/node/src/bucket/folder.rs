//! A folder as a cold store: on a disk that is large and slow, or one that other machines share.
//! Files appear in it when they are complete.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use soma_os::file::AtomicFile;
use soma_protocol::Hash;

use super::ColdFailure;

/// The folder.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Opens or creates the folder.
    ///
    /// # Errors
    /// A file error.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self(path.to_path_buf()))
    }

    fn path(&self, hash: &Hash) -> PathBuf {
        self.0.join(hash.to_string())
    }

    pub(super) fn list(&self) -> Result<BTreeMap<Hash, u64>, ColdFailure> {
        let mut objects = BTreeMap::new();
        for entry in fs::read_dir(&self.0).map_err(failure)? {
            let entry = entry.map_err(failure)?;
            let hash = entry.file_name().to_str().and_then(|name| name.parse::<Hash>().ok());
            if let Some(hash) = hash {
                objects.insert(hash, entry.metadata().map_err(failure)?.len());
            }
        }
        Ok(objects)
    }

    pub(super) fn length(&self, hash: &Hash) -> Result<u64, ColdFailure> {
        Ok(fs::metadata(self.path(hash)).map_err(missing)?.len())
    }

    /// The range, or what of it the file has.
    pub(super) fn range(&self, hash: &Hash, range: Range<u64>) -> Result<Bytes, ColdFailure> {
        let mut file = File::open(self.path(hash)).map_err(missing)?;
        file.seek(SeekFrom::Start(range.start)).map_err(failure)?;
        let mut bytes = Vec::new();
        file.take(range.end - range.start).read_to_end(&mut bytes).map_err(failure)?;
        Ok(bytes.into())
    }

    pub(super) fn put(&self, hash: &Hash, bytes: &[u8]) -> Result<(), ColdFailure> {
        soma_os::file::write(&self.path(hash), bytes).map_err(failure)
    }

    pub(super) fn begin(&self, hash: &Hash) -> Result<AtomicFile, ColdFailure> {
        AtomicFile::create(&self.path(hash)).map_err(failure)
    }

    pub(super) fn delete(&self, hash: &Hash) -> Result<(), ColdFailure> {
        soma_os::file::remove(&self.path(hash)).map_err(failure)
    }
}

/// The failure of what needs the file to exist.
fn missing(error: io::Error) -> ColdFailure {
    match error.kind() {
        io::ErrorKind::NotFound => ColdFailure::Missing,
        _ => failure(error),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
pub(super) fn failure(error: io::Error) -> ColdFailure {
    // Without the path.
    ColdFailure::Failed(error.kind().to_string())
}
