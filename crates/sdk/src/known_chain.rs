//! The chain that the keys of a folder sign for, remembered from the first use on. A node says of
//! which chain it is, and must never talk a client into signing for another one than before.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use soma_protocol::Hash;

use crate::error::SdkError;

/// Size limit of the file.
const CHAIN_BYTES_MAX: usize = 1 << 10;

/// The file that remembers a chain.
#[derive(Clone, Debug)]
pub struct KnownChain {
    path: PathBuf,
}

impl KnownChain {
    /// The chain that is remembered in a folder, in the file `chain`.
    pub fn of(folder: &Path) -> Self {
        Self { path: folder.join("chain") }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The chain, if one is remembered.
    ///
    /// # Errors
    /// [`SdkError::Io`] if the file cannot be read or holds something else.
    pub fn read(&self) -> Result<Option<Hash>, SdkError> {
        // A person may have written it.
        match soma_os::data::read_text(&self.path, CHAIN_BYTES_MAX) {
            Ok(text) => {
                let chain = text.trim().parse();
                let malformed = |_| std::io::Error::new(ErrorKind::InvalidData, "no chain's id");
                chain.map(Some).map_err(malformed).map_err(SdkError::io(&self.path))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SdkError::io(&self.path)(error)),
        }
    }

    /// Remembers a chain.
    ///
    /// # Errors
    /// [`SdkError::Io`].
    pub fn remember(&self, chain: &Hash) -> Result<(), SdkError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(SdkError::io(folder))?;
        let text = format!("{chain}\n");
        soma_os::file::write_private(&self.path, text.as_bytes()).map_err(SdkError::io(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use soma_protocol::Hash;

    use super::KnownChain;

    #[test]
    fn a_chain_is_remembered_and_a_damaged_file_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownChain::of(&folder.path().join("home"));
        assert_eq!(known.read().unwrap(), None);
        known.remember(&Hash([7; 32])).unwrap();
        assert_eq!(known.read().unwrap(), Some(Hash([7; 32])));
        std::fs::write(known.path(), format!("\u{feff}{}\r\n", Hash([8; 32]))).unwrap();
        assert_eq!(known.read().unwrap(), Some(Hash([8; 32])));
        std::fs::write(known.path(), "7").unwrap();
        assert!(known.read().is_err());
    }
}
