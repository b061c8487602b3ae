//! The receipt of a score: what the score is of and all that it came to, so that anyone can compute
//! it again and see where another machine came to something else. (The receipts of transactions are
//! those of `soma-protocol`.)
//!
//! It proves nothing by itself and must never be believed: it is compared with a score that is
//! computed here.

use std::path::Path;

use serde::{Deserialize, Serialize};
use soma_architecture::{Architecture, Configuration, NUMERICS_VERSION};

use crate::error::{Error, ReceiptFault};
use crate::kernels::Engine;
use crate::layers::sigreg::Directions;
use crate::score::{Report, score_with_nll};
use crate::weights::Weights;

/// What the JSON of a receipt begins with; a change of its fields changes the number.
const SCHEMA: &str = "receipt/1";
/// The longest data that a receipt is for: it has eight digits for each byte.
const DATA_BYTES_MAX: usize = 16 << 20;
/// Size limit of a receipt, line breaks and all.
const RECEIPT_BYTES_MAX: usize = 10 * DATA_BYTES_MAX + (64 << 10);
/// Characters of a foreign text that a message repeats.
const SHOWN_CHARACTERS: usize = 40;

/// What a score is of: together, these determine every bit of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Version of the arithmetic.
    pub numerics: u32,
    /// BLAKE3 of the weights file.
    pub weights_hash: [u8; 32],
    /// What the weights are a model of.
    pub architecture: Architecture,
    /// BLAKE3 of the data.
    pub data_hash: [u8; 32],
    /// Number of bytes of the data.
    pub bytes: usize,
    /// Seed of the regularizer's directions, which decides nothing but the loss.
    pub seed: [u8; 32],
}

/// A score and what it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What was scored.
    pub subject: Subject,
    /// The loss in units of 2^-32 nat.
    pub loss_q32: i64,
    /// BLAKE3 of the embedding.
    pub embedding_hash: [u8; 32],
    /// BLAKE3 over `nll` and the embedding.
    pub trace: [u8; 32],
    /// The bits of the nll of every predicted position, in order.
    nll: Vec<u32>,
}

/// A field in which two receipts differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The field.
    pub field: &'static str,
    /// Its value in the receipt.
    pub receipt: String,
    /// Its value here.
    pub here: String,
    /// Where it is first different, if it is a list.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A predicted position. Everything is counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The chunk.
    pub chunk: usize,
    /// The position in its chunk.
    pub position: usize,
    /// Offset of the byte that is predicted there; `None` for the end of the data.
    pub byte: Option<usize>,
}

impl Subject {
    /// What a score of this data is of that is computed here.
    pub fn new(
        architecture: &Architecture,
        weights_hash: [u8; 32],
        data: &[u8],
        seed: [u8; 32],
    ) -> Self {
        Self {
            numerics: NUMERICS_VERSION,
            weights_hash,
            architecture: architecture.clone(),
            data_hash: blake3::hash(data).into(),
            bytes: data.len(),
            seed,
        }
    }

    /// The fields in which the subject of a receipt differs from one here.
    pub fn differences(&self, here: &Self) -> Vec<Difference> {
        let fields = |subject: &Self| {
            [
                ("numerics", subject.numerics.to_string()),
                ("data_hash", hex::encode(subject.data_hash)),
                ("bytes", subject.bytes.to_string()),
                ("weights_hash", hex::encode(subject.weights_hash)),
                ("architecture", subject.architecture.to_json()),
                ("seed", hex::encode(subject.seed)),
            ]
        };
        unequal(fields(self), fields(here)).collect()
    }
}

