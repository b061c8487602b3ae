//! A node serves the page: one document at every page's path, with a policy, and lasting files.

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH};
use soma_node::localnet::OPERATOR;
use soma_protocol::{Action, Amount, Epoch, ModelId, Phase, action};
use soma_sdk::api::routes::{self, TRIAL_BYTES_MAX};
use soma_sdk::api::{EpochMap, MapPoint, Trial};

use crate::competition::{distance, enter, scores};
use crate::network::Network;

/// What a browser sends with a question for a page.
const BROWSER: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

/// What data is sent as, and how a proxy on the node's machine names who sends it.
const BYTES: &str = "application/octet-stream";
const PROXIED: &str = "x-forwarded-for";

struct Got {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

async fn get(
    network: &Network,
    path: &str,
    headers: &[(reqwest::header::HeaderName, &str)],
) -> Got {
    let mut request = reqwest::Client::new().get(format!("{}{path}", network.url()));
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Got { status, headers, body: response.bytes().await.unwrap().to_vec() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_one_document_and_lasting_files_that_load_nothing_else() {
    let network = Network::start();
    let home = get(&network, "/", &[(ACCEPT, BROWSER)]).await;
    assert_eq!((home.status, home.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = home.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert_eq!(home.header("cache-control"), "no-cache");
    for path in
        ["/models/1", "/targets", "/blocks/7", "/params", "/governance", "/epochs/1", "/runs"]
    {
        assert_eq!(get(&network, path, &[]).await.body, home.body, "{path}");
    }
    for path in ["/", "/v1/status", "/v1/nothing", "/openapi.json"] {
        let got = get(&network, path, &[]).await;
        assert_eq!(got.header("x-content-type-options"), "nosniff", "{path}");
        assert!(got.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
    }
    let again = get(&network, "/", &[(IF_NONE_MATCH, home.header(ETAG.as_str()))]).await;
    assert_eq!((again.status, again.body.len()), (304, 0));

    let names = home.text().split('"').filter(|part| part.starts_with("/assets/"));
    let names: Vec<_> = names.collect();
    assert!(names.len() >= 3, "a script, a style and an icon: {names:?}");
    for name in names {
        let plain = get(&network, name, &[]).await;
        let packed = get(&network, name, &[(ACCEPT_ENCODING, "br, gzip")]).await;
        assert_eq!((plain.status, packed.status), (200, 200), "{name}");
        assert_eq!(packed.header("content-encoding"), "gzip");
        assert!(plain.header("cache-control").contains("immutable"));
        assert!(packed.body.len() < plain.body.len() && packed.body.starts_with(&[0x1f, 0x8b]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_without_a_page_is_not_found_for_browsers_and_programs_alike() {
    let network = Network::start();
    let browser = get(&network, "/nothing", &[(ACCEPT, BROWSER)]).await;
    assert_eq!((browser.status, browser.header("content-type")), (404, "text/html; charset=utf-8"));
    let asked = [(ACCEPT, BROWSER), (IF_NONE_MATCH, browser.header(ETAG.as_str()))];
    let again = get(&network, "/nothing", &asked).await;
    assert_eq!((again.status, &again.body), (404, &browser.body));
    for (path, accept) in [("/nothing", "*/*"), ("/v1/nothing", BROWSER), ("/assets/x.js", "*/*")] {
        let program = get(&network, path, &[(ACCEPT, accept)]).await;
        assert_eq!(program.status, 404, "{path}");
        assert_eq!(program.header("content-type"), "application/problem+json", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_thing_is_read_page_by_page() {
    let network = Network::start();
    let alice = network.sender("account-1").await;
    let to = network.sender("account-2").await.address();
    for amount in 1..=3 {
        let transfer = action::Transfer { to, amount: Amount(amount) };
        alice.run(Action::Transfer(transfer)).await.unwrap();
    }
    let json = async |path: &str| -> serde_json::Value {
        let got = get(&network, path, &[]).await;
        assert_eq!(got.status, 200, "{path}: {}", got.text());
        serde_json::from_slice(&got.body).unwrap()
    };
    for list in ["transactions", "events"] {
        let path = format!("/v1/accounts/{}/{list}?limit=2", alice.address());
        let first = json(&path).await;
        assert_eq!(first["items"].as_array().unwrap().len(), 2);
        let next = json(&format!("{path}&after={}", first["next"].as_str().unwrap())).await;
        assert_eq!(next["items"].as_array().unwrap().len(), 1, "{list}: {next}");
        assert!(next["next"].is_null());
        assert!(!first["items"].as_array().unwrap().contains(&next["items"][0]));
    }
    let all = json(&format!("/v1/accounts/{}/transactions", alice.address())).await;
    let last = &all["items"][0];
    let (height, hash) = (last["height"].as_str().unwrap(), last["hash"].as_str().unwrap());
    let block = json(&format!("/v1/blocks/{height}")).await;
    assert_eq!(json(&format!("/v1/blocks/{}", block["hash"].as_str().unwrap())).await, block);
    let contents = json(&format!("/v1/blocks/{height}/transactions")).await;
    assert!(contents["items"].as_array().unwrap().contains(last));
    let events = json(&format!("/v1/blocks/{height}/events?limit=500")).await;
    let of_account = json(&format!("/v1/accounts/{to}/events?limit=1")).await;
    assert!(events["items"].as_array().unwrap().contains(&of_account["items"][0]));
    let does = json(&format!("/v1/transactions/{hash}/action")).await;
    assert_eq!((does["action"].as_str(), does["amount"].as_str()), (Some("transfer"), Some("3")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_without_models_has_an_empty_map_and_each_validator_has_a_page() {
    let network = Network::start();
    network.go_to(1, Phase::Compete).await;
    let map = get(&network, "/v1/epochs/1/map", &[]).await;
    assert_eq!(map.text(), r#"{"epoch":1,"targets":[],"models":[]}"#);
    let validators: serde_json::Value =
        serde_json::from_slice(&get(&network, "/v1/validators", &[]).await.body).unwrap();
    let address = validators[0]["address"].as_str().unwrap();
    let one = get(&network, &format!("/v1/validators/{address}"), &[]).await;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&one.body).unwrap(), validators[0]);
    let operator = network.sender(OPERATOR).await.address();
    assert_eq!(get(&network, &format!("/v1/validators/{operator}"), &[]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_map_of_an_epoch_holds_its_targets_and_their_models_while_it_can_be_drawn() {
    let network = Network::start();
    enter(&network).await;
    let map: EpochMap =
        serde_json::from_slice(&get(&network, "/v1/epochs/2/map", &[]).await.body).unwrap();
    let ids = |points: &[MapPoint]| points.iter().map(|point| point.id).collect::<Vec<_>>();
    assert_eq!((ids(&map.targets), ids(&map.models)), (vec![1, 2], vec![1, 2]));
    let points = || map.targets.iter().chain(&map.models);
    assert!(points().all(|point| point.x.pow(2) + point.y.pow(2) <= 1_000_000), "{map:?}");
    assert!(map.models.iter().any(|point| point.x.abs() > 900), "models differ along x: {map:?}");
    assert_eq!(get(&network, "/v1/epochs/9/map", &[]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_is_tried_with_every_active_model_for_whoever_is_at_the_machine_alone() {
    let network = Network::start();
    let url = format!("{}{}", network.url(), routes::TRIAL);
    let send = async |kind: &str, client: &str, data: &[u8]| {
        let request = reqwest::Client::new().post(&url).header(CONTENT_TYPE, kind);
        let request = if client.is_empty() { request } else { request.header(PROXIED, client) };
        request.body(data.to_vec()).send().await.unwrap()
    };
    let tried = async |data: &[u8]| -> Trial {
        let answer = send(BYTES, "", data).await.bytes().await.unwrap();
        serde_json::from_slice(&answer).unwrap()
    };
    let data = b"some text that no model has seen, and some more of it. ".repeat(20);
    assert!(network.client.status().await.unwrap().local);
    assert_eq!(send(BYTES, "192.0.2.1", &data).await.status(), 404, "not at the machine");
    assert_eq!(send("text/plain", "", &data).await.status(), 400, "a form of another site");
    assert_eq!(send(BYTES, "", &vec![b'x'; TRIAL_BYTES_MAX + 1]).await.status(), 413);
    assert_eq!(send(BYTES, "", b"").await.status(), 400, "nothing to predict");
    let none = tried(&data).await;
    assert_eq!((none.models, none.targets), (Vec::new(), Vec::new()));

    enter(&network).await;
    let trial = tried(&data).await;
    let target = network.client.targets(Some(Epoch(2))).await.unwrap().remove(0);
    let found = scores(&network, &target, &data).await;
    assert_eq!((trial.models.len(), trial.untried.len()), (2, 0));
    for tried in &trial.models {
        let at = target.routed.iter().position(|routed| routed.model == tried.model).unwrap();
        assert_eq!(tried.cross_entropy_q32.0, found[at].cross_entropy_q32());
        assert_eq!(tried.gain_q32.0, found[at].gain_q32);
        assert_eq!(tried.byte_losses.len(), data.len());
        assert_eq!((tried.byte_losses[0], tried.byte_losses[1].is_some()), (None, true));
        let place = tried.place.unwrap();
        assert!(place.x.pow(2) + place.y.pow(2) <= 1_000_000, "{place:?}");
    }
    let losses: Vec<i64> = trial.models.iter().map(|tried| tried.cross_entropy_q32.0).collect();
    assert!(losses.is_sorted(), "{losses:?}");
    let near = trial.targets.iter().find(|near| near.target == target.id).unwrap();
    let at = target.routed.iter().position(|routed| routed.model == near.model).unwrap();
    let expected = distance(&network, &target, ModelId(near.model), &found[at]).await;
    assert_eq!((near.distance.0, near.closest), (expected, None));
    assert_eq!(near.model, trial.models[0].model);
}
