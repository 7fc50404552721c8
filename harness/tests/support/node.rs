//! A `hopbench node` whose counters are read at its end.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use hopbench::node::NodeCounters;
use nix::sys::signal::Signal;

use super::{Guard, said_address};

/// A node that listens.
pub struct CountingNode {
    guard: Guard,
    pub address: SocketAddr,
    stdout: JoinHandle<String>,
}

impl CountingNode {
    /// Starts `hopbench node` on a port of the kernel's choice.
    pub fn start(args: &[&str]) -> Self {
        Self::launch(super::hopbench(), "127.0.0.1:0", args)
    }

    /// Starts a node by `command`, which runs hopbench wherever it is to run.
    pub fn launch(mut command: Command, listen: &str, args: &[&str]) -> Self {
        let mut child = command
            .args(["node", "--listen", listen])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let address = said_address(&mut child);
        let mut stdout = child.stdout.take().unwrap();
        let stdout = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        Self {
            guard: Guard(child),
            address,
            stdout,
        }
    }

    /// Ends the node as Ctrl-C does, and tells what it has seen.
    pub fn stop(mut self) -> NodeCounters {
        super::signal(&self.guard.0, Signal::SIGINT);
        assert!(self.guard.0.wait().unwrap().success());
        let text = self.stdout.join().unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in: {text}"))
    }
}
