//! A genesis of several operators: the same for all, and nothing in it that was not signed.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use soma_codes::Coded as _;
use soma_protocol::{Amount, Endpoints, Genesis, SUPPLY, SecretKey};

use super::{Entry, GenesisError, NamedEntry, Plan, Preset, check_equal, read_entries, render};

const START_MS: u64 = 1_900_000_000_000;

fn text() -> String {
    Plan::render("orchard-1", Preset::Private, START_MS)
}

fn plan() -> Plan {
    Plan::parse(&text()).unwrap()
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

fn entry(plan: &Plan, number: u8, stake: Amount) -> NamedEntry {
    let p2p = Some(format!("host-{number}:8646"));
    let reach = Endpoints { p2p, url: Some(format!("http://host-{number}")) };
    let path = PathBuf::from(format!("{number}.json"));
    (path, plan.enter(&key(number), &key(100 + number), stake, reach))
}

fn entries(numbers: impl IntoIterator<Item = u8>) -> Vec<NamedEntry> {
    numbers.into_iter().map(|number| entry(&plan(), number, Amount::soma(7))).collect()
}

fn code(result: Result<Genesis, GenesisError>) -> &'static str {
    result.unwrap_err().code().as_str()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn everyone_assembles_the_same_bytes_whatever_the_order_of_the_entries(
        numbers in Just((1..=9).collect::<Vec<u8>>()).prop_shuffle()
    ) {
        let ours = render(&plan().assemble(&entries(1..=9)).unwrap());
        let theirs = plan().assemble(&entries(numbers)).unwrap();
        prop_assert_eq!(ours, render(&theirs));
        theirs.state().unwrap();
    }
}

#[test]
fn a_plan_means_what_it_says_and_not_how_it_is_written() {
    let plan = plan();
    let bare: String =
        text().lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\r\n");
    assert_eq!(Plan::parse(&bare).unwrap().hash(), plan.hash());
    for (from, to) in [
        ("orchard-1", "orchard-2"),
        ("2030-", "2031-"),
        ("\"private\"", "\"public\""),
        ("= \"nano\"", "= \"v1\""),
        ("least = 3", "least = 2"),
        ("balance = \"100\"", "balance = \"101\""),
        ("[params]\n", "[params]\ntargets_per_epoch = 17\n"),
    ] {
        let changed = text().replacen(from, to, 1);
        assert_ne!(changed, text(), "{from}");
        assert_ne!(Plan::parse(&changed).unwrap().hash(), plan.hash(), "{from}");
    }
    let public = Plan::parse(&Plan::render("test", Preset::Public, START_MS)).unwrap();
    assert!(public.stake_max() >= Amount::soma(1_000));
}

#[test]
fn what_a_plan_gives_an_account_pays_the_bonds_of_several_submissions() {
    for preset in [Preset::Public, Preset::Private] {
        let plan = Plan::parse(&Plan::render("test", preset, START_MS)).unwrap();
        let entries = [1, 2, 3].map(|number| entry(&plan, number, plan.stake_max()));
        let genesis = plan.assemble(&entries).unwrap();
        let params = &genesis.params;
        let emission = SUPPLY.over(params.emission_divisor);
        let targets = emission.less(emission.bps(params.validator_reward_bps));
        let bond = targets.over(params.targets_per_epoch.into()).bps(params.bond_bps);
        let balance = genesis.accounts[0].balance;
        assert!(balance >= bond.times(4), "{preset:?}: {balance} SOMA, and a bond is {bond}");
    }
}

#[test]
fn a_plan_that_cannot_become_a_network_says_why() {
    for (from, to, why) in [
        ("orchard-1", "", "name"),
        ("orchard-1", "two words", "name"),
        ("2030-", "soon ", "start"),
        ("\"private\"", "\"secret\"", "preset"),
        ("= \"nano\"", "= \"mega\"", "mega"),
        ("least = 3", "least = 0", "possible"),
        ("least = 3", "least = 17", "17"),
        ("most = 16", "most = 4000000000", "1024"),
        ("stake_max = \"1000\"", "stake_max = \"0.1\"", "stake_max"),
        ("stake_max = \"1000\"", "stake_max = 1000", "string"),
        ("stake_max = \"1000\"", "stake_max = \"9000000\"", "cap"),
        ("[params]\n", "[params]\ncolor = 1\n", "color"),
        ("[params]\n", "[params]\nreveal_bps = 9999\n", "reveal_bps"),
        ("[params]\n", "[extra]\n", "extra"),
    ] {
        let changed = text().replacen(from, to, 1);
        let error = Plan::parse(&changed).unwrap_err();
        assert!(error.contains(why), "{to}: {error}");
    }
}

#[test]
fn allocations_are_balances_and_what_is_left_is_the_reserve() {
    let (rich, validator) = (key(50).address(), key(1).address());
    let accounts = format!(
        "{}\n[[accounts]]\naddress = \"{rich}\"\nbalance = \"12.5\"\n\
         [[accounts]]\naddress = \"{validator}\"\nbalance = \"1\"\n",
        text()
    );
    let plan = Plan::parse(&accounts).unwrap();
    let named: Vec<_> = (1..=3).map(|number| entry(&plan, number, Amount::soma(7))).collect();
    let genesis = plan.assemble(&named).unwrap();
    let balance = |address| {
        let account = genesis.accounts.iter().find(|account| account.address == address);
        account.unwrap().balance.to_string()
    };
    assert_eq!((balance(rich).as_str(), balance(validator).as_str()), ("12.5", "101"));
    assert_eq!(genesis.allocated().to_string(), "334.5");
    assert_eq!(genesis.timestamp_ms, START_MS);
    assert!(genesis.operator.is_none() && genesis.models.is_empty());
}

