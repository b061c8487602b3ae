//! Every crate takes its metadata, lints and versions from the workspace.

use crate::tree::{Manifest, dependency_name};

const INHERITED: [&str; 5] = [
    "version.workspace = true",
    "edition.workspace = true",
    "rust-version.workspace = true",
    "license.workspace = true",
    "publish.workspace = true",
];

const DEPENDENCIES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Versions are written there and nowhere else, because only its features are its content.
const OWN_VERSIONS: &str = "workspace-hack";

pub(super) fn check(manifests: &[Manifest<'_>]) -> Vec<String> {
    manifests.iter().flat_map(manifest).collect()
}

fn manifest(manifest: &Manifest<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    let package: Vec<&str> = manifest.section("package").collect();
    for line in INHERITED {
        if !package.contains(&line) {
            faults.push(manifest.file.fault(1, &format!("[package] lacks `{line}`")));
        }
    }
    if !package.iter().any(|line| line.starts_with("description = ")) {
        faults.push(manifest.file.fault(1, "[package] lacks a description"));
    }
    if !manifest.section("lints").any(|line| line == "workspace = true") {
        faults.push(manifest.file.fault(1, "lacks `[lints] workspace = true`"));
    }
    if manifest.name != OWN_VERSIONS {
        for line in DEPENDENCIES.iter().flat_map(|section| manifest.section(section)) {
            if !line.contains("workspace = true") {
                let name = dependency_name(line);
                let what = format!("{name} needs its version in [workspace.dependencies]");
                faults.push(manifest.file.fault(1, &what));
            }
        }
    }
    faults
}
