//! The answer to an epoch's storage challenge: one chunk of one encrypted file and its path in the
//! file's BLAKE3 tree. It must never read a whole file into memory: files are gigabytes long.

use soma_protocol::storage::{self, CHUNK_BYTES, Challenge};
use soma_protocol::{Action, Epoch, Hash, action};

use crate::error::NodeError;
use crate::weights::{WeightsFile, WeightsStore};

/// Reads the challenged chunk and its path: of a file on this disk all is hashed, of one in the
/// cold store a group of chunks is read. An answer that the rules would not accept is never signed.
///
/// # Errors
/// When the file is not here, damaged, or cannot be read.
pub(super) fn answer(
    files: &WeightsStore,
    epoch: Epoch,
    challenge: &Challenge,
) -> Result<Action, NodeError> {
    let hash = challenge.ciphertext_hash;
    let (chunk, path) = prove(&mut files.ciphertext(&hash)?, challenge)?;
    if !storage::verifies(challenge, &chunk, &path) {
        files.check_ciphertext(&hash)?;
        return Err(NodeError::WeightsNotHeld { hash });
    }
    Ok(Action::AnswerChallenge(action::AnswerChallenge { epoch, chunk, path }))
}

fn prove(file: &mut WeightsFile, challenge: &Challenge) -> Result<(Vec<u8>, Vec<Hash>), NodeError> {
    let start = challenge.chunk.saturating_mul(CHUNK_BYTES);
    let length = challenge.size_bytes.saturating_sub(start).min(CHUNK_BYTES);
    let mut chunk = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_at(start, &mut chunk)?;
    let subtree = |offset, length| file.subtree(offset, length);
    let path = storage::path(challenge.size_bytes, challenge.chunk, subtree)?;
    Ok((chunk, path))
}

#[cfg(test)]
mod tests {
    use super::prove;
    use soma_protocol::storage::{Challenge, verifies};
    use soma_protocol::{Hash, ModelId};

    #[test]
    fn an_answer_read_from_disk_is_accepted_by_the_rules() {
        let bytes: Vec<u8> = (0..70_000_u32).flat_map(u32::to_le_bytes).collect();
        let disk = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(disk.path(), &bytes).unwrap();
        let mut file = crate::weights::WeightsFile::open(disk.path()).unwrap();
        for chunk in [0, 1, 100, bytes.len() as u64 / 1_024] {
            let challenge = Challenge {
                model: ModelId(1),
                ciphertext_hash: Hash::of_bytes(&bytes),
                size_bytes: bytes.len() as u64,
                chunk,
            };
            let (bytes, path) = prove(&mut file, &challenge).unwrap();
            assert!(verifies(&challenge, &bytes, &path), "{chunk}");
        }
    }
}
