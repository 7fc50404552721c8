//! `[[scale]]` of a scenario: how many users at once, on how many processes, for how long.

use anyhow::ensure;
use serde::Deserialize;

use super::checks::{check_seconds, check_stacks};

/// A crowd of users who are registered and idle, and what it costs to serve others beside them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scale {
    /// Sizes of the crowd, ascending; each is a cell.
    pub(crate) users: Vec<u32>,
    /// Processes of the node.
    pub(crate) workers: u32,
    /// Processes of the crowd's generator.
    pub(crate) generator_processes: u32,
    /// At least so long until the whole crowd is there, each second as many: what users do in rounds of
    /// their own is spread over that time, as WireGuard's renewal of keys every two minutes. Without it,
    /// users come as fast as they can.
    #[serde(default)]
    pub(crate) population_seconds: f64,
    /// Distance of a user's CRLF keep-alives over a stream (RFC 5626 §4.4.1).
    pub(crate) keep_alive_seconds: u16,
    /// Distance of a tunnel's persistent keep-alives, in place of these; that of a mapping of UDP in a
    /// NAT (RFC 5626 §4.4.2 has 24 to 29 s).
    pub(crate) tunnel_keep_alive_seconds: u16,
    /// Lifetime of registrations.
    pub(crate) expires_seconds: u32,
    /// How often each user of the crowd refreshes its registration during the hold.
    pub(crate) refresh_seconds: f64,
    /// How long the crowd is held, refreshing, before it is called.
    pub(crate) hold_seconds: f64,
    /// Each of the windows in which nothing but keep-alives passes, so that their cost is known.
    pub(crate) calm_seconds: f64,
    /// Wait before memory is read, for stacks over datagrams, whose transactions last 32 s.
    #[serde(default)]
    pub(crate) rest_seconds: f64,
    /// Users beside the crowd, of which some register as newcomers; all of them call.
    pub(crate) visitors: u32,
    /// Those that register as newcomers.
    pub(crate) registrations: u32,
    /// How fast.
    pub(crate) registrations_per_second: f64,
    /// Calls of visitors to random users of the crowd.
    pub(crate) calls: u32,
    /// How fast.
    pub(crate) calls_per_second: f64,
    /// Repetitions.
    #[serde(default = "once")]
    pub(crate) blocks: u32,
    /// Which of the plan's stacks are asked; without the key, all.
    #[serde(default)]
    pub(crate) stacks: Vec<String>,
}

/// Both ends of a TLS handshake want a fraction of a millisecond, and a throughput window 100 of them.
const LOAD_SECONDS_MIN: f64 = 0.1;
/// Processes that either side may have.
const PROCESSES_MAX: u32 = 64;

fn once() -> u32 {
    1
}

impl Scale {
    pub(super) fn check(&self, place: &str) -> anyhow::Result<()> {
        let is_ascending = self.users.is_sorted_by(|a, b| a < b);
        ensure!(
            is_ascending && self.users.first().is_some_and(|fewest| *fewest > 0),
            "`{place}.users` must be positive and ascending"
        );
        for (key, processes) in [
            ("workers", self.workers),
            ("generator_processes", self.generator_processes),
        ] {
            ensure!(
                (1..=PROCESSES_MAX).contains(&processes),
                "`{place}.{key}` is {processes}; allowed is 1 to {PROCESSES_MAX}"
            );
        }
        let fewest = self.users[0];
        ensure!(
            fewest >= self.generator_processes,
            "`{place}.generator_processes` is {} for {fewest} users: each needs a user of its own",
            self.generator_processes
        );
        ensure!(
            self.blocks > 0,
            "`{place}.blocks` is 0: a figure needs at least one block"
        );
        let seconds = [
            ("refresh_seconds", self.refresh_seconds),
            ("hold_seconds", self.hold_seconds),
            ("calm_seconds", self.calm_seconds),
            ("rest_seconds", self.rest_seconds),
            ("population_seconds", self.population_seconds),
        ];
        for (key, seconds) in seconds {
            check_seconds(&format!("{place}.{key}"), seconds)?;
        }
        self.check_periods(place)?;
        self.check_loads(place)?;
        check_stacks(place, &self.stacks)
    }

