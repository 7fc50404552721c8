//! Where the packets of a cell go: over the kernel's loopback, or through the lab. Plain data.

use std::collections::BTreeMap;

use clap::ValueEnum;
use hopbench::net::link::{LinkConditions, Loss};
use hopbench::transport::InnerIp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::lab::netem::queue_packets;

/// Where packets go.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Path {
    /// The kernel's loopback.
    #[default]
    Loopback,
    /// Network namespaces, and a link for each hop, whose both directions are like this by the doing of that one.
    Lab(LinkConditions, LinkEmulator),
}

/// Who makes the lab's links slow, narrow and lossy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LinkEmulator {
    /// hopbench itself, between two TUN devices: its seed says what is lost, and its tap sees all packets.
    #[default]
    Hopbench,
    /// The kernel's netem, on a veth pair: no packet passes user space.
    Netem,
}

impl LinkEmulator {
    /// As cells record it.
    fn name(self) -> &'static str {
        match self {
            Self::Hopbench => "hopbench",
            Self::Netem => "netem",
        }
    }
}

/// A path by its name alone, as scenarios and the command line have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PathName {
    /// The kernel's loopback.
    #[default]
    Loopback,
    /// Network namespaces and links.
    Lab,
}

impl PathName {
    /// Whose IP is usually inside tunnels: in the lab there is a network that the kernel's can be in.
    pub(crate) fn inner_ip(self) -> InnerIp {
        match self {
            Self::Loopback => InnerIp::User,
            Self::Lab => InnerIp::Kernel,
        }
    }
}

impl Path {
    /// As in the names of cells.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Lab(..) => "lab",
        }
    }

    /// The lab's links, if that is where packets go.
    pub(crate) fn links(&self) -> Option<&LinkConditions> {
        match self {
            Self::Loopback => None,
            Self::Lab(conditions, _) => Some(conditions),
        }
    }

    /// Who emulates them, if somebody does. netem is there wherever it is asked for, so that cells without a delay
    /// differ in nothing else from those with one.
    pub(crate) fn emulator(&self) -> Option<LinkEmulator> {
        match self {
            Self::Lab(_, LinkEmulator::Netem) => Some(LinkEmulator::Netem),
            Self::Lab(conditions, LinkEmulator::Hopbench) if conditions.is_impaired() => {
                Some(LinkEmulator::Hopbench)
            }
            Self::Loopback | Self::Lab(..) => None,
        }
    }

    /// Whose IP is inside tunnels, unless a variant says otherwise.
    pub(crate) fn inner_ip(&self) -> InnerIp {
        match self {
            Self::Loopback => PathName::Loopback,
            Self::Lab(..) => PathName::Lab,
        }
        .inner_ip()
    }

    /// What a cell records of its links.
    pub(crate) fn recorded(&self) -> BTreeMap<String, Value> {
        let Some(conditions) = self.links() else {
            return BTreeMap::new();
        };
        let emulation = self.emulator().map_or("none", LinkEmulator::name);
        let mut parameters = parameters(conditions);
        parameters.insert("link_emulation".into(), json!(emulation));
        let is_narrow = conditions.rate_bits_per_second.is_some();
        if is_narrow && self.emulator() == Some(LinkEmulator::Netem) {
            // Its queue is of packets, not of bytes.
            parameters.insert(
                "link_queue_packets".into(),
                json!(queue_packets(conditions)),
            );
        }
        parameters
    }

    /// What of that differs from a link that does nothing: it stands in the cell's id.
    pub(crate) fn distinguishing(&self) -> BTreeMap<String, Value> {
        let Some(conditions) = self.links() else {
            return BTreeMap::new();
        };
        let usual = parameters(&LinkConditions::default());
        let mut parameters = parameters(conditions);
        parameters.retain(|key, value| usual.get(key) != Some(value));
        if self.emulator() == Some(LinkEmulator::Netem) {
            let name = LinkEmulator::Netem.name();
            parameters.insert("link_emulation".into(), json!(name));
        }
        parameters
    }
}

