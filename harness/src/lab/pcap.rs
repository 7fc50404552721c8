//! Captures of a link's packets, for tshark and its like: pcap with times in nanoseconds, and IP packets
//! without anything below.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, PcapError, TsResolution};

/// What is kept in memory before it is written: packets are not to wait for a disk one by one.
const BUFFER_BYTES: usize = 1 << 20;

/// A capture that is being written.
pub(crate) struct Capture {
    writer: PcapWriter<BufWriter<File>>,
    /// The same moment on the two clocks.
    began: (Instant, Duration),
}

impl Capture {
    /// Makes the file, or replaces it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let header = PcapHeader {
            snaplen: u16::MAX.into(),
            datalink: DataLink::RAW,
            ts_resolution: TsResolution::NanoSecond,
            ..PcapHeader::default()
        };
        let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Self {
            writer: PcapWriter::with_header(file, header).map_err(io_error)?,
            began: (Instant::now(), since_epoch.unwrap_or_default()),
        })
    }

    /// Adds a packet that was seen at `now`.
    pub(super) fn write(&mut self, now: Instant, packet: &[u8]) -> io::Result<()> {
        let (instant, since_epoch) = self.began;
        let at = since_epoch + now.saturating_duration_since(instant);
        let bytes = u32::try_from(packet.len()).expect("an IP packet has 65,535 bytes at most");
        let packet = PcapPacket::new(at, bytes, packet);
        self.writer.write_packet(&packet).map_err(io_error)?;
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.writer.into_writer().flush()
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").finish_non_exhaustive()
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}
