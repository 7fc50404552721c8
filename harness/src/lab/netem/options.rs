//! Conditions of a link as netem's options: which of them it can have, and their bytes (Linux,
//! `include/uapi/linux/pkt_sched.h`).
//!
//! With a rate there are two stages: a transmitter with its queue, and the line behind it. A packet that the line
//! loses has then taken its share of the rate, as on a real link; with both in one stage it would not have.

use hopbench::net::link::{Jitter, LinkConditions, Loss};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::lab::netlink::put;

const TCA_NETEM_DELAY_DIST: u16 = 2;
const TCA_NETEM_LOSS: u16 = 5;
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_RATE64: u16 = 8;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;
/// Within `TCA_NETEM_LOSS`: a chain by Gilbert and Elliott.
const NETEM_LOSS_GE: u16 = 2;
/// That an attribute holds attributes.
const NESTED: u16 = 0x8000;

/// What stands for 1 in a table of a distribution, and the most entries that one has.
const TABLE_ONE: f64 = 8_192.0;
const TABLE_ENTRIES: usize = 16_384;
/// Entries reach to four times what stands for 1: tables hold a fourth of the value, and the scale is four times
/// the jitter.
const TABLE_SCALE: f64 = 4.0;
/// The scale is multiplied with an entry as a signed number of 32 bits, in nanoseconds.
const SCALE_MS_MAX: f64 = i32::MAX as f64 / 1e6;
/// Packets that a line may hold: more than any has under way.
const LINE_PACKETS: u32 = 1_000_000;
/// As good as none. With a rate netem keeps the order of packets whatever their delays; without one, each that
/// takes less time passes the others.
const ANY_RATE_BITS_PER_SECOND: u64 = 1_000_000_000_000;
/// A packet at a veth interface has an Ethernet header, which is none of the link's.
const ETHERNET_HEADER_BYTES: i32 = 14;

/// Conditions that netem would make something else of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "netem cannot emulate this link: {reason}; leave it to --link-emulator hopbench, or ask for less"
)]
pub(crate) struct Inexpressible {
    reason: String,
}

/// One queueing discipline.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stage {
    latency_ns: i64,
    /// What an entry of 1 in the table adds to that.
    scale_ns: i64,
    /// Of which one entry is drawn for each packet.
    table: Vec<i16>,
    loss: Loss,
    duplicated_ratio: f64,
    rate_bits_per_second: Option<u64>,
    limit_packets: u32,
}

/// What a packet passes at the end where it leaves, in this order.
///
/// # Errors
/// Says what netem cannot do.
pub(crate) fn stages(conditions: &LinkConditions) -> Result<Vec<Stage>, Inexpressible> {
    let line = line(conditions)?;
    let Some(rate) = conditions.rate_bits_per_second else {
        return Ok(vec![line]);
    };
    if rate % 8 != 0 {
        return refuse(format!(
            "it counts bytes a second, and {rate} bits are none"
        ));
    }
    let transmitter = Stage {
        rate_bits_per_second: Some(rate),
        limit_packets: queue_packets(conditions),
        ..Stage::default()
    };
    Ok(vec![transmitter, line])
}

