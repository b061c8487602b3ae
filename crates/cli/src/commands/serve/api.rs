//! The routes, requests and answers of the endpoint, in the form that OpenAI has given them. What
//! it cannot do is refused, never ignored.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use soma_model::{Directions, Engine, Sampling, Weights, generate};
use tokio::sync::{Semaphore, mpsc};

use super::completion::Completion;
use crate::seed::Seed;

/// The most bytes of a request.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The most requests that wait for the model.
const WAITING_MAX: usize = 16;
/// The most texts of a request for embeddings, and the most bytes of each.
const INPUTS_MAX: usize = 256;
const INPUT_BYTES_MAX: usize = 64 << 10;
/// The most stop texts of a request, as at OpenAI.
const STOPS_MAX: usize = 4;
/// The longest stop text: what may be the beginning of one is held back.
const STOP_BYTES_MAX: usize = 256;
/// What a request asks for that says nothing else.
const BYTES: u32 = 256;
/// What a component of an embedding is divided by: an embedding has about this length.
const UNIT: f32 = 32_767.0;

/// A model that is served.
pub(super) struct Server {
    engine: Engine,
    weights: Weights,
    name: String,
    weights_hash: String,
    bytes_max: u32,
    /// One request computes at a time: each uses all threads.
    turn: Semaphore,
    /// Places among those that wait for their turn.
    places: Arc<Semaphore>,
    answers: AtomicU64,
    stopping: AtomicBool,
}

impl Server {
    pub(super) fn new(engine: Engine, weights: Weights, name: String, bytes_max: u32) -> Self {
        let weights_hash = hex::encode(weights.hash());
        Self {
            engine,
            weights,
            name,
            weights_hash,
            bytes_max,
            turn: Semaphore::new(1),
            places: Arc::new(Semaphore::new(WAITING_MAX)),
            answers: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn weights_hash(&self) -> &str {
        &self.weights_hash
    }

    /// Ends whatever computes.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn check_model(&self, asked: Option<&str>) -> Result<(), Refusal> {
        match asked {
            Some(asked) if asked != self.name => {
                let name = &self.name;
                let text = format!("this server has the model `{name}`, and not `{asked}`");
                Err(Refusal(StatusCode::NOT_FOUND, text))
            }
            _ => Ok(()),
        }
    }
}

type Shared = Arc<Server>;

/// The routes.
pub(super) fn router(server: Shared) -> Router {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/completions", post(completions))
        .route("/v1/embeddings", post(embeddings))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(refuse_other_sites))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(server)
}

/// A request that is refused.
struct Refusal(StatusCode, String);

impl Refusal {
    fn invalid(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }
}

fn stopping() -> Refusal {
    Refusal(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping".into())
}

fn busy() -> Refusal {
    let text = "too many requests wait for the model; try again later";
    Refusal(StatusCode::TOO_MANY_REQUESTS, text.into())
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, message) = self;
        let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
        let body =
            json!({"error": {"message": message, "type": kind, "param": null, "code": null}});
        (status, Json(body)).into_response()
    }
}

/// Refuses what a browser sends for a page of another site: such a page may know the port, and may
/// have a name that leads to this machine.
async fn refuse_other_sites(request: Request, next: Next) -> Response {
    if is_of_this_machine(request.headers()) {
        return next.run(request).await;
    }
    let text = "only programs on this machine are answered, at localhost or 127.0.0.1";
    Refusal(StatusCode::FORBIDDEN, text.into()).into_response()
}

fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let is_here = |name, scheme| {
        let value = headers.get(name)?.to_str().unwrap_or_default();
        let host = value.strip_prefix(scheme).unwrap_or(value);
        let port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let (host, _) = host.rsplit_once(':').filter(|(_, end)| port(end)).unwrap_or((host, ""));
        Some(matches!(host, "localhost" | "127.0.0.1" | "[::1]"))
    };
    is_here(header::HOST, "") == Some(true) && is_here(header::ORIGIN, "http://") != Some(false)
}

async fn wrong_method() -> Refusal {
    let text = "completions and embeddings are asked for with POST, models with GET";
    Refusal(StatusCode::METHOD_NOT_ALLOWED, text.into())
}

