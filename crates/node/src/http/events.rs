//! The stream of events of finalized blocks, in order, from any cursor on. It reads the history,
//! and new blocks only wake it, so a slow client costs no more than a cursor. No client may ever
//! miss an event.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use soma_sdk::api::cursor::Cursor;
use soma_sdk::api::text::Text;
use soma_sdk::api::{ApiError, Event};
use soma_store::StoreError;

use super::api::{Api, Query};
use super::feed::Page;
use super::json;
use super::problem::Problem;
use super::turns::Asker;
use crate::error::NodeError;

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
    Extension(asker): Extension<Asker>,
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
    let after = json::event_number(&api.chain.history, cursor).map_err(NodeError::from)?;
    let stream =
        stream::unfold(Follower { api, asker, after, page: None, sent: 0 }, Follower::next);
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("heartbeat")))
}

/// One client's position in the history.
struct Follower {
    api: Api,
    asker: Asker,
    /// The number of the last event before the page, or the last one of all.
    after: u64,
    /// What is being sent, and how many events of it have been.
    page: Option<Arc<Page>>,
    sent: usize,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<Message, Infallible>, Self)> {
        let mut heights = self.api.chain.heights();
        loop {
            if let Some(page) = self.page.take() {
                if let Some(message) = page.messages.get(self.sent).cloned() {
                    self.sent += 1;
                    self.page = Some(page);
                    return Some((Ok(message), self));
                }
                self.after = page.last;
            }
            heights.borrow_and_update();
            match self.read().await {
                Ok(Some(page)) => (self.page, self.sent) = (Some(page), 0),
                // When the node stops, the client can resume elsewhere with its cursor.
                Ok(None) => tokio::select! {
                    changed = heights.changed() => changed.ok()?,
                    () = self.api.shutdown.begun() => return None,
                },
                Err(error) => {
                    tracing::error!(%error, "ending an event stream: cannot read the history");
                    return None;
                }
            }
        }
    }

    /// The next page. Whoever reads one takes a turn with those who ask about the state; the others
    /// find it when their turn comes.
    async fn read(&self) -> Result<Option<Arc<Page>>, StoreError> {
        if let Some(page) = self.api.feed.known(self.after) {
            return Ok(Some(page));
        }
        let _turn = self.api.turns.take(self.asker).await;
        if let Some(page) = self.api.feed.known(self.after) {
            return Ok(Some(page));
        }
        let read = || self.api.feed.read(&self.api.chain.history, self.after);
        tokio::task::block_in_place(read)
    }
}
