//! The learning rate of every step: a linear rise, then half a cosine. Uses only float64 and the
//! allowed operations.

use super::Recipe;
use crate::math64;

/// The learning rate of `step`, counted from 0.
#[expect(clippy::cast_possible_truncation, reason = "the schedule rounds once, here")]
pub(crate) fn learning_rate(recipe: &Recipe, step: u64) -> f32 {
    let peak = recipe.learning_rate;
    if step < recipe.warmup {
        return (peak * ((step + 1) as f64 / recipe.warmup as f64)) as f32;
    }
    let falling = recipe.steps.saturating_sub(recipe.warmup).max(1);
    let progress = (step - recipe.warmup).min(falling) as f64 / falling as f64;
    let last = recipe.final_share;
    let height = 0.5 * (1.0 + math64::sin_cos(core::f64::consts::PI * progress).1);
    (peak * (last + (1.0 - last) * height)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_its_last_share() {
        let recipe = Recipe {
            steps: 110,
            warmup: 10,
            learning_rate: 1.0,
            final_share: 0.1,
            ..Recipe::default()
        };
        let rates: Vec<f32> = (0..=110).map(|step| learning_rate(&recipe, step)).collect();
        assert!(rates[..10].is_sorted() && rates[10..].is_sorted_by(|a, b| a >= b));
        assert!((rates[4] - 0.5).abs() < 1e-6 && (rates[10] - 1.0).abs() < 1e-6);
        assert!((rates[60] - 0.55).abs() < 1e-6 && (rates[110] - 0.1).abs() < 1e-6);
    }
}