    /// Whether registrations are refreshed in time, and flows kept alive as RFC 5626 lets them.
    fn check_periods(&self, place: &str) -> anyhow::Result<()> {
        ensure!(
            self.calm_seconds >= LOAD_SECONDS_MIN,
            "`{place}.calm_seconds` is {}: what idle users cost needs at least {LOAD_SECONDS_MIN} s",
            self.calm_seconds
        );
        ensure!(
            self.keep_alive_seconds >= 20,
            "`{place}.keep_alive_seconds` is {}; allowed is 20 or more: a pong may take 10",
            self.keep_alive_seconds
        );
        ensure!(
            self.tunnel_keep_alive_seconds > 0,
            "`{place}.tunnel_keep_alive_seconds` is 0; allowed is 1 or more"
        );
        let expires = f64::from(self.expires_seconds);
        ensure!(
            self.refresh_seconds > 0.0 && self.refresh_seconds * 2.0 <= expires,
            "`{place}.refresh_seconds` is {}; allowed is more than 0 and at most half of \
             `expires_seconds`, {expires}",
            self.refresh_seconds
        );
        Ok(())
    }

    /// Whether the visitors suffice for what they are to do, within reasonable time.
    fn check_loads(&self, place: &str) -> anyhow::Result<()> {
        ensure!(
            self.registrations <= self.visitors,
            "`{place}.registrations` is {}, of {} visitors: each comes once",
            self.registrations,
            self.visitors
        );
        let loads = [
            (
                "registrations",
                self.registrations,
                self.registrations_per_second,
            ),
            ("calls", self.calls, self.calls_per_second),
        ];
        for (key, count, per_second) in loads {
            ensure!(
                per_second.is_finite() && (0.001..=1e6).contains(&per_second),
                "`{place}.{key}_per_second` is {per_second}; allowed is 0.001 to 1,000,000"
            );
            let seconds = f64::from(count) / per_second;
            ensure!(
                (LOAD_SECONDS_MIN..=86_400.0).contains(&seconds),
                "`{place}.{key}` at `{key}_per_second` take {seconds} s; allowed is \
                 {LOAD_SECONDS_MIN} to 86,400"
            );
        }
        Ok(())
    }

    /// How long the visitors' registrations take.
    pub(crate) fn registering_seconds(&self) -> f64 {
        f64::from(self.registrations) / self.registrations_per_second
    }

    /// How long their calls take.
    pub(crate) fn calling_seconds(&self) -> f64 {
        f64::from(self.calls) / self.calls_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_refused;

    #[test]
    fn errors_name_the_place_and_what_is_allowed() {
        let good = include_str!("../../scenarios/scale.toml");
        let cases = [
            ("users = [1000]", "users = []", "scale[0].users"),
            ("users = [1000]", "users = [4]", "each needs a user"),
            ("workers = 6", "workers = 0", "scale[0].workers"),
            ("workers = 6", "workers = 65", "1 to 64"),
            (
                "refresh_seconds = 30.0",
                "refresh_seconds = 400.0",
                "half of",
            ),
            (
                "\nkeep_alive_seconds = 120",
                "\nkeep_alive_seconds = 5",
                "20 or more",
            ),
            (
                "registrations = 3000",
                "registrations = 5000",
                "each comes once",
            ),
            (
                "calls_per_second = 1000.0",
                "calls_per_second = 0.0",
                "calls_per_second",
            ),
            ("calm_seconds = 10.0", "calm_seconds = 0.0", "calm_seconds"),
            ("hold_seconds = 30.0", "hold_seconds = -1.0", "hold_seconds"),
            (
                "tunnel_keep_alive_seconds = 25",
                "tunnel_keep_alive_seconds = 0",
                "1 or more",
            ),
        ];
        for (from, to, expected) in cases {
            assert_refused(good, from, to, &[expected]);
        }
    }
}
