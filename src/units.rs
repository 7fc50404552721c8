//! Quantities that a bare number would hide.
//!
//! The lowest layer: it imports nothing of this crate and reads no clock. Durations stay
//! [`std::time::Duration`] in the library's interfaces; what is serialised or counted is a number
//! whose name ends in its unit, and the conversions between the two are here.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `duration` in nanoseconds; what does not fit (584 years) becomes [`u64::MAX`].
#[must_use]
pub fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How often something happens: a positive, finite number of times a second.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct PerSecond(f64);

impl PerSecond {
    /// A rate of `times` a second.
    ///
    /// # Errors
    /// When `times` is not a positive, finite number.
    pub fn new(times: f64) -> Result<Self, NotARate> {
        if times.is_finite() && times > 0.0 {
            Ok(Self(times))
        } else {
            Err(NotARate { found: times })
        }
    }

    /// Times a second.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }

    /// Mean time between two events; saturates at what a [`Duration`] can hold.
    #[must_use]
    pub fn mean_interval(self) -> Duration {
        Duration::try_from_secs_f64(self.0.recip()).unwrap_or(Duration::MAX)
    }
}

impl fmt::Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl TryFrom<f64> for PerSecond {
    type Error = NotARate;

    fn try_from(times: f64) -> Result<Self, Self::Error> {
        Self::new(times)
    }
}

impl From<PerSecond> for f64 {
    fn from(rate: PerSecond) -> Self {
        rate.0
    }
}

/// A number that is no [`PerSecond`].
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("a rate must be a positive, finite number per second, found {found}")]
pub struct NotARate {
    /// The number.
    pub found: f64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_saturate_instead_of_wrapping() {
        assert_eq!(duration_ns(Duration::from_micros(3)), 3_000);
        assert_eq!(duration_ns(Duration::MAX), u64::MAX);
    }

    #[test]
    fn a_rate_is_positive_and_finite() {
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(PerSecond::new(wrong).is_err(), "{wrong}");
            assert!(serde_json::from_str::<PerSecond>(&wrong.to_string()).is_err());
        }
        let rate: PerSecond = serde_json::from_str("250").unwrap();
        assert_eq!(rate.mean_interval(), Duration::from_millis(4));
        assert_eq!(rate.to_string(), "250/s");
    }

    #[test]
    fn the_interval_of_a_vanishing_rate_saturates() {
        let rate = PerSecond::new(f64::MIN_POSITIVE).unwrap();
        assert_eq!(rate.mean_interval(), Duration::MAX);
    }
}
