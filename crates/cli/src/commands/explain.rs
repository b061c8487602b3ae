//! `soma explain CODE`: what an error code means and what to do about it.

use serde::Serialize;
use soma_codes::Code;

use crate::error::{Error, Result};
use crate::output::Output;

/// Explain an error code.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma explain stake_too_low\n\nWithout a code, all are listed.")]
pub(crate) struct Explain {
    /// The code, as printed in `error[code]`.
    code: Option<String>,
}

#[derive(Serialize)]
struct Explanation {
    code: &'static str,
    help: &'static str,
    hint: &'static str,
    exit: u8,
    http_status: Option<u16>,
}

impl From<Code> for Explanation {
    fn from(code: Code) -> Self {
        Self {
            code: code.as_str(),
            help: code.explanation(),
            hint: code.hint(),
            exit: code.exit().number(),
            http_status: code.http_status(),
        }
    }
}

impl Explain {
    pub(crate) fn run(self, output: &Output) -> Result {
        let Some(text) = self.code else {
            let mut codes = Code::ALL.to_vec();
            codes.sort_by_key(|code| code.as_str());
            let width = codes.iter().map(|code| code.as_str().len()).max().unwrap_or(0);
            let lines = codes.iter().map(|code| format!("{code:width$}  {}\n", code.explanation()));
            let explanations: Vec<Explanation> = codes.iter().copied().map(Into::into).collect();
            return output.result(lines.collect::<String>(), &explanations);
        };
        // As older versions called an answer of this status.
        let is_http =
            text.strip_prefix("http_").is_some_and(|status| status.parse::<u16>().is_ok());
        let code = if is_http { Code::HttpError } else { parse(&text)? };
        output.result(
            format!(
                "{}\n{}\nhint: {}",
                output.strong(code.as_str()),
                code.explanation(),
                code.hint()
            ),
            &Explanation::from(code),
        )
    }
}

fn parse(text: &str) -> Result<Code> {
    let bare = text.strip_prefix("error[").and_then(|rest| rest.strip_suffix(']'));
    let parsed = bare.unwrap_or(text).parse();
    parsed.map_err(|_| Error::new(Code::UnknownCode, format!("there is no error code `{text}`")))
}
