//! The files of the repository, as git lists them, and the manifests of its crates.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::output;

/// A text file: its path from the root and its content.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl File {
    /// The file's extension; empty if it has none.
    pub(crate) fn extension(&self) -> &str {
        self.path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
    }

    /// True for an executable script, with an extension or without.
    pub(crate) fn is_script(&self) -> bool {
        self.text.starts_with("#!") && !self.text.starts_with("#![")
    }

    /// A fault of one line, counted from 1, in the form that editors can follow.
    pub(crate) fn fault(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path.display())
    }
}

/// The paths of all files that git tracks or would add.
pub(crate) fn paths(root: &Path) -> Result<Vec<PathBuf>, String> {
    let listed = output(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(root),
    )?;
    // Deleted files are still listed until the deletion is staged.
    let paths = listed.lines().map(PathBuf::from);
    Ok(paths.filter(|path| root.join(path).is_file()).collect())
}

/// The text files among these; binary files are left out.
pub(crate) fn texts(root: &Path, paths: &[PathBuf]) -> Vec<File> {
    let text = |path: &PathBuf| {
        let bytes = std::fs::read(root.join(path)).ok()?;
        Some(File { path: path.clone(), text: String::from_utf8(bytes).ok()? })
    };
    paths.iter().filter_map(text).collect()
}

/// All text files that git tracks or would add.
pub(crate) fn files(root: &Path) -> Result<Vec<File>, String> {
    Ok(texts(root, &paths(root)?))
}

/// One crate's manifest, read by line: manifests of this workspace have one value a line.
#[derive(Debug)]
pub(crate) struct Manifest<'a> {
    pub(crate) file: &'a File,
    pub(crate) name: &'a str,
    lines: Vec<(&'a str, &'a str)>,
}

impl<'a> Manifest<'a> {
    /// The manifests of all crates of the workspace.
    pub(crate) fn all(files: &'a [File]) -> Vec<Self> {
        let is_member = |file: &&File| {
            file.path.file_name().is_some_and(|name| name == "Cargo.toml")
                && ["crates", "fuzz", "xtask"].iter().any(|folder| file.path.starts_with(folder))
        };
        files.iter().filter(is_member).map(Self::read).collect()
    }

    fn read(file: &'a File) -> Self {
        let mut section = "";
        let mut lines = Vec::new();
        for line in file.text.lines() {
            if line.starts_with('[') {
                section = line;
            } else if !line.is_empty() && !line.starts_with(['#', ' ', ']']) {
                lines.push((section, line));
            }
        }
        let name = lines
            .iter()
            .find_map(|(section, line)| {
                let name = line.strip_prefix("name = ")?;
                (*section == "[package]").then(|| name.trim_matches('"'))
            })
            .unwrap_or_default();
        Self { file, name, lines }
    }

    /// The lines of all sections whose header ends with `section`, which brackets delimit.
    pub(crate) fn section<'s>(&'s self, section: &'s str) -> impl Iterator<Item = &'a str> + 's {
        self.lines
            .iter()
            .filter(move |(header, _)| {
                header.strip_suffix(']').is_some_and(|header| {
                    header.trim_start_matches('[') == section
                        || header.ends_with(&format!(".{section}"))
                })
            })
            .map(|(_, line)| *line)
    }

    /// Names of the crates that this one depends on when it ships.
    pub(crate) fn dependencies(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.section("dependencies").map(dependency_name)
    }
}

/// The name at the beginning of a dependency's line.
pub(crate) fn dependency_name(line: &str) -> &str {
    line.split(['.', ' ', '=']).next().unwrap_or_default()
}
