//! The kernel's WireGuard as one end of a tunnel: an interface that is made by netlink, and configured with `wg` of
//! wireguard-tools. There is no daemon: threads of the kernel do the work, in no process's time.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519::{PublicKey, StaticSecret};

use super::wireguard_go::{interface_of, port_of};
use super::{DaemonError, Host};
use crate::lab::Namespace;

/// One end at work. Dropping it removes the interface.
pub(super) struct WireguardKernel {
    namespace: Namespace,
    interface: String,
    wg: PathBuf,
    configuration: String,
}

impl WireguardKernel {
    /// An end on each host, whose peer is the other one.
    pub(super) fn pair(wg: &Path, hosts: [Host<'_>; 2]) -> Result<[Self; 2], DaemonError> {
        let keys = [(); 2].map(|()| StaticSecret::from(rand::random::<[u8; 32]>()));
        let start = |place: usize| {
            let other = 1 - place;
            let peer = PublicKey::from(&keys[other]);
            let configuration = configuration(&keys[place], &peer, hosts[other]);
            Self::start(wg, configuration, hosts[place], hosts[other])
        };
        Ok([start(0)?, start(1)?])
    }

    fn start(
        wg: &Path,
        configuration: String,
        own: Host<'_>,
        other: Host<'_>,
    ) -> Result<Self, DaemonError> {
        let interface = interface_of(own.number);
        own.namespace
            .interfaces(async |interfaces| interfaces.add_wireguard(&interface).await)?;
        let end = Self {
            namespace: own.namespace.clone(),
            interface,
            wg: wg.to_owned(),
            configuration,
        };
        end.forget()?;
        let interface = end.interface.as_str();
        own.namespace.interfaces(async |interfaces| {
            interfaces.add_address(interface, own.inner, 32).await?;
            interfaces.bring_up(interface).await?;
            interfaces
                .add_route(interface, (other.inner, 32), None)
                .await
        })?;
        Ok(end)
    }

    /// Has it forget all that it and its peer have agreed on: the same configuration, set anew, has a peer without
    /// a history.
    pub(super) fn forget(&self) -> Result<(), DaemonError> {
        let configured = self.set_configuration();
        configured.map_err(|error| DaemonError::Io(format!("configure {}", self.interface), error))
    }

    fn set_configuration(&self) -> io::Result<()> {
        let mut command = self.namespace.command(&self.wg);
        // `/dev/stdin` is a link that udev makes, and a container may be without.
        command.args(["setconf", &self.interface, "/proc/self/fd/0"]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut input = child.stdin.take().expect("it was asked for");
        input.write_all(self.configuration.as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("wg said: {}", said.trim())))
    }
}

impl Drop for WireguardKernel {
    fn drop(&mut self) {
        // With the namespace it goes anyway.
        let interface = self.interface.as_str();
        let _ = self
            .namespace
            .interfaces(async |interfaces| interfaces.remove(interface).await);
    }
}

/// The protocol has one way only.
pub(super) fn recorded() -> Vec<(&'static str, &'static str)> {
    vec![
        ("security_protocol", "WireGuard"),
        ("cipher_suite", "ChaCha20-Poly1305"),
        ("key_exchange_group", "X25519"),
        ("authentication", "static keys"),
        ("implementation", "Linux (kernel)"),
    ]
}

/// Of one end, as `wg` reads it (wg(8), CONFIGURATION FILE FORMAT).
fn configuration(own: &StaticSecret, peer: &PublicKey, other: Host<'_>) -> String {
    let port = port_of(other.number);
    let mut text = String::from("[Interface]\n");
    let _ = writeln!(text, "PrivateKey = {}", STANDARD.encode(own.to_bytes()));
    let _ = writeln!(text, "ListenPort = {port}\n\n[Peer]");
    let _ = writeln!(text, "PublicKey = {}", STANDARD.encode(peer.as_bytes()));
    let _ = writeln!(text, "Endpoint = {}:{port}", other.outer);
    let _ = writeln!(text, "AllowedIPs = {}/32", other.inner);
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::super::tests::lab_is_possible;
    use super::*;

    #[test]
    fn each_end_is_told_of_the_other_one() {
        if !lab_is_possible() {
            return;
        }
        let namespace = Namespace::create().unwrap();
        let host = Host {
            namespace: &namespace,
            number: 2,
            outer: Ipv4Addr::new(198, 18, 2, 2),
            inner: Ipv4Addr::new(198, 19, 2, 2),
            cpus: &[],
        };
        let peer = PublicKey::from([2; 32]);
        let expected = "[Interface]\n\
            PrivateKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\
            ListenPort = 51822\n\n\
            [Peer]\n\
            PublicKey = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n\
            Endpoint = 198.18.2.2:51822\n\
            AllowedIPs = 198.19.2.2/32\n";
        let own = StaticSecret::from([1; 32]);
        assert_eq!(configuration(&own, &peer, host), expected);
    }
}
