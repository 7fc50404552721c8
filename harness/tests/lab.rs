//! The lab from outside: with root and without, where it is forbidden, and that nothing of it is left.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hopbench::record::{Run, Verdict};
use nix::sys::signal::Signal;
use support::peers::{self, TSHARK};
use support::{Guard, children, hopbench, signal, stderr, stdout};

/// 10 ms each way: a round trip takes 20 ms, and more on a busy machine, but never less.
const SCENARIO: &str = r#"
name = "lab"
summary = "for the tests"
path = "lab"
lab = { one_way_delay_ms = 10.0 }
stacks = ["udp", "tcp", "tcp@wireguard"]

[setup]
rate_per_second = 30.0
warm_up_seconds = 0.0
duration_seconds = 0.4
blocks = 2
"#;

/// Users who come over TLS.
const ONE_CELL: &str = r#"
stacks = ["tls"]

[[throughput]]
workload = "register"
lifecycle = "per-registration"
rates_per_second = [20.0]
users = 40
warm_up_seconds = 0.0
duration_seconds = 0.4
blocks = 2
"#;

/// A folder that everybody may write to, with the scenario and a copy of the binary that everybody may run.
struct Site(tempfile::TempDir);

impl Site {
    fn create() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777));
        open(folder.path()).unwrap();
        fs::write(folder.path().join("lab.toml"), SCENARIO).unwrap();
        let binary = folder.path().join("hopbench");
        fs::copy(env!("CARGO_BIN_EXE_hopbench"), &binary).unwrap();
        open(&binary).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What to add to a command so that it runs the scenario.
    fn arguments(&self, command: &mut Command) {
        command.arg("run").arg(self.path("lab.toml"));
        command.arg("--out").arg(self.path("out")).arg("--quiet");
    }

    fn run(&self) -> Run {
        Run::read(&self.path("out/run.json")).unwrap()
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether this user's processes may make user namespaces; says so where not.
fn has_user_namespaces() -> bool {
    let mut command = Command::new("unshare");
    let is_permitted = command
        .args(["--user", "--map-root-user", "--net", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !is_permitted {
        eprintln!("skipped: the kernel lets no user make namespaces here");
    }
    is_permitted
}

fn assert_measured(run: &Run, privilege: &str) {
    assert_eq!(run.cells.len(), 3);
    for cell in &run.cells {
        let name = cell.id.as_str();
        assert_eq!(cell.path, "lab", "{name}");
        assert!(name.ends_with("lab?one_way_delay_ms=10.0"), "{name}");
        assert_eq!(cell.parameters["lab_privilege"], privilege, "{name}");
        // On a busy machine the generator, or the link, may be what is slow.
        assert!(
            matches!(cell.verdict, Verdict::Ok | Verdict::GeneratorBound),
            "{name}: {:?}",
            cell.reason
        );
        // Two round trips until a user is registered, and one more each that opens a tunnel or a connection.
        let round_trips = match cell.stack.as_str() {
            "udp" => 2.0,
            "tcp" => 3.0,
            _ => 4.0,
        };
        let registered = cell.metrics["hop_ready_to_registered_ns"].value.unwrap();
        assert!(registered > round_trips * 20e6, "{name}: {registered} ns");
    }
}

#[test]
fn a_user_without_root_has_a_lab() {
    if !has_user_namespaces() {
        return;
    }
    let site = Site::create();
    let mut command = if is_root() {
        // As an ordinary user, with a /dev/net/tun as it is on most systems: everybody's.
        let mut command = Command::new("unshare");
        let script = "mknod \"$0/tun\" c 10 200 && chmod 666 \"$0/tun\" && \
                      mount --bind \"$0/tun\" /dev/net/tun && \
                      exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
        command
            .args(["--mount", "sh", "-c", script])
            .arg(site.0.path());
        command.arg(site.path("hopbench"));
        command
    } else {
        hopbench()
    };
    site.arguments(&mut command);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = stderr(&output);
    if said.contains("mount") && !site.path("out").exists() {
        eprintln!("skipped: no device for an ordinary user can be made here: {said}");
        return;
    }
    assert!(output.status.success(), "{said}");
    assert_measured(&site.run(), "user-namespace");
}

#[test]
fn where_it_is_forbidden_cells_are_unsupported_and_say_what_to_do() {
    if !has_user_namespaces() {
        return;
    }
    let site = Site::create();
    // Root in name only: without a capability, and where nobody may make user namespaces.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                  exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]);
    command.arg(site.path("hopbench"));
    site.arguments(&mut command);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("unsupported: every cell of the lab"),
        "{said}"
    );
    let told = said.matches("run as root, or let users").count();
    assert_eq!(told, 1, "{said}");
    for cell in site.run().cells {
        assert_eq!(cell.verdict, Verdict::Unsupported);
        let reason = cell.reason.unwrap();
        assert!(reason.contains("run as root, or let users"), "{reason}");
    }
}

/// Processes in each network that a child of `parent` is in, other than this test's own network.
fn networks_of_children(parent: u32) -> BTreeSet<PathBuf> {
    let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net"));
    let own = network("self").unwrap();
    let children = children(parent).into_iter();
    children
        .filter_map(|(child, _)| network(&child.to_string()).ok())
        .filter(|network| *network != own)
        .collect()
}

fn is_inhabited(networks: &BTreeSet<PathBuf>) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut found =
        processes.filter_map(|process| fs::read_link(process.path().join("ns/net")).ok());
    found.any(|network| networks.contains(&network))
}

/// Interfaces and names of namespaces of this host, as far as they could be a lab's.
fn remains() -> BTreeSet<String> {
    let interfaces = fs::read_to_string("/proc/net/dev").unwrap();
    let interfaces = interfaces.lines().filter_map(|line| line.split_once(':'));
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    interfaces
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| name.starts_with("hop") || name.starts_with("tunnel"))
        .chain(names.map(|name| name.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited a minute until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_is_left_however_a_run_ends() {
    if !is_root() {
        eprintln!(
            "skipped: made as root, since namespaces of users end with their processes anyway"
        );
        return;
    }
    let before = remains();
    for ending in [Some(Signal::SIGINT), Some(Signal::SIGKILL), None] {
        let site = Site::create();
        let mut command = hopbench();
        site.arguments(&mut command);
        let mut run = Guard(command.stdin(Stdio::null()).spawn().unwrap());
        let mut networks = BTreeSet::new();
        wait_until("there are a node and a generator", || {
            networks = networks_of_children(run.0.id());
            networks.len() >= 2
        });
        if let Some(ending) = ending {
            signal(&run.0, ending);
        }
        run.0.wait().unwrap();
        wait_until("nobody is in the lab's networks", || {
            !is_inhabited(&networks)
        });
        assert_eq!(remains(), before, "{ending:?}");
    }
}

#[test]
fn a_capture_can_be_read_with_its_keys_alone() {
    let Some((_turn, tshark)) = peers::turn(&TSHARK) else {
        return;
    };
    if !is_root() {
        eprintln!("skipped: who is not root may not have /dev/net/tun");
        return;
    }
    let site = Site::create();
    let (links, _) = SCENARIO.split_once("stacks").unwrap();
    let scenario = links.to_owned() + ONE_CELL;
    fs::write(site.path("lab.toml"), scenario).unwrap();
    let mut command = hopbench();
    site.arguments(&mut command);
    let captures = site.path("captures");
    let output = command
        .arg("--capture")
        .arg(&captures)
        .arg("--keys")
        .output()
        .unwrap();
    let cell = site.run().cells.remove(0);
    if cell.verdict == Verdict::Unsupported {
        peers::skip(&format!("no lab here: {:?}", cell.reason));
        return;
    }
    assert!(output.status.success(), "{}", stderr(&output));
    // What the tap has seen of a registration: a certificate, and SIP of more than a kilobyte.
    let bytes = cell.metrics["wire_bytes_per_operation"].value.unwrap();
    assert!(bytes > 2_500.0, "{bytes}");

    let keys = format!("tls.keylog_file:{}", captures.join("keys.log").display());
    let methods = |options: &[&str]| {
        let mut found = String::new();
        for block in ["0001", "0002"] {
            let capture = captures.join(format!("{block}-tls-direct.hop0.pcap"));
            let fields = [
                "-d",
                "tcp.port==5061,tls",
                "-Y",
                "sip",
                "-T",
                "fields",
                "-e",
                "sip.Method",
            ];
            let output = Command::new(&tshark)
                .arg("-r")
                .arg(capture)
                .args(fields)
                .args(options)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            found += &stdout(&output);
        }
        found
    };
    assert_eq!(methods(&[]), "");
    let read = methods(&["-o", &keys]);
    assert!(read.contains("REGISTER"), "{read:?}");
}

#[test]
fn a_capture_without_an_emulated_link_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = support::run(&["run", "--capture", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("add --path lab"), "{said}");
}