impl Receipt {
    /// Scores data with a model and keeps what a receipt has; `done` is called with the number of
    /// bytes of every chunk.
    ///
    /// # Errors
    /// [`Error::LongData`]; same as [`score`](crate::score()).
    pub fn compute(
        engine: &Engine,
        weights: &Weights,
        data: &[u8],
        seed: [u8; 32],
        done: impl FnMut(usize),
    ) -> Result<(Self, Report), Error> {
        if data.len() > DATA_BYTES_MAX {
            return Err(Error::LongData { bytes: data.len(), bytes_max: DATA_BYTES_MAX });
        }
        let directions = Directions::new(weights.architecture(), seed);
        let (report, nll) = score_with_nll(engine, weights, data, &directions, done)?;
        let receipt = Self {
            subject: Subject::new(weights.architecture(), weights.hash(), data, seed),
            loss_q32: report.score.loss_q32,
            embedding_hash: report.score.embedding_hash(),
            trace: report.score.trace,
            nll: nll.into_iter().map(f32::to_bits).collect(),
        };
        Ok((receipt, report))
    }

    /// The fields in which a receipt differs from one that was computed here, those that others
    /// follow from first.
    pub fn differences(&self, here: &Self) -> Vec<Difference> {
        let fields = |receipt: &Self| {
            [
                ("loss_q32", receipt.loss_q32.to_string()),
                ("embedding_hash", hex::encode(receipt.embedding_hash)),
                ("trace", hex::encode(receipt.trace)),
            ]
        };
        let mut differences = self.subject.differences(&here.subject);
        differences.extend(self.first_other_nll(here));
        differences.extend(unequal(fields(self), fields(here)));
        differences
    }

    fn first_other_nll(&self, here: &Self) -> Option<Difference> {
        let mut pairs = self.nll.iter().zip(&here.nll);
        let index = pairs.position(|(receipt, here)| receipt != here)?;
        let value = |receipt: &Self| format!("{:?}", f32::from_bits(receipt.nll[index]));
        let (receipt, here) = (value(self), value(here));
        let positions = self.subject.architecture.positions as usize;
        // A full chunk predicts all but its first byte, and the last one, if it is short, its end.
        let (chunk, position) = (index / (positions - 1), index % (positions - 1));
        let byte = chunk * positions + position + 1;
        let byte = (byte < self.subject.bytes).then_some(byte);
        let place = Some(Place { chunk, position, byte });
        Some(Difference { field: "nll", receipt, here, place })
    }

    /// Reads a receipt from a file.
    ///
    /// # Errors
    /// [`Error::Receipt`] says what is wrong with it; [`Error::Io`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = soma_os::data::read_text(path, RECEIPT_BYTES_MAX);
        let fault = |fault| Error::Receipt { path: path.to_owned(), fault };
        match text {
            Ok(text) => Self::from_json(&text).map_err(fault),
            // What is too long, or no text at all, is something else.
            Err(source)
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::FileTooLarge | std::io::ErrorKind::InvalidData
                ) =>
            {
                Err(fault(ReceiptFault::Bytes { source }))
            }
            Err(source) => Err(Error::Io { path: path.to_owned(), source }),
        }
    }

    /// Reads the JSON of a receipt.
    fn from_json(text: &str) -> Result<Self, ReceiptFault> {
        let json = |source: serde_json::Error| {
            if source.is_eof() { ReceiptFault::CutOff } else { ReceiptFault::Json { source } }
        };
        let value: serde_json::Value = serde_json::from_str(text).map_err(json)?;
        let schema = value.get("schema").and_then(|schema| schema.as_str());
        match schema {
            Some(SCHEMA) => {}
            Some(schema) if schema.starts_with("receipt/") => {
                return Err(ReceiptFault::Schema { schema: shown(schema), known: SCHEMA });
            }
            _ => return Err(ReceiptFault::NoReceipt),
        }
        serde_json::from_value::<Form>(value).map_err(json)?.receipt()
    }

    /// Its JSON, on one line: `nll` is a list of chunks, each a text of eight digits for every
    /// predicted position, the float32 in little-endian order.
    pub fn to_json(&self) -> String {
        let Self { subject, loss_q32, embedding_hash, trace, nll } = self;
        let mut rest = nll.as_slice();
        let chunks = predicted(subject.bytes, subject.architecture.positions as usize);
        let nll = chunks.map(|count| {
            let (chunk, after) = rest.split_at(count.min(rest.len()));
            rest = after;
            hex::encode(chunk.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<_>>())
        });
        let form = Form {
            schema: SCHEMA.to_owned(),
            numerics: subject.numerics,
            weights_hash: hex::encode(subject.weights_hash),
            architecture: Configuration::from(&subject.architecture),
            data_hash: hex::encode(subject.data_hash),
            bytes: subject.bytes,
            seed: hex::encode(subject.seed),
            loss_q32: loss_q32.to_string(),
            embedding_hash: hex::encode(embedding_hash),
            trace: hex::encode(trace),
            nll: nll.collect(),
        };
        let mut text = serde_json::json!(form).to_string();
        text.push('\n');
        text
    }
}

