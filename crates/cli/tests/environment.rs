//! What the environment and other people's files may look like: variables that are empty, proxies,
//! servers that send elsewhere, passwords in URLs, keys of any name.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use support::{command, fails, json, soma, stderr};

/// A server that gives this answer to every request.
fn server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _request = connection.read(&mut [0; 4096]);
            let _gone = connection.write_all(answer.as_bytes());
        }
    });
    address.to_string()
}

const MOVED: &str = "HTTP/1.1 301 Moved Permanently\r\nlocation: http://bob:secretword@elsewhere/x\r\n\
                     content-length: 0\r\nconnection: close\r\n\r\n";

fn run(home: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    command(home).envs(variables.iter().copied()).args(arguments).output().unwrap()
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let home = tempfile::tempdir().unwrap();
    let names = [
        "SOMA_URL",
        "SOMA_KEY",
        "SOMA_CA",
        "SOMA_MIRROR",
        "SOMA_CHAIN",
        "SOMA_PASSPHRASE_FILE",
        "SOMA_HOME",
    ];
    let mut variables: Vec<(&str, &str)> = names.map(|name| (name, "")).into();
    let path = home.path().to_str().unwrap();
    variables.extend([("HOME", path), ("XDG_DATA_HOME", ""), ("http_proxy", "")]);
    let made = run(home.path(), &variables, &["keys", "new", "--local"]);
    assert!(made.status.success(), "{}", stderr(&made));
    assert!(home.path().join(".local/share/soma/keys/default.json").is_file());
    let status = run(home.path(), &variables, &["status"]);
    let said = stderr(&status);
    assert!(said.contains("http://127.0.0.1:8645") || status.status.success(), "{said}");
}

#[test]
fn a_usage_line_names_what_the_command_needs_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let variables = [("SOMA_URL", "http://host"), ("SOMA_KEY", "alice")];
    let refused = run(home.path(), &variables, &["send"]);
    let said = stderr(&refused);
    assert!(said.contains("Usage: soma send <TO> <AMOUNT>\n"), "{said}");
    let wrong = run(home.path(), &[("SOMA_CHAIN", "nonsense")], &["status"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));
}

#[test]
fn whoever_asks_for_nothing_gets_help() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["model"], &["node"]] {
        let helped = soma(home.path(), arguments);
        assert!(helped.status.success(), "{}", stderr(&helped));
        let text = String::from_utf8(helped.stdout).unwrap();
        assert!(text.contains("Usage: soma") && text.contains("Commands:"), "{text}");
    }
}

#[test]
fn this_machine_is_never_reached_through_a_proxy_and_a_redirection_says_where_to() {
    let home = tempfile::tempdir().unwrap();
    let url = format!("http://{}", server(MOVED));
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        let output = run(home.path(), &[(proxy, "http://127.0.0.1:9")], &["status", "--url", &url]);
        let said = fails(&output, 6, "redirect_refused");
        assert!(said.contains("301 Moved Permanently, and names http://elsewhere/x"), "{said}");
        assert!(said.contains("hint: ") && said.contains("--url"), "{said}");
        assert!(!said.contains("secretword"), "{said}");
    }
    let variables = [("http_proxy", "http://127.0.0.1:9")];
    let output = run(home.path(), &variables, &["status", "--url", "http://node.example"]);
    assert!(fails(&output, 6, "network").contains("http_proxy"));
    let page = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>";
    let url = format!("http://{}", server(page));
    fails(&soma(home.path(), &["status", "--url", &url]), 6, "not_a_node");
}

#[test]
fn a_password_in_a_url_is_never_printed() {
    let home = tempfile::tempdir().unwrap();
    let server = server(MOVED);
    let urls = ["ftp://bob:secretword@h", "bob:secretword@h", "https://bob:secretword@127.0.0.1:1"];
    let mut urls: Vec<String> = urls.map(str::to_owned).into();
    urls.push(format!("http://bob:secretword@{server}/x"));
    for url in &urls {
        for arguments in [&["status"][..], &["top", "--json"], &["doctor"], &["balance"]] {
            for json in [&[][..], &["--json"]] {
                let output = run(home.path(), &[("SOMA_URL", url)], &[arguments, json].concat());
                let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
                let printed = stdout + &stderr(&output);
                assert!(!printed.contains("secretword"), "{arguments:?} {url}: {printed}");
            }
        }
    }
}

