//! What the cells of a stack tell together: how costs and latencies grow with the crowd.
//!
//! The slope is that of a line over the logarithm of the number of users, in parts of the figure with the
//! fewest users: 0.05 is 5 % more for ten times the users. It is fitted inside each block.

use std::collections::BTreeMap;

use hopbench::record::Verdict;
use serde_json::json;

use super::USERS;
use crate::experiment::collect::Collected;
use crate::experiment::{Sample, Subject, line};
use crate::statistics;

/// In place of a number of users.
const GROWTH: &str = "growth";

/// A figure of a crowd, and what is told of its growth: for ten times the users, and from the fewest to
/// the most.
const GROWING: [[&str; 3]; 4] = [
    [
        "server_cpu_ns_per_call",
        "server_cpu_per_call_growth_per_decade_ratio",
        "server_cpu_per_call_most_to_fewest_ratio",
    ],
    [
        "session_request_delay_ns",
        "session_request_delay_growth_per_decade_ratio",
        "session_request_delay_most_to_fewest_ratio",
    ],
    [
        "server_cpu_ns_per_registration",
        "server_cpu_per_registration_growth_per_decade_ratio",
        "server_cpu_per_registration_most_to_fewest_ratio",
    ],
    [
        "hop_ready_to_registered_ns",
        "registered_growth_per_decade_ratio",
        "registered_most_to_fewest_ratio",
    ],
];

/// One cell for each stack that was asked about several sizes of the crowd, from those that are ok.
pub(crate) fn laws(collected: &[Collected]) -> Vec<Collected> {
    let mut stacks: Vec<&str> = Vec::new();
    for cell in collected {
        let name = cell.subject.site.stack.name;
        if !stacks.contains(&name) {
            stacks.push(name);
        }
    }
    let cells_of = |stack: &str| -> Vec<&Collected> {
        let cells = collected.iter();
        cells
            .filter(|cell| cell.subject.site.stack.name == stack)
            .collect()
    };
    let stacks = stacks.into_iter().map(cells_of);
    stacks
        .filter(|cells| cells.len() > 1)
        .map(|cells| law(&cells))
        .collect()
}

fn law(cells: &[&Collected]) -> Collected {
    let mut sound: Vec<(f64, &Collected)> = cells
        .iter()
        .filter(|cell| cell.verdict().0 == Verdict::Ok)
        .filter_map(|cell| Some((users(&cell.subject)?, *cell)))
        .collect();
    sound.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut law = Collected::new(subject(&cells[0].subject, &sound));
    if sound.len() < 2 {
        law.failure = Some(format!(
            "growth needs two sizes of the crowd that were measured, and there are {}",
            sound.len()
        ));
        return law;
    }
    let samples = line::common_blocks(&sound).into_iter();
    law.samples = samples
        .map(|block| (block, sample(&sound, block)))
        .collect();
    if law.samples.is_empty() {
        law.failure = Some("no block holds all sizes of the crowd".to_owned());
    }
    law
}

fn users(subject: &Subject) -> Option<f64> {
    subject.id.distinguishing.get(USERS)?.as_f64()
}

/// The law's name and parameters; the rest is as in the `first` of its cells.
fn subject(first: &Subject, sizes: &[(f64, &Collected)]) -> Subject {
    let sizes: Vec<u64> = sizes.iter().map(|(users, _)| *users as u64).collect();
    let mut subject = Subject {
        id: first.id.clone().with(USERS, GROWTH),
        parameters: BTreeMap::from([(USERS.to_owned(), json!(sizes))]),
        ..first.clone()
    };
    let shared = ["blocks", "node_cpus", "node_workers", "generator_processes"];
    line::share(&mut subject.parameters, first, &shared);
    subject
}

