//! A network of a test's own: a namespace of Linux with nothing in it but a loopback. It goes with the
//! last process in it, and every process in it goes with the test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Guard;
use super::peers::{Program, find, skip};

pub const IP: Program = Program {
    name: "ip",
    packages: "iproute2",
};

/// What the namespace's first process does: it makes the loopback work, hides the system's `/run`, so that
/// daemons of several namespaces do not meet there, and waits for the end of its standard input, which is
/// the end of the test.
const FIRST_PROCESS: &str =
    "mount -t tmpfs none /run && \"$0\" link set lo up && echo ready && exec cat";

/// A network namespace, and a mount namespace for `/run`.
pub struct Namespace {
    first: Guard,
    ip: PathBuf,
    is_of_root: bool,
}

impl Namespace {
    /// A new one; `None` where that is not permitted or a program is missing.
    ///
    /// # Panics
    /// Then, if `HOPBENCH_REQUIRE_PEERS` is `1`.
    pub fn create() -> Option<Self> {
        let Some(ip) = find(&IP) else {
            skip("ip is not installed: `apt-get install iproute2` on Debian provides it");
            return None;
        };
        let is_of_root = nix::unistd::geteuid().is_root();
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount"]);
        if !is_of_root {
            command.args(["--user", "--map-root-user"]);
        }
        let mut first = command
            .args(["sh", "-c", FIRST_PROCESS])
            .arg(&ip)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let stdout = first.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        let namespace = Self {
            first: Guard(first),
            ip,
            is_of_root,
        };
        if said != "ready\n" {
            skip("this user may not make network namespaces");
            return None;
        }
        Some(namespace)
    }

    /// A command that runs in the namespace, and dies with the thread that starts it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.enter(&["--net"], program)
    }

    /// Likewise, with the namespace's `/run`; but not in the folder that it is started in.
    pub fn command_with_run(&self, program: impl AsRef<OsStr>) -> Command {
        self.enter(&["--net", "--mount"], program)
    }

    fn enter(&self, namespaces: &[&str], program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.0.id().to_string()]);
        command.args(namespaces);
        if !self.is_of_root {
            command.args(["--user", "--preserve-credentials"]);
        }
        // Both replace themselves by what they start: signals reach the program.
        command.args(["--", "setpriv", "--pdeathsig", "KILL", "--"]);
        command.arg(program);
        command
    }

    /// `hopbench` in the namespace.
    pub fn hopbench(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_hopbench"))
    }

    /// Runs `ip` in the namespace.
    pub fn ip(&self, args: &[&str]) {
        expect_success(self.command(&self.ip).args(args));
    }

    /// Where the kernel lists the namespace's sockets.
    pub fn sockets(&self) -> PathBuf {
        Path::new("/proc")
            .join(self.first.0.id().to_string())
            .join("net")
    }
}

/// Runs `command` to its end; what it says.
///
/// # Panics
/// When it fails.
pub fn expect_success(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = super::stderr(&output);
    assert!(output.status.success(), "{command:?}: {said}");
    super::stdout(&output)
}
