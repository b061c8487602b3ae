//! The stream of events of finalized blocks, in order, from any cursor on. It reads the history,
//! and new blocks only wake it, so a slow client costs no more than a cursor. No client may ever
//! miss an event.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use soma_sdk::api::cursor::Cursor;
use soma_sdk::api::text::Text;
use soma_sdk::api::{ApiError, Event};

use super::api::{Api, Parts, Query};
use super::json;
use super::problem::Problem;

/// Events read from the history at a time.
const PAGE: usize = 256;
/// Time between comments that keep an idle stream open.
const HEARTBEAT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
pub(super) struct From {
    after: Option<Text<Cursor>>,
}

/// Events as their blocks are finalized
#[utoipa::path(get, path = soma_sdk::api::routes::EVENTS, tag = "history",
    params(("after" = Option<String>, Query,
        description = "a cursor `HEIGHT-INDEX`; `0-0` is the beginning; without it, from now on"),
        ("Last-Event-ID" = Option<String>, Header,
        description = "the cursor of the last event received; wins over `after`")),
    responses((status = 200, body = Event, content_type = "text/event-stream"),
        (status = 400, body = ApiError)))]
pub(super) async fn events(
    State(api): State<Api>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Problem> {
    let last = match headers.get("last-event-id") {
        Some(value) => {
            let cursor = value.to_str().ok().and_then(|text| text.parse::<Cursor>().ok());
            let refuse = || Problem::bad_request("Last-Event-ID must be a cursor, HEIGHT-INDEX");
            Some(cursor.ok_or_else(refuse)?)
        }
        None => from.after.map(|cursor| *cursor),
    };
    let cursor = last.unwrap_or(Cursor { height: api.chain.height(), index: u32::MAX });
    let stream = stream::unfold(
        Follower { parts: api.parts.clone(), cursor, page: Vec::new() },
        Follower::next,
    );
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("heartbeat")))
}

/// One client's position in the history.
struct Follower {
    parts: Parts,
    cursor: Cursor,
    /// Events read ahead, in reverse order.
    page: Vec<Event>,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<Message, Infallible>, Self)> {
        let mut heights = self.parts.chain.heights();
        loop {
            if let Some(event) = self.page.pop() {
                self.cursor = *event.cursor;
                return Some((Ok(message(&event)), self));
            }
            heights.borrow_and_update();
            match json::events(&self.parts.chain.history, self.cursor, PAGE) {
                Ok(page) if !page.is_empty() => self.page = page.into_iter().rev().collect(),
                // When the node stops, the client can resume elsewhere with its cursor.
                Ok(_) => tokio::select! {
                    changed = heights.changed() => changed.ok()?,
                    () = self.parts.shutdown.begun() => return None,
                },
                Err(error) => {
                    tracing::error!(%error, "ending an event stream: cannot read the history");
                    return None;
                }
            }
        }
    }
}

fn message(event: &Event) -> Message {
    let message = Message::default().id(event.cursor.to_string()).event(&event.event);
    // An event is made of strings and numbers, so it always has a JSON form.
    message.json_data(event).unwrap_or_default()
}
