//! The paths of the HTTP API, for the node that serves them and the client that calls them.
//!
//! Templates are written as `axum` and `OpenAPI` write them; [`path`] fills them in. Every answer
//! that is not a success is an [`ApiError`](crate::ApiError). No handler lives here.

use soma_protocol::{Address, Epoch, ModelId, TargetId};

/// `GET`: [`Status`](crate::Status).
pub const STATUS: &str = "/v1/status";
/// `GET`: [`Contacts`](crate::Contacts).
pub const CONTACTS: &str = "/v1/contacts";
/// `GET`: the genesis.
pub const GENESIS: &str = "/v1/genesis";
/// `GET`: the parameters in force.
pub const PARAMS: &str = "/v1/params";
/// `GET`: the architecture in force.
pub const ARCHITECTURE: &str = "/v1/architecture";
/// `GET`: [`Epoch`](crate::Epoch).
pub const EPOCH: &str = "/v1/epochs/{epoch}";
/// `GET`: [`EpochMap`](crate::EpochMap).
pub const EPOCH_MAP: &str = "/v1/epochs/{epoch}/map";
/// `GET ?after=CURSOR&limit=N`: page of the [`Event`](crate::Event)s that are the epoch's
/// course, newest first: its phases, its beacon and its emission.
pub const EPOCH_EVENTS: &str = "/v1/epochs/{epoch}/events";
/// `GET`: [`Account`](crate::Account); never 404, an unknown account is empty.
pub const ACCOUNT: &str = "/v1/accounts/{address}";
/// `GET ?after=PLACE&limit=N`: [`Page`](crate::Page) of [`Stake`](crate::Stake): the
/// account's stakes in models and validators, in the order of its list, in which the last takes the
/// place of one that is gone.
pub const STAKES: &str = "/v1/accounts/{address}/stakes";
/// `GET ?after=CURSOR&limit=N`: page of the [`Transaction`](crate::Transaction)s that the
/// account signed, newest first; duties of a validator are among them.
pub const ACCOUNT_TRANSACTIONS: &str = "/v1/accounts/{address}/transactions";
/// `GET ?after=CURSOR&limit=N`: page of [`Event`](crate::Event)s that concern the account, or
/// its validator, newest first.
pub const ACCOUNT_EVENTS: &str = "/v1/accounts/{address}/events";
/// What became of the submissions of an account, newest first.
pub const ACCOUNT_SUBMISSIONS: &str = "/v1/accounts/{address}/submissions";
/// `GET ?epochs=N`: [`Why`](crate::Why) the account's submissions won or did not, in the
/// running epoch and those before it, [`WHY_EPOCHS_MAX`] at most.
pub const ACCOUNT_WHY: &str = "/v1/accounts/{address}/why";
/// `GET`: list of [`Validator`](crate::Validator).
pub const VALIDATORS: &str = "/v1/validators";
/// `GET`: [`Validator`](crate::Validator), including one that has left.
pub const VALIDATOR: &str = "/v1/validators/{address}";
/// `GET ?after=ID&limit=N`: [`Governance`](crate::Governance) with a page of proposals, by id:
/// the last ones, or those before `after`.
pub const GOVERNANCE: &str = "/v1/governance";
/// `GET ?after=CURSOR&limit=N`: page of the [`Event`](crate::Event)s of proposals and votes,
/// and of what they changed, newest first.
pub const GOVERNANCE_EVENTS: &str = "/v1/governance/events";
/// `GET ?after=ID&limit=N`: [`Page`](crate::Page) of [`Model`](crate::Model).
pub const MODELS: &str = "/v1/models";
/// `GET`: [`Model`](crate::Model).
pub const MODEL: &str = "/v1/models/{id}";
/// `GET ?epoch=N`: the model's specialization as a [`Vector`](crate::Vector): as it is now, or
/// as it was when the targets of an epoch were drawn, the running one or the one before.
pub const MODEL_SPECIALIZATION: &str = "/v1/models/{id}/specialization";
/// `GET ?after=CURSOR&limit=N`: page of [`Event`](crate::Event)s that concern the model,
/// newest first.
pub const MODEL_EVENTS: &str = "/v1/models/{id}/events";
/// `GET ?epochs=N`: [`Why`](crate::Why) the model won or did not, as for an account.
pub const MODEL_WHY: &str = "/v1/models/{id}/why";
/// `GET ?epoch=N&after=ID&limit=N`: page of [`Target`](crate::Target), of all epochs if none
/// is named.
pub const TARGETS: &str = "/v1/targets";
/// `GET`: [`Target`](crate::Target).
pub const TARGET: &str = "/v1/targets/{id}";
/// `GET`: the target's direction as a [`Vector`](crate::Vector).
pub const TARGET_DIRECTION: &str = "/v1/targets/{id}/direction";
/// `GET ?after=CURSOR&limit=N`: page of [`Event`](crate::Event)s that concern the target,
/// newest first.
pub const TARGET_EVENTS: &str = "/v1/targets/{id}/events";
/// `GET`: what an account submitted for the target, as a [`Submission`](crate::Submission);
/// [`submission`] fills in both.
pub const SUBMISSION: &str = "/v1/targets/{id}/submissions/{address}";
/// `GET`: the published bytes, 404 once they are pruned.
pub const TARGET_DATA: &str = "/v1/targets/{id}/data";
/// `GET ?hashes=H,H,..`: for each of at most [`PIECES_MAX`](soma_protocol::sketch::PIECES_MAX)
/// pieces of data, the [`Winner`](crate::Winner) that had it first, or null.
pub const PIECES: &str = "/v1/pieces";
/// `POST`, body: up to [`TRIAL_BYTES_MAX`] of data. [`Trial`](crate::Trial): what the active
/// models make of it. On a local network alone, for whoever is at the node's machine; 404
/// elsewhere. Nothing of it enters the chain.
pub const TRIAL: &str = "/v1/trial";
/// `POST`, body: a signed transaction's bytes. 202 and [`Submitted`](crate::Submitted),
/// also for a transaction the node already knows.
pub const TRANSACTIONS: &str = "/v1/transactions";
/// `POST`, body: transactions as in [`batch`](crate::batch). 200 and
/// [`Batch`](crate::Batch), one answer for each in order; a busy node accepts none.
pub const TRANSACTIONS_BATCH: &str = "/v1/transactions/batch";
/// `GET`: [`Transaction`](crate::Transaction).
pub const TRANSACTION: &str = "/v1/transactions/{hash}";
/// `GET`: what the transaction does: its action with all fields.
pub const TRANSACTION_ACTION: &str = "/v1/transactions/{hash}/action";
/// `GET ?after=HEIGHT&limit=N`: page of [`Block`](crate::Block), newest first; `after`
/// means below that height.
pub const BLOCKS: &str = "/v1/blocks";
/// `GET`: [`Block`](crate::Block); instead of its height, its hash may be given.
pub const BLOCK: &str = "/v1/blocks/{height}";
/// `GET ?after=CURSOR&limit=N`: page of the block's [`Transaction`](crate::Transaction)s, in
/// order.
pub const BLOCK_TRANSACTIONS: &str = "/v1/blocks/{height}/transactions";
/// `GET ?after=CURSOR&limit=N`: page of the block's [`Event`](crate::Event)s, in order.
pub const BLOCK_EVENTS: &str = "/v1/blocks/{height}/events";
/// `GET ?after=CURSOR`: server-sent events with `id` = cursor, `event` = kind, `data` =
/// [`Event`](crate::Event). `Last-Event-ID` takes precedence over `after`; without either, the
/// stream starts now; `0-0` starts it at genesis.
pub const EVENTS: &str = "/v1/events";
/// `GET`: the encrypted file, with ranges.
pub const CIPHERTEXT: &str = "/v1/ciphertexts/{hash}";
/// `?size_bytes=N`. `GET`: [`Upload`](crate::Upload), 404 unless a commit names a file with
/// this hash and size. `PUT`, body: bytes
/// of the encrypted file from `Content-Range: bytes FROM-LAST/SIZE` on (without it, all of them):
/// [`Upload`](crate::Upload), or 409 `upload_offset` if FROM is not what was received. Both
/// need an `Authorization` header with an [`UploadPermit`](crate::permit::UploadPermit).
pub const UPLOAD: &str = "/v1/ciphertexts/{hash}/upload";
/// `GET`: the decrypted file once it is revealed, with ranges.
pub const WEIGHTS: &str = "/v1/weights/{hash}";
/// `GET ?keys=KEY,KEY,..`: [`Proof`](crate::Proof) of what the records of at most
/// [`PROVED_RECORDS_MAX`] keys are, each in hex.
pub const PROOF: &str = "/v1/proof";
/// `GET ?after=TERM`: [`Handovers`](crate::Handovers): the changes of the committee after this
/// term, or from the first on, at most [`HANDOVERS_MAX`].
pub const HANDOVERS: &str = "/v1/handovers";
/// `GET`: 200 while the process runs.
pub const HEALTH: &str = "/healthz";
/// `GET`: 200 when the node is ready; otherwise 503 with the reason.
pub const READY: &str = "/readyz";
/// `GET`: Prometheus text.
pub const METRICS: &str = "/metrics";
/// `GET`: the `OpenAPI` document.
pub const OPENAPI: &str = "/openapi.json";

