//! strongSwan's daemon charon as one end of an IPsec tunnel: IKEv2 (RFC 7296), ESP with AES-128-GCM
//! (RFC 4303, RFC 4106) in tunnel mode. ESP is done by its plug-in `kernel-libipsec` in user space, over a TUN device
//! `ipsec0` of its own, and then in UDP (RFC 3948); or by the kernel, and then as it is.
//!
//! Each has a configuration, a control socket and a `/run` of its own; nothing of the system's is read but
//! the program and its plug-ins.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hopbench::transport::{Identity, TestAuthority};

use super::process::Process;
use super::vici::{Section, Vici, ViciError};
use super::{DaemonError, Host};

/// Names of the connection and of what it protects, in the configuration.
const CONNECTION: &str = "hop";
const CHILD: &str = "sip";
/// Names of the ends, as their certificates carry them.
const NAMES: [&str; 2] = ["caller.hopbench.test", "server.hopbench.test"];
/// Key exchange: AES-128-GCM, HMAC-SHA-256, X25519.
const IKE_PROPOSAL: &str = "aes128gcm16-prfsha256-x25519";
/// What protects packets. Its first keys are derived from the exchange above.
const ESP_PROPOSAL: &str = "aes128gcm16";
/// Where it listens for IKE, and for IKE and ESP in UDP (RFC 7296 §2.23), at the first link. Daemons of one host
/// have ports of their own.
const PORTS: [u16; 2] = [500, 4500];
/// Its table of routes, and the priority of the rule that leads there, at the first link.
const ROUTES: u16 = 220;
/// How long a command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// What the daemon needs whoever does ESP.
const PLUGINS: &str =
    "random nonce aes sha1 sha2 hmac kdf pem pkcs1 pkcs8 x509 pubkey constraints gcm openssl";

/// Of one pair of daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// How the ends prove who they are.
    pub(super) authentication: Authentication,
    /// Who does ESP.
    pub(super) esp: Esp,
}

/// Who protects packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Esp {
    /// The daemon.
    User,
    /// The kernel.
    Kernel,
}

impl Esp {
    /// In the order in which they may claim a feature: where ESP is for `kernel-libipsec`, what is left, addresses
    /// and routes, is for `kernel-netlink`.
    fn plugins(self) -> &'static str {
        match self {
            Self::User => "kernel-libipsec kernel-netlink",
            Self::Kernel => "kernel-netlink",
        }
    }

    /// What does ESP in user space does it in UDP: it pretends that there is a NAT (RFC 7296 §2.23).
    fn is_in_udp(self) -> bool {
        self == Self::User
    }
}

/// How the ends prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authentication {
    /// By certificates of one authority, ECDSA P-256.
    Certificates,
    /// By a secret that both have.
    Psk,
}

/// What [`IKE_PROPOSAL`], [`ESP_PROPOSAL`] and the configuration come to.
pub(super) fn recorded(kind: Kind) -> Vec<(&'static str, &'static str)> {
    vec![
        ("security_protocol", "IKEv2, ESP"),
        ("cipher_suite", "AES_GCM_16-128"),
        ("key_exchange_group", "CURVE_25519"),
        ("mode", "tunnel"),
        (
            "encapsulation",
            if kind.esp.is_in_udp() { "udp" } else { "none" },
        ),
        (
            "authentication",
            match kind.authentication {
                Authentication::Certificates => "certificates, ECDSA P-256",
                Authentication::Psk => "shared secret",
            },
        ),
        (
            "implementation",
            match kind.esp {
                Esp::User => "strongSwan, kernel-libipsec (user space)",
                Esp::Kernel => "strongSwan, Linux (kernel)",
            },
        ),
    ]
}

/// One end at work.
pub(super) struct Strongswan {
    pub(super) process: Process,
    vici: Vici,
    kind: Kind,
    // Last: the daemon's files outlive it.
    _folder: tempfile::TempDir,
}

/// What both ends authenticate by.
enum Secrets {
    Certificates { ca_pem: String, ends: [Identity; 2] },
    Psk(String),
}