async fn nothing() -> Refusal {
    let text = "the routes are /v1/models, /v1/completions and /v1/embeddings; a model continues \
                text and holds no chat";
    Refusal(StatusCode::NOT_FOUND, text.into())
}

async fn models(State(server): State<Shared>) -> Json<Value> {
    let model = json!({
        "id": server.name, "object": "model", "created": 0, "owned_by": "soma",
        "weights_hash": server.weights_hash,
    });
    Json(json!({"object": "list", "data": [model]}))
}

/// Text, alone or in a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    fn all(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

#[derive(Deserialize)]
struct CompletionRequest {
    model: Option<String>,
    prompt: Texts,
    max_tokens: Option<u32>,
    temperature: Option<f32>,
    seed: Option<i64>,
    stop: Option<Texts>,
    stream: Option<bool>,
    echo: Option<bool>,
    /// Whatever else the request says.
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// What a request may say without a consequence, because it is what happens anyway.
fn is_harmless(name: &str, value: &Value) -> bool {
    match name {
        "user" | "stream_options" => true,
        "n" | "best_of" | "top_p" => value.is_null() || value.as_f64() == Some(1.0),
        "presence_penalty" | "frequency_penalty" => value.is_null() || value.as_f64() == Some(0.0),
        "logit_bias" => value.as_object().is_none_or(Map::is_empty),
        _ => value.is_null(),
    }
}

fn check_others(others: &Map<String, Value>) -> Result<(), Refusal> {
    match others.iter().find(|(name, value)| !is_harmless(name, value)) {
        Some((name, _)) => Err(Refusal::invalid(format!("`{name}` is not supported"))),
        None => Ok(()),
    }
}

/// Everything that a completion follows from.
struct Task {
    prompt: String,
    bytes: usize,
    sampling: Sampling,
    stops: Vec<String>,
    echo: bool,
}

impl CompletionRequest {
    fn task(self, server: &Server) -> Result<Task, Refusal> {
        server.check_model(self.model.as_deref())?;
        if let Some((name, _)) = self.others.iter().find(|(name, value)| !is_harmless(name, value))
        {
            return Err(Refusal::invalid(format!("`{name}` is not supported")));
        }
        let mut prompts = self.prompt.all();
        let prompt = prompts.pop().filter(|text| prompts.is_empty() && !text.is_empty());
        let prompt = prompt.ok_or_else(|| Refusal::invalid("`prompt` must be one text"))?;
        let bytes = self.max_tokens.unwrap_or(BYTES.min(server.bytes_max));
        if bytes > server.bytes_max {
            let most = server.bytes_max;
            return Err(Refusal::invalid(format!("`max_tokens` is at most {most}, in bytes")));
        }
        let temperature = self.temperature.unwrap_or(1.0);
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(Refusal::invalid("`temperature` must be 0 or greater"));
        }
        let stops = self.stop.map_or_else(Vec::new, Texts::all);
        let fits = |stop: &String| (1..=STOP_BYTES_MAX).contains(&stop.len());
        if stops.len() > STOPS_MAX || !stops.iter().all(fits) {
            let text = format!("`stop` is up to {STOPS_MAX} texts of 1 to {STOP_BYTES_MAX} bytes");
            return Err(Refusal::invalid(text));
        }
        let seed = Seed::from_integer(self.seed.unwrap_or(0).cast_unsigned()).0;
        let (bytes, echo) = (bytes as usize, self.echo.unwrap_or(false));
        Ok(Task { prompt, bytes, sampling: Sampling { temperature, seed }, stops, echo })
    }
}

/// What the model says, in the order of these.
enum Said {
    Text(String),
    /// It is complete: how many bytes were made, and whether the model or a stop text ended it.
    End {
        bytes: usize,
        stopped: bool,
    },
    Failed(String),
}

/// Continues the prompt when it is its turn, until nobody listens anymore.
fn continued(server: Shared, task: Task) -> Result<mpsc::UnboundedReceiver<Said>, Refusal> {
    let place = Arc::clone(&server.places).try_acquire_owned().map_err(|_| busy())?;
    // An answer is bounded, and whoever reads it slowly must not hold the turn.
    let (say, said) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let turn = tokio::select! {
            () = say.closed() => return,
            turn = server.turn.acquire() => turn,
        };
        drop(place);
        tokio::task::block_in_place(|| speak(&server, task, &say));
        drop(turn);
    });
    Ok(said)
}

