//! The secret that a validator's contributions to beacons follow from. It is a file of its own,
//! which outlives every key: what was committed to is revealed after the keys have changed.

use std::fs;
use std::io;
use std::path::Path;

use soma_protocol::{Epoch, Hash, SecretKey, hex};
use soma_sdk::Secret;

use crate::error::NodeError;
use crate::settings::beacon_file;

/// The secret in the folder of a node. A folder without one gets one that follows from `key`, so
/// that a network that is made from a seed has the same beacons again.
///
/// # Errors
/// When the file cannot be read or written, or is no secret.
pub(crate) fn secret(dir: &Path, key: &SecretKey) -> Result<Secret, NodeError> {
    let path = beacon_file(dir);
    let failed = |error| NodeError::io(&path, error);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let malformed =
                || io::Error::new(io::ErrorKind::InvalidData, "it must be 64 hex digits");
            let bytes = hex::decode_array(text.trim_end()).ok_or_else(malformed);
            Ok(Secret::from_bytes(bytes.map_err(failed)?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = Hash::of_parts("soma beacon secret", &[&key.to_bytes()]);
            let text = format!("{secret}\n");
            soma_os::file::write_private(&path, text.as_bytes()).map_err(failed)?;
            Ok(Secret::from_bytes(secret.0))
        }
        Err(error) => Err(failed(error)),
    }
}

/// The contribution to the beacon of an epoch: unpredictable, and the same after a restart.
pub(super) fn value(secret: &Secret, chain: &Hash, epoch: Epoch) -> Hash {
    Hash::of_parts("soma beacon value", &[secret.bytes(), &chain.0, &epoch.0.to_le_bytes()])
}

#[cfg(test)]
mod tests {
    use soma_protocol::SecretKey;

    use super::secret;

    #[test]
    fn what_a_node_has_committed_to_follows_from_no_key_that_may_change() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = [1, 2].map(|byte| SecretKey::from_bytes(&[byte; 32]));
        let made = secret(dir.path(), &first).unwrap();
        assert_eq!(secret(dir.path(), &second).unwrap().bytes(), made.bytes());
        std::fs::write(dir.path().join("beacon"), "nonsense").unwrap();
        assert!(secret(dir.path(), &first).is_err(), "it is never replaced");
    }
}
