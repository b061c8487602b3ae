//! The body of an answer: it holds the places of its request until the client has taken it, passes
//! in pieces, and is paid for by its client. A large answer must never lie in the server's buffers
//! after its place is free.

use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use http_body::Frame;
use tokio::time::{Sleep, sleep};

use super::clients::Place;
use super::connections::Busy;
use super::lane::Running;
use super::pace::Pace;

/// Bytes that are handed to the connection at a time.
const PIECE_BYTES: usize = 64 << 10;

/// What a request holds while it runs; released when dropped.
pub(super) struct Held {
    /// Its place in its lane.
    pub(super) running: Arc<Running>,
    /// Its place among its client's.
    pub(super) place: Place,
    /// Its connection.
    pub(super) _busy: Busy,
}

/// A body that holds its request's places until it has been sent.
pub(super) struct Answer {
    body: Body,
    /// What is left of a frame that is longer than a piece.
    rest: Bytes,
    /// Runs while the client is above its rate; streams alone wait, other answers are complete.
    pause: Option<Pin<Box<Sleep>>>,
    held: Held,
}

impl Answer {
    pub(super) fn new(body: Body, held: Held) -> Self {
        Self { body, rest: Bytes::new(), pause: None, held }
    }

    /// The next piece of the rest, which the client pays for.
    fn piece(&mut self) -> Frame<Bytes> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        if let Some(pace) = self.held.running.pace_of_answer() {
            pace.moved(piece.len());
        }
        let wait = self.held.place.pay_for(piece.len());
        self.pause = wait.map(|wait| Box::pin(sleep(wait)));
        Frame::data(piece)
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        // The client has taken all that was handed over: a file that moves too slowly ends here.
        if self.held.running.pace_of_answer().is_some_and(Pace::is_too_slow) {
            let slow = std::io::Error::new(ErrorKind::TimedOut, "the client reads too slowly");
            return Poll::Ready(Some(Err(axum::Error::new(slow))));
        }
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        Poll::Ready(Some(Ok(self.piece())))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let rest = self.rest.len() as u64;
        let mut hint = self.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}
