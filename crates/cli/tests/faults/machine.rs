//! Files and disks of this machine that fail for a while.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rng::Rng;

/// What is broken until it is fixed.
#[must_use]
pub(crate) enum Broken {
    /// This folder is elsewhere; a file has its name.
    Moved { folder: PathBuf, elsewhere: PathBuf },
    /// The disk takes nothing from this process.
    Full { process: u32 },
    /// Nothing has to be fixed.
    Lost,
}

impl Broken {
    pub(crate) fn moved(folder: &Path) -> Self {
        let (folder, elsewhere) = (folder.to_owned(), folder.with_extension("elsewhere"));
        // It may have been lost before.
        if fs::rename(&folder, &elsewhere).is_err() {
            return Self::Lost;
        }
        // The process may have made the folder again in this moment.
        let _there = fs::write(&folder, "a file where a folder was");
        Self::Moved { folder, elsewhere }
    }

    /// Files do not grow, as on a full disk; pipes do. Needs Linux and `prlimit`.
    pub(crate) fn full(process: u32) -> Self {
        if limit_files(process, "0") { Self::Full { process } } else { Self::Lost }
    }

    pub(crate) fn fix(self) {
        match self {
            Self::Moved { folder, elsewhere } => {
                let _file = fs::remove_file(&folder);
                if fs::rename(&elsewhere, &folder).is_ok() {
                    return;
                }
                // The process has made the folder again.
                for file in files(&elsewhere) {
                    let place = folder.join(file.strip_prefix(&elsewhere).unwrap());
                    fs::create_dir_all(place.parent().unwrap()).unwrap();
                    if !place.exists() {
                        fs::rename(file, place).unwrap();
                    }
                }
                fs::remove_dir_all(elsewhere).unwrap();
            }
            // The process may have ended.
            Self::Full { process } => drop(limit_files(process, "unlimited")),
            Self::Lost => {}
        }
    }
}

fn limit_files(process: u32, bytes: &str) -> bool {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &process.to_string(), &format!("--fsize={bytes}:")]);
    command.output().is_ok_and(|output| output.status.success())
}

/// The files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Cuts a file in half, in place.
pub(crate) fn cut(file: &Path) -> io::Result<()> {
    let file = fs::File::options().write(true).open(file)?;
    file.set_len(file.metadata()?.len() / 2)
}

/// Changes one byte of a file, in place.
pub(crate) fn damage(file: &Path, rng: &Rng) -> io::Result<()> {
    let mut bytes = fs::read(file)?;
    if !bytes.is_empty() {
        let at = rng.place(bytes.len());
        bytes[at] ^= 1;
    }
    fs::write(file, bytes)
}
