//! `soma localnet` and the commands against it, as processes: state survives `kill -9`, errors are
//! clear, and a competition runs from random weights to payment.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

#[path = "support/liar.rs"]
mod liar;
mod support;

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use serde_json::Value;
use support::{Process, command, fails, json, last_line, root, soma, stderr};

const PATIENCE: Duration = Duration::from_mins(2);

/// A network in its own process, killed when the test is over.
struct Network {
    process: Process,
    home: PathBuf,
    url: String,
}

impl Network {
    fn start(home: &Path, flags: &[&str]) -> Self {
        Self::start_at(home, "0", flags)
    }

    fn start_at(home: &Path, port: &str, flags: &[&str]) -> Self {
        let info = home.join("info.json");
        let _ = std::fs::remove_file(&info);
        let path = info.to_str().unwrap();
        let arguments = [&["localnet", "--port", port, "--info-out", path], flags].concat();
        let child = command(home)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut process = Process(child);
        let begun = Instant::now();
        while !info.is_file() {
            assert!(process.0.try_wait().unwrap().is_none(), "the network did not start");
            assert!(begun.elapsed() < PATIENCE, "the network took too long to start");
            std::thread::sleep(Duration::from_millis(50));
        }
        let info: Value = serde_json::from_slice(&std::fs::read(&info).unwrap()).unwrap();
        let url = info["urls"][0].as_str().unwrap().to_owned();
        Self { process, home: home.to_owned(), url }
    }

