//! The header of a safetensors file: read strictly, because it is untrusted input, and written in
//! only one way.
//!
//! It must never trust a number in the file: every offset is checked against the file and the
//! expected shapes. The library for this format neither fixes the bytes that are written nor
//! rejects duplicate tensors, so both directions are written here. What any other reader of the
//! format refuses is refused here too: a model must not be published that others cannot open.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use soma_architecture::{Architecture, HEADER_BYTES_MAX, TensorSpec};

use crate::error::{Error, WRAPPERS};
use crate::look::Look;

/// The entry of the header that is not a tensor.
const METADATA_KEY: &str = "__metadata__";
/// The metadata entry that carries the architecture.
const ARCHITECTURE_KEY: &str = "architecture";

/// The element types that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ElementType {
    F32,
    Bf16,
    F16,
}

impl ElementType {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "BF16" => Some(Self::Bf16),
            "F16" => Some(Self::F16),
            _ => None,
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }
}

/// Where a tensor lies in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Location {
    pub(super) element: ElementType,
    /// First byte, counted from the start of the file.
    pub(super) begin: usize,
    /// One past the last byte.
    pub(super) end: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The metadata, each key once.
#[derive(Debug, Default)]
struct Metadata(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from text to text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if entries.contains_key(&key) {
                        let message = format!("the metadata has `{key}` twice");
                        return Err(A::Error::custom(message));
                    }
                    entries.insert(key, value);
                }
                Ok(Metadata(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A header that keeps the order and repetitions of its entries, which a map would hide.
#[derive(Debug, Default)]
pub(super) struct Header {
    metadata: Option<Metadata>,
    tensors: Vec<(String, TensorEntry)>,
    data_start: usize,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor names to their type, shape and offsets")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header::default();
                while let Some(key) = map.next_key::<String>()? {
                    if key != METADATA_KEY {
                        header.tensors.push((key, map.next_value()?));
                    } else if header.metadata.replace(map.next_value()?).is_some() {
                        return Err(A::Error::custom("`__metadata__` occurs twice"));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl Header {
    /// Reads the header of a file from its first bytes, [`HEADER_BYTES_MAX`] + 8 of them or all.
    pub(super) fn read(start: &[u8]) -> Result<Self, Error> {
        Self::parse(start).map_err(|error| match Look::of(start) {
            Some(look) => Error::OtherKind { look },
            None => error,
        })
    }

    /// Bytes of the file up to its data.
    pub(super) fn data_start(&self) -> usize {
        self.data_start
    }

    fn parse(file: &[u8]) -> Result<Self, Error> {
        let Some((length, rest)) = file.split_first_chunk::<8>() else {
            return Err(Error::TooShort { bytes: file.len() });
        };
        let length = u64::from_le_bytes(*length);
        if length > HEADER_BYTES_MAX {
            return Err(Error::HeaderTooLong { bytes: length });
        }
        let text = usize::try_from(length)
            .ok()
            .and_then(|length| rest.get(..length))
            .ok_or(Error::HeaderCutOff { bytes: length, present: rest.len() })?;
        if !text.starts_with(b"{") {
            let error = serde_json::Error::custom("it does not begin with `{`");
            return Err(Error::HeaderNotJson(error));
        }
        let mut header: Self = serde_json::from_slice(text).map_err(Error::HeaderNotJson)?;
        header.data_start = 8 + text.len();
        Ok(header)
    }

    /// The architecture that the file claims to have.
    pub(super) fn architecture(&self) -> Result<Option<Architecture>, Error> {
        let json = self.metadata.as_ref().and_then(|found| found.0.get(ARCHITECTURE_KEY));
        Ok(json.map(|json| Architecture::from_json(json)).transpose()?)
    }

    /// Where the tensors lie, in the order of `specs`; rejects anything but exactly these tensors
    /// without gaps.
    pub(super) fn locate(
        &self,
        specs: &[TensorSpec],
        file_len: usize,
    ) -> Result<Vec<Location>, Error> {
        let mut entries = BTreeMap::new();
        for (name, entry) in &self.tensors {
            if entries.insert(name.as_str(), entry).is_some() {
                return Err(Error::Duplicate { tensor: name.clone() });
            }
        }
        let mut locations = Vec::with_capacity(specs.len());
        for spec in specs {
            let entry = entries
                .remove(spec.name.as_str())
                .ok_or_else(|| missing(&spec.name, entries.keys().copied()))?;
            locations.push(self.location(spec, entry, file_len)?);
        }
        if let Some(name) = entries.keys().next() {
            return Err(Error::Unexpected { tensor: (*name).to_owned() });
        }
        self.check_gaps(specs, &locations, file_len)?;
        Ok(locations)
    }

    fn location(
        &self,
        spec: &TensorSpec,
        entry: &TensorEntry,
        file_len: usize,
    ) -> Result<Location, Error> {
        let tensor = || spec.name.clone();
        let element = ElementType::from_name(&entry.dtype)
            .ok_or_else(|| Error::ElementType { tensor: tensor(), found: entry.dtype.clone() })?;
        if entry.shape != spec.shape {
            return Err(Error::Shape {
                tensor: tensor(),
                expected: spec.shape.clone(),
                found: entry.shape.clone(),
            });
        }
        let [begin, end] = entry.data_offsets;
        if end.checked_sub(begin) != Some(spec.elements() * element.bytes()) {
            return Err(Error::Offsets { tensor: tensor(), begin, end });
        }
        let within = end.checked_add(self.data_start).filter(|&end| end <= file_len);
        let end = within.ok_or_else(|| Error::Truncated { tensor: tensor() })?;
        let begin = begin + self.data_start;
        // Then it can be read in place, on any machine.
        if !begin.is_multiple_of(element.bytes()) {
            return Err(Error::Misaligned { tensor: tensor(), byte: begin });
        }
        Ok(Location { element, begin, end })
    }

    fn check_gaps(
        &self,
        specs: &[TensorSpec],
        locations: &[Location],
        file_len: usize,
    ) -> Result<(), Error> {
        let mut order: Vec<usize> = (0..locations.len()).collect();
        order.sort_by_key(|&index| locations[index].begin);
        let mut expected = self.data_start;
        for index in order {
            let Location { begin, end, .. } = locations[index];
            if begin != expected {
                let (begin, end) = (begin - self.data_start, end - self.data_start);
                let tensor = specs[index].name.clone();
                return Err(Error::GapOrOverlap { tensor, begin, end });
            }
            expected = end;
        }
        if expected != file_len {
            return Err(Error::TrailingBytes { bytes: file_len - expected });
        }
        Ok(())
    }
}

/// The error for a tensor that is not there, unless it is there under a longer name.
fn missing<'a>(tensor: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let tensor = tensor.to_owned();
    for name in names {
        let wrapper = WRAPPERS.iter().find(|(part, _)| name.contains(part) && bare(name) == tensor);
        let prefix = name.strip_suffix(&tensor).filter(|prefix| prefix.ends_with('.'));
        if let Some(extra) = wrapper.map(|(part, _)| *part).or(prefix) {
            let (found, extra) = (name.to_owned(), extra.to_owned());
            return Error::WrappedName { tensor, found, extra };
        }
    }
    Error::Missing { tensor }
}

/// A name without the parts that wrappers add.
fn bare(name: &str) -> String {
    WRAPPERS.iter().fold(name.to_owned(), |name, (part, _)| name.replace(part, ""))
}

/// The first bytes of a file with these tensors in float32: the same bytes for the same
/// architecture.
pub(crate) fn write(architecture: &Architecture) -> Vec<u8> {
    let metadata = serde_json::json!({ ARCHITECTURE_KEY: architecture.to_json(), "format": "pt" });
    let mut text = format!("{{\"__metadata__\":{metadata}");
    let mut begin = 0;
    for TensorSpec { name, shape, .. } in architecture.tensors() {
        let end = begin + shape.iter().product::<usize>() * 4;
        let entry =
            serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, end] });
        text += ",\"";
        text += &name;
        text += "\":";
        text += &entry.to_string();
        begin = end;
    }
    text.push('}');
    framed(text)
}

/// A header as the first bytes of a file: its length, then its text with spaces up to a multiple of
/// eight, so that the data can be read in place as float32.
pub(crate) fn framed(mut text: String) -> Vec<u8> {
    let padded = text.len().next_multiple_of(8);
    text.extend(std::iter::repeat_n(' ', padded - text.len()));
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.into_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_the_largest_architecture_is_not_too_long_to_be_read() {
        let largest =
            Architecture { layers: 256, dim: 8192, heads: 1, ffn: 1 << 15, ..Architecture::v1() };
        largest.check().unwrap();
        let header = write(&largest);
        assert!((header.len() as u64) < HEADER_BYTES_MAX);
    }
}
