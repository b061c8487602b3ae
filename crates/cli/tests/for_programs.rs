//! What other programs use: the endpoint of `soma serve`, and the tools of `soma mcp`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Process, command, json as answer, root, soma, stderr};

/// A weights file with random weights.
fn weights(home: &Path) -> PathBuf {
    let file = home.join("owl.safetensors");
    let made = soma(home, &["model", "init", "--arch", "nano", "-o", file.to_str().unwrap()]);
    assert!(made.status.success(), "{}", stderr(&made));
    file
}

/// An endpoint, and where it listens.
struct Endpoint {
    _process: Process,
    address: String,
}

impl Endpoint {
    fn start(home: &Path) -> Self {
        let file = weights(home);
        let mut process = command(home)
            .args(["serve", "--port", "0", "--bytes-max", "64", "--model", file.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let address = url.trim().strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap();
        Self { address: address.to_owned(), _process: Process(process) }
    }

    /// Status and body of the answer to a request with these headers.
    fn ask(&self, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let method = if body.is_empty() { "GET" } else { "POST" };
        let length = body.len();
        write!(
            stream,
            "{method} /v1/{path} HTTP/1.1\r\n{headers}connection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let headers = "host: localhost\r\ncontent-type: application/json\r\n";
        let (status, body) = self.ask(path, headers, &body.to_string());
        (status, serde_json::from_str(&body).unwrap())
    }
}

#[test]
fn a_client_of_openais_api_gets_text_in_one_piece_or_in_parts_and_embeddings() {
    let home = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(home.path());
    let (_, models) = endpoint.ask("models", "host: localhost\r\n", "");
    assert!(models.contains("\"id\":\"owl\""), "{models}");
    let request = json!({"model": "owl", "prompt": "To be", "max_tokens": 40, "seed": 7});
    let (status, whole) = endpoint.post("completions", &request);
    assert_eq!(status, 200, "{whole}");
    let text = whole["choices"][0]["text"].as_str().unwrap();
    assert_eq!(whole["usage"]["prompt_tokens"], 5);
    assert_eq!(endpoint.post("completions", &request).1["choices"], whole["choices"]);

    let mut streamed = request;
    streamed["stream"] = true.into();
    let headers = "host: localhost\r\ncontent-type: application/json\r\n";
    let (_, body) = endpoint.ask("completions", headers, &streamed.to_string());
    let events: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let (done, parts) = events.split_last().unwrap();
    assert_eq!(*done, "[DONE]");
    let parts: Vec<Value> = parts.iter().map(|part| serde_json::from_str(part).unwrap()).collect();
    let told: String =
        parts.iter().map(|part| part["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(told, text, "the same seed gives the same text");
    let last = &parts.last().unwrap()["choices"][0];
    assert_eq!(last["finish_reason"], whole["choices"][0]["finish_reason"]);

    let (status, embedded) = endpoint.post("embeddings", &json!({"input": ["one", "two"]}));
    assert_eq!((status, embedded["data"].as_array().map(Vec::len)), (200, Some(2)));
    let components = embedded["data"][1]["embedding"].as_array().unwrap();
    let length: f64 = components.iter().map(|one| one.as_f64().unwrap().powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-3, "{length}");
}

#[test]
fn an_endpoint_refuses_what_it_cannot_do_and_whoever_is_not_on_this_machine() {
    let home = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(home.path());
    for (request, named) in [
        (json!({"prompt": "a", "n": 2}), "`n`"),
        (json!({"prompt": "a", "logprobs": 3}), "`logprobs`"),
        (json!({"prompt": ["a", "b"]}), "`prompt`"),
        (json!({"prompt": ""}), "`prompt`"),
        (json!({"prompt": "a", "max_tokens": 65}), "`max_tokens`"),
        (json!({"prompt": "a", "temperature": -1}), "`temperature`"),
        (json!({"prompt": "a", "stop": [""]}), "`stop`"),
    ] {
        let (status, refused) = endpoint.post("completions", &request);
        assert_eq!(status, 400, "{request}");
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{message}");
    }
    let (status, _) = endpoint.post("completions", &json!({"prompt": "a", "model": "gpt-4"}));
    assert_eq!(status, 404);
    let body = json!({"prompt": "a"}).to_string();
    let json = "content-type: application/json\r\n";
    assert_eq!(endpoint.ask("completions", "host: localhost\r\n", &body).0, 415);
    let elsewhere = format!("host: evil.example\r\n{json}");
    assert_eq!(endpoint.ask("completions", &elsewhere, &body).0, 403);
    let another_site = format!("host: localhost\r\norigin: https://evil.example\r\n{json}");
    assert_eq!(endpoint.ask("completions", &another_site, &body).0, 403);
}

/// The answers to these messages, in the order of their ids.
fn answers(home: &Path, flags: &[&str], messages: &[Value]) -> Vec<Value> {
    let mut process = command(home)
        .arg("mcp")
        .args(flags)
        .args(["--url", "http://127.0.0.1:9"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    for message in messages {
        writeln!(input, "{message}").unwrap();
    }
    drop(input);
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut all: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    all.sort_by_key(|answer| answer["id"].as_u64());
    all
}

fn call(id: u64, tool: &str, arguments: &Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
}

#[test]
fn an_assistant_calls_commands_by_name_and_reads_what_they_print() {
    let home = tempfile::tempdir().unwrap();
    let (file, readme) = (weights(home.path()), root().join("README.md"));
    let (file, readme) = (file.to_str().unwrap(), readme.to_str().unwrap());
    let scored = json!({"weights": file, "paths": [readme]});
    let found = answers(
        home.path(),
        &[],
        &[
            json!({"jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": {"protocolVersion": "2024-11-05"}}),
            json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
            json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
            call(3, "score_files", &scored),
            call(4, "network_status", &json!({})),
            call(5, "score_files", &json!({"paths": []})),
            json!({"jsonrpc": "2.0", "id": 6, "method": "resources/list"}),
        ],
    );
    assert_eq!(found.len(), 6, "{found:?}");
    assert_eq!(found[0]["result"]["protocolVersion"], "2024-11-05");
    let tools = found[1]["result"]["tools"].as_array().unwrap();
    assert!(tools.iter().all(|tool| tool["annotations"]["readOnlyHint"] == true));
    let text = found[2]["result"]["content"][0]["text"].as_str().unwrap();
    let by_hand = answer(home.path(), &["score", "--model", file, readme]);
    let by_tool: Value = serde_json::from_str(text).unwrap();
    assert_eq!(by_tool["scores"][0]["loss_q32"], by_hand["scores"][0]["loss_q32"]);
    assert_eq!(found[3]["result"]["isError"], true, "no node is there");
    let text = found[3]["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("\"code\":\"network\""), "{text}");
    assert_eq!(found[4]["error"]["code"], -32_602);
    assert_eq!(found[5]["error"]["code"], -32_601);
}

#[test]
fn an_assistant_signs_and_writes_only_if_it_was_told_so() {
    let home = tempfile::tempdir().unwrap();
    let sends = call(1, "send", &json!({"to": "nobody", "amount": "1"}));
    let refused = answers(home.path(), &[], std::slice::from_ref(&sends));
    let message = refused[0]["error"]["message"].as_str().unwrap();
    assert!(message.contains("soma mcp --write"), "{message}");
    let tried = answers(home.path(), &["--write"], &[sends]);
    assert_eq!(tried[0]["result"]["isError"], true, "{tried:?}");
}
