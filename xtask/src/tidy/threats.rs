//! Every test that the document of threats names exists.

use std::collections::HashSet;
use std::path::Path;

use crate::tree::File;

/// The document of threats; the last column of its tables names tests.
const THREATS: &str = "docs/threats.md";

pub(super) fn check(files: &[File]) -> Vec<String> {
    let Some(threats) = files.iter().find(|file| file.path == Path::new(THREATS)) else {
        return vec![format!("{THREATS}: does not exist")];
    };
    let sources = files.iter().filter(|file| file.extension() == "rs");
    let functions: HashSet<&str> = sources.flat_map(|file| functions(&file.text)).collect();
    let mut faults = Vec::new();
    for (number, line) in threats.text.lines().enumerate() {
        for test in tests(line).filter(|test| !functions.contains(test)) {
            let what = format!("names the test {test}, which does not exist");
            faults.push(threats.fault(number + 1, &what));
        }
    }
    faults
}

/// The tests that a row names.
fn tests(line: &str) -> impl Iterator<Item = &str> {
    let last = line.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
    let column = if line.starts_with('|') { last } else { "" };
    column.split('`').skip(1).step_by(2)
}

/// Names of the functions of a source.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().filter_map(|line| line.split_once("fn "));
    lines.filter_map(|(_, rest)| rest.split(['(', '<']).next())
}
