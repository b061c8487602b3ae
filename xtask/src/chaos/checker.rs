//! Compares what nodes say with what they said before and with each other. It asks nobody: it is
//! given answers of the API.

use std::collections::BTreeMap;
use std::fmt;

use crate::json::Json;

/// The first promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Whose log may tell more; empty if it is the network's.
    pub(crate) node: String,
    what: String,
}

impl Violation {
    pub(crate) fn new(node: &str, what: impl Into<String>) -> Self {
        Self { node: node.to_owned(), what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.node.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.node, self.what)
        }
    }
}

type Checked = Result<(), Violation>;

/// A block as the first node that was asked has it.
#[derive(Debug)]
struct Known {
    hash: String,
    state_root: String,
    node: String,
}

/// A payment that a node has reported as finalized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payment {
    pub(crate) hash: String,
    /// The node that said so.
    pub(crate) node: String,
    /// Height of its block, once a node was asked.
    pub(crate) height: Option<u64>,
}

/// What all nodes have said.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    blocks: BTreeMap<u64, Known>,
    /// The height that each node has reported.
    heights: BTreeMap<String, u64>,
    /// The highest stake of each validator's pool.
    stakes: BTreeMap<String, u64>,
    payments: Vec<Payment>,
}

impl Checker {
    /// The highest block of all that nodes have reported.
    pub(crate) fn height(&self) -> u64 {
        self.heights.values().copied().max().unwrap_or(0)
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    pub(crate) fn payments(&self) -> usize {
        self.payments.len()
    }

    /// An answer of `/v1/status`.
    pub(crate) fn status(&mut self, node: &str, status: &Json) -> Checked {
        let field = |name: &str| {
            let value = status.get(name).integer();
            value.ok_or_else(|| Violation::new(node, format!("its status has no {name}")))
        };
        let height = field("height")?;
        let reported = self.heights.entry(node.to_owned()).or_insert(height);
        if height < *reported {
            let what = format!("had finalized block {reported} and is at {height}");
            return Err(Violation::new(node, what));
        }
        *reported = height;
        if !status.get("supply").get("conserved").is_true() {
            return Err(Violation::new(node, "its money is not conserved"));
        }
        if height == 0 {
            return Ok(());
        }
        let root = status.get("state_root").text();
        self.block(node, height, status.get("block").text(), root)
    }

    /// The node's folder was replaced by an older one: it may have less than it reported.
    pub(crate) fn restored(&mut self, node: &str) {
        self.heights.remove(node);
    }

    /// An answer of `/v1/blocks`: a page.
    pub(crate) fn page(&mut self, node: &str, page: &Json) -> Checked {
        for block in page.get("items").list() {
            let Some(height) = block.get("height").integer() else {
                return Err(Violation::new(node, "a block has no height"));
            };
            self.block(node, height, block.get("hash").text(), block.get("state_root").text())?;
        }
        Ok(())
    }

    fn block(&mut self, node: &str, height: u64, hash: &str, state_root: &str) -> Checked {
        let known = self.blocks.entry(height).or_insert_with(|| Known {
            hash: hash.to_owned(),
            state_root: state_root.to_owned(),
            node: node.to_owned(),
        });
        if known.hash == hash && known.state_root == state_root {
            return Ok(());
        }
        let what = format!(
            "has block {hash} with state {state_root} at height {height}, where {} has {} with {}",
            known.node, known.hash, known.state_root
        );
        Err(Violation::new(node, what))
    }

    /// A node has reported a payment as finalized.
    pub(crate) fn paid(&mut self, node: &str, hash: &str) {
        let (hash, node) = (hash.to_owned(), node.to_owned());
        self.payments.push(Payment { hash, node, height: None });
    }

    /// The payments from the `from`th on.
    pub(crate) fn payments_from(&self, from: usize) -> Vec<Payment> {
        self.payments.get(from..).unwrap_or_default().to_vec()
    }

    /// A node's answer of `/v1/transactions/HASH` for the `index`th payment, at a time when it has
    /// every block that was finalized when the payment was reported.
    pub(crate) fn payment(
        &mut self,
        node: &str,
        index: usize,
        answer: Result<&Json, &str>,
    ) -> Checked {
        let Some(payment) = self.payments.get_mut(index) else { return Ok(()) };
        let said = format!("payment {}, finalized for {}", payment.hash, payment.node);
        let transaction =
            answer.map_err(|error| Violation::new(node, format!("lacks {said}: {error}")))?;
        let height = transaction.get("height").integer();
        if transaction.get("state").text() != "final" || height.is_none() {
            return Err(Violation::new(node, format!("does not have as finalized {said}")));
        }
        if payment.height.is_some() && payment.height != height {
            let (first, found) = (payment.height.unwrap_or(0), height.unwrap_or(0));
            return Err(Violation::new(node, format!("has in block {found}, not {first}: {said}")));
        }
        payment.height = height;
        Ok(())
    }

    /// An answer of `/v1/validators`: nobody is honest and punished. Missed beacons cost nothing in
    /// this network, and nobody withdraws: no stake may shrink.
    pub(crate) fn validators(&mut self, node: &str, validators: &Json) -> Checked {
        for validator in validators.list() {
            let address = validator.get("address").text();
            let status = validator.get("status").text();
            if status != "ready" {
                let what = format!("says that the honest validator {address} is {status}");
                return Err(Violation::new(node, what));
            }
            let stake = validator.get("stake").integer().unwrap_or(0);
            let before = self.stakes.entry(address.to_owned()).or_insert(stake);
            if stake < *before {
                let what = format!("says that {address} has {stake} at stake, before {before}");
                return Err(Violation::new(node, what));
            }
            *before = stake;
        }
        Ok(())
    }
}

/// How many epochs in a row a validator has missed, from an answer of `/v1/validators`.
pub(crate) fn missed(validators: &Json, address: &str) -> Option<u64> {
    let mut list = validators.list().iter();
    list.find(|validator| validator.get("address").text() == address)?.get("missed").integer()
}

#[cfg(test)]
mod tests {
    use super::{Checker, missed};
    use crate::json::Json;