    fn kill(mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    fn json(&self, arguments: &[&str]) -> Value {
        json(&self.home, &[arguments, &["--url", &self.url]].concat())
    }

    fn run(&self, arguments: &[&str]) -> std::process::Output {
        soma(&self.home, &[arguments, &["--url", &self.url]].concat())
    }

    fn next(&self) -> Value {
        self.json(&["localnet", "next"])
    }

    /// Ends phases until `phase`.
    fn turn_to(&self, phase: &str) {
        while self.json(&["status"])["clock"]["phase"] != phase {
            self.next();
        }
    }
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn units(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn a_network_that_is_killed_during_an_epoch_continues_where_it_stopped() {
    let home = home();
    let network = Network::start(home.path(), &["--epoch", "manual"]);
    let to = network.json(&["keys", "show", "account-2"])["address"].as_str().unwrap().to_owned();
    network.turn_to("compete");
    network.json(&["send", &to, "12.5", "--key", "account-1"]);
    let sent = network.json(&["balance", "--key", "account-1"]);
    let height = units(&network.json(&["status"])["height"]);
    network.kill();

    let network = Network::start(home.path(), &[]);
    let status = network.json(&["status"]);
    assert!(units(&status["height"]) >= height);
    assert_eq!(status["clock"]["phase"], "compete");
    assert_eq!(status["supply"]["conserved"], true);
    assert_eq!(network.json(&["balance", "--key", "account-1"]), sent);
    let received = network.json(&["balance", &to]);
    assert_eq!(units(&received["balance"]), 10_012_500_000_000);
    network.json(&["send", &to, "1", "--key", "account-1"]);
    let reset = soma(home.path(), &["localnet", "--port", "0", "--reset"]);
    fails(&reset, 1, "state_in_use");
    assert!(units(&network.json(&["status"])["height"]) > height);
}

#[test]
fn epochs_end_by_themselves_and_a_stopped_network_exits_with_success() {
    let home = home();
    let mut network = Network::start(home.path(), &["--epoch", "1s"]);
    let begun = Instant::now();
    while network.json(&["status"])["clock"]["epoch"].as_u64() < Some(3) {
        assert!(begun.elapsed() < PATIENCE);
    }
    let pid = network.process.0.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(network.process.0.wait().unwrap().code(), Some(0));
}

#[test]
fn top_prints_lines_until_a_signal_or_until_the_pipe_is_closed() {
    let home = home();
    let network = Network::start(home.path(), &["--epoch", "1h"]);
    let watch = |flags: &[&str]| {
        let arguments = [&["top", "--every", "100ms", "--url", &network.url], flags].concat();
        let mut child = command(home.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines.map(Result::unwrap))
    };

    let (mut top, mut lines) = watch(&["--json"]);
    let first: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert!(first["transactions_per_second"].is_null());
    assert_eq!(first["clock"]["epoch"], 1);
    let to = network.json(&["keys", "show", "faucet"])["address"].clone();
    network.json(&["send", to.as_str().unwrap(), "1", "--key", "account-1"]);
    let sees = |line: String| {
        let look: Value = serde_json::from_str(&line).unwrap();
        look["transactions_per_second"].as_f64() > Some(0.0) && units(&look["phase_left_ms"]) > 0
    };
    assert!(lines.by_ref().take(100).any(sees), "the transfer is seen");
    let pid = top.id().to_string();
    let interrupted = std::process::Command::new("kill").args(["-INT", &pid]).status();
    assert!(interrupted.unwrap().success());
    assert_eq!(top.wait().unwrap().code(), Some(0));
    assert!(lines.all(|line| serde_json::from_str::<Value>(&line).is_ok()));

    let (mut top, mut lines) = watch(&[]);
    let line = lines.next().unwrap();
    assert!(line.contains("epoch 1 reveal") && !line.contains('\u{1b}'), "{line}");
    drop(lines);
    assert_eq!(top.wait().unwrap().code(), Some(0), "the pipe is closed");

    let address = to.as_str().unwrap();
    for (view, field) in [("models", "models"), ("targets", "targets"), ("mine", "account")] {
        let (mut top, mut lines) = watch(&["--json", "--view", view, "--account", address]);
        let look: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
        assert_eq!(look["view"], view);
        assert!(!look[field].is_null(), "{look}");
        top.kill().unwrap();
        top.wait().unwrap();
    }
    let no_log = soma(home.path(), &["top", "--view", "training", "--url", &network.url]);
    fails(&no_log, 2, "usage");

    let nowhere = soma(home.path(), &["top", "--url", "http://127.0.0.1:1"]);
    fails(&nowhere, 6, "network");
}

#[test]
fn the_doctor_accepts_a_healthy_node_and_names_each_problem_of_an_unhealthy_one() {
    let home = home();
    let network = Network::start(home.path(), &["--epoch", "1h"]);
    // The disk of this machine may be almost full, which is a problem that it tells.
    let checks = last_line(&network.run(&["doctor", "--json"]));
    let named = |checks: &Value, name: &str| -> Vec<(bool, String)> {
        let all = checks.as_array().unwrap().iter();
        let wanted = all.filter(|check| check["name"] == name);
        wanted.map(|check| (check["ok"] == true, check["found"].to_string())).collect()
    };
    for name in ["kernels", "keys", "clock"] {
        assert!(matches!(&named(&checks, name)[..], [(true, _)]), "{name}: {checks}");
    }
    assert_eq!(named(&checks, "disk").len(), 1, "{checks}");
    assert!(named(&checks, "clock")[0].1.contains("not behind block"));

    let dir = home.path().join("node");
    let dir = dir.to_str().unwrap();
    let genesis = home.path().join("localnet/genesis.json");
    let peer = format!("{}@127.0.0.1:1", "cd".repeat(32));
    let mut init = vec!["node", "init", "--dir", dir, "--genesis", genesis.to_str().unwrap()];
    init.extend(["--api", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--peer", &peer]);
    json(home.path(), &init);
    let sick = network.run(&["doctor", "--dir", dir, "--json"]);
    assert_eq!(sick.status.code(), Some(1));
    let checks = last_line(&sick);
    assert!(matches!(&named(&checks, "peer")[..], [(false, _)]), "nobody listens there: {checks}");
    assert!(matches!(&named(&checks, "folder")[..], [(true, _)]));
    assert!(stderr(&sick).contains("unhealthy"));

    std::fs::write(home.path().join("node/config.toml"), "api = 5\n").unwrap();
    let sick = network.run(&["doctor", "--dir", dir, "--json"]);
    assert!(matches!(&named(&last_line(&sick), "folder")[..], [(false, _)]));
    #[cfg(unix)]
    {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(home.path().join("node/keys/consensus.json"), open).unwrap();
        let sick = network.run(&["doctor", "--dir", dir, "--json"]);
        let found = named(&last_line(&sick), "keys");
        assert!(found.iter().any(|(ok, _)| !ok), "others can read a key: {found:?}");
    }
}

#[test]
fn a_used_port_another_network_s_folder_and_an_absent_node_are_clear_errors() {
    let home = home();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = fails(&soma(home.path(), &["localnet", "--port", &port]), 1, "port_in_use");
    assert!(said.contains(&port) && said.contains("hint: "), "{said}");

    let other = soma(home.path(), &["localnet", "--port", &port, "--seed", "5"]);
    assert_ne!(other.status.code(), Some(0));
    let said =
        fails(&soma(home.path(), &["localnet", "--port", "0", "--seed", "6"]), 3, "other_network");
    assert!(said.contains("--reset"), "{said}");

    let folder = home.path().join("precious");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "data").unwrap();
    let folder = folder.to_str().unwrap();
    fails(&soma(home.path(), &["localnet", "--state", folder, "--reset"]), 3, "not_a_localnet");
    assert!(Path::new(folder).join("file").exists());

    drop(taken);
    let url = format!("http://127.0.0.1:{port}");
    let said = fails(&soma(home.path(), &["status", "--url", &url]), 6, "network");
    assert!(said.contains("hint: "), "{said}");
    fails(&soma(home.path(), &["status", "--url", "nonsense"]), 2, "bad_url");
}

#[test]
fn keys_are_encrypted_never_overwritten_and_never_printed() {
    let home = home();
    let passphrase = home.path().join("passphrase");
    std::fs::write(&passphrase, "correct horse battery\n").unwrap();
    let flags = ["--passphrase-file", passphrase.to_str().unwrap()];
    let made = json(home.path(), &[&["keys", "new"][..], &flags].concat());
    let file = made["file"].as_str().unwrap();
    assert_eq!(made["encrypted"], true);
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(file).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
    let before = std::fs::read(file).unwrap();
    fails(&soma(home.path(), &[&["keys", "new"][..], &flags].concat()), 3, "key_exists");
    assert_eq!(std::fs::read(file).unwrap(), before);
    fails(&soma(home.path(), &["keys", "new", "other"]), 3, "passphrase_needed");
    let listed = json(home.path(), &["keys", "list"]);
    assert_eq!(listed[0]["address"], made["address"]);
    fails(&soma(home.path(), &["keys", "show", "nobody"]), 3, "key_missing");
}

/// Small enough for a debug build, large enough to compete.
const ARCH: &str = r#"{"embedding_dim":32,"num_heads":2,"num_layers":1,"pwff_hidden_dim":64,
    "vocab_size":264,"max_seq_len":64,"sig_reg_slices":16,
    "sig_reg_points":17,"sig_reg_t_max":3.0}"#;

impl Network {
    /// Two models of random weights, registered and committed by their owners.
    fn commit_two_models(&self, arch: &str, domain: [&str; 2]) {
        for (owner, seed) in [("account-1", "1"), ("account-2", "2")] {
            let weights = self.home.join(format!("{seed}.safetensors"));
            let weights = weights.to_str().unwrap();
            self.json(&["model", "init", "--arch", arch, "--seed", seed, "-o", weights]);
            self.json(&["model", "register", "owl", "--stake", "10", "--key", owner]);
            let commit = ["model", "commit", weights, "--key", owner, "--domain"];
            let committed = self.json(&[&commit[..], &domain].concat());
            assert_eq!(committed["reveal_epoch"], 2);
        }
    }

    /// Reveals both in epoch 2.
    fn reveal_two_models(&self) {
        self.turn_to("compete");
        self.next();
        for owner in ["account-1", "account-2"] {
            assert!(self.run(&["model", "reveal", "--key", owner]).status.success());
        }
        self.turn_to("compete");
    }

    /// Begins to submit data, and waits until it is committed. It counts from the next epoch on.
    fn begin_to_submit(&self, data: &str, url: &str, flags: &[&str]) -> Child {
        let submit = ["submit", data, "--key", "account-3", "--json", "-q", "--url", url];
        let submit = [&submit[..], flags].concat();
        let submitting = command(&self.home).args(submit).stdout(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while self.json(&["balance", "--key", "account-3"])["next_corpus"].is_null() {
            assert!(begun.elapsed() < PATIENCE, "nothing was committed");
        }
        submitting
    }

    /// Waits for submissions in epoch 2, and ends phases until its targets are settled. The waiting
    /// command sends publications in the reveal phase of epoch 3.
    fn submit_until_settled(&self, submitting: Child) -> Value {
        let begun = Instant::now();
        let targets = || self.json(&["target", "list", "--epoch", "2"]);
        while targets()[3]["candidates"][0].is_null() {
            assert!(begun.elapsed() < PATIENCE, "nothing was submitted");
        }
        let mut fetched = None;
        loop {
            assert!(begun.elapsed() < PATIENCE, "the epochs did not turn");
            let clock = self.json(&["status"])["clock"].clone();
            if clock["epoch"] == 4 {
                break;
            }
            let targets = targets();
            fetched = fetched.or_else(|| self.fetch_data(targets.as_array().unwrap()));
            let awaited = targets.as_array().unwrap().iter().any(|t| t["publication"].is_null());
            if !(clock["epoch"] == 3 && clock["phase"] == "reveal" && awaited) {
                self.next();
            }
        }
        // A node keeps what was published until it is settled.
        let id = fetched.unwrap();
        fails(&self.run(&["target", "data", &id]), 4, "data_not_found");
        let output = submitting.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        last_line(&output)
    }

    /// Downloads the data of the first target for which some is published; returns its number.
    fn fetch_data(&self, targets: &[Value]) -> Option<String> {
        let target = targets.iter().find(|target| !target["publication"].is_null())?;
        let id = target["id"].to_string();
        let path = self.home.join("published").display().to_string();
        let fetched = self.json(&["target", "data", &id, "-o", &path]);
        let hash = blake3::hash(&std::fs::read(&path).unwrap()).to_hex().to_string();
        assert_eq!(fetched["data_hash"], hash);
        assert_eq!(target["publication"]["data_hash"], hash);
        Some(id)
    }
}

/// The integers of a safetensors file of embeddings, the names of its files, and the weights.
fn embeddings(path: &Path) -> (Vec<Vec<i16>>, Vec<String>, String) {
    let file = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let tensor = tensors.tensor("embeddings").unwrap();
    let values = tensor.data().chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
    let values: Vec<i16> = values.collect();
    let rows = values.chunks(tensor.shape()[1]).map(<[i16]>::to_vec).collect();
    let (_, metadata) = SafeTensors::read_metadata(&file).unwrap();
    let metadata = metadata.metadata().clone().unwrap();
    let names = serde_json::from_str(&metadata["files"]).unwrap();
    (rows, names, metadata["weights_hash"].clone())
}

#[test]
fn find_ranks_public_models_as_score_does_and_embed_uses_the_best() {
    let home = home();
    let arch = home.path().join("arch.json");
    std::fs::write(&arch, ARCH).unwrap();
    let arch = arch.to_str().unwrap();
    let network = Network::start(home.path(), &["--epoch", "manual", "--arch", arch]);
    let data = home.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for (name, text) in [("a", "to be, or not to be, "), ("b", "1 2 3 4 5 6 7 8 9 10 ")] {
        std::fs::write(data.join(name), text.repeat(20)).unwrap();
    }
    std::fs::write(data.join("c"), "").unwrap();
    let (a, folder) = (data.join("a").display().to_string(), data.display().to_string());
    let said = fails(&network.run(&["find", &a]), 4, "no_weights");
    assert!(said.contains("no model of the network has public weights"), "{said}");
    network.commit_two_models(arch, [&a, &a]);
    network.reveal_two_models();

    let output = network.run(&["find", &folder, "--json"]);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("left out: 1 empty") && said.contains("best for all: model"), "{said}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let files: Vec<&str> = lines.iter().map(|line| line["file"].as_str().unwrap()).collect();
    assert_eq!(files, [format!("{folder}/a"), format!("{folder}/b")]);
    let [first, second] = ["1", "2"]
        .map(|seed| home.path().join(format!("{seed}.safetensors")).display().to_string());
    for line in &lines {
        let file = line["file"].as_str().unwrap();
        let score = network.json(&["score", file, "--model", &first, "--model", &second]);
        let models = line["models"].as_array().unwrap();
        assert_eq!(models[0]["id"].as_u64().unwrap(), score["winner"].as_u64().unwrap() + 1);
        assert_eq!(models.len(), 2);
        for model in models {
            let entry =
                &score["scores"][usize::try_from(model["id"].as_u64().unwrap()).unwrap() - 1];
            for field in ["loss", "cross_entropy", "gain", "weights_hash"] {
                assert_eq!(model[field], entry[field], "{file}: {field}");
            }
        }
    }
    let top = network.json(&["find", &a, "--top", "1"]);
    assert_eq!(top["models"].as_array().unwrap().len(), 1);
    // Less than a chunk says nothing about data, so it is never less.
    let sampled = network.json(&["find", &a, "--sample", "1"]);
    assert_eq!((&sampled["sample_bytes"], &sampled["bytes"]), (&64.into(), &420.into()));
    let sampled = String::from_utf8(network.run(&["find", &a, "--sample", "1"]).stdout).unwrap();
    assert!(sampled.lines().next().unwrap().ends_with("  64 of 420 bytes"), "{sampled}");
    // With fewer candidates than models, some are not even scored.
    let narrowed = network.run(&["find", &a, "--candidates", "1", "--json"]);
    assert!(stderr(&narrowed).contains("1 of 2 models are scored"), "{}", stderr(&narrowed));
    assert_eq!(last_line(&narrowed)["models"].as_array().unwrap().len(), 1);

    let out = home.path().join("out.safetensors");
    let out_name = out.to_str().unwrap();
    let written = network.json(&["embed", &folder, "-o", out_name]);
    let model = written["model"].as_u64().unwrap();
    let weights = if model == 1 { &first } else { &second };
    let (rows, names, weights_hash) = embeddings(&out);
    assert_eq!(names, files);
    assert_eq!(weights_hash, written["weights_hash"].as_str().unwrap());
    for (row, name) in rows.iter().zip(&names) {
        let line = network.json(&["run", "--model", weights, "--embed", name]);
        assert_eq!(line["embedding"], serde_json::json!(row));
        assert_eq!(line["weights_hash"], weights_hash);
    }
    // With a model of this machine no node is asked.
    let away = ["embed", &a, "-o", out_name, "--model", &second, "--url", "http://127.0.0.1:1"];
    assert!(soma(home.path(), &away).status.success());
    assert_eq!(embeddings(&out).1, std::slice::from_ref(&a));
    let said = fails(&network.run(&["embed", &a, "-o", "out.parquet"]), 2, "usage");
    assert!(said.contains("as safetensors only: Parquet is not written"), "{said}");
}

#[test]
fn two_models_compete_from_registration_to_payment_by_commands_alone() {
    let home = home();
    let arch = home.path().join("arch.json").display().to_string();
    std::fs::write(&arch, ARCH).unwrap();
    let network = Network::start(home.path(), &["--epoch", "manual", "--arch", &arch]);
    let style = root().join("STYLE.md").display().to_string();
    // Of one document, the mean would be the document itself, which then has no direction.
    let changes = root().join("CONTRIBUTING.md").display().to_string();
    network.commit_two_models(&arch, [&style, &changes]);

    let balance = || units(&network.json(&["balance", "--key", "account-3"])["balance"]);
    let stake = |id: &str| units(&network.json(&["model", "show", id])["stake"]);
    let (balance_before, stakes_before) = (balance(), stake("1") + stake("2"));
    // The submitter's node lies about all that it does not prove: to no effect.
    let lies = liar::before(&network.url);
    let told = |flags: &[&str]| {
        let asked = ["balance", "--key", "account-3", "--url", &lies];
        json(home.path(), &[&asked[..], flags].concat())
    };
    let honest = network.json(&["balance", "--key", "account-3"]);
    assert_eq!((told(&[])["balance"].as_str(), told(&["--verify"])), (Some("7"), honest));
    // Without a chain there is nothing to begin with, and another chain's genesis is not taken.
    let empty = tempfile::tempdir().unwrap();
    let address = network.json(&["keys", "show", "account-3"])["address"].clone();
    let asked = ["balance", address.as_str().unwrap(), "--url", &network.url, "--verify"];
    fails(&soma(empty.path(), &asked), 2, "chain_unknown");
    let zeros = "00".repeat(32);
    fails(&soma(empty.path(), &[&asked[..], &["--chain", &zeros]].concat()), 7, "other_chain");
    let submitting = network.begin_to_submit(&style, &lies, &["--verify"]);
    network.reveal_two_models();
    let entered = network.submit_until_settled(submitting);
    assert_eq!(entered["left_out"], serde_json::json!([]));
    let entered = entered["submissions"].as_array().unwrap();
    assert_eq!(entered.len(), 4);
    assert!(entered.iter().all(|target| target["outcome"] == "won"), "{entered:?}");

    let targets = network.json(&["target", "list", "--epoch", "2"]);
    let targets = targets.as_array().unwrap();
    let sum = |field: &dyn Fn(&Value) -> Value| -> u64 {
        targets.iter().map(|target| units(&field(target))).sum()
    };
    let paid_submitter = sum(&|target| target["payment"]["paid_submitter"].clone());
    let paid_model = sum(&|target| target["payment"]["paid_model"].clone());
    assert_eq!(paid_submitter, paid_model);
    assert_eq!(paid_submitter + paid_model, sum(&|target| target["reward"].clone()));
    // Fees of nine transactions are all that is missing of the submitter's half.
    let gained = balance() - balance_before;
    assert!(gained < paid_submitter && paid_submitter - gained < 10_000_000);
    // A tenth of the model's half is its owners' commission; the rest joined the stakes.
    let staked = stake("1") + stake("2") - stakes_before;
    assert!(staked.abs_diff(paid_model / 10 * 9) < 100);
    assert_eq!(network.json(&["status"])["supply"]["conserved"], true);

    let why = network.json(&["why", "--key", "account-3"]);
    assert_eq!(why["schema"], "why/1");
    let epoch = why["epochs"].as_array().unwrap().iter().find(|of| of["epoch"] == 2).unwrap();
    let won = |reason: &Value| reason["code"] == "won" && reason["text"].is_string();
    assert_eq!(epoch["reasons"].as_array().unwrap().iter().filter(|is| won(is)).count(), 4);

    let pulled = home.path().join("pulled.safetensors");
    network.json(&["model", "pull", "1", "-o", pulled.to_str().unwrap()]);
    let original = std::fs::read(home.path().join("1.safetensors")).unwrap();
    assert_eq!(std::fs::read(&pulled).unwrap(), original);

    // Another home cannot show that the documents were committed, and says so.
    let elsewhere = tempfile::tempdir().unwrap();
    let key = home.path().join("localnet/keys/account-3.json").display().to_string();
    let submit = ["submit", &style, "--key", &key, "--url", &network.url];
    let said = fails(&soma(elsewhere.path(), &submit), 5, "corpus_elsewhere");
    assert!(said.contains("--replace-corpus"), "{said}");
}

#[test]
fn commands_with_one_key_at_the_same_time_all_get_through() {
    let home = home();
    let network = Network::start(home.path(), &["--epoch", "1h"]);
    let to = network.json(&["keys", "show", "account-2"])["address"].as_str().unwrap().to_owned();
    let balance = || units(&network.json(&["balance", &to])["balance"]);
    let before = balance();
    let begin = |_| {
        let mut send = command(home.path());
        send.args(["-q", "send", &to, "1", "--key", "account-1", "--url", &network.url]);
        send.stdout(Stdio::null()).spawn().unwrap()
    };
    let sends: Vec<Child> = (0..8).map(begin).collect();
    for mut child in sends {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(balance() - before, 8_000_000_000);
}

#[test]
fn what_is_due_is_told_and_is_revealed_though_the_node_was_away() {
    let home = home();
    let arch = home.path().join("arch.json").display().to_string();
    std::fs::write(&arch, ARCH).unwrap();
    let network = Network::start(home.path(), &["--epoch", "manual", "--arch", &arch]);
    let port = network.url.rsplit(':').next().unwrap().to_owned();
    let weights = home.path().join("w.safetensors").display().to_string();
    let style = root().join("STYLE.md").display().to_string();
    network.json(&["model", "init", "--arch", &arch, "-o", &weights]);
    network.json(&["model", "register", "owl", "--key", "account-1"]);
    assert_eq!(network.json(&["status"])["due"], serde_json::json!([]));
    let commit = ["model", "commit", &weights, "--domain", &style, "--key", "account-1"];
    let committed = network.json(&commit);
    let balance = || network.json(&["balance", "--key", "account-1"])["balance"].clone();
    let left = balance();
    // Whoever runs a command again that was killed pays nothing a second time.
    assert_eq!(network.json(&commit), committed);
    assert_eq!(balance(), left);
    let due = network.json(&["status"])["due"].clone();
    assert_eq!(due.as_array().unwrap().len(), 1);
    let due = due[0].clone();
    assert_eq!(due["what"], "reveal of model 1 in epoch 2");
    assert!(units(&due["at_risk"]) > 0);
    network.kill();

    // Without the node, the command waits; a signal makes it say what is at stake.
    let url = format!("http://127.0.0.1:{port}");
    let away = soma(home.path(), &["status", "--url", &url]);
    assert!(fails(&away, 6, "network").contains("reveal of model 1 in epoch 2 may be due"));
    let network = Network::start_at(home.path(), &port, &[]);
    let log = home.path().join("log");
    let reveal = || {
        let mut reveal = command(home.path());
        reveal.args(["model", "reveal", "--key", "account-1", "--url", &url]);
        let log = std::fs::File::create(&log).unwrap();
        reveal.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    };
    let says = |text: &str| {
        let begun = Instant::now();
        while !std::fs::read_to_string(&log).unwrap().contains(text) {
            assert!(begun.elapsed() < PATIENCE, "{text}: {:?}", std::fs::read_to_string(&log));
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let mut stopped = reveal();
    says("SOMA is lost if it is not sent");
    let pid = stopped.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(stopped.wait().unwrap().code(), Some(1));
    says("error[interrupted]: stopped, though 1 reveal or publication is due");
    let mut waiting = reveal();
    says("SOMA is lost if it is not sent");
    network.kill();
    says("the network: no answer from");
    let network = Network::start_at(home.path(), &port, &[]);
    while waiting.try_wait().unwrap().is_none() {
        network.next();
    }
    assert!(waiting.wait().unwrap().success());
    assert_eq!(network.json(&["status"])["due"], serde_json::json!([]));
    assert!(network.json(&["model", "show", "1"])["weights"].is_object());
}

#[test]
fn a_key_signs_for_the_chain_that_it_signed_for_first_and_for_another_one_only_if_told() {
    let homes = [home(), home()];
    let [ours, other] = [("1", &homes[0]), ("2", &homes[1])]
        .map(|(seed, home)| Network::start(home.path(), &["--epoch", "1h", "--seed", seed]));
    let user = home();
    let key = json(user.path(), &["keys", "new", "--local"])["address"].clone();
    let key = key.as_str().unwrap();
    for network in [&ours, &other] {
        network.json(&["send", key, "5", "--key", "account-1"]);
    }
    let send = |network: &Network, more: &[&str]| {
        let url = ["send", key, "1", "--url", &network.url];
        soma(user.path(), &[&url[..], more].concat())
    };
    let chain = |network: &Network| network.json(&["status"])["chain_id"].clone();
    assert!(send(&ours, &[]).status.success());
    let remembered = std::fs::read_to_string(user.path().join("chain")).unwrap();
    assert_eq!(chain(&ours), remembered.trim());
    assert!(send(&ours, &[]).status.success());
    let said = fails(&send(&other, &[]), 7, "other_chain");
    assert!(said.contains(remembered.trim()), "{said}");
    assert!(send(&other, &["--chain", chain(&other).as_str().unwrap()]).status.success());
    fails(&send(&other, &[]), 7, "other_chain");

    // A key of a local network signs for that network's genesis alone.
    let local = homes[0].path().join("localnet/keys/account-1.json");
    fails(&send(&other, &["--key", local.to_str().unwrap()]), 7, "other_chain");
}

#[test]
fn a_transaction_signed_without_a_node_is_sent_from_a_machine_without_the_key() {
    let (home, elsewhere) = (home(), self::home());
    let network = Network::start(home.path(), &["--epoch", "manual"]);
    let to = network.json(&["keys", "show", "account-2"])["address"].as_str().unwrap().to_owned();
    let file = elsewhere.path().join("tx.json");
    let file = file.to_str().unwrap();
    let nonce = network.json(&["balance", "--key", "account-1"])["nonce"].clone();
    let nonce = nonce.as_str().unwrap();
    // Nothing answers at this URL, and nothing is asked there.
    let nowhere = ["--url", "http://127.0.0.1:1", "--key", "account-1"];
    let offline = ["--offline", file, "--nonce", nonce];
    let send = [&["send", &to, "2"][..], &offline, &nowhere].concat();
    let written = json(home.path(), &send);

    let shown = json(elsewhere.path(), &["tx", "show", file]);
    assert_eq!(shown["hash"], written["hash"]);
    let shown = serde_json::to_string(&shown).unwrap();
    assert!(shown.contains("\"2000000000\"") && shown.contains(&to), "{shown}");
    let url = ["--url", network.url.as_str()];
    let sent = json(elsewhere.path(), &[&["tx", "send", file][..], &url].concat());
    assert_eq!(sent["hash"], written["hash"]);
    let received = network.json(&["balance", &to]);
    assert_eq!(units(&received["balance"]), 10_002_000_000_000);

    // A model's owner need not be where a network is, either.
    let mut nonce: u64 = nonce.parse().unwrap();
    let other = elsewhere.path().join("model.json");
    let other = other.to_str().unwrap();
    let mut model = |arguments: &[&str]| {
        nonce += 1;
        let nonce = nonce.to_string();
        let offline = ["--offline", other, "--nonce", &nonce];
        json(home.path(), &[&["model"], arguments, &offline, &nowhere].concat());
        json(elsewhere.path(), &[&["tx", "send", other][..], &url].concat());
        network.json(&["model", "show", "1"])
    };
    assert_eq!(model(&["register", "cold", "--stake", "20"])["name"], "cold");
    assert_eq!(model(&["retire", "1"])["status"], "retiring");

    // A second time it can do nothing, and what was changed on the way is not sent.
    let again = soma(elsewhere.path(), &[&["tx", "send", file][..], &url].concat());
    assert!(again.status.success() || again.status.code() == Some(5), "{}", stderr(&again));
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, text.replace("2000000000", "9000000000")).unwrap();
    for verb in ["show", "send"] {
        let forged = soma(elsewhere.path(), &[&["tx", verb, file][..], &url].concat());
        fails(&forged, 5, "bad_signature");
    }
    std::fs::write(file, "{}").unwrap();
    fails(&soma(elsewhere.path(), &["tx", "show", file]), 5, "malformed_transaction");
    assert_eq!(units(&network.json(&["balance", &to])["balance"]), 10_002_000_000_000);

    // What it is for must be known without a node.
    json(elsewhere.path(), &["keys", "new", "--local"]);
    let unknown = [&["send", &to, "1"][..], &offline].concat();
    let said = fails(&soma(elsewhere.path(), &unknown), 2, "usage");
    assert!(said.contains("--chain"), "{said}");
}

/// A faucet in front of a network.
struct FaucetProcess {
    _process: Process,
    url: String,
}

impl FaucetProcess {
    fn start(network: &Network, flags: &[&str]) -> Self {
        let arguments = ["faucet", "serve", "--listen", "127.0.0.1:0", "--key", "faucet", "--url"];
        let mut process = command(&network.home)
            .args([&arguments[..], &[&network.url], flags].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        std::io::BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { _process: Process(process), url: url.trim().to_owned() }
    }

    /// Head and body of the answer to a request.
    fn ask(&self, request: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap();
        let length = body.len();
        write!(
            stream,
            "{request} HTTP/1.1\r\nhost: faucet\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }
}

#[test]
fn a_faucet_pays_every_account_once_by_command_and_by_page_and_remembers_it() {
    let home = home();
    let network = Network::start(home.path(), &["--epoch", "manual"]);
    let limits = ["--amount", "2.5", "--per-client", "2"];
    let faucet = FaucetProcess::start(&network, &limits);
    let [first, second, third] =
        [1, 2, 3].map(|byte| soma_protocol::Address([byte; 32]).to_string());
    let balance = |address: &str| units(&network.json(&["balance", address])["balance"]);

    let paid = json(home.path(), &["faucet", "ask", &first, "--faucet", &faucet.url]);
    assert_eq!(paid["address"], *first);
    assert_eq!(balance(&first), 2_500_000_000, "it is finalized");
    let again = || soma(home.path(), &["faucet", "ask", &first, "--faucet", &faucet.url]);
    fails(&again(), 6, "faucet_wait");
    assert_eq!(balance(&first), 2_500_000_000);

    // A browser without a script.
    let (head, page) = faucet.ask("GET /", "");
    assert!(head.contains("default-src 'none'") && page.contains("<form"), "{head}\n{page}");
    let (_, page) = faucet.ask("POST /", &format!("address={second}"));
    assert!(page.contains("Paid.") && page.contains(&second), "{page}");
    assert_eq!(balance(&second), 2_500_000_000);
    let (head, page) = faucet.ask("POST /", "address=%3Cscript%3E");
    assert!(head.starts_with("http/1.1 400") && page.contains("this is no address"), "{page}");
    let (_, page) = faucet.ask("POST /", &format!("address={third}"));
    assert!(page.contains("Not paid") && page.contains("same internet address"), "{page}");
    let (head, body) = faucet.ask("POST /v1/faucet", "{\"address\": 7}");
    let error: Value = serde_json::from_str(&body).unwrap();
    assert!(head.starts_with("http/1.1 400") && error["code"] == "bad_request", "{head}\n{body}");
    let (_, about) = faucet.ask("GET /v1/faucet", "");
    let about: Value = serde_json::from_str(&about).unwrap();
    assert_eq!((&about["amount"], &about["pause_ms"]), (&"2500000000".into(), &"86400000".into()));

    drop(faucet);
    let faucet = FaucetProcess::start(&network, &limits);
    let asked = soma(home.path(), &["faucet", "ask", &first, "--faucet", &faucet.url]);
    fails(&asked, 6, "faucet_wait");
    drop(faucet);
    let faucet = FaucetProcess::start(&network, &["--amount", "2000000"]);
    let asked = soma(home.path(), &["faucet", "ask", &third, "--faucet", &faucet.url]);
    fails(&asked, 6, "faucet_empty");
}

#[test]
fn what_cannot_be_read_of_what_is_due_is_told_and_never_taken_for_nothing() {
    let home = home();
    let network = Network::start(home.path(), &["--epoch", "manual"]);
    let chain = network.json(&["status"])["chain_id"].as_str().unwrap().to_owned();
    let spool = home.path().join("spool");
    std::fs::create_dir_all(&spool).unwrap();
    std::fs::write(spool.join(&chain), "a file in place of the folder").unwrap();
    let said = stderr(&network.run(&["status"]));
    assert!(said.contains("it is not known what is due"), "{said}");
    std::fs::remove_file(spool.join(&chain)).unwrap();
    std::fs::create_dir(spool.join(&chain)).unwrap();
    #[cfg(unix)]
    {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(spool.join(&chain), private).unwrap();
    }
    std::fs::write(spool.join(&chain).join("half.json"), "{").unwrap();
    let said = stderr(&network.run(&["status"]));
    assert!(said.contains("something may be due") && said.contains("half.json"), "{said}");
}
