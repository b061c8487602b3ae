//! The demo's domains: kinds of files, split into training and held-out documents.
//!
//! A held-out document must never be trained on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use soma_codes::Code;
use soma_compete::Document;
use soma_compete::documents;

use super::embedded;
use crate::data::Data;
use crate::error::{Error, Result};
use crate::output::Output;

/// One kind of data.
#[derive(Debug)]
pub(crate) struct Domain {
    /// Its name, also the specialist's.
    pub(crate) name: String,
    /// Documents that the specialist trains on.
    pub(crate) training: Vec<Document>,
    /// Documents that the specialist never sees.
    pub(crate) held_out: Vec<Document>,
}

/// Larger files are cut into pieces, so that one file cannot be a whole domain.
const DOCUMENT_BYTES_MAX: usize = 4 * 1024;
/// Maximum number of held-out documents of a domain.
const HELD_OUT_MAX: usize = 6;
/// One in this many documents is held out, up to the maximum.
const HELD_OUT_ONE_IN: usize = 5;
/// Maximum training data of a domain; the default number of steps would not use more.
const TRAINING_BYTES_MAX: usize = 4 << 20;

/// The domains of `folders`, or of the data in this program if there are none, without documents
/// below `bytes_min`, which the network would reject.
pub(crate) fn gather(
    folders: &[PathBuf],
    bytes_min: usize,
    seed: &[u8; 32],
    output: &Output,
) -> Result<Vec<Domain>> {
    if folders.is_empty() {
        let domains = embedded::domains().into_iter();
        let split = |(name, files): (&'static str, Vec<embedded::File>)| {
            let pieces = files.iter().flat_map(|file| {
                documents::pieces(Path::new(&file.name), &file.content, DOCUMENT_BYTES_MAX)
            });
            domain(name, pieces.collect(), bytes_min, seed)
        };
        return domains.map(split).collect();
    }
    let domains = folders.iter().map(|folder| {
        let name = folder.canonicalize().map_err(|error| Error::file(folder, "read", &error))?;
        let name =
            name.file_name().map_or("data".into(), |name| name.to_string_lossy().to_lowercase());
        domain(&name, documents_in(folder, output)?, bytes_min, seed)
    });
    domains.collect()
}

/// The files of a folder, in pieces.
fn documents_in(folder: &PathBuf, output: &Output) -> Result<Vec<Document>> {
    let mut found = Vec::new();
    for file in Data::find(std::slice::from_ref(folder), output)?.files {
        let name = file.path.strip_prefix(folder).unwrap_or(&file.path);
        match documents::read(&file.path, name, DOCUMENT_BYTES_MAX) {
            Ok(pieces) => found.extend(pieces),
            Err(error) => output.warn(documents::left_out(&file.path, error)),
        }
    }
    Ok(found)
}

/// A file of random bytes, which no model can understand.
pub(crate) fn garbage(seed: &[u8; 32]) -> Document {
    let mut bytes = vec![0; DOCUMENT_BYTES_MAX];
    blake3::Hasher::new_derive_key("soma demo garbage")
        .update(seed)
        .finalize_xof()
        .fill(&mut bytes);
    Document::new("random bytes".to_owned(), bytes)
}

fn domain(
    name: &str,
    mut documents: Vec<Document>,
    bytes_min: usize,
    seed: &[u8; 32],
) -> Result<Domain> {
    documents.retain(|document| document.size_bytes() >= bytes_min);
    // An order that depends only on the seed and the paths.
    documents.sort_by_cached_key(|document| {
        *blake3::keyed_hash(seed, document.path().as_bytes()).as_bytes()
    });
    let held_out = (documents.len() / HELD_OUT_ONE_IN).clamp(2, HELD_OUT_MAX);
    if documents.len() < held_out * 2 {
        let count = documents.len();
        return Err(Error::new(
            Code::TooLittleData,
            format!(
                "domain {name} has {count} documents of {bytes_min} bytes or more, but needs 4"
            ),
        )
        .hint("put more files into the folder"));
    }
    let (mut training, mut held_out) = hold_out(documents, held_out);
    held_out.sort_by(|a, b| a.path().cmp(b.path()));
    let mut total = 0;
    training.retain(|document| {
        total += document.size_bytes();
        total <= TRAINING_BYTES_MAX
    });
    Ok(Domain { name: name.to_owned(), training, held_out })
}

