//! Figures of a cell that take other cells of the same block: what the memory of a connected user
//! consists of, and what protecting a packet costs beside what it costs at least.

use super::cell_stage;
use super::collect::Collected;

/// Of a connected user's memory over a tunnel, by construction: each part is the difference that it
/// makes between two cells that differ in it alone.
const TUNNEL: &str = "server_tunnel_heap_bytes_per_connection";
/// The tunnel's own TCP.
const INNER_STACK: &str = "server_inner_stack_heap_bytes_per_connection";
/// The carrier as it is without the tunnel.
const CARRIER: &str = "server_carrier_heap_bytes_per_connection";
/// What a registration adds to a carrier without the tunnel.
const BINDING: &str = "server_binding_heap_bytes_per_connection";
/// What is measured and in none of the parts.
const UNEXPLAINED: &str = "server_unexplained_heap_bytes_per_connection";

/// Bytes of one more connection at the server, in one block of one cell.
const HEAP: &str = "server_heap_bytes_per_connection";

/// Adds the parts of memory to the cells of stacks over tunnels whose users are registered. A part
/// is missing where a cell that it takes is.
pub(super) fn add_memory_parts(collected: &mut [Collected]) {
    let mut found = Vec::new();
    for (index, cell) in collected.iter().enumerate() {
        let stack = cell.subject.site.stack;
        let Some(tunnel) = stack.tunnel else { continue };
        if cell_stage(&cell.subject) != Some("registered") {
            continue;
        }
        for block in cell.samples.keys() {
            // A cell of this kind but of another stack and stage, in this block, run in the same way
            // as far as that concerns it.
            let heap = |name: &str, stage: &str| -> Option<f64> {
                let other = hopbench::transport::find(name).ok()?;
                let mut id = cell.subject.control_ids(other).pop()?;
                id.distinguishing.insert("stage".into(), stage.into());
                let other = collected.iter().find(|other| other.subject.id == id)?;
                *other.samples.get(block)?.scalars.get(HEAP)?
            };
            let over_tunnel = |carrier: &str| format!("{carrier}@{tunnel}");
            let parts = Parts::of(stack.carrier, stack.is_stream(), over_tunnel, heap);
            found.push((index, *block, parts));
        }
    }
    for (index, block, parts) in found {
        let sample = collected[index].samples.get_mut(&block);
        let sample = sample.expect("parts are of blocks that were measured");
        for (key, value) in parts.figures() {
            sample.scalars.insert(key.to_owned(), value);
        }
    }
}

/// What the memory of one more user consists of, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Parts {
    tunnel: Option<f64>,
    inner_stack: Option<f64>,
    carrier: Option<f64>,
    binding: Option<f64>,
    unexplained: Option<f64>,
}

impl Parts {
    /// Of a user over `carrier`; `heap` tells bytes by stack and stage.
    fn of(
        carrier: &str,
        is_stream: bool,
        over_tunnel: impl Fn(&str) -> String,
        heap: impl Fn(&str, &str) -> Option<f64>,
    ) -> Self {
        const HANDSHAKEN: &str = "handshaken";
        const REGISTERED: &str = "registered";
        let difference = |whole: Option<f64>, part: Option<f64>| Some(whole? - part?);
        let tunnel = heap(&over_tunnel("udp"), HANDSHAKEN);
        let inner_stack = difference(
            difference(heap(&over_tunnel("tcp"), HANDSHAKEN), tunnel),
            heap("tcp", HANDSHAKEN),
        )
        .filter(|_| is_stream);
        // A server keeps nothing of a user who only has a socket for datagrams.
        let own = heap(carrier, HANDSHAKEN);
        let binding = difference(heap(carrier, REGISTERED), own);
        let parts: Option<Vec<f64>> = if is_stream {
            [tunnel, inner_stack, own, binding].into_iter().collect()
        } else {
            [tunnel, binding].into_iter().collect()
        };
        let sum = parts.map(|parts| parts.iter().sum());
        Self {
            tunnel,
            inner_stack,
            carrier: own.filter(|_| is_stream),
            binding,
            unexplained: difference(heap(&over_tunnel(carrier), REGISTERED), sum),
        }
    }