    fn json(text: &str) -> Json {
        Json::parse(text).unwrap()
    }

    fn status(height: u64, block: &str) -> Json {
        json(&format!(
            r#"{{"height":"{height}","block":"{block}","state_root":"r{height}",
                "supply":{{"conserved":true}}}}"#
        ))
    }

    #[test]
    fn two_blocks_at_one_height_are_a_violation_that_names_both_nodes() {
        let mut checker = Checker::default();
        checker.status("v1", &status(3, "a")).unwrap();
        checker.status("v2", &status(3, "a")).unwrap();
        let page = |hash: &str| {
            json(&format!(r#"{{"items":[{{"height":"2","hash":"{hash}","state_root":"r2"}}]}}"#))
        };
        checker.page("v2", &page("b")).unwrap();
        let violation = checker.page("v1", &page("c")).unwrap_err().to_string();
        assert!(violation.starts_with("v1: has block c"), "{violation}");
        assert!(violation.ends_with("where v2 has b with r2"), "{violation}");
    }

    #[test]
    fn a_node_that_forgets_a_block_is_a_violation_unless_a_backup_was_restored() {
        let mut checker = Checker::default();
        checker.status("v1", &status(9, "a")).unwrap();
        assert!(checker.status("v1", &status(8, "b")).is_err());
        checker.restored("v1");
        checker.status("v1", &status(8, "b")).unwrap();
        assert!(checker.status("v1", &json(r#"{"height":"9"}"#)).is_err(), "not conserved");
    }

    #[test]
    fn a_finalized_payment_stays_in_its_block_on_every_node() {
        let mut checker = Checker::default();
        checker.paid("v1", "h");
        let at = |height: u64| json(&format!(r#"{{"state":"final","height":"{height}"}}"#));
        checker.payment("v1", 0, Ok(&at(4))).unwrap();
        checker.payment("v2", 0, Ok(&at(4))).unwrap();
        assert!(checker.payment("v3", 0, Ok(&at(5))).is_err());
        assert!(
            checker.payment("v3", 0, Ok(&json(r#"{"state":"pending","height":null}"#))).is_err()
        );
        assert!(checker.payment("v3", 0, Err("404")).is_err());
    }

    #[test]
    fn an_honest_validator_that_is_punished_is_a_violation() {
        let list = |status: &str, stake: u64| {
            json(&format!(
                r#"[{{"address":"soma1a","status":"{status}","stake":"{stake}","missed":2}}]"#
            ))
        };
        let mut checker = Checker::default();
        checker.validators("v1", &list("ready", 100)).unwrap();
        checker.validators("v1", &list("ready", 101)).unwrap();
        assert!(checker.validators("v1", &list("ready", 100)).is_err(), "slashed");
        for status in ["jailed", "expelled", "left"] {
            assert!(checker.validators("v1", &list(status, 101)).is_err());
        }
        assert_eq!(missed(&list("ready", 1), "soma1a"), Some(2));
        assert_eq!(missed(&list("ready", 1), "soma1b"), None);
    }
}