fn sample(cells: &[(f64, &Collected)], block: u32) -> Sample {
    let mut sample = Sample::default();
    for [metric, per_decade, most_to_fewest] in GROWING {
        let mut points = line::points(cells, metric, block);
        for (users, _) in points.iter_mut().flatten() {
            *users = users.log10();
        }
        // Nothing is a part of what costs nothing.
        let points = points.filter(|points| points[0].1 > 0.0);
        let fewest = points.as_ref().map(|points| points[0].1);
        let most = points.as_ref().map(|points| points[points.len() - 1].1);
        let line = points.and_then(|points| statistics::regression(&points));
        let relative = |value: Option<f64>| Some(value? / fewest?);
        sample
            .scalars
            .insert(per_decade.to_owned(), relative(line.map(|line| line.slope)));
        sample
            .scalars
            .insert(most_to_fewest.to_owned(), relative(most));
    }
    sample
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::find;

    use super::*;
    use crate::experiment::cell_id;
    use crate::topology::{Site, Topology};
    use crate::variant::Variant;

    /// A cell whose call costs `values[b]` in block `b`.
    fn cell(stack: &str, users: u32, values: &[f64]) -> Collected {
        let site = Site {
            topology: Topology::Edge,
            stack: find(stack).unwrap(),
            core: find(stack).unwrap(),
            variant: Variant::default(),
            authenticate_calls: false,
            path: crate::path::Path::Loopback,
            beneath: None,
        };
        let id = cell_id("scale", "idle", &site, "per-registration");
        let mut cell = Collected::new(Subject {
            id: id.with(USERS, users),
            site,
            parameters: BTreeMap::from([("blocks".to_owned(), json!(values.len()))]),
            blocks: u32::try_from(values.len()).unwrap().into(),
        });
        for (block, value) in (0..).zip(values) {
            let mut sample = Sample::default();
            let key = "server_cpu_ns_per_call".to_owned();
            sample.scalars.insert(key, Some(*value));
            cell.samples.insert(block, sample);
        }
        cell
    }

    #[test]
    fn growth_is_told_per_decade_and_from_the_fewest_to_the_most() {
        let cells = [
            cell("tcp", 100_000, &[240.0, 480.0]),
            cell("tcp", 1_000, &[200.0, 400.0]),
            cell("tcp", 10_000, &[220.0, 440.0]),
            cell("tls", 1_000, &[300.0]),
        ];
        let laws = laws(&cells);
        // One size does not grow.
        assert_eq!(laws.len(), 1);
        let id = laws[0].subject.id.to_string();
        let expected = "scale/idle/tcp/edge/per-registration/loopback?users=growth";
        assert_eq!(id, expected);
        let users = &laws[0].subject.parameters[USERS];
        assert_eq!(*users, json!([1_000, 10_000, 100_000]));
        let found = laws[0].cell();
        assert_eq!((found.verdict, found.repetitions), (Verdict::Ok, 2));
        let value = |key: &str| found.metrics[key].value;
        let per_decade = value("server_cpu_per_call_growth_per_decade_ratio").unwrap();
        assert!((per_decade - 0.1).abs() < 1e-9, "{per_decade}");
        let most = value("server_cpu_per_call_most_to_fewest_ratio").unwrap();
        assert!((most - 1.2).abs() < 1e-9, "{most}");
        // What no cell has a figure of has no growth.
        assert_eq!(value("registered_growth_per_decade_ratio"), None);
    }

    #[test]
    fn crowds_that_failed_do_not_count() {
        let mut cells = [
            cell("tcp", 1_000, &[200.0]),
            cell("tcp", 10_000, &[210.0]),
            cell("tcp", 100_000, &[1.0]),
        ];
        cells[2].failure = Some("gone".to_owned());
        let law = &laws(&cells)[0];
        assert_eq!(law.subject.parameters[USERS], json!([1_000, 10_000]));
        cells[0].failure = Some("gone".to_owned());
        let (verdict, reason) = laws(&cells)[0].verdict();
        assert_eq!(verdict, Verdict::Failed);
        assert!(reason.unwrap().contains("there are 1"));
    }
}
