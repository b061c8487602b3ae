//! A model's specialization: the plain mean of its embeddings of the data it is for, rounded to
//! integers. Its direction says which targets the model is routed to, and documents are seen from
//! it.

use std::path::PathBuf;

use soma_architecture::embedding::mean;
use soma_model::{Directions, Engine, Weights, score_all};
use soma_os::data::{self, DataFile};

use crate::documents::{self, Document};
use crate::error::{CompeteError, Result};
use crate::observer::{Level, Observer};

/// The most documents that a specialization is computed from; more would hardly move the mean.
const DOCUMENTS_MAX: usize = 64;
/// The longest document that is made from a file.
const DOCUMENT_BYTES_MAX: usize = 16 << 10;

/// The specialization on what `paths` stand for. Only the sample is read.
///
/// # Errors
/// [`CompeteError::EmptyDomain`]; [`CompeteError::File`], if nothing can be read; those of
/// [`of_documents`].
pub fn of_files(
    engine: &Engine,
    weights: &Weights,
    paths: &[PathBuf],
    observer: &dyn Observer,
) -> Result<Vec<i16>> {
    let found = documents::find(paths, observer);
    let documents = read_sample(&found.files, observer)?;
    if documents.is_empty() {
        return Err(match found.into_failure() {
            Some((path, error)) => CompeteError::file(&path, "read")(error),
            None => CompeteError::EmptyDomain,
        });
    }
    let bytes = documents.iter().map(|document| document.size_bytes() as u64);
    let mut advance = observer.start("embedding", Some(bytes.sum()));
    let mut done = 0;
    of_documents(engine, weights, &documents, |bytes| {
        done += bytes as u64;
        advance(done);
    })
}

/// Pieces of files, spread evenly over all of them. One that cannot be read is left out.
///
/// # Errors
/// [`CompeteError::File`], if none can be read.
fn read_sample(files: &[DataFile], observer: &dyn Observer) -> Result<Vec<Document>> {
    let pieces_of = |file: &DataFile| file.size_bytes.div_ceil(DOCUMENT_BYTES_MAX as u64);
    let step = files.iter().map(pieces_of).sum::<u64>().div_ceil(DOCUMENTS_MAX as u64).max(1);
    let (mut documents, mut failure, mut next) = (Vec::new(), None, 0);
    for file in files {
        let pieces = pieces_of(file);
        let path = &file.path;
        while next < pieces {
            match data::read_part(path, next * DOCUMENT_BYTES_MAX as u64, DOCUMENT_BYTES_MAX) {
                // A file that was cut has fewer pieces by now.
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => {
                    let index = usize::try_from(next).unwrap_or(usize::MAX);
                    let name = documents::piece_name(path, index, pieces == 1);
                    documents.push(Document::new(name, bytes));
                }
                Err(error) => {
                    observer.notice(Level::Warning, &documents::left_out(path, &error));
                    failure.get_or_insert_with(|| CompeteError::file(path, "read")(error));
                }
            }
            next += step;
        }
        next -= pieces;
    }
    match failure {
        Some(error) if documents.is_empty() => Err(error),
        _ => Ok(documents),
    }
}

/// Documents spread evenly over all of them.
fn sample(documents: &[Document]) -> impl Iterator<Item = &Document> {
    let step = documents.len().div_ceil(DOCUMENTS_MAX).max(1);
    documents.iter().step_by(step)
}

/// The specialization on a sample spread evenly over `documents`; `done` is called with the bytes
/// of each.
///
/// # Errors
/// [`CompeteError::Model`], also if the mean is zero; those of [`Document::bytes`].
pub fn of_documents(
    engine: &Engine,
    weights: &Weights,
    documents: &[Document],
    done: impl FnMut(usize),
) -> Result<Vec<i16>> {
    // The directions only change the loss, so any seed gives the same embeddings.
    let directions = Directions::new(weights.architecture(), [0; 32]);
    let data = sample(documents).map(Document::bytes).collect::<Result<Vec<_>>>()?;
    let data: Vec<&[u8]> = data.iter().map(AsRef::as_ref).collect();
    let reports = score_all(engine, weights, &data, &directions, done)?;
    let reports = reports.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
    let embeddings = reports.iter().map(|report| &report.score.embedding[..]);
    Ok(mean(embeddings).ok_or(soma_model::Error::ZeroEmbedding)?)
}