impl Strongswan {
    /// A daemon on each host, neither of them initiating yet.
    pub(super) fn pair(
        program: &Path,
        kind: Kind,
        hosts: [Host<'_>; 2],
    ) -> Result<[Self; 2], DaemonError> {
        let secrets = Secrets::generate(kind.authentication)?;
        let start = |place: usize| -> Result<Self, DaemonError> {
            let host = hosts[place];
            let mut end = Self::start(program, kind, host)?;
            end.load(&secrets, place, [host, hosts[1 - place]])?;
            Ok(end)
        };
        Ok([start(0)?, start(1)?])
    }

    fn start(program: &Path, kind: Kind, host: Host<'_>) -> Result<Self, DaemonError> {
        let failed = |error| DaemonError::Io("write strongSwan's configuration".into(), error);
        let folder = tempfile::tempdir().map_err(failed)?;
        let configuration = folder.path().join("strongswan.conf");
        let control = folder.path().join("vici");
        let text = configuration_of(&control, host.number, kind.esp);
        fs::write(&configuration, text).map_err(failed)?;
        // Routes into the tunnel are for packets from an address that the host has.
        host.namespace
            .interfaces(async |interfaces| interfaces.add_address("lo", host.inner, 32).await)?;
        let mut command = host.namespace.command(program);
        command.env("STRONGSWAN_CONF", &configuration);
        let log = folder.path().join("log");
        let mut process = Process::start("strongSwan's charon", command, host.cpus, log)?;
        let vici = process.wait_for("a control socket", || {
            Vici::connect(&control, COMMAND_LIMIT).ok()
        })?;
        Ok(Self {
            process,
            vici,
            kind,
            _folder: folder,
        })
    }

    /// Tells it of the connection, of whose `hosts` its own is the first, and of its secrets.
    fn load(
        &mut self,
        secrets: &Secrets,
        place: usize,
        hosts: [Host<'_>; 2],
    ) -> Result<(), DaemonError> {
        match secrets {
            Secrets::Psk(secret) => {
                let shared = Section::new()
                    .value("type", "IKE")
                    .value("data", secret)
                    .list("owners", &NAMES);
                self.request("load-shared", &shared)?;
            }
            Secrets::Certificates { ca_pem, ends } => {
                let authority = Section::new()
                    .value("type", "X509")
                    .value("flag", "CA")
                    .value("data", ca_pem);
                self.request("load-cert", &authority)?;
                let key = Section::new()
                    .value("type", "any")
                    .value("data", &ends[place].key_pem);
                self.request("load-key", &key)?;
            }
        }
        let mut local = Section::new().value("id", NAMES[place]);
        if let Secrets::Certificates { ends, .. } = secrets {
            local = local.list("certs", &[&ends[place].chain_pem]);
        }
        let remote = Section::new().value("id", NAMES[1 - place]);
        let connection = connection(hosts, self.kind, local, remote);
        let connections = Section::new().section(CONNECTION, connection);
        self.request("load-conn", &connections).map(drop)
    }

    /// Makes the association; it is there when this returns.
    pub(super) fn initiate(&mut self) -> Result<(), DaemonError> {
        let what = Section::new()
            .value("ike", CONNECTION)
            .value("child", CHILD)
            .value("timeout", COMMAND_LIMIT.as_millis().to_string());
        self.request("initiate", &what).map(drop)
    }

    /// Ends the association, if there is one: the peer has confirmed it when this returns.
    pub(super) fn terminate(&mut self) -> Result<(), DaemonError> {
        if self.associations()?.is_empty() {
            return Ok(());
        }
        let what = Section::new()
            .value("ike", CONNECTION)
            .value("timeout", COMMAND_LIMIT.as_millis().to_string());
        self.request("terminate", &what).map(drop)
    }

    /// Waits until the association is over here, too.
    pub(super) fn await_end(&mut self) -> Result<(), DaemonError> {
        let deadline = std::time::Instant::now() + COMMAND_LIMIT;
        while !self.associations()?.is_empty() {
            if std::time::Instant::now() >= deadline {
                return Err(self.process.failed("an association does not end".into()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// What was agreed on, by the names of [`recorded`].
    #[cfg(test)]
    pub(super) fn agreed(&mut self) -> Option<Vec<(&'static str, String)>> {
        let associations = self.associations().ok()?;
        let (_, ike) = associations.iter().flat_map(Section::sections).next()?;
        let mut children = ike.sections().filter(|(key, _)| *key == "child-sas");
        let (_, child) = children.next()?.1.sections().next()?;
        let is_udp = child.text("encap").as_deref() == Some("yes");
        Some(vec![
            (
                "security_protocol",
                format!("IKEv{}, {}", ike.text("version")?, child.text("protocol")?),
            ),
            (
                "cipher_suite",
                format!(
                    "{}-{}",
                    child.text("encr-alg")?,
                    child.text("encr-keysize")?
                ),
            ),
            ("key_exchange_group", ike.text("dh-group")?),
            ("mode", child.text("mode")?.to_lowercase()),
            ("encapsulation", if is_udp { "udp" } else { "none" }.into()),
        ])
    }

    fn associations(&mut self) -> Result<Vec<Section>, DaemonError> {
        let listed = self.vici.list("list-sas", "list-sa");
        listed.map_err(|error| self.refused(error))
    }

    fn request(&mut self, name: &str, message: &Section) -> Result<Section, DaemonError> {
        let answered = self.vici.request(name, message);
        answered.map_err(|error| self.refused(error))
    }

    fn refused(&self, error: ViciError) -> DaemonError {
        self.process.failed(error.to_string())
    }
}

impl Secrets {
    fn generate(authentication: Authentication) -> Result<Self, DaemonError> {
        let failed =
            |error: hopbench::transport::TransportError| DaemonError::Keys(error.to_string());
        match authentication {
            Authentication::Psk => Ok(Self::Psk(format!("{:032x}", rand::random::<u128>()))),
            Authentication::Certificates => {
                let authority = TestAuthority::generate().map_err(failed)?;
                let ends = [
                    authority.client(NAMES[0]).map_err(failed)?,
                    authority.server(NAMES[1]).map_err(failed)?,
                ];
                let ca_pem = authority.ca_pem();
                Ok(Self::Certificates { ca_pem, ends })
            }
        }
    }
}

/// What both ends have to say of a connection.
fn connection([own, other]: [Host<'_>; 2], kind: Kind, local: Section, remote: Section) -> Section {
    let method = match kind.authentication {
        Authentication::Certificates => "pubkey",
        Authentication::Psk => "psk",
    };
    let host = |address: std::net::Ipv4Addr| address.to_string();
    let child = Section::new()
        .value("mode", "tunnel")
        .list("esp_proposals", &[ESP_PROPOSAL])
        .list("local_ts", &[&format!("{}/32", own.inner)])
        .list("remote_ts", &[&format!("{}/32", other.inner)]);
    Section::new()
        .value("version", "2")
        .value("encap", if kind.esp.is_in_udp() { "yes" } else { "no" })
        // The addresses stay.
        .value("mobike", "no")
        .list("proposals", &[IKE_PROPOSAL])
        .list("local_addrs", &[&host(own.outer)])
        .list("remote_addrs", &[&host(other.outer)])
        .value("remote_port", remote_port(own.number).to_string())
        .section("local", local.value("auth", method))
        .section("remote", remote.value("auth", method))
        .section("children", Section::new().section(CHILD, child))
}

/// Of the daemon at the link of this number: see [`PORTS`].
pub(super) fn ports_of(number: u8) -> [u16; 2] {
    PORTS.map(|port| port + u16::from(number))
}

/// Where a peer is met first: only at the port of IKE does the daemon leave out the marker that tells IKE from ESP.
fn remote_port(number: u8) -> u16 {
    let [ike, nat] = ports_of(number);
    if number == 0 { ike } else { nat }
}

fn configuration_of(control: &Path, number: u8, esp: Esp) -> String {
    let [ike, nat] = ports_of(number);
    let routes = ROUTES + u16::from(number);
    let plugins = esp.plugins();
    format!(
        "charon {{\n  load = {PLUGINS} {plugins} socket-default vici\n  port = {ike}\n  port_nat_t = {nat}\n  \
         routing_table = {routes}\n  routing_table_prio = {routes}\n  \
         filelog {{ \n    stdout {{\n      default = 1\n    }}\n  }}\n  \
         plugins {{\n    vici {{\n      socket = unix://{}\n    }}\n  }}\n}}\n\
         charon-systemd {{\n  journal {{\n    default = -1\n  }}\n}}\n",
        control.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_esp_is_what_the_configuration_says() {
        let text = |esp| configuration_of(Path::new("/tmp/vici"), 1, esp);
        let [user, kernel] = [Esp::User, Esp::Kernel].map(text);
        assert!(user.contains("openssl kernel-libipsec kernel-netlink socket-default vici\n"));
        assert!(kernel.contains("openssl kernel-netlink socket-default vici\n"));
        for text in [user, kernel] {
            assert!(text.contains("port = 501\n  port_nat_t = 4501\n"), "{text}");
            assert!(text.contains("routing_table = 221\n"), "{text}");
        }
    }

    #[test]
    fn esp_is_in_udp_where_it_is_done_in_user_space() {
        for (esp, encapsulation) in [(Esp::User, "udp"), (Esp::Kernel, "none")] {
            let authentication = Authentication::Psk;
            let told = recorded(Kind {
                authentication,
                esp,
            });
            assert!(told.contains(&("encapsulation", encapsulation)), "{told:?}");
        }
    }
}
