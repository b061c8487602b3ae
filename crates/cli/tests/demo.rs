//! The demo on any folders: the supply is conserved, rewards are exact halves, and one seed gives
//! one result.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{Process, fails, root, soma, stderr};

/// Three domains so different that little training separates them.
fn domains() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let sources =
        [("rules", "crates/protocol/src", ""), ("prose", "docs", "md"), ("numbers", "", "")];
    for (name, source, extension) in sources {
        let to = folder.path().join(name);
        std::fs::create_dir(&to).unwrap();
        if source.is_empty() {
            for file in 0_u64..12 {
                let numbers = (0..700).map(|n| format!("{} ", (n * n * (file + 3)) % 9973));
                std::fs::write(to.join(format!("{file}.txt")), numbers.collect::<String>())
                    .unwrap();
            }
            continue;
        }
        for entry in std::fs::read_dir(root().join(source)).unwrap() {
            let path = entry.unwrap().path();
            let wanted = extension.is_empty() || path.extension().is_some_and(|is| is == extension);
            if path.is_file() && wanted {
                std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    folder
}

fn demo(folder: &std::path::Path, seed: &str) -> Value {
    let home = tempfile::tempdir().unwrap();
    let data = |name: &str| folder.join(name).display().to_string();
    let [rules, prose, numbers] = ["rules", "prose", "numbers"].map(data);
    let flags = ["--data", &rules, "--data", &prose, "--data", &numbers, "--steps", "60"];
    let output = soma(home.path(), &[&["demo", "--json", "--seed", seed][..], &flags].concat());
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    let left_out = said.lines().skip_while(|line| !line.contains("left out, because nobody"));
    assert!(left_out.skip(1).any(|line| line.contains("random bytes")), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn one_seed_gives_one_result_that_conserves_the_supply_and_pays_exact_halves() {
    let folder = domains();
    let report = demo(folder.path(), "7");
    assert_eq!(report, demo(folder.path(), "7"));

    assert_eq!(report["schema"], "demo/1");
    assert_eq!(report["supply_conserved"], true);
    assert!(report["epochs"].as_u64() >= Some(3));
    let files = report["files"].as_array().unwrap();
    let own = files.iter().filter(|file| file["winner_domain"] == file["domain"]).count();
    assert!(files.len() >= 6 && own * 10 >= files.len() * 7, "{own} of {}", files.len());
    let targets = report["targets"].as_array().unwrap();
    let paid: Vec<_> = targets.iter().filter(|target| !target["winner_model"].is_null()).collect();
    assert!(!paid.is_empty());
    for target in paid {
        let units = |field: &str| -> u64 { target[field].as_str().unwrap().parse().unwrap() };
        assert_eq!(units("paid_submitter"), units("paid_model"));
        assert_eq!(units("paid_submitter") + units("paid_model"), units("reward"));
        assert!(target["routed"].as_array().unwrap().contains(&target["winner_model"]));
        assert!(target["gain"].as_f64() >= Some(0.125), "less than a network asks for: {target}");
    }
}

#[test]
fn a_demo_with_one_domain_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let one = home.path().to_str().unwrap();
    fails(&soma(home.path(), &["demo", "--data", one]), 2, "usage");
}

#[cfg(unix)]
#[test]
fn an_installed_demo_needs_no_repository_and_its_network_stays_up_until_a_signal() {
    let home = tempfile::tempdir().unwrap();
    let child = support::command(home.path())
        .args(["demo", "--keep", "--steps", "60", "--seed", "7"])
        .current_dir(home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut demo = Process(child);
    let mut lines = BufReader::new(demo.0.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let url = loop {
        let line = lines.next().unwrap_or_else(|| panic!("no page: {said:?}")).unwrap();
        if let Some(page) = line.strip_prefix("  page  ") {
            break page.trim_end_matches('/').to_owned();
        }
        said.push(line);
    };
    assert!(said.iter().any(|line| line == "What next"), "{said:?}");
    let status = support::json(home.path(), &["status", "--url", &url]);
    assert_eq!(status["supply"]["conserved"], true);
    // Documents of the domains that are in no corpus find their specialists.
    for (file, domain) in [("crates/engine/src/node.rs", "rust"), ("docs/README.md", "markdown")] {
        let file = root().join(file).display().to_string();
        let found = support::json(home.path(), &["find", &file, "--url", &url]);
        assert_eq!(found["models"][0]["name"], domain, "{found}");
    }
    let pid = demo.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(demo.0.wait().unwrap().success());
    let mut tables = String::new();
    demo.0.stdout.take().unwrap().read_to_string(&mut tables).unwrap();
    assert!(tables.contains("Supply: conserved exactly"), "{tables}");
    for line in said.iter().map(String::as_str).chain(tables.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}
