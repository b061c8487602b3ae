//! What `soma train` promises to whoever waits for hours: nothing that is done is lost, and nothing
//! goes wrong in silence.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{last_line, stderr};

/// A folder with data, in which runs leave their files.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let line = "the quick brown fox jumps over the lazy dog; ";
        fs::write(folder.path().join("data"), line.repeat(600)).unwrap();
        Self(folder)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `soma train` with these options, in the folder.
    fn command(&self, options: &str) -> Command {
        let mut command = support::command(&self.at("home"));
        command.current_dir(self.0.path()).args(["train", "--data", "data", "--json"]);
        command.args(options.split_whitespace()).args(["--threads", "1"]);
        command
    }

    fn train(&self, options: &str) -> Output {
        self.command(options).output().unwrap()
    }

    /// A run to its end; its result.
    fn result(&self, options: &str) -> Value {
        let output = self.train(options);
        assert!(output.status.success(), "{}", stderr(&output));
        last_line(&output)
    }

    fn lines(&self, log: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.at(log)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts a run and waits until its log has some steps.
    fn start(&self, options: &str, log: &str, steps: usize) -> Child {
        let mut command = self.command(options);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        let count = || fs::read_to_string(self.at(log)).unwrap_or_default().lines().count();
        while count() < steps {
            assert!(begun.elapsed() < Duration::from_mins(2), "no steps");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }
}

fn kill(child: &Child, signal: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
}

#[test]
fn an_output_that_cannot_be_written_is_told_before_the_first_step() {
    let desk = Desk::new();
    fs::create_dir(desk.at("folder")).unwrap();
    for (options, exit, code) in [
        ("-o missing/w", 4, "file_not_found"),
        ("-o folder", 1, "not_a_file"),
        ("-o w --checkpoint missing/c", 4, "file_not_found"),
        ("-o w --checkpoint folder", 1, "not_a_file"),
        ("-o w --log missing/log", 4, "file_not_found"),
        ("-o w --log folder", 1, "not_a_file"),
    ] {
        let output = desk.train(&format!("--arch nano --steps 3 {options}"));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(exit), "{options}: {said}");
        assert!(said.contains(&format!("\"code\":\"{code}\"")), "{options}: {said}");
        assert!(!desk.at("w").exists());
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_a_signal_ends_continues_as_if_it_had_not_been_interrupted() {
    let desk = Desk::new();
    let options = "--arch nano --steps 60 --batch 1";
    let whole = desk.result(&format!("{options} -o whole"));
    assert!(!desk.at("whole.checkpoint").exists(), "a finished run needs none");
    for signal in ["-INT", "-TERM"] {
        let log = format!("log{signal}");
        let run = desk.start(&format!("{options} -o w{signal} --log {log}"), &log, 5);
        kill(&run, signal);
        let output = run.wait_with_output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("\"code\":\"interrupted\"") && said.contains("--resume"), "{said}");
        let done = desk.lines(&log).len();
        assert!((5..60).contains(&done), "{done}");
        let resume = format!("--resume w{signal}.checkpoint -o w{signal} --log {log}");
        let resumed = desk.result(&resume);
        assert_eq!(resumed["weights_hash"], whole["weights_hash"]);
        assert_eq!(
            fs::read(desk.at(&format!("w{signal}"))).unwrap(),
            fs::read(desk.at("whole")).unwrap()
        );
        let steps: Vec<u64> =
            desk.lines(&log).iter().map(|l| l["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, (1..=60).collect::<Vec<_>>(), "the log has both parts");
        assert!(!desk.at(&format!("w{signal}.checkpoint")).exists());
    }
}

#[test]
fn a_log_is_appended_to_also_after_half_a_line() {
    let desk = Desk::new();
    fs::write(desk.at("log"), "{\"step\":1}\n{\"step\":2").unwrap();
    desk.result("--arch nano --steps 2 --batch 1 -o w --log log");
    let text = fs::read_to_string(desk.at("log")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["{\"step\":1}", "{\"step\":2"]);
    assert_eq!(lines.len(), 4);
}

#[test]
fn a_run_that_diverges_names_the_step_and_what_to_do_and_writes_no_weights() {
    let desk = Desk::new();
    let output = desk.train("--arch nano --steps 300 --batch 1 --lr 1e30 -o w");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(7), "{said}");
    for words in ["\"code\":\"diverged\"", "of step ", "lower learning rate"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!desk.at("w.checkpoint").exists(), "no state with a finite loss was saved");
    assert!(!desk.at("w").exists());
}

#[test]
fn a_checkpoint_is_never_replaced_by_weights_whose_loss_is_not_finite() {
    let desk = Desk::new();
    desk.result("--arch nano --steps 24 --batch 1 --checkpoint c");
    let good = fs::read(desk.at("c")).unwrap();
    // Step 25 ruins the weights, which step 26 finds out; a checkpoint is due between them.
    let output = desk.train("--resume c --checkpoint c --steps 300 --lr 1e30");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("of step 26 ") && said.contains("step 24 is kept in c"), "{said}");
    assert!(fs::read(desk.at("c")).unwrap() == good);
    desk.result("--resume c --checkpoint c --steps 30 --lr 0");
}

#[test]
fn a_run_that_is_killed_early_has_left_a_checkpoint() {
    let desk = Desk::new();
    let options = "--arch nano --steps 100000 --batch 1 -o w --log log";
    let mut run = desk.start(options, "log", 26);
    run.kill().unwrap();
    run.wait().unwrap();
    let said = stderr(&desk.train("--resume w.checkpoint --steps 1"));
    assert!(said.contains("w.checkpoint has done "), "{said}");
}

#[test]
fn a_finished_run_is_prolonged() {
    let desk = Desk::new();
    desk.result("--arch nano --steps 3 --batch 1 --checkpoint c");
    let again = desk.train("--resume c -o same");
    assert!(stderr(&again).contains("--steps"), "{}", stderr(&again));
    assert_eq!(last_line(&again)["cross_entropy"], Value::Null, "no step was done");
    let longer = desk.result("--resume c --steps 6 -o longer");
    assert_eq!(longer["steps"], 6);
    assert_ne!(longer["weights_hash"], last_line(&again)["weights_hash"]);
    let fewer = desk.train("--resume c --steps 2");
    assert_eq!(fewer.status.code(), Some(2), "{}", stderr(&fewer));
    assert!(desk.at("c").exists(), "what was asked for stays");
}

#[test]
fn a_run_that_keeps_nothing_says_so_first() {
    let desk = Desk::new();
    let said = stderr(&desk.train("--arch nano --steps 1 --batch 1"));
    assert!(said.contains("not kept") && said.contains("-o"), "{said}");
}

#[test]
fn the_checkpoint_of_another_run_is_put_aside() {
    let desk = Desk::new();
    desk.result("--arch nano --steps 2 --batch 1 --checkpoint c");
    let first = fs::read(desk.at("c")).unwrap();
    desk.result("--arch nano --steps 1 --batch 1 --checkpoint c");
    assert_ne!(fs::read(desk.at("c")).unwrap(), first);
    assert_eq!(fs::read(desk.at("c.previous")).unwrap(), first);
}

#[cfg(target_os = "linux")]
#[test]
fn side_files_that_fail_never_end_a_run_and_devices_stay_devices() {
    use std::os::unix::fs::FileTypeExt;
    let desk = Desk::new();
    // A device that takes nothing.
    let options = "--arch nano --steps 3 --batch 1 -o w --log /dev/full --checkpoint /dev/full";
    let output = desk.train(options);
    let said = stderr(&output);
    assert_eq!(said.matches("tries again").count(), 2, "each is told once: {said}");
    assert_eq!(output.status.code(), Some(1), "it is not all as asked: {said}");
    assert!(said.contains("\"code\":\"disk_full\""), "{said}");
    assert!(desk.at("w").exists() && last_line(&output)["steps"] == 3);
    desk.result("--arch nano --steps 1 --batch 1 -o /dev/null --checkpoint /dev/null");
    for device in ["/dev/null", "/dev/full"] {
        assert!(fs::metadata(Path::new(device)).unwrap().file_type().is_char_device());
    }
}

#[cfg(unix)]
#[test]
fn the_log_of_a_job_has_a_sign_of_life_soon() {
    let desk = Desk::new();
    let run = desk.start("--arch nano --steps 100000 --batch 1 -o w --log log", "log", 1);
    std::thread::sleep(Duration::from_secs(7));
    kill(&run, "-INT");
    let said = stderr(&run.wait_with_output().unwrap());
    assert!(said.contains(" of 100000, cross-entropy "), "{said}");
}

#[test]
fn outputs_among_the_data_and_weights_named_as_a_checkpoint_are_told() {
    let desk = Desk::new();
    fs::create_dir(desk.at("folder")).unwrap();
    fs::copy(desk.at("data"), desk.at("folder/data")).unwrap();
    let run = "--arch nano --steps 1 --batch 1 --data folder -o folder/weights";
    let output = desk.train(run);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("reads it as data"), "{}", stderr(&output));
    let resumed = desk.train("--resume folder/weights");
    let said = stderr(&resumed);
    assert_eq!(resumed.status.code(), Some(7), "{said}");
    assert!(said.contains("it is a weights file") && said.contains("--from"), "{said}");
    fs::write(desk.at("page"), "<!DOCTYPE html><html><head><title>403</title></head></html>")
        .unwrap();
    let said = stderr(&desk.train("--resume page"));
    assert!(said.contains("it looks like an HTML page"), "{said}");
}
