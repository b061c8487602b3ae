//! Other nodes that are asked whether they say the same.
//!
//! What a bond depends on, such as the models of a target or the architecture, is what a node says.
//! A claim must never rest on a false answer, so whoever names witnesses has every such answer
//! compared with theirs.

use std::time::Duration;

use soma_sdk::api::{Target, TargetStatus};
use soma_sdk::client::Client;

use crate::error::{CompeteError, Result};

/// A node may be a few blocks behind another one.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1_000 });
const TRIES: u32 = 10;

/// Asks each witness until its answer is the expected one.
///
/// # Errors
/// [`CompeteError::NodesDisagree`] if it stays another one; network errors.
pub(crate) async fn agree<T: PartialEq>(
    witnesses: &[Client],
    what: &'static str,
    expected: &T,
    ask: impl AsyncFn(&Client) -> Result<T>,
) -> Result {
    for witness in witnesses {
        let mut tries = 0;
        while ask(witness).await? != *expected {
            tries += 1;
            if tries == TRIES {
                return Err(CompeteError::NodesDisagree { url: witness.url().to_owned(), what });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// What decides a claim for a target: its candidates and status change with every block.
pub(crate) fn fixed(target: Target) -> Target {
    Target {
        candidates: Vec::new(),
        status: TargetStatus::Open,
        returned: None,
        publication: None,
        payment: None,
        ..target
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use soma_codes::Coded as _;
    use soma_sdk::client::Client;

    use super::{TRIES, agree};

    #[tokio::test]
    async fn a_witness_that_is_behind_is_waited_for_and_one_that_disagrees_stops_the_work() {
        let witnesses = ["http://127.0.0.1:1", "http://127.0.0.1:2"];
        let witnesses = witnesses.map(|url| Client::new(url).unwrap());
        let asked = Cell::new(0);
        let ask = async |_: &Client| {
            asked.set(asked.get() + 1);
            Ok(asked.get())
        };
        agree(&witnesses[..1], "a number", &TRIES, ask).await.unwrap();
        let ask = async |client: &Client| Ok(client.url().ends_with('1'));
        let error = agree(&witnesses, "a fact", &true, ask).await.unwrap_err();
        assert_eq!(error.code().as_str(), "nodes_disagree");
        assert_eq!(error.to_string(), "http://127.0.0.1:2 says something else about a fact");
        let ask = async |_: &Client| panic!("there is no witness");
        agree(&[], "a fact", &true, ask).await.unwrap();
    }
}
