//! What a report asks: for each experiment its columns and its headline. Beneath [`super::summary`]; it
//! knows metric keys and reads no run.

use hopbench::record::{Cell, Unit};

/// In place of a topology: a fit over the lengths of a chain.
pub(super) const FIT: &str = "chain";

/// Likewise: a fit over round-trip times of the lab's links.
pub(super) const ROUND_TRIPS: &str = "round-trips";

/// How the cells end that tell of a stack how its costs grow with the crowd.
const GROWTH_ENDING: &str = "?users=growth";

/// What an experiment asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Setup,
    Memory,
    Throughput,
    Chain,
    /// Latency over links that delay and lose.
    Link,
    /// What fits through narrow hops.
    Rate,
    Scale,
    /// The highest rate with zero failures.
    Search,
    /// Where latency bends.
    Knee,
}

/// One figure of a block: where it is found, what it is called.
pub(super) struct Column {
    pub(super) heading: &'static str,
    pub(super) metric: &'static str,
    pub(super) statistic: Statistic,
    /// Stage of a connection's life at which it is read; memory only.
    pub(super) stage: Option<&'static str>,
    pub(super) unit: Unit,
}

/// What is shown of a metric.
pub(super) enum Statistic {
    Value,
    /// Of a security handshake, that of the tunnel.
    OfTunnel,
    /// Likewise, that of TLS.
    OfTls,
    P99,
    /// Lower end of the 95 % interval.
    Low,
    /// Upper end.
    High,
}

impl Question {
    /// In the order of the report.
    pub(super) const ALL: [Self; 9] = [
        Self::Setup,
        Self::Memory,
        Self::Throughput,
        Self::Chain,
        Self::Link,
        Self::Rate,
        Self::Scale,
        Self::Search,
        Self::Knee,
    ];

    /// What tells its rows apart.
    pub(super) fn row_heading(self) -> &'static str {
        match self {
            Self::Setup
            | Self::Memory
            | Self::Throughput
            | Self::Chain
            | Self::Link
            | Self::Search
            | Self::Knee => "stack",
            Self::Rate => "stack, hop",
            Self::Scale => "stack, users",
        }
    }

    /// The figures of a block.
    pub(super) fn columns(self, workload: &str) -> &'static [Column] {
        match (self, workload) {
            (Self::Setup, _) => &SETUP,
            (Self::Memory, _) => &MEMORY,
            (Self::Throughput, "invite" | "mixed") => &INVITE,
            (Self::Throughput, "avalanche") => &AVALANCHE,
            (Self::Throughput, _) => &REGISTER,
            (Self::Chain, _) => &CHAIN,
            (Self::Link, "invite") => &CALLS_OVER_LINKS,
            (Self::Link, _) => &LINK,
            (Self::Rate, "invite") => &CALLS_THAT_FIT,
            (Self::Rate, _) => &REGISTRATIONS_THAT_FIT,
            (Self::Scale, _) => &SCALE,
            (Self::Search, "register") => &REGISTRATIONS,
            (Self::Search, "reregister") => &REREGISTRATIONS,
            (Self::Search, _) => &SESSIONS,
            (Self::Knee, _) => &KNEE,
        }
    }

    /// As the experiment is called in a cell.
    pub(super) fn experiment(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Memory => "memory",
            Self::Throughput => "throughput",
            Self::Chain => "chain",
            Self::Link => "link",
            Self::Rate => "rate",
            Self::Scale => "scale",
            Self::Search => "search",
            Self::Knee => "knee",
        }
    }

    /// Whether a cell is of its table: of a chain, the fit is; of crowds, those that were there.
    pub(super) fn is_asked_by(self, cell: &Cell) -> bool {
        let is_shown = match self {
            Self::Setup
            | Self::Memory
            | Self::Throughput
            | Self::Rate
            | Self::Search
            | Self::Knee => true,
            Self::Chain => cell.topology == FIT,
            Self::Link => cell.topology == ROUND_TRIPS,
            Self::Scale => !is_growth(cell),
        };
        is_shown && cell.experiment == self.experiment()
    }

    /// What a block of it is called.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Setup => "Set-up, median",
            Self::Memory => "Memory per connection",
            Self::Throughput => "Throughput",
            Self::Chain => "Chain, fixed cost and cost of each further hop",
            Self::Link => "Round trips of a link",
            Self::Rate => "Narrow hops",
            Self::Scale => "Scale, serving others beside the crowd",
            Self::Search => "Highest rate with zero failures",
            Self::Knee => "Knee of latency over the offered rate",
        }
    }

    /// The metric that prices are formed from.
    pub(super) fn headline(self, workload: &str) -> &'static str {
        match self {
            Self::Setup => "hop_ready_to_registered_ns",
            Self::Memory => "server_heap_bytes_per_connection",
            Self::Throughput => "server_cpu_ns_per_operation",
            Self::Chain => "server_cpu_per_hop_ns",
            Self::Link => match workload {
                "invite" => "session_request_delay_per_round_trip_ratio",
                _ => "setup_latency_per_round_trip_ratio",
            },
            Self::Rate => "fitting_per_second",
            Self::Scale => "server_cpu_ns_per_call",
            Self::Search => match workload {
                "register" => "registration_rate",
                "reregister" => "reregistration_rate",
                _ => "session_establishment_rate",
            },
            Self::Knee => "knee_per_second",
        }
    }

    /// What the headline is, short enough for a table.
    pub(super) fn headline_name(self, workload: &str) -> String {
        match self {
            Self::Setup => "time to registered".to_owned(),
            Self::Memory => "server heap".to_owned(),
            Self::Throughput => format!("CPU/{}", operation(workload)),
            Self::Chain => "CPU/further hop".to_owned(),
            Self::Link => match workload {
                "invite" => "round trips/call".to_owned(),
                _ => "round trips/set-up".to_owned(),
            },
            Self::Rate => format!("{} rate, narrow hop", operation(workload)),
            Self::Scale => "CPU/call beside a crowd".to_owned(),
            Self::Search => format!("highest {} rate", operation(workload)),
            Self::Knee => format!("{} rate at the knee", operation(workload)),
        }
    }

    /// The stage at which the headline is read.
    pub(super) fn headline_stage(self) -> Option<&'static str> {
        match self {
            Self::Setup
            | Self::Throughput
            | Self::Chain
            | Self::Link
            | Self::Rate
            | Self::Scale
            | Self::Search
            | Self::Knee => None,
            Self::Memory => Some("registered"),
        }
    }
}

