//! Data that a command is given: files, and folders of files, by the rule of [`soma_os::data`].
//!
//! One bad part must never spoil the whole: what cannot be used is told, left out and counted, and
//! the command's status says so at its end.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use serde::Serialize;
use soma_codes::Code;
use soma_compete::{Unusable, documents};
use soma_os::data::{self, DataFile};

use crate::error::{Error, Result};
use crate::output::Output;

/// The files of a command, and what it left out.
#[derive(Debug)]
pub(crate) struct Data {
    /// In order; none is empty.
    pub(crate) files: Vec<DataFile>,
    /// What the rule left out, such as `20 empty, 30 hidden`.
    by_rule: Option<String>,
    left_out: RefCell<Vec<LeftOut>>,
}

/// A file or folder that could not be used, in JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeftOut {
    file: String,
    code: &'static str,
    message: String,
}

impl Data {
    /// What `paths` stand for.
    ///
    /// # Errors
    /// Why the first cannot be used, if nothing remains; [`Code::EmptyData`] if there is no data.
    pub(crate) fn find(paths: &[PathBuf], output: &Output) -> Result<Self> {
        let found = documents::find(paths, output);
        let failures = found.failures();
        let left_out = failures.map(|(path, error)| LeftOut::new(path, &file_error(path, error)));
        let (left_out, by_rule) = (RefCell::new(left_out.collect()), found.by_rule());
        if !found.files.is_empty() {
            return Ok(Self { files: found.files, by_rule, left_out });
        }
        if let Some((path, error)) = found.into_failure() {
            return Err(file_error(&path, &error));
        }
        let named = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
        let counts = by_rule.map(|counts| format!(" (left out: {counts})")).unwrap_or_default();
        Err(Error::new(Code::EmptyData, format!("there is no data in {named}{counts}")))
    }

    /// The content of a file; `None` if it cannot be read and others may be.
    ///
    /// # Errors
    /// Why it cannot be read, if it is the only one.
    pub(crate) fn read(&self, file: &DataFile, output: &Output) -> Result<Option<Vec<u8>>> {
        match data::read(&file.path) {
            Ok(bytes) if bytes.is_empty() => {
                let message = format!("{} is empty by now", file.path.display());
                self.leave_out(&file.path, Error::new(Code::EmptyData, message), output)
            }
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => self.leave_out(&file.path, file_error(&file.path, &error), output),
        }
    }

    /// The files in their order, in batches of about this many bytes; a larger one alone.
    pub(crate) fn batches(&self, bytes_max: u64) -> impl Iterator<Item = &[DataFile]> {
        let mut rest = self.files.as_slice();
        std::iter::from_fn(move || {
            let mut bytes = 0;
            let fits = |file: &&DataFile| {
                bytes += file.size_bytes + 1;
                bytes <= bytes_max
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (batch, after) = rest.split_at_checked(count)?;
            rest = after;
            Some(batch)
        })
    }

    /// The files of a batch that can be read, with their content.
    ///
    /// # Errors
    /// Why a file cannot be read, if it is the only one.
    pub(crate) fn read_all<'f>(
        &self,
        batch: &'f [DataFile],
        output: &Output,
    ) -> Result<Vec<(&'f DataFile, Vec<u8>)>> {
        let mut contents = Vec::new();
        for file in batch {
            contents.extend(self.read(file, output)?.map(|content| (file, content)));
        }
        Ok(contents)
    }

    /// Leaves a file out because of `error`, unless it is the only one.
    ///
    /// # Errors
    /// `error`, if it is.
    pub(crate) fn leave_out<T>(
        &self,
        path: &Path,
        error: Error,
        output: &Output,
    ) -> Result<Option<T>> {
        if self.files.len() == 1 {
            return Err(error);
        }
        output.warn(documents::left_out(path, &error.message));
        self.left_out.borrow_mut().push(LeftOut::new(path, &error));
        Ok(None)
    }

    /// What could not be used so far.
    pub(crate) fn left_out(&self) -> Vec<LeftOut> {
        self.left_out.borrow().clone()
    }

    /// What was left out, for people; `None` if nothing was.
    pub(crate) fn summary(&self) -> Option<String> {
        let failed = count(&self.left_out.borrow());
        let parts: Vec<String> = failed.into_iter().chain(self.by_rule.clone()).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// The end of the command.
    ///
    /// # Errors
    /// [`Code::LeftOut`] if it could not use all that it was given.
    pub(crate) fn ended(&self) -> Result {
        ended(&self.left_out.borrow())
    }
}

/// The end of a command that has left these out.
///
/// # Errors
/// [`Code::LeftOut`] if there are any.
pub(crate) fn ended(left_out: &[LeftOut]) -> Result {
    let message = match left_out {
        [] => return Ok(()),
        [only] => format!("{} was left out: {}", only.file, only.message),
        [first, ..] => {
            format!("{} files or folders were left out, first {}", left_out.len(), first.file)
        }
    };
    Err(Error::new(Code::LeftOut, message))
}

/// How many could not be used, for people; `None` for none.
pub(crate) fn count(left_out: &[LeftOut]) -> Option<String> {
    let count = left_out.len();
    (count > 0).then(|| format!("{count} that cannot be used"))
}

impl From<Unusable> for LeftOut {
    fn from(Unusable { path, code, message }: Unusable) -> Self {
        Self { file: path, code: code.as_str(), message }
    }
}

impl LeftOut {
    fn new(path: &Path, error: &Error) -> Self {
        let message = error.message.clone();
        Self { file: path.display().to_string(), code: error.code.as_str(), message }
    }
}

fn file_error(path: &Path, error: &std::io::Error) -> Error {
    Error::file(path, "read", error)
}

/// A path in JSON. A name that is not UTF-8 has U+FFFD where it is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a>(pub(crate) &'a Path);

impl Serialize for Shown<'_> {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.display())
    }
}
