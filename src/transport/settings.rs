//! What a stack needs to open: credentials, keys and limits, as plain data.
//!
//! Everything is owned and serialisable, so that the harness can hand it to child processes. It
//! holds private keys: it belongs on a pipe or in a file that only its owner reads, never on a
//! command line or in a run file.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Identity, TestAuthority, TlsOptions, TransportError};
pub use crate::net::{Batching, SocketBuffers};
use crate::net::{Kernel, WireMeter};
pub use crate::tunnel::{TunnelOptions, WireguardKeys};

/// What [`super::Stack::open`] needs. A stack reads only what concerns it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// For `tls` and `mtls`.
    pub tls: Option<TlsSettings>,
    /// For every stack over `wireguard`.
    pub wireguard: Option<WireguardKeys>,
    /// How tunnels are run; both ends must agree.
    pub tunnel: TunnelOptions,
    /// Whose IP is inside tunnels.
    pub inner_ip: InnerIp,
    /// Whether one system call may pass several datagrams to or from the kernel.
    pub batching: Batching,
    /// How much the kernel may keep for each socket.
    pub socket_buffers: SocketBuffers,
    /// How long things may take.
    pub limits: Limits,
    /// Whether several listeners, one per worker, share a port (`SO_REUSEPORT`).
    pub share_port: bool,
    /// Where client sockets bind. One source address has some 28,000 ephemeral ports to one
    /// server, so a million TCP connections need several. The kernel chooses if it is `None`.
    pub source: Option<IpAddr>,
    /// How often a user pings its stream flow (RFC 5626 §4.4.1), at most once in 20 s; never if it is
    /// `None`. What a server does is answer.
    pub keep_alive: Option<Duration>,
}

/// Whose UDP and TCP are inside tunnels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InnerIp {
    /// Our own: it takes no right, and leaves no trace in the system.
    #[default]
    User,
    /// The kernel's, over TUN devices in this process's network namespace, where it must have
    /// `CAP_NET_ADMIN`, and where the users' inner addresses must be its own.
    Kernel,
}

impl Settings {
    /// Settings that suffice for every stack: freshly generated certificates and tunnel keys for
    /// users `0..peers`, default options and limits.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn generate(peers: u32) -> Result<Self, TransportError> {
        Self::generate_with(peers, &TlsOptions::default())
    }

    /// Likewise, with TLS as `options` say.
    ///
    /// # Errors
    /// When the system's random generator fails, or this build cannot do what the options say.
    pub fn generate_with(peers: u32, options: &TlsOptions) -> Result<Self, TransportError> {
        Ok(Self {
            tls: Some(TlsSettings::generate(options)?),
            wireguard: Some(WireguardKeys::generate(peers)),
            ..Self::default()
        })
    }
}

impl Settings {
    pub(super) fn wireguard_keys(&self) -> Result<&WireguardKeys, TransportError> {
        self.wireguard.as_ref().ok_or_else(|| {
            TransportError::Credentials("this stack needs WireGuard keys, found none".to_owned())
        })
    }

    pub(super) fn tls(&self) -> Result<&TlsSettings, TransportError> {
        self.tls.as_ref().ok_or_else(|| {
            TransportError::Credentials("this stack needs TLS settings, found none".to_owned())
        })
    }
}

impl From<&Settings> for Kernel {
    fn from(settings: &Settings) -> Self {
        Self {
            connect_limit: settings.limits.connect,
            share_port: settings.share_port,
            source: settings.source,
            device: None,
            batching: settings.batching,
            buffers: settings.socket_buffers,
            meter: WireMeter::default(),
        }
    }
}

/// How long opening a flow may take before it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// TCP's three-way handshake.
    pub connect: Duration,
    /// A security handshake, on either side.
    pub handshake: Duration,
    /// Writing what is queued when this side closes a flow.
    pub close: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            close: Duration::from_secs(5),
        }
    }
}

/// Certificates and keys for TLS, and how it is spoken. A client needs [`Self::ca_pem`] and [`Self::server_name`] (and
/// [`Self::client`] for `mtls`), a server [`Self::server`] (and [`Self::ca_pem`] for `mtls`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// Certificates that are trusted to sign those of peers, in PEM.
    pub ca_pem: String,
    /// The name that the server's certificate must carry.
    pub server_name: String,
    /// What a server shows.
    pub server: Option<Identity>,
    /// What a client shows over `mtls`.
    pub client: Option<Identity>,
    /// How TLS is spoken.
    #[serde(default)]
    pub options: TlsOptions,
}

impl TlsSettings {
    /// Everything that both ends of `tls` and `mtls` need, from a [`TestAuthority`] of its own.
    ///
    /// # Errors
    /// When the system's random generator fails, or this build cannot do what the options say.
    pub fn generate(options: &TlsOptions) -> Result<Self, TransportError> {
        options.check()?;
        Ok(Self {
            options: *options,
            ..TestAuthority::generate_for(options.key_type)?.settings()?
        })
    }
}