/// Whether a cell tells of a stack how its costs grow with the crowd.
pub(super) fn is_growth(cell: &Cell) -> bool {
    cell.id.ends_with(GROWTH_ENDING)
}

/// One operation of a workload, for prose.
pub(super) fn operation(workload: &str) -> &str {
    match workload {
        "register" => "registration",
        "reregister" => "refresh",
        "invite" => "call",
        "mixed" => "operation",
        "avalanche" => "return",
        other => other,
    }
}

const fn column(heading: &'static str, metric: &'static str, unit: Unit) -> Column {
    Column {
        heading,
        metric,
        statistic: Statistic::Value,
        stage: None,
        unit,
    }
}

const fn p99(heading: &'static str, metric: &'static str) -> Column {
    Column {
        heading,
        metric,
        statistic: Statistic::P99,
        stage: None,
        unit: Unit::Ns,
    }
}

const fn at(stage: &'static str, heading: &'static str, metric: &'static str) -> Column {
    Column {
        heading,
        metric,
        statistic: Statistic::Value,
        stage: Some(stage),
        unit: Unit::Bytes,
    }
}

const fn end(heading: &'static str, metric: &'static str, statistic: Statistic) -> Column {
    Column {
        heading,
        metric,
        statistic,
        stage: None,
        unit: Unit::Ns,
    }
}

