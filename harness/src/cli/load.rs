//! `hopbench load`: the generator, for the testbed or by hand.

use std::fmt::Write as _;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use hopbench::load::{
    ArrivalLaw, BackOff, Generator, GeneratorConfig, Lifecycle, LoadPlan, LoadReport, Mix,
    Progress, Workload,
};
use hopbench::measure::snapshot::ProcessSnapshot;
use hopbench::measure::{cpu, heap};
use hopbench::record::metric;
use hopbench::sip::account::ANSWERING_USER;
use hopbench::transport::{self, Identity, Settings};

use super::tls::TlsArgs;
use super::tunnel::TunnelArgs;
use super::users::Users;
use super::{
    EXIT_ERROR, EXIT_FAILED_CELLS, EXIT_INTERRUPTED, EXIT_OK, by_name, credentials, names, usage,
};
use crate::interrupt;
use crate::limits::{self, Demand, Readings};
use crate::protocol::{LoadOrder, LoadReply};
use crate::rate::OfferedRate;
use crate::testbed::{Failure, Outcome, Placement, Testbed, can_have_sources};

/// Options of the generator.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    hopbench load --target 127.0.0.1:5060               a hopbench node, registrations over TCP\n  \
    hopbench load --target 127.0.0.1:5060 --workload invite --rate 500\n  \
    hopbench load --stack tls --target 127.0.0.1:5061 --credentials keys\n\n\
    A server that is not ours wants to be told who its users are, and over TLS whom to trust:\n  \
    HOPBENCH_PASSWORD=… hopbench load --stack tls --target sip.example.org:5061 --domain example.org \\\n    \
    --ca ca.pem --user-pattern 'alice{:04}' --accounts 500 --workload invite --callee echo\n\n\
    docs/load.md has an example with Kamailio.\n\n\
    Exit codes: 0 all operations succeeded; 1 the generator could not work; 2 wrong usage; 3 some \
    operations failed.")]
pub(crate) struct Args {
    /// Stack to speak; `hopbench list stacks` shows them
    #[arg(long, default_value = "tcp", value_parser = names::stacks(), hide_possible_values = true)]
    stack: String,
    /// The server, HOST:PORT; over a tunnel, its outer address
    #[arg(long, required_unless_present = "control", value_name = "HOST:PORT")]
    target: Option<String>,
    /// What an operation is: register, reregister (a refresh on the kept hop), invite (a call), mixed (a
    /// busy hour of all these, with calls that are cancelled or go to nobody), avalanche (every hop
    /// drops at once, and all users come back)
    #[arg(long, default_value = "register", value_parser = by_name::<Workload>)]
    workload: Workload,
    /// How long a connection is kept: per-registration, per-call, per-transaction. Calls know all
    /// three, register not per-call, the other workloads per-registration alone
    #[arg(long, default_value = "per-registration", value_parser = by_name::<Lifecycle>)]
    lifecycle: Lifecycle,
    /// Operations a second, whatever the server does; over the measurement it can change evenly
    /// (100..2000) or in steps of equal length (100,400,200)
    #[arg(long, default_value = "100", value_name = "PER_SECOND")]
    rate: OfferedRate,
    /// Gaps between operations: poisson, constant (where the rate changes, they grow or shrink with it)
    #[arg(long, default_value = "poisson", value_parser = by_name::<ArrivalLaw>)]
    arrivals: ArrivalLaw,
    /// Seconds of load before the measurement
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    warm_up: f64,
    /// Seconds of measurement
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    duration: f64,
    /// Seconds that operations may take to end after the measurement
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    drain: f64,
    /// Users that take turns; at most --accounts
    #[arg(long, value_name = "COUNT")]
    users: Option<u32>,
    /// Ping each connection this often, at least 20 (RFC 5626 §4.4.1), and count it as lost without a pong
    /// within 10 s
    #[arg(long, value_name = "SECONDS")]
    keep_alive: Option<f64>,
    /// Seconds from answer to hang-up
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    talk: f64,
    /// Seconds that the server lets calls ring, as --ring of a node says; mixed cancels some meanwhile
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    ring: f64,
    /// Seconds that users wait before they come back in an avalanche: 50 to 100 % of this, doubled with
    /// every failure (RFC 5626 has 30)
    #[arg(long, value_name = "SECONDS")]
    back_off: Option<f64>,
    /// Whom calls go to: a SIP URI, or the name of a user of the domain; in both {} is the caller's
    /// number, as in --user-pattern. A node that answers does so for "answer", for its users, and for
    /// whatever it is called at its own address; a proxy connects to who has registered
    #[arg(long, default_value = ANSWERING_USER, value_name = "USER")]
    callee: String,
    /// Threads of the generator, at least one for each process
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Processes of the generator, which share its threads and its users: each may hold as many
    /// connections as `ulimit -Hn` says
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: u32,
    /// Let starts and arrivals wait for each other so long, so that one wake-up serves them all: saves
    /// processor time at thousands of operations a second, and adds as much to lag and latencies
    #[arg(long, default_value_t = 0, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u64).range(..=10_000))]
    gather: u64,
    /// Lifetime that registrations ask for: an hour
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    expires: Option<u32>,
    /// Seed of the arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder of certificates and keys that a hopbench node made
    #[arg(long, value_name = "FOLDER")]
    credentials: Option<PathBuf>,
    /// Certificate authority to trust, in PEM, instead of the folder's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Name that the server's certificate must carry: the --domain, or the name in the folder's
    /// certificates
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Certificate chain to show to the server, in PEM
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Print the whole report as JSON
    #[arg(long)]
    json: bool,
    /// Be a child of the testbed: configuration and orders on standard input
    #[arg(long, hide = true)]
    control: bool,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    tunnel: TunnelArgs,
    #[command(flatten)]
    accounts: Users,
}

