//! What became of what passed a link, by direction, and what the kernel's TCP had to send again.

use hopbench::transport::WireCounters;

use super::LabError;
use super::namespace::Namespace;
use super::tap::Seen;

/// Of a link, since its lab was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkReading {
    /// Packets from who opens hops.
    pub(crate) onward: WireCounters,
    /// Packets to who opens hops.
    pub(crate) back: WireCounters,
    /// Packets of both directions that found the queue full. They are among the others.
    pub(crate) queue_full: u64,
}

impl LinkReading {
    pub(super) fn new(seen: Seen, queue_full: u64) -> Self {
        Self {
            onward: seen.onward,
            back: seen.back,
            queue_full,
        }
    }

    /// What came after `earlier`, a reading of the same link.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            onward: self.onward.since(earlier.onward),
            back: self.back.since(earlier.back),
            queue_full: self.queue_full - earlier.queue_full,
        }
    }
}

/// Segments that the kernel's TCP of a namespace has sent again so far.
///
/// # Errors
/// When its books cannot be read.
pub(super) fn retransmitted_segments(namespace: &Namespace) -> Result<u64, LabError> {
    namespace.run(|| {
        let path = "/proc/thread-self/net/snmp";
        let failed = LabError::step("read how often TCP has sent segments again");
        let text = std::fs::read_to_string(path);
        let read = text.and_then(|text| {
            retransmitted_of(&text).ok_or_else(|| {
                std::io::Error::other(format!("expected Tcp and RetransSegs in {path}"))
            })
        });
        read.map_err(failed)
    })
}

/// What an interface of the calling thread's namespace has sent so far, with what is in front of IP packets.
///
/// # Errors
/// When the kernel does not tell.
pub(super) fn interface_counters(interface: &str) -> Result<WireCounters, LabError> {
    let path = "/proc/thread-self/net/dev";
    let read = std::fs::read_to_string(path).and_then(|text| {
        sent_of(&text, interface)
            .ok_or_else(|| std::io::Error::other(format!("expected {interface} in {path}")))
    });
    read.map_err(LabError::step("read what an interface has sent"))
}

/// In the kernel's table of interfaces: what was received, in eight columns, and then what was sent.
fn sent_of(table: &str, interface: &str) -> Option<WireCounters> {
    let mut rows = table.lines().filter_map(|line| line.split_once(':'));
    let (_, row) = rows.find(|(name, _)| name.trim() == interface)?;
    let mut sent = row.split_whitespace().skip(8);
    Some(WireCounters {
        bytes: sent.next()?.parse().ok()?,
        packets: sent.next()?.parse().ok()?,
    })
}

/// In the kernel's list of counters: a line of names, a line of values.
fn retransmitted_of(counters: &str) -> Option<u64> {
    let mut tcp = counters
        .lines()
        .filter_map(|line| line.strip_prefix("Tcp:"));
    let (names, values) = (tcp.next()?, tcp.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = pairs.find(|(name, _)| *name == "RetransSegs")?;
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_prints() {
        let counters = "Ip: Forwarding DefaultTTL\nIp: 2 64\nTcp: RtoAlgorithm MaxConn RetransSegs \
                        InErrs\nTcp: 1 -1 17 0\nUdp: InDatagrams\nUdp: 3\n";
        assert_eq!(retransmitted_of(counters), Some(17));
        assert_eq!(retransmitted_of("Tcp: RtoAlgorithm\nTcp: 1\n"), None);
        assert_eq!(retransmitted_of(""), None);
    }

    #[test]
    fn what_was_sent_stands_behind_what_was_received() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes packets |bytes packets\n\
                     \u{20}   lo: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n  hop0:5 6 0 0 0 0 0 0 7 8 0 0 0 0 0 0\n";
        let expected = WireCounters {
            bytes: 7,
            packets: 8,
        };
        assert_eq!(sent_of(table, "hop0"), Some(expected));
        assert_eq!(sent_of(table, "hop1"), None);
    }
}
