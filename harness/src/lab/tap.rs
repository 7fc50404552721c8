//! The tap: what an eavesdropper at a link would see of it. Packets are counted as they enter the link, those
//! included that it then loses, by direction and by phase, and written to a file if somebody wants to look.

use std::io;
use std::time::Instant;

use hopbench::transport::WireCounters;

use super::pcap::Capture;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From who opens hops to who accepts them.
    Onward,
    /// The other way.
    Back,
}

/// Packets of a link by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// From who opens hops to who accepts them.
    pub(crate) onward: WireCounters,
    /// The other way.
    pub(crate) back: WireCounters,
}

/// What is seen of a link.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    /// By phase, in the order in which they began; the first has no name.
    phases: Vec<(&'static str, Seen)>,
    capture: Option<Capture>,
    /// Why the capture ended early, if it did.
    failure: Option<io::Error>,
}

impl Direction {
    pub(super) const BOTH: [Self; 2] = [Self::Onward, Self::Back];
}

impl Seen {
    /// Both directions together.
    pub(crate) fn total(self) -> WireCounters {
        self.onward.plus(self.back)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            onward: self.onward.plus(other.onward),
            back: self.back.plus(other.back),
        }
    }
}

impl Tap {
    /// A tap that also writes what it sees.
    pub(crate) fn with_capture(capture: Capture) -> Self {
        Self {
            capture: Some(capture),
            ..Self::default()
        }
    }

    /// What is seen from now on is of this phase.
    pub(crate) fn begin(&mut self, phase: &'static str) {
        self.phases.push((phase, Seen::default()));
    }

    /// What was seen of a phase; of one that began several times, all of it.
    pub(crate) fn of_phase(&self, phase: &str) -> Seen {
        let wanted = self.phases.iter().filter(|(name, _)| *name == phase);
        wanted.fold(Seen::default(), |sum, (_, seen)| sum.plus(*seen))
    }

    /// All that was seen.
    pub(crate) fn total(&self) -> Seen {
        let phases = self.phases.iter();
        phases.fold(Seen::default(), |sum, (_, seen)| sum.plus(*seen))
    }

    /// Sees a packet.
    pub(super) fn see(&mut self, now: Instant, direction: Direction, packet: &[u8]) {
        if self.phases.is_empty() {
            self.begin("");
        }
        let (_, seen) = self.phases.last_mut().expect("one has begun");
        let counters = match direction {
            Direction::Onward => &mut seen.onward,
            Direction::Back => &mut seen.back,
        };
        counters.packets += 1;
        counters.bytes += packet.len() as u64;
        // Counts go on without the file.
        if let Some(capture) = &mut self.capture
            && let Err(error) = capture.write(now, packet)
        {
            self.failure = Some(error);
            self.capture = None;
        }
    }

    /// Writes what is still in memory.
    ///
    /// # Errors
    /// When something of the capture could not be written, now or earlier.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        self.capture.take().map_or(Ok(()), Capture::finish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_direction_and_by_phase() {
        let mut tap = Tap::default();
        let now = Instant::now();
        tap.see(now, Direction::Onward, &[0; 40]);
        for (phase, bytes) in [("set-up", 100), ("calls", 500), ("set-up", 60)] {
            tap.begin(phase);
            tap.see(now, Direction::Onward, &vec![0; bytes]);
            tap.see(now, Direction::Back, &[0; 20]);
        }
        let set_up = tap.of_phase("set-up");
        let counted = |bytes, packets| WireCounters { bytes, packets };
        assert_eq!(set_up.onward, counted(160, 2));
        assert_eq!(set_up.back, counted(40, 2));
        assert_eq!(set_up.total(), counted(200, 4));
        assert_eq!(tap.of_phase("calls").onward, counted(500, 1));
        assert_eq!(tap.of_phase("never"), Seen::default());
        assert_eq!(tap.total().total(), counted(760, 7));
    }
}