/// Loads a server and prints what came of it.
pub(crate) fn load(args: &Args) -> anyhow::Result<u8> {
    limits::raise_descriptor_limit();
    if args.control {
        return control();
    }
    let plan = args.plan().map_err(usage)?;
    let config = args.config().map_err(usage)?;
    args.check_limits(&plan, &config)?;
    let report = if args.processes > 1 {
        match run_in_processes(&config, &plan, args.processes) {
            Ok(report) => report,
            Err(Failure::Interrupted) => return Ok(EXIT_INTERRUPTED),
            Err(Failure::Failed(reason) | Failure::Unsupported(reason)) => bail!(reason),
        }
    } else {
        Generator::start(&config)?.run(&plan, |_| {})?
    };
    if args.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
    } else {
        super::print(&summary(&report));
    }
    Ok(if report.failed() == 0 && report.offered > 0 {
        EXIT_OK
    } else {
        EXIT_FAILED_CELLS
    })
}

/// The load by children of this process, wherever the scheduler wants them.
fn run_in_processes(
    config: &GeneratorConfig,
    plan: &LoadPlan,
    processes: u32,
) -> Outcome<LoadReport> {
    let failed = |error: anyhow::Error| Failure::Failed(super::words(&error));
    interrupt::watch().map_err(failed)?;
    let testbed = Testbed::new(Placement::default()).map_err(failed)?;
    testbed.load(config, processes, None)?.run_alone(plan)
}

impl Args {
    /// Whether the machine has what the load needs.
    fn check_limits(&self, plan: &LoadPlan, config: &GeneratorConfig) -> anyhow::Result<()> {
        let stack = transport::find(&config.stack)?;
        let has_sources = can_have_sources(config.target);
        let users = limits::hops_at_once(plan);
        let demand = Demand::of_generator(stack, users, self.processes, has_sources);
        match demand.unmet(&Readings::of_this_machine()) {
            None => Ok(()),
            Some(unmet) => Err(unmet).context("this machine does not suffice"),
        }
    }

