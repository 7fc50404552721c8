//! What protection costs beside what it costs at least: figures of a cell that take its control's of the
//! same block.

use hopbench::transport::{self, Stack};

use super::Sample;
use super::collect::Collected;
use super::pace::Price;

const PROTECTION: &str = "protection_cpu_ns_per_packet";

/// What cryptography itself costs for a packet, see [`super::packet`], and what packets cost against it.
pub(super) const PACKET: Keys = Keys {
    bare: "bare_protection_cpu_ns_per_packet",
    paced: "bare_protection_paced_cpu_ns_per_packet",
    cost: "protection_cost_ratio",
    paced_cost: "protection_paced_cost_ratio",
};
/// What cryptography itself costs to open a hop, see [`super::handshake`], and what registrations cost
/// against it.
pub(super) const HANDSHAKE: Keys = Keys {
    bare: "bare_handshake_cpu_ns",
    paced: "bare_handshake_paced_cpu_ns",
    cost: "handshake_cost_ratio",
    paced_cost: "handshake_paced_cost_ratio",
};

/// Metrics of what costs more than cryptography itself.
pub(super) struct Keys {
    /// Cryptography alone, again and again.
    bare: &'static str,
    /// Cryptography alone, at the pace of the cell.
    paced: &'static str,
    /// What the cell takes ÷ either.
    cost: &'static str,
    paced_cost: &'static str,
}

impl Keys {
    pub(super) fn put_bare(&self, sample: &mut Sample, price: Option<Price>) {
        let figures = [
            (self.bare, price.map(|price| price.warm_ns)),
            (self.paced, price.map(|price| price.paced_ns)),
        ];
        for (key, ns) in figures {
            sample.scalars.insert(key.to_owned(), ns);
        }
    }

    /// What `cost` says of either bare price.
    fn costs(&self, sample: &Sample, cost: impl Fn(f64) -> Option<f64>) -> Figures {
        let of = |bare| figure(sample, bare).and_then(&cost);
        vec![
            (self.cost, of(self.bare)),
            (self.paced_cost, of(self.paced)),
        ]
    }
}

/// Adds what protection costs to each cell whose packets, or whose handshakes, were priced.
pub(super) fn add_costs(collected: &mut [Collected]) {
    add(collected, PACKET.bare, is_same_carrier, packet_costs);
    add(collected, HANDSHAKE.bare, |_, _| true, handshake_cost);
}

/// Of TLS within a tunnel, the control lacks the protection of TLS as well: what a packet costs there is
/// not the tunnel's alone.
fn is_same_carrier(stack: &Stack, control: &Stack) -> bool {
    control.carrier == stack.carrier
}