fn speak(server: &Server, task: Task, say: &mpsc::UnboundedSender<Said>) {
    let mut completion = Completion::until(task.stops);
    let tell = |text: String| {
        let gone =
            if text.is_empty() { say.is_closed() } else { say.send(Said::Text(text)).is_err() };
        if gone || server.is_stopping() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    if task.echo && tell(task.prompt.clone()).is_break() {
        return;
    }
    let prompt = task.prompt.as_bytes();
    let (count, sampling) = (task.bytes, task.sampling);
    let made = generate(&server.engine, &server.weights, prompt, count, sampling, |byte| {
        tell(completion.push(byte))?;
        if completion.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let stopped = completion.is_stopped();
    let end = match made {
        Ok(bytes) => {
            if !stopped && tell(completion.end()).is_break() {
                return;
            }
            Said::End { bytes, stopped: stopped || bytes < task.bytes }
        }
        Err(error) => Said::Failed(error.to_string()),
    };
    // Nobody may listen anymore.
    let _unheard = say.send(end);
}

/// An answer, or a part of one.
#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    /// The weights: with the same seed, equal requests have equal answers.
    system_fingerprint: &'a str,
    choices: [Choice; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Choice {
    text: String,
    index: u32,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

/// Sizes in bytes: a token is a byte.
#[derive(Clone, Copy, Serialize)]
struct Usage {
    #[serde(rename = "prompt_tokens")]
    prompt: usize,
    #[serde(rename = "completion_tokens")]
    completion: usize,
    #[serde(rename = "total_tokens")]
    total: usize,
}

/// What all parts of an answer share.
struct Frame {
    server: Shared,
    id: String,
    created: u64,
    prompt_bytes: usize,
}

impl Frame {
    fn new(server: &Shared, prompt_bytes: usize) -> Self {
        let number = server.answers.fetch_add(1, Ordering::Relaxed);
        let created = soma_os::clock::now_ms() / 1_000;
        Self { server: Arc::clone(server), id: format!("cmpl-{number}"), created, prompt_bytes }
    }

    fn answer(&self, text: String, ended: Option<(usize, bool)>) -> Answer<'_> {
        let finish = |stopped| if stopped { "stop" } else { "length" };
        let choice = Choice {
            text,
            index: 0,
            logprobs: None,
            finish_reason: ended.map(|(_, stopped)| finish(stopped)),
        };
        Answer {
            id: &self.id,
            object: "text_completion",
            created: self.created,
            model: &self.server.name,
            system_fingerprint: &self.server.weights_hash,
            choices: [choice],
            usage: ended.map(|(bytes, _)| Usage {
                prompt: self.prompt_bytes,
                completion: bytes,
                total: self.prompt_bytes + bytes,
            }),
        }
    }
}

/// Reads the JSON of a request. The type of the content is asked for, because a page of another
/// site cannot set it.
fn read<T: for<'de> Deserialize<'de>>(headers: &HeaderMap, body: &[u8]) -> Result<T, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("application/json")) {
        let text = "the content must be application/json";
        return Err(Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, text.into()));
    }
    serde_json::from_slice(body).map_err(|error| {
        Refusal::invalid(format!("{error}; `prompt`, `input` and `stop` are texts, not tokens"))
    })
}

async fn completions(
    State(server): State<Shared>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let request: CompletionRequest = read(&headers, &body)?;
    let stream = request.stream.unwrap_or(false);
    let task = request.task(&server)?;
    let frame = Frame::new(&server, task.prompt.len());
    let mut said = continued(server, task)?;
    if stream {
        return Ok(streamed(frame, said).into_response());
    }
    let mut text = String::new();
    loop {
        match said.recv().await {
            Some(Said::Text(part)) => text.push_str(&part),
            Some(Said::End { bytes, stopped }) => {
                return Ok(Json(frame.answer(text, Some((bytes, stopped)))).into_response());
            }
            Some(Said::Failed(error)) => {
                return Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, error));
            }
            None => return Err(stopping()),
        }
    }
}

