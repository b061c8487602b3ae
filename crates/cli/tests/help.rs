//! The reference of commands is the binary's own help.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fmt::Write;

use support::{fails, root, soma, stderr};

const INTRODUCTION: &str = "# Commands

The help of every command, written by `UPDATE=1 cargo test -p soma-cli --test help`.

stdout is the result and nothing else; everything else goes to stderr. `--json` changes the format
and never the content; 64-bit integers are strings in JSON. Errors read `error[code]: ...` with a
`hint:`; `soma explain CODE` tells more.

| exit status | meaning |
|---|---|
| 0 | success |
| 1 | failed |
| 2 | invalid arguments |
| 3 | configuration or keys |
| 4 | not found |
| 5 | rejected by the protocol |
| 6 | network or timeout |
| 7 | verification failed: a hash, a weights file, a score or a certificate |
| 8 | another release is needed: this one does not execute the rules of the network |
";

fn help(arguments: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let mut command = support::command(home.path());
    let output = command.args(arguments).arg("--help").env("COLUMNS", "100").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn write_page(page: &mut String, path: &[&str]) {
    let help = help(path);
    let own: String = help.split("\nGlobal options:").next().unwrap().trim_end().to_owned();
    let text = if path.is_empty() { help.trim_end() } else { &own };
    let title = [&["soma"], path].concat().join(" ");
    write!(page, "\n## `{title}`\n```text\n{text}\n```\n").unwrap();
    for name in subcommands(&help) {
        write_page(page, &[path, &[name.as_str()]].concat());
    }
}

#[test]
fn the_reference_page_is_the_help_of_every_command() {
    let mut page = INTRODUCTION.to_owned();
    write_page(&mut page, &[]);
    let path = root().join("docs/reference/commands.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/reference/commands.md is outdated: UPDATE=1 cargo test -p soma-cli --test help"
    );
}

#[test]
fn every_shell_gets_its_completions() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = soma(home.path(), &["completions", shell]);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("soma"), "{shell}");
    }
}

#[test]
fn every_code_is_explained_and_an_unknown_one_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let listed = support::json(home.path(), &["explain"]);
    let listed = listed.as_array().unwrap();
    assert!(listed.len() > 40);
    for entry in listed {
        let help = entry["help"].as_str().unwrap();
        assert!(help.len() > 10, "{entry}");
    }
    fails(&soma(home.path(), &["explain", "nonsense"]), 4, "unknown_code");
}