const SETUP: [Column; 7] = [
    end("tunnel", "security_handshake_ns", Statistic::OfTunnel),
    column("connect", "transport_connect_ns", Unit::Ns),
    end("TLS", "security_handshake_ns", Statistic::OfTls),
    column("set-up", "setup_latency_ns", Unit::Ns),
    column("response", "first_response_ns", Unit::Ns),
    column("registered", "hop_ready_to_registered_ns", Unit::Ns),
    p99("p99", "hop_ready_to_registered_ns"),
];
const MEMORY: [Column; 5] = [
    at(
        "handshaken",
        "server heap, handshaken",
        "server_heap_bytes_per_connection",
    ),
    at(
        "registered",
        "server heap, registered",
        "server_heap_bytes_per_connection",
    ),
    at(
        "registered",
        "server RSS",
        "server_rss_bytes_per_connection",
    ),
    at(
        "registered",
        "client heap, registered",
        "client_heap_bytes_per_connection",
    ),
    at(
        "registered",
        "client RSS",
        "client_rss_bytes_per_connection",
    ),
];
const REGISTER: [Column; 6] = [
    column("offered", "offered_per_second", Unit::PerSecond),
    column("achieved", "achieved_per_second", Unit::PerSecond),
    column("server CPU", "server_cpu_ns_per_operation", Unit::Ns),
    column("client CPU", "client_cpu_ns_per_operation", Unit::Ns),
    column("registered", "hop_ready_to_registered_ns", Unit::Ns),
    p99("p99", "hop_ready_to_registered_ns"),
];
const INVITE: [Column; 6] = [
    column("offered", "offered_per_second", Unit::PerSecond),
    column("achieved", "achieved_per_second", Unit::PerSecond),
    column("server CPU", "server_cpu_ns_per_operation", Unit::Ns),
    column("client CPU", "client_cpu_ns_per_operation", Unit::Ns),
    column("call set up", "session_request_delay_ns", Unit::Ns),
    p99("p99", "session_request_delay_ns"),
];
const AVALANCHE: [Column; 7] = [
    column("all back", "avalanche_recovery_ns", Unit::Ns),
    column("outage", "outage_ns", Unit::Ns),
    p99("p99", "outage_ns"),
    column("refused", "refused_count", Unit::Count),
    column("retried", "retried_count", Unit::Count),
    column("server CPU", "server_cpu_ns_per_operation", Unit::Ns),
    column("client CPU", "client_cpu_ns_per_operation", Unit::Ns),
];
const CHAIN: [Column; 10] = [
    column("SRD, no proxy", "session_request_delay_fixed_ns", Unit::Ns),
    column("SRD, per hop", "session_request_delay_per_hop_ns", Unit::Ns),
    end("from", "session_request_delay_per_hop_ns", Statistic::Low),
    end("to", "session_request_delay_per_hop_ns", Statistic::High),
    column("r²", "session_request_delay_r_squared_ratio", Unit::Ratio),
    column("CPU, no proxy", "server_cpu_fixed_ns", Unit::Ns),
    column("CPU, per hop", "server_cpu_per_hop_ns", Unit::Ns),
    end("from", "server_cpu_per_hop_ns", Statistic::Low),
    end("to", "server_cpu_per_hop_ns", Statistic::High),
    column("r²", "server_cpu_r_squared_ratio", Unit::Ratio),
];
const LINK: [Column; 6] = [
    column(
        "trips, ready",
        "setup_latency_per_round_trip_ratio",
        Unit::Ratio,
    ),
    column("beside", "setup_latency_at_no_distance_ns", Unit::Ns),
    column(
        "r²",
        "setup_latency_per_round_trip_r_squared_ratio",
        Unit::Ratio,
    ),
    column(
        "trips, registered",
        "registered_per_round_trip_ratio",
        Unit::Ratio,
    ),
    column("beside", "registered_at_no_distance_ns", Unit::Ns),
    column(
        "r²",
        "registered_per_round_trip_r_squared_ratio",
        Unit::Ratio,
    ),
];
const CALLS_OVER_LINKS: [Column; 3] = [
    column(
        "trips, call",
        "session_request_delay_per_round_trip_ratio",
        Unit::Ratio,
    ),
    column(
        "beside",
        "session_request_delay_at_no_distance_ns",
        Unit::Ns,
    ),
    column(
        "r²",
        "session_request_delay_per_round_trip_r_squared_ratio",
        Unit::Ratio,
    ),
];
const REGISTRATIONS_THAT_FIT: [Column; 8] = columns_of_a_hop("hop_ready_to_registered_ns");
const CALLS_THAT_FIT: [Column; 8] = columns_of_a_hop("session_request_delay_ns");

/// `latency` is that of an operation alone.
const fn columns_of_a_hop(latency: &'static str) -> [Column; 8] {
    [
        column("predicted", "predicted_per_second", Unit::PerSecond),
        column("fits", "fitting_per_second", Unit::PerSecond),
        column("alone", latency, Unit::Ns),
        column("all, bytes", "serialised_ns", Unit::Ns),
        column("overload, ÷ pred.", "overload_achieved_ratio", Unit::Ratio),
        column("again, SIP", "overload_retransmissions_count", Unit::Count),
        column(
            "again, TCP",
            "overload_tcp_retransmissions_count",
            Unit::Count,
        ),
        column(
            "queue, drops",
            "overload_link_queue_drops_count",
            Unit::Count,
        ),
    ]
}

