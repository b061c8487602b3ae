//! Every link in a document resolves, every path to a document that a source names exists, and the
//! book lists every page.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use crate::tree::File;

/// The table of contents of the book.
const SUMMARY: &str = "docs/SUMMARY.md";

/// Links may lead to any of `paths`, to pictures too; only `files` are read.
pub(super) fn check(files: &[File], paths: &[PathBuf]) -> Vec<String> {
    let paths: HashSet<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let mut faults = Vec::new();
    for file in files {
        if file.extension() == "md" {
            faults.extend(document(file, files, &paths));
        } else {
            faults.extend(mentions(file, &paths));
        }
    }
    faults.extend(unlisted(files));
    faults
}

fn document(file: &File, files: &[File], paths: &HashSet<&Path>) -> Vec<String> {
    let folder = file.path.parent().unwrap_or(Path::new(""));
    let mut faults = Vec::new();
    for (line, target) in targets(&file.text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let path = if path.is_empty() { file.path.clone() } else { plain(&folder.join(path)) };
        let is_folder = paths.iter().any(|other| other.starts_with(&path));
        if !paths.contains(path.as_path()) && !is_folder {
            faults.push(file.fault(line, &format!("links to {target}, which does not exist")));
        } else if !anchor.is_empty()
            && let Some(page) = files.iter().find(|page| page.path == path)
            && page.extension() == "md"
            && !anchors(&page.text).contains(anchor)
        {
            faults.push(file.fault(line, &format!("links to {target}, which has no such heading")));
        }
    }
    faults
}

/// Paths below `docs/` that comments and messages name.
fn mentions(file: &File, paths: &HashSet<&Path>) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for (start, _) in line.match_indices("docs/") {
            let before = line[..start].chars().next_back();
            if before.is_some_and(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) {
                continue;
            }
            let rest = &line[start..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"/._-".contains(c));
            let path = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
            let path = Path::new(path);
            let is_page = path.extension().is_some_and(|extension| extension == "md");
            if is_page && !paths.contains(path) {
                let what = format!("names {}, which does not exist", path.display());
                faults.push(file.fault(number + 1, &what));
            }
        }
    }
    faults
}

fn unlisted(files: &[File]) -> Vec<String> {
    let Some(summary) = files.iter().find(|file| file.path == Path::new(SUMMARY)) else {
        return vec![format!("{SUMMARY}: does not exist")];
    };
    let listed: HashSet<PathBuf> =
        targets(&summary.text).map(|(_, target)| Path::new("docs").join(target)).collect();
    files
        .iter()
        .filter(|file| file.path.starts_with("docs") && file.extension() == "md")
        .filter(|file| file.path != summary.path && !listed.contains(&file.path))
        .map(|file| file.fault(1, "is not listed in docs/SUMMARY.md"))
        .collect()
}

/// The targets of all links and pictures outside code, with their lines.
fn targets(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    text.lines()
        .enumerate()
        .filter(move |(_, line)| {
            let fence = line.trim_start().starts_with("```");
            code ^= fence;
            !code && !fence
        })
        .flat_map(|(number, line)| {
            line.match_indices("](").filter_map(move |(start, _)| {
                let rest = &line[start + 2..];
                Some((number + 1, &rest[..rest.find(')')?]))
            })
        })
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> HashSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
                .collect()
        })
        .collect()
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{anchors, plain, targets};

    #[test]
    fn links_are_found_outside_code_only() {
        let text = "see [a](x.md) and ![b](y.svg#z)\n```\n[c](no.md)\n```\n[d](../w.md)\n";
        let expected = [(1, "x.md"), (1, "y.svg#z"), (5, "../w.md")];
        assert_eq!(targets(text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_anchor_is_the_heading_in_lower_case_with_dashes() {
        assert!(anchors("## Join with `state sync`, fast").contains("join-with-state-sync-fast"));
    }

    #[test]
    fn a_relative_path_is_resolved() {
        assert_eq!(plain(Path::new("guides/x/../a.md")), Path::new("guides/a.md"));
    }
}
