//! What a file looks like that is not a weights file, so that the error says what lies there:
//! the page of a web server, a pointer of Git LFS, another library's format.
//!
//! It only helps people; whether a file is accepted never depends on it.

/// Bytes from the start of a file that are looked at.
pub(crate) const LOOKED_AT: usize = 512;
/// The first bytes of a training checkpoint of any version.
pub(crate) const CHECKPOINT_START: &[u8] = b"soma checkpoint ";

/// A kind of file that often lies where weights should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Look {
    /// A web page: of a login, of an error, or about the file.
    Html,
    /// What Git keeps in place of a large file.
    LfsPointer,
    /// JSON, such as a server's error or a configuration.
    Json,
    /// Compressed with gzip, bzip2, xz or zstd.
    Compressed,
    /// A zip archive, as `torch.save` writes.
    Zip,
    /// A pickle of Python, as older versions of `torch.save` wrote.
    Pickle,
    /// An array of numpy.
    Numpy,
    /// The format of llama.cpp.
    Gguf,
    /// A training checkpoint of this software.
    Checkpoint,
    /// Text.
    Text,
    /// Only zeros, as a download leaves that has reserved its space.
    Zeros,
    /// A safetensors file.
    Weights,
}

impl Look {
    /// What these first bytes of a file look like, if that is known.
    pub(crate) fn of(file: &[u8]) -> Option<Self> {
        let start = &file[..file.len().min(LOOKED_AT)];
        let signatures: [(&[u8], Self); 11] = [
            (b"version https://git-lfs", Self::LfsPointer),
            (CHECKPOINT_START, Self::Checkpoint),
            (b"\x1f\x8b", Self::Compressed),
            (b"BZh", Self::Compressed),
            (b"\xfd7zXZ\0", Self::Compressed),
            (b"\x28\xb5\x2f\xfd", Self::Compressed),
            (b"PK\x03\x04", Self::Zip),
            (b"\x80\x02", Self::Pickle),
            (b"\x80\x04\x95", Self::Pickle),
            (b"\x93NUMPY", Self::Numpy),
            (b"GGUF", Self::Gguf),
        ];
        let signature = signatures.iter().find(|(signature, _)| start.starts_with(signature));
        if let Some((_, look)) = signature {
            return Some(*look);
        }
        let text = start.trim_ascii_start();
        let begins = |with: &[u8]| {
            text.get(..with.len()).is_some_and(|first| first.eq_ignore_ascii_case(with))
        };
        let is_text = !start.is_empty()
            && start.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace());
        match () {
            () if begins(b"<!doctype") || begins(b"<html") || begins(b"<?xml") => Some(Self::Html),
            // A list begins like a section of TOML, and no configuration or answer is one.
            () if is_text && begins(b"{") => Some(Self::Json),
            () if is_text => Some(Self::Text),
            () if start.len() > 8 && start.iter().all(|byte| *byte == 0) => Some(Self::Zeros),
            () => None,
        }
    }

    /// What these first bytes of a file look like that should be a checkpoint.
    pub(crate) fn of_no_checkpoint(file: &[u8]) -> Option<Self> {
        let is_weights = matches!(file, [_, _, _, 0, 0, 0, 0, 0, b'{', ..]);
        let look = if is_weights { Some(Self::Weights) } else { Self::of(file) };
        look.filter(|look| *look != Self::Checkpoint)
    }

    /// How it looks, as the end of a sentence.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Html => "it looks like an HTML page",
            Self::LfsPointer => "it is a Git LFS pointer, not the file itself",
            Self::Json => "it looks like JSON",
            Self::Compressed => "it looks like a compressed file",
            Self::Zip => "it looks like a zip archive, as torch.save writes",
            Self::Pickle => "it looks like a pickle of Python",
            Self::Numpy => "it looks like an array of numpy",
            Self::Gguf => "it looks like a GGUF file",
            Self::Checkpoint => "it is a training checkpoint",
            Self::Text => "it looks like a text file",
            Self::Zeros => "it begins with zeros, like an interrupted download",
            Self::Weights => "it is a weights file, which holds no run",
        }
    }

    /// What to do about it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Html => "download the file itself, not the page about it; a login may be needed",
            Self::LfsPointer => "fetch the file: git lfs pull",
            Self::Json | Self::Text => "check the path, or what the download says",
            Self::Compressed => "decompress it first",
            Self::Zip | Self::Pickle | Self::Numpy | Self::Gguf => {
                "convert it to safetensors, for example with safetensors.torch.save_file"
            }
            Self::Checkpoint => "get its weights: soma train --resume FILE --data ... -o WEIGHTS",
            Self::Zeros => "download the file again",
            Self::Weights => "start a run from it: --from FILE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Look;

    #[test]
    fn what_often_lies_in_the_place_of_weights_is_recognized() {
        for (bytes, look) in [
            (b"<!DOCTYPE html><html>".as_slice(), Some(Look::Html)),
            (b"\n  <HTML lang=\"en\">", Some(Look::Html)),
            (b"version https://git-lfs.github.com/spec/v1\noid", Some(Look::LfsPointer)),
            (b"{\"error\":\"Repository not found\"}", Some(Look::Json)),
            ("Not found \u{2014} sign in".as_bytes(), Some(Look::Text)),
            (b"\x1f\x8b\x08\0\0", Some(Look::Compressed)),
            (b"PK\x03\x04", Some(Look::Zip)),
            (b"soma checkpoint 2\n\x01", Some(Look::Checkpoint)),
            (&[0; 64], Some(Look::Zeros)),
            (b"\x10\x01\0\0\0\0\0\0{\"__metadata__\"", None),
            (b"", None),
        ] {
            assert_eq!(Look::of(bytes), look, "{bytes:?}");
        }
        let weights = b"\x10\x01\0\0\0\0\0\0{\"__metadata__\"";
        assert_eq!(Look::of_no_checkpoint(weights), Some(Look::Weights));
        assert_eq!(Look::of_no_checkpoint(b"<html>"), Some(Look::Html));
        // Of another version, which is all that is known.
        assert_eq!(Look::of_no_checkpoint(b"soma checkpoint 1\n"), None);
    }
}
