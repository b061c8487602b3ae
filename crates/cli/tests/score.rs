//! `soma score`, `soma model init` and `soma model check` as processes.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a failed unwrap fails the test, and the numbers are small"
)]

mod support;

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use support::{fails, json, root, soma};

fn vector(name: &str, file: &str) -> String {
    root().join("vectors").join(name).join(file).display().to_string()
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn at(home: &tempfile::TempDir, name: &str) -> String {
    home.path().join(name).display().to_string()
}

fn f32s(bytes: &[u8]) -> Vec<f64> {
    let words = bytes.chunks_exact(4).map(|word| word.try_into().unwrap());
    words.map(|word| f64::from(f32::from_le_bytes(word))).collect()
}

fn f64s(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(8).map(|word| f64::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn the_dump_agrees_with_the_public_implementation_on_every_golden_vector() {
    let home = home();
    for name in ["tiny_text", "tiny_binary", "tiny_one_byte"] {
        let (arch, weights) = (vector(name, "config.json"), vector(name, "weights.safetensors"));
        let (data, dump) = (vector(name, "data.bin"), at(&home, name));
        let arguments = ["score", &data, "--model", &weights, "--arch", &arch, "--dump", &dump];
        let line = json(home.path(), &arguments);

        let (ours, expected) =
            (std::fs::read(&dump).unwrap(), vector(name, "expected.safetensors"));
        let expected = std::fs::read(expected).unwrap();
        let ours = SafeTensors::deserialize(&ours).unwrap();
        let expected = SafeTensors::deserialize(&expected).unwrap();
        for tensor in ["representations", "logits"] {
            let (a, b) = (ours.tensor(tensor).unwrap(), expected.tensor(tensor).unwrap());
            assert_eq!(a.shape(), b.shape());
            let (a, b) = (f32s(a.data()), f64s(b.data()));
            let error: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
            let norm: f64 = b.iter().map(|b| b * b).sum();
            assert!((error / norm).sqrt() < 1e-4, "{name}: {tensor}");
        }
        let cross_entropy = f64s(expected.tensor("cross_entropy").unwrap().data())[0];
        let nll = f32s(ours.tensor("nll").unwrap().data());
        let mean = nll.iter().sum::<f64>() / nll.len() as f64;
        assert!((mean - cross_entropy).abs() < 1e-5, "{name}: {mean} {cross_entropy}");
        let reported = line["scores"][0]["cross_entropy"].as_f64().unwrap();
        assert!((reported - cross_entropy).abs() < 1e-5, "{name}: {reported} {cross_entropy}");
    }
}

#[test]
fn every_kernel_and_thread_count_gives_the_same_integers() {
    let home = home();
    let weights = at(&home, "nano.safetensors");
    json(home.path(), &["model", "init", "--arch", "nano", "--seed", "3", "-o", &weights]);
    let data = root().join("STYLE.md").display().to_string();
    let facts = |flags: &[&str]| {
        let line = json(home.path(), &[&["score", &data, "--model", &weights], flags].concat());
        let score = &line["scores"][0];
        ["loss_q32", "gain_q32", "embedding_hash", "trace"].map(|field| score[field].clone())
    };
    let expected = facts(&["--kernel", "reference"]);
    for threads in ["1", "2", "3"] {
        assert_eq!(facts(&["--threads", threads]), expected, "{threads} threads");
    }
    assert_ne!(facts(&["--seed", "1"])[0], expected[0], "the seed of the directions counts");
}

#[test]
fn the_lowest_cross_entropy_wins_and_every_file_gets_a_line() {
    let home = home();
    let model = |seed: &str| {
        let path = at(&home, &format!("{seed}.safetensors"));
        json(home.path(), &["model", "init", "--arch", "nano", "--seed", seed, "-o", &path]);
        path
    };
    let (one, two) = (model("1"), model("2"));
    let (first, second) = (root().join("STYLE.md"), root().join("README.md"));
    let (first, second) = (first.display().to_string(), second.display().to_string());
    let output =
        soma(home.path(), &["score", &first, &second, "--model", &one, "--model", &two, "--json"]);
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (summary, lines) = lines.split_last().unwrap();
    assert_eq!(summary["schema"], "score_summary/1");
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert_eq!(line["schema"], "score/1");
        let number = |index: usize, field: &str| -> i64 {
            line["scores"][index][field].as_str().unwrap().parse().unwrap()
        };
        let cross_entropy = |index: usize| number(index, "cross_entropy_q32");
        assert_eq!(line["winner"], usize::from(cross_entropy(1) < cross_entropy(0)));
        for index in [0, 1] {
            let (counting, gain) = (number(index, "counting_q32"), number(index, "gain_q32"));
            assert_eq!(cross_entropy(index), counting - gain);
        }
    }
}

#[test]
fn files_of_a_folder_get_a_line_each_in_order_with_the_scores_they_have_alone() {
    let home = home();
    let weights = at(&home, "nano.safetensors");
    let init = ["model", "init", "--arch", "nano", "--seed", "4", "-o", &weights];
    json(home.path(), &init);
    let folder = home.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    // More than one batch, small and large mixed, one of them empty.
    let names: Vec<String> = (0..40).map(|index| format!("{index:02}.txt")).collect();
    for (index, name) in names.iter().enumerate() {
        let bytes = [100, 3, 700, 2000, 1][index % 5] + index % 3;
        let bytes = if index == 1 { 0 } else { bytes };
        let text: Vec<u8> = (0..bytes).map(|i| b"the quick brown fox "[(i * index) % 20]).collect();
        std::fs::write(folder.join(name), text).unwrap();
    }
    let folder = folder.display().to_string();
    let output = soma(home.path(), &["score", &folder, "--model", &weights, "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let said = support::stderr(&output);
    assert!(said.contains("left out: 1 empty"), "{said}");
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (summary, lines) = lines.split_last().unwrap();
    assert_eq!(summary["schema"], "score_summary/1");
    let listed: Vec<_> = lines.iter().map(|line| line["file"].as_str().unwrap()).collect();
    let expected: Vec<_> = names
        .iter()
        .filter(|name| *name != "01.txt")
        .map(|name| format!("{folder}/{name}"))
        .collect();
    assert_eq!(listed, expected);
    for line in lines.iter().step_by(7) {
        let file = line["file"].as_str().unwrap();
        let alone = json(home.path(), &["score", file, "--model", &weights]);
        for field in ["loss_q32", "gain_q32", "loss", "gain", "embedding_hash", "trace", "bytes"] {
            assert_eq!(alone["scores"][0][field], line["scores"][0][field], "{file}");
        }
    }
}

#[test]
fn a_cached_score_is_the_same_and_says_so_and_another_seed_is_computed() {
    let home = home();
    let weights = at(&home, "nano.safetensors");
    let init = ["model", "init", "--arch", "nano", "--seed", "5", "-o", &weights];
    json(home.path(), &init);
    let data = root().join("STYLE.md").display().to_string();
    let score = |flags: &[&str]| {
        let line = json(home.path(), &[&["score", &data, "--model", &weights], flags].concat());
        let mut entry = line["scores"][0].clone();
        let cached = entry.as_object_mut().unwrap().remove("cached");
        entry.as_object_mut().unwrap().remove("seconds");
        (entry, cached.is_some())
    };
    let (computed, cached) = score(&[]);
    assert!(!cached);
    assert_eq!(score(&["--cache"]), (computed.clone(), false));
    assert_eq!(score(&["--cache"]), (computed.clone(), true));
    assert_eq!(score(&[]), (computed.clone(), false));
    let (other, cached) = score(&["--cache", "--seed", "1"]);
    assert!(!cached && other["loss_q32"] != computed["loss_q32"]);
    // The same weights under another architecture are another model.
    let arch = r#"{"embedding_dim":128,"num_heads":4,"num_layers":4,"pwff_hidden_dim":512,
        "vocab_size":264,"max_seq_len":256,
        "sig_reg_slices":256,"sig_reg_points":17,"sig_reg_t_max":3.0,"sig_reg_coefficient":0.5}"#;
    let path = at(&home, "arch.json");
    std::fs::write(&path, arch).unwrap();
    let (other, cached) = score(&["--cache", "--arch", &path]);
    assert!(!cached && other["loss_q32"] != computed["loss_q32"]);
}

#[test]
fn the_engine_s_measurements_are_shares_of_the_machine_s_peak() {
    let home = home();
    let arguments = ["bench", "engine", "--only", "train", "--rounds", "1"];
    let report = json(home.path(), &arguments);
    assert_eq!(report["schema"], "bench/1");
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&report["memory_gb_per_second"]) > 0.0);
    let train = &report["train"][0];
    let peak = number(&report["peak_gflops"]);
    let speed = number(&train["useful_gflop"]) / number(&train["seconds"]);
    assert!((number(&train["of_peak"]) - speed / peak).abs() < 1e-9);
    assert!(number(&train["of_peak"]) > 0.0 && number(&train["of_peak"]) < 1.0);
    // Three times two for each of the matrices' weights and bytes, and causal attention.
    let weights = 4.0 * (4.0 * 128.0 * 128.0 + 2.0 * 128.0 * 512.0) + 128.0 * 264.0;
    let attention = 4.0 * 2.0 * 128.0 * 257.0 / 2.0;
    let expected = 3.0 * 2.0 * 16.0 * 256.0 * (weights + attention) * 1e-9;
    assert!((number(&train["useful_gflop"]) - expected).abs() < 1e-9);
    assert!(report["forward"].as_array().unwrap().is_empty());
}

#[test]
fn the_same_seed_makes_the_same_file_and_check_accepts_it() {
    let home = home();
    let (one, two) = (at(&home, "one"), at(&home, "two"));
    let made = json(home.path(), &["model", "init", "--arch", "nano", "--seed", "7", "-o", &one]);
    json(home.path(), &["model", "init", "--arch", "nano", "--seed", "7", "-o", &two]);
    assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
    let checked = json(home.path(), &["model", "check", &one, "--arch", "nano"]);
    assert_eq!(checked["weights_hash"], made["weights_hash"]);
    assert_eq!(checked["parameters"], made["parameters"]);
    let hash = blake3::hash(&std::fs::read(&one).unwrap()).to_hex().to_string();
    assert_eq!(checked["weights_hash"], hash);
}

/// A safetensors file from its header and its data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn broken(home: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = home.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_malformed_weights_file_is_refused_with_exit_7_and_the_tensor_s_name() {
    let home = home();
    let arch = vector("tiny_one_byte", "config.json");
    let good = std::fs::read(vector("tiny_one_byte", "weights.safetensors")).unwrap();
    let length = usize::try_from(u64::from_le_bytes(good[..8].try_into().unwrap())).unwrap();
    let header = String::from_utf8(good[8..8 + length].to_vec()).unwrap();
    let data = &good[8 + length..];
    let mut nan = good.clone();
    nan[8 + length..12 + length].copy_from_slice(&f32::NAN.to_le_bytes());
    let extra =
        header.replacen('{', r#"{"extra":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"#, 1);
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("truncated", good[..good.len() - 4].to_vec(), "predictor.weight"),
        ("shape", file(&header.replacen("[264,64]", "[264,32]", 1), data), "embedding.weight"),
        (
            "missing",
            file(&header.replacen("final_norm.beta", "final_norm.zeta", 1), data),
            "final_norm",
        ),
        ("extra", file(&extra, data), "extra"),
        ("nan", nan, "embedding.weight"),
        ("huge_header", [&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "header"),
        ("not_safetensors", b"hello, world".to_vec(), "a text file"),
    ];
    for (name, bytes, named) in cases {
        let path = broken(home.path(), name, &bytes);
        let path = path.to_str().unwrap();
        for command in [
            vec!["model", "check", path, "--arch", &arch],
            vec!["score", &arch, "--model", path, "--arch", &arch],
        ] {
            let output = soma(home.path(), &command);
            let said = support::stderr(&output);
            assert_eq!(output.status.code(), Some(7), "{name}: {said}");
            assert!(said.contains(named), "{name}: {said}");
            assert_eq!(said.lines().filter(|line| line.starts_with("error[")).count(), 1, "{said}");
        }
    }
}

#[test]
fn data_that_cannot_be_scored_is_an_error_with_its_own_status() {
    let home = home();
    let weights = at(&home, "nano.safetensors");
    json(home.path(), &["model", "init", "--arch", "nano", "--seed", "1", "-o", &weights]);
    let empty = broken(home.path(), "empty", b"");
    let empty = empty.to_str().unwrap();
    fails(&soma(home.path(), &["score", empty, "--model", &weights]), 1, "empty_data");
    let absent = at(&home, "absent");
    fails(&soma(home.path(), &["score", &absent, "--model", &weights]), 4, "file_not_found");
    fails(&soma(home.path(), &["score", &weights, "--model", &absent]), 4, "file_not_found");
    let unnamed = vector("tiny_text", "weights.safetensors");
    let said =
        fails(&soma(home.path(), &["score", &weights, "--model", &unnamed]), 2, "no_architecture");
    assert!(said.contains("hint: "), "{said}");
    let output = soma(home.path(), &["score", &weights, "--model", &weights, "--kernel", "abacus"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_error_in_json_is_one_line_on_stderr() {
    let home = home();
    let absent = at(&home, "absent");
    let output = soma(home.path(), &["score", &absent, "--model", &absent, "--json"]);
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["code"], "file_not_found");
    assert_eq!(error["error"]["exit"], 4);
    assert!(output.stdout.is_empty());
    let output = soma(home.path(), &["score", "--json"]);
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["code"], "usage");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn many_files_end_with_a_summary_that_names_the_best_model() {
    let home = home();
    let models: Vec<String> = ["1", "2"]
        .map(|seed| {
            let path = at(&home, &format!("model{seed}"));
            let made = soma(
                home.path(),
                &["model", "init", "--arch", "nano", "--seed", seed, "-o", &path],
            );
            assert!(made.status.success());
            path
        })
        .into();
    std::fs::create_dir(home.path().join("folder")).unwrap();
    for (name, length) in [("a", 100), ("b", 300), ("c", 50)] {
        let path = home.path().join("folder").join(name);
        std::fs::write(path, "a text of some length ".repeat(length / 20)).unwrap();
    }
    let folder = at(&home, "folder");
    let arguments = ["score", &folder, "-m", &models[0], "-m", &models[1], "--json"];
    let output = soma(home.path(), &arguments);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [files @ .., summary] = &lines[..] else { panic!("no lines") };
    assert_eq!((files.len(), &summary["schema"]), (3, &Value::from("score_summary/1")));
    let mean = |model: usize| {
        let entries = files.iter().map(|line| &line["scores"][model]);
        let (mut sum, mut bytes) = (0.0, 0.0);
        for entry in entries {
            let weight = entry["bytes"].as_f64().unwrap();
            sum += entry["cross_entropy"].as_f64().unwrap() * weight;
            bytes += weight;
        }
        sum / bytes
    };
    let (first, second) = (mean(0), mean(1));
    assert_eq!(summary["best_model"], usize::from(second < first));
    assert!((summary["models"][0]["cross_entropy"].as_f64().unwrap() - first).abs() < 1e-9);
    let best = |model: usize| summary["models"][model]["best_of"].as_u64().unwrap();
    assert_eq!(best(0) + best(1), 3);
    let single = soma(home.path(), &["score", &at(&home, "folder/a"), "-m", &models[0], "--json"]);
    assert_eq!(String::from_utf8(single.stdout).unwrap().lines().count(), 1);

    let arguments = ["run", "-m", &models[0], "--embed", &folder, "--json"];
    let output = soma(home.path(), &arguments);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = lines.iter().map(|line| line["file"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"].map(|name| format!("{folder}/{name}")));
    assert_eq!(lines[0]["embedding"].as_array().unwrap().len(), 128);
}

/// A folder of three files that are data, of which two have unusual names, and what is none.
#[cfg(unix)]
fn mixed(home: &tempfile::TempDir) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;
    let folder = home.path().join("mixed");
    std::fs::create_dir(&folder).unwrap();
    let text = "the quick brown fox jumps over the lazy dog ".repeat(9);
    std::fs::write(folder.join("a"), &text).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"b\xff");
    // Some file systems only take Unicode.
    if std::fs::write(folder.join(name), &text).is_err() {
        std::fs::write(folder.join("b"), &text).unwrap();
    }
    std::fs::write(folder.join("c\n\u{1b}[31m"), &text).unwrap();
    symlink("nowhere", folder.join("gone")).unwrap();
    std::fs::File::create(folder.join("huge")).unwrap().set_len(1 << 42).unwrap();
    std::fs::write(folder.join(".hidden"), &text).unwrap();
    std::fs::write(folder.join("void"), "").unwrap();
    symlink(".", folder.join("circle")).unwrap();
    folder.display().to_string()
}

#[cfg(unix)]
#[test]
fn one_bad_part_of_a_folder_does_not_spoil_the_whole_in_any_command() {
    let home = home();
    let weights = at(&home, "nano");
    json(home.path(), &["model", "init", "--arch", "nano", "-o", &weights]);
    let folder = mixed(&home);
    let commands: [(&[&str], usize); 3] = [
        (&["score", &folder, "-m", &weights], 4),
        (&["run", "-m", &weights, "--embed", &folder], 3),
        (&["train", "--arch", "nano", "--steps", "1", "--batch", "1", "--data", &folder], 1),
    ];
    for (arguments, lines) in commands {
        let output = soma(home.path(), &[arguments, &["--json"]].concat());
        let said = support::stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("left_out"), "{said}");
        for part in ["gone is left out: ", "huge is left out: ", "1 empty, 1 hidden, 1 links"] {
            assert!(said.contains(part), "{arguments:?} does not say {part:?}:\n{said}");
        }
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(stdout.lines().count(), lines, "{stdout}");
        assert!(!stdout.contains('\u{1b}'));
        for line in stdout.lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
    }
    let text = soma(home.path(), &["score", &folder, "-m", &weights]);
    let stdout = String::from_utf8(text.stdout).unwrap();
    assert!(stdout.contains(&format!("{folder}/c\\u{{a}}\\u{{1b}}[31m\n")), "{stdout}");
    assert!(stdout.contains("left out: 2 that cannot be used, 1 empty, 1 hidden"), "{stdout}");
    let output = soma(home.path(), &["score", &folder, "-m", &weights, "--json"]);
    let summary = support::last_line(&output);
    assert_eq!(summary["files"], 3);
    let codes = summary["left_out"].as_array().unwrap().iter().map(|part| &part["code"]);
    assert_eq!(codes.collect::<Vec<_>>(), ["file_not_found", "no_memory"]);
    // What alone is named is the error itself, and the only one.
    for (name, code, exit) in [("gone", "file_not_found", 4), ("huge", "no_memory", 1)] {
        let said = fails(
            &soma(home.path(), &["score", &format!("{folder}/{name}"), "-m", &weights]),
            exit,
            code,
        );
        assert!(!said.contains("left out"), "{said}");
    }
    let said = fails(&soma(home.path(), &["score", "/dev/zero", "-m", &weights]), 1, "not_a_file");
    assert!(said.contains("it is a device, not a file"), "{said}");
}

#[cfg(unix)]
#[test]
fn weights_that_change_while_they_score_change_no_score() {
    let home = home();
    let weights = at(&home, "weights");
    for (path, seed) in [(&weights, "1"), (&at(&home, "other"), "2")] {
        let arguments = ["model", "init", "--arch", "nano", "--seed", seed, "-o", path];
        assert!(soma(home.path(), &arguments).status.success());
    }
    std::fs::create_dir(home.path().join("folder")).unwrap();
    for index in 0..40 {
        let text = format!("text number {index}; ").repeat(200);
        std::fs::write(home.path().join(format!("folder/{index:02}")), text).unwrap();
    }
    let folder = at(&home, "folder");
    let arguments = ["score", &folder, "-m", &weights, "--json", "--threads", "1"];
    let losses = |stdout: &str| -> Vec<String> {
        let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let losses = lines.filter(|line| line["schema"] == "score/1");
        losses.map(|line| line["scores"][0]["loss_q32"].to_string()).collect()
    };
    let expected = losses(&String::from_utf8(soma(home.path(), &arguments).stdout).unwrap());
    assert_eq!(expected.len(), 40);
    let replace: [&dyn Fn(); 2] =
        [&|| assert!(std::fs::copy(at(&home, "other"), &weights).unwrap() > 0), &|| {
            drop(std::fs::File::create(&weights).unwrap());
        }];
    // Only one run fills the cache: with its scores, the other would compute none.
    for (change, cache) in replace.into_iter().zip([Some("--cache"), None]) {
        let mut command = support::command(home.path());
        command.args(arguments).args(cache).stdout(std::process::Stdio::piped());
        let mut run = command.spawn().unwrap();
        let mut stdout = std::io::BufReader::new(run.stdout.take().unwrap());
        let mut first = String::new();
        std::io::BufRead::read_line(&mut stdout, &mut first).unwrap();
        change();
        let rest = std::io::read_to_string(stdout).unwrap();
        assert!(run.wait().unwrap().success());
        assert_eq!(losses(&(first + &rest)), expected);
        // The next turn begins with the same file.
        let arguments = ["model", "init", "--arch", "nano", "--seed", "1", "-o", &weights];
        assert!(soma(home.path(), &arguments).status.success());
    }
    let cached = soma(home.path(), &[&arguments[..], &["--cache"]].concat());
    let cached = String::from_utf8(cached.stdout).unwrap();
    assert!(cached.contains("\"cached\":true"));
    assert_eq!(losses(&cached), expected, "what is in the cache is right as well");
}
