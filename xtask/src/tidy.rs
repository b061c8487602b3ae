//! Rules that hold for the whole tree. Each returns its faults as sentences.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::output;

/// Own crates that each crate may depend on, in the shipped graph.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("soma-codes", &[]),
    ("soma-os", &[]),
    ("soma-model", &["soma-codes", "soma-os"]),
    ("soma-protocol", &["soma-codes"]),
    ("soma-store", &["soma-os", "soma-protocol"]),
    ("soma-engine", &["soma-os", "soma-protocol", "soma-store"]),
    ("soma-sdk", &["soma-codes", "soma-os", "soma-protocol"]),
    ("soma-economy", &["soma-codes", "soma-protocol"]),
    (
        "soma-sim",
        &["soma-os", "soma-protocol", "soma-store", "soma-engine"],
    ),
    (
        "soma-node",
        &[
            "soma-codes",
            "soma-os",
            "soma-model",
            "soma-protocol",
            "soma-store",
            "soma-engine",
            "soma-sdk",
        ],
    ),
    (
        "soma-cli",
        &[
            "soma-codes",
            "soma-os",
            "soma-model",
            "soma-protocol",
            "soma-sdk",
            "soma-node",
        ],
    ),
];

/// The only crates that may name the consensus engine.
const ENGINE_USERS: [&str; 3] = ["soma-store", "soma-engine", "soma-sim"];

/// Crates in which no float may appear.
const FLOATLESS: [&str; 2] = ["crates/protocol/src", "crates/store/src"];

const LINES_MAX: usize = 800;

/// All faults of the tree below `root`.
pub(crate) fn check(root: &Path) -> Vec<String> {
    let mut faults = dependencies(root).unwrap_or_else(|error| vec![error]);
    match sources(root) {
        Ok(files) => files
            .iter()
            .for_each(|file| faults.extend(source(root, file))),
        Err(error) => faults.push(error),
    }
    faults
}

fn dependencies(root: &Path) -> Result<Vec<String>, String> {
    let metadata = output(
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
            .current_dir(root),
    )?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&metadata).map_err(|error| error.to_string())?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    Ok(packages.iter().flat_map(package).collect())
}

fn package(package: &serde_json::Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let direct = package["dependencies"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let shipped = direct
        .iter()
        .filter(|dependency| dependency["kind"].is_null());
    let names: Vec<&str> = shipped
        .filter_map(|dependency| dependency["name"].as_str())
        .collect();
    let mut faults = Vec::new();
    if let Some((_, allowed)) = ALLOWED.iter().find(|(own, _)| *own == name) {
        let own = names.iter().filter(|name| name.starts_with("soma"));
        faults.extend(
            own.filter(|other| !allowed.contains(other))
                .map(|other| format!("{name} must not depend on {other}")),
        );
    }
    if !ENGINE_USERS.contains(&name) {
        faults.extend(
            names
                .iter()
                .filter(|other| other.starts_with("commonware"))
                .map(|other| format!("{name} must not name the consensus engine ({other})")),
        );
    }
    faults
}

fn sources(root: &Path) -> Result<Vec<PathBuf>, String> {
    let listed = output(
        Command::new("git")
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "*.rs",
            ])
            .current_dir(root),
    )?;
    let listed = String::from_utf8(listed).map_err(|error| error.to_string())?;
    Ok(listed
        .lines()
        .map(PathBuf::from)
        .filter(|file| root.join(file).exists())
        .collect())
}

fn source(root: &Path, file: &Path) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(root.join(file)) else {
        return vec![format!("{} is not readable text", file.display())];
    };
    let at = file.display();
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push(format!(
            "{at} does not begin with `//!`: say what it is for"
        ));
    }
    if !text.is_ascii() {
        faults.push(format!("{at} is not ASCII"));
    }
    let lines = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .count();
    if lines > LINES_MAX {
        faults.push(format!(
            "{at} has {lines} lines before its tests, {LINES_MAX} is the limit"
        ));
    }
    if FLOATLESS.iter().any(|folder| file.starts_with(folder)) {
        faults.extend(
            text.lines()
                .enumerate()
                .filter(|(_, line)| names_a_float(line))
                .map(|(number, _)| format!("{at}:{} names a float", number + 1)),
        );
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
    use super::names_a_float;

    #[test]
    fn a_float_is_found_in_code_and_not_in_comments_or_longer_words() {
        assert!(names_a_float("let x: f64 = 1.0;"));
        assert!(names_a_float("x as f32"));
        assert!(!names_a_float("// f64 is not allowed"));
        assert!(!names_a_float("let leaf64 = 0;"));
    }
}
