//! The price of keeping files is the validators' median vote; a validator is paid for storage
//! proofs.

use crate::world::{OWNER, Release, SECOND_VALIDATOR, VALIDATOR, World, axis, validator};
use soma_codes::Coded as _;
use soma_protocol::storage::{self, Challenge};
use soma_protocol::{
    Action, Amount, Event, GenesisAccount, ModelId, Rejection, action, query, read,
};

/// A release whose encrypted file has five chunks and a bit.
fn release() -> Release {
    Release::sized("kept", axis(0), 5_300)
}

/// Two validators hold the first model's file; its rent is paid.
fn two_holders() -> World {
    let mut world = World::with(|genesis| {
        genesis.params.rent_price_per_mib_epoch = Amount(1_000_000_000);
        genesis.validators = vec![validator(VALIDATOR, 1_000), validator(SECOND_VALIDATOR, 900)];
        genesis
            .accounts
            .push(GenesisAccount { address: SECOND_VALIDATOR.address(), balance: Amount::soma(1) });
    });
    let (model, release) = (ModelId(1), release());
    world.must(OWNER, world.commit(OWNER, model, &release));
    world.must(VALIDATOR, world.hold(model, &release));
    world.go_to_next_epoch();
    world.must(OWNER, release.reveal(model));
    // A validator that comes later attests a file that is already in use.
    world.must(SECOND_VALIDATOR, world.hold(model, &release));
    let again = world.act(SECOND_VALIDATOR, world.hold(model, &release));
    assert_eq!(again, Err(Rejection::AlreadyHeld { model }));
    world
}

fn rent_paid(world: &World) -> Vec<(soma_protocol::Address, Amount)> {
    let paid = |event: &Event| match event {
        Event::RentPaid { validator, amount, .. } => Some((*validator, *amount)),
        _ => None,
    };
    world.events.iter().filter_map(paid).collect()
}

#[test]
fn only_a_validator_that_answers_its_storage_challenge_is_paid() {
    let mut world = two_holders();
    assert_eq!(storage::challenge(&world.state, &VALIDATOR.address()), None);
    world.go_to_compete();
    let asked = storage::challenge(&world.state, &VALIDATOR.address()).unwrap();
    assert_eq!(asked.ciphertext_hash, release().ciphertext_hash);
    let right = world.answer(&asked, &release());
    let other = Challenge { chunk: (asked.chunk + 1) % 6, ..asked };
    let wrong = world.act(VALIDATOR, world.answer(&other, &release()));
    assert_eq!(wrong, Err(Rejection::WrongAnswer { model: ModelId(1) }));
    world.must(VALIDATOR, right.clone());
    let epoch = world.epoch();
    assert_eq!(world.act(VALIDATOR, right), Err(Rejection::AlreadyAnswered { epoch }));
    let outsider = world.answer(&asked, &release());
    assert_eq!(world.act(OWNER, outsider), Err(Rejection::NotValidator));
    let due = read::rent(&world.state, ModelId(1)).unwrap();
    world.go_to_next_epoch();
    let installment = due.prepaid.over(due.epochs_left.into());
    assert_eq!(rent_paid(&world), [(VALIDATOR.address(), installment)]);
    // Nobody answers: the rent of the epoch goes to the reserve, and the next epoch has a new
    // challenge.
    world.go_to_compete();
    let next = storage::challenge(&world.state, &VALIDATOR.address()).unwrap();
    assert!(next.chunk < 6);
    let reserve = world.holdings.reserve;
    world.go_to_next_epoch();
    assert_eq!(rent_paid(&world), []);
    assert!(world.holdings.reserve >= reserve.plus(installment));
}

#[test]
fn the_price_follows_the_median_of_standing_votes() {
    let mut world = two_holders();
    let price = Amount(1_000_000_000);
    assert_eq!(read::rent_price(&world.state), price);
    let vote = |price| Action::VoteRentPrice(action::VoteRentPrice { price });
    let high = world.act(VALIDATOR, vote(Amount(1_000_000_001)));
    assert_eq!(high.unwrap_err().code().as_str(), "out_of_bounds");
    assert_eq!(world.act(OWNER, vote(Amount(1))), Err(Rejection::NotValidator));
    world.must(SECOND_VALIDATOR, vote(Amount(3)));
    world.go_to_next_epoch();
    assert_eq!(read::rent_price(&world.state), price, "less than half of the stake");
    world.must(VALIDATOR, vote(Amount(7)));
    assert_eq!(read::rent_price(&world.state), price, "from the next epoch on");
    world.go_to_next_epoch();
    assert_eq!(read::rent_price(&world.state), Amount(7));
    world.go_to_next_epoch();
    assert_eq!(read::rent_price(&world.state), Amount(7), "the vote stands");
    let (due, _) = query::commit_cost(&world.state, ModelId(2), 1, 1 << 20).unwrap();
    assert_eq!(due, Amount(7 * 100));
}
