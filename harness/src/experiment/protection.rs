//! What protecting a packet costs beside what it costs at least: a figure of a cell that takes its
//! control's of the same block.

use super::collect::Collected;

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