    fn plan(&self) -> anyhow::Result<LoadPlan> {
        // As in scenarios: what clocks can add, and what throughput is counted in.
        let within = |name: &str, value: f64, low: f64, high: f64| {
            anyhow::ensure!(
                (low..=high).contains(&value),
                "--{name} is {value}; allowed is {low} to {high}"
            );
            Ok(value)
        };
        let seconds = |name: &str, value: f64| within(name, value, 0.0, 86_400.0);
        let accounts = self.accounts.count();
        let users = self.users.unwrap_or(accounts);
        anyhow::ensure!(
            (1..=accounts).contains(&users),
            "--users is {users}, but --accounts says that there are {accounts}: raise --accounts, on \
             the node too"
        );
        anyhow::ensure!(
            users >= self.workers.max(self.processes),
            "--users is {users}, --workers {} and --processes {}: each worker needs a user of its own",
            self.workers,
            self.processes
        );
        anyhow::ensure!(
            self.workload != Workload::Mixed || self.ring > 0.0,
            "--workload mixed cancels calls while they ring: say with --ring how long the server lets \
             them, as `hopbench node --ring` does"
        );
        let back_off = self.back_off()?;
        let within_reach = self.duration + self.drain;
        anyhow::ensure!(
            self.workload != Workload::Avalanche || back_off.base_seconds < within_reach,
            "users wait up to {} s before they come back, and --duration and --drain leave \
             {within_reach} s: raise --duration, or lower --back-off",
            back_off.base_seconds
        );
        let plan = LoadPlan {
            workload: self.workload,
            lifecycle: self.lifecycle,
            arrivals: self.arrivals,
            rate_per_second: self.rate.per_second,
            course: self.rate.course.clone(),
            warm_up_seconds: seconds("warm-up", self.warm_up)?,
            duration_seconds: within("duration", self.duration, 0.1, 86_400.0)?,
            drain_seconds: seconds("drain", self.drain)?,
            users,
            talk_seconds: seconds("talk", self.talk)?,
            ring_seconds: seconds("ring", self.ring)?,
            mix: Mix::default(),
            back_off,
            seed: self.seed,
        };
        plan.check()?;
        Ok(plan)
    }

    fn back_off(&self) -> anyhow::Result<BackOff> {
        let usual = BackOff::default();
        let base_seconds = self.back_off.unwrap_or(usual.base_seconds);
        anyhow::ensure!(
            (0.0..=usual.max_seconds).contains(&base_seconds),
            "--back-off is {base_seconds}; allowed is 0 to {}",
            usual.max_seconds
        );
        Ok(BackOff {
            base_seconds,
            ..usual
        })
    }

    fn config(&self) -> anyhow::Result<GeneratorConfig> {
        let stack = transport::find(&self.stack)?;
        let accounts = self.accounts.accounts()?;
        let accounts = accounts.with_callee(&self.callee).context("--callee")?;
        let mut settings = match &self.credentials {
            Some(folder) => credentials::open(folder, accounts.count())?,
            None => Settings::default(),
        };
        if let Some(seconds) = self.keep_alive {
            anyhow::ensure!(
                (20.0..=86_400.0).contains(&seconds),
                "--keep-alive is {seconds}; allowed is 20 to 86400 (a pong may take 10)"
            );
            settings.keep_alive = Some(Duration::from_secs_f64(seconds));
        }
        if let Some(ca) = &self.ca {
            // A SIP server's certificate names the domain that it serves (RFC 5922 §7.3).
            let name = self.server_name.as_deref().unwrap_or(accounts.domain());
            let client = settings.tls.take().and_then(|tls| tls.client);
            settings.tls = Some(transport::TlsSettings {
                client,
                ..credentials::trusting(ca, name)?
            });
        }
        if let Some(tls) = &mut settings.tls {
            if let Some(name) = &self.server_name {
                tls.server_name.clone_from(name);
            }
            if let (Some(chain), Some(key)) = (&self.client_cert, &self.client_key) {
                tls.client = Some(Identity::from_pem_files(chain, key)?);
            }
        }
        self.tls.check()?;
        self.tls.apply(&mut settings);
        self.tunnel.apply(&mut settings)?;
        let is_tunnel_protected = stack.protected && stack.tunnel.is_some();
        let is_missing = is_tunnel_protected && settings.wireguard.is_none()
            || stack.speaks_tls() && settings.tls.is_none();
        anyhow::ensure!(
            !is_missing,
            "the stack {} needs something to trust: add --credentials FOLDER (that of the node){}",
            stack.name,
            if stack.tunnel.is_none() {
                " or --ca FILE"
            } else {
                ""
            }
        );
        Ok(GeneratorConfig {
            workers: self.workers.max(self.processes),
            expires_seconds: self.expires,
            gather: Duration::from_micros(self.gather),
            // Of identifiers, not of arrivals: a server that is loaded twice must not see a Call-ID
            // twice.
            seed: rand::random(),
            ..GeneratorConfig::new(stack.name, self.target()?, settings, accounts)
        })
    }

    fn target(&self) -> anyhow::Result<SocketAddr> {
        let target = self.target.as_deref().unwrap_or_default();
        let mut found = target.to_socket_addrs().with_context(|| {
            format!("--target {target}: expected HOST:PORT, for example 127.0.0.1:5060")
        })?;
        found
            .next()
            .ok_or_else(|| anyhow!("--target {target}: the name has no address"))
    }
}

