//! What a generator is asked to do: plain data, as scenarios, flags and the harness fill it.

mod check;

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arrivals::{ArrivalLaw, Course};
use crate::sip::Accounts;
use crate::transport::Settings;
pub use check::PlanError;

/// What an operation is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// A user opens the hop and registers: REGISTER, 401, REGISTER with credentials, 200.
    Register,
    /// A registered user refreshes its binding on the hop that it keeps: REGISTER with credentials
    /// right away, 200.
    Reregister,
    /// A call: INVITE, 100, 180, 200, ACK, BYE, 200.
    Invite,
    /// What users do in a busy hour, by the weights of a [`Mix`].
    Mixed,
    /// Every hop drops when the measurement starts, and each user comes back under the back-off of
    /// RFC 5626 §4.5.
    Avalanche,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Register,
        Self::Reregister,
        Self::Invite,
        Self::Mixed,
        Self::Avalanche,
    ];

    /// The name in scenarios, flags and cell ids.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Reregister => "reregister",
            Self::Invite => "invite",
            Self::Mixed => "mixed",
            Self::Avalanche => "avalanche",
        }
    }

    /// The lifecycles that it can have.
    #[must_use]
    pub fn lifecycles(self) -> &'static [Lifecycle] {
        match self {
            Self::Register => &[Lifecycle::PerTransaction, Lifecycle::PerRegistration],
            Self::Invite => &Lifecycle::ALL,
            // Without a hop that is kept there is nothing to refresh on, and nothing to lose.
            Self::Reregister | Self::Mixed | Self::Avalanche => &[Lifecycle::PerRegistration],
        }
    }
}

/// How long a hop's security association (or plain connection) lives.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// Opened for one client transaction and closed after its final response. The ACK of a 2xx
    /// leaves over the INVITE's hop.
    PerTransaction,
    /// Opened for one call and closed after it.
    PerCall,
    /// As long as the user's registration (RFC 5626); calls use it.
    PerRegistration,
}

impl Lifecycle {
    /// All of them, the shortest first.
    pub const ALL: [Self; 3] = [Self::PerTransaction, Self::PerCall, Self::PerRegistration];

    /// The name in scenarios, flags and cell ids.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PerTransaction => "per-transaction",
            Self::PerCall => "per-call",
            Self::PerRegistration => "per-registration",
        }
    }
}

/// How far a population of users is brought before memory is read or calls begin.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The hop is open and secured; nothing was sent on it.
    Handshaken,
    /// The user is registered on it.
    Registered,
    /// As registered, and since then nothing was sent on it for a while. That while is whoever's who
    /// asks for the stage: users are brought to their registration.
    Idle,
    /// The user is registered and has one call up, which lasts.
    InCall,
}

impl Stage {
    /// The name in scenarios and cell parameters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshaken => "handshaken",
            Self::Registered => "registered",
            Self::Idle => "idle",
            Self::InCall => "in-call",
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
    /// Whom they call; `None` for whoever answers at the target.
    #[serde(default)]
    pub callees: Option<Callees>,
    /// Threads, each with its own runtime and its own users; of all processes together, where a
    /// generator is several.
    pub workers: u32,
    /// Those of the workers that this process runs; `None` for all. Which users and which arrivals are
    /// a worker's follows from its number alone, so the processes of a generator never talk to each
    /// other.
    #[serde(default)]
    pub own_workers: Option<Range<u32>>,
    /// Account number of the generator's first user; the others follow.
    #[serde(default)]
    pub first_user: u32,
    /// Whether its users answer the calls that reach them, at once and at any time: also while the
    /// generator carries out no order.
    #[serde(default)]
    pub answers: bool,
    /// Whom its users call: `None` for whom [`GeneratorConfig::callees`] or the accounts say.
    #[serde(default)]
    pub called: Option<Called>,
    /// Lifetime that registrations ask for: longer than any run, if it is `None`.
    #[serde(default)]
    pub expires_seconds: Option<u32>,
    /// How long starts and arrivals may wait for each other, so that one wake-up serves all of them, as
    /// interrupt moderation does. Saves most of the generator's processor time at thousands of operations a
    /// second, and adds as much to the lag and the latencies that are measured: zero, unless latencies do not matter.
    #[serde(default)]
    pub gather: Duration,
    /// Seed of Call-IDs, tags and nonces of this generator.
    pub seed: u64,
    /// Share of its own processor time that each worker burns on top, to show what a slow generator does
    /// ([`crate::measure::handicap`]).
    #[serde(default)]
    pub handicap_ratio: f64,
}