/// Items of a page if the request names no limit.
pub const PAGE_DEFAULT: u32 = 50;
/// The most items on one page.
pub const PAGE_MAX: u32 = 500;
/// The most records in one proof.
pub const PROVED_RECORDS_MAX: usize = 64;
/// The most handovers of one answer.
pub const HANDOVERS_MAX: usize = 32;
/// Epochs that an answer to why looks back if the request names no number.
pub const WHY_EPOCHS_DEFAULT: u32 = 3;
/// The most epochs that an answer to why looks back.
pub const WHY_EPOCHS_MAX: u32 = 10;
/// The most bytes of data in a trial.
pub const TRIAL_BYTES_MAX: usize = 16 << 10;
/// Bytes of an upload that the client sends in one request.
pub const UPLOAD_PIECE_BYTES: u64 = 8 << 20;

/// The path of a model's specialization, now or as the targets of an epoch were drawn.
pub fn specialization(model: ModelId, epoch: Option<Epoch>) -> String {
    let query = epoch.map(|epoch| format!("?epoch={epoch}")).unwrap_or_default();
    format!("{}{query}", path(MODEL_SPECIALIZATION, model))
}

/// The path of what an account submitted for a target.
pub fn submission(target: TargetId, submitter: Address) -> String {
    path(&path(SUBMISSION, target), submitter)
}

/// `template` with its first `{parameter}` replaced by `value`, which must need no escaping: a
/// number, a hash, an address.
pub fn path(template: &str, value: impl std::fmt::Display) -> String {
    match (template.find('{'), template.find('}')) {
        (Some(open), Some(close)) if open < close => {
            format!("{}{value}{}", &template[..open], &template[close + 1..])
        }
        _ => template.to_owned(),
    }
}
