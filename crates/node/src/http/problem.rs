//! Errors as the API reports them: status, code, message and hint. It must never leak a path or a
//! secret.

use std::time::Duration;

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use soma_codes::{Code, Coded as _};
use soma_sdk::Text;
use soma_sdk::api::ApiError;

use crate::error::NodeError;
use crate::mempool::QueueError;
use crate::refusal::Refusal;

/// An answer that is not a success.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    body: ApiError,
    /// How long to wait before asking again, if the condition is temporary.
    retry: Duration,
}

impl Problem {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        let status = code.http_status().and_then(|status| StatusCode::from_u16(status).ok());
        Self {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            body: ApiError {
                code: Text(code),
                message: message.into(),
                hint: Some(code.hint().to_owned()),
            },
            retry: Duration::from_secs(1),
        }
    }

    /// The same problem with another hint.
    pub(super) fn hint(mut self, hint: &str) -> Self {
        self.body.hint = Some(hint.to_owned());
        self
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new(Code::Busy, message)
    }

    /// The client exceeds its rate, and is below it again after `wait`.
    pub(super) fn rate_limited(message: impl Into<String>, wait: Duration) -> Self {
        Self { retry: wait, ..Self::new(Code::RateLimited, message) }
    }

    /// The body, without the status.
    pub(super) fn into_body(self) -> ApiError {
        self.body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            let seconds = self.retry.as_millis().div_ceil(1000).max(1);
            let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let problem = Self::new(refusal.code(), refusal.to_string());
        match refusal {
            // The codes of the rules are otherwise found in receipts, which have no status.
            Refusal::Rejected(_) => Self { status: StatusCode::UNPROCESSABLE_ENTITY, ..problem },
            _ => problem,
        }
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        Self::busy(error.to_string())
    }
}

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Self {
        let code = error.code();
        match code {
            // The location of the node's files is private.
            Code::DiskFull => Self::new(code, "the node has no room on its disk"),
            _ if code.http_status().is_some() => Self::new(code, error.to_string()),
            _ => {
                tracing::error!(%error, "request failed");
                Self::new(Code::InternalError, "the node failed to answer")
            }
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
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            _ => Code::BadRequest,
        };
        Self::new(code, rejection.body_text())
    }
}
