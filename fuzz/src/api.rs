//! The HTTP API of a running node, from the first byte of a connection on.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use soma_node::Node;
use soma_node::localnet::{Localnet, Plan};

/// How long a node may take to answer a request that is complete.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to read an answer that may never come: to half a request, or a stream of events.
const READ_TIMEOUT: Duration = Duration::from_millis(30);
const ANSWER_BYTES_MAX: u64 = 4_096;

/// One node for all inputs, stopped with the process.
struct Api {
    node: Node,
    _dir: tempfile::TempDir,
}

#[expect(clippy::expect_used, reason = "without a node there is nothing to fuzz")]
static API: LazyLock<Api> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let network = Localnet::create(&dir.path().join("network"), &Plan::manual([0; 32]));
    let port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = network.and_then(|network| network.node(port));
    let node = config.and_then(soma_node::start).expect("a running node");
    Api { node, _dir: dir }
});

/// Sends a request, complete or not, and returns the beginning of what is answered in time.
fn exchange(request: &[u8], timeout: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&API.node.api(), ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(timeout))?;
    // The node may answer and close before it has read everything.
    let _closed = stream.write_all(request);
    let mut answer = Vec::new();
    let _timed_out = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    Ok(answer)
}

/// No request makes the node fail, nor stop serving others.
///
/// # Panics
/// If it answers 500, or is not ready afterwards.
#[expect(clippy::expect_used, reason = "the node must accept connections")]
pub fn check(input: &[u8]) {
    let answer = exchange(input, READ_TIMEOUT).expect("a connection");
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.starts_with("HTTP/1.1 500"), "internal error: {text}");
    let ready = b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = exchange(ready, ANSWER_TIMEOUT).expect("a connection");
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 200"), "no longer ready: {text}");
}
