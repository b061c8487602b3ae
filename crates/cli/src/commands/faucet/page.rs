//! The page of a faucet: a form and its answer, without a script. Everything that is shown in it is
//! text of this program, or an address or a hash.

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use soma_protocol::Amount;

/// The page of a browser that allows nothing but what is in it.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

pub(super) const STYLE: &str = "\
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 38rem; margin: 4rem auto; padding: 0 1rem }
input { font: inherit; width: 100%; box-sizing: border-box; padding: .5rem }
button { font: inherit; margin-top: .75rem; padding: .5rem 1rem }
code { overflow-wrap: anywhere }
";

/// What a page says above its form.
pub(super) enum News<'a> {
    /// Nothing was asked yet.
    None,
    /// An account was paid, with this transaction.
    Paid { address: &'a str, transaction: &'a str },
    /// Why it was not.
    Refused { message: &'a str, hint: &'a str },
}

pub(super) fn page(chain: &str, amount: Amount, pause: &str, news: &News<'_>) -> Response {
    let news = match news {
        News::None => String::new(),
        News::Paid { address, transaction } => format!(
            "<p role=\"status\"><strong>Paid.</strong> <code>{}</code> has {amount} SOMA more, by \
             transaction <code>{}</code>.</p>\n",
            text(address),
            text(transaction)
        ),
        News::Refused { message, hint } => format!(
            "<p role=\"alert\"><strong>Not paid:</strong> {}.<br>{}.</p>\n",
            text(message),
            text(hint)
        ),
    };
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>Faucet</title>\n<link rel=\"stylesheet\" \
         href=\"style.css\">\n<h1>Faucet</h1>\n<p>Gives {amount} SOMA of the test network \
         <code>{}</code> to an account, once in {}. They are worth nothing.</p>\n{news}<form \
         method=\"post\" action=\"./\">\n<label>Address of the account, as <code>soma keys \
         list</code> shows it\n<input name=\"address\" required pattern=\"soma1[a-z0-9]+\" \
         placeholder=\"soma1...\" autocomplete=\"off\" spellcheck=\"false\"></label>\n\
         <button>Pay</button>\n</form>\n</html>\n",
        text(chain),
        text(pause)
    );
    let mut response = Html(page).into_response();
    let policy = HeaderValue::from_static(POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// As text of a page.
fn text(given: &str) -> String {
    given.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
