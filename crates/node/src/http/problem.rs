//! Errors as the API tells them: a status, a stable code, a sentence, a hint. It must never leak a path or a secret.

use std::time::Duration;

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use soma_sdk::types::ApiError;

use crate::error::NodeError;
use crate::mempool::Refusal;

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    body: ApiError,
    /// When it is worth asking again, of a passing trouble.
    retry: Duration,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let body = ApiError {
            code: code.to_owned(),
            message: message.into(),
            hint: None,
        };
        Self {
            status,
            body,
            retry: Duration::from_secs(1),
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.body.hint = Some(hint.into());
        self
    }

    pub(crate) fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, &format!("{what}_not_found"), format!("there is no {what} {id}"))
            .hint(format!("it may not be final yet, or it is long settled; list what there is and look for the {what}"))
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
            .hint("the parameters and their forms are in /openapi.json")
    }

    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).hint("try again in a moment")
    }

    /// The client asks more than its share; `wait` until its share is there again.
    pub(crate) fn rate_limited(message: impl Into<String>, wait: Duration) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message)
            .hint("wait as long as Retry-After says; send transactions in batches");
        problem.retry = wait;
        problem
    }

    /// What is said, without the status.
    pub(crate) fn into_body(self) -> ApiError {
        self.body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if matches!(
            self.status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            let seconds = self.retry.as_millis().div_ceil(1000).max(1);
            let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

fn refusal_status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::MempoolFull => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::AccountFull(_) => StatusCode::TOO_MANY_REQUESTS,
        Refusal::NonceTooLow { .. }
        | Refusal::NonceTooHigh { .. }
        | Refusal::ReplacementUnderpriced { .. } => StatusCode::CONFLICT,
        Refusal::NotEntitled => StatusCode::FORBIDDEN,
        Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        NodeError::from(refusal).into()
    }
}

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Self {
        let status = match &error {
            NodeError::Refused(refusal) => refusal_status(refusal),
            NodeError::CommitNotFound { .. }
            | NodeError::WeightsNotFound { .. }
            | NodeError::WeightsNotHeld { .. } => StatusCode::NOT_FOUND,
            NodeError::UploadNotPermitted { .. } => StatusCode::FORBIDDEN,
            NodeError::UploadBusy { .. } | NodeError::UploadOffset { .. } => StatusCode::CONFLICT,
            NodeError::UploadTooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            NodeError::UploadStalled => StatusCode::REQUEST_TIMEOUT,
            NodeError::CiphertextMismatch { .. } | NodeError::WeightsMismatch { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            NodeError::DiskFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let message = match &error {
            // Where the node keeps its files is nobody's business.
            NodeError::DiskFull { .. } => "the node's disk is full".to_owned(),
            _ if status == StatusCode::INTERNAL_SERVER_ERROR => {
                tracing::error!(%error, "request failed");
                "the node failed to answer; its log says why".to_owned()
            }
            _ => error.to_string(),
        };
        let problem = Self::new(status, error.code(), message);
        match error.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        let status = rejection.status();
        let code = if status == StatusCode::PAYLOAD_TOO_LARGE {
            "body_too_large"
        } else {
            "bad_request"
        };
        Self::new(status, code, rejection.body_text())
            .hint("a transaction has at most 128 KiB, a batch 1 MiB")
    }
}
