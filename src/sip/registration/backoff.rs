//! How long a user agent waits before it tries again (RFC 5626 §4.5), so that a million that lost
//! their flows at once do not come back at once.

use std::time::Duration;

/// Base of [`backoff`] while none of a user agent's flows works.
pub const BACKOFF_BASE_ALL_FAILED: Duration = Duration::from_secs(30);

/// Base of [`backoff`] while another flow of the user agent still works.
pub const BACKOFF_BASE_SOME_WORK: Duration = Duration::from_secs(90);

/// Longest upper bound of [`backoff`].
pub const BACKOFF_MAX: Duration = Duration::from_secs(1_800);

/// How long to wait before the next attempt to form a flow and register over it: uniform between half
/// and all of `min(max, base · 2^failures)`. `failures` is how many attempts in a row have
/// failed, 1 after the first; `random` is uniform over all its values.
#[must_use]
pub fn backoff(failures: u32, base: Duration, max: Duration, random: u64) -> Duration {
    let factor = 2_u32.checked_pow(failures).unwrap_or(u32::MAX);
    let longest = base.saturating_mul(factor).min(max);
    let half_ns = u64::try_from(longest.as_nanos() / 2).unwrap_or(u64::MAX);
    // The high half of the product spreads `random` over the range without a division.
    let share_ns = (u128::from(random) * (u128::from(half_ns) + 1)) >> u64::BITS;
    longest - Duration::from_nanos(half_ns) + Duration::from_nanos(share_ns as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failures, base in seconds → shortest and longest wait in seconds.
    #[test]
    fn waits_double_up_to_the_longest() {
        for (failures, base, shortest, longest) in [
            (0, 30, 15, 30),
            // "The first retry happens somewhere between 30 and 60 seconds" (§4.5).
            (1, 30, 30, 60),
            (3, 30, 120, 240),
            (5, 30, 480, 960),
            (6, 30, 900, 1_800),
            (7, 30, 900, 1_800),
            (1, 90, 90, 180),
            (4, 90, 720, 1_440),
            (5, 90, 900, 1_800),
            (31, 90, 900, 1_800),
            (32, 90, 900, 1_800),
            (u32::MAX, 90, 900, 1_800),
        ] {
            let wait = |random| backoff(failures, Duration::from_secs(base), BACKOFF_MAX, random);
            assert_eq!(wait(0), Duration::from_secs(shortest), "{failures} {base}");
            assert_eq!(wait(u64::MAX), Duration::from_secs(longest));
            let middle = Duration::from_millis(500 * (shortest + longest));
            assert_eq!(wait(1 << 63), middle, "uniform in between");
        }
    }

    #[test]
    fn no_value_overflows() {
        let longest = backoff(u32::MAX, Duration::MAX, Duration::MAX, u64::MAX);
        assert!(longest <= Duration::MAX);
        assert_eq!(backoff(9, Duration::ZERO, BACKOFF_MAX, 7), Duration::ZERO);
    }
}
