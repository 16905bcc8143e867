//! Times, their quantiles, and medians.

use std::time::Duration;

/// Times of one way.
#[derive(Clone, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Seconds that `part` of the samples do not exceed.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * part).round() as usize).map_or(f64::NAN, Duration::as_secs_f64)
    }
}

/// Of an even number of values, the upper one in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut samples = Samples::default();
        for milliseconds in (1..=101).rev() {
            samples.push(Duration::from_millis(milliseconds));
        }
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|part| samples.quantile(part)), [0.001, 0.051, 0.1, 0.101]);
        assert!(Samples::default().quantile(0.5).is_nan());
    }

    #[test]
    fn a_median_is_a_value() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert!(median([]).is_nan());
    }
}
