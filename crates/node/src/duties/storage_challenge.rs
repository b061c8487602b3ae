//! The answer to an epoch's storage challenge: one chunk of one encrypted file and its path in the
//! file's BLAKE3 tree. It must never read a whole file into memory: files are gigabytes long.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use blake3::hazmat::HasherExt as _;
use soma_protocol::storage::{self, CHUNK_BYTES, Challenge};
use soma_protocol::{Action, Epoch, action};

use crate::error::NodeError;
use crate::weights::WeightsStore;

/// Reads the challenged chunk, and hashes the rest of the file for its path.
///
/// # Errors
/// When the file is not here or cannot be read.
pub(super) fn answer(
    files: &WeightsStore,
    epoch: Epoch,
    challenge: &Challenge,
) -> Result<Action, NodeError> {
    let mut weights = files.ciphertext(&challenge.ciphertext_hash)?;
    let proof = prove(&mut weights.file, challenge);
    let (chunk, path) = proof.map_err(|error| NodeError::io(&weights.path, error))?;
    Ok(Action::AnswerChallenge(action::AnswerChallenge { epoch, chunk, path }))
}

fn prove(
    file: &mut File,
    challenge: &Challenge,
) -> io::Result<(Vec<u8>, Vec<soma_protocol::Hash>)> {
    let start = challenge.chunk * CHUNK_BYTES;
    file.seek(SeekFrom::Start(start))?;
    let mut chunk = Vec::new();
    file.by_ref().take(CHUNK_BYTES).read_to_end(&mut chunk)?;
    let subtree = |offset, len| {
        file.seek(SeekFrom::Start(offset))?;
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(offset);
        hasher.update_reader(file.by_ref().take(len))?;
        Ok::<_, io::Error>(hasher.finalize_non_root())
    };
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
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
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
