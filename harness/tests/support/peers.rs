//! Programs that others wrote, for the tests against them: found, or said what to install.
//!
//! A test that lacks a program says so and passes, unless `HOPBENCH_REQUIRE_PEERS` is `1`, as it is
//! in CI: then it fails. Nothing is ever installed here.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Set to `1`, a missing program is a failure.
const REQUIRE: &str = "HOPBENCH_REQUIRE_PEERS";

/// A program of somebody else.
pub struct Program {
    /// As it is called on a command line.
    pub name: &'static str,
    /// The Debian packages that it takes.
    pub packages: &'static str,
}

pub const SIPP: Program = Program {
    name: "sipp",
    packages: "sip-tester",
};
pub const KAMAILIO: Program = Program {
    name: "kamailio",
    packages: "kamailio kamailio-tls-modules",
};
pub const TSHARK: Program = Program {
    name: "tshark",
    packages: "tshark",
};
pub const DUMPCAP: Program = Program {
    name: "dumpcap",
    packages: "tshark",
};
pub const OPENSSL: Program = Program {
    name: "openssl",
    packages: "openssl",
};

/// Held by one test of a binary at a time: peers load the machine, and calls that wait for a
/// processor are repeated.
static TURN: Mutex<()> = Mutex::new(());

/// The turn of a test that needs `program`, and where it lies; `None` when it is missing and may be.
///
/// # Panics
/// When it is missing and `HOPBENCH_REQUIRE_PEERS` is `1`.
pub fn turn(program: &Program) -> Option<(MutexGuard<'static, ()>, PathBuf)> {
    let Some(path) = find(program) else {
        let Program { name, packages } = program;
        skip(&format!(
            "{name} is not installed: `apt-get install {packages}` on Debian provides it"
        ));
        return None;
    };
    Some((take_turn(), path))
}

/// The turn of a test that has asked for its programs already.
pub fn take_turn() -> MutexGuard<'static, ()> {
    // A test that failed has ended what it started: its turn is over like any other.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says why a test cannot be made here.
///
/// # Panics
/// When `HOPBENCH_REQUIRE_PEERS` is `1`.
pub fn skip(reason: &str) {
    let is_required = std::env::var_os(REQUIRE).is_some_and(|value| value == "1");
    assert!(!is_required, "{reason} ({REQUIRE} is 1)");
    eprintln!("skipped: {reason}");
}

/// Daemons lie where an ordinary user's path does not lead.
pub fn find(program: &Program) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program.name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A peer at work. It is ended with the test, however that ends, together with the processes that it
/// has started.
pub struct Peer {
    pub child: Child,
    log: PathBuf,
}

impl Peer {
    /// Starts `command` in `folder`, where what it says goes to a file.
    pub fn start(command: &mut Command, folder: &Path) -> Self {
        let name = Path::new(command.get_program()).file_name().unwrap();
        let log = folder.join(name).with_extension("log");
        let file = File::create(&log).unwrap();
        let child = command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .process_group(0)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        let said = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Waits until `is_ready`.
    ///
    /// # Panics
    /// When the peer ends before that, or takes more than ten seconds.
    pub fn wait_until(&mut self, what: &str, mut is_ready: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_ready(self) {
            let is_over = self.child.try_wait().unwrap().is_some() || Instant::now() > deadline;
            assert!(
                !is_over,
                "expected {what}, but the peer said: {}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Asked first: who has processes of its own ends them, and cleans up behind them.
        if let Ok(None) = self.child.try_wait() {
            super::signal(&self.child, Signal::SIGTERM);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Ok(None) = self.child.try_wait()
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Nothing is left of a group that has ended as it should.
        let group = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// A port of the loopback that nobody uses over UDP or TCP, for programs that cannot let the kernel
/// choose.
pub fn free_port() -> SocketAddr {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Whether a socket has this address, according to the kernel's lists in the folder `sockets` (`/proc/net`):
/// without touching it, since its owner may only be about to take it.
pub fn is_bound(sockets: &Path, transport: &str, address: SocketAddr) -> bool {
    let IpAddr::V4(ip) = address.ip() else {
        panic!("expected an IPv4 address, found {address}")
    };
    let sockets = std::fs::read_to_string(sockets.join(transport)).unwrap();
    // As the bytes of the address lie in memory.
    let ip = u32::from_ne_bytes(ip.octets());
    sockets.contains(&format!(": {ip:08X}:{:04X} ", address.port()))
}
