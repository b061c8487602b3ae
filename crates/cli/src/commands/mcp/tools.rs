//! The tools: commands of this program with named arguments. What a tool does and answers is what
//! its command does and prints with `--json`.

use serde_json::{Map, Value, json};

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    /// At least one text.
    Texts,
}

/// An argument: of a flag if it has one, else by its place.
#[derive(Clone, Copy, Debug)]
struct Argument {
    name: &'static str,
    description: &'static str,
    kind: Kind,
    flag: Option<&'static str>,
    required: bool,
}

/// A command that can be called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    description: &'static str,
    command: &'static [&'static str],
    arguments: &'static [Argument],
    /// Whether it signs a transaction or writes a file.
    pub(super) writes: bool,
}

const fn place(name: &'static str, description: &'static str, kind: Kind) -> Argument {
    Argument { name, description, kind, flag: None, required: true }
}

const fn flag(
    name: &'static str,
    flag: &'static str,
    description: &'static str,
    kind: Kind,
) -> Argument {
    Argument { name, description, kind, flag: Some(flag), required: false }
}

const fn required(argument: Argument) -> Argument {
    Argument { required: true, ..argument }
}

const fn reads(
    name: &'static str,
    description: &'static str,
    command: &'static [&'static str],
    arguments: &'static [Argument],
) -> Tool {
    Tool { name, description, command, arguments, writes: false }
}

const fn writes(
    name: &'static str,
    description: &'static str,
    command: &'static [&'static str],
    arguments: &'static [Argument],
) -> Tool {
    Tool { name, description, command, arguments, writes: true }
}

const FILES: Argument = place("paths", "Files, or folders of files.", Kind::Texts);
const MODEL_ID: Argument = place("model", "The model's id.", Kind::Integer);
const WEIGHTS: Argument = flag("weights", "--model", "A weights file.", Kind::Text);

pub(super) const TOOLS: &[Tool] = &[
    reads(
        "network_status",
        "The network at a glance: epoch, phase, time left, models, validators, supply.",
        &["status"],
        &[],
    ),
    reads(
        "list_models",
        "All models: stake, wins, status, specialization.",
        &["model", "list"],
        &[],
    ),
    reads("show_model", "One model in detail.", &["model", "show"], &[MODEL_ID]),
    reads(
        "list_targets",
        "The targets of an epoch, the models assigned to each, and who won.",
        &["target", "list"],
        &[flag("epoch", "--epoch", "The epoch; else the running one.", Kind::Integer)],
    ),
    reads(
        "show_target",
        "One target in detail.",
        &["target", "show"],
        &[place("target", "The target's id.", Kind::Integer)],
    ),
    reads(
        "explain_results",
        "What became of an account's submissions and models in the last epochs, and why.",
        &["why"],
        &[
            flag("account", "--account", "An address; else the account of the key.", Kind::Text),
            flag("model", "--model", "One model's id, instead.", Kind::Integer),
            flag("epochs", "--epochs", "How many epochs.", Kind::Integer),
        ],
    ),
    reads(
        "show_balance",
        "An account's balance.",
        &["balance"],
        &[place("address", "The account.", Kind::Text)],
    ),
    reads(
        "find_models",
        "Which public models predict files best. Downloads models the first time.",
        &["find"],
        &[FILES, flag("top", "--top", "How many models to name.", Kind::Integer)],
    ),
    reads(
        "score_files",
        "How well a weights file on this machine predicts files: loss, cross-entropy, gain over \
         counting, in nats a byte.",
        &["score"],
        &[required(WEIGHTS), FILES],
    ),
    reads(
        "continue_text",
        "Continues a text with a weights file on this machine.",
        &["run"],
        &[
            required(WEIGHTS),
            place("text", "The text.", Kind::Text),
            flag("bytes", "--bytes", "The most bytes to add.", Kind::Integer),
        ],
    ),
    reads(
        "explain_code",
        "What an error code means and what to do about it.",
        &["explain"],
        &[place("code", "The code.", Kind::Text)],
    ),
    writes(
        "pull_model",
        "Downloads the weights of a model into a new file in the folder where this runs, and says \
         its name.",
        &["model", "pull"],
        // No name can be given: a file that is there would be replaced.
        &[MODEL_ID],
    ),
    writes(
        "submit_files",
        "Scores files with the models assigned to the epoch's targets and submits what fits, with \
         a bond from the account of the key.",
        &["submit"],
        &[FILES],
    ),
    writes(
        "send",
        "Sends SOMA from the account of the key.",
        &["send"],
        &[
            place("to", "The address of the account.", Kind::Text),
            place("amount", "How much, in SOMA, such as 1.5.", Kind::Text),
        ],
    ),
];