/// Of both directions of each link. What has a unit of its own elsewhere, such as the MTU, says that it is a
/// link's.
fn parameters(conditions: &LinkConditions) -> BTreeMap<String, Value> {
    let LinkConditions {
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
    } = *conditions;
    let mut parameters = BTreeMap::from([
        ("one_way_delay_ms", json!(one_way_delay_ms)),
        ("one_way_jitter_ms", json!(one_way_jitter_ms)),
        ("link_loss_ratio", json!(loss.mean_ratio())),
        ("link_rate_bits_per_second", json!(rate_bits_per_second)),
        ("link_mtu_bytes", json!(mtu_bytes)),
    ]);
    if one_way_jitter_ms > 0.0 {
        parameters.insert("link_jitter", json!(jitter));
    }
    if duplicated_ratio > 0.0 {
        parameters.insert("link_duplicated_ratio", json!(duplicated_ratio));
    }
    if held_back_ratio > 0.0 {
        parameters.insert("link_held_back_ratio", json!(held_back_ratio));
        parameters.insert("link_held_back_one_way_ms", json!(held_back_one_way_ms));
    }
    if rate_bits_per_second.is_some() {
        parameters.insert("link_queue_bytes", json!(queue_bytes));
    }
    match loss {
        Loss::None | Loss::Independent { .. } => {}
        Loss::GilbertElliott {
            good_to_bad_ratio,
            bad_to_good_ratio,
            good_loss_ratio,
            bad_loss_ratio,
        } => parameters.extend([
            ("link_good_to_bad_ratio", json!(good_to_bad_ratio)),
            ("link_bad_to_good_ratio", json!(bad_to_good_ratio)),
            ("link_good_loss_ratio", json!(good_loss_ratio)),
            ("link_bad_loss_ratio", json!(bad_loss_ratio)),
        ]),
    }
    let named = parameters.into_iter();
    named.map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_only_what_differs_from_a_link_that_does_nothing() {
        assert!(Path::Loopback.distinguishing().is_empty());
        assert!(Path::Loopback.recorded().is_empty());
        let hopbench = LinkEmulator::Hopbench;
        let plain = Path::Lab(LinkConditions::default(), hopbench);
        assert!(plain.distinguishing().is_empty());
        assert_eq!(plain.recorded()["link_emulation"], "none");
        let conditions = LinkConditions {
            loss: Loss::Independent { ratio: 0.02 },
            ..LinkConditions::with_round_trip_ms(100.0)
        };
        let slow = Path::Lab(conditions, hopbench);
        let expected = [
            ("link_loss_ratio".to_owned(), json!(0.02)),
            ("one_way_delay_ms".to_owned(), json!(50.0)),
        ];
        assert_eq!(slow.distinguishing(), BTreeMap::from(expected));
        assert_eq!(slow.recorded()["link_emulation"], "hopbench");
        let netem = Path::Lab(conditions, LinkEmulator::Netem);
        assert_eq!(netem.recorded()["link_emulation"], "netem");
        assert_eq!(netem.distinguishing()["link_emulation"], "netem");
    }

    #[test]
    fn everything_that_makes_a_link_another_one_is_in_the_id() {
        let other = [
            r#"{"one_way_delay_ms": 1}"#,
            r#"{"one_way_delay_ms": 1, "one_way_jitter_ms": 1}"#,
            r#"{"one_way_delay_ms": 1, "one_way_jitter_ms": 1, "jitter": "normal"}"#,
            r#"{"loss": {"model": "independent", "ratio": 0.1}}"#,
            r#"{"loss": {"model": "gilbert-elliott", "good_to_bad_ratio": 0.1, "bad_to_good_ratio": 0.9}}"#,
            r#"{"duplicated_ratio": 0.1}"#,
            r#"{"held_back_ratio": 0.1}"#,
            r#"{"held_back_ratio": 0.1, "held_back_one_way_ms": 3}"#,
            r#"{"rate_bits_per_second": 64000}"#,
            r#"{"rate_bits_per_second": 64000, "queue_bytes": 3000}"#,
            r#"{"mtu_bytes": 1280}"#,
        ];
        let mut seen = Vec::new();
        for text in other {
            let conditions: LinkConditions = serde_json::from_str(text).unwrap();
            conditions.check().unwrap();
            let distinguishing = Path::Lab(conditions, LinkEmulator::Hopbench).distinguishing();
            assert!(!distinguishing.is_empty(), "{text}");
            assert!(!seen.contains(&distinguishing), "{text}");
            seen.push(distinguishing);
        }
    }
}
