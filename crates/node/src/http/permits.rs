//! Who may have a place for files that is not for everybody: an account whose commit names the file
//! that it uploads, and a peer of this node. Both show a signature before anything else is done for
//! them.

use std::time::Duration;

use axum::extract::{FromRequestParts, Query, Request};
use axum::http::{HeaderMap, header, request};
use serde::Deserialize;
use soma_os::clock::now_ms;
use soma_protocol::{Address, Hash, read};
use soma_sdk::api::permit::{PERMIT, PeerPermit, UploadPermit};
use soma_sdk::api::routes;

use super::api::Api;
use super::lane::{Holder, Lane, uploaded};
use super::problem::Problem;
use crate::error::NodeError;
use crate::weights::Ciphertext;

/// How long an owner waits whose commit was finalized a moment ago.
const LISTED_WITHIN: Duration = Duration::from_secs(2);

/// The size that, with its hash, names a file.
#[derive(Deserialize)]
struct Size {
    size_bytes: u64,
}

/// An upload that its owner has signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permitted {
    pub(super) file: Ciphertext,
    pub(super) uploader: Address,
}

impl FromRequestParts<Api> for Permitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, _: &Api) -> Result<Self, Problem> {
        let permitted = parts.extensions.get().copied();
        permitted
            .ok_or_else(|| Problem::bad_request("the path names no file, or the query no size"))
    }
}

/// The permit in a request's headers.
fn permit<P: std::str::FromStr>(headers: &HeaderMap) -> Option<P> {
    let value = headers.get(PERMIT).or_else(|| headers.get(header::AUTHORIZATION))?;
    value.to_str().ok()?.parse().ok()
}

/// Adds to a request in the lane for uploads what its owner has signed. One without a hash and a
/// size is left to the handler, which refuses it.
///
/// # Errors
/// `upload_not_permitted`, or `commit_not_found` if the chain needs no such file.
async fn sign_in(api: &Api, request: &mut Request) -> Result<(), Problem> {
    let hash: Option<Hash> = uploaded(request.uri().path()).and_then(|hash| hash.parse().ok());
    let size = Query::<Size>::try_from_uri(request.uri()).ok();
    let (Some(hash), Some(Query(Size { size_bytes }))) = (hash, size) else {
        return Ok(());
    };
    let file = Ciphertext { hash, size_bytes };
    let refused = || NodeError::UploadNotPermitted { hash };
    let permit: UploadPermit = permit(request.headers()).ok_or_else(refused)?;
    if !permit.permits(&api.chain.id, &hash, now_ms()) {
        return Err(refused().into());
    }
    let uploader = permit.uploader;
    if !api.weights.may_upload(&file, &uploader) {
        // A commit that was finalized a moment ago may not be in the list yet.
        let listed = api.weights.listed_at(api.chain.height());
        let _late = tokio::time::timeout(LISTED_WITHIN, listed).await;
    }
    api.weights.check_needed(&file)?;
    if !api.weights.may_upload(&file, &uploader) {
        return Err(refused().into());
    }
    request.extensions_mut().insert(Permitted { file, uploader });
    Ok(())
}

/// The peer of this node that downloads an encrypted file, if it is one.
fn peer(api: &Api, request: &Request) -> Option<Holder> {
    let (begin, _) = routes::CIPHERTEXT.split_once("{hash}")?;
    let hash: Hash = request.uri().path().strip_prefix(begin)?.parse().ok()?;
    let permit: PeerPermit = permit(request.headers())?;
    let is_seated = || {
        let seats = api.chain.read(|state, _| read::committee(state).seats);
        seats.iter().any(|seat| seat.consensus_key == permit.peer)
    };
    let is_peer = permit.permits(&api.chain.id, &api.key, &hash, now_ms())
        && (api.health.around.trusted.contains(&permit.peer) || is_seated());
    is_peer.then_some(Holder::Peer(permit.peer))
}

/// The lane of a request, and who holds its place, other than a client.
///
/// # Errors
/// Same as [`sign_in`].
pub(super) async fn admit(
    api: &Api,
    lane: Lane,
    request: &mut Request,
) -> Result<(Lane, Option<Holder>), Problem> {
    match lane {
        Lane::Upload => sign_in(api, request).await.map(|()| (lane, None)),
        Lane::Download => Ok(match peer(api, request) {
            Some(peer) => (Lane::Peer, Some(peer)),
            None => (lane, None),
        }),
        _ => Ok((lane, None)),
    }
}
