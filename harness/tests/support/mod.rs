//! What the end-to-end tests share: the binary, and processes that end with the test.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod browser;
pub mod datagrams;
pub mod full_run;
pub mod namespace;
pub mod node;
pub mod peers;
pub mod proxies;
pub mod readers;
pub mod sipp;
pub mod tunnel_site;
pub mod wireguard_go;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::Signal;

/// The binary under test.
pub fn hopbench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_hopbench"))
}

/// Runs `hopbench` with `args` to its end.
pub fn run(args: &[&str]) -> Output {
    hopbench().args(args).stdin(Stdio::null()).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that is killed when the test ends, however it ends.
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `hopbench node` on a port of the kernel's choice; returns where it listens.
pub fn start_node(args: &[&str]) -> (Guard, SocketAddr) {
    let mut child = hopbench()
        .args(["node", "--listen", "127.0.0.1:0"])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let address = said_address(&mut child);
    (Guard(child), address)
}

/// Where a node that has just been started says on its standard error that it listens.
fn said_address(child: &mut Child) -> SocketAddr {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines
        .next()
        .expect("the node says where it listens")
        .unwrap();
    let address = line
        .split_whitespace()
        .find_map(|word| word.trim_end_matches(';').parse().ok())
        .unwrap_or_else(|| panic!("no address in: {line}"));
    // Keep reading, so that the node never blocks on a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    address
}

/// Sends a signal to a child that has not been waited for.
pub fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// Children of `parent`: process id and command line.
pub fn children(parent: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The command in parentheses may hold anything; the fields after it are plain.
        let mut fields = stat[stat.rfind(')').unwrap() + 2..].split(' ');
        let (state, ppid) = (fields.next().unwrap(), fields.next().unwrap());
        if ppid.parse() == Ok(parent) && state != "Z" {
            let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            found.push((pid, command.replace('\0', " ")));
        }
    }
    found
}

/// A scenario of half a second or so a cell, for the given stacks.
pub fn tiny_scenario(stacks: &[&str]) -> String {
    format!(
        r#"
name = "tiny"
summary = "for the tests"
stacks = {stacks:?}

[setup]
rate_per_second = 30.0
warm_up_seconds = 0.05
duration_seconds = 0.4
blocks = 2

[memory]
stages = ["handshaken", "registered"]
connections = [8, 16, 24, 32, 40]
blocks = 2

[[throughput]]
workload = "register"
lifecycle = "per-registration"
rates_per_second = [30.0]
users = 60
warm_up_seconds = 0.05
duration_seconds = 0.4
blocks = 2
turns = 2

[[throughput]]
workload = "invite"
lifecycle = "per-registration"
rates_per_second = [80.0]
users = 10
warm_up_seconds = 0.05
duration_seconds = 0.3
blocks = 2
turns = 3

[[throughput]]
workload = "invite"
lifecycle = "per-call"
rates_per_second = [25.0]
users = 60
warm_up_seconds = 0.05
duration_seconds = 0.4
blocks = 2
"#
    )
}
