//! The tap: what an eavesdropper at a link would see of it. Packets are counted as they enter the link, those
//! included that it then loses, by direction, and written to a file if somebody wants to look.

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

/// What is seen of a link. What belongs to a phase is what came between two readings.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    seen: Seen,
    capture: Option<Capture>,
    /// Why the capture ended early, if it did.
    failure: Option<io::Error>,
}

impl Direction {
    pub(super) const BOTH: [Self; 2] = [Self::Onward, Self::Back];
}

impl Seen {
    /// Both directions together.
    #[cfg(test)]
    pub(crate) fn total(self) -> WireCounters {
        self.onward.plus(self.back)
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

    /// All that was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    /// Sees a packet.
    pub(super) fn see(&mut self, now: Instant, direction: Direction, packet: &[u8]) {
        let counters = match direction {
            Direction::Onward => &mut self.seen.onward,
            Direction::Back => &mut self.seen.back,
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
    fn counts_by_direction() {
        let mut tap = Tap::default();
        let now = Instant::now();
        for bytes in [40, 100, 500] {
            tap.see(now, Direction::Onward, &vec![0; bytes]);
        }
        tap.see(now, Direction::Back, &[0; 20]);
        let counted = |bytes, packets| WireCounters { bytes, packets };
        let seen = tap.seen();
        assert_eq!(seen.onward, counted(640, 3));
        assert_eq!(seen.back, counted(20, 1));
        assert_eq!(seen.total(), counted(660, 4));
    }
}
