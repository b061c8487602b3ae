//! Weights files: what is written is read back, and every malformed one is refused with its fault
//! named.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failed unwrap fails the test, and the files are small"
)]

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};
use soma_codes::{Coded as _, Exit};
use soma_model::{
    Architecture, Directions, Engine, Error, KernelChoice, KernelKind, Weights, score,
};

fn small() -> Architecture {
    Architecture {
        name: "custom".to_owned(),
        dim: 16,
        heads: 2,
        layers: 1,
        ffn: 24,
        positions: 16,
        ..Architecture::nano()
    }
}

/// A weights file taken apart, to be changed and put together again.
struct Parts {
    folder: tempfile::TempDir,
    header: Value,
    data: Vec<u8>,
}

impl Parts {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("original.safetensors");
        Weights::init(&small(), [1; 32]).unwrap().save(&path).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        Self { folder, header, data: bytes[8 + length..].to_vec() }
    }

    fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join("changed.safetensors");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn put_together(&self) -> Vec<u8> {
        with_header(&self.header.to_string(), &self.data)
    }

    fn open(&self) -> Result<Weights, Error> {
        Weights::open(&self.write(&self.put_together()), None)
    }

    fn offsets(&self, tensor: &str) -> [usize; 2] {
        serde_json::from_value(self.header[tensor]["data_offsets"].clone()).unwrap()
    }
}

/// A file whose header is padded, so that its data is aligned.
fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let width = header.len().next_multiple_of(8);
    with_exact_header(&format!("{header:<width$}"), data)
}

fn with_exact_header(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

const TENSOR: &str = "encoder.layers.0.attention.query.weight";

#[test]
fn a_saved_file_is_read_back_by_us_and_by_the_safetensors_library() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let weights = Weights::init(&small(), [1; 32]).unwrap();
    weights.save(&path).unwrap();
    let opened = Weights::open(&path, None).unwrap();
    assert_eq!(opened.architecture(), &small());
    assert_eq!(opened.hash(), weights.hash());
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(opened.hash(), *blake3::hash(&bytes).as_bytes());
    let library = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(library.len(), opened.tensors().len());
    for (spec, values) in opened.tensors() {
        let tensor = library.tensor(&spec.name).unwrap();
        assert_eq!(tensor.shape(), spec.shape);
        let expected: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(tensor.data(), expected);
    }
}

#[test]
fn one_seed_gives_one_file_and_another_seed_another() {
    let hash = |seed| Weights::init(&small(), [seed; 32]).unwrap().hash();
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
    let parameters: usize =
        Weights::init(&small(), [1; 32]).unwrap().tensors().map(|(_, values)| values.len()).sum();
    assert_eq!(parameters as u64, small().parameters());
    assert_eq!(Architecture::v1().parameters(), 1_209_684_232);
}

#[test]
fn half_precision_is_widened_exactly_and_small_numbers_are_zero() {
    let mut parts = Parts::new();
    // Finite 16-bit patterns, some of them subnormal, in a tensor of each type.
    let patterns = [0x0000_u16, 0x8000, 0x3c00, 0xbc01, 0x0001, 0x83ff, 0x7bff, 0x3f80];
    let [begin, _] = parts.offsets("final_norm.gamma");
    let tail = parts.data.split_off(begin);
    let half: Vec<u8> = patterns.iter().cycle().take(16).flat_map(|p| p.to_le_bytes()).collect();
    parts.data.extend(&half);
    parts.data.extend(&half);
    parts.data.extend(&tail[2 * 64..]);
    for (name, dtype, shift) in [("final_norm.gamma", "F16", 0), ("final_norm.beta", "BF16", 32)] {
        let offsets = [begin + shift, begin + shift + 32];
        parts.header[name] = json!({ "dtype": dtype, "shape": [16], "data_offsets": offsets });
    }
    for name in ["predictor.weight", "predictor.bias"] {
        let [from, to] = parts.offsets(name);
        parts.header[name]["data_offsets"] = json!([from - 64, to - 64]);
    }
    // Small float32 numbers as well, in a matrix and in a vector.
    let small = [0x2b7f_ffff_u32, 0x2b80_0000, 1, 0x8000_0000, 0xab7f_ffff, 0xab80_0000];
    let [bias, _] = parts.offsets("predictor.bias");
    for (index, bits) in small.iter().enumerate() {
        for at in [index * 4, bias + index * 4] {
            parts.data[at..at + 4].copy_from_slice(&bits.to_le_bytes());
        }
    }
    let weights = parts.open().unwrap();
    let values = |name: &str| {
        let found = weights.tensors().find(|(spec, _)| spec.name == name);
        found.unwrap().1.to_vec()
    };
    let two_to_24 = 16_777_216.0_f32;
    let expected = [
        0.0,
        0.0,
        1.0,
        -(1.0 + 1.0 / 1024.0),
        1.0 / two_to_24,
        -1023.0 / two_to_24,
        65504.0,
        1.875,
    ];
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&values("final_norm.gamma")[..8]), bits(&expected));
    let widened = patterns.map(|p| f32::from_bits(u32::from(p) << 16));
    let expected = widened.map(|v| if v.abs() < 1e-12 { 0.0 } else { v });
    assert_eq!(bits(&values("final_norm.beta")[..8]), bits(&expected));
    for name in ["embedding.weight", "predictor.bias"] {
        let expected = [0, 0x2b80_0000, 0, 0, 0, 0xab80_0000];
        assert_eq!(bits(&values(name)[..6]), expected, "{name}");
    }
}

