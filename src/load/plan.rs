//! What a generator is asked to do: plain data, as scenarios, flags and the harness fill it.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arrivals::ArrivalLaw;
use crate::sip::Accounts;
use crate::transport::Settings;

/// What an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// A user opens the hop and registers: REGISTER, 401, REGISTER with credentials, 200.
    Register,
    /// A call: INVITE, 100, 180, 200, ACK, BYE, 200.
    Invite,
}

impl Workload {
    /// The name in scenarios, flags and cell ids.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Invite => "invite",
        }
    }
}

/// How long a hop's security association (or plain connection) lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// As long as the user's registration (RFC 5626); calls use it.
    PerRegistration,
    /// Opened for one call and closed after it.
    PerCall,
}

impl Lifecycle {
    /// The name in scenarios, flags and cell ids.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PerRegistration => "per-registration",
            Self::PerCall => "per-call",
        }
    }
}

/// How far a population of users is brought before memory is read or calls begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The hop is open and secured; nothing was sent on it.
    Handshaken,
    /// The user is registered on it.
    Registered,
}

impl Stage {
    /// The name in scenarios and cell parameters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshaken => "handshaken",
            Self::Registered => "registered",
        }
    }
}

/// Who generates load, over which stack, against whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GeneratorConfig {
    /// Name in the registry of stacks.
    pub stack: String,
    /// The server's address; over a tunnel, its outer address.
    pub target: SocketAddr,
    /// Certificates, keys and limits of the transport.
    pub settings: Settings,
    /// The users.
    pub accounts: Accounts,
    /// Threads, each with its own runtime and its own users.
    pub workers: u32,
    /// Seed of Call-IDs, tags and nonces of this generator.
    pub seed: u64,
}

/// An open-loop load: what arrives, how often, for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadPlan {
    /// What an operation is.
    pub workload: Workload,
    /// How long a connection is kept.
    pub lifecycle: Lifecycle,
    /// Law of the gaps between operations.
    pub arrivals: ArrivalLaw,
    /// Operations a second, all workers together.
    pub rate_per_second: f64,
    /// Load before the measurement starts.
    pub warm_up_seconds: f64,
    /// Length of the measurement.
    pub duration_seconds: f64,
    /// How long operations begun in the measurement may take to end after it.
    pub drain_seconds: f64,
    /// Users that take turns: for calls per registration, registered beforehand; for registrations,
    /// a user whose turn comes again closes the old hop first.
    pub users: u32,
    /// From answer to hang-up.
    pub talk_seconds: f64,
    /// Seed of the arrivals.
    pub seed: u64,
}
