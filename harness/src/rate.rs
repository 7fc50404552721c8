//! The offered rate as people write it, in scenarios and on the command line alike: `100`, `100..2000`
//! (a ramp), `100,400,200` (steps). What it means is the library's [`Course`].

use std::fmt;
use std::str::FromStr;

use hopbench::load::Course;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Value, json};

/// Less achieved than this share of what was offered, and the rate was not kept to.
pub(crate) const ACHIEVED_SHARE_MIN: f64 = 0.95;
/// Lowest and highest rate that may be asked for.
pub(crate) const RATES_PER_SECOND: std::ops::RangeInclusive<f64> = 0.001..=1e6;

/// Operations a second, and how that goes on over the measurement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OfferedRate {
    /// In the warm-up and at the beginning of the measurement.
    pub(crate) per_second: f64,
    /// From there on.
    pub(crate) course: Course,
}

impl OfferedRate {
    /// In cell ids and parameters: a number where the rate stays, or else as it is written.
    pub(crate) fn recorded(&self) -> Value {
        match self.course {
            Course::Steady => json!(self.per_second),
            Course::Ramp { .. } | Course::Steps { .. } => json!(self.to_string()),
        }
    }
}

impl fmt::Display for OfferedRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.per_second)?;
        match &self.course {
            Course::Steady => Ok(()),
            Course::Ramp { to_per_second } => write!(f, "..{to_per_second}"),
            Course::Steps { then_per_second } => then_per_second
                .iter()
                .try_for_each(|rate| write!(f, ",{rate}")),
        }
    }
}

impl FromStr for OfferedRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((from, to)) = text.split_once("..") {
            return Ok(Self {
                per_second: rate(from)?,
                course: Course::Ramp {
                    to_per_second: rate(to)?,
                },
            });
        }
        let mut steps = text.split(',').map(rate);
        let per_second = steps.next().expect("a split has a first part")?;
        let then_per_second: Vec<f64> = steps.collect::<Result<_, _>>()?;
        Ok(Self {
            per_second,
            course: match then_per_second.as_slice() {
                [] => Course::Steady,
                [..] => Course::Steps { then_per_second },
            },
        })
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let found = text.trim().parse::<f64>().ok();
    found
        .filter(|rate| RATES_PER_SECOND.contains(rate))
        .ok_or_else(|| {
            format!(
                "expected a rate of 0.001 to 1,000,000 a second, or FROM..TO for a ramp, or several rates \
                 with commas between for steps; found \"{text}\""
            )
        })
}

impl<'de> Deserialize<'de> for OfferedRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl de::Visitor<'_> for Written {
            type Value = OfferedRate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate such as 100, \"100..2000\" (a ramp) or \"100,400,200\" (steps)")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OfferedRate, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, per_second: f64) -> Result<OfferedRate, E> {
                self.visit_str(&per_second.to_string())
            }

            fn visit_i64<E: de::Error>(self, per_second: i64) -> Result<OfferedRate, E> {
                self.visit_str(&per_second.to_string())
            }
        }
        deserializer.deserialize_any(Written)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_they_are_written() {
        let ramp = Course::Ramp {
            to_per_second: 2000.0,
        };
        let steps = Course::Steps {
            then_per_second: vec![400.0, 200.5],
        };
        let cases = [
            ("100", Course::Steady),
            ("100..2000", ramp),
            ("100,400,200.5", steps),
        ];
        for (text, course) in cases {
            let rate: OfferedRate = text.parse().unwrap();
            assert_eq!((rate.per_second, &rate.course), (100.0, &course), "{text}");
            assert_eq!(rate.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_rate_is_told_with_what_is() {
        for text in [
            "", "fast", "0", "-1", "1e7", "100..", "..100", "100,", "NaN", "1..2..3",
        ] {
            let error = text.parse::<OfferedRate>().unwrap_err();
            assert!(error.contains("FROM..TO"), "{text}: {error}");
        }
    }
}