/// How many packets the queue before the transmitter holds, of whatever length: as many as it has room for of the
/// longest ones.
pub(crate) fn queue_packets(conditions: &LinkConditions) -> u32 {
    conditions.queue_bytes / u32::from(conditions.mtu_bytes)
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Inexpressible> {
    let reason = reason.into();
    Err(Inexpressible { reason })
}

/// Delay, loss and copies.
fn line(conditions: &LinkConditions) -> Result<Stage, Inexpressible> {
    let LinkConditions {
        one_way_delay_ms,
        one_way_jitter_ms,
        jitter,
        loss,
        duplicated_ratio,
        held_back_ratio,
        held_back_one_way_ms,
        rate_bits_per_second,
        queue_bytes: _,
        mtu_bytes: _,
    } = *conditions;
    let has_jitter = one_way_jitter_ms > 0.0;
    let holds_back = held_back_ratio > 0.0;
    let is_narrow = rate_bits_per_second.is_some();
    if has_jitter && holds_back {
        return refuse(
            "it keeps the order of packets or does not, and with both `one_way_jitter_ms` and `held_back_ratio` some \
             would have to be kept in order",
        );
    }
    if duplicated_ratio > 0.0 && (has_jitter || holds_back || is_narrow || loss != Loss::None) {
        return refuse(
            "a copy is a packet of its own to it, lost, delayed and sent anew, so `duplicated_ratio` goes with a \
             constant delay alone",
        );
    }
    let (scale_ms, table) = if has_jitter {
        (TABLE_SCALE * one_way_jitter_ms, varied(jitter))
    } else if holds_back {
        (held_back_one_way_ms, held_back(held_back_ratio))
    } else {
        (0.0, Vec::new())
    };
    if scale_ms > SCALE_MS_MAX {
        let (key, most) = if has_jitter {
            ("one_way_jitter_ms", SCALE_MS_MAX / TABLE_SCALE)
        } else {
            ("held_back_one_way_ms", SCALE_MS_MAX)
        };
        return refuse(format!("`{key}` is at most {most:.0} with it"));
    }
    Ok(Stage {
        latency_ns: nanoseconds(one_way_delay_ms),
        scale_ns: nanoseconds(scale_ms),
        table,
        loss,
        duplicated_ratio,
        rate_bits_per_second: has_jitter.then_some(ANY_RATE_BITS_PER_SECOND),
        limit_packets: LINE_PACKETS,
    })
}

fn nanoseconds(milliseconds: f64) -> i64 {
    (milliseconds * 1e6).round() as i64
}

/// Quantiles of a distribution whose jitter is 1, each as likely as the others.
fn varied(jitter: Jitter) -> Vec<i16> {
    let normal = Normal::standard();
    let quantile = |share: f64| match jitter {
        Jitter::Uniform => 2.0 * share - 1.0,
        Jitter::Normal => normal.inverse_cdf(share),
        Jitter::Exponential => -(1.0 - share).ln(),
    };
    let shares = (0..TABLE_ENTRIES).map(|entry| (entry as f64 + 0.5) / TABLE_ENTRIES as f64);
    shares
        .map(|share| (quantile(share) / TABLE_SCALE * TABLE_ONE).round() as i16)
        .collect()
}

/// That share of entries is 1, the others are nothing.
fn held_back(ratio: f64) -> Vec<i16> {
    let held_back = (ratio * TABLE_ENTRIES as f64).round() as usize;
    let mut table = vec![0; TABLE_ENTRIES];
    table[..held_back].fill(TABLE_ONE as i16);
    table
}

impl Stage {
    /// The same at another rate, `None` for as fast as it comes; nothing for one that does not transmit.
    pub(super) fn at(&self, bits_per_second: Option<u64>) -> Option<Self> {
        let is_transmitter = self.limit_packets != LINE_PACKETS;
        is_transmitter.then(|| Self {
            rate_bits_per_second: bits_per_second.or(Some(ANY_RATE_BITS_PER_SECOND)),
            ..self.clone()
        })
    }

    /// `struct tc_netem_qopt` and attributes.
    pub(super) fn options(&self) -> Vec<u8> {
        let independent = match self.loss {
            Loss::None | Loss::GilbertElliott { .. } => 0.0,
            Loss::Independent { ratio } => ratio,
        };
        // Times are those of attributes; no distance between packets that pass others.
        let fields = [
            0,
            self.limit_packets,
            share(independent),
            0,
            share(self.duplicated_ratio),
            0,
        ];
        let mut options: Vec<u8> = fields.into_iter().flat_map(u32::to_ne_bytes).collect();
        let time = |ns: i64| ns.to_ne_bytes();
        put(&mut options, TCA_NETEM_LATENCY64, &time(self.latency_ns));
        put(&mut options, TCA_NETEM_JITTER64, &time(self.scale_ns));
        if !self.table.is_empty() {
            let entries = self.table.iter().flat_map(|entry| entry.to_ne_bytes());
            let entries: Vec<u8> = entries.collect();
            put(&mut options, TCA_NETEM_DELAY_DIST, &entries);
        }
        if let Some(bits) = self.rate_bits_per_second {
            put_rate(&mut options, bits / 8);
        }
        if let Loss::GilbertElliott {
            good_to_bad_ratio,
            bad_to_good_ratio,
            good_loss_ratio,
            bad_loss_ratio,
        } = self.loss
        {
            // What passes in the bad state, not what is lost there, is the third.
            let chain = [
                good_to_bad_ratio,
                bad_to_good_ratio,
                1.0 - bad_loss_ratio,
                good_loss_ratio,
            ];
            let chain: Vec<u8> = chain
                .into_iter()
                .flat_map(|ratio| share(ratio).to_ne_bytes())
                .collect();
            let mut model = Vec::new();
            put(&mut model, NETEM_LOSS_GE, &chain);
            put(&mut options, TCA_NETEM_LOSS | NESTED, &model);
        }
        options
    }
}

/// `struct tc_netem_rate`: of what is not Ethernet, without cells.
fn put_rate(options: &mut Vec<u8>, bytes_per_second: u64) {
    put(options, TCA_NETEM_RATE64, &bytes_per_second.to_ne_bytes());
    let mut rate = u32::try_from(bytes_per_second)
        .unwrap_or(u32::MAX)
        .to_ne_bytes()
        .to_vec();
    rate.extend((-ETHERNET_HEADER_BYTES).to_ne_bytes());
    rate.extend([0; 8]);
    put(options, TCA_NETEM_RATE, &rate);
}

/// A probability as the kernel draws it.
fn share(ratio: f64) -> u32 {
    (ratio * f64::from(u32::MAX)).round() as u32
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::netlink::{find, u32_at};
    use super::*;

    fn read(text: &str) -> LinkConditions {
        let conditions: LinkConditions = toml::from_str(text).unwrap();
        conditions.check().unwrap();
        conditions
    }

    /// Mean and standard deviation, in jitters.
    fn moments(table: &[i16]) -> (f64, f64) {
        let values = table
            .iter()
            .map(|entry| f64::from(*entry) / TABLE_ONE * TABLE_SCALE);
        let count = table.len() as f64;
        let mean = values.clone().sum::<f64>() / count;
        let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        (mean, variance.sqrt())
    }

    #[test]
    fn tables_have_the_moments_of_their_distributions() {
        for (jitter, mean, deviation) in [
            (Jitter::Uniform, 0.0, 3_f64.sqrt().recip()),
            (Jitter::Normal, 0.0, 1.0),
            (Jitter::Exponential, 1.0, 1.0),
        ] {
            let found = moments(&varied(jitter));
            assert!((found.0 - mean).abs() < 1e-3, "{jitter:?}: {found:?}");
            assert!((found.1 - deviation).abs() < 3e-3, "{jitter:?}: {found:?}");
        }
        let table = held_back(0.25);
        assert_eq!(table.iter().filter(|entry| **entry == 8_192).count(), 4_096);
        assert_eq!(table.iter().filter(|entry| **entry == 0).count(), 12_288);
    }

    #[test]
    fn a_rate_is_a_stage_of_its_own_before_the_line() {
        let conditions = read(
            "one_way_delay_ms = 50.0\nrate_bits_per_second = 64000\nqueue_bytes = 15000\n\
             loss = { model = \"independent\", ratio = 0.5 }",
        );
        let [transmitter, line] = <[Stage; 2]>::try_from(stages(&conditions).unwrap()).unwrap();
        let options = transmitter.options();
        assert_eq!(u32_at(&options, 4), Some(10), "packets of 1,500 bytes");
        let rate = find(&options[24..], TCA_NETEM_RATE).unwrap();
        assert_eq!(u32_at(rate, 0), Some(8_000));
        assert_eq!(u32_at(rate, 4).map(u32::cast_signed), Some(-14));
        let options = line.options();
        assert_eq!(u32_at(&options, 8), Some(1 << 31), "half of all");
        let latency = find(&options[24..], TCA_NETEM_LATENCY64).unwrap();
        assert_eq!(latency, 50_000_000_i64.to_ne_bytes());
        assert_eq!(find(&options[24..], TCA_NETEM_RATE), None);
        // As fast as it comes is the transmitter's alone to do.
        let wide = transmitter.at(None).unwrap();
        assert_eq!(wide.rate_bits_per_second, Some(1_000_000_000_000));
        assert_eq!(transmitter.at(Some(64_000)), Some(transmitter));
        assert_eq!(line.at(None), None);
    }

    #[test]
    fn bursts_are_a_chain_by_what_passes_in_the_bad_state() {
        let conditions = read(
            "loss = { model = \"gilbert-elliott\", good_to_bad_ratio = 0.25, bad_to_good_ratio = 0.5, \
             bad_loss_ratio = 1.0 }",
        );
        let [line] = <[Stage; 1]>::try_from(stages(&conditions).unwrap()).unwrap();
        let options = line.options();
        assert_eq!(u32_at(&options, 8), Some(0));
        let model = find(&options[24..], TCA_NETEM_LOSS).unwrap();
        let chain = find(model, NETEM_LOSS_GE).unwrap();
        let numbers = [0, 4, 8, 12].map(|place| u32_at(chain, place).unwrap());
        assert_eq!(numbers, [1 << 30, 1 << 31, 0, 0]);
    }

    #[test]
    fn jitter_keeps_the_order_of_packets_and_holding_back_does_not() {
        let jitter = read("one_way_delay_ms = 5.0\none_way_jitter_ms = 1.0\njitter = \"normal\"");
        let line = &stages(&jitter).unwrap()[0];
        assert_eq!(line.scale_ns, 4_000_000);
        assert_eq!(line.rate_bits_per_second, Some(ANY_RATE_BITS_PER_SECOND));
        let held_back = read("held_back_ratio = 0.1\nheld_back_one_way_ms = 30.0");
        let line = &stages(&held_back).unwrap()[0];
        assert_eq!(line.scale_ns, 30_000_000);
        assert_eq!(line.rate_bits_per_second, None);
    }

    #[test]
    fn what_netem_would_make_something_else_of_is_refused() {
        for (text, key) in [
            (
                "one_way_delay_ms = 5.0\none_way_jitter_ms = 1.0\nheld_back_ratio = 0.1",
                "held_back_ratio",
            ),
            (
                "duplicated_ratio = 0.1\nrate_bits_per_second = 64000",
                "duplicated_ratio",
            ),
            (
                "duplicated_ratio = 0.1\nloss = { model = \"independent\", ratio = 0.1 }",
                "duplicated_ratio",
            ),
            (
                "one_way_delay_ms = 900.0\none_way_jitter_ms = 600.0",
                "one_way_jitter_ms` is at most 537",
            ),
            (
                "held_back_ratio = 0.1\nheld_back_one_way_ms = 3000.0",
                "held_back_one_way_ms` is at most 2147",
            ),
            ("rate_bits_per_second = 64001", "64001 bits"),
        ] {
            let refused = stages(&read(text)).unwrap_err().to_string();
            assert!(refused.contains(key), "{refused}");
            assert!(refused.contains("--link-emulator hopbench"), "{refused}");
        }
    }
}
