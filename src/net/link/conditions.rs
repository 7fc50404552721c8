//! What a link is like, as plain data: what a scenario asks for and a cell records.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A tenth of an hour: longer than any timer of SIP or TCP waits.
const DELAY_MS_MAX: f64 = 360_000.0;
/// An IP packet is no longer.
const PACKET_BYTES_MAX: u16 = u16::MAX;
/// RFC 791: every link takes packets of 68 bytes.
const MTU_BYTES_MIN: u16 = 68;

/// How one direction of a link treats packets. As it is by default, it passes them on at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinkConditions {
    /// From the end of a packet's transmission to its arrival.
    pub one_way_delay_ms: f64,
    /// How much the delay varies: what that means is the distribution's to say.
    pub one_way_jitter_ms: f64,
    /// The distribution of what varies.
    pub jitter: Jitter,
    /// Which packets are lost.
    pub loss: Loss,
    /// Share of packets that arrive twice.
    pub duplicated_ratio: f64,
    /// Share of packets that are held back.
    pub held_back_ratio: f64,
    /// How much longer those are under way: packets that are sent meanwhile pass them.
    pub held_back_one_way_ms: f64,
    /// Bits of IP packets that are sent in a second; `None` for any number.
    pub rate_bits_per_second: Option<u64>,
    /// What the queue before the transmitter holds, the rest of the packet included that is being
    /// sent. Without a rate nothing waits.
    pub queue_bytes: u32,
    /// The longest IP packet that passes.
    pub mtu_bytes: u16,
}

/// How the delay of packets is distributed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Jitter {
    /// Evenly, from that much less than the delay to that much more.
    #[default]
    Uniform,
    /// Around the delay; the jitter is the standard deviation. Never less than no delay at all.
    Normal,
    /// From the delay upwards; the jitter is the mean of what comes on top.
    Exponential,
}

/// Which packets a link loses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "model", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each with the same probability, whatever happens to others.
    Independent {
        /// Share of packets.
        ratio: f64,
    },
    /// In bursts, as a chain of two states has it, which may change before each packet. It starts in
    /// the good one. (E. N. Gilbert, 1960; E. O. Elliott, 1963.)
    GilbertElliott {
        /// Probability of a change from good to bad.
        good_to_bad_ratio: f64,
        /// Probability of a change from bad to good: the mean length of a burst is its reciprocal.
        bad_to_good_ratio: f64,
        /// Share of packets that are lost in the good state.
        #[serde(default)]
        good_loss_ratio: f64,
        /// Share of packets that are lost in the bad state.
        #[serde(default = "all")]
        bad_loss_ratio: f64,
    },
}

fn all() -> f64 {
    1.0
}

/// Conditions that no link can have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{key}` of a link is {found}; allowed is {low} to {high}")]
pub struct ConditionsError {
    key: &'static str,
    found: f64,
    low: f64,
    high: f64,
}

impl Default for LinkConditions {
    fn default() -> Self {
        Self {
            one_way_delay_ms: 0.0,
            one_way_jitter_ms: 0.0,
            jitter: Jitter::default(),
            loss: Loss::None,
            duplicated_ratio: 0.0,
            held_back_ratio: 0.0,
            held_back_one_way_ms: 0.0,
            rate_bits_per_second: None,
            queue_bytes: 64 * 1_024,
            mtu_bytes: 1_500,
        }
    }
}

impl Loss {
    /// Bursts in which everything is lost, of `burst_packets` on average, so that `ratio` of all
    /// packets are lost.
    ///
    /// # Errors
    /// When there is no such chain: a burst has one packet at least, and lots of loss takes long ones.
    pub fn bursts(ratio: f64, burst_packets: f64) -> Result<Self, ConditionsError> {
        within("loss.burst_packets", burst_packets, 1.0, f64::MAX)?;
        within(
            "loss.ratio",
            ratio,
            0.0,
            burst_packets / (burst_packets + 1.0),
        )?;
        let bad_to_good_ratio = burst_packets.recip();
        Ok(Self::GilbertElliott {
            good_to_bad_ratio: bad_to_good_ratio * ratio / (1.0 - ratio),
            bad_to_good_ratio,
            good_loss_ratio: 0.0,
            bad_loss_ratio: 1.0,
        })
    }

    /// Share of packets that are lost in the long run.
    #[must_use]
    pub fn mean_ratio(&self) -> f64 {
        match *self {
            Self::None => 0.0,
            Self::Independent { ratio } => ratio,
            Self::GilbertElliott {
                good_to_bad_ratio,
                bad_to_good_ratio,
                good_loss_ratio,
                bad_loss_ratio,
            } => {
                let changes = good_to_bad_ratio + bad_to_good_ratio;
                let bad = if changes > 0.0 {
                    good_to_bad_ratio / changes
                } else {
                    0.0 // it stays in the good state for ever
                };
                bad * bad_loss_ratio + (1.0 - bad) * good_loss_ratio
            }
        }
    }

    fn check(&self) -> Result<(), ConditionsError> {
        match *self {
            Self::None => Ok(()),
            Self::Independent { ratio } => within("loss.ratio", ratio, 0.0, 1.0),
            Self::GilbertElliott {
                good_to_bad_ratio,
                bad_to_good_ratio,
                good_loss_ratio,
                bad_loss_ratio,
            } => {
                within("loss.good_to_bad_ratio", good_to_bad_ratio, 0.0, 1.0)?;
                within("loss.bad_to_good_ratio", bad_to_good_ratio, 0.0, 1.0)?;
                within("loss.good_loss_ratio", good_loss_ratio, 0.0, 1.0)?;
                within("loss.bad_loss_ratio", bad_loss_ratio, 0.0, 1.0)
            }
        }
    }
}

