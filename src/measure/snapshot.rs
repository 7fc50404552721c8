//! The meters of one process, read together, so that two readings bracket what happened between.
//!
//! Serialised, because load generators and nodes are processes of their own and report to the
//! harness.

use serde::{Deserialize, Serialize};

use super::heap::{self, PartBytes};
use super::{cpu, malloc, memory};

/// What this process had used at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSnapshot {
    /// When it was taken, by [`cpu::monotonic_ns`].
    pub at_monotonic_ns: u64,
    /// User and system time of all threads since the process started.
    pub cpu_ns: u64,
    /// Live heap bytes; null when the counting allocator is not installed.
    pub heap_live_bytes: Option<i64>,
    /// The same in chunks of malloc; null likewise.
    pub heap_chunk_bytes: Option<i64>,
    /// Live bytes by what they are for; null unless blocks are traced ([`heap::trace`]).
    #[serde(default)]
    pub heap_parts: Option<PartBytes>,
    /// Blocks allocated since the process started; null when the counting allocator is not installed.
    pub heap_allocations: Option<u64>,
    /// What malloc has given out, to C as well; null where it does not tell, or when it was not read.
    pub malloc_bytes: Option<u64>,
    /// What malloc has and has not given out, see [`malloc::Books::free_bytes`]; null likewise.
    #[serde(default)]
    pub malloc_free_bytes: Option<u64>,
    /// Resident memory; null where the system does not tell, or when it was not read.
    pub rss_bytes: Option<u64>,
    /// The most that has ever been resident; null likewise.
    #[serde(default)]
    pub peak_rss_bytes: Option<u64>,
}

/// What a process used between two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Time between the snapshots.
    pub elapsed_ns: u64,
    /// User and system time; 2 s in a second when two threads were busy throughout.
    pub cpu_ns: u64,
    /// Growth of the live heap.
    pub heap_bytes: Option<i64>,
    /// Blocks allocated.
    pub heap_allocations: Option<u64>,
    /// Growth of resident memory.
    pub rss_bytes: Option<i64>,
}

impl ProcessSnapshot {
    /// Reads the meters of the calling process.
    ///
    /// malloc's books and resident memory are read last: for these the kernel walks all pages, a fraction
    /// of a millisecond in a small process, more in a large one. To bracket a busy period see
    /// [`Self::take_without_rss`].
    #[must_use]
    pub fn take() -> Self {
        let quick = Self::take_without_rss();
        let books = malloc::books().ok();
        Self {
            malloc_bytes: books.map(|books| books.in_use_bytes),
            malloc_free_bytes: books.map(|books| books.free_bytes),
            rss_bytes: memory::resident_bytes().ok(),
            peak_rss_bytes: memory::peak_resident_bytes().ok(),
            ..quick
        }
    }

    /// The same in about a microsecond, without malloc's books and resident memory, which stay `None`.
    #[must_use]
    pub fn take_without_rss() -> Self {
        let heap = heap::process();
        Self {
            at_monotonic_ns: cpu::monotonic_ns(),
            cpu_ns: cpu::process_ns(),
            heap_live_bytes: heap.map(|heap| heap.live_bytes),
            heap_chunk_bytes: heap.map(|heap| heap.live_chunk_bytes),
            heap_parts: heap::parts(),
            heap_allocations: heap.map(|heap| heap.allocations),
            malloc_bytes: None,
            malloc_free_bytes: None,
            rss_bytes: None,
            peak_rss_bytes: None,
        }
    }

    /// Both processes together, as if they were one; what is not known of one is not known of both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            // The later one: what is measured between two sums began in both by then.
            at_monotonic_ns: self.at_monotonic_ns.max(other.at_monotonic_ns),
            cpu_ns: self.cpu_ns + other.cpu_ns,
            heap_live_bytes: sum(self.heap_live_bytes, other.heap_live_bytes),
            heap_chunk_bytes: sum(self.heap_chunk_bytes, other.heap_chunk_bytes),
            heap_parts: self
                .heap_parts
                .zip(other.heap_parts)
                .map(|(one, other)| one.plus(&other)),
            heap_allocations: sum(self.heap_allocations, other.heap_allocations),
            malloc_bytes: sum(self.malloc_bytes, other.malloc_bytes),
            malloc_free_bytes: sum(self.malloc_free_bytes, other.malloc_free_bytes),
            rss_bytes: sum(self.rss_bytes, other.rss_bytes),
            peak_rss_bytes: sum(self.peak_rss_bytes, other.peak_rss_bytes),
        }
    }

    /// What was used from `earlier`, a snapshot of the same process, until this one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> ProcessUsage {
        ProcessUsage {
            elapsed_ns: self.at_monotonic_ns.saturating_sub(earlier.at_monotonic_ns),
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            heap_bytes: difference(
                self.heap_live_bytes,
                earlier.heap_live_bytes,
                i64::wrapping_sub,
            ),
            heap_allocations: difference(
                self.heap_allocations,
                earlier.heap_allocations,
                u64::saturating_sub,
            ),
            rss_bytes: difference(self.rss_bytes, earlier.rss_bytes, u64::wrapping_sub)
                .map(u64::cast_signed),
        }
    }
}

