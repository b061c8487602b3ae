//! The table is complete, well-formed and used, and the pages made from it are current.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use soma_codes::{Code, Exit};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(character.to_lowercase());
    }
    text
}

#[test]
fn a_code_is_its_variant_in_snake_case_and_read_back() {
    for code in Code::ALL {
        assert_eq!(snake_case(&format!("{code:?}")), code.as_str());
        assert_eq!(code.as_str().parse(), Ok(*code));
    }
    assert!("nonsense".parse::<Code>().is_err());
    let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(texts.len(), Code::ALL.len());
}

#[test]
fn every_code_has_an_explanation_and_an_instruction() {
    for code in Code::ALL {
        let (explanation, hint) = (code.explanation(), code.hint());
        assert!(explanation.ends_with('.') && explanation.len() > 10, "{code}");
        assert!(!hint.is_empty() && !hint.ends_with('.'), "{code}");
        assert!(!hint.starts_with(char::is_uppercase), "{code}: {hint}");
    }
}

#[test]
fn an_answers_exit_status_follows_from_its_http_status() {
    // Where a node's disk is full depends on who says so; a key's owner is a matter of keys.
    for code in Code::ALL.iter().filter(|code| **code != Code::DiskFull) {
        if let Some(status) = code.http_status() {
            assert_eq!(code.exit(), Exit::of_http(status), "{code}");
        }
    }
}

/// All Rust sources of the crates except this one, without tests.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && !["codes", "tests", "target"].contains(&name.as_str()) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && name != "tests.rs"
            {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
                found.push((path, code));
            }
        }
    }
    found
}

#[test]
fn every_code_of_the_table_is_emitted() {
    let sources = sources();
    let emits = |text: &str, name: &str| {
        let mut rest = text;
        while let Some(at) = rest.find(name) {
            let (before, after) = (&rest[..at], &rest[at + name.len()..]);
            let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
            if ends && (before.ends_with("Code::") || before.ends_with("Rejection::")) {
                return true;
            }
            rest = after;
        }
        false
    };
    for code in Code::ALL {
        let name = format!("{code:?}");
        let emitted =
            *code == Code::FileNotFound || sources.iter().any(|(_, text)| emits(text, &name));
        let of_io = [Code::FilePermission, Code::FileError, Code::DiskFull, Code::NoMemory];
        let of_io = of_io.contains(code);
        assert!(emitted || of_io, "nothing emits {code}");
    }
}

#[test]
fn no_source_spells_a_code_as_a_string() {
    // A single word is also something else: a field, a phase, a unit, a command.
    let sources = sources();
    for code in Code::ALL.iter().filter(|code| code.as_str().contains('_')) {
        let literal = format!("\"{code}\"");
        for (path, text) in &sources {
            assert!(!text.contains(&literal), "{literal} in {}", path.display());
        }
    }
}

/// Compares the file with `expected`, or writes it if `UPDATE` is set.
fn golden(path: &str, expected: &str) {
    let path = root().join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == expected,
        "{} is out of date: UPDATE=1 cargo test -p soma-codes",
        path.display()
    );
}

fn sorted() -> Vec<Code> {
    let mut codes = Code::ALL.to_vec();
    codes.sort_by_key(|code| code.as_str());
    codes
}

#[test]
fn the_reference_page_lists_every_code() {
    let mut page = String::from(
        "# Errors

Every error code, as `soma explain CODE` shows it. Written by `UPDATE=1 cargo test -p soma-codes`.

*exit* is the status of a command that fails with the code; a transaction that the protocol rejects
always exits with 5. *HTTP* is the status of a node's answer.

| code | exit | HTTP | meaning | hint |
|---|---|---|---|---|
",
    );
    for code in sorted() {
        let http = code.http_status().map(|status| status.to_string());
        writeln!(
            page,
            "| `{code}` | {} | {} | {} | {} |",
            code.exit().number(),
            http.unwrap_or_default(),
            code.explanation(),
            code.hint()
        )
        .unwrap();
    }
    golden("docs/reference/errors.md", &page);
}

#[test]
fn the_python_package_lists_every_code() {
    let mut module = String::from(
        "\"\"\"Every error code of nodes and commands.

Written by `UPDATE=1 cargo test -p soma-codes`.
`ApiError.code` and `Rejection.code` are equal to one of these, or to a newer version's code.
\"\"\"

from enum import StrEnum


class Code(StrEnum):
    \"\"\"A stable error code; `soma explain CODE` explains it.\"\"\"

",
    );
    for code in sorted() {
        writeln!(module, "    {} = \"{code}\"", code.as_str().to_uppercase()).unwrap();
    }
    golden("python/src/soma/codes.py", &module);
}