impl GeneratorConfig {
    /// A generator of one worker and one process, whose users `0..` call whom the accounts say.
    #[must_use]
    pub fn new(
        stack: impl Into<String>,
        target: SocketAddr,
        settings: Settings,
        accounts: Accounts,
    ) -> Self {
        Self {
            stack: stack.into(),
            target,
            settings,
            accounts,
            callees: None,
            workers: 1,
            own_workers: None,
            first_user: 0,
            answers: false,
            called: None,
            expires_seconds: None,
            gather: Duration::ZERO,
            seed: 0,
            handicap_ratio: 0.0,
        }
    }

    /// How many users it can have, all processes together: the accounts from its first one on.
    #[must_use]
    pub fn users_max(&self) -> u32 {
        self.accounts.count().saturating_sub(self.first_user)
    }
}

/// Users of the generator's own domain, registered by whomever: each call goes to one of them, drawn
/// at random by the plan's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// Account number of the first.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

/// Users who register and are called: of a plan with `users` callers they are the users from `users`
/// to `2 * users`, so that no number (nor the tunnel identity that goes with it) is used twice.
/// Caller `i` calls callee `users + i`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callees {
    /// Where they register, over the callers' stack: the last proxy's address; over a tunnel, its
    /// outer address.
    pub target: SocketAddr,
    /// Their accounts, of which there are as many as the callers have.
    pub accounts: Accounts,
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
    /// Operations a second, all workers together. An avalanche has one for each user instead, all
    /// meant to start when the hops drop.
    pub rate_per_second: f64,
    /// How that rate goes on over the measurement.
    #[serde(default)]
    pub course: Course,
    /// Load before the measurement starts.
    pub warm_up_seconds: f64,
    /// Length of the measurement.
    pub duration_seconds: f64,
    /// How long operations begun in the measurement may take to end after it.
    pub drain_seconds: f64,
    /// Users that take turns: registered beforehand where [`LoadPlan::population`] says so; of those
    /// that register, one whose turn comes again closes the old hop first.
    pub users: u32,
    /// From answer to hang-up.
    pub talk_seconds: f64,
    /// From INVITE to its 200, of the generator's own callees. A node that answers has a setting of its
    /// own, which has to be the same.
    #[serde(default)]
    pub ring_seconds: f64,
    /// What is done how often, of [`Workload::Mixed`].
    #[serde(default)]
    pub mix: Mix,
    /// How long users wait before they come back, of [`Workload::Avalanche`].
    #[serde(default)]
    pub back_off: BackOff,
    /// Seed of the arrivals.
    pub seed: u64,
}

/// What a user does in a busy hour: how often, relative to each other, operations of each kind start.
///
/// The defaults are an assumption, not a measurement: a user who refreshes a registration of 3600 s
/// once, makes two calls, and whose phone loses its connection once in five hours. Of ten calls one
/// and a half are given up while they ring, and half a one is to a number that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mix {
    /// A user comes over a new hop and registers, in place of its older binding.
    pub register: f64,
    /// A user refreshes its binding.
    pub reregister: f64,
    /// A call that is answered and lasts [`LoadPlan::talk_seconds`].
    pub call: f64,
    /// A call that the caller cancels while it rings; expected is 487.
    pub cancelled_call: f64,
    /// A call to a user that does not exist; expected is 404.
    pub unknown_callee: f64,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            register: 0.2,
            reregister: 1.0,
            call: 1.6,
            cancelled_call: 0.3,
            unknown_callee: 0.1,
        }
    }
}

/// Waiting times of RFC 5626 §4.5: uniform in the upper half of `base · 2^failures`, capped at `max`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackOff {
    /// What doubles with every failure in a row. The RFC's default for a user who has lost all its
    /// flows is 30 s; shorter ones make a harder avalanche.
    pub base_seconds: f64,
    /// The longest; the RFC's default is 1800 s.
    pub max_seconds: f64,
}

impl Default for BackOff {
    fn default() -> Self {
        Self {
            base_seconds: 30.0,
            max_seconds: 1800.0,
        }
    }
}

impl LoadPlan {
    /// How far its users are brought before it starts; `None` where they come with their operations.
    #[must_use]
    pub fn population(&self) -> Option<Stage> {
        match (self.workload, self.lifecycle) {
            (Workload::Register, _)
            | (Workload::Invite, Lifecycle::PerTransaction | Lifecycle::PerCall) => None,
            (Workload::Invite, Lifecycle::PerRegistration)
            | (Workload::Reregister | Workload::Mixed | Workload::Avalanche, _) => {
                Some(Stage::Registered)
            }
        }
    }
}