#[test]
fn a_file_with_small_numbers_scores_like_one_that_has_zeros_instead() {
    let mut parts = Parts::new();
    let directions = Directions::new(&small(), [0; 32]);
    let report = |parts: &Parts| {
        let weights = parts.open().unwrap();
        let kinds = KernelKind::ALL.into_iter().filter(|kind| kind.is_available());
        kinds
            .map(|kind| {
                let engine = Engine::new(KernelChoice::Kind(kind), 1).unwrap();
                score(&engine, &weights, b"a short text", &directions).unwrap()
            })
            .collect::<Vec<_>>()
    };
    let mut with = |numbers: [f32; 3]| {
        for (index, number) in parts.data.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            if index % 5 == 1 {
                *number = numbers[index % 3].to_le_bytes();
            }
        }
        report(&parts)
    };
    let expected = with([0.0; 3]);
    assert_eq!(with([1e-44, -9e-13, -0.0]), expected);
    assert_ne!(with([1e-3, 1e-3, 1e-3]), expected);
}

#[test]
fn a_tensor_that_cannot_be_read_in_place_is_refused_and_named() {
    // Shifted by one byte, or by two where elements have four.
    for (types, pad) in [(["F32"], 1), (["F32"], 2), (["F16"], 1), (["BF16"], 3)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, mixed(&small(), &types, [1; 32], pad)).unwrap();
        let error = Weights::open(&path, Some(&small())).unwrap_err();
        assert!(matches!(&error, Error::Misaligned { tensor, byte }
            if tensor == "embedding.weight" && byte % 4 == pad));
        assert_eq!(error.code().as_str(), "weights_misaligned");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    std::fs::write(&path, mixed(&small(), &["BF16"], [1; 32], 2)).unwrap();
    Weights::open(&path, Some(&small())).unwrap();
}

