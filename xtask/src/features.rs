//! The features of third-party crates must not depend on which crate of the workspace is built:
//! otherwise `-p soma-sim` compiles the consensus engine again. `crates/workspace-hack` unifies
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::output;
use crate::tree::{self, Manifest};

/// Has no dependencies at all.
const EXEMPT: &str = "xtask";

const HACK: &str = "workspace-hack";

/// A third-party package: name and version, and whether it is built for the host (build scripts and
/// procedural macros) rather than for the target.
type Package = (String, bool);

/// The feature sets of a package, each with a selection of crates that leads to it.
type Variants = BTreeMap<BTreeSet<String>, String>;

/// One line for each package whose features differ between selections of crates.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let files = tree::files(root)?;
    let manifests = Manifest::all(&files);
    let mut selections = vec![vec!["--workspace"]];
    for manifest in manifests.iter().filter(|manifest| manifest.name != EXEMPT) {
        selections.push(vec!["--package", manifest.name]);
    }
    let mut packages = BTreeMap::<Package, Variants>::new();
    for selection in &selections {
        for edges in ["normal,build", "normal,build,dev"] {
            let tree = cargo_tree(root, selection, edges)?;
            // A library may reach the hack through its tests only: outside programs use it.
            if !tree.contains(HACK) {
                continue;
            }
            let label = format!("{} ({edges})", selection.join(" "));
            for (package, features) in parse(&tree) {
                let variants = packages.entry(package).or_default();
                variants.entry(features).or_insert_with(|| label.clone());
            }
        }
    }
    let differing = packages.iter().filter(|(_, variants)| variants.len() > 1);
    Ok(differing.map(|(package, variants)| describe(package, variants)).collect())
}

fn cargo_tree(root: &Path, selection: &[&str], edges: &str) -> Result<String, String> {
    output(
        Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--charset=ascii", "--format={p}|{f}", "--edges", edges])
            .args(selection)
            .current_dir(root),
    )
}

/// The third-party packages of `cargo tree`'s output, with their features.
fn parse(tree: &str) -> Vec<(Package, BTreeSet<String>)> {
    let mut packages = Vec::new();
    // For each level of the tree: whether its package, and whether the section below, is for the
    // host.
    let mut levels = Vec::<(bool, bool)>::new();
    for line in tree.lines() {
        let rest = line.trim_start_matches(['|', ' ', '`', '-']);
        let depth = (line.len() - rest.len()) / 4;
        if rest.starts_with('[') {
            levels.truncate(depth + 1);
            if let Some((host, section)) = levels.last_mut() {
                *section = *host || rest.starts_with("[build");
            }
            continue;
        }
        let Some((name, features)) = rest.split_once('|') else {
            continue;
        };
        levels.truncate(depth);
        let host =
            levels.last().is_some_and(|(_, section)| *section) || name.contains("(proc-macro)");
        levels.push((host, host));
        if !name.contains("(/") {
            let features = features.trim_end_matches(" (*)").split(',');
            let features = features.filter(|feature| !feature.is_empty());
            let name = name.trim_end_matches(" (proc-macro)").to_owned();
            packages.push(((name, host), features.map(str::to_owned).collect()));
        }
    }
    packages
}

fn describe((name, host): &Package, variants: &Variants) -> String {
    let all: BTreeSet<&String> = variants.keys().flatten().collect();
    let lacks = |features: &BTreeSet<String>| -> Vec<&str> {
        let missing = all.iter().filter(|feature| !features.contains(**feature));
        missing.map(|feature| feature.as_str()).collect()
    };
    let mut text = format!("features: {name} differs; add what is missing to crates/{HACK}, ");
    text += if *host { "[build-dependencies]" } else { "[dependencies]" };
    for (features, selection) in variants {
        let missing = lacks(features);
        if !missing.is_empty() {
            text += &format!("\n    cargo tree {selection} lacks {}", missing.join(", "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn packages_below_build_dependencies_and_macros_are_for_the_host() {
        let tree = "\
soma-x v0.1.0 (/x)|
|-- blake3 v1.8.7|std
|   |-- arrayvec v0.7.8|
|   [build-dependencies]
|   `-- cc v1.11.3|parallel
|       `-- shlex v2.0.1|
|-- serde_derive v1.0.229 (proc-macro)|default
|   `-- syn v3.0.10|full,visit
`-- itoa v1.0.19| (*)
";
        let packages: Vec<(String, bool, usize)> = parse(tree)
            .into_iter()
            .map(|((name, host), features)| (name, host, features.len()))
            .collect();
        let expected = [
            ("blake3 v1.8.7", false, 1),
            ("arrayvec v0.7.8", false, 0),
            ("cc v1.11.3", true, 1),
            ("shlex v2.0.1", true, 0),
            ("serde_derive v1.0.229", true, 1),
            ("syn v3.0.10", true, 2),
            ("itoa v1.0.19", false, 0),
        ]
        .map(|(name, host, features)| (name.to_owned(), host, features));
        assert_eq!(packages, expected);
    }
}
