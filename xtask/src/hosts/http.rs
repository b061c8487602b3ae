//! Asks the API of a node: one request, one connection, plain HTTP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::json::Json;

/// Port of a node's API, as the guides have it.
const PORT: u16 = 8645;

/// How long a node may take to answer. It is a machine's load that takes time, not the node.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a question is asked that a node refuses because of its limits for a client.
const ASKED_MAX: u32 = 60;

/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// The most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// What the node at `address` answers to a `GET`.
///
/// An error if it cannot be reached, does not answer in time, or answers with an error.
pub(crate) fn get(address: &str, path: &str) -> Result<Json, String> {
    let mut asked = 0;
    loop {
        let (status, body) = exchange(address, path).map_err(|error| format!("{path}: {error}"))?;
        asked += 1;
        match status.as_str() {
            "200" => return Json::parse(&body),
            "429" if asked < ASKED_MAX => std::thread::sleep(PAUSE),
            _ => return Err(format!("{path}: {status} {body}")),
        }
    }
}

fn exchange(address: &str, path: &str) -> Result<(String, String), String> {
    let ip = address.parse().map_err(|error| format!("{address}: {error}"))?;
    let answer = ask(SocketAddr::new(ip, PORT), path).map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer has no end of headers")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    Ok((status.to_owned(), body.to_owned()))
}

fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // With this version, the end of the connection is the end of the answer.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}