impl LinkConditions {
    /// A link that does nothing but delay, by half of `round_trip_ms` in each direction.
    #[must_use]
    pub fn with_round_trip_ms(round_trip_ms: f64) -> Self {
        Self {
            one_way_delay_ms: round_trip_ms / 2.0,
            ..Self::default()
        }
    }

    /// Whether it delays, loses or limits anything: if not, plain veth does as well and costs less.
    #[must_use]
    pub fn is_impaired(&self) -> bool {
        let Self {
            queue_bytes,
            mtu_bytes,
            ..
        } = *self;
        let unimpaired = Self {
            queue_bytes, // where nothing waits, the queue's length is nothing
            mtu_bytes,   // devices have one themselves
            ..Self::default()
        };
        *self != unimpaired
    }

    /// # Errors
    /// Names the key that makes no sense, and what is allowed.
    pub fn check(&self) -> Result<(), ConditionsError> {
        let Self {
            one_way_delay_ms,
            one_way_jitter_ms,
            jitter,
            loss,
            duplicated_ratio,
            held_back_ratio,
            held_back_one_way_ms,
            rate_bits_per_second,
            queue_bytes,
            mtu_bytes,
        } = *self;
        within("one_way_delay_ms", one_way_delay_ms, 0.0, DELAY_MS_MAX)?;
        let jitter_ms_max = match jitter {
            // Nothing arrives before it was sent.
            Jitter::Uniform => one_way_delay_ms,
            Jitter::Normal | Jitter::Exponential => DELAY_MS_MAX,
        };
        within("one_way_jitter_ms", one_way_jitter_ms, 0.0, jitter_ms_max)?;
        loss.check()?;
        within("duplicated_ratio", duplicated_ratio, 0.0, 1.0)?;
        within("held_back_ratio", held_back_ratio, 0.0, 1.0)?;
        within(
            "held_back_one_way_ms",
            held_back_one_way_ms,
            0.0,
            DELAY_MS_MAX,
        )?;
        if let Some(rate) = rate_bits_per_second {
            within("rate_bits_per_second", rate as f64, 1_000.0, 1e12)?;
        }
        let mtu = f64::from(mtu_bytes);
        within(
            "mtu_bytes",
            mtu,
            MTU_BYTES_MIN.into(),
            PACKET_BYTES_MAX.into(),
        )?;
        // A queue that is empty takes any packet.
        within("queue_bytes", queue_bytes.into(), mtu, u32::MAX.into())
    }
}

fn within(key: &'static str, found: f64, low: f64, high: f64) -> Result<(), ConditionsError> {
    if (low..=high).contains(&found) {
        Ok(())
    } else {
        Err(ConditionsError {
            key,
            found,
            low,
            high,
        })
    }
}

/// So many milliseconds, which [`LinkConditions::check`] has seen.
pub(super) fn milliseconds(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1e3)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let conditions = LinkConditions {
            one_way_delay_ms: 25.0,
            loss: Loss::bursts(0.02, 4.0).unwrap(),
            jitter: Jitter::Exponential,
            rate_bits_per_second: Some(64_000),
            ..LinkConditions::default()
        };
        let text = serde_json::to_string(&conditions).unwrap();
        let read: LinkConditions = serde_json::from_str(&text).unwrap();
        assert_eq!(read, conditions);
        let loss = r#"{"loss": {"model": "independent", "ratio": 0.5}}"#;
        let read: LinkConditions = serde_json::from_str(loss).unwrap();
        assert_eq!(read.loss, Loss::Independent { ratio: 0.5 });
    }

    #[test]
    fn bursts_lose_what_was_asked() {
        for (ratio, burst) in [(0.0, 1.0), (0.005, 1.0), (0.02, 3.0), (0.5, 8.0)] {
            let loss = Loss::bursts(ratio, burst).unwrap();
            loss.check().unwrap();
            assert!((loss.mean_ratio() - ratio).abs() < 1e-12, "{loss:?}");
        }
        assert!(Loss::bursts(0.9, 2.0).is_err());
        assert!(Loss::bursts(0.1, 0.5).is_err());
    }

    #[test]
    fn only_what_is_impaired_needs_an_emulator() {
        let plain = LinkConditions {
            mtu_bytes: 1_420,
            queue_bytes: 9_000,
            ..LinkConditions::default()
        };
        assert!(!plain.is_impaired());
        assert!(LinkConditions::with_round_trip_ms(0.1).is_impaired());
    }

    #[test]
    fn errors_name_the_key_and_what_is_allowed() {
        let cases = [
            (
                r#"{"one_way_delay_ms": -1}"#,
                "`one_way_delay_ms` of a link is -1",
            ),
            (r#"{"one_way_jitter_ms": 2}"#, "allowed is 0 to 0"),
            (
                r#"{"loss": {"model": "independent", "ratio": 2}}"#,
                "`loss.ratio` of a link is 2; allowed is 0 to 1",
            ),
            (r#"{"duplicated_ratio": 1.5}"#, "allowed is 0 to 1"),
            (r#"{"rate_bits_per_second": 1}"#, "allowed is 1000 to"),
            (r#"{"queue_bytes": 1000}"#, "allowed is 1500 to"),
            (r#"{"mtu_bytes": 60}"#, "allowed is 68 to 65535"),
        ];
        for (text, expected) in cases {
            let conditions: LinkConditions = serde_json::from_str(text).unwrap();
            let error = conditions.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
