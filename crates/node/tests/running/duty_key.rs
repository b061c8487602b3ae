//! A validator whose account's key is not on the machine of its node.

use soma_codes::Code;
use soma_protocol::{Action, Amount, Phase, SecretKey, action};

use crate::network::{Network, wait_until};

/// Names a key as the duty key of the network's validator, whose account has no balance yet.
async fn name(network: &Network, duty_key: &SecretKey) {
    let account = network.sender("validator-1").await;
    let pay = action::Transfer { to: account.address(), amount: Amount::soma(1) };
    network.sender("account-1").await.run(Action::Transfer(pay)).await.unwrap();
    let named = action::SetDutyKey {
        duty_key: duty_key.address(),
        proof: duty_key.prove_duties(&account.chain(), &account.address()),
    };
    account.run(Action::SetDutyKey(named)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_duty_key_does_its_validators_duties_without_the_accounts_key() {
    let duty_key = SecretKey::from_bytes(&[99; 32]);
    let network = Network::with_duty_key(duty_key.clone());
    let is_barred = async || {
        let troubles = network.client.status().await.unwrap().troubles;
        troubles.iter().any(|trouble| *trouble.code == Code::DutyKeyUnknown)
    };
    wait_until("the node says that it may send no duties", is_barred).await;
    name(&network, &duty_key).await;
    // Each epoch waits for the validator's beacons.
    network.go_to(3, Phase::Compete).await;
    wait_until("nothing is wrong anymore", async || !is_barred().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_keys_between_commit_and_reveal_costs_no_beacon() {
    let mut network = Network::start();
    network.go_to(2, Phase::Compete).await;
    // The beacon of the next epoch is committed to, with the account's key.
    network.wait_for_beacon(2).await;
    let duty_key = SecretKey::from_bytes(&[99; 32]);
    name(&network, &duty_key).await;
    network.restart_with(|config| config.duties = duty_key).await;
    // Waits until the beacon is revealed.
    network.go_to(4, Phase::Reveal).await;
}
