//! A connection that does not wait forever for its client: a client that takes an answer too
//! slowly is cut off, because what it has not taken yet is in this node's memory.
//!
//! `hyper` limits the time of a request's headers, but never that of writing an answer.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long a node waits for a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long a client may keep the node waiting at once.
    pub(super) longest: Duration,
    /// The least rate at which it must take an answer in the long run.
    pub(super) bytes_per_second: u32,
}

/// A stream whose writes have a time limit. Waiting uses up patience, and every byte that the
/// client takes restores some.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    limit: Patience,
    /// What is left of it.
    patience: Duration,
    /// Since when a write waits, and when patience ends.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, limit: Patience) -> Self {
        Self { stream, limit, patience: limit.longest, waiting: None }
    }

    /// The client has not taken what was sent before.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        let patience = self.patience;
        let start = || (Instant::now(), Box::pin(sleep(patience)));
        let (_, ended) = self.waiting.get_or_insert_with(start);
        ready!(ended.as_mut().poll(context));
        Poll::Ready(Error::new(ErrorKind::TimedOut, "the client reads too slowly"))
    }

    /// The client has taken some bytes.
    fn sent(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.patience = self.patience.saturating_sub(since.elapsed());
        }
        let rate = u64::from(self.limit.bytes_per_second.max(1));
        let earned = Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / rate);
        self.patience = self.limit.longest.min(self.patience.saturating_add(earned));
    }

    fn limited(
        &mut self,
        written: Poll<Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.sent(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Pending => self.wait(context).map(Err),
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limited(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.limited(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::sleep;

    use super::{Patience, Patient};

    const LIMIT: Patience =
        Patience { longest: Duration::from_millis(300), bytes_per_second: 16 << 10 };
    /// Bytes that the network between node and client holds.
    const ON_THE_WAY: usize = 1024;

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_cut_off() {
        let (node, client) = duplex(ON_THE_WAY);
        let begun = Instant::now();
        let error = Patient::new(node, LIMIT).write_all(&[0; 4096]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() >= LIMIT.longest);
        drop(client);
    }

    #[tokio::test]
    async fn a_client_that_takes_a_byte_now_and_then_is_cut_off() {
        let (node, mut client) = duplex(ON_THE_WAY);
        tokio::spawn(async move {
            while client.read_u8().await.is_ok() {
                sleep(Duration::from_millis(50)).await;
            }
        });
        let written = Patient::new(node, LIMIT).write_all(&vec![0; 1 << 20]).await;
        assert_eq!(written.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_is_slow_but_fast_enough_gets_everything() {
        let (node, mut client) = duplex(ON_THE_WAY);
        let reader = tokio::spawn(async move {
            let (mut piece, mut read) = (vec![0; ON_THE_WAY], 0);
            while let Ok(bytes @ 1..) = client.read(&mut piece).await {
                read += bytes;
                sleep(Duration::from_millis(5)).await;
            }
            read
        });
        let bytes = vec![0; 128 * ON_THE_WAY];
        let begun = Instant::now();
        let mut node = Patient::new(node, LIMIT);
        node.write_all(&bytes).await.unwrap();
        assert!(begun.elapsed() > LIMIT.longest, "longer than the node waits at once");
        drop(node);
        assert_eq!(reader.await.unwrap(), bytes.len());
    }
}