/// A file of random weights whose tensors are of these types in turn, float32 first so that all are
/// aligned; `pad` bytes move all of them.
fn mixed(architecture: &Architecture, types: &[&str], seed: [u8; 32], pad: usize) -> Vec<u8> {
    let weights = Weights::init(architecture, seed).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    let mut tensors: Vec<_> = weights.tensors().zip(types.iter().cycle()).collect();
    tensors.sort_by_key(|(_, dtype)| **dtype != "F32");
    for ((spec, values), dtype) in tensors {
        let begin = data.len();
        for (index, value) in values.iter().enumerate() {
            // Some subnormal in the file's own type, and some zeros of both signs.
            match (*dtype, index % 7) {
                ("F32", _) => data.extend(value.to_le_bytes()),
                (_, 3) => data.extend([index.to_le_bytes()[0], 0x80]),
                ("BF16", _) => data.extend(&value.to_le_bytes()[2..]),
                // Sign and low bits of the value at the exponents of about a tenth.
                _ => data.extend(((value.to_bits() >> 16 & 0x83ff) as u16 | 0x2c00).to_le_bytes()),
            }
        }
        let entry =
            json!({ "dtype": dtype, "shape": spec.shape, "data_offsets": [begin, data.len()] });
        header.insert(spec.name.clone(), entry);
    }
    let text = serde_json::Value::Object(header).to_string();
    let width = text.len().next_multiple_of(8) + pad;
    with_exact_header(&format!("{text:<width$}"), &data)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn weights_of_half_precision_give_the_scores_of_their_float32_copy(
        (heads, half, ffn, positions) in (1..4_u32, 1..20_u32, 1..300_u32, 2..40_u32),
        types in prop::sample::subsequence(vec!["F16", "F32", "BF16"], 1..4),
        seed in any::<[u8; 32]>(),
        data in prop::collection::vec(any::<u8>(), 1..100),
    ) {
        let architecture = Architecture {
            dim: heads * half * 2,
            heads,
            layers: 2,
            ffn,
            positions,
            ..Architecture::nano()
        };
        let folder = tempfile::tempdir().unwrap();
        let (path, wide) = (folder.path().join("half"), folder.path().join("wide"));
        std::fs::write(&path, mixed(&architecture, &types, seed, 0)).unwrap();
        let weights = Weights::open(&path, Some(&architecture)).unwrap();
        weights.save(&wide).unwrap();
        let wide = Weights::open(&wide, None).unwrap();
        let directions = Directions::new(&architecture, seed);
        let score = |kind, weights| {
            let engine = Engine::new(kind, 2).unwrap();
            score(&engine, weights, &data, &directions).unwrap()
        };
        let reference = KernelChoice::Kind(KernelKind::Reference);
        let expected = score(reference, &wide);
        prop_assert_eq!(&score(KernelChoice::Auto, &weights), &expected);
        prop_assert_eq!(&score(reference, &weights), &expected);
        for ((_, values), (spec, expected)) in weights.tensors().zip(wide.tensors()) {
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&values), bits(&expected), "{}", spec.name);
        }
    }
}