    fn figures(self) -> [(&'static str, Option<f64>); 5] {
        [
            (TUNNEL, self.tunnel),
            (INNER_STACK, self.inner_stack),
            (CARRIER, self.carrier),
            (BINDING, self.binding),
            (UNEXPLAINED, self.unexplained),
        ]
    }
}

/// What cryptography itself costs: see [`super::packet`].
pub(super) const BARE_PROTECTION: &str = "bare_protection_cpu_ns_per_packet";
const PROTECTION: &str = "protection_cpu_ns_per_packet";
const COST: &str = "protection_cost_ratio";

/// Adds to each cell whose packets were priced what protecting one costs: processor time of both
/// sides per operation, that of the control taken off, for each packet of an operation. It holds
/// everything that protection brings, beside the cryptography that the bare price is of.
pub(super) fn add_protection_costs(collected: &mut [Collected]) {
    let mut found = Vec::new();
    for (index, cell) in collected.iter().enumerate() {
        let stack = cell.subject.site.stack;
        let control = stack.control.and_then(|name| {
            let control = hopbench::transport::find(name).ok()?;
            // Of TLS within a tunnel, the control lacks the protection of TLS as well.
            (control.carrier == stack.carrier).then_some(control)
        });
        let Some(control) = control else { continue };
        let ids = cell.subject.control_ids(control);
        let is_control = |other: &&Collected| ids.first() == Some(&other.subject.id);
        let control = collected.iter().find(is_control);
        for (block, sample) in &cell.samples {
            let Some(bare) = sample.scalars.get(BARE_PROTECTION) else {
                continue;
            };
            let control = control.and_then(|control| control.samples.get(block));
            let figure = |sample: &super::Sample, key: &str| *sample.scalars.get(key)?;
            // A figure that the generator bounded, or that failed, is no term of a difference.
            let is_sound = |sample: &super::Sample| {
                let reasons = [
                    &sample.generator_bound,
                    &sample.users_short,
                    &sample.shortfall,
                ];
                reasons.iter().all(|reason| reason.is_none())
            };
            let both_sides = |sample: &super::Sample| {
                if !is_sound(sample) {
                    return None;
                }
                let client = figure(sample, "client_cpu_ns_per_operation")?;
                Some(client + figure(sample, "server_cpu_ns_per_operation")?)
            };
            let each = || {
                let extra_ns = both_sides(sample)? - both_sides(control?)?;
                Some(extra_ns / figure(sample, "wire_packets_per_operation")?)
            };
            let protection = each();
            let cost = protection.zip(*bare).map(|(ns, bare_ns)| ns / bare_ns);
            found.push((index, *block, [(PROTECTION, protection), (COST, cost)]));
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
        };
        let mut cell = Collected::new(Subject {
            id: cell_id(experiment, "register", &site, "per-registration"),
            site,
            parameters: BTreeMap::new(),
            blocks: 1,
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

    fn memory(stack: &str, stage: &str, bytes: f64) -> Collected {
        let mut cell = cell("memory", stack, &[(HEAP, bytes)]);
        cell.subject.id = cell.subject.id.with("stage", stage);
        cell
    }

    /// By stack and stage, as bytes of one connection.
    fn heap(name: &str, stage: &str) -> Option<f64> {
        let table = [
            ("tcp", 3_000.0, 5_000.0),
            ("tls", 14_000.0, 16_100.0),
            ("udp@wireguard", 12_000.0, 13_000.0),
            ("tcp@wireguard", 32_000.0, 34_000.0),
            ("tls@wireguard", 43_500.0, 45_200.0),
        ];
        let row = table.iter().find(|row| row.0 == name)?;
        Some(if stage == "registered" { row.2 } else { row.1 })
    }

    #[test]
    fn parts_add_up_to_what_was_measured() {
        let over_tunnel = |carrier: &str| format!("{carrier}@wireguard");
        let tcp = Parts::of("tcp", true, over_tunnel, heap);
        let expected = Parts {
            tunnel: Some(12_000.0),
            inner_stack: Some(17_000.0),
            carrier: Some(3_000.0),
            binding: Some(2_000.0),
            unexplained: Some(0.0),
        };
        assert_eq!(tcp, expected);
        let tls = Parts::of("tls", true, over_tunnel, heap);
        let expected = Parts {
            carrier: Some(14_000.0),
            binding: Some(2_100.0),
            unexplained: Some(100.0),
            ..expected
        };
        assert_eq!(tls, expected);
        // Nothing was measured over `udp`: what a binding takes is not known, nor the rest.
        let udp = Parts::of("udp", false, over_tunnel, heap);
        let expected = Parts {
            tunnel: Some(12_000.0),
            inner_stack: None,
            carrier: None,
            binding: None,
            unexplained: None,
        };
        assert_eq!(udp, expected);
    }

    #[test]
    fn parts_stand_in_the_cell_of_registered_users() {
        let mut cells = vec![
            memory("udp", "handshaken", 10.0),
            memory("udp", "registered", 1_900.0),
            memory("udp@wireguard", "handshaken", 12_000.0),
            memory("udp@wireguard", "registered", 14_000.0),
        ];
        add_memory_parts(&mut cells);
        let part = |key: &str| cells[3].samples[&0].scalars[key];
        assert_eq!(part(TUNNEL), Some(12_000.0));
        assert_eq!(part(BINDING), Some(1_890.0));
        assert_eq!(part(UNEXPLAINED), Some(110.0));
        assert_eq!(part(INNER_STACK), None);
        assert!(!cells[2].samples[&0].scalars.contains_key(TUNNEL));
    }

    #[test]
    fn parts_of_a_variant_are_run_in_the_same_way() {
        let variant: Variant = toml::from_str("mtu_bytes = 1280").unwrap();
        let mut cells = Vec::new();
        for (stack, stage, bytes) in [
            ("tcp", "handshaken", 3_000.0),
            ("tcp", "registered", 5_000.0),
            ("udp@wireguard", "handshaken", 12_000.0),
            ("tcp@wireguard", "handshaken", 32_000.0),
            ("tcp@wireguard", "registered", 34_000.0),
        ] {
            let mut cell = memory(stack, stage, bytes);
            if stack == "tcp@wireguard" {
                cell.subject.site.variant = variant;
                cell.subject.id = cell.subject.id.with("mtu_bytes", 1_280);
            }
            cells.push(cell);
        }
        add_memory_parts(&mut cells);
        let part = |key: &str| cells[4].samples[&0].scalars[key];
        assert_eq!(part(TUNNEL), Some(12_000.0));
        assert_eq!(part(INNER_STACK), Some(17_000.0));
        assert_eq!(part(UNEXPLAINED), Some(0.0));
    }

    #[test]
    fn protection_is_what_the_control_does_not_cost_for_each_packet() {
        let cpu = |stack: &str, client: f64, server: f64, bare: Option<f64>| {
            let mut figures = vec![
                ("client_cpu_ns_per_operation", client),
                ("server_cpu_ns_per_operation", server),
                ("wire_packets_per_operation", 4.0),
            ];
            figures.extend(bare.map(|ns| (BARE_PROTECTION, ns)));
            cell("throughput", stack, &figures)
        };
        let mut cells = vec![
            cpu("udp@clear", 10_000.0, 20_000.0, None),
            cpu("udp@wireguard", 14_000.0, 26_000.0, Some(2_000.0)),
        ];
        add_protection_costs(&mut cells);
        let figures = &cells[1].samples[&0].scalars;
        assert_eq!(figures[PROTECTION], Some(2_500.0));
        assert_eq!(figures[COST], Some(1.25));
        assert!(!cells[0].samples[&0].scalars.contains_key(PROTECTION));
        // What the generator bounded says nothing of the server.
        let bounded = cells[0].samples.get_mut(&0).unwrap();
        bounded.generator_bound = Some("late".to_owned());
        add_protection_costs(&mut cells);
        assert_eq!(cells[1].samples[&0].scalars[PROTECTION], None);
        // Without the control there is no such figure, and that is said.
        cells.remove(0);
        add_protection_costs(&mut cells);
        assert_eq!(cells[0].samples[&0].scalars[COST], None);
    }
}
