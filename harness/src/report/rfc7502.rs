//! The report form of RFC 7502 §5, filled in for each stack whose rates were searched. A renderer.
//!
//! The form has one value a line; where the searches of a stack differ, the line says of which each is.

use std::collections::BTreeMap;
use std::fmt::Write;

use hopbench::record::{Cell, Run, Verdict};
use serde_json::Value;

use super::question::Question;
use super::summary::stack_rank;
use super::units::significant;

/// What a search has found whose rate is not known.
const HELD: &str = "search_held_per_second";
/// Width of the text, as of the RFC's own.
const WIDTH: usize = 78;

/// Of which search a value is: workload, and as the form has it.
const SEARCHES: [(&str, &str); 3] = [
    ("invite", "sessions"),
    ("register", "registrations"),
    ("reregister", "re-registrations"),
];

/// One stack's searches over one topology.
#[derive(Default)]
struct Form<'a> {
    /// By workload, in the order of [`SEARCHES`].
    cells: [Vec<&'a Cell>; 3],
}

/// A form for each stack that has a search; a word where none has.
pub(super) fn render(run: &Run) -> String {
    let mut forms: BTreeMap<(usize, String), Form<'_>> = BTreeMap::new();
    let asked = run.cells.iter();
    for cell in asked.filter(|cell| Question::Search.is_asked_by(cell)) {
        let place = SEARCHES.iter().position(|(it, _)| *it == cell.workload);
        if let Some(place) = place {
            let key = (stack_rank(&cell.stack), heading(cell));
            forms.entry(key).or_default().cells[place].push(cell);
        }
    }
    if forms.is_empty() {
        return "The run holds no search for highest rates: `hopbench run --profile rates` makes them.\n"
            .to_owned();
    }
    let mut out = String::new();
    for (index, ((_, heading), form)) in forms.iter().enumerate() {
        if index > 0 {
            out.push_str("\n\n");
        }
        form.write(&mut out, heading, run);
    }
    out
}

/// What a form is of.
fn heading(cell: &Cell) -> String {
    let query = cell.id.split_once('?').map(|(_, query)| query);
    let parts = [cell.stack.as_str(), &cell.topology, &cell.path];
    let parts: Vec<&str> = parts.into_iter().chain(query).collect();
    parts.join(", ")
}

