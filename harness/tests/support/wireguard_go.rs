//! wireguard-go, the implementation of WireGuard in user space by its authors, with an interface in a
//! namespace of the test's own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use super::namespace::{Namespace, expect_success};
use super::peers::{Peer, Program, find, skip};

pub const WIREGUARD_GO: Program = Program {
    name: "wireguard-go",
    packages: "wireguard-go",
};
pub const WG: Program = Program {
    name: "wg",
    packages: "wireguard-tools",
};

const INTERFACE: &str = "wg0";

/// wireguard-go at work.
pub struct WireguardGo<'n> {
    namespace: &'n Namespace,
    peer: Peer,
    _folder: tempfile::TempDir,
}

/// What one peer has cost: bytes of datagrams, without their UDP and IP headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub received: u64,
    pub sent: u64,
}

/// Whether it can be started here.
///
/// # Panics
/// When it cannot, and `HOPBENCH_REQUIRE_PEERS` is `1`.
pub fn is_available() -> bool {
    let missing = [WIREGUARD_GO, WG]
        .into_iter()
        .find(|program| find(program).is_none());
    if let Some(Program { name, packages }) = missing {
        skip(&format!(
            "{name} is not installed: `apt-get install {packages}` on Debian provides it"
        ));
        return false;
    }
    let tun = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    if let Err(error) = tun {
        skip(&format!("/dev/net/tun cannot be opened: {error}"));
        return false;
    }
    true
}

impl<'n> WireguardGo<'n> {
    /// Starts it with a configuration as `wg setconf` reads it, and the inner `address` of its interface,
    /// with the prefix length of what lies behind the tunnel.
    pub fn start(namespace: &'n Namespace, configuration: &Path, address: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = find(&WIREGUARD_GO).expect("asked before");
        let mut command = namespace.command_with_run(program);
        command.args(["-f", INTERFACE]).env("LOG_LEVEL", "verbose");
        let mut peer = Peer::start(&mut command, folder.path());
        peer.wait_until("an interface", |_| {
            let mut command = namespace.command_with_run(find(&WG).expect("asked before"));
            command.args(["show", INTERFACE]).stderr(Stdio::null());
            command.stdout(Stdio::null()).status().unwrap().success()
        });
        let this = Self {
            namespace,
            peer,
            _folder: folder,
        };
        this.wg(&["setconf", INTERFACE, configuration.to_str().unwrap()]);
        namespace.ip(&["address", "add", address, "dev", INTERFACE]);
        namespace.ip(&["link", "set", INTERFACE, "up"]);
        this
    }

    /// Has it use another outer port from now on, as a NAT would that has forgotten it.
    pub fn move_to(&self, port: u16) {
        self.wg(&["set", INTERFACE, "listen-port", &port.to_string()]);
    }

    /// When the last handshake with each peer was, in seconds of Unix time; 0 if there was none.
    pub fn latest_handshakes(&self) -> BTreeMap<String, u64> {
        let text = self.wg(&["show", INTERFACE, "latest-handshakes"]);
        let of_line = |line: &str| {
            let (peer, time) = line.split_once('\t').unwrap();
            (peer.to_owned(), time.parse().unwrap())
        };
        text.lines().map(of_line).collect()
    }

    /// The sum over all peers.
    pub fn transfer(&self) -> Transfer {
        let text = self.wg(&["show", INTERFACE, "transfer"]);
        let none = Transfer {
            received: 0,
            sent: 0,
        };
        text.lines().fold(none, |sum, line| {
            let mut bytes = line
                .split('\t')
                .skip(1)
                .map(|field| field.parse::<u64>().unwrap());
            Transfer {
                received: sum.received + bytes.next().unwrap(),
                sent: sum.sent + bytes.next().unwrap(),
            }
        })
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        self.peer.said()
    }

    fn wg(&self, args: &[&str]) -> String {
        let wg = find(&WG).expect("asked before");
        expect_success(self.namespace.command_with_run(wg).args(args))
    }
}
