//! The form of sources and documents: header, characters, width, length, and no floats in rules.

use crate::tree::File;

/// The most columns in a line of source.
const SOURCE_COLUMNS: usize = 100;

/// The most columns in a line of a document, unless it is part of a table or contains a link.
const DOCUMENT_COLUMNS: usize = 120;

/// The most lines in a source file before its tests.
const LINES_MAX: usize = 800;

/// Crates in which no float may appear.
const FLOATLESS: [&str; 4] =
    ["crates/codes/src", "crates/architecture/src", "crates/protocol/src", "crates/store/src"];

/// Names that say nothing about a file's content.
const EMPTY_NAMES: [&str; 4] = ["utils", "common", "helpers", "misc"];

const SOURCES: [&str; 8] = ["rs", "py", "toml", "sh", "cu", "cuh", "cpp", "hpp"];

pub(super) fn check(files: &[File]) -> Vec<String> {
    files.iter().flat_map(file).collect()
}

fn file(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    match file.extension() {
        "rs" => faults.extend(rust(file)),
        "md" => faults.extend(document_width(file)),
        _ => {}
    }
    if SOURCES.contains(&file.extension()) || file.is_script() {
        faults.extend(source_width(file));
        let lines = file.text.lines().enumerate();
        faults.extend(
            lines
                .filter(|(_, line)| !line.is_ascii())
                .map(|(number, _)| file.fault(number + 1, "is not ASCII")),
        );
    }
    faults
}

fn rust(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    if !file.text.starts_with("//!") {
        faults.push(file.fault(1, "does not begin with `//!`: say what the file is for"));
    }
    let path = file.path.with_extension("");
    if path.iter().any(|part| EMPTY_NAMES.iter().any(|name| part == *name)) {
        faults.push(file.fault(1, "needs a name that says what it contains"));
    }
    let lines = file.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    if lines > LINES_MAX {
        let what = format!("has {lines} lines before its tests, the limit is {LINES_MAX}");
        faults.push(file.fault(lines, &what));
    }
    if FLOATLESS.iter().any(|folder| file.path.starts_with(folder)) {
        let lines = file.text.lines().enumerate();
        faults.extend(
            lines
                .filter(|(_, line)| names_a_float(line))
                .map(|(number, _)| file.fault(number + 1, "names a float")),
        );
    }
    faults
}

fn source_width(file: &File) -> impl Iterator<Item = String> + '_ {
    file.text.lines().enumerate().filter_map(|(number, line)| {
        let columns = line.chars().count();
        let what = format!("has {columns} columns, the limit is {SOURCE_COLUMNS}");
        (columns > SOURCE_COLUMNS && !line.contains("://")).then(|| file.fault(number + 1, &what))
    })
}

fn document_width(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    let mut code = false;
    for (number, line) in file.text.lines().enumerate() {
        code ^= line.trim_start().starts_with("```");
        let free = code || line.trim_start().starts_with('|') || line.contains("](");
        let columns = line.chars().count();
        if columns > DOCUMENT_COLUMNS && !free {
            let what = format!("has {columns} columns, the limit is {DOCUMENT_COLUMNS}");
            faults.push(file.fault(number + 1, &what));
        }
    }
    faults
}

/// True if code (not a comment) on this line names `f32` or `f64`.
fn names_a_float(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .any(|word| matches!(word, "f32" | "f64"))
}

#[cfg(test)]
mod tests {
    use super::{check, names_a_float};
    use crate::tree::File;

    #[test]
    fn a_line_that_is_too_long_or_not_ascii_is_found_in_every_kind_of_source() {
        for name in ["a.rs", "a.py", "a.toml", "a.sh", "a.cu", "a.cuh", "a.cpp", "a.hpp"] {
            let faults = |line: String| {
                let text = format!("//! A file.\n{line}\n");
                check(&[File { path: name.into(), text }])
            };
            assert!(faults("x".repeat(100)).is_empty(), "{name}");
            assert_eq!(faults("x".repeat(101)).len(), 1, "{name}");
            assert_eq!(faults("\u{e4}".to_owned()).len(), 1, "{name}");
        }
    }

    #[test]
    fn a_float_is_found_in_code_and_not_in_comments_or_longer_words() {
        assert!(names_a_float("let x: f64 = 1.0;"));
        assert!(names_a_float("x as f32"));
        assert!(!names_a_float("// f64 is not allowed"));
        assert!(!names_a_float("let leaf64 = 0;"));
    }
}