#[test]
fn a_path_of_a_key_is_that_file() {
    let home = tempfile::tempdir().unwrap();
    let keys = home.path().join("keys");
    let [alice, bob] = ["alice", "bob"].map(|name| {
        json(home.path(), &["keys", "new", name, "--local"])["address"].as_str().unwrap().to_owned()
    });
    std::fs::rename(keys.join("bob.json"), keys.join("alice.bak")).unwrap();
    std::fs::copy(keys.join("alice.bak"), keys.join("My Key.json")).unwrap();
    for (name, address) in [("alice.json", &alice), ("alice.bak", &bob), ("My Key.json", &bob)] {
        let path = keys.join(name).display().to_string();
        assert_eq!(&json(home.path(), &["keys", "show", "--key", &path])["address"], address);
    }
    let missing = keys.join("carol.json").display().to_string();
    fails(&soma(home.path(), &["keys", "show", &missing]), 4, "file_not_found");
    // What is no key is told.
    let listed = soma(home.path(), &["keys", "list"]);
    assert_eq!(listed.status.code(), Some(1));
    assert!(stderr(&listed).contains("left out: `My Key` is not a valid key name"));
    assert!(String::from_utf8(listed.stdout).unwrap().contains(&alice));
}

#[test]
fn what_was_named_as_a_passphrase_file_is_not_shown() {
    let home = tempfile::tempdir().unwrap();
    let output =
        soma(home.path(), &["keys", "new", "--passphrase-file", "correct horse battery staple"]);
    let said = fails(&output, 4, "file_not_found");
    assert!(!said.contains("horse"), "{said}");
    let local = soma(home.path(), &["keys", "new", "worthless", "--local"]);
    assert!(!stderr(&local).contains("passphrase"), "{}", stderr(&local));
}

#[test]
fn a_key_is_made_again_from_its_words_and_no_command_prints_them_unasked() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (words, old, new) = (path("words"), path("old"), path("new"));
    std::fs::write(&old, "the old passphrase\n").unwrap();
    std::fs::write(&new, "the new passphrase\n").unwrap();
    let made = json(home.path(), &["keys", "new", "alice", "--passphrase-file", &old]);

    // Standard output is not a terminal here, and may be a log.
    let export = ["keys", "export", "alice", "--words", "--passphrase-file", &old];
    fails(&soma(home.path(), &export), 2, "usage");
    json(home.path(), &[&export[..], &["-o", &words]].concat());
    let phrase = std::fs::read_to_string(&words).unwrap();
    assert_eq!(phrase.split(' ').count(), 24);
    let mode = std::os::unix::fs::PermissionsExt::mode;
    assert_eq!(mode(&std::fs::metadata(&words).unwrap().permissions()) & 0o777, 0o600);

    fails(&soma(home.path(), &[&export[..], &["-o", &words]].concat()), 1, "file_exists");
    let import = ["keys", "import", "bob", "--words", &words, "--passphrase-file", &new];
    let imported = json(home.path(), &import);
    assert_eq!(imported["address"], made["address"]);
    // Whichever is missing is named: the words first, then the passphrase of the new key.
    let said = fails(&soma(home.path(), &["keys", "import", "eve"]), 3, "words_needed");
    assert!(said.contains("hint: pass a file with --words FILE"), "{said}");
    let said = soma(home.path(), &["keys", "import", "eve", "--words", &words]);
    let said = fails(&said, 3, "passphrase_needed");
    assert!(said.contains("hint: pass a file with --passphrase-file FILE"), "{said}");
    fails(&soma(home.path(), &import), 3, "key_exists");
    std::fs::write(&words, phrase.replacen(' ', " zoo ", 1)).unwrap();
    let wrong = soma(home.path(), &["keys", "import", "eve", "--words", &words, "--local"]);
    let said = fails(&wrong, 3, "bad_words");
    let two: Vec<&str> = phrase.split(' ').take(2).collect();
    assert!(!said.contains(&two.join(" ")), "{said}");
    assert!(!home.path().join("keys/eve.json").exists());
}

