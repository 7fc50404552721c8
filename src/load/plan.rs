//! What a generator is asked to do: plain data, as scenarios, flags and the harness fill it.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arrivals::ArrivalLaw;
use crate::sip::Accounts;
use crate::transport::Settings;

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
    /// Whom they call; `None` for whoever answers at the target.
    #[serde(default)]
    pub callees: Option<Callees>,
    /// Threads, each with its own runtime and its own users.
    pub workers: u32,
    /// Seed of Call-IDs, tags and nonces of this generator.
    pub seed: u64,
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

/// Why a plan makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The workload cannot have that lifecycle.
    #[error(
        "expected the lifecycle {} of the workload `{}`, found `{}`",
        names(.workload.lifecycles()), .workload.name(), .lifecycle.name()
    )]
    Lifecycle {
        /// The workload.
        workload: Workload,
        /// The lifecycle that was asked for.
        lifecycle: Lifecycle,
    },
    /// A number is not within its bounds.
    #[error("expected `{field}` within {low} to {high}, found {found}")]
    OutOfBounds {
        /// Which number.
        field: &'static str,
        /// What it is.
        found: f64,
        /// The least that is allowed.
        low: f64,
        /// The most that is allowed.
        high: f64,
    },
    /// Nobody takes part.
    #[error("expected at least one user, found none: raise `users`")]
    NoUsers,
    /// All weights are 0.
    #[error("expected a weight above 0 in the mix, found none")]
    EmptyMix,
    /// Calls that are answered at once cannot be cancelled.
    #[error(
        "expected `ring_seconds` above 0 for calls that are cancelled while they ring, found 0: raise \
         it, or set `mix.cancelled_call` to 0"
    )]
    NoRing,
    /// On average more users are in a call than there are.
    #[error(
        "expected users for {needed:.1} operations at a time, found {users}: raise `users`, or lower \
         the rate or the talk"
    )]
    TooFewUsers {
        /// Operations that are under way at a time, by rate and duration.
        needed: f64,
        /// Users of the plan.
        users: u32,
    },
}

fn names(lifecycles: &[Lifecycle]) -> String {
    let names: Vec<String> = lifecycles
        .iter()
        .map(|lifecycle| format!("`{}`", lifecycle.name()))
        .collect();
    names.join(" or ")
}

/// A day: no load lasts longer, and every clock can add it to the present.
const SECONDS_MAX: f64 = 86_400.0;
const RATE_MAX: f64 = 1e6;
const WEIGHT_MAX: f64 = 1e6;

impl LoadPlan {
    /// Whether a generator can carry it out.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), PlanError> {
        let (workload, lifecycle) = (self.workload, self.lifecycle);
        if !workload.lifecycles().contains(&lifecycle) {
            return Err(PlanError::Lifecycle {
                workload,
                lifecycle,
            });
        }
        let seconds = [
            ("warm_up_seconds", self.warm_up_seconds),
            ("duration_seconds", self.duration_seconds),
            ("drain_seconds", self.drain_seconds),
            ("talk_seconds", self.talk_seconds),
            ("ring_seconds", self.ring_seconds),
            ("back_off.base_seconds", self.back_off.base_seconds),
            ("back_off.max_seconds", self.back_off.max_seconds),
        ];
        for (field, found) in seconds {
            within(field, found, 0.0, SECONDS_MAX)?;
        }
        within(
            "rate_per_second",
            self.rate_per_second,
            f64::MIN_POSITIVE,
            RATE_MAX,
        )?;
        if self.users == 0 {
            return Err(PlanError::NoUsers);
        }
        match workload {
            Workload::Mixed => self.check_mix(),
            Workload::Register | Workload::Reregister | Workload::Invite | Workload::Avalanche => {
                Ok(())
            }
        }
    }

    fn check_mix(&self) -> Result<(), PlanError> {
        for (field, weight) in self.mix.weights() {
            within(field, weight, 0.0, WEIGHT_MAX)?;
        }
        let total = self.mix.total();
        if total <= 0.0 {
            return Err(PlanError::EmptyMix);
        }
        if self.mix.cancelled_call > 0.0 && self.ring_seconds <= 0.0 {
            return Err(PlanError::NoRing);
        }
        // In a call a user does nothing else; everything else is over soon.
        let seconds = self.talk_seconds + self.ring_seconds;
        let needed = self.rate_per_second * self.mix.call / total * seconds;
        if needed > f64::from(self.users) {
            let users = self.users;
            return Err(PlanError::TooFewUsers { needed, users });
        }
        Ok(())
    }

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

