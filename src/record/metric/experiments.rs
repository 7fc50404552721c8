//! Keys of single experiments: crowds of users, links with delays, narrow hops.

use super::{Known, Unit, higher, lower, lower_ns};

/// What latencies tell together over links of several delays.
pub(super) const OVER_LINKS: &[Known] = &[
    lower_ns(
        "setup_latency_at_no_distance_ns",
        "Set-up over a link without a delay, by the fit",
    ),
    lower(
        "setup_latency_per_round_trip_ratio",
        Unit::Ratio,
        "Set-up, in round trips of the link, by the fit",
    ),
    higher(
        "setup_latency_per_round_trip_r_squared_ratio",
        Unit::Ratio,
        "Fit of set-up over round-trip times (r²)",
    ),
    lower_ns(
        "registered_at_no_distance_ns",
        "Time to registered over a link without a delay, by the fit",
    ),
    lower(
        "registered_per_round_trip_ratio",
        Unit::Ratio,
        "Time to registered, in round trips of the link, by the fit",
    ),
    higher(
        "registered_per_round_trip_r_squared_ratio",
        Unit::Ratio,
        "Fit of time to registered over round-trip times (r²)",
    ),
    lower_ns(
        "session_request_delay_at_no_distance_ns",
        "Session request delay over a link without a delay, by the fit",
    ),
    lower(
        "session_request_delay_per_round_trip_ratio",
        Unit::Ratio,
        "Session request delay, in round trips of the link, by the fit",
    ),
    higher(
        "session_request_delay_per_round_trip_r_squared_ratio",
        Unit::Ratio,
        "Fit of session request delay over round-trip times (r²)",
    ),
];

/// What passes a hop of a given rate: operations alone, as many as fit, and more than that.
pub(super) const OVER_NARROW_HOPS: &[Known] = &[
    lower(
        "onward_wire_bytes_per_operation",
        Unit::Bytes,
        "Bytes of IP packets per operation, from who opens hops",
    ),
    lower(
        "back_wire_bytes_per_operation",
        Unit::Bytes,
        "Bytes of IP packets per operation, to who opens hops",
    ),
    lower(
        "tcp_retransmissions_count",
        Unit::Count,
        "Segments that the kernel's TCP sent again although operations were alone on the hop",
    ),
    lower_ns(
        "serialised_ns",
        "Time that the hop takes to send all bytes of an operation, one after the other",
    ),
    higher(
        "predicted_per_second",
        Unit::PerSecond,
        "Operations that should fit, by the bytes of the fuller direction",
    ),
    higher(
        "fitting_per_second",
        Unit::PerSecond,
        "Highest rate tried at which all operations fitted",
    ),
    higher(
        "fitting_ratio",
        Unit::Ratio,
        "That rate ÷ the predicted one",
    ),
    lower_ns("fitting_latency_ns", "Latency at the rate that fits"),
    higher(
        "overload_offered_per_second",
        Unit::PerSecond,
        "More than should fit, as it was offered",
    ),
    higher(
        "overload_achieved_per_second",
        Unit::PerSecond,
        "What of that ended well",
    ),
    higher(
        "overload_achieved_ratio",
        Unit::Ratio,
        "What ended well when more was offered ÷ what should fit",
    ),
    lower(
        "overload_failed_count",
        Unit::Count,
        "Operations that failed, or had not ended, when more was offered than fits",
    ),
    lower(
        "overload_retransmissions_count",
        Unit::Count,
        "Requests sent again when more was offered than fits",
    ),
    lower(
        "overload_tcp_retransmissions_count",
        Unit::Count,
        "Segments that the kernel's TCP sent again when more was offered than fits",
    ),
    lower(
        "overload_link_queue_drops_count",
        Unit::Count,
        "Packets that found the hop's queue full when more was offered than fits",
    ),
];

/// A crowd of users at one node: their coming, their rest, what operations cost beside them, and how
/// that grows with the crowd.
pub(super) const AT_SCALE: &[Known] = &[
    lower_ns("population_ns", "Time until the whole crowd had registered"),
    higher(
        "population_per_second",
        Unit::PerSecond,
        "Registrations while the crowd came",
    ),
    lower_ns(
        "population_server_cpu_ns_per_registration",
        "Server CPU per registration while the crowd came",
    ),
    lower_ns(
        "population_client_cpu_ns_per_registration",
        "Client CPU per registration while the crowd came",
    ),
    higher(
        "registered_count",
        Unit::Count,
        "Users of the crowd registered at the end of the hold",
    ),
    lower(
        "idle_server_cpu_ratio",
        Unit::Ratio,
        "Server processors that an idle crowd keeps busy",
    ),
    lower(
        "idle_client_cpu_ratio",
        Unit::Ratio,
        "Client processors that an idle crowd keeps busy",
    ),
    lower_ns(
        "server_cpu_ns_per_call",
        "Server CPU per call, beyond the idle crowd's",
    ),
    lower_ns(
        "server_cpu_ns_per_registration",
        "Server CPU per registration, beyond the idle crowd's",
    ),
    lower_ns(
        "server_cpu_ns_per_refresh",
        "Server CPU per refresh, beyond the idle crowd's",
    ),
    lower_ns(
        "client_cpu_ns_per_refresh",
        "Client CPU per refresh, beyond the idle crowd's",
    ),
    lower("server_heap_bytes", Unit::Bytes, "Server heap, all workers"),
    lower("server_rss_bytes", Unit::Bytes, "Server RSS, all workers"),
    lower(
        "client_heap_bytes",
        Unit::Bytes,
        "Client heap, all processes",
    ),
    lower("client_rss_bytes", Unit::Bytes, "Client RSS, all processes"),
    lower("kernel_bytes", Unit::Bytes, "Kernel memory of all sockets"),
    lower(
        "peak_memory_bytes",
        Unit::Bytes,
        "Peak memory of both sides, the kernel's included",
    ),
    lower(
        "server_cpu_per_call_growth_per_decade_ratio",
        Unit::Ratio,
        "Growth of server CPU per call for ten times the users",
    ),
    lower(
        "server_cpu_per_call_most_to_fewest_ratio",
        Unit::Ratio,
        "Server CPU per call with the most users ÷ with the fewest",
    ),
    lower(
        "session_request_delay_growth_per_decade_ratio",
        Unit::Ratio,
        "Growth of session request delay for ten times the users",
    ),
    lower(
        "session_request_delay_most_to_fewest_ratio",
        Unit::Ratio,
        "Session request delay with the most users ÷ with the fewest",
    ),
    lower(
        "server_cpu_per_registration_growth_per_decade_ratio",
        Unit::Ratio,
        "Growth of server CPU per registration for ten times the users",
    ),
    lower(
        "server_cpu_per_registration_most_to_fewest_ratio",
        Unit::Ratio,
        "Server CPU per registration with the most users ÷ with the fewest",
    ),
    lower(
        "registered_growth_per_decade_ratio",
        Unit::Ratio,
        "Growth of the time until registered for ten times the users",
    ),
    lower(
        "registered_most_to_fewest_ratio",
        Unit::Ratio,
        "Time until registered with the most users ÷ with the fewest",
    ),
];