/// The answer part by part, as server-sent events.
fn streamed(
    frame: Frame,
    said: mpsc::UnboundedReceiver<Said>,
) -> Sse<impl futures_util::Stream<Item = Result<Event, Infallible>>> {
    let parts = stream::unfold((frame, said, false), |(frame, mut said, ended)| async move {
        if ended {
            return None;
        }
        let (event, ended) = match said.recv().await? {
            Said::Text(text) => (json!(frame.answer(text, None)), false),
            Said::End { bytes, stopped } => {
                (json!(frame.answer(String::new(), Some((bytes, stopped)))), true)
            }
            Said::Failed(error) => (json!({"error": {"message": error}}), true),
        };
        Some((Ok(Event::default().data(event.to_string())), (frame, said, ended)))
    });
    let done = stream::once(async { Ok(Event::default().data("[DONE]")) });
    Sse::new(futures_util::StreamExt::chain(parts, done)).keep_alive(KeepAlive::default())
}

#[derive(Deserialize)]
struct EmbeddingRequest {
    model: Option<String>,
    input: Texts,
    encoding_format: Option<String>,
    /// Whatever else the request says.
    #[serde(flatten)]
    others: Map<String, Value>,
}

async fn embeddings(
    State(server): State<Shared>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Json<Value>, Refusal> {
    let request: EmbeddingRequest = read(&headers, &body)?;
    server.check_model(request.model.as_deref())?;
    check_others(&request.others)?;
    let as_base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Refusal::invalid("`encoding_format` is `float` or `base64`")),
    };
    let texts = request.input.all();
    let fits = |text: &String| (1..=INPUT_BYTES_MAX).contains(&text.len());
    if !(1..=INPUTS_MAX).contains(&texts.len()) || !texts.iter().all(fits) {
        let text = format!("`input` is 1 to {INPUTS_MAX} texts of 1 to {INPUT_BYTES_MAX} bytes");
        return Err(Refusal::invalid(text));
    }
    let bytes: usize = texts.iter().map(String::len).sum();
    let place = server.places.try_acquire().map_err(|_| busy())?;
    let mut place = Some(place);
    let mut data = Vec::with_capacity(texts.len());
    for (index, text) in texts.into_iter().enumerate() {
        // A turn for each text: a client that has left is noticed between two of them.
        let turn = server.turn.acquire().await;
        place.take();
        let computing = Arc::clone(&server);
        let embedding = tokio::task::block_in_place(|| embedded(&computing, &text, as_base64))?;
        drop(turn);
        data.push(json!({"object": "embedding", "index": index, "embedding": embedding}));
    }
    Ok(Json(json!({
        "object": "list", "model": server.name, "data": data,
        "usage": {"prompt_tokens": bytes, "total_tokens": bytes},
    })))
}

/// The embedding of a text, of length 1.
fn embedded(server: &Server, text: &str, as_base64: bool) -> Result<Value, Refusal> {
    if server.is_stopping() {
        return Err(stopping());
    }
    let directions = Directions::new(server.weights.architecture(), [0; 32]);
    let report = soma_model::score(&server.engine, &server.weights, text.as_bytes(), &directions)
        .map_err(|error| Refusal::invalid(error.to_string()))?;
    let components = report.score.embedding.iter().map(|one| f32::from(*one) / UNIT);
    if as_base64 {
        let bytes: Vec<u8> = components.flat_map(f32::to_le_bytes).collect();
        return Ok(json!(BASE64_STANDARD.encode(bytes)));
    }
    Ok(json!(components.collect::<Vec<f32>>()))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, header};

    use super::is_of_this_machine;

    #[test]
    fn pages_of_other_sites_are_not_answered_whatever_name_leads_them_here() {
        let asked = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            is_of_this_machine(&headers)
        };
        for host in ["localhost:8650", "127.0.0.1", "[::1]:8650", "[::1]"] {
            assert!(asked(host, None) && asked(host, Some("http://localhost:3000")), "{host}");
            assert!(!asked(host, Some("https://example.org")) && !asked(host, Some("null")));
        }
        for host in ["example.org", "127.0.0.1.example.org:8650", "10.0.0.1:8650"] {
            assert!(!asked(host, None), "{host}");
        }
        assert!(!is_of_this_machine(&HeaderMap::new()));
    }
}
