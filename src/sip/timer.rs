//! The timer values of RFC 3261 §17 and a queue of deadlines. Neither reads a clock: instants are
//! compared with those that callers bring.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Base values that every timer is derived from (RFC 3261, table 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Estimate of the round-trip time; first retransmission interval.
    pub t1: Duration,
    /// Longest retransmission interval of non-INVITE requests and INVITE responses.
    pub t2: Duration,
    /// How long a message may linger in the network.
    pub t4: Duration,
}

impl Timing {
    /// How long a transaction waits before it gives up: Timers B, F, H, and L, M of RFC 6026.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.t1 * 64
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
        }
    }
}

/// Deadlines and what they belong to, earliest first; equal deadlines in order of insertion.
///
/// There is no removal. The owner keeps at most one entry per key at a time: when an entry comes up it
/// asks the key's owner for its present deadline, and inserts again if that lies ahead. Keys of
/// things that come and go carry a generation, so that an entry that outlived its thing is told
/// from one of its successor. So the queue holds one entry per thing, however often deadlines move.
#[derive(Debug)]
pub struct TimerQueue<K> {
    heap: BinaryHeap<Entry<K>>,
    inserted: u64,
}

impl<K> Default for TimerQueue<K> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            inserted: 0,
        }
    }
}

impl<K> TimerQueue<K> {
    /// Room for so many is kept even if none waits.
    const LEAST_ENTRIES: usize = 64;

    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a deadline.
    pub fn insert(&mut self, at: Instant, key: K) {
        let serial = self.inserted;
        self.inserted += 1;
        self.heap.push(Entry { at, serial, key });
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// Takes the earliest entry if its deadline has come.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let due = self.heap.peek().is_some_and(|entry| entry.at <= now);
        let key = due
            .then(|| self.heap.pop().map(|entry| entry.key))
            .flatten();
        // What a crowd has left behind goes back; under a steady load this hardly ever happens.
        let wanted = self.heap.len().max(Self::LEAST_ENTRIES);
        if self.heap.is_empty() {
            // Nothing waits: an empty queue keeps the same room, whoever was there.
            self.heap.shrink_to(Self::LEAST_ENTRIES);
        } else if self.heap.capacity() / 8 > wanted {
            self.heap.shrink_to(2 * wanted);
        }
        key
    }

    /// How many entries wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

/// Ordered so that the greatest is the earliest: the heap has its maximum on top.
#[derive(Debug)]
struct Entry<K> {
    at: Instant,
    serial: u64,
    key: K,
}

impl<K> Ord for Entry<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}

impl<K> PartialOrd for Entry<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> PartialEq for Entry<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K> Eq for Entry<K> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_leaves_little_room_behind() {
        let start = Instant::now();
        let mut queue = TimerQueue::new();
        for key in 0..10_000 {
            queue.insert(start, key);
        }
        let mut due = std::iter::from_fn(|| queue.pop_due(start));
        assert_eq!(due.by_ref().take(9_990).count(), 9_990);
        assert_eq!(due.count(), 10);
        assert!(queue.heap.capacity() <= 64, "{}", queue.heap.capacity());
    }

    #[test]
    fn pops_by_deadline_then_by_insertion() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut queue = TimerQueue::new();
        for (seconds, key) in [(3, 'c'), (1, 'a'), (3, 'd'), (2, 'b')] {
            queue.insert(at(seconds), key);
        }
        assert_eq!(queue.next_deadline(), Some(at(1)));
        assert_eq!(queue.pop_due(start), None);
        let due: String = std::iter::from_fn(|| queue.pop_due(at(3))).collect();
        assert_eq!(due, "abcd");
        assert!(queue.is_empty() && queue.next_deadline().is_none());
    }
}