impl Tool {
    /// The tool with this name, if it may be used.
    pub(super) fn named(name: &str, may_write: bool) -> Option<&'static Self> {
        TOOLS.iter().find(|tool| tool.name == name && (may_write || !tool.writes))
    }

    /// How the tool is described to a client.
    pub(super) fn described(&self) -> Value {
        let schema = |argument: &Argument| {
            let mut schema = match argument.kind {
                Kind::Text => json!({"type": "string"}),
                Kind::Integer => json!({"type": "integer", "minimum": 0}),
                Kind::Texts => {
                    json!({"type": "array", "items": {"type": "string"}, "minItems": 1})
                }
            };
            schema["description"] = argument.description.into();
            (argument.name.to_owned(), schema)
        };
        let required = self.arguments.iter().filter(|argument| argument.required);
        json!({
            "name": self.name,
            "description": self.description,
            "inputSchema": {
                "type": "object",
                "properties": self.arguments.iter().map(schema).collect::<Map<_, _>>(),
                "required": required.map(|argument| argument.name).collect::<Vec<_>>(),
                "additionalProperties": false,
            },
            "annotations": {"readOnlyHint": !self.writes},
        })
    }

    /// The words of its command. Nothing that is given becomes a flag.
    ///
    /// # Errors
    /// Which argument is missing, unknown, or of another kind.
    pub(super) fn words(&self, given: &Map<String, Value>) -> Result<Vec<String>, String> {
        let known = |name: &String| self.arguments.iter().any(|argument| argument.name == *name);
        if let Some(name) = given.keys().find(|name| !known(name)) {
            return Err(format!("{} has no argument `{name}`", self.name));
        }
        let mut words: Vec<String> = self.command.iter().map(|word| (*word).to_owned()).collect();
        let mut places = Vec::new();
        for argument in self.arguments {
            let Some(value) = given.get(argument.name).filter(|value| !value.is_null()) else {
                if argument.required {
                    return Err(format!("{} needs `{}`", self.name, argument.name));
                }
                continue;
            };
            let texts = argument.texts(value)?;
            match argument.flag {
                Some(flag) => words.extend(texts.iter().map(|text| format!("{flag}={text}"))),
                None => places.extend(texts),
            }
        }
        if !places.is_empty() {
            words.push("--".to_owned());
            words.extend(places);
        }
        Ok(words)
    }
}

impl Argument {
    fn texts(&self, value: &Value) -> Result<Vec<String>, String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts = match self.kind {
            Kind::Text => text(value).map(|text| vec![text]),
            Kind::Integer => value.as_u64().map(|number| vec![number.to_string()]),
            Kind::Texts => value.as_array().and_then(|all| all.iter().map(text).collect()),
        };
        let texts = texts.filter(|texts| !texts.is_empty());
        texts.ok_or_else(|| match self.kind {
            Kind::Text => format!("`{}` must be a text", self.name),
            Kind::Integer => format!("`{}` must be a number, 0 or greater", self.name),
            Kind::Texts => format!("`{}` must be a list of texts", self.name),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::{Map, Value, json};

    use super::{Argument, Kind, TOOLS, Tool};
    use crate::args::Args;

    fn given(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_tool_is_a_command_of_this_program_with_all_its_arguments() {
        for tool in TOOLS {
            let address = "soma1qpjvg8e9vtkdunhl5aqpcagnw9gkfegkzeup42vcmhvjh4wkm6wq27lcag";
            let example = |argument: &Argument| match argument.name {
                "account" | "address" | "to" => json!(address),
                "amount" => json!("1.5"),
                _ => match argument.kind {
                    Kind::Text => json!("text"),
                    Kind::Integer => json!(1),
                    Kind::Texts => json!(["a", "b"]),
                },
            };
            // `why` is about an account or a model, not both.
            let arguments = tool
                .arguments
                .iter()
                .filter(|argument| tool.name != "explain_results" || argument.name != "account");
            let all = arguments.map(|argument| (argument.name.to_owned(), example(argument)));
            let words = tool.words(&all.collect()).unwrap();
            let words = ["soma".to_owned()].into_iter().chain(words);
            Args::try_parse_from(words).unwrap_or_else(|error| panic!("{}: {error}", tool.name));
        }
    }

    #[test]
    fn nothing_that_is_given_becomes_a_flag() {
        let score = Tool::named("score_files", false).unwrap();
        let words = score.words(&given(&json!({"weights": "-x", "paths": ["--receipt", "f"]})));
        assert_eq!(words.unwrap(), ["score", "--model=-x", "--", "--receipt", "f"]);
    }

    #[test]
    fn an_argument_that_is_missing_unknown_or_of_another_kind_is_named() {
        let score = Tool::named("score_files", false).unwrap();
        for (arguments, named) in [
            (json!({"paths": ["f"]}), "`weights`"),
            (json!({"weights": "w", "paths": []}), "`paths`"),
            (json!({"weights": 7, "paths": ["f"]}), "`weights`"),
            (json!({"weights": "w", "paths": ["f"], "more": 1}), "`more`"),
        ] {
            let error = score.words(&given(&arguments)).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn what_writes_is_only_there_if_it_is_allowed() {
        assert!(Tool::named("send", false).is_none());
        assert!(Tool::named("send", true).is_some_and(|tool| tool.writes));
    }
}