impl Form<'_> {
    fn write(&self, out: &mut String, heading: &str, run: &Run) {
        let title = format!("Stack under test: {heading}");
        let _ = writeln!(out, "{title}\n{}\n", "=".repeat(title.chars().count()));
        let mut line = |name: &str, value: &str| field(out, name, value);
        line("Device under test", &device(run));
        line(
            "Test",
            &format!(
                "run {}, profile {}, started {}",
                run.run_id, run.profile, run.started_at
            ),
        );
        let _ = writeln!(out, "\nTest Setup Report (RFC 7502, Section 5.1)\n");
        for (name, value) in self.set_up() {
            field(out, name, &value);
        }
        let _ = writeln!(out, "\nDevice Benchmarks for Session Setup (Section 5.2)\n");
        let sessions = self.rate(0, "session_establishment_rate", "sessions per second");
        field(out, "Session Establishment Rate, \"R\"", &sessions);
        field(out, "Is DUT acting as a media relay? (yes/no)", "no");
        let _ = writeln!(out, "\nDevice Benchmarks for Registrations (Section 5.3)\n");
        let registrations = self.rate(1, "registration_rate", "registrations per second");
        field(out, "Registration Rate", &registrations);
        let refreshes = self.rate(2, "reregistration_rate", "registrations per second");
        field(out, "Re-registration Rate", &refreshes);
        let _ = writeln!(out, "\nNotes =");
        for note in self.notes() {
            wrapped(out, "  - ", "    ", &note);
        }
    }

    /// The lines of Section 5.1 from the transport on.
    fn set_up(&self) -> Vec<(&'static str, String)> {
        let of_cells = |value: fn(&Cell) -> Option<String>| self.each(value);
        let parameter = |key: &'static str, unit: &str| {
            let value = |cell: &Cell| Some(plain(cell.parameters.get(key)?));
            match self.each(value) {
                value if value == UNKNOWN => value,
                value => format!("{value} {unit}"),
            }
        };
        vec![
            ("SIP Transport Protocol", of_cells(transport)),
            (
                "Connection management strategy: DUT receives requests on one connection",
                of_cells(connections),
            ),
            (
                "Connection management strategy: DUT sends requests on one connection",
                of_cells(outward),
            ),
            (
                "Session Attempt Rate",
                parameter(
                    "initial_rate_per_second",
                    "session attempts/sec (initial \"r\")",
                ),
            ),
            ("Session Duration", parameter("talk_seconds", "seconds")),
            ("Total Sessions Attempted", self.attempted()),
            ("Media Streams per Session", "0".to_owned()),
            ("Associated Media Protocol", "none".to_owned()),
            ("Codec", "none".to_owned()),
            ("Media Packet Size (audio only)", "none".to_owned()),
            (
                "Establishment Threshold time",
                parameter("establishment_threshold_seconds", "seconds"),
            ),
            ("TLS ciphersuite used", of_cells(cipher_suite)),
            ("IPsec profile used", of_cells(ipsec)),
        ]
    }

    /// A value of all searches: once if they agree, or else with those that have it.
    fn each(&self, value: impl Fn(&Cell) -> Option<String>) -> String {
        let mut found: Vec<(String, Vec<&str>)> = Vec::new();
        for (cells, (_, name)) in self.cells.iter().zip(SEARCHES) {
            for cell in cells {
                let value = value(cell).unwrap_or(UNKNOWN.to_owned());
                match found.iter_mut().find(|(known, _)| *known == value) {
                    Some((_, names)) => names.push(name),
                    None => found.push((value, vec![name])),
                }
            }
        }
        match found.as_slice() {
            [] => UNKNOWN.to_owned(),
            [(value, _)] => value.clone(),
            [_, _, ..] => {
                let told = found.into_iter().map(|(value, mut names)| {
                    names.dedup();
                    format!("{value} ({})", names.join(", "))
                });
                told.collect::<Vec<_>>().join("; ")
            }
        }
    }

    /// In all steps of all searches, and of each.
    fn attempted(&self) -> String {
        let mut total = 0.0;
        let mut parts = Vec::new();
        for (cells, (_, name)) in self.cells.iter().zip(SEARCHES) {
            for cell in cells {
                let metric = cell.metrics.get("search_attempts_count");
                let Some(count) = metric.and_then(|metric| metric.value) else {
                    continue;
                };
                total += count;
                parts.push(format!("{} {name}", whole(count)));
            }
        }
        match parts.as_slice() {
            [] => UNKNOWN.to_owned(),
            [..] => format!("{} ({})", whole(total), parts.join(", ")),
        }
    }

    /// What was found by the searches at `place`.
    fn rate(&self, place: usize, key: &str, unit: &str) -> String {
        let told = self.cells[place].iter().map(|cell| {
            let value = |key: &str| cell.metrics.get(key)?.value;
            let rate = |key: &str| Some(format!("{} {unit}", whole(value(key)?)));
            let lifecycle = match self.cells[place].len() {
                1 => String::new(),
                _ => format!(" ({})", cell.lifecycle),
            };
            match (cell.verdict, rate(key), rate(HELD)) {
                (Verdict::Ok, Some(rate), _) => format!("{rate}{lifecycle}"),
                (Verdict::Ok, None, Some(held)) => {
                    format!("at least {held}{lifecycle}: the search did not converge")
                }
                (Verdict::GeneratorBound, _, Some(held)) => {
                    format!("at least {held}{lifecycle}: the tester was the limit, not the DUT")
                }
                (Verdict::Failed, _, Some(held)) => {
                    format!("not found, {held} at least{lifecycle}")
                }
                (_, _, _) => format!("not found{lifecycle}"),
            }
        });
        let told: Vec<String> = told.collect();
        match told.as_slice() {
            [] => "not measured".to_owned(),
            [..] => told.join("; "),
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "The DUT answers the calls itself, or forwards them where the topology says so; no media \
             flows."
                .to_owned(),
            "Each registration is challenged and proved by digest with SHA-256; users and bindings are in \
             the DUT's memory, without back end."
                .to_owned(),
        ];
        if !self.cells[1].is_empty() {
            notes.push(
                "Each registration is of an Address of Record of its own, for 3600 seconds."
                    .to_owned(),
            );
        }
        if !self.cells[2].is_empty() {
            notes.push(
                "Re-registrations begin as soon as the users are registered, not 5 to 10 minutes later, and \
                 the users take turns."
                    .to_owned(),
            );
        }
        for (cells, (_, name)) in self.cells.iter().zip(SEARCHES) {
            notes.extend(cells.iter().map(|cell| search(cell, name)));
        }
        notes
    }
}

