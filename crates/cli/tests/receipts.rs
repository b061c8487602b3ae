//! `soma score --receipt` and `soma verify` as processes: what a receipt says on one machine is
//! computed again on another, and whatever was changed is named.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fs;
use std::process::Output;

use serde_json::Value;
use support::{fails, json, last_line, root, soma, stderr};

/// A folder with data, a model and the receipt of its score.
struct Place {
    home: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { home: tempfile::tempdir().unwrap() };
        fs::write(place.at("data"), "to be, or not to be, ".repeat(30)).unwrap();
        for (name, seed) in [("model", "1"), ("other", "2")] {
            let path = place.at(name);
            place.json(&["model", "init", "--arch", "nano", "--seed", seed, "-o", &path]);
        }
        place
    }

    fn with_receipt() -> Self {
        let place = Self::new();
        let [data, model, receipt] = ["data", "model", "receipt"].map(|name| place.at(name));
        place.json(&["score", &data, "-m", &model, "--seed", "9", "--receipt", &receipt]);
        place
    }

    fn at(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        json(self.home.path(), arguments)
    }

    fn verify(&self, data: &str, model: &str, flags: &[&str]) -> Output {
        let [receipt, data, model] = ["receipt", data, model].map(|name| self.at(name));
        let arguments = ["verify", &receipt, "--data", &data, "--model", &model];
        soma(self.home.path(), &[&arguments, flags].concat())
    }

    fn receipt(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.at("receipt")).unwrap()).unwrap()
    }

    /// Replaces a field of the receipt, and verifies it.
    fn verify_with(&self, field: &str, value: Value) -> Output {
        let before = self.receipt();
        let mut changed = before.clone();
        changed[field] = value;
        fs::write(self.at("receipt"), changed.to_string()).unwrap();
        let output = self.verify("data", "model", &["--json"]);
        fs::write(self.at("receipt"), before.to_string()).unwrap();
        output
    }
}