/// A receipt in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    schema: String,
    numerics: u32,
    weights_hash: String,
    architecture: Configuration,
    data_hash: String,
    bytes: usize,
    seed: String,
    loss_q32: String,
    embedding_hash: String,
    trace: String,
    nll: Vec<String>,
}

impl Form {
    fn receipt(self) -> Result<Receipt, ReceiptFault> {
        let architecture = self.architecture.architecture()?;
        let field = |field| ReceiptFault::Field { field };
        if !(1..=DATA_BYTES_MAX).contains(&self.bytes) {
            return Err(field("bytes"));
        }
        let chunks = predicted(self.bytes, architecture.positions as usize);
        let counts: Vec<usize> = chunks.collect();
        if counts.len() != self.nll.len() {
            return Err(field("nll"));
        }
        let mut nll = Vec::new();
        for (text, count) in self.nll.iter().zip(counts) {
            let bytes = unhex(text).filter(|bytes| bytes.len() == count * 4);
            let bytes = bytes.ok_or(field("nll"))?;
            nll.extend(bytes.as_chunks::<4>().0.iter().copied().map(u32::from_le_bytes));
        }
        let hash = |name, text: &str| {
            unhex(text).and_then(|bytes| bytes.try_into().ok()).ok_or(field(name))
        };
        let loss_q32: i64 = self.loss_q32.parse().map_err(|_| field("loss_q32"))?;
        // One number has one text.
        if loss_q32.to_string() != self.loss_q32 {
            return Err(field("loss_q32"));
        }
        Ok(Receipt {
            subject: Subject {
                numerics: self.numerics,
                weights_hash: hash("weights_hash", &self.weights_hash)?,
                architecture,
                data_hash: hash("data_hash", &self.data_hash)?,
                bytes: self.bytes,
                seed: hash("seed", &self.seed)?,
            },
            loss_q32,
            embedding_hash: hash("embedding_hash", &self.embedding_hash)?,
            trace: hash("trace", &self.trace)?,
            nll,
        })
    }
}

/// Predicted positions of each chunk of data of this length.
fn predicted(bytes: usize, positions: usize) -> impl Iterator<Item = usize> {
    let (full, short) = (bytes / positions, bytes % positions);
    std::iter::repeat_n(positions - 1, full).chain((short > 0).then_some(short))
}

fn unequal<const N: usize>(
    receipt: [(&'static str, String); N],
    here: [(&'static str, String); N],
) -> impl Iterator<Item = Difference> {
    let pairs = receipt.into_iter().zip(here).filter(|(receipt, here)| receipt != here);
    pairs.map(|((field, receipt), (_, here))| Difference { field, receipt, here, place: None })
}

/// The bytes of lowercase hex: one value has one text, so that no changed digit goes unnoticed.
fn unhex(text: &str) -> Option<Vec<u8>> {
    hex::decode(text).ok().filter(|bytes| hex::encode(bytes) == text)
}

/// The beginning of a foreign text.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS).collect()
}

#[cfg(test)]
mod tests;
