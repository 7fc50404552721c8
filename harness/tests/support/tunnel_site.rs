//! Where tunnels between wireguard-go and hopbench are tried: a network of the test's own, and keys for both
//! ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use hopbench::load::LoadReport;
use hopbench::tunnel::{SERVER, SIP_PORT, user_address};

use super::namespace::{Namespace, expect_success};
use super::node::CountingNode;
use super::wireguard_go::{self, WireguardGo};
use super::{stderr, stdout};

/// Where a WireGuard of others listens: nobody else does, in a network of its own.
pub const WIREGUARD_PORT: u16 = 51_820;
/// Users that take turns: so many that none is busy when its turn comes, even if the machine stands still for
/// a second or two.
const USERS: &str = "--accounts=500";
/// A network with keys for both ends.
pub struct Site {
    pub namespace: Namespace,
    folder: tempfile::TempDir,
}

impl Site {
    /// `None` where tests with wireguard-go cannot be made.
    pub fn create() -> Option<Self> {
        Some(Self {
            namespace: wireguard_go::is_available().then(Namespace::create)??,
            folder: tempfile::tempdir().unwrap(),
        })
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Folder of the keys of both ends.
    pub fn keys(&self) -> String {
        self.path("keys")
    }

    /// A node that others reach through tunnels.
    pub fn node(&self, carrier: &str) -> CountingNode {
        let stack = format!("--stack={carrier}@wireguard");
        let args = [&stack, "--credentials", &self.keys(), USERS];
        CountingNode::launch(self.namespace.hopbench(), "127.0.0.1:0", &args)
    }

    /// A node behind the server's end that is not ours.
    pub fn node_behind(&self, _server: &WireguardGo<'_>, carrier: &str) -> CountingNode {
        let stack = format!("--stack={carrier}");
        let args = [&stack, "--credentials", &self.keys(), USERS];
        let listen = format!("{SERVER}:{SIP_PORT}");
        CountingNode::launch(self.namespace.hopbench(), &listen, &args)
    }

    /// Writes a configuration with the keys in the folder `keys`.
    pub fn configuration(&self, keys: &str, form: &str, args: &[&str]) -> PathBuf {
        let file = self.path(&format!("{form}.conf"));
        if Path::new(&file).exists() {
            std::fs::remove_file(&file).unwrap();
        }
        let mut command = super::hopbench();
        command.args(["credentials", form, "--credentials", keys, "--out", &file]);
        expect_success(command.args(args));
        file.into()
    }

    /// wireguard-go in the place of the first user of the node at `server`.
    pub fn user(&self, server: SocketAddr, args: &[&str]) -> WireguardGo<'_> {
        let endpoint = server.to_string();
        let args = [&["--endpoint", &endpoint], args].concat();
        let configuration = self.configuration(&self.keys(), "wireguard-user", &args);
        self.start(&configuration, &user_address(0).to_string())
    }

    /// wireguard-go in the place of the server.
    pub fn server(&self) -> WireguardGo<'_> {
        let args = [USERS, &format!("--listen-port={WIREGUARD_PORT}")];
        let configuration = self.configuration(&self.keys(), "wireguard-server", &args);
        self.start(&configuration, &SERVER.to_string())
    }

    pub fn start(&self, configuration: &Path, address: &str) -> WireguardGo<'_> {
        WireguardGo::start(&self.namespace, configuration, &format!("{address}/8"))
    }

    /// Loads the node through wireguard-go, by the kernel's sockets.
    pub fn load_through(&self, carrier: &str, args: &[&str]) -> LoadReport {
        self.load(carrier, SocketAddr::from((SERVER, SIP_PORT)), args)
    }

    /// Loads the node behind wireguard-go, each user by a tunnel of its own.
    pub fn load_by_tunnels(&self, carrier: &str, args: &[&str]) -> LoadReport {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, WIREGUARD_PORT));
        self.load(&format!("{carrier}@wireguard"), target, args)
    }

    pub fn load(&self, stack: &str, target: SocketAddr, args: &[&str]) -> LoadReport {
        let output = self
            .namespace
            .hopbench()
            .args(["load", "--json", "--stack", stack, "--target"])
            .args([&target.to_string(), "--credentials", &self.keys()])
            .args([USERS, "--arrivals=constant", "--warm-up=0", "--drain=40"])
            .args(args)
            .output()
            .unwrap();
        let said = stdout(&output) + &stderr(&output);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in: {said}"))
    }
}
