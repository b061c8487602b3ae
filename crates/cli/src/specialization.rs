//! A model's specialization: the mean of its embeddings of the data it is meant for.

use std::path::PathBuf;

use soma_codes::Code;
use soma_model::{Directions, Engine, Weights, mean_embedding, score_all};

use crate::documents::{self, Document};
use crate::error::{Error, Result};
use crate::output::{Output, Unit};

/// What a specialization is computed from, at most; the mean hardly moves after this many.
const DOCUMENTS_MAX: usize = 64;
/// A document is read this far.
const DOCUMENT_BYTES_MAX: usize = 16 << 10;

/// The specialization on the files of `paths`, folders included.
pub(crate) fn of_files(
    engine: &Engine,
    weights: &Weights,
    paths: &[PathBuf],
    output: &Output,
) -> Result<Vec<i16>> {
    let mut documents = Vec::new();
    for path in paths {
        for file in documents::files_below(path)? {
            documents.extend(documents::read(&file, &file, DOCUMENT_BYTES_MAX)?);
        }
    }
    documents.retain(|document| !document.bytes.is_empty());
    if documents.is_empty() {
        let message = "there is no data to specialize in";
        return Err(Error::new(Code::EmptyData, message)
            .hint("name files of the model's domain: --domain DIR"));
    }
    let bytes: usize = spread(&documents)
        .map(|document| document.bytes.len())
        .sum();
    let bar = output.bar(bytes as u64, "embedding", Unit::Bytes);
    let embedding = of_documents(engine, weights, &documents, |bytes| bar.inc(bytes as u64));
    bar.finish_and_clear();
    embedding
}

/// Documents spread evenly over all of them.
fn spread(documents: &[Document]) -> impl Iterator<Item = &Document> {
    let step = documents.len().div_ceil(DOCUMENTS_MAX).max(1);
    documents.iter().step_by(step)
}

/// The specialization on documents spread evenly over `documents`; `done` hears of their bytes.
pub(crate) fn of_documents(
    engine: &Engine,
    weights: &Weights,
    documents: &[Document],
    done: impl FnMut(usize),
) -> Result<Vec<i16>> {
    // Directions weigh on the loss alone, so any seed gives the same embeddings.
    let directions = Directions::new(weights.architecture(), [0; 32]);
    let data: Vec<&[u8]> = spread(documents)
        .map(|document| &document.bytes[..])
        .collect();
    let reports = score_all(engine, weights, &data, &directions, done)?;
    let reports = reports
        .into_iter()
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let embeddings = reports.iter().map(|report| &report.score.embedding[..]);
    Ok(mean_embedding(embeddings)?)
}
