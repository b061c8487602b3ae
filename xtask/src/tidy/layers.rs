//! Who may depend on whom: crates by table, the modules of a crate by the order in its `lib.rs`.

use std::path::Path;

use crate::tree::{File, Manifest};

/// The crates from bottom to top, each with the crates that it may depend on.
const LAYERS: [(&str, &[&str]); 16] = [
    ("soma-codes", &[]),
    ("soma-os", &[]),
    ("soma-architecture", &["soma-codes"]),
    ("soma-protocol", &["soma-codes", "soma-architecture"]),
    ("soma-proof", &["soma-protocol"]),
    ("soma-model", &["soma-codes", "soma-os", "soma-architecture"]),
    ("soma-store", &["soma-codes", "soma-os", "soma-protocol", "soma-proof"]),
    ("soma-engine", &["soma-codes", "soma-os", "soma-protocol", "soma-proof", "soma-store"]),
    ("soma-api", &["soma-codes", "soma-os", "soma-protocol", "soma-proof"]),
    ("soma-sdk", &["soma-codes", "soma-os", "soma-architecture", "soma-protocol", "soma-api"]),
    (
        "soma-compete",
        &["soma-codes", "soma-os", "soma-architecture", "soma-protocol", "soma-model", "soma-sdk"],
    ),
    (
        "soma-node",
        &[
            "soma-codes",
            "soma-os",
            "soma-architecture",
            "soma-protocol",
            "soma-model",
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
            "soma-architecture",
            "soma-protocol",
            "soma-model",
            "soma-sdk",
            "soma-compete",
            "soma-node",
        ],
    ),
    ("soma-sim", &["soma-codes", "soma-os", "soma-protocol", "soma-store", "soma-engine"]),
    ("soma-economy", &["soma-codes", "soma-architecture", "soma-protocol"]),
    ("soma-fuzz", &["soma-protocol", "soma-engine", "soma-sdk", "soma-node"]),
];

/// Crates outside the layers: the first has no code, the second checks the others.
const OUTSIDE: [&str; 2] = ["workspace-hack", "xtask"];

/// The only crates that may name the consensus engine.
const ENGINE_USERS: [&str; 3] = ["soma-store", "soma-engine", "soma-sim"];

/// Faults in the dependencies between crates.
pub(super) fn check(manifests: &[Manifest<'_>]) -> Vec<String> {
    manifests.iter().flat_map(dependencies).collect()
}

fn dependencies(manifest: &Manifest<'_>) -> Vec<String> {
    let name = manifest.name;
    if OUTSIDE.contains(&name) {
        return Vec::new();
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
        return vec![manifest.file.fault(1, "has no place in LAYERS of xtask/src/tidy/layers.rs")];
    };
    let mut faults = Vec::new();
    for dependency in manifest.dependencies() {
        if dependency.starts_with("soma-") && !allowed.contains(&dependency) {
            let what = format!("{name} must not depend on {dependency}");
            faults.push(manifest.file.fault(1, &what));
        }
        if dependency.starts_with("commonware") && !ENGINE_USERS.contains(&name) {
            let what = format!("{name} must not name the consensus engine ({dependency})");
            faults.push(manifest.file.fault(1, &what));
        }
    }
    faults
}

/// Faults of the modules of each crate: one that uses a module which `lib.rs` (or `main.rs`)
/// declares after it.
pub(super) fn reading_order(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for library in files
        .iter()
        .filter(|file| ["src/lib.rs", "src/main.rs"].iter().any(|root| file.path.ends_with(root)))
    {
        let Some(folder) = library.path.parent() else {
            continue;
        };
        let modules = declared(&library.text);
        for file in files.iter().filter(|file| file.extension() == "rs") {
            let Ok(path) = file.path.strip_prefix(folder) else {
                continue;
            };
            // Tests may use everything.
            if path.ends_with("tests.rs") || path.iter().any(|part| part == "tests") {
                continue;
            }
            let own = modules.iter().position(|module| *module == first_part(path));
            let Some(own) = own else {
                continue;
            };
            faults.extend(uses(&file.text).into_iter().filter_map(|(line, used)| {
                let later = modules.iter().position(|module| *module == used)? > own;
                let what = format!("{} uses {used}, which is declared later", modules[own]);
                later.then(|| file.fault(line, &what))
            }));
        }
    }
    faults
}

/// The modules that a `lib.rs` declares, in its order.
fn declared(text: &str) -> Vec<&str> {
    let module = |line: &'_ str| -> Option<usize> {
        let rest = line.strip_suffix(';')?;
        let start = ["mod ", "pub mod ", "pub(crate) mod "]
            .iter()
            .find(|prefix| rest.starts_with(**prefix))?
            .len();
        Some(start)
    };
    text.lines().filter_map(|line| module(line).map(|start| &line[start..line.len() - 1])).collect()
}

/// The module of the crate that a path below `src` belongs to.
fn first_part(path: &Path) -> &str {
    let first = path.components().next();
    let name = first.and_then(|part| part.as_os_str().to_str());
    name.map_or("", |name| name.strip_suffix(".rs").unwrap_or(name))
}

/// Every module that code before the tests names as `crate::module` or in `crate::{..}`, with its
/// line.
fn uses(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let code = text.find("\n#[cfg(test)]").map_or(text, |end| &text[..end]);
    for (start, prefix) in code.match_indices("crate::") {
        let line_start = code[..start].rfind('\n').map_or(0, |end| end + 1);
        if code[line_start..start].trim_start().starts_with("//") {
            continue;
        }
        let line = code[..start].matches('\n').count() + 1;
        let rest = &code[start + prefix.len()..];
        let names = rest.strip_prefix('{').map_or_else(|| vec![word(rest)], members);
        found.extend(names.into_iter().map(|name| (line, name)));
    }
    found
}

/// The first word of each member of a group, whose opening brace comes before `text`.
fn members(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut words) = (1, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || depth == 1 && c == ',' {
            words.push(word(text[start..at].trim_start()));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::{LAYERS, declared, uses};

    #[test]
    fn a_crate_may_depend_only_on_crates_below_it() {
        for (height, (name, allowed)) in LAYERS.iter().enumerate() {
            for below in *allowed {
                assert!(
                    LAYERS[..height].iter().any(|(layer, _)| layer == below),
                    "{name} may depend on {below}, which is not below it"
                );
            }
        }
    }

    #[test]
    fn modules_are_read_in_the_order_of_their_declaration() {
        let text = "mod state;\npub mod record;\nmod tests {\npub(crate) mod query;\n";
        assert_eq!(declared(text), ["state", "record", "query"]);
    }

    #[test]
    fn uses_are_found_in_code_before_the_tests() {
        let text = "use crate::state::Key;\n// crate::other\nlet x = crate::math::isqrt(2);\n\
                    use crate::{\n    money::{pool, rent},\n    read,\n};\n\
                    #[cfg(test)]\nuse crate::later;\n";
        let expected = [(1, "state"), (3, "math"), (4, "money"), (4, "read")];
        assert_eq!(uses(text), expected);
    }
}
