//! What can be said of the text for the driver without a card.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::device::{Kernel, Type};

/// What the text depends on, in the order in which it is hashed.
const SOURCES: [&str; 5] = [
    "../../.ci/ptx",
    "cuda/arithmetic.cuh",
    "cuda/functions.cuh",
    "cuda/product.cuh",
    "cuda/kernels.cu",
];

const PTX: &str = include_str!("../../../cuda/kernels.ptx");

/// Operations on floats that are allowed: each is one operation with one rounding to nearest, or
/// exact.
const ALLOWED: [&str; 18] = [
    "add.rn.f32",
    "sub.rn.f32",
    "mul.rn.f32",
    "div.rn.f32",
    "sqrt.rn.f32",
    "fma.rn.f32",
    "add.rn.f64",
    "sub.rn.f64",
    "mul.rn.f64",
    "cvt.rn.f32.u32",
    "cvt.rn.f32.f64",
    "cvt.f64.f32",
    "cvt.rni.f64.f64",
    "mov.f32",
    "mov.f64",
    "selp.f32",
    "max.f32",
    "neg.f32",
];

/// The kernels in which nothing is multiplied and added.
const WITHOUT_FMA: [&str; 4] = ["place_weights", "embed", "transpose", "sum_rows"];

/// The operations of a line, without labels, predicates and braces.
fn operations(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap_or_default();
    code.split([';', '{', '}']).filter_map(|statement| {
        let mut words = statement.split_whitespace().filter(|word| !word.ends_with(':'));
        let first = words.next()?;
        if first.starts_with('@') { words.next() } else { Some(first) }
    })
}

/// Whether an operation computes with floats, of whatever width and number.
fn is_on_floats(operation: &str) -> bool {
    operation.split('.').skip(1).any(|part| {
        let digits = part.trim_start_matches("bf").trim_start_matches("tf");
        let digits = digits.trim_start_matches(['f', 'e']);
        digits.len() < part.len() && digits.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// Whether an operation gives the bits of the definition.
fn is_exact_or_rounded(operation: &str) -> bool {
    let kind = operation.split('.').next().unwrap_or_default();
    let compares = kind == "setp" && operation.split('.').next_back() == Some("f32");
    let moves = matches!(kind, "ld" | "st");
    let never = ["ftz", "approx", "sat", "full", "rz", "rm", "rp"];
    let is_plain = !operation.split('.').any(|part| never.contains(&part));
    is_plain && (!is_on_floats(operation) || compares || moves || ALLOWED.contains(&operation))
}

#[test]
fn a_text_that_was_not_made_from_these_sources_or_was_edited_is_noticed() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut hasher = Sha256::new();
    for name in SOURCES {
        hasher.update(std::fs::read(crate_folder.join(name)).unwrap());
    }
    let sources = hex::encode(hasher.finalize());
    let [_, said_of_sources, said_of_text, text]: [&str; 4] =
        PTX.splitn(4, '\n').collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(said_of_sources, format!("// sources: {sources}"), "run .ci/ptx");
    let text = hex::encode(Sha256::digest(text));
    assert_eq!(said_of_text, format!("// text: {text}"), "run .ci/ptx; do not edit its output");
}

#[test]
fn every_float_operation_in_the_ptx_is_rounded_to_nearest_and_none_is_approximate() {
    let mut kernel = "";
    let mut count = 0;
    for line in PTX.lines() {
        if let Some(entry) = line.strip_prefix(".visible .entry ") {
            kernel = entry.trim_end_matches('(');
        }
        for operation in operations(line) {
            assert!(is_exact_or_rounded(operation), "{kernel}: {line}");
            // Of zeros of both signs, the larger one is not what is defined.
            assert!(operation != "max.f32" || kernel == "functions", "{kernel}: {line}");
            let is_fma = operation.starts_with("fma");
            assert!(!is_fma || !WITHOUT_FMA.contains(&kernel), "{kernel}: {line}");
            count += usize::from(is_fma);
        }
    }
    assert!(count > 1000, "{count}");
}

#[test]
fn an_operation_with_other_bits_is_found_in_every_form() {
    for line in [
        "add.f32 %f1, %f2, %f3;",
        "@%p1 add.f32 %f1, %f2, %f3;",
        "@!%p1 mul.rn.ftz.f32 %f1, %f2, %f3;",
        "$L__BB0_1: mad.rn.f32 %f1, %f2, %f3, %f4;",
        "{ fma.rn.f16x2 %r1, %r2, %r3, %r4; }",
        "fma.rn.f32x2 %rd1, %rd2, %rd3, %rd4;",
        "fma.rn.f64 %fd1, %fd2, %fd3, %fd4;",
        "add.rn.bf16x2 %r1, %r2, %r3;",
        "cvt.rz.f32.f64 %f1, %fd1;",
        "cvt.rna.tf32.f32 %r1, %f1;",
        "cvt.rn.e4m3x2.f32 %rs1, %f1, %f2;",
        "sqrt.approx.f32 %f1, %f2;",
        "div.full.f32 %f1, %f2, %f3;",
        "atom.global.add.f32 %f1, [%rd1], %f2;",
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1}, {%r1}, {%r2}, {%f2};",
        "mov.u32 %r1, %r2; @%p3 add.f32 %f1, %f2, %f3;",
    ] {
        assert!(!operations(line).all(is_exact_or_rounded), "{line}");
    }
    for line in ["@%p1 bra $L__BB0_1;", "add.s64 %rd1, %rd2, 8;", "ld.global.v4.f32 {%f1}, [%rd1];"]
    {
        assert!(operations(line).all(is_exact_or_rounded), "{line}");
    }
}

#[test]
fn the_arguments_of_every_kernel_are_those_of_the_ptx() {
    let parameters = |name: &str| {
        let entry = format!(".visible .entry {name}(");
        let (_, rest) = PTX.split_once(&entry)?;
        let (parameters, _) = rest.split_once(')')?;
        let types = parameters.split(',').map(|parameter| match parameter.trim().get(..10) {
            Some(".param .u3") => Type::U32,
            Some(".param .u6") => Type::U64,
            Some(".param .f3") => Type::F32,
            Some(".param .f6") => Type::F64,
            _ => panic!("{name}: {parameter}"),
        });
        Some(types.collect::<Vec<_>>())
    };
    for (_, name, types) in Kernel::ALL {
        assert_eq!(parameters(name).as_deref(), Some(*types), "{name}");
    }
    assert_eq!(PTX.matches(".visible .entry ").count(), Kernel::ALL.len());
}

#[test]
fn the_ptx_is_for_every_card_from_ampere_on() {
    let lines: Vec<&str> = PTX.lines().collect();
    assert!(lines.contains(&".version 7.0"));
    assert!(lines.contains(&".target sm_80"));
    assert!(PTX.is_ascii());
    assert!(PTX.len() < 1_500_000, "{}", PTX.len());
}