/// Training and held-out documents. With enough files, no piece of a held-out file is trained on;
/// with few, pieces of one file may be on both sides.
fn hold_out(mut documents: Vec<Document>, count: usize) -> (Vec<Document>, Vec<Document>) {
    let file = |document: &Document| document.path().split('#').next().map(str::to_owned);
    let files: BTreeSet<_> = documents.iter().map(file).collect();
    if files.len() < count * HELD_OUT_ONE_IN {
        let training = documents.split_off(count);
        return (training, documents);
    }
    let mut held_out: Vec<Document> = Vec::new();
    let mut held_files = BTreeSet::new();
    for document in &documents {
        if held_out.len() < count && held_files.insert(file(document)) {
            held_out.push(document.clone());
        }
    }
    documents.retain(|document| !held_files.contains(&file(document)));
    (documents, held_out)
}

#[cfg(test)]
mod tests {
    use soma_codes::Code;

    use super::{DOCUMENT_BYTES_MAX, HELD_OUT_MAX, gather};
    use crate::output::{Color, Output};

    fn silent() -> Output {
        Output::new(false, true, true, Color::Never)
    }

    fn folder(files: usize, bytes: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in 0..files {
            let text = vec![b'a' + u8::try_from(file % 26).unwrap(); bytes];
            std::fs::write(folder.path().join(format!("{file:02}.txt")), text).unwrap();
        }
        folder
    }

    #[test]
    fn held_out_documents_are_never_trained_on_and_the_split_depends_on_the_seed_alone() {
        let data = folder(20, 600);
        let folders = [data.path().to_owned()];
        let domain = gather(&folders, 256, &[1; 32], &silent()).unwrap().remove(0);
        let same = gather(&folders, 256, &[1; 32], &silent()).unwrap().remove(0);
        let reseeded = gather(&folders, 256, &[2; 32], &silent()).unwrap().remove(0);
        let paths = |documents: &[soma_compete::Document]| {
            documents.iter().map(|document| document.path().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(domain.held_out.len(), 4);
        assert_eq!(domain.training.len(), 16);
        assert!(paths(&domain.held_out).iter().all(|path| !paths(&domain.training).contains(path)));
        assert_eq!(paths(&domain.held_out), paths(&same.held_out));
        assert_ne!(paths(&domain.held_out), paths(&reseeded.held_out));
    }

    #[test]
    fn a_large_file_is_cut_into_pieces_and_a_small_one_is_left_out() {
        let data = folder(1, DOCUMENT_BYTES_MAX * 5 + 1);
        std::fs::write(data.path().join("small.txt"), "small").unwrap();
        let domain = gather(&[data.path().to_owned()], 256, &[1; 32], &silent()).unwrap().remove(0);
        assert_eq!(domain.held_out.len() + domain.training.len(), 5);
        assert!(domain.held_out.iter().all(|document| document.path().contains('#')));
    }

    #[test]
    fn the_program_has_data_of_its_own_that_is_enough_and_the_same_everywhere() {
        let domains = gather(&[], 256, &[1; 32], &silent()).unwrap();
        let names: Vec<&str> = domains.iter().map(|domain| domain.name.as_str()).collect();
        assert_eq!(names, ["rust", "markdown", "json"]);
        let again = gather(&[], 256, &[1; 32], &silent()).unwrap();
        for (domain, again) in domains.iter().zip(&again) {
            let training = domain.training.iter();
            let bytes: usize = training.map(soma_compete::Document::size_bytes).sum();
            assert!(bytes > 150_000, "{}: {bytes}", domain.name);
            assert_eq!(domain.held_out.len(), HELD_OUT_MAX, "{}", domain.name);
            let hashes = |documents: &[soma_compete::Document]| {
                documents.iter().map(soma_compete::Document::hash).collect::<Vec<_>>()
            };
            assert_eq!(hashes(&domain.held_out), hashes(&again.held_out));
        }
    }

    #[test]
    fn a_folder_with_too_little_data_is_refused() {
        let data = folder(3, 600);
        let error = gather(&[data.path().to_owned()], 256, &[1; 32], &silent()).unwrap_err();
        assert_eq!(error.code, Code::TooLittleData);
    }
}