const UNKNOWN: &str = "not known";

fn device(run: &Run) -> String {
    let build = &run.build;
    let commit = build.git_commit.as_deref().unwrap_or("not known");
    let processor = run
        .environment
        .cpu_model
        .as_deref()
        .unwrap_or("a processor that is not known");
    format!(
        "hopbench node {}, commit {commit}, on {processor}",
        build.version
    )
}

/// As the RFC names transports, and what it cannot name.
fn transport(cell: &Cell) -> Option<String> {
    let (carrier, tunnel) = match cell.stack.split_once('@') {
        Some((carrier, tunnel)) => (carrier, Some(tunnel)),
        None => (cell.stack.as_str(), None),
    };
    let carrier = match carrier {
        "mtls" => "TLS (mutually authenticated)".to_owned(),
        other => other.to_uppercase(),
    };
    let tunnel = match tunnel {
        None => String::new(),
        Some("clear") => " in a tunnel without cryptography".to_owned(),
        Some("wireguard") => " in a WireGuard tunnel".to_owned(),
        Some(other) => format!(" in the tunnel {other}"),
    };
    let core = cell.parameters.get("core_stack").and_then(Value::as_str);
    let core = core.filter(|core| *core != cell.stack);
    let core = core.map(|core| format!(" from the EA, {core} between proxies"));
    Some(format!("{carrier}{tunnel}{}", core.unwrap_or_default()))
}

fn is_stream(cell: &Cell) -> bool {
    !cell.stack.starts_with("udp")
}

fn connections(cell: &Cell) -> Option<String> {
    let kept = match (cell.workload.as_str(), cell.lifecycle.as_str()) {
        ("register", "per-registration") => "No: each user opens its own to register, and keeps it",
        (_, "per-registration") => "Yes: one for each user",
        (_, "per-call") => "No: one for each call",
        (_, _) => "No: one for each transaction",
    };
    let of_what = if is_stream(cell) {
        ""
    } else if cell.stack.contains('@') {
        ", which is a tunnel for datagrams"
    } else {
        ", which is a socket for datagrams"
    };
    Some(format!("{kept}{of_what}"))
}

fn outward(cell: &Cell) -> Option<String> {
    let told = match cell.topology.as_str() {
        "direct" => "not applicable: the DUT sends no requests",
        _ => "Yes: on the connection that the callee keeps, and on one to the next proxy",
    };
    Some(told.to_owned())
}

fn cipher_suite(cell: &Cell) -> Option<String> {
    let text = |key: &str| cell.parameters.get(key)?.as_str();
    let protocol = text("security_protocol").filter(|protocol| protocol.starts_with("TLS"));
    Some(match (protocol, text("cipher_suite")) {
        (Some(protocol), Some(suite)) => format!("{suite} ({protocol})"),
        (Some(protocol), None) => protocol.to_owned(),
        (None, _) => "none".to_owned(),
    })
}

/// There is none; what protects packets instead is told.
fn ipsec(cell: &Cell) -> Option<String> {
    if !cell.stack.ends_with("@wireguard") {
        return Some("none".to_owned());
    }
    let text = |key: &str| cell.parameters.get(key)?.as_str();
    let prefixed = text("tunnel_noise_protocol").or_else(|| text("noise_protocol"));
    Some(format!(
        "none; WireGuard, which is not IPsec ({})",
        prefixed.unwrap_or(UNKNOWN)
    ))
}

