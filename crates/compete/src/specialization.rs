//! A model's specialization: the plain mean of its embeddings of the data it is for, rounded to
//! integers. Its direction says which targets the model is routed to, and documents are seen from
//! it.

use std::path::PathBuf;

use soma_architecture::embedding::mean;
use soma_model::{Directions, Engine, Weights, score_all};

use crate::documents::{self, Document};
use crate::error::{CompeteError, Result};
use crate::observer::Observer;

/// The most documents that a specialization is computed from; more would hardly move the mean.
const DOCUMENTS_MAX: usize = 64;
/// The longest document that is made from a file.
const DOCUMENT_BYTES_MAX: usize = 16 << 10;

/// The specialization on the files of `paths`, including those below folders.
///
/// # Errors
/// [`CompeteError::EmptyDomain`]; those of [`of_documents`] and [`documents::read_all`].
pub fn of_files(
    engine: &Engine,
    weights: &Weights,
    paths: &[PathBuf],
    observer: &dyn Observer,
) -> Result<Vec<i16>> {
    let mut documents = documents::read_all(paths, DOCUMENT_BYTES_MAX)?;
    documents.retain(|document| document.size_bytes() > 0);
    if documents.is_empty() {
        return Err(CompeteError::EmptyDomain);
    }
    let bytes = sample(&documents).map(|document| document.size_bytes() as u64);
    let mut advance = observer.start("embedding", Some(bytes.sum()));
    let mut done = 0;
    of_documents(engine, weights, &documents, |bytes| {
        done += bytes as u64;
        advance(done);
    })
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