impl Mix {
    /// The weights by the names of their fields.
    fn weights(&self) -> [(&'static str, f64); 5] {
        [
            ("mix.register", self.register),
            ("mix.reregister", self.reregister),
            ("mix.call", self.call),
            ("mix.cancelled_call", self.cancelled_call),
            ("mix.unknown_callee", self.unknown_callee),
        ]
    }

    fn total(&self) -> f64 {
        self.weights().into_iter().map(|(_, weight)| weight).sum()
    }
}

fn within(field: &'static str, found: f64, low: f64, high: f64) -> Result<(), PlanError> {
    if (low..=high).contains(&found) {
        return Ok(());
    }
    Err(PlanError::OutOfBounds {
        field,
        found,
        low,
        high,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn plan(workload: Workload, lifecycle: Lifecycle) -> LoadPlan {
        LoadPlan {
            workload,
            lifecycle,
            arrivals: ArrivalLaw::Poisson,
            rate_per_second: 10.0,
            warm_up_seconds: 0.0,
            duration_seconds: 1.0,
            drain_seconds: 1.0,
            users: 10,
            talk_seconds: 0.0,
            ring_seconds: 1.0,
            mix: Mix::default(),
            back_off: BackOff::default(),
            seed: 1,
        }
    }

    #[test]
    fn each_workload_has_its_lifecycles() {
        use Lifecycle::{PerCall, PerRegistration, PerTransaction};
        // Workload, lifecycle, whether its users are registered beforehand; all others are refused.
        let valid = [
            (Workload::Register, PerTransaction, false),
            (Workload::Register, PerRegistration, false),
            (Workload::Reregister, PerRegistration, true),
            (Workload::Invite, PerTransaction, false),
            (Workload::Invite, PerCall, false),
            (Workload::Invite, PerRegistration, true),
            (Workload::Mixed, PerRegistration, true),
            (Workload::Avalanche, PerRegistration, true),
        ];
        for workload in Workload::ALL {
            for lifecycle in Lifecycle::ALL {
                let plan = plan(workload, lifecycle);
                let row = valid
                    .iter()
                    .find(|row| (row.0, row.1) == (workload, lifecycle));
                let expected = match row {
                    Some(_) => Ok(()),
                    None => Err(PlanError::Lifecycle {
                        workload,
                        lifecycle,
                    }),
                };
                assert_eq!(plan.check(), expected);
                if let Some((.., is_registered)) = row {
                    assert_eq!(plan.population().is_some(), *is_registered, "{plan:?}");
                }
            }
        }
        let error = plan(Workload::Register, PerCall).check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected the lifecycle `per-transaction` or `per-registration` of the workload \
             `register`, found `per-call`"
        );
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let mixed = || plan(Workload::Mixed, Lifecycle::PerRegistration);
        let silent = Mix {
            register: 0.0,
            reregister: 0.0,
            call: 0.0,
            cancelled_call: 0.0,
            unknown_callee: 0.0,
        };
        let negative = Mix {
            call: -1.0,
            ..Mix::default()
        };
        // Plan, what its error says.
        let cases = [
            (
                LoadPlan {
                    users: 0,
                    ..mixed()
                },
                "at least one user",
            ),
            (
                LoadPlan {
                    talk_seconds: f64::NAN,
                    ..mixed()
                },
                "`talk_seconds`",
            ),
            (
                LoadPlan {
                    rate_per_second: 0.0,
                    ..mixed()
                },
                "`rate_per_second`",
            ),
            (
                LoadPlan {
                    ring_seconds: 0.0,
                    ..mixed()
                },
                "`ring_seconds` above 0",
            ),
            (
                LoadPlan {
                    mix: silent,
                    ..mixed()
                },
                "above 0 in the mix",
            ),
            (
                LoadPlan {
                    mix: negative,
                    ..mixed()
                },
                "`mix.call`",
            ),
            (
                LoadPlan {
                    talk_seconds: 10.0,
                    ..mixed()
                },
                "users for 55.0 operations",
            ),
        ];
        for (plan, expected) in cases {
            let error = plan.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn plans_of_before_are_still_read() {
        let mut json = serde_json::to_value(plan(Workload::Invite, Lifecycle::PerCall)).unwrap();
        let fields = json.as_object_mut().unwrap();
        for added in ["ring_seconds", "mix", "back_off"] {
            fields.remove(added);
        }
        let read: LoadPlan = serde_json::from_value(json).unwrap();
        let expected = LoadPlan {
            ring_seconds: 0.0,
            ..plan(Workload::Invite, Lifecycle::PerCall)
        };
        assert_eq!(read, expected);
    }
}