/// How a search was run, and how it ended.
fn search(cell: &Cell, name: &str) -> String {
    let parameter = |key: &str| cell.parameters.get(key).map_or(UNKNOWN.to_owned(), plain);
    let count = |key: &str| cell.metrics.get(key).and_then(|metric| metric.value);
    let number = |key: &str| count(key).map_or(UNKNOWN.to_owned(), whole);
    let ceiling = count("search_ceiling_per_second");
    let ceiling = ceiling.map_or("at no higher rate did the DUT fail".to_owned(), |rate| {
        format!("{} a second failed", whole(rate))
    });
    let steps = number("search_steps_count");
    let end = match parameter("search_end").as_str() {
        "converged" => format!("converged after {steps} steps"),
        "steps" | "seconds" => format!("stopped by its bounds after {steps} steps"),
        "exhausted" => format!("ended after {steps} steps for want of a lower rate"),
        _ => format!("cut short after {steps} steps"),
    };
    let seconds_min = cell.parameters.get("step_seconds_min");
    let seconds_min = seconds_min
        .and_then(Value::as_f64)
        .filter(|seconds| *seconds > 0.0);
    let seconds_min =
        seconds_min.map(|seconds| format!(" (more where that would take less than {seconds} s)"));
    let reason = cell.reason.as_deref();
    let reason = reason.map(|reason| format!("; {}: {reason}", super::verdict_word(cell.verdict)));
    format!(
        "Search for {name}: N = {}{}, r = {}, w = {}, d = {}, {} confirmations (RFC 7502 has 10), {} \
         arrivals; {end}; {ceiling}{}",
        parameter("attempts"),
        seconds_min.unwrap_or_default(),
        parameter("initial_rate_per_second"),
        parameter("increase_weight"),
        parameter("decrease_weight"),
        parameter("confirmations"),
        parameter("arrivals"),
        reason.unwrap_or_default()
    )
}

/// Rates and counts with all their digits.
fn whole(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        significant(value)
    }
}

/// A parameter without its JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number
            .as_f64()
            .map_or_else(|| number.to_string(), |it| it.to_string()),
        Value::Null => "none".to_owned(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn field(out: &mut String, name: &str, value: &str) {
    wrapped(out, "  ", "      ", &format!("{name} = {value}"));
}

/// Words in lines of at most [`WIDTH`].
fn wrapped(out: &mut String, first: &str, others: &str, text: &str) {
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{line}");
            others.clone_into(&mut line);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    /// Every line of RFC 7502 §5, in its order.
    const LINES: [&str; 18] = [
        "SIP Transport Protocol = ",
        "DUT receives requests on one connection = ",
        "DUT sends requests on one connection = ",
        "Session Attempt Rate = ",
        "Session Duration = ",
        "Total Sessions Attempted = ",
        "Media Streams per Session = ",
        "Associated Media Protocol = ",
        "Codec = ",
        "Media Packet Size (audio only) = ",
        "Establishment Threshold time = ",
        "TLS ciphersuite used = ",
        "IPsec profile used = ",
        "Session Establishment Rate, \"R\" = ",
        "Is DUT acting as a media relay? (yes/no) = ",
        "Registration Rate = ",
        "Re-registration Rate = ",
        "Notes =",
    ];

    #[test]
    fn every_line_of_the_form_is_there_and_filled_in() {
        let text = render(&fixture::run());
        let forms: Vec<&str> = text.split("Stack under test: ").skip(1).collect();
        assert_eq!(forms.len(), 9, "a form for each stack");
        for form in forms {
            // A line that is too long goes on in the next one.
            let form = form.split_whitespace().collect::<Vec<_>>().join(" ");
            let mut rest = form.as_str();
            for line in LINES {
                let place = rest.find(line.trim_end());
                let place = place.unwrap_or_else(|| panic!("{line} in its place: {form}"));
                rest = rest[place + line.trim_end().len()..].trim_start();
                let value = rest.split(" = ").next().unwrap_or_default();
                assert!(value.len() > 1, "{line} is filled in: {form}");
            }
            assert!(!form.contains(UNKNOWN), "{form}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn what_is_no_figure_of_the_server_says_so() {
        let text = render(&fixture::run());
        let form = text
            .split("Stack under test: ")
            .find(|form| form.starts_with("mtls,"));
        let form = form
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(
            form.contains("at least 1265 registrations per second: the tester was the limit"),
            "{form}"
        );
        assert!(text.contains("WireGuard, which is not IPsec"));
    }

    #[test]
    fn what_was_found_before_a_search_was_stopped_is_a_bound() {
        let mut run = fixture::run();
        run.cells
            .retain(|cell| cell.stack == "tcp" && cell.experiment == "search");
        assert!(!render(&run).contains("at least"));
        for cell in &mut run.cells {
            cell.metrics.retain(|key, _| !key.ends_with("_rate"));
        }
        let form = render(&run);
        let form = form.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(form.contains("sessions per second: the search"), "{form}");
    }

    #[test]
    fn a_run_without_a_search_says_how_to_make_one() {
        let mut run = fixture::run();
        run.cells.retain(|cell| cell.experiment != "search");
        assert!(render(&run).contains("--profile rates"));
    }
}