#[test]
fn an_entry_that_is_not_as_it_was_signed_is_refused() {
    let plan = plan();
    let good = entries(1..=3);
    assert!(plan.assemble(&good).is_ok());
    let written = good[0].1.render();
    let other = entry(&plan, 9, Amount::soma(7)).1.render();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (lines(&written), lines(&other));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("entry.json");
    for (at, (line, replacement)) in ours.iter().zip(&theirs).enumerate() {
        if line == replacement {
            continue;
        }
        let mut forged = ours.clone();
        forged[at].clone_from(replacement);
        std::fs::write(&path, forged.join("\n")).unwrap();
        let forged = (path.clone(), Entry::read(&path).unwrap());
        let with = [vec![forged], good[1..].to_vec()].concat();
        assert_eq!(code(plan.assemble(&with)), "entry_not_signed", "{line}");
    }
    let more = written.replace("7000000000", "8000000000");
    assert_ne!(more, written);
    std::fs::write(&path, more).unwrap();
    let forged = (path.clone(), Entry::read(&path).unwrap());
    assert_eq!(code(plan.assemble(&[forged])), "entry_not_signed");
}

#[test]
fn entries_for_another_plan_or_twice_or_too_few_or_too_many_are_refused() {
    let plan = plan();
    let other = Plan::parse(&text().replace("orchard-1", "orchard-2")).unwrap();
    let foreign = entry(&other, 3, Amount::soma(7));
    assert_eq!(
        code(plan.assemble(&[entries(1..=2), vec![foreign]].concat())),
        "entry_of_other_plan"
    );
    assert_eq!(code(plan.assemble(&entries([1, 2, 3, 2]))), "entry_twice");
    let borrowed = plan.enter(&key(4), &key(101), Amount::soma(7), Endpoints::default());
    let borrowed = [entries(1..=3), vec![("4.json".into(), borrowed)]].concat();
    assert_eq!(code(plan.assemble(&borrowed)), "entry_twice");
    assert_eq!(code(plan.assemble(&entries(1..=2))), "entry_count");
    assert_eq!(code(plan.assemble(&entries(1..=17))), "entry_count");
    for stake in [Amount::ZERO, Amount(1), Amount::soma(1_001)] {
        let named = [entries(1..=2), vec![entry(&plan, 3, stake)]].concat();
        let error = plan.assemble(&named).unwrap_err();
        assert_eq!(error.code().as_str(), "entry_stake");
        assert!(error.to_string().starts_with("3.json: "), "{error}");
    }
}

#[test]
fn a_file_that_is_no_entry_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (path, good) = (folder.path().join("a.json"), entries([1]).remove(0).1.render());
    let without: String =
        good.lines().filter(|line| !line.contains("\"signature\"")).collect::<String>();
    let cut = without.replace(",}", "}").replace(",  }", "}");
    for text in [
        "",
        "{}",
        "[1]",
        cut.as_str(),
        &good.replacen('{', "{\"more\": 1,", 1),
        &good.replace("entry/1", "entry/2"),
        &good.replace("host-1:8646", "nowhere"),
        &good.replace("http://host-1", "ftp://host-1"),
        &good.replace("\"7000000000\"", "7.5"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = read_entries(&[folder.path().to_owned()]).unwrap_err();
        assert_eq!(error.code().as_str(), "bad_entry", "{text}");
        assert!(error.to_string().contains("a.json"), "{error}");
    }
    std::fs::write(&path, "x".repeat(1 << 20)).unwrap();
    assert!(read_entries(std::slice::from_ref(&path)).is_err());
    std::fs::remove_file(&path).unwrap();
    let nothing = read_entries(&[folder.path().to_owned()]).unwrap_err();
    assert_eq!(nothing.code().as_str(), "bad_entry");
    assert_eq!(read_entries(&[path]).unwrap_err().code().as_str(), "file_not_found");
}

#[test]
fn a_genesis_says_where_its_validators_are() {
    let genesis = plan().assemble(&entries(1..=3)).unwrap();
    let places: Vec<_> = genesis.validators.iter().map(|one| &one.endpoints).collect();
    assert!(places.iter().any(|place| place.p2p.as_deref() == Some("host-1:8646")));
    assert!(places.iter().any(|place| place.url.as_deref() == Some("http://host-3")));
}

#[test]
fn a_genesis_that_differs_says_in_what() {
    let ours = plan().assemble(&entries(1..=3)).unwrap();
    let path = Path::new("genesis.json");
    assert!(check_equal(path, &ours, &ours).is_ok());
    let later = Genesis { timestamp_ms: START_MS + 1, ..ours.clone() };
    let richer = Genesis { accounts: Vec::new(), ..ours.clone() };
    for (other, what) in [(later, "genesis time"), (richer, "accounts")] {
        let error = check_equal(path, &other, &ours).unwrap_err();
        assert_eq!(error.code().as_str(), "other_genesis");
        assert!(error.to_string().contains(what), "{error}");
    }
}