fn summary(report: &LoadReport) -> String {
    let mut text = String::new();
    let per_second = |count: u64| count as f64 / report.window_seconds;
    let _ = writeln!(
        text,
        "offered {:.1}/s, achieved {:.1}/s; {} of {} operations succeeded",
        per_second(report.offered),
        per_second(report.completed_in_window),
        report.succeeded,
        report.offered
    );
    for (cause, count) in &report.failures {
        let _ = writeln!(text, "  failed {count}: {cause}");
    }
    if report.retransmissions + report.unexpected + report.unsent + report.lost_hops > 0 {
        let _ = writeln!(
            text,
            "  {} retransmissions, {} messages that belonged to nothing, {} that no hop took, {} hops \
             lost",
            report.retransmissions, report.unexpected, report.unsent, report.lost_hops
        );
    }
    if let Some((before, after)) = report.before.zip(report.after) {
        let cpu_ns = after.cpu_ns.saturating_sub(before.cpu_ns);
        let _ = writeln!(
            text,
            "generator: {:.1} µs of processor time an operation; busiest worker {:.0} %",
            cpu_ns as f64 / 1e3 / report.completed_in_window.max(1) as f64,
            report.busiest_worker_ratio * 100.0
        );
    }
    let _ = writeln!(
        text,
        "\n{:<48} {:>10} {:>10} {:>10} {:>10}",
        "in µs", "p50", "p90", "p99", "max"
    );
    for (key, histogram) in &report.latencies {
        let title = metric::known(key).map_or(key.as_str(), |known| known.title);
        let at = |quantile| histogram.quantile_ns(quantile).unwrap_or_default() as f64 / 1e3;
        let _ = writeln!(
            text,
            "{title:<48} {:>10.1} {:>10.1} {:>10.1} {:>10.1}",
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
    }
    text
}

/// The testbed's generator.
fn control() -> anyhow::Result<u8> {
    let mut stdin = std::io::stdin().lock();
    let Some(config) = super::order::<GeneratorConfig>(&mut stdin)? else {
        return Ok(EXIT_OK);
    };
    let generator = match Generator::start(&config) {
        Ok(generator) => generator,
        Err(error) => {
            super::reply(&LoadReply::Failed {
                reason: error.to_string(),
            });
            return Ok(EXIT_ERROR);
        }
    };
    super::reply(&LoadReply::Ready);
    while let Some(order) = super::order(&mut stdin)? {
        let answer = match order {
            LoadOrder::Snapshot => Ok(LoadReply::Snapshot(Box::new(ProcessSnapshot::take()))),
            LoadOrder::Trace => {
                heap::trace();
                Ok(LoadReply::Snapshot(Box::new(
                    ProcessSnapshot::take_without_rss(),
                )))
            }
            LoadOrder::Populate { users, stage } => generator
                .populate(users, stage)
                .map(|()| LoadReply::Populated),
            LoadOrder::Prepare(plan) => generator.prepare(&plan).map(|()| LoadReply::Populated),
            LoadOrder::Run {
                plan,
                epoch_monotonic_ns,
            } => generator
                .run_at(&plan, instant(epoch_monotonic_ns), |progress| {
                    super::reply(&match progress {
                        Progress::MeasurementBegins => LoadReply::MeasurementBegins,
                        Progress::MeasurementEnds => LoadReply::MeasurementEnds,
                    });
                })
                .map(|report| LoadReply::Finished(Box::new(report))),
            LoadOrder::Standing => generator
                .standing()
                .map(|standing| LoadReply::Standing(Box::new(standing))),
        };
        super::reply(&answer.unwrap_or_else(|error| LoadReply::Failed {
            reason: error.to_string(),
        }));
    }
    Ok(EXIT_OK)
}

/// What another process of this machine calls `monotonic_ns`, if it is not long past.
fn instant(monotonic_ns: u64) -> Instant {
    let ahead = Duration::from_nanos(monotonic_ns.saturating_sub(cpu::monotonic_ns()));
    let late = Duration::from_nanos(cpu::monotonic_ns().saturating_sub(monotonic_ns));
    let now = Instant::now();
    (now + ahead).checked_sub(late).unwrap_or(now)
}
