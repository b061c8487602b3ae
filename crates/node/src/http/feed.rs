//! The events that streams send, a page at a time. Streams that have reached the end of the history
//! all need the same pages, so a page that one has read and put into JSON serves the others.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::response::sse::Event as Message;
use parking_lot::Mutex;
use soma_sdk::api::Event;
use soma_store::{History, StoreError};

use super::json;

/// Events of a page.
const PAGE: usize = 256;
/// Pages that are kept: streams that are a little behind need the ones before the last.
const PAGES_MAX: usize = 8;

/// Consecutive events.
#[derive(Debug)]
pub(super) struct Page {
    /// The number of the last event before them.
    after: u64,
    /// The number of the last of them.
    pub(super) last: u64,
    pub(super) messages: Vec<Message>,
}

/// The last pages that were read. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Feed(Arc<Mutex<VecDeque<Arc<Page>>>>);

impl Feed {
    /// The page that was read after this event, unless it is too long ago.
    pub(super) fn known(&self, after: u64) -> Option<Arc<Page>> {
        self.0.lock().iter().rev().find(|page| page.after == after).cloned()
    }

    /// Reads the events after this one, up to a page; `None` if there are none yet.
    pub(super) fn read(
        &self,
        history: &History,
        after: u64,
    ) -> Result<Option<Arc<Page>>, StoreError> {
        let events = json::events(history, after, PAGE)?;
        let Some((last, _)) = events.last() else {
            return Ok(None);
        };
        let messages = events.iter().map(|(_, event)| message(event)).collect();
        let page = Arc::new(Page { after, last: *last, messages });
        let mut pages = self.0.lock();
        // Some streams may have read it at the same time.
        pages.retain(|page| page.after != after);
        pages.push_back(Arc::clone(&page));
        if pages.len() > PAGES_MAX {
            pages.pop_front();
        }
        Ok(Some(page))
    }
}

fn message(event: &Event) -> Message {
    let message = Message::default().id(event.cursor.to_string()).event(&event.event);
    // An event is made of strings and numbers, so it always has a JSON form.
    message.json_data(event).unwrap_or_default()
}
