//! A copy of a model never beats its original: not byte for byte, not with a little noise, not
//! when the original changes its weights in between and comes back to them.

use crate::world::{OTHER, OWNER, Release, VALIDATOR, World, axis};
use proptest::prelude::*;
use soma_protocol::record::WeightsAge;
use soma_protocol::{ModelId, action, read, winner};

/// Ages of the routed models of the running epoch's first target, by model.
fn ages(world: &World) -> Vec<(ModelId, WeightsAge)> {
    let targets = read::targets(&world.state, world.epoch());
    targets[0].routed.iter().map(|routed| (routed.model, routed.age)).collect()
}

/// Which of two models wins if their losses differ by at most the margin.
fn wins(world: &World, one: ModelId, other: ModelId) -> bool {
    let ages = ages(world);
    let age = |id| ages.iter().find(|(model, _)| *model == id).unwrap().1;
    let margin = i64::try_from(world.params().loss_margin_q32).unwrap();
    [(5 << 32, 5 << 32), ((5 << 32) + margin, 5 << 32)].into_iter().all(|(loss, other_loss)| {
        winner(&[Some(other_loss), Some(loss)], &[age(other), age(one)], margin.unsigned_abs())
            == Some(1)
    })
}

#[test]
fn a_byte_for_byte_copy_loses_to_its_original_in_every_later_epoch() {
    let mut world = World::with(|genesis| genesis.params.models_per_target = 3);
    let original = world.register(OWNER, "original");
    let copy = world.register(OTHER, "copy");
    let release = Release::new("weights", axis(3));
    world.publish_weights(OWNER, original, &release);
    world.go_to_compete();
    // Public since this epoch, so the copy can commit to them now at the earliest.
    world.publish_weights(OTHER, copy, &release);
    // Meanwhile the original publishes other weights, then comes back.
    world.go_to_compete();
    world.publish_weights(OWNER, original, &Release::new("better", axis(3)));
    world.go_to_compete();
    world.must(OWNER, world.commit(OWNER, original, &release));
    world.must(VALIDATOR, world.hold(original, &release));
    world.go_to_next_epoch();
    world.must(OWNER, release.reveal(original));
    for model in [ModelId(1), ModelId(2)] {
        let owner = [OWNER, crate::world::RIVAL][model.0 as usize - 1];
        world.must(owner, soma_protocol::Action::RetireModel(action::RetireModel { model }));
    }
    world.go_to_compete();
    assert!(wins(&world, original, copy));
    assert!(!wins(&world, copy, original));
}

proptest! {
    #[test]
    fn a_copy_within_the_margin_never_beats_older_weights(
        loss in 0..1_i64 << 52, gain in 0..=1_i64 << 22,
        others in prop::collection::vec(0..1_i64 << 52, 0..3),
    ) {
        let age = |epoch| WeightsAge { epoch: soma_protocol::Epoch(epoch), height: 0, index: 0 };
        let mut losses = vec![Some(loss), Some(loss - gain)];
        let mut ages = vec![age(1), age(2)];
        for other in others {
            losses.push(Some(other));
            ages.push(age(3));
        }
        let won = winner(&losses, &ages, 1 << 22);
        // The copy wins only where its original is beaten by another model's clearly lower loss.
        let lowest = losses.iter().flatten().min().unwrap();
        prop_assert!(won != Some(1) || loss - lowest > 1 << 22);
    }
}
