//! When to look at which of many peers, without ever looking at one that is idle.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Deadlines of many owners, by key. An entry may be too early, never too late, so that traffic,
/// which mostly puts deadlines off, need not touch it.
///
/// Each owner remembers the time of its earliest entry, here called its timer. An entry that is not
/// its owner's timer has been overtaken by an earlier one, or belonged to an earlier owner with the
/// same key: whoever pops it passes it over.
#[derive(Debug)]
pub struct Deadlines<K> {
    entries: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Copy + Ord> Deadlines<K> {
    /// None so far.
    #[must_use]
    pub fn new() -> Self {
        Self {
            entries: BinaryHeap::new(),
        }
    }

    /// Makes sure that `key`, whose timer is `timer`, comes up no later than at `deadline`.
    pub fn schedule(&mut self, key: K, deadline: Option<Instant>, timer: &mut Option<Instant>) {
        if let Some(deadline) = deadline
            && timer.is_none_or(|timer| deadline < timer)
        {
            *timer = Some(deadline);
            self.entries.push(Reverse((deadline, key)));
        }
    }

    /// When the next entry is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.entries.peek().map(|Reverse((due, _))| *due)
    }

    /// Entries, of which some may have been overtaken.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes out the earliest entry, if it is due by `now`.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, K)> {
        self.next().filter(|&due| due <= now)?;
        self.entries.pop().map(|Reverse(entry)| entry)
    }
}

impl<K: Copy + Ord> Default for Deadlines<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_an_earlier_deadline_makes_an_entry() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut deadlines = Deadlines::new();
        let mut timer = None;
        deadlines.schedule(7, None, &mut timer);
        assert_eq!((deadlines.next(), timer), (None, None));
        for seconds in [5, 9, 2, 3] {
            deadlines.schedule(7, Some(at(seconds)), &mut timer);
        }
        assert_eq!((deadlines.next(), timer), (Some(at(2)), Some(at(2))));
        assert_eq!(deadlines.pop_due(at(1)), None);
        assert_eq!(deadlines.pop_due(at(2)), Some((at(2), 7)));
        // Overtaken, but still there.
        assert_eq!(deadlines.pop_due(at(9)), Some((at(5), 7)));
        assert_eq!(deadlines.pop_due(at(9)), None);
    }
}
