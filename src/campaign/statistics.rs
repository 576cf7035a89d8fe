//! Rates and their intervals, as decimals with six digits.

use crate::record::campaign::{Interval, PassK};

/// The 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A share from 0 to 1 as it stands in a record.
pub fn decimal(value: f64) -> String {
    format!("{:.6}", value.clamp(0.0, 1.0))
}

/// `part` of `whole`; `None` for a part of nothing.
pub fn rate(part: u32, whole: u32) -> Option<String> {
    (whole > 0).then(|| decimal(f64::from(part) / f64::from(whole)))
}

/// Wilson's score interval (Wilson 1927, Journal of the American Statistical Association 22): it does not leave 0 to 1, and
/// is no point where all succeeded.
pub fn wilson(success: u32, scored: u32) -> Option<Interval> {
    if scored == 0 {
        return None;
    }
    let n = f64::from(scored);
    let p = f64::from(success) / n;
    let z2 = Z * Z;
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Some(Interval { low: decimal(middle - half), high: decimal(middle + half) })
}

/// The unbiased estimate of the chance that k runs all succeed: of all ways to draw k of the scored runs, the share in which
/// all drawn ones succeeded. `None` where fewer than k were scored.
pub fn pass_k(success: u32, scored: u32, k: u32) -> PassK {
    let estimate = (k <= scored).then(|| {
        // C(success, k) / C(scored, k), factor by factor, so that nothing overflows.
        let share = (0..k).map(|i| f64::from(success.saturating_sub(i)) / f64::from(scored - i));
        decimal(share.product())
    });
    PassK { k, estimate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nothing_and_of_fewer_than_k_there_is_no_share() {
        assert_eq!(wilson(0, 0), None);
        assert_eq!(rate(0, 0), None);
        assert_eq!(rate(2, 3).as_deref(), Some("0.666667"));
        assert_eq!(pass_k(3, 4, 5).estimate, None);
    }

    /// `.ci/foreign-verifiers` holds the same table against `inspect_ai`.
    #[test]
    fn every_row_of_the_table_is_what_is_counted() {
        let table = include_str!("statistics.tsv");
        for line in table.lines().skip(1) {
            let mut parts = line.split('\t');
            let mut next = || parts.next().unwrap();
            let (success, scored) = (next().parse().unwrap(), next().parse().unwrap());
            let want = Interval { low: next().into(), high: next().into() };
            assert_eq!(wilson(success, scored), Some(want), "{line}");
            let mut k = 1;
            for want in parts {
                assert_eq!(pass_k(success, scored, k).estimate.as_deref(), Some(want), "{line}");
                k *= 2;
            }
            assert!(k > scored, "{line}");
        }
        assert!(table.lines().count() > 250);
    }
}