const SCALE: [Column; 7] = [
    column("CPU, call", "server_cpu_ns_per_call", Unit::Ns),
    column("CPU, reg.", "server_cpu_ns_per_registration", Unit::Ns),
    column("SRD", "session_request_delay_ns", Unit::Ns),
    p99("p99", "session_request_delay_ns"),
    column("set-up", "setup_latency_ns", Unit::Ns),
    column("registered", "hop_ready_to_registered_ns", Unit::Ns),
    column("calls, failed", "call_failed_count", Unit::Count),
];

const SESSIONS: [Column; 5] = rate_columns("session_establishment_rate");
const REGISTRATIONS: [Column; 5] = rate_columns("registration_rate");
const REREGISTRATIONS: [Column; 5] = rate_columns("reregistration_rate");
const KNEE: [Column; 7] = [
    column("knee", "knee_per_second", Unit::PerSecond),
    column("held", "search_held_per_second", Unit::PerSecond),
    column("past, from", "search_ceiling_per_second", Unit::PerSecond),
    column("p99, lowest", "lowest_rate_latency_p99_ns", Unit::Ns),
    column("p99, at knee", "knee_latency_p99_ns", Unit::Ns),
    column("lag p99, at half", "half_knee_lag_p99_ns", Unit::Ns),
    column("steps", "search_steps_count", Unit::Count),
];

const fn rate_columns(rate: &'static str) -> [Column; 5] {
    [
        column("highest", rate, Unit::PerSecond),
        column("held", "search_held_per_second", Unit::PerSecond),
        column("failed, from", "search_ceiling_per_second", Unit::PerSecond),
        column("steps", "search_steps_count", Unit::Count),
        column("attempts", "search_attempts_count", Unit::Count),
    ]
}

/// How a crowd comes and rests.
pub(super) const CROWD: [Column; 7] = [
    column("users, held", "registered_count", Unit::Count),
    column("came in", "population_ns", Unit::Ns),
    column("rate", "population_per_second", Unit::PerSecond),
    column("CPU, server, idle", "idle_server_cpu_ratio", Unit::Ratio),
    column("CPU, client, idle", "idle_client_cpu_ratio", Unit::Ratio),
    column("lost, hops", "lost_hops_count", Unit::Count),
    column("peak, memory", "peak_memory_bytes", Unit::Bytes),
];
/// What one user of a crowd takes.
pub(super) const CROWD_USER: [Column; 7] = [
    column(
        "heap, server",
        "server_heap_bytes_per_connection",
        Unit::Bytes,
    ),
    column(
        "RSS, server",
        "server_rss_bytes_per_connection",
        Unit::Bytes,
    ),
    column(
        "heap, client",
        "client_heap_bytes_per_connection",
        Unit::Bytes,
    ),
    column(
        "RSS, client",
        "client_rss_bytes_per_connection",
        Unit::Bytes,
    ),
    column("kernel", "kernel_bytes_per_connection", Unit::Bytes),
    column(
        "CPU, server",
        "population_server_cpu_ns_per_registration",
        Unit::Ns,
    ),
    column(
        "CPU, client",
        "population_client_cpu_ns_per_registration",
        Unit::Ns,
    ),
];
/// How costs grow with the crowd: in parts of the figure with the fewest users for ten times the users,
/// and with the most users ÷ with the fewest.
pub(super) const GROWTH: [Column; 8] = [
    column(
        "CPU/call, for ×10",
        "server_cpu_per_call_growth_per_decade_ratio",
        Unit::Ratio,
    ),
    column(
        "most ÷, fewest",
        "server_cpu_per_call_most_to_fewest_ratio",
        Unit::Ratio,
    ),
    column(
        "SRD, for ×10",
        "session_request_delay_growth_per_decade_ratio",
        Unit::Ratio,
    ),
    column(
        "most ÷, fewest",
        "session_request_delay_most_to_fewest_ratio",
        Unit::Ratio,
    ),
    column(
        "CPU/reg., for ×10",
        "server_cpu_per_registration_growth_per_decade_ratio",
        Unit::Ratio,
    ),
    column(
        "most ÷, fewest",
        "server_cpu_per_registration_most_to_fewest_ratio",
        Unit::Ratio,
    ),
    column(
        "registered, for ×10",
        "registered_growth_per_decade_ratio",
        Unit::Ratio,
    ),
    column(
        "most ÷, fewest",
        "registered_most_to_fewest_ratio",
        Unit::Ratio,
    ),
];
