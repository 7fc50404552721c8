//! wireguard-go as one end of a WireGuard tunnel, configured over its control socket
//! (<https://www.wireguard.com/xplatform/>).

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boringtun::x25519::{PublicKey, StaticSecret};

use super::process::Process;
use super::{DaemonError, Host};

/// Where both listen, each at an address of its own, at the first link. Daemons of one host have ports of their own.
const PORT: u16 = 51_820;
/// How long the daemon may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// One end at work.
pub(super) struct WireguardGo {
    pub(super) process: Process,
    control: PathBuf,
    /// What makes the other end a peer.
    peer: String,
    peer_key: String,
    _folder: tempfile::TempDir,
}

impl WireguardGo {
    /// A daemon on each host, whose peer is the other one.
    pub(super) fn pair(program: &Path, hosts: [Host<'_>; 2]) -> Result<[Self; 2], DaemonError> {
        let keys = [(); 2].map(|()| StaticSecret::from(rand::random::<[u8; 32]>()));
        let start = |place: usize| {
            let other = 1 - place;
            let public = hex(PublicKey::from(&keys[other]).as_bytes());
            Self::start(program, &keys[place], &public, [hosts[place], hosts[other]])
        };
        Ok([start(0)?, start(1)?])
    }

    fn start(
        program: &Path,
        key: &StaticSecret,
        peer_key: &str,
        [own, other]: [Host<'_>; 2],
    ) -> Result<Self, DaemonError> {
        let folder = tempfile::tempdir()
            .map_err(|error| DaemonError::Io("make a folder for wireguard-go".into(), error))?;
        let mut command = own.namespace.command(program);
        let interface = interface_of(own.number);
        let port = port_of(own.number);
        command.args(["-f", &interface]).env("LOG_LEVEL", "error");
        // It asks once more if it is meant, where the kernel has WireGuard.
        command.env("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1");
        let log = folder.path().join("log");
        let mut process = Process::start("wireguard-go", command, own.cpus, log)?;
        // Its `/run` as others see it.
        let control = format!(
            "/proc/{}/root/run/wireguard/{interface}.sock",
            process.pid()
        );
        let control = PathBuf::from(control);
        process.wait_for("a control socket", || UnixStream::connect(&control).ok())?;
        let mut peer = format!("public_key={peer_key}\nendpoint={}:{port}\n", other.outer);
        let _ = writeln!(
            peer,
            "replace_allowed_ips=true\nallowed_ip={}/32",
            other.inner
        );
        let this = Self {
            process,
            control,
            peer,
            peer_key: peer_key.to_owned(),
            _folder: folder,
        };
        let key = hex(&key.to_bytes());
        this.set(&format!(
            "private_key={key}\nlisten_port={port}\n{}",
            this.peer
        ))?;
        own.namespace.interfaces(async |interfaces| {
            interfaces.add_address(&interface, own.inner, 32).await?;
            interfaces.bring_up(&interface).await?;
            interfaces
                .add_route(&interface, (other.inner, 32), None)
                .await
        })?;
        Ok(this)
    }

    /// Has it forget all that it and its peer have agreed on.
    pub(super) fn forget(&mut self) -> Result<(), DaemonError> {
        self.set(&format!("public_key={}\nremove=true\n", self.peer_key))?;
        self.set(&self.peer)
    }

    fn set(&self, what: &str) -> Result<(), DaemonError> {
        let refused = |reason: String| {
            self.process
                .failed(format!("it is not configured: {reason}"))
        };
        match say(&self.control, what) {
            Ok(0) => Ok(()),
            Ok(errno) => Err(refused(format!("errno {errno}"))),
            Err(error) => Err(refused(error.to_string())),
        }
    }
}

/// What the interface at the link of this number is called.
pub(super) fn interface_of(number: u8) -> String {
    format!("wg{number}")
}

/// Where both ends listen that are at the link of this number: see [`PORT`].
pub(super) fn port_of(number: u8) -> u16 {
    PORT + u16::from(number)
}

/// The protocol has one way only.
pub(super) fn recorded() -> Vec<(&'static str, &'static str)> {
    vec![
        ("security_protocol", "WireGuard"),
        ("cipher_suite", "ChaCha20-Poly1305"),
        ("key_exchange_group", "X25519"),
        ("authentication", "static keys"),
        ("implementation", "wireguard-go (user space)"),
    ]
}

/// Has the daemon set something; the number of its error, which is zero if there was none.
fn say(control: &Path, what: &str) -> io::Result<i32> {
    let mut stream = UnixStream::connect(control)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(format!("set=1\n{what}\n").as_bytes())?;
    for line in BufReader::new(stream).lines() {
        if let Some(errno) = line?.strip_prefix("errno=") {
            let errno = errno.parse();
            return errno.map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
