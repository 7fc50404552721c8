//! Whether a datagram passes a tunnel and comes back.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use super::{DaemonError, Host};
use crate::lab::{LabError, Namespace};

/// A datagram that was lost – none is on a wire without loss – is sent again after this long.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a tunnel may take.
const LIMIT: Duration = Duration::from_secs(30);
const QUESTION: &[u8] = b"hopbench: is it there?";

/// A socket at either inner address.
pub(super) struct Probe {
    caller: UdpSocket,
    server: UdpSocket,
}

impl Probe {
    /// Between the inner addresses of these hosts.
    pub(super) fn between([caller, server]: [Host<'_>; 2]) -> Result<Self, DaemonError> {
        // Not connected to each other: where there is no tunnel yet there may be no route either.
        Ok(Self {
            caller: bind(caller.namespace, caller.inner)?,
            server: bind(server.namespace, server.inner)?,
        })
    }

    /// Sends a datagram there and back.
    pub(super) fn pass(&self) -> io::Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let passed =
                one_way(&self.caller, &self.server)? && one_way(&self.server, &self.caller)?;
            if passed {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Whether it arrives in time.
fn one_way(from: &UdpSocket, to: &UdpSocket) -> io::Result<bool> {
    from.send_to(QUESTION, to.local_addr()?)?;
    let mut buffer = [0; 64];
    match to.recv(&mut buffer) {
        Ok(length) => Ok(&buffer[..length] == QUESTION),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

fn bind(namespace: &Namespace, inner: Ipv4Addr) -> Result<UdpSocket, DaemonError> {
    let socket = namespace.run(|| {
        let bound = UdpSocket::bind((inner, 0)).and_then(|socket| {
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        });
        bound.map_err(LabError::step(format!("bind a probe to {inner}")))
    });
    Ok(socket?)
}
