//! The demo's domains: folders of files, split into training and held-out documents.
//!
//! A held-out document must never be trained on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use soma_compete::Document;
use soma_compete::documents;
use soma_os::data;

use crate::data::Data;
use crate::error::{Error, Result};
use crate::output::Output;
use soma_codes::Code;

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

/// Three kinds of files in this repository, by extension.
const REPOSITORY: [(&str, &[&str]); 3] =
    [("rust", &["rs"]), ("markdown", &["md"]), ("data", &["lock", "json"])];

/// The domains of `folders`, or of the repository around the current folder if there are none,
/// without documents below `bytes_min`, which the network would reject.
pub(crate) fn gather(
    folders: &[PathBuf],
    bytes_min: usize,
    seed: &[u8; 32],
    output: &Output,
) -> Result<Vec<Domain>> {
    if folders.is_empty() {
        let root = repository()?;
        let files = files_of(&root)?;
        return REPOSITORY
            .iter()
            .map(|(name, extensions)| {
                let of_kind = |file: &&PathBuf| {
                    file.extension().is_some_and(|is| extensions.iter().any(|ext| is == *ext))
                };
                let files: Vec<&PathBuf> = files.iter().filter(of_kind).collect();
                domain(name, &root, &files, bytes_min, seed, output)
            })
            .collect();
    }
    folders
        .iter()
        .map(|folder| {
            let name =
                folder.canonicalize().map_err(|error| Error::file(folder, "read", &error))?;
            let name = name
                .file_name()
                .map_or("data".into(), |name| name.to_string_lossy().to_lowercase());
            let files = Data::find(std::slice::from_ref(folder), output)?.files;
            let files: Vec<&PathBuf> = files.iter().map(|file| &file.path).collect();
            domain(&name, folder, &files, bytes_min, seed, output)
        })
        .collect()
}

/// The files of the repository without what was built.
fn files_of(root: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(root).map_err(|error| Error::file(root, "read", &error))?;
    let shown = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name != "target" && !name.as_encoded_bytes().starts_with(b".")
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(shown);
    Ok(data::find(&paths).files.into_iter().map(|file| file.path).collect())
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

/// The nearest folder above the current one with this project's sources.
fn repository() -> Result<PathBuf> {
    let here =
        std::env::current_dir().map_err(|error| Error::file(Path::new("."), "read", &error))?;
    let root = here.ancestors().find(|folder| folder.join("crates/cli/src/commands/demo").is_dir());
    root.map(Path::to_owned).ok_or_else(|| {
        Error::new(
            Code::NoDemoData,
            "the current folder is not in Soma's repository, so there is no default data",
        )
        .hint("name two or more folders, one for each domain: soma demo --data DIR --data DIR")
    })
}

fn domain(
    name: &str,
    root: &Path,
    files: &[&PathBuf],
    bytes_min: usize,
    seed: &[u8; 32],
    output: &Output,
) -> Result<Domain> {
    let mut documents = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(file);
        match documents::read(file, name, DOCUMENT_BYTES_MAX) {
            Ok(pieces) => documents.extend(pieces),
            Err(error) => output.warn(documents::left_out(file, error)),
        }
    }
    documents.retain(|document: &Document| document.size_bytes() >= bytes_min);
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

    use super::{DOCUMENT_BYTES_MAX, gather};
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
    fn a_folder_with_too_little_data_is_refused() {
        let data = folder(3, 600);
        let error = gather(&[data.path().to_owned()], 256, &[1; 32], &silent()).unwrap_err();
        assert_eq!(error.code, Code::TooLittleData);
    }
}
