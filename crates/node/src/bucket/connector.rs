//! How the library for object stores reaches a service: by the HTTP client that the rest of this
//! program has, with its TLS and its issuers.

use async_trait::async_trait;
use axum::http::Response;
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpResponseBody, HttpService,
};

/// Makes clients that share their connections.
#[derive(Debug)]
pub(super) struct Connector(pub(super) reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allowed = options.get_config_value(&ClientConfigKey::AllowHttp);
        let allows_plain = allowed.is_some_and(|allowed| allowed == "true");
        Ok(HttpClient::new(Service { client: self.0.clone(), allows_plain }))
    }
}

#[derive(Debug)]
struct Service {
    client: reqwest::Client,
    /// Whether requests may be sent without TLS.
    allows_plain: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the endpoint has no TLS")]
struct NoTls;

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        if parts.uri.scheme_str() != Some("https") && !self.allows_plain {
            return Err(HttpError::new(HttpErrorKind::Unknown, NoTls));
        }
        let url = reqwest::Url::parse(&parts.uri.to_string());
        let url = url.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = Some(body.collect().await?.to_bytes().into());
        let response = self.client.execute(request).await.map_err(failure)?;
        let response: Response<reqwest::Body> = response.into();
        Ok(response.map(|body| HttpResponseBody::new(body.map_err(failure))))
    }
}

/// What failed, without the URL, which may be signed.
fn failure(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        // A body that was cut, or a connection that ended.
        HttpErrorKind::Interrupted
    };
    HttpError::new(kind, error.without_url())
}
