//! `soma mcp`: this program as tools for an assistant, over standard input and output.
//!
//! It speaks the Model Context Protocol: JSON-RPC 2.0, one message a line. Each tool runs a command
//! of this program as a process of its own, so a tool cannot do what a command cannot.

mod tools;

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use soma_codes::Code;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use crate::error::{Error, Result};
use crate::global::Global;
use crate::network;
use crate::output::Output;
use crate::signals;
use tools::{TOOLS, Tool};

/// The version of the protocol that is offered to clients of unknown versions.
const VERSION: &str = "2025-06-18";
/// All versions that are understood: for what this server does, they are equal.
const VERSIONS: [&str; 2] = ["2024-11-05", VERSION];
/// The longest message.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// The most bytes of a command's result; more is cut.
const RESULT_BYTES_MAX: u64 = 1 << 20;
/// How many commands run at a time, and how many wait for that.
const RUNNING_MAX: usize = 4;
const WAITING_MAX: usize = 64;

/// Offer the network, models and scores as tools to an assistant (Model Context Protocol).
#[derive(Debug, clap::Args)]
#[command(after_help = "The client starts it; in its settings, name the command `soma mcp`. It \
                  reads only, unless told otherwise.")]
pub(crate) struct Mcp {
    /// Also offer what signs transactions or writes files: send, submit and pull.
    #[arg(long)]
    write: bool,
}

impl Mcp {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        let program = std::env::current_exe()
            .map_err(|error| Error::new(Code::of_io(&error), format!("no program: {error}")))?;
        network::block_on(async {
            let (answers, mut written) = mpsc::channel::<Value>(64);
            let server = Server {
                may_write: self.write,
                program,
                global: global.clone(),
                places: Arc::new(Semaphore::new(RUNNING_MAX)),
                answers,
            };
            let writer = output.clone();
            let writing = tokio::spawn(async move {
                while let Some(answer) = written.recv().await {
                    if !writer.line(&answer, &answer)? {
                        break;
                    }
                }
                Ok(())
            });
            // What is asked is answered, also if the client has sent its last message. A signal
            // ends the commands that run.
            let answered = async {
                server.read().await?;
                writing.await.map_err(|error| Error::new(Code::InternalError, error.to_string()))?
            };
            tokio::select! {
                ended = answered => ended,
                signal = signals::stopped() => signal,
            }
        })
    }
}

struct Server {
    may_write: bool,
    program: std::path::PathBuf,
    global: Global,
    places: Arc<Semaphore>,
    answers: mpsc::Sender<Value>,
}

/// An error of the protocol: its number and what is wrong.
struct Fault(i32, String);

const PARSE: i32 = -32_700;
const INVALID: i32 = -32_600;
const NO_METHOD: i32 = -32_601;
const BAD_ARGUMENTS: i32 = -32_602;
/// Of the numbers that servers choose.
const BUSY: i32 = -32_000;