/// Figures by metric key.
type Figures = Vec<(&'static str, Option<f64>)>;

/// What protecting a packet costs: processor time of both sides per operation, that of the control taken
/// off, for each packet of an operation. It holds everything that protection brings, beside the
/// cryptography that the bare price is of.
fn packet_costs(sample: &Sample, control: Option<&Sample>) -> Figures {
    let each = || {
        let extra_ns = both_sides(sample)? - both_sides(control?)?;
        Some(extra_ns / figure(sample, "wire_packets_per_operation")?)
    };
    let protection = each();
    let mut figures = PACKET.costs(sample, |bare_ns| Some(protection? / bare_ns));
    figures.push((PROTECTION, protection));
    figures
}

/// What registering over a new protected hop costs, against the least that it can: the bare handshake, and
/// the same registration without protection.
fn handshake_cost(sample: &Sample, control: Option<&Sample>) -> Figures {
    HANDSHAKE.costs(sample, |bare_ns| {
        Some(both_sides(sample)? / (bare_ns + both_sides(control?)?))
    })
}

/// Processor time of both sides per operation. A figure that the generator bounded, or that failed, is no
/// term of a difference.
fn both_sides(sample: &Sample) -> Option<f64> {
    let reasons = [
        &sample.generator_bound,
        &sample.users_short,
        &sample.shortfall,
    ];
    if reasons.iter().any(|reason| reason.is_some()) {
        return None;
    }
    let client = figure(sample, "client_cpu_ns_per_operation")?;
    Some(client + figure(sample, "server_cpu_ns_per_operation")?)
}

fn figure(sample: &Sample, key: &str) -> Option<f64> {
    *sample.scalars.get(key)?
}

/// Adds what `costs` finds to each block that has a figure for `bare`, beside the same block of the
/// control, if it is one that `accepts` the stack's.
fn add(
    collected: &mut [Collected],
    bare: &str,
    accepts: fn(&Stack, &Stack) -> bool,
    costs: fn(&Sample, Option<&Sample>) -> Figures,
) {
    let mut found = Vec::new();
    for (index, cell) in collected.iter().enumerate() {
        let stack = cell.subject.site.stack;
        let control = stack.control.and_then(|name| transport::find(name).ok());
        let Some(control) = control.filter(|control| accepts(stack, control)) else {
            continue;
        };
        let ids = cell.subject.control_ids(control);
        let is_control = |other: &&Collected| ids.first() == Some(&other.subject.id);
        let control = collected.iter().find(is_control);
        for (block, sample) in &cell.samples {
            if sample.scalars.contains_key(bare) {
                let control = control.and_then(|control| control.samples.get(block));
                found.push((index, *block, costs(sample, control)));
            }
        }
    }
    for (index, block, figures) in found {
        let sample = collected[index].samples.get_mut(&block);
        let sample = sample.expect("costs are of blocks that were measured");
        for (key, value) in figures {
            sample.scalars.insert(key.to_owned(), value);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::experiment::{Sample, Subject, cell_id};
    use crate::topology::{Site, Topology};
    use crate::variant::Variant;

    fn cell(experiment: &str, stack: &str, scalars: &[(&str, f64)]) -> Collected {
        let stack = hopbench::transport::find(stack).unwrap();
        let site = Site {
            topology: Topology::Direct,
            stack,
            core: stack,
            variant: Variant::default(),
            authenticate_calls: false,
            path: crate::path::Path::Loopback,
            beneath: None,
        };
        let mut cell = Collected::new(Subject {
            id: cell_id(experiment, "register", &site, "per-registration"),
            site,
            parameters: BTreeMap::new(),
            blocks: 1.into(),
        });
        let scalars = scalars
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Some(*value)));
        let sample = Sample {
            scalars: scalars.collect(),
            ..Sample::default()
        };
        cell.samples.insert(0, sample);
        cell
    }

    #[test]
    fn protection_is_what_the_control_does_not_cost_for_each_packet() {
        let cpu = |stack: &str, client: f64, server: f64, bare: Option<f64>| {
            let mut figures = vec![
                ("client_cpu_ns_per_operation", client),
                ("server_cpu_ns_per_operation", server),
                ("wire_packets_per_operation", 4.0),
            ];
            figures.extend(bare.map(|ns| (PACKET.bare, ns)));
            figures.extend(bare.map(|ns| (PACKET.paced, 2.0 * ns)));
            cell("throughput", stack, &figures)
        };
        let mut cells = vec![
            cpu("udp@clear", 10_000.0, 20_000.0, None),
            cpu("udp@wireguard", 14_000.0, 26_000.0, Some(2_000.0)),
        ];
        add_costs(&mut cells);
        let figures = &cells[1].samples[&0].scalars;
        assert_eq!(figures[PROTECTION], Some(2_500.0));
        assert_eq!(figures[PACKET.cost], Some(1.25));
        assert_eq!(figures[PACKET.paced_cost], Some(0.625));
        assert!(!cells[0].samples[&0].scalars.contains_key(PROTECTION));
        // What the generator bounded says nothing of the server.
        let bounded = cells[0].samples.get_mut(&0).unwrap();
        bounded.generator_bound = Some("late".to_owned());
        add_costs(&mut cells);
        assert_eq!(cells[1].samples[&0].scalars[PROTECTION], None);
        // Without the control there is no such figure, and that is said.
        cells.remove(0);
        add_costs(&mut cells);
        assert_eq!(cells[0].samples[&0].scalars[PACKET.cost], None);
    }

    #[test]
    fn a_registration_is_held_against_a_bare_handshake_and_a_plain_one() {
        let cpu = |stack: &str, client: f64, server: f64, bare: Option<f64>| {
            let mut figures = vec![
                ("client_cpu_ns_per_operation", client),
                ("server_cpu_ns_per_operation", server),
            ];
            figures.extend(bare.map(|ns| (HANDSHAKE.bare, ns)));
            figures.extend(bare.map(|ns| (HANDSHAKE.paced, ns + 120_000.0)));
            cell("throughput", stack, &figures)
        };
        let mut cells = vec![
            cpu("tcp", 50_000.0, 100_000.0, None),
            cpu("tls", 300_000.0, 420_000.0, Some(450_000.0)),
            // Over a tunnel, TLS and the tunnel are both in the bare price.
            cpu("tcp@clear", 80_000.0, 120_000.0, None),
            cpu("tls@wireguard", 500_000.0, 700_000.0, Some(800_000.0)),
        ];
        add_costs(&mut cells);
        assert_eq!(cells[1].samples[&0].scalars[HANDSHAKE.cost], Some(1.2));
        assert_eq!(
            cells[1].samples[&0].scalars[HANDSHAKE.paced_cost],
            Some(1.0)
        );
        assert_eq!(cells[3].samples[&0].scalars[HANDSHAKE.cost], Some(1.2));
        assert!(!cells[0].samples[&0].scalars.contains_key(HANDSHAKE.cost));
        // Without the control there is no such figure, and that is said.
        cells.remove(0);
        add_costs(&mut cells);
        assert_eq!(cells[0].samples[&0].scalars[HANDSHAKE.cost], None);
    }
}