#[test]
fn a_half_that_is_not_finite_is_refused_by_name_and_place() {
    for (types, bits) in [(["F16"], 0x7c00_u16), (["F16"], 0xfe01), (["BF16"], 0xff80)] {
        for pad in [0, 2] {
            let mut bytes = mixed(&small(), &types, [1; 32], pad);
            let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let text: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
            let begin = text[TENSOR]["data_offsets"][0].as_u64().unwrap() as usize;
            let at = header + begin + 2 * 5;
            bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("weights");
            std::fs::write(&path, bytes).unwrap();
            match Weights::open(&path, Some(&small())).unwrap_err() {
                Error::NonFiniteWeight { tensor, index } => {
                    assert_eq!((tensor.as_str(), index), (TENSOR, 5));
                }
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn files_that_are_not_safetensors_are_refused() {
    let parts = Parts::new();
    let open = |bytes: &[u8]| Weights::open(&parts.write(bytes), None).unwrap_err();
    assert!(matches!(open(b""), Error::TooShort { bytes: 0 }));
    assert!(matches!(open(b"\0soma"), Error::TooShort { bytes: 5 }));
    assert!(matches!(open(b"\xff\x03\x04 some other file"), Error::HeaderTooLong { .. }));
    assert!(matches!(open(&(1_u64 << 21).to_le_bytes()), Error::HeaderTooLong { .. }));
    assert!(matches!(open(&with_header("not json", b"")), Error::HeaderNotJson(_)));
    assert!(matches!(open(&with_header("[1, 2]", b"")), Error::HeaderNotJson(_)));
    assert!(matches!(open(&parts.put_together()[..100]), Error::HeaderCutOff { .. }));
    assert!(matches!(open(&with_header("{}", b"")), Error::NoArchitecture));
    let missing = parts.folder.path().join("nothing");
    assert!(matches!(Weights::open(&missing, None), Err(Error::Io { .. })));
}

#[test]
fn a_file_of_another_kind_is_named_with_what_to_do() {
    let parts = Parts::new();
    for (bytes, words, hint) in [
        (b"<!DOCTYPE html><title>403</title>".as_slice(), "an HTML page", "not the page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
        (b"{\"error\":\"Repository not found\"}", "JSON", "the download"),
        (b"PK\x03\x04", "torch.save", "safetensors"),
        (b"soma", "a text file", "path"),
    ] {
        let error = Weights::open(&parts.write(bytes), None).unwrap_err();
        assert!(error.to_string().contains(words) && error.hint().contains(hint), "{error}");
        assert_eq!(error.exit(), Exit::Verification);
    }
    let error = Weights::open(parts.folder.path(), None).unwrap_err();
    assert!(matches!(&error, Error::NotAFile { kind: "a folder", .. }), "{error}");
    let device = std::path::Path::new("/dev/zero");
    if device.exists() {
        assert!(matches!(Weights::open(device, None), Err(Error::NotAFile { .. })));
    }
}

#[test]
fn a_header_that_other_readers_refuse_is_refused() {
    let parts = Parts::new();
    let header = parts.header.to_string();
    let metadata = parts.header["__metadata__"].to_string();
    let twice = header.replacen('{', &format!("{{\"__metadata__\":{metadata},"), 1);
    let key_twice = header.replacen("\"format\"", "\"format\":\"pt\",\"format\"", 1);
    for (header, words) in [
        (twice, "`__metadata__` occurs twice"),
        (key_twice, "has `format` twice"),
        (format!(" {header}"), "does not begin with `{`"),
        (header.replacen("\"F32\"", "\"F32\",\"dtype\":\"F32\"", 1), "dtype"),
        (header.replacen("[0,", "[0.0,", 1), "0.0"),
    ] {
        let error = Weights::open(&parts.write(&with_header(&header, &parts.data)), None);
        let error = error.unwrap_err();
        let Error::HeaderNotJson(cause) = &error else { panic!("{error}") };
        assert!(cause.to_string().contains(words), "{cause}");
    }
}

#[test]
fn names_that_a_wrapper_changed_are_told_with_the_wrapper() {
    for (change, extra) in [
        ("_orig_mod.NAME", "_orig_mod."),
        ("module.NAME", "module."),
        ("net.NAME", "net."),
        ("module._orig_mod.NAME", "_orig_mod."),
    ] {
        let mut parts = Parts::new();
        let named = parts.header.as_object().unwrap().iter().map(|(name, entry)| {
            let longer = change.replace("NAME", name);
            (if name == "__metadata__" { name.clone() } else { longer }, entry.clone())
        });
        parts.header = Value::Object(named.collect());
        let error = parts.open().unwrap_err();
        let Error::WrappedName { tensor, found, extra: named } = &error else { panic!("{error}") };
        assert_eq!(found, &change.replace("NAME", tensor));
        assert_eq!(named, extra);
        assert!(error.to_string().contains(extra), "{error}");
    }
    // Layers that were compiled one by one.
    let mut parts = Parts::new();
    let entry = parts.header.as_object_mut().unwrap().remove(TENSOR).unwrap();
    parts.header[TENSOR.replace("layers.0.", "layers.0._orig_mod.")] = entry;
    assert!(matches!(parts.open(), Err(Error::WrappedName { tensor, .. }) if tensor == TENSOR));
}

#[test]
fn what_happens_to_a_file_after_it_was_opened_changes_no_score() {
    let parts = Parts::new();
    let path = parts.write(&parts.put_together());
    let directions = Directions::new(&small(), [0; 32]);
    let engine = Engine::new(KernelChoice::Auto, 2).unwrap();
    let weights = Weights::open(&path, None).unwrap();
    let report = || score(&engine, &weights, b"a short text", &directions).unwrap();
    let (expected, hash) = (report(), weights.hash());
    let other = Weights::init(&small(), [2; 32]).unwrap();
    let changes: [&dyn Fn(); 3] = [
        // Replaced in place, cut, and put there again.
        &|| {
            let elsewhere = parts.folder.path().join("other");
            other.save(&elsewhere).unwrap();
            std::fs::copy(&elsewhere, &path).unwrap();
        },
        &|| drop(std::fs::File::create(&path).unwrap()),
        &|| other.save(&path).unwrap(),
    ];
    for change in changes {
        change();
        assert_eq!(report(), expected);
        assert_eq!(weights.hash(), hash);
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_never_taken_for_what_it_was() {
    let parts = Parts::new();
    let path = parts.write(&parts.put_together());
    let whole = std::fs::read(&path).unwrap();
    let mut other = whole.clone();
    *other.last_mut().unwrap() ^= 1;
    // What the loop below asks for happens after the header was read.
    for (content, same_length) in [(&whole[..whole.len() / 2], false), (&other[..], true)] {
        std::fs::write(&path, &whole).unwrap();
        let change = || {
            // Another time, however coarse the clock of the file system is.
            std::fs::write(&path, content).unwrap();
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
            true
        };
        let error = Weights::open_while(&path, None, &change).unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{same_length}: {error}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(Weights::open_while(&path, None, &|| false).unwrap().is_none());
}

#[test]
fn a_tensor_that_is_missing_extra_or_twice_is_named() {
    let mut parts = Parts::new();
    let entry = parts.header[TENSOR].clone();
    parts.header.as_object_mut().unwrap().remove(TENSOR);
    assert!(matches!(parts.open(), Err(Error::Missing { tensor }) if tensor == TENSOR));
    parts.header[TENSOR] = entry.clone();
    parts.header["encoder.layers.1.norm_1.beta"] = entry.clone();
    let error = parts.open().unwrap_err();
    assert!(error.to_string().contains("encoder.layers.1.norm_1.beta"), "{error}");
    assert!(matches!(error, Error::Unexpected { .. }));

    let parts = Parts::new();
    let twice = parts.header.to_string().replacen('{', &format!("{{\"{TENSOR}\":{entry},"), 1);
    let path = parts.write(&with_header(&twice, &parts.data));
    assert!(
        matches!(Weights::open(&path, None), Err(Error::Duplicate { tensor }) if tensor == TENSOR)
    );
}

#[test]
fn a_tensor_of_another_shape_or_type_is_named() {
    let mut parts = Parts::new();
    parts.header[TENSOR]["shape"] = json!([8, 32]);
    assert!(matches!(
        parts.open(),
        Err(Error::Shape { tensor, found, .. }) if tensor == TENSOR && found == [8, 32]
    ));
    parts.header[TENSOR]["shape"] = json!([16, 16]);
    parts.header[TENSOR]["dtype"] = json!("F64");
    assert!(matches!(parts.open(), Err(Error::ElementType { tensor, .. }) if tensor == TENSOR));
}

#[test]
fn offsets_that_overlap_leave_gaps_or_lie_outside_are_refused() {
    let mut parts = Parts::new();
    let [begin, end] = parts.offsets(TENSOR);
    parts.header[TENSOR]["data_offsets"] = json!([begin, end - 4]);
    assert!(matches!(parts.open(), Err(Error::Offsets { tensor, .. }) if tensor == TENSOR));
    // An odd number of bytes does not hold a whole number of weights.
    parts.header[TENSOR]["data_offsets"] = json!([begin, end - 1]);
    assert!(matches!(parts.open(), Err(Error::Offsets { tensor, .. }) if tensor == TENSOR));
    parts.header[TENSOR]["data_offsets"] = json!([end, begin]);
    assert!(matches!(parts.open(), Err(Error::Offsets { .. })));
    parts.header[TENSOR]["data_offsets"] = json!([begin - 4, end - 4]);
    assert!(matches!(parts.open(), Err(Error::GapOrOverlap { .. })));
    let far = usize::MAX / 2;
    parts.header[TENSOR]["data_offsets"] = json!([far, far + end - begin]);
    assert!(matches!(parts.open(), Err(Error::Truncated { tensor }) if tensor == TENSOR));
    parts.header[TENSOR]["data_offsets"] = json!([begin, end]);
    assert!(parts.open().is_ok());
    parts.data.extend([0; 4]);
    assert!(matches!(parts.open(), Err(Error::TrailingBytes { bytes: 4 })));
    parts.data.truncate(parts.data.len() - 8);
    assert!(matches!(parts.open(), Err(Error::Truncated { tensor }) if tensor == "predictor.bias"));
}

#[test]
fn a_weight_that_is_not_finite_is_named_with_its_place() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut parts = Parts::new();
        let [begin, _] = parts.offsets(TENSOR);
        parts.data[begin + 40..begin + 44].copy_from_slice(&value.to_le_bytes());
        let error = parts.open().unwrap_err();
        assert!(matches!(&error, Error::NonFiniteWeight { tensor, index: 10 } if tensor == TENSOR));
        assert_eq!(error.exit(), Exit::Verification);
    }
}