impl Server {
    /// Reads messages until the input ends.
    async fn read(self) -> Result {
        let mut input = BufReader::new(tokio::io::stdin());
        let mut calls = JoinSet::new();
        let mut running: HashMap<String, AbortHandle> = HashMap::new();
        let mut line = Vec::new();
        while next_line(&mut input, &mut line).await? {
            while calls.try_join_next().is_some() {}
            running.retain(|_, call| !call.is_finished());
            if line.len() as u64 >= MESSAGE_BYTES_MAX {
                self.answer(&Value::Null, Err(Fault(INVALID, "a message is too long".into())))
                    .await;
                continue;
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match serde_json::from_slice::<Value>(&line) {
                Ok(message) => self.message(&message, &mut running, &mut calls).await,
                Err(error) => {
                    self.answer(&Value::Null, Err(Fault(PARSE, error.to_string()))).await;
                }
            }
        }
        while calls.join_next().await.is_some() {}
        Ok(())
    }

    async fn answer(&self, id: &Value, result: std::result::Result<Value, Fault>) {
        let answer = match result {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err(Fault(code, message)) => {
                json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
            }
        };
        // The client may be gone.
        let _unread = self.answers.send(answer).await;
    }

    async fn message(
        &self,
        message: &Value,
        running: &mut HashMap<String, AbortHandle>,
        calls: &mut JoinSet<()>,
    ) {
        let Some(method) = message["method"].as_str() else {
            let is_answer = message.get("result").is_some() || message.get("error").is_some();
            if !is_answer {
                let fault = Fault(INVALID, "a message needs a `method`".into());
                self.answer(&Value::Null, Err(fault)).await;
            }
            return;
        };
        let Some(id) = message.get("id") else {
            if method == "notifications/cancelled" {
                let call = running.remove(&message["params"]["requestId"].to_string());
                call.inspect(AbortHandle::abort);
            }
            return;
        };
        let params = &message["params"];
        let result = match method {
            "initialize" => Ok(initialized(params)),
            "ping" => Ok(json!({})),
            "tools/list" => {
                let tools = TOOLS.iter().filter(|tool| self.may_write || !tool.writes);
                Ok(json!({"tools": tools.map(Tool::described).collect::<Vec<_>>()}))
            }
            "tools/call" => match self.call(params) {
                Ok(_) if calls.len() >= WAITING_MAX => {
                    Err(Fault(BUSY, "too many calls run; wait for an answer".into()))
                }
                Ok(words) => {
                    let call = calls.spawn(self.start(id.clone(), words));
                    running.insert(id.to_string(), call);
                    return;
                }
                Err(fault) => Err(fault),
            },
            _ => Err(Fault(NO_METHOD, format!("there is no method `{method}`"))),
        };
        self.answer(id, result).await;
    }

    /// The words of the command that is called.
    fn call(&self, params: &Value) -> std::result::Result<Vec<String>, Fault> {
        let name = params["name"].as_str().unwrap_or_default();
        let tool = Tool::named(name, self.may_write).ok_or_else(|| {
            let hint = if Tool::named(name, true).is_some() {
                "; it needs `soma mcp --write`"
            } else {
                ""
            };
            Fault(BAD_ARGUMENTS, format!("there is no tool `{name}`{hint}"))
        })?;
        let none = Map::new();
        let given = params["arguments"].as_object().unwrap_or(&none);
        tool.words(given).map_err(|error| Fault(BAD_ARGUMENTS, error))
    }

    /// Runs a command and answers with what it prints; ends it if the call is dropped.
    fn start(&self, id: Value, words: Vec<String>) -> impl Future<Output = ()> + use<> {
        let mut command = Command::new(&self.program);
        command.args(["--json", "--no-progress"]);
        self.hand_on(&mut command);
        command.args(words).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let (places, answers) = (Arc::clone(&self.places), self.answers.clone());
        async move {
            let _place = places.acquire().await;
            let result = match ran(command).await {
                Ok((text, is_error)) => {
                    json!({"content": [{"type": "text", "text": text}], "isError": is_error})
                }
                Err(error) => {
                    let text = format!("the command did not run: {error}");
                    json!({"content": [{"type": "text", "text": text}], "isError": true})
                }
            };
            let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
            let _unread = answers.send(answer).await;
        }
    }

    /// The flags that every command has, as this one has been given them.
    fn hand_on(&self, command: &mut Command) {
        let Global { url, ca, mirrors, key, passphrase_file, tip, chain, home, verify, .. } =
            &self.global;
        command.env("SOMA_URL", url).env("SOMA_VERIFY", verify.to_string());
        if let Some(file) = ca {
            command.env("SOMA_CA", file);
        }
        if !mirrors.is_empty() {
            command.env("SOMA_MIRROR", mirrors.join(","));
        }
        if let Some(key) = key {
            command.env("SOMA_KEY", key);
        }
        if let Some(file) = passphrase_file {
            command.env("SOMA_PASSPHRASE_FILE", file);
        }
        if let Some(chain) = chain {
            command.env("SOMA_CHAIN", chain.to_string());
        }
        if let Some(home) = home {
            command.env("SOMA_HOME", home);
        }
        if let Some(tip) = tip {
            command.arg(format!("--tip={tip}"));
        }
    }
}

fn initialized(params: &Value) -> Value {
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let version = VERSIONS.into_iter().find(|version| *version == asked).unwrap_or(VERSION);
    json!({
        "protocolVersion": version,
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "soma", "version": env!("CARGO_PKG_VERSION")},
        "instructions": "Soma is a network in which byte-level models compete to predict data. \
                         Begin with network_status; explain_code explains the code of an error.",
    })
}

/// The next line without its end, or as much of it as a message may have; false at the end of the
/// input.
async fn next_line(input: &mut BufReader<tokio::io::Stdin>, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let bytes = input.fill_buf().await;
        let bytes =
            bytes.map_err(|error| Error::new(Code::of_io(&error), format!("no input: {error}")))?;
        if bytes.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let room = usize::try_from(MESSAGE_BYTES_MAX).unwrap_or(usize::MAX) - line.len();
        line.extend(part.iter().take(room));
        let read = part.len() + usize::from(end.is_some());
        input.consume(read);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// What a command prints, and whether it has failed: its result, and whatever it warns of.
async fn ran(mut command: Command) -> std::io::Result<(String, bool)> {
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ((mut text, said), status) =
        tokio::join!(async { tokio::join!(all_of(stdout), all_of(stderr)) }, child.wait());
    text.push_str(&said);
    Ok((text, !status?.success()))
}

/// What is read from a pipe, up to a limit; the rest is read and dropped, so that nobody waits.
async fn all_of(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else {
        return String::new();
    };
    let mut bytes = Vec::new();
    let read = (&mut pipe).take(RESULT_BYTES_MAX).read_to_end(&mut bytes).await;
    let rest = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if rest.is_ok_and(|rest| rest > 0) || read.is_err() {
        text.push_str("\n(cut)");
    }
    text
}
