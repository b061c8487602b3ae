//! A node's stream of events (`text/event-stream`), resumed where it was interrupted.
//!
//! Every event carries its cursor, so no event is delivered twice or missed; a stream from now on
//! begins with the cursor of now, so that it misses nothing before its first event either. The
//! stream is parsed here because `eventsource-stream` buffers an event of any length; here an event
//! has a limit.

use std::time::Duration;

use reqwest::{Method, Response};

use crate::api::Event;
use crate::api::cursor::Cursor;
use crate::api::routes;
use crate::client::Client;
use crate::error::SdkError;
use crate::retry::{RETRIES, Retries};

/// Pause before a stream that ended is opened again.
const PAUSE: Duration = Duration::from_millis(100);
/// Size limit of an event.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// Events in order, from [`Client::events`].
#[derive(Debug)]
pub struct Events {
    client: Client,
    after: Option<Cursor>,
    response: Option<Response>,
    parser: Parser,
}

impl Client {
    /// Events after the cursor `after`, or from now on. The stream reconnects by itself and misses
    /// nothing.
    pub fn events(&self, after: Option<Cursor>) -> Events {
        Events { client: self.clone(), after, response: None, parser: Parser::default() }
    }
}

impl Events {
    /// Cursor of the last event delivered, or of the time at which the stream first connected; a
    /// later stream can continue after it.
    pub fn cursor(&self) -> Option<Cursor> {
        self.after
    }

    /// Connects now instead of at the first [`Events::next`], so that a stream without a cursor
    /// starts now.
    ///
    /// # Errors
    /// Same as [`Events::next`].
    pub async fn connect(&mut self) -> Result<(), SdkError> {
        if self.response.is_none() {
            self.parser = Parser::default();
            let after = if let Some(after) = self.after {
                after
            } else {
                // After everything that has happened.
                let height = self.client.status().await?.height.0;
                *self.after.insert(Cursor { height, index: u32::MAX })
            };
            self.response = Some(self.open(after).await?);
        }
        Ok(())
    }

    /// The next event, however long it takes.
    ///
    /// # Errors
    /// [`SdkError::Network`] after several failed attempts to reconnect; [`SdkError::Malformed`];
    /// [`SdkError::TooLong`]; [`SdkError::Api`] if the node refuses the stream.
    pub async fn next(&mut self) -> Result<Event, SdkError> {
        let mut retries = Retries::new(RETRIES);
        loop {
            match self.advance().await {
                Ok(event) => return Ok(event),
                Err(error) => {
                    (self.response, self.parser) = (None, Parser::default());
                    retries.pause_or_fail(error).await?;
                }
            }
        }
    }

    /// The next event of this connection, or of a new one if it has ended.
    async fn advance(&mut self) -> Result<Event, SdkError> {
        loop {
            while let Some(data) = self.parser.next() {
                let event = self.read(&data)?;
                if self.after < Some(event.cursor.0) {
                    self.after = Some(event.cursor.0);
                    return Ok(event);
                }
            }
            self.connect().await?;
            let Some(response) = &mut self.response else {
                continue;
            };
            match response.chunk().await.map_err(|error| self.client.network(error))? {
                Some(piece) if self.parser.held_bytes() + piece.len() > EVENT_BYTES_MAX => {
                    let url = self.client.url().to_owned();
                    return Err(SdkError::TooLong { url, limit_bytes: EVENT_BYTES_MAX as u64 });
                }
                Some(piece) => self.parser.push(&piece),
                None => {
                    self.response = None;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn open(&self, after: Cursor) -> Result<Response, SdkError> {
        let mut request = self.client.request(Method::GET, routes::EVENTS);
        request = request.header("accept", "text/event-stream");
        request = request.header("last-event-id", after.to_string());
        self.client.respond(request).await
    }

    fn read(&self, data: &str) -> Result<Event, SdkError> {
        let url = format!("{}{}", self.client.url(), routes::EVENTS);
        serde_json::from_str(data).map_err(|source| SdkError::Malformed { url, source })
    }
}

/// Extracts the `data` of the events of a stream. Comments and other fields are skipped.
#[derive(Debug, Default)]
struct Parser {
    /// Bytes of the incomplete line.
    line: Vec<u8>,
    /// Data lines of the incomplete event.
    data: Option<String>,
    ready: std::collections::VecDeque<String>,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.end_of_line(String::from_utf8_lossy(&line).trim_end_matches('\r'));
            } else {
                self.line.push(byte);
            }
        }
    }

    fn end_of_line(&mut self, line: &str) {
        if line.is_empty() {
            self.ready.extend(self.data.take());
        } else if let Some(value) = line.strip_prefix("data:") {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            }
        }
    }

    fn next(&mut self) -> Option<String> {
        self.ready.pop_front()
    }

    fn held_bytes(&self) -> usize {
        self.line.len() + self.data.as_ref().map_or(0, String::len)
    }
}

#[cfg(test)]
mod tests {
    use super::Parser;
    use proptest::prelude::*;

    #[test]
    fn comments_and_other_fields_are_skipped() {
        let mut parser = Parser::default();
        parser.push(b": hello\n\nid: 1-0\nevent: a\ndata: {\"a\":\ndata: 1}\r\n\r\ndata:x\n");
        assert_eq!(parser.next().as_deref(), Some("{\"a\":\n1}"));
        assert_eq!(parser.next(), None);
        parser.push(b"\n");
        assert_eq!(parser.next().as_deref(), Some("x"));
    }

    proptest! {
        #[test]
        fn events_come_out_whole_however_the_stream_is_cut(
            events in prop::collection::vec("[ -~]{0,20}", 0..5),
            cuts in prop::collection::vec(0usize..200, 0..10),
        ) {
            let stream = events.iter().fold(String::new(), |stream, event| {
                stream + "id: 0-1\ndata: " + event + "\n\n"
            });
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut parser = Parser::default();
            for cut in cuts.windows(2) {
                parser.push(&stream.as_bytes()[cut[0]..cut[1]]);
            }
            let found: Vec<String> = std::iter::from_fn(|| parser.next()).collect();
            prop_assert_eq!(found, events);
        }
    }
}