impl ProcessUsage {
    /// What was used in two periods that do not overlap.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            elapsed_ns: self.elapsed_ns + other.elapsed_ns,
            cpu_ns: self.cpu_ns + other.cpu_ns,
            heap_bytes: sum(self.heap_bytes, other.heap_bytes),
            heap_allocations: sum(self.heap_allocations, other.heap_allocations),
            rss_bytes: sum(self.rss_bytes, other.rss_bytes),
        }
    }
}

fn sum<T: std::ops::Add<Output = T>>(one: Option<T>, other: Option<T>) -> Option<T> {
    Some(one? + other?)
}

fn difference<T>(later: Option<T>, earlier: Option<T>, subtract: fn(T, T) -> T) -> Option<T> {
    Some(subtract(later?, earlier?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn snapshot(rss_bytes: Option<u64>) -> ProcessSnapshot {
        ProcessSnapshot {
            at_monotonic_ns: 1_000,
            cpu_ns: 300,
            heap_live_bytes: Some(50),
            heap_chunk_bytes: Some(96),
            heap_parts: None,
            heap_allocations: Some(2),
            malloc_bytes: Some(4_096),
            malloc_free_bytes: Some(512),
            rss_bytes,
            peak_rss_bytes: rss_bytes,
        }
    }

    #[test]
    fn usages_of_two_periods_add_up() {
        let usage = |cpu_ns, rss_bytes| ProcessUsage {
            elapsed_ns: 1_000,
            cpu_ns,
            heap_bytes: Some(-8),
            heap_allocations: Some(3),
            rss_bytes,
        };
        let both = usage(300, Some(4_096)).plus(&usage(500, None));
        assert_eq!((both.elapsed_ns, both.cpu_ns), (2_000, 800));
        assert_eq!(
            (both.heap_bytes, both.heap_allocations),
            (Some(-16), Some(6))
        );
        assert_eq!(both.rss_bytes, None);
    }

    #[test]
    fn usage_is_the_difference_and_missing_stays_missing() {
        let later = ProcessSnapshot {
            at_monotonic_ns: 3_000,
            cpu_ns: 1_800,
            heap_live_bytes: Some(-20),
            heap_chunk_bytes: Some(-64),
            heap_parts: None,
            heap_allocations: Some(9),
            malloc_bytes: None,
            malloc_free_bytes: None,
            rss_bytes: Some(4_096),
            peak_rss_bytes: Some(8_192),
        };
        let expected = ProcessUsage {
            elapsed_ns: 2_000,
            cpu_ns: 1_500,
            heap_bytes: Some(-70),
            heap_allocations: Some(7),
            rss_bytes: Some(-4_096),
        };
        assert_eq!(later.since(&snapshot(Some(8_192))), expected);
        assert_eq!(later.since(&snapshot(None)).rss_bytes, None);
    }

    #[test]
    fn two_processes_add_up_and_missing_stays_missing() {
        let both = snapshot(Some(8_192)).plus(&ProcessSnapshot {
            at_monotonic_ns: 3_000,
            malloc_bytes: None,
            ..snapshot(Some(4_096))
        });
        let expected = ProcessSnapshot {
            at_monotonic_ns: 3_000,
            cpu_ns: 600,
            heap_live_bytes: Some(100),
            heap_chunk_bytes: Some(192),
            heap_parts: None,
            heap_allocations: Some(4),
            malloc_bytes: None,
            malloc_free_bytes: snapshot(None).malloc_free_bytes.map(|bytes| 2 * bytes),
            rss_bytes: Some(12_288),
            peak_rss_bytes: Some(12_288),
        };
        assert_eq!(both, expected);
    }

    #[test]
    fn a_snapshot_survives_json_with_its_nulls() {
        let taken = ProcessSnapshot::take();
        assert_eq!(taken.heap_live_bytes, None);
        assert_eq!(ProcessSnapshot::take_without_rss().rss_bytes, None);
        let json = serde_json::to_string(&taken).unwrap();
        assert!(json.contains("\"heap_live_bytes\":null"), "{json}");
        assert_eq!(
            serde_json::from_str::<ProcessSnapshot>(&json).unwrap(),
            taken
        );
    }
}
