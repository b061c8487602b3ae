//! `soma explain CODE`: what an error code means and what to do.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::explanations;
use crate::output::Output;

/// Explain an error code.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma explain stake_too_low\n\nWithout a code, lists all of them.")]
pub(crate) struct Explain {
    /// The word in `error[code]`.
    code: Option<String>,
}

#[derive(Serialize)]
struct Explanation {
    code: String,
    help: String,
}

impl Explain {
    pub(crate) fn run(self, output: &Output) -> Result {
        let all = explanations::all();
        let Some(code) = self.code else {
            let width = all.iter().map(|(code, _)| code.len()).max().unwrap_or(0);
            let lines = all
                .iter()
                .map(|(code, help)| format!("{code:width$}  {help}\n"));
            let facts: Vec<Explanation> = all
                .iter()
                .map(|(code, help)| Explanation {
                    code: (*code).into(),
                    help: (*help).into(),
                })
                .collect();
            return output.result(lines.collect::<String>(), &facts);
        };
        let Some((code, help)) = all.iter().find(|(known, _)| *known == code) else {
            let error = Error::new(
                Exit::NotFound,
                "unknown_code",
                format!("no error has the code {code}"),
            );
            return Err(error.hint("`soma explain` lists all codes"));
        };
        output.result(
            format!("{}\n{help}", output.strong(code)),
            &Explanation {
                code: (*code).into(),
                help: (*help).into(),
            },
        )
    }
}
