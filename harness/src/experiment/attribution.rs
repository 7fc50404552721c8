//! What the memory of a connection consists of: slopes like those of [`super::memory`], part by part, of
//! processes whose allocator remembers what each block is for.
//!
//! They are processes of their own, beside those whose heap, malloc and resident memory are measured:
//! remembering takes memory, too.

use hopbench::measure::heap::{Part, PartBytes};
use hopbench::measure::snapshot::ProcessSnapshot;

use super::Sample;
use crate::statistics;

/// What is in the whole that was measured without tracing, and in none of the parts.
const UNEXPLAINED: &str = "unexplained";

/// Bytes by part of both sides, with so many connections.
pub(super) struct TracedPoint {
    pub(super) connections: f64,
    pub(super) client: ProcessSnapshot,
    pub(super) server: ProcessSnapshot,
}

/// The key of a part's figure.
fn key(side: &str, part: &str) -> String {
    format!("{side}_{part}_heap_bytes_per_connection")
}

/// Whether a metric is a part of another one: what it is compared with is that of the whole.
pub(super) fn is_part(metric: &str) -> bool {
    let names = Part::ALL.map(Part::name).into_iter().chain([UNEXPLAINED]);
    let is_of = |side, part| metric == key(side, part);
    names
        .into_iter()
        .any(|part| is_of("client", part) || is_of("server", part))
}

/// The numbers of connections that are traced, of those that are measured: a line takes two.
pub(super) fn traced(connections: &[u32]) -> Vec<u32> {
    let ends = [connections.first(), connections.last()];
    let mut traced: Vec<u32> = ends.into_iter().flatten().copied().collect();
    traced.dedup();
    traced
}

/// Adds to a sample, which has the whole, its parts.
pub(super) fn add_parts(sample: &mut Sample, points: &[TracedPoint]) {
    type Side = fn(&TracedPoint) -> &ProcessSnapshot;
    let client: Side = |point| &point.client;
    let server: Side = |point| &point.server;
    for (side, of) in [("client", client), ("server", server)] {
        let slope = |bytes: &dyn Fn(&PartBytes) -> i64| {
            let reading = |point| {
                let parts = of(point).heap_parts.as_ref()?;
                Some((point.connections, bytes(parts) as f64))
            };
            let line: Option<Vec<_>> = points.iter().map(reading).collect();
            Some(statistics::regression(&line?)?.slope)
        };
        for part in Part::ALL {
            let bytes = slope(&|parts| parts.of(part));
            sample.scalars.insert(key(side, part.name()), bytes);
        }
        let whole = sample
            .scalars
            .get(&format!("{side}_heap_bytes_per_connection"));
        let unexplained = whole.copied().flatten().zip(slope(&PartBytes::total));
        sample.scalars.insert(
            key(side, UNEXPLAINED),
            unexplained.map(|(whole, parts)| whole - parts),
        );
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn point(connections: u32, parts: Option<PartBytes>) -> TracedPoint {
        let process = ProcessSnapshot {
            heap_parts: parts,
            ..ProcessSnapshot::take_without_rss()
        };
        TracedPoint {
            connections: connections.into(),
            client: process,
            server: process,
        }
    }

    fn sample(whole: f64) -> Sample {
        let mut sample = Sample::default();
        for side in ["client", "server"] {
            let key = format!("{side}_heap_bytes_per_connection");
            sample.scalars.insert(key, Some(whole));
        }
        sample
    }

    #[test]
    fn parts_are_slopes_and_the_rest_is_unexplained() {
        let parts = |connections: i64| PartBytes {
            tls_session: 5_000 + 7_000 * connections,
            task: 900 * connections,
            ..PartBytes::default()
        };
        let mut sample = sample(8_000.0);
        let points = [(14, parts(14)), (224, parts(224))].map(|(at, parts)| point(at, Some(parts)));
        add_parts(&mut sample, &points);
        for side in ["client", "server"] {
            let figure = |part| sample.scalars[&key(side, part)].unwrap();
            assert!((figure("tls_session") - 7_000.0).abs() < 1e-6);
            assert!((figure("task") - 900.0).abs() < 1e-6);
            assert!(figure("tunnel").abs() < 1e-6);
            assert!((figure("unexplained") - 100.0).abs() < 1e-6);
        }
    }

    #[test]
    fn where_nothing_was_traced_there_are_no_parts() {
        let mut sample = sample(8_000.0);
        add_parts(&mut sample, &[point(14, None), point(224, None)]);
        assert_eq!(sample.scalars[&key("server", "task")], None);
        assert_eq!(sample.scalars[&key("server", "unexplained")], None);
    }

    #[test]
    fn parts_are_known_by_their_names() {
        assert!(is_part("server_inner_stack_heap_bytes_per_connection"));
        assert!(is_part("client_unexplained_heap_bytes_per_connection"));
        assert!(!is_part("server_heap_bytes_per_connection"));
        assert!(!is_part("server_c_heap_bytes_per_connection"));
    }

    #[test]
    fn two_numbers_of_connections_are_traced() {
        assert_eq!(traced(&[14, 28, 56]), [14, 56]);
        assert_eq!(traced(&[14]), [14]);
    }
}
