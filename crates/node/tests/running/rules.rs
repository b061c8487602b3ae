//! A node whose network votes for rules that it does not execute: it says so before, stops after
//! the last block that it executes, and another release continues from its folder.

use soma_codes::{Code, Coded as _, Exit};
use soma_protocol::{Action, Amount, Change, Defense, Phase, ProposalId, RULES, Ruleset, action};
use soma_sdk::api::{Rules, Trouble};

use crate::network::{Network, wait_until};

const NEXT: u16 = RULES.max + 1;

/// The network's validator votes for the next rules.
async fn vote(network: &Network) {
    let validator = network.sender("validator-1").await;
    let pay = action::Transfer { to: validator.address(), amount: Amount::soma(10) };
    network.sender("account-1").await.run(Action::Transfer(pay)).await.unwrap();
    let change = Change::Rules { version: NEXT };
    validator.run(Action::Propose(action::Propose { change })).await.unwrap();
    let vote = action::Vote { proposal: ProposalId(1), approve: true };
    validator.run(Action::Vote(vote)).await.unwrap();
}

async fn trouble(network: &Network) -> Option<Trouble> {
    let status = network.client.status().await.unwrap();
    assert!(status.ready, "{:?}", status.troubles);
    status.troubles.into_iter().find(|trouble| *trouble.code == Code::RulesUnknown)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_of_rules_that_it_lacks_and_stops_before_them_and_another_release_continues() {
    let mut network = Network::with_params(|params| params.rules_notice_epochs = 2);
    let rules = network.client.status().await.unwrap().rules;
    assert_eq!(rules, Rules { version: 1, next: None, min: RULES.min, max: RULES.max });
    assert_eq!(trouble(&network).await, None);
    vote(&network).await;
    network.go_to(2, Phase::Reveal).await;
    let told = trouble(&network).await.expect("rules are scheduled");
    assert!(told.message.contains("from epoch 4 on (2 epochs on)"), "{}", told.message);
    let metrics = reqwest::get(format!("{}/metrics", network.url())).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in [format!("soma_rules_next {NEXT}"), "soma_rules_next_epoch 4".into()] {
        assert!(metrics.contains(&line), "{line}");
    }
    network.go_to(3, Phase::Compete).await;
    assert!(trouble(&network).await.unwrap().message.contains("(the next epoch)"));

    // The end of the epoch is the last thing that it executes.
    let operator = network.sender("operator").await;
    while network.client.status().await.unwrap().clock.epoch < 4 {
        operator.end_phase().await.unwrap();
    }
    wait_until("the node stops", async || network.failure().is_some()).await;
    let failure = network.failure().unwrap();
    assert_eq!((failure.code(), failure.exit()), (Code::RulesUnknown, Exit::Upgrade));
    network.stop().await;
    let again = network.begin(|_| ()).unwrap_err();
    assert_eq!((again.code(), again.to_string()), (Code::RulesUnknown, failure.to_string()));

    let next = Ruleset::WHOLE.rehearsing(Defense::AdmissionFee);
    network.begin(|config| config.ruleset = next).unwrap();
    let status = network.client.status().await.unwrap();
    assert_eq!((status.clock.epoch, status.rules.version), (4, NEXT));
    network.go_to(5, Phase::Reveal).await;
    assert_eq!(trouble(&network).await, None);
}
