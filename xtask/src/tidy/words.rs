//! Words and phrases that have a better one. `docs/GLOSSARY.md` defines the terms.

use std::path::Path;

use crate::tree::File;

/// What must not be written, and what to write instead. Both are lower case.
const BETTER: [(&str, &str); 60] = [
    // Archaic or private English.
    ("anew", "again, from scratch"),
    ("as far as", "up to, where"),
    ("at its door", "at its public interface"),
    ("beforehand", "before, in advance"),
    ("break off", "interrupt"),
    ("breaks off", "is interrupted"),
    ("bell", "notify"),
    ("broke off", "was interrupted"),
    ("broken off", "interrupted"),
    ("chore", "check, task"),
    ("colour", "color"),
    ("dice", "rng"),
    ("for ever", "forever, permanently"),
    ("go on", "continue, resume"),
    ("goes on", "continues, resumes"),
    ("going on", "continuing"),
    ("went on", "continued"),
    ("hears", "receives"),
    ("henceforth", "from then on"),
    ("is meant", "is intended"),
    ("is there already", "already exists"),
    ("it is up to you that", "you are responsible for"),
    ("its door", "its public interface"),
    ("keeps its promises", "passes its tests"),
    ("makes no sense", "is invalid"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("nobody's business", "not public"),
    ("not well", "unhealthy"),
    ("not_well", "unhealthy"),
    ("once more", "again"),
    ("passed over", "skipped"),
    ("passes over", "skips"),
    ("stranger", "third party"),
    ("takes no more", "is full"),
    ("takes over the state", "syncs the state"),
    ("that are none", "malformed"),
    ("that is no", "that is not a, malformed"),
    ("that is none", "malformed"),
    ("that has none", "without"),
    ("thrice", "three times"),
    ("what is final", "what is finalized"),
    ("is final", "is finalized"),
    ("are final", "are finalized"),
    ("was final", "was finalized"),
    ("were final", "were finalized"),
    ("who commits and", "a validator that commits but"),
    ("who committed and", "a validator that committed but"),
    ("words in, words out", "the command line"),
    ("worth a page", "page on"),
    // One word for one thing.
    ("finding", "verdict"),
    ("findings", "verdicts"),
    ("seal", "encrypt (a file), merkleize (a state)"),
    ("sealed", "encrypted, merkleized"),
    ("seals", "encrypts, merkleizes"),
    ("unopened", "unrevealed"),
    ("does not open", "does not reveal"),
    ("did not open", "did not reveal"),
    ("engine epoch", "term"),
    ("engine's epoch", "term"),
];

/// Files that must name the phrases.
const EXEMPT: [&str; 3] = ["xtask/src/tidy/words.rs", "STYLE.md", "Cargo.lock"];

/// Folders of recorded and built data.
const DATA: [&str; 3] = ["vectors", "fuzz/corpus", "crates/node/page"];

/// Faults of all files.
pub(super) fn check(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| !EXEMPT.iter().any(|exempt| file.path == Path::new(exempt)))
        .filter(|file| !DATA.iter().any(|folder| file.path.starts_with(folder)))
        .flat_map(faults)
        .collect()
}

fn faults(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let line = if file.extension() == "md" {
            // Code spans quote identifiers, including old ones.
            line.split('`').step_by(2).collect::<String>().to_ascii_lowercase()
        } else {
            line.to_ascii_lowercase()
        };
        for (phrase, better) in BETTER {
            if contains(&line, phrase) {
                faults.push(file.fault(number + 1, &format!("says \"{phrase}\": write {better}")));
            }
        }
    }
    faults
}

/// True if `line` contains `phrase` as whole words.
fn contains(line: &str, phrase: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(phrase).any(|(start, found)| {
        let before = line[..start].chars().next_back();
        let after = line[start + found.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn a_phrase_is_found_as_whole_words_only() {
        assert!(contains("resume for ever.", "for ever"));
        assert!(!contains("for every block", "for ever"));
        assert!(!contains("recommended", "mend"));
    }
}