/// The fields that a verification names, which has the exit status 7.
fn differs(output: &Output) -> Vec<String> {
    assert_eq!(output.status.code(), Some(7), "{}", stderr(output));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["code"], "receipt_differs", "{error}");
    let result = last_line(output);
    assert_eq!(result["equal"], false);
    let differences = result["differences"].as_array().unwrap().iter();
    differences.map(|difference| difference["field"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_receipt_has_what_the_score_says_and_is_equal_on_every_kernel_and_thread_count() {
    let place = Place::with_receipt();
    let [data, model] = ["data", "model"].map(|name| place.at(name));
    let line = place.json(&["score", &data, "-m", &model, "--seed", "9"]);
    let (score, receipt) = (&line["scores"][0], place.receipt());
    assert_eq!(receipt["schema"], "receipt/1");
    assert_eq!(receipt["numerics"], 3);
    assert_eq!(receipt["seed"], line["seed"]);
    assert_eq!(receipt["architecture"]["max_seq_len"], 256);
    for field in ["weights_hash", "loss_q32", "embedding_hash", "trace", "bytes"] {
        assert_eq!(receipt[field], score[field], "{field}");
    }
    let hash = blake3::hash(&fs::read(&data).unwrap()).to_hex();
    assert_eq!(receipt["data_hash"], hash.as_str());
    // 630 bytes: two full chunks, of which the first byte is not predicted, and a short one.
    let chunks = receipt["nll"].as_array().unwrap().iter();
    let digits: Vec<usize> = chunks.map(|chunk| chunk.as_str().unwrap().len()).collect();
    assert_eq!(digits, [255 * 8, 255 * 8, 118 * 8]);
    for flags in [&["--kernel", "reference"][..], &["--threads", "1"], &["--threads", "3"]] {
        let output = place.verify("data", "model", &[flags, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{flags:?}: {}", stderr(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), r#"{"equal":true}"#);
    }
    let output = place.verify("data", "model", &[]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), "equal");
}

#[test]
fn one_changed_byte_of_the_data_or_the_weights_is_named() {
    let place = Place::with_receipt();
    let change = |name: &str, at: usize| {
        let mut bytes = fs::read(place.at(name)).unwrap();
        let at = if at == usize::MAX { bytes.len() - 1 } else { at };
        bytes[at] ^= 1;
        fs::write(place.at("changed"), bytes).unwrap();
    };
    for at in [0, 300, usize::MAX] {
        change("data", at);
        assert_eq!(differs(&place.verify("changed", "model", &["--json"])), ["data_hash"]);
    }
    // The first byte of the header's length, one of its text, and one of the weights.
    for at in [0, 9, 40_000] {
        change("model", at);
        assert_eq!(differs(&place.verify("data", "changed", &["--json"])), ["weights_hash"]);
    }
    assert_eq!(differs(&place.verify("data", "other", &["--json"])), ["weights_hash"]);
    fs::write(place.at("changed"), "to be").unwrap();
    let both = place.verify("changed", "other", &["--json"]);
    assert_eq!(differs(&both), ["data_hash", "bytes", "weights_hash"]);
    let said = fails_with_result(&place.verify("changed", "other", &[]));
    assert!(said.contains("data_hash, bytes, weights_hash"), "{said}");
}

/// stderr of a verification that is not equal.
fn fails_with_result(output: &Output) -> String {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("error[receipt_differs]: "), "{said}");
    said
}

#[test]
fn each_changed_field_of_a_receipt_is_named() {
    let place = Place::with_receipt();
    let receipt = place.receipt();
    let flipped = |field: &str| {
        let text = receipt[field].as_str().unwrap();
        let last = if text.ends_with('1') { '2' } else { '1' };
        Value::from(format!("{}{last}", &text[..text.len() - 1]))
    };
    assert_eq!(differs(&place.verify_with("numerics", Value::from(2))), ["numerics"]);
    for field in ["weights_hash", "data_hash", "loss_q32", "embedding_hash", "trace"] {
        assert_eq!(differs(&place.verify_with(field, flipped(field))), [field]);
    }
    let reseeded = place.verify_with("seed", flipped("seed"));
    assert_eq!(differs(&reseeded), ["loss_q32"]);
    assert!(stderr(&reseeded).contains("the receipt's seed, loss_q32 or"), "{reseeded:?}");
    let mut nll = receipt["nll"].clone();
    let chunk = nll[1].as_str().unwrap();
    let digit = if &chunk[56..57] == "0" { "1" } else { "0" };
    nll[1] = Value::from(format!("{}{digit}{}", &chunk[..56], &chunk[57..]));
    let output = place.verify_with("nll", nll);
    assert_eq!(differs(&output), ["nll"]);
    let place_of = &last_line(&output)["differences"][0];
    assert_eq!([&place_of["chunk"], &place_of["position"], &place_of["byte"]], [1, 7, 264]);
    let said = stderr(&output);
    assert!(said.contains("chunk 1, position 7 on, which predicts byte 264"), "{said}");

    // Fewer heads: the weights fit, but they compute something else from the first position on.
    let mut architecture = receipt["architecture"].clone();
    architecture["num_heads"] = Value::from(2);
    let named = differs(&place.verify_with("architecture", architecture.clone()));
    assert_eq!(named, ["nll", "loss_q32", "embedding_hash", "trace"]);
    // More layers than the weights have.
    architecture["num_layers"] = Value::from(5);
    let output = place.verify_with("architecture", architecture);
    assert_eq!(output.status.code(), Some(7));
    assert!(stderr(&output).contains("its architecture was changed"), "{}", stderr(&output));
}

#[test]
fn a_receipt_that_is_cut_foreign_or_of_another_version_is_refused_in_words() {
    let place = Place::with_receipt();
    let whole = fs::read_to_string(place.at("receipt")).unwrap();
    let newer = whole.replace("receipt/1", "receipt/2");
    for (text, code, named) in [
        (&whole[..whole.len() / 2], "receipt_malformed", "it ends in the middle of the receipt"),
        ("", "receipt_malformed", "it ends in the middle of the receipt"),
        ("{\"schema\":\"score/1\"}", "receipt_malformed", "it is not a receipt"),
        ("to be, or not to be", "receipt_malformed", "it is not a receipt"),
        (&whole.replace("\"bytes\":630", "\"bytes\":631"), "receipt_malformed", "`nll`"),
        (&whole.replace("\"seed\"", "\"sead\""), "receipt_malformed", "sead"),
        (&newer, "receipt_schema", "its schema is `receipt/2`"),
    ] {
        fs::write(place.at("receipt"), text).unwrap();
        let said = fails(&place.verify("data", "model", &[]), 7, code);
        assert!(said.contains(named) && said.contains("receipt: "), "{said}");
    }
    fs::remove_file(place.at("receipt")).unwrap();
    fails(&place.verify("data", "model", &[]), 4, "file_not_found");
}

#[test]
fn a_receipt_is_for_one_model_and_one_file_and_is_written_whole_or_not_at_all() {
    let place = Place::new();
    let [data, model, other, receipt] =
        ["data", "model", "other", "receipt"].map(|name| place.at(name));
    let score = |arguments: &[&str]| soma(place.home.path(), &[&["score"], arguments].concat());
    let two_models = score(&[&data, "-m", &model, "-m", &other, "--receipt", &receipt]);
    let said = fails(&two_models, 2, "usage");
    assert!(said.contains("one file and one model, not 1 file and 2 models"), "{said}");
    let said = fails(&score(&[&data, &data, "-m", &model, "--receipt", &receipt]), 2, "usage");
    assert!(said.contains("not 2 files and 1 model"), "{said}");
    let nowhere = place.at("nowhere/receipt");
    fails(&score(&[&data, "-m", &model, "--receipt", &nowhere]), 4, "file_not_found");
    let long = place.at("long");
    fs::File::create(&long).unwrap().set_len((16 << 20) + 1).unwrap();
    let said = fails(&score(&[&long, "-m", &model, "--receipt", &receipt]), 1, "too_large");
    assert!(said.contains("at most 16777216"), "{said}");
    // What was there before stays until the new one is whole.
    fs::write(&receipt, "before").unwrap();
    fails(&score(&[&long, "-m", &model, "--receipt", &receipt]), 1, "too_large");
    assert_eq!(fs::read(&receipt).unwrap(), b"before");
    let folder = place.at("folder");
    fs::create_dir(&folder).unwrap();
    fs::copy(&data, place.at("folder/only")).unwrap();
    assert!(score(&[&folder, "-m", &model, "--receipt", &receipt]).status.success());
    assert_eq!(place.receipt()["schema"], "receipt/1");
    let left = fs::read_dir(place.home.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().ends_with(".tmp")));
}

#[test]
fn each_line_of_the_table_of_what_is_the_same_names_a_test() {
    let guide = fs::read_to_string(root().join("docs/guides/receipts.md")).unwrap();
    let lines: Vec<&str> = guide.lines().filter(|line| line.contains("| equal |")).collect();
    assert!(lines.len() >= 8, "{guide}");
    let mut sources = String::new();
    let folders = ["crates/model", "crates/compete", "crates/cli"].map(|name| root().join(name));
    for file in soma_os::data::find(&folders).files {
        if file.path.extension().is_some_and(|is| is == "rs") {
            sources += &fs::read_to_string(file.path).unwrap();
        }
    }
    for line in lines {
        let name = line.split('`').nth(1).unwrap();
        assert!(sources.contains(&format!("fn {name}(")), "no test of this name: {line}");
    }
}
