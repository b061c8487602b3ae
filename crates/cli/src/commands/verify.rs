//! `soma verify FILE`: computes the score of a receipt again and says whether it is equal.
//!
//! Nothing in a receipt is believed: what it claims is compared with what is computed here.

use std::path::PathBuf;

use serde::Serialize;
use soma_codes::{Code, Exit};
use soma_compete::{Observer, hash_of};
use soma_model::{Difference, Place, Receipt, Subject};
use soma_os::data;

use crate::error::{Error, Result};
use crate::model_flags::{self, Arch, ScoringArgs};
use crate::output::Output;

/// Compute the score of a receipt again and say whether it is equal.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: soma verify owl.json --data notes.txt --model owl.safetensors\n\n\
                  A receipt comes from `soma score FILE --model W --receipt FILE`. The result is \
                  the same\non every machine, with every kernel and any number of threads. \
                  Positions are counted\nfrom 0."
)]
pub(crate) struct Verify {
    /// The receipt.
    file: PathBuf,
    /// The data that it is for.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The weights file that it is for.
    #[arg(short, long, value_name = "WEIGHTS")]
    model: PathBuf,
    #[command(flatten)]
    engine: ScoringArgs,
}

/// What came of it.
#[derive(Serialize)]
struct Verified {
    equal: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
}

impl Verify {
    pub(crate) fn run(self, output: &Output) -> Result {
        let receipt = Receipt::read(&self.file)?;
        let data =
            data::read(&self.data).map_err(|error| Error::file(&self.data, "read", &error))?;
        let claimed = &receipt.subject;
        let opened = model_flags::open(&self.model, Some(&Arch(claimed.architecture.clone())));
        let weights_hash = match &opened {
            Ok(weights) => weights.hash(),
            // Other weights are rarely a model of the same architecture.
            Err(error) if error.exit == Exit::Verification => hash_of(&self.model)?.0,
            Err(_) => return opened.map(drop),
        };
        let here = Subject::new(&claimed.architecture, weights_hash, &data, claimed.seed);
        let differences = claimed.differences(&here);
        if !differences.is_empty() {
            return Err(differ(differences, output)?);
        }
        let weights = opened.map_err(|error| {
            error.hint("the weights are those of the receipt: its architecture was changed")
        })?;
        let engine = self.engine.build(output)?;
        let mut advance = output.start("verifying", Some(data.len() as u64));
        let mut done = 0;
        let (here, _) = Receipt::compute(&engine, &weights, &data, claimed.seed, |bytes| {
            done += bytes as u64;
            advance(done);
        })?;
        drop(advance);
        let differences = receipt.differences(&here);
        if differences.is_empty() {
            return output.result("equal", &Verified { equal: true, differences });
        }
        Err(differ(differences, output)?)
    }
}

/// Prints where a receipt differs, and returns what the command ends with.
fn differ(differences: Vec<Difference>, output: &Output) -> Result<Error> {
    let mut text = String::new();
    for Difference { field, receipt, here, place } in &differences {
        let place = place.map(place_text).unwrap_or_default();
        text += &format!("{field}{place}\n  receipt  {receipt}\n  here     {here}\n");
    }
    let fields: Vec<&str> = differences.iter().map(|difference| difference.field).collect();
    let place = differences.iter().find_map(|difference| difference.place);
    let message = format!(
        "what is here differs from the receipt in {}{}",
        fields.join(", "),
        place.map(place_text).unwrap_or_default()
    );
    let error = Error::new(Code::ReceiptDiffers, message);
    let hint = hint(&fields);
    output.result(text, &Verified { equal: false, differences })?;
    Ok(match hint {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

/// What these differences say about their cause; `None` if no more than the code does.
fn hint(fields: &[&str]) -> Option<&'static str> {
    match fields {
        ["numerics"] => Some("verify it with a version of this software that computes alike"),
        [first, ..] if ["data_hash", "bytes", "weights_hash"].contains(first) => None,
        // The seed decides nothing else, and all that the loss is made from is equal.
        ["loss_q32"] => Some("the receipt's seed, loss_q32 or architecture was changed"),
        ["nll", ..] => Some(
            "try --kernel reference: if that is equal, a kernel is wrong here, else the receipt \
             was changed or computed wrongly",
        ),
        _ => Some("every position is equal: the receipt was changed after it was written"),
    }
}

/// Where a list is first different.
fn place_text(place: Place) -> String {
    let Place { chunk, position, byte } = place;
    let predicted = byte.map_or("the end".to_owned(), |byte| format!("byte {byte}"));
    format!(" (from chunk {chunk}, position {position} on, which predicts {predicted})")
}
