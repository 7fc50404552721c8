//! Gates against the made-up run of the reports' tests.

#![allow(clippy::unwrap_used)]

use hopbench::record::Verdict;

use super::*;
use crate::report::fixture;

fn gate(text: &str) -> Gate {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn outcome(
    text: &str,
    head: &hopbench::record::Run,
    base: Option<&hopbench::record::Run>,
) -> (bool, usize) {
    let gate = gate(text);
    let outcome = gate
        .check(Runs { head, base })
        .unwrap_or_else(|error| panic!("{error}"));
    (outcome.holds(), outcome.rows.len())
}

/// The figures of the fixture: hop set-up 0.837 ms over tls and 0.046 ms over tcp, heap 16,200 and 5,200
/// bytes when registered.
#[test]
fn thresholds_of_one_run() {
    let run = fixture::run();
    let cases = [
        ("setup.tls.security_handshake_ns < 1 ms", true),
        ("setup.tls.security_handshake_ns < 700 µs", false),
        ("setup.tls.security_handshake_ns > 700us", true),
        (
            "setup.tls.setup_latency_ns < 30 * tcp.setup_latency_ns",
            true,
        ),
        (
            "setup.tls.setup_latency_ns < 3 * tcp.setup_latency_ns",
            false,
        ),
        (
            "memory.tls.registered.server_heap_bytes_per_connection < 20 KiB",
            true,
        ),
        (
            "registered.tls.server_heap_bytes_per_connection < 16 kB",
            false,
        ),
        (
            "tls.registered.server_heap_bytes_per_connection <= 16_200 B",
            true,
        ),
        (
            "tls.stage=registered.server_heap_bytes_per_connection - 1 KiB < 15 KiB",
            true,
        ),
        (
            "registered.tls.server_heap_bytes_per_connection / tcp.server_heap_bytes_per_connection < 4",
            true,
        ),
        ("3 * (setup.tcp.setup_latency_ns + 1 ms) > 3 ms", true),
        (
            "setup.tls.first_response_ns.p99 > 1.0 * setup.tls.first_response_ns.p50",
            true,
        ),
        (
            "setup.tls.first_response_ns.ci95_low < setup.tls.first_response_ns.ci95_high",
            true,
        ),
        ("throughput.register.tcp.achieved_per_second > 1 /s", true),
    ];
    for (text, expected) in cases {
        assert_eq!(outcome(text, &run, None), (expected, 1), "{text}");
    }
}

#[test]
fn each_is_about_every_cell_and_others_follow_it() {
    let run = fixture::run();
    let (holds, rows) = outcome(
        "each registered.server_heap_bytes_per_connection < 1 MiB",
        &run,
        None,
    );
    assert_eq!((holds, rows), (true, 9));
    // Each workload over tls against the same over tcp; the cell that the generator bounded fails it.
    let text = "each throughput.register.tls.server_cpu_ns_per_operation \
                < 6 * tcp.server_cpu_ns_per_operation";
    let (holds, rows) = outcome(text, &run, None);
    assert!(
        holds && rows == 2,
        "{holds} {rows}: the usual way, and resumed"
    );
    let text = text.replace("register", "invite");
    assert!(!outcome(&text, &run, None).0);
}

#[test]
fn base_is_the_same_figure_of_the_other_run() {
    let base = fixture::run();
    let mut head = base.clone();
    let key = "server_heap_bytes_per_connection";
    for cell in head.cells.iter_mut().filter(|cell| cell.stack == "tls") {
        if let Some(metric) = cell.metrics.get_mut(key) {
            metric.value = metric.value.map(|bytes| 1.04 * bytes);
        }
    }
    let holds = |text: &str| outcome(text, &head, Some(&base)).0;
    assert!(!holds(
        "each memory.server_heap_bytes_per_connection <= 1.03 * base"
    ));
    assert!(holds(
        "each memory.server_heap_bytes_per_connection <= 1.05 * base"
    ));
    assert!(holds(
        "each memory.tcp.server_heap_bytes_per_connection <= base"
    ));
    assert!(holds(
        "head.memory.registered.tls.server_heap_bytes_per_connection > 1.03 * base"
    ));
    let text = "registered.tls.server_heap_bytes_per_connection \
                < 1.05 * base.registered.tls.server_heap_bytes_per_connection";
    assert!(holds(text));
    let gates = [("tls.setup.setup_latency_ns < 1 s", false), (text, true)];
    for (text, needs) in gates {
        assert_eq!(gate(text).needs_base(), needs, "{text}");
    }
    // Without BASE there is nothing to hold it against, and nothing passes.
    assert!(
        !outcome(
            "each memory.server_heap_bytes_per_connection <= 1.03 * base",
            &head,
            None
        )
        .0
    );
}

#[test]
fn what_is_missing_fails() {
    let base = fixture::run();
    // The fixture's mtls cell of `setup` has failed; udp has no TCP handshake.
    assert!(!outcome("setup.mtls.setup_latency_ns < 1 s", &base, None).0);
    assert!(!outcome("setup.udp.transport_connect_ns < 1 s", &base, None).0);
    assert!(!outcome("each setup.setup_latency_ns < 1 s", &base, None).0);
    assert!(!outcome("trapezoid.tls.setup_latency_ns < 1 s", &base, None).0);
    assert!(!outcome("each core_stack=tcp.setup_latency_ns < 1 s", &base, None).0);
    let against = "each registered.server_heap_bytes_per_connection <= base";
    assert!(outcome(against, &base, Some(&base)).0);
    let is_tls = |cell: &Cell| cell.experiment == "memory" && cell.stack == "tls";
    let spoils: [fn(&mut Cell); 3] = [
        |cell| cell.verdict = Verdict::Failed,
        |cell| cell.metrics.clear(),
        |cell| cell.id.push('x'),
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let mut head = base.clone();
        head.cells
            .iter_mut()
            .filter(|cell| is_tls(cell))
            .for_each(spoil);
        assert!(!outcome(against, &head, Some(&base)).0, "spoil {number}");
    }
}

fn problem(text: &str) -> String {
    let run = fixture::run();
    let parsed = text.parse::<Gate>();
    let error = match &parsed {
        Err(error) => error.clone(),
        Ok(gate) => {
            let checked = gate.check(Runs {
                head: &run,
                base: None,
            });
            checked.expect_err(text)
        }
    };
    error.to_string()
}

#[test]
fn errors_point_at_the_place_and_say_what_there_is() {
    let cases = [
        (
            "tls.server_heep_bytes_per_connection < 1 B",
            "did you mean `server_heap_bytes_per_connection`?",
        ),
        ("tlss.setup.setup_latency_ns < 1 s", "did you mean `tls`?"),
        (
            "setup.tls.setup_latency_ns.p98 < 1 s",
            "there is no statistic `p98`; there are: value",
        ),
        (
            "setup.tls.setup_latency_ns < 1 h",
            "there is no unit `h`; there are: ns",
        ),
        (
            "setup.tls.setup_latency_ns < 5",
            "give it a unit, such as `5 ms`",
        ),
        (
            "setup.tls.setup_latency_ns < 5 KiB",
            "a time cannot be compared with a number of bytes",
        ),
        (
            "setup.tls.setup_latency_ns + 3 < 5 ms",
            "a time cannot be added to a bare number",
        ),
        (
            "setup.tls.setup_latency_ns 5 ms",
            "expected `<`, `<=`, `>` or `>=`, found `5`",
        ),
        ("setup.tls.setup_latency_ns <", "found the end of the gate"),
        (
            "(setup.tls.setup_latency_ns < 5 ms",
            "expected `)`, found `<`",
        ),
        ("3 < 5", "expected a figure"),
        ("base < 5 ms", "`base` stands for the first figure"),
        (
            "tls.server_heap_bytes_per_connection < 20 KiB",
            "name the one that is meant",
        ),
    ];
    for (text, expected) in cases {
        let problem = problem(text);
        assert!(problem.contains(expected), "{text}: {problem}");
        assert!(
            problem.contains(text) && problem.contains('^'),
            "{text}: {problem}"
        );
    }
    let unknown = problem("setup.tls.setup_latency_ns < 1 h");
    let [_, text, carets] = unknown.lines().collect::<Vec<_>>()[..] else {
        panic!("{unknown}");
    };
    assert_eq!(
        carets.find('^'),
        text.find("h").map(|_| text.len() - 1),
        "{unknown}"
    );
}

#[test]
fn an_ambiguous_figure_lists_what_it_may_mean() {
    let problem = problem("memory.tls.server_heap_bytes_per_connection < 20 KiB");
    assert!(
        problem.contains("    memory.tls.handshaken.server_heap_bytes_per_connection"),
        "{problem}"
    );
    assert!(
        problem.contains("    memory.tls.registered.server_heap_bytes_per_connection"),
        "{problem}"
    );
}

#[test]
fn the_table_says_what_failed_by_how_much() {
    let run = fixture::run();
    let gates = [
        gate("setup.tls.setup_latency_ns < 3 * tcp.setup_latency_ns"),
        gate("each registered.server_heap_bytes_per_connection < 1 MiB"),
        gate("setup.mtls.setup_latency_ns < 1 s"),
    ];
    let outcomes = check_all(
        &gates,
        Runs {
            head: &run,
            base: None,
        },
    )
    .unwrap();
    let text = table(&outcomes);
    assert!(text.starts_with("2 of 3 gates fail\n"), "{text}");
    assert!(
        text.contains("FAIL  setup.tls.setup_latency_ns < 3 * tcp.setup_latency_ns"),
        "{text}"
    );
    assert!(text.contains(" × it"), "{text}");
    assert!(
        text.contains("9 cells; the nearest to the limit:"),
        "{text}"
    );
    assert!(text.contains("missing: setup/register/mtls"), "{text}");
    assert!(text.contains("certificate has expired"), "{text}");
    let markdown = markdown(&outcomes);
    assert_eq!(markdown.lines().count(), 2 + 3, "{markdown}");
    assert!(markdown.contains("| ❌ | `setup.tls"), "{markdown}");
}
