//! Captures of WireGuard's datagrams on the loopback of a namespace, as Wireshark's dissector sees them.

use std::process::Command;

use super::namespace::{Namespace, expect_success};
use super::peers::{DUMPCAP, Peer, TSHARK, find, skip};

/// Type of a WireGuard datagram that carries a packet, or as keep-alive none.
pub const DATA: u8 = 4;
/// Of such a datagram: type, receiver and counter in front of the payload, the authentication tag behind it.
const DATA_OVERHEAD_BYTES: usize = 32;
const UDP_HEADER_BYTES: usize = 8;

/// The datagram that says that nothing follows.
const END: &str = "hopbench: end of the capture";

/// What Wireshark's dissector says of a datagram.
#[derive(Debug)]
pub struct Datagram {
    pub source: u16,
    pub destination: u16,
    /// Type of the message.
    pub kind: u8,
    /// Encrypted; of other kinds than [`DATA`] meaningless.
    pub payload_bytes: usize,
}

/// A capture of what goes from and to one outer port, under way.
pub struct Capture<'n> {
    namespace: &'n Namespace,
    port: u16,
    dumpcap: Peer,
    folder: tempfile::TempDir,
}

impl<'n> Capture<'n> {
    /// `None` where its program is missing.
    ///
    /// # Panics
    /// Then, if `HOPBENCH_REQUIRE_PEERS` is `1`.
    pub fn start(namespace: &'n Namespace, port: u16) -> Option<Self> {
        let (Some(dumpcap), Some(_)) = (find(&DUMPCAP), find(&TSHARK)) else {
            skip("tshark is not installed: `apt-get install tshark` on Debian provides it");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let mut command = namespace.command(dumpcap);
        let filter = format!("udp port {port} or udp port 9");
        command.args(["-q", "-i", "lo", "-w", "capture.pcapng", "-f", &filter]);
        let mut dumpcap = Peer::start(&mut command, folder.path());
        dumpcap.wait_until("a capture", |dumpcap| dumpcap.said().contains("File: "));
        Some(Self {
            namespace,
            port,
            dumpcap,
            folder,
        })
    }

    /// Ends the capture once everything has arrived.
    pub fn finish(mut self) -> Vec<Datagram> {
        let end = format!("printf '{END}' > /dev/udp/127.0.0.1/9");
        expect_success(self.namespace.command("bash").args(["-c", &end]));
        let file = self.folder.path().join("capture.pcapng");
        self.dumpcap.wait_until("the end of the capture", |_| {
            let bytes = std::fs::read(&file).unwrap_or_default();
            bytes
                .windows(END.len())
                .any(|window| window == END.as_bytes())
        });
        let tshark = find(&TSHARK).expect("asked before");
        let mut command = Command::new(tshark);
        command.arg("-r").arg(&file);
        command.args(["-Y", "wg", "-d", &format!("udp.port=={},wg", self.port)]);
        command.args(["-T", "fields", "-E", "separator=/t"]);
        for field in ["udp.srcport", "udp.dstport", "wg.type", "udp.length"] {
            command.args(["-e", field]);
        }
        expect_success(&mut command)
            .lines()
            .map(Datagram::of)
            .collect()
    }
}

impl Datagram {
    /// Of a line with its fields separated by tabs.
    fn of(line: &str) -> Self {
        let fields: Vec<&str> = line.split('\t').collect();
        let [source, destination, kind, bytes] = fields[..] else {
            panic!("expected four fields, found: {line}");
        };
        let bytes: usize = bytes.parse().unwrap();
        Self {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            kind: kind.parse().unwrap(),
            payload_bytes: bytes.saturating_sub(UDP_HEADER_BYTES + DATA_OVERHEAD_BYTES),
        }
    }
}