/// Commands that write a file to the path that follows, and whether they replace what lies there.
const WRITING: [(&[&str], bool); 6] = [
    (&["score", DATA, "-m", WEIGHTS, "--arch", ARCH, "--receipt"], true),
    (&["score", DATA, "-m", WEIGHTS, "--arch", ARCH, "--dump"], true),
    (&["embed", DATA, "-m", WEIGHTS, "--arch", ARCH, "-o"], true),
    (&["keys", "export", "alice", "-o"], false),
    (&["keys", "export", "alice", "--words", "-o"], false),
    (&["genesis", "new", "--name", "network"], false),
];
const DATA: &str = "vectors/tiny_text/data.bin";
const WEIGHTS: &str = "vectors/tiny_text/weights.safetensors";
const ARCH: &str = "vectors/tiny_text/config.json";

#[test]
fn what_lies_where_a_command_writes_is_replaced_or_kept_by_one_rule() {
    let home = tempfile::tempdir().unwrap();
    json(home.path(), &["keys", "new", "alice", "--local"]);
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let [new, folder, link] = ["new.safetensors", "folder.safetensors", "link.safetensors"];
    let [new, folder, link] = [new, folder, link].map(path);
    let absent = path("absent/new.safetensors");
    std::fs::create_dir(&folder).unwrap();
    for (command, replaces) in WRITING {
        let write = |to: &str| soma(home.path(), &[command, &[to]].concat());
        fails(&write(&folder), 1, "not_a_file");
        fails(&write(&absent), 4, "file_not_found");
        std::fs::write(&new, "old").unwrap();
        std::os::unix::fs::symlink(&new, &link).unwrap();
        for to in [&link, &new] {
            let written = write(to);
            if replaces {
                assert!(written.status.success(), "{command:?}: {}", stderr(&written));
                assert_ne!(std::fs::read(&new).unwrap(), b"old", "{command:?}");
            } else {
                fails(&written, 1, "file_exists");
                assert_eq!(std::fs::read(&new).unwrap(), b"old", "{command:?}");
            }
            assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        std::fs::remove_file(&link).unwrap();
        std::fs::remove_file(&new).unwrap();
        let written = write(&new);
        assert!(written.status.success(), "{command:?}: {}", stderr(&written));
    }
}

#[test]
fn a_passphrase_is_changed_and_a_key_without_one_gets_one() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (old, new, copy) = (path("old"), path("new"), path("copy.json"));
    std::fs::write(&old, "the old passphrase").unwrap();
    std::fs::write(&new, "the new passphrase").unwrap();
    let made = json(home.path(), &["keys", "new", "alice", "--local"]);
    let change = ["keys", "passphrase", "alice", "--new-passphrase-file"];
    json(home.path(), &[&change[..], &[&old]].concat());
    fails(&soma(home.path(), &[&change[..], &[&new]].concat()), 3, "passphrase_needed");
    let changed = json(home.path(), &[&change[..], &[&new, "--passphrase-file", &old]].concat());
    assert_eq!((&changed["address"], &changed["encrypted"]), (&made["address"], &true.into()));
    let again = soma(home.path(), &[&change[..], &[&new, "--passphrase-file", &old]].concat());
    fails(&again, 3, "passphrase_wrong");

    json(home.path(), &["keys", "export", "alice", "-o", &copy]);
    let imported = json(home.path(), &["keys", "import", "bob", "--file", &copy]);
    assert_eq!((&imported["address"], &imported["encrypted"]), (&made["address"], &true.into()));
}
