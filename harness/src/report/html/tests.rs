//! What a page must hold, whatever its run.

use hopbench::record::Cell;

use std::sync::LazyLock;

use super::*;
use crate::report::fixture;

/// That of the run by rule.
static PAGE: LazyLock<String> = LazyLock::new(|| render(&fixture::run()));

/// Headings of the sections, in their order.
fn headings(page: &str) -> Vec<&str> {
    let parts = page.split("<h2 id=\"").skip(1);
    parts
        .filter_map(|part| part.split_once("\">")?.1.split("</h2>").next())
        .collect()
}

#[test]
fn the_answer_comes_first_and_the_method_last() {
    let headings = headings(&PAGE);
    let known = [
        "The answer",
        "Set-up latency by phase",
        "Latency by percentile",
        "Throughput",
        "Memory per connection",
        "CPU per operation",
        "On the wire",
        "Proxies in a row",
        "Narrow hops",
        "Scale",
        "Knee",
    ];
    assert_eq!(headings[..known.len()], known);
    assert_eq!(headings[headings.len() - 5..], LAST);
}

#[test]
fn what_was_not_measured_has_no_section() {
    let mut run = fixture::run();
    run.cells.retain(|cell| cell.experiment == "memory");
    run.ratios.clear();
    let page = render(&run);
    assert_eq!(
        headings(&page)[..2],
        ["The answer", "Memory per connection"]
    );
    assert!(!page.contains("Proxies in a row"));
}

#[test]
fn whatever_the_markdown_says_the_page_says() {
    let run = fixture::run();
    // Quotation marks need no escape in text, and have none where the text was Markdown.
    let page = PAGE.replace("&quot;", "\"");
    let text = markdown::render(&run);
    let tables = text.lines().filter(|line| line.starts_with("|---")).count();
    assert!(page.matches("<table>").count() >= tables, "{tables} tables");
    for cell in &run.cells {
        if let Some(reason) = &cell.reason {
            let reason = html! { (reason) }.into_string().replace("&quot;", "\"");
            assert!(page.contains(&reason), "{reason}");
        }
    }
    assert!(
        page.contains(&run.scenario_sha256) && page.contains("boringtun does not pad payloads")
    );
}

#[test]
fn doubtful_figures_are_told_from_others() {
    for part in [
        r#"<span class="verdict failed">failed</span>"#,
        r#"<span class="verdict">generator-bound</span>"#,
        // Of calls over TLS the generator was the limit: dashed, and its bars hatched.
        r#""name":"tls, generator-bound","doubtful":true"#,
        r#"<div class="row s2 doubtful">"#,
    ] {
        assert!(PAGE.contains(part), "{part}");
    }
}

#[test]
fn each_chart_has_a_table_with_control_and_samples() {
    for part in [
        "95 % interval",
        "against its control",
        "samples",
        "blocks",
        // So much more of the heap does TLS hold.
        "3.12× [2.93, 3.33] tcp",
    ] {
        assert!(PAGE.contains(part), "{part}");
    }
}

#[test]
fn the_knee_is_drawn_by_quantile_and_its_rates_are_in_a_table() {
    for part in [
        r#""name":"tls, p99""#,
        r#""group":"p50","thin":true"#,
        r#""title":"Failed, of what was attempted""#,
        "Rates of this chart",
        "past the knee, from",
    ] {
        assert!(PAGE.contains(part), "{part}");
    }
}

#[test]
fn a_run_that_kept_the_course_of_throughput_shows_it() {
    use hopbench::record::Series;

    let mut run = fixture::run();
    assert!(PAGE.contains("recorded without the course over time"));
    let is_load = |cell: &&mut Cell| cell.experiment == "throughput" && cell.stack == "tcp";
    let cell = run.cells.iter_mut().find(is_load).expect("there is one");
    let metric = cell.metrics.get_mut("throughput_per_second");
    metric.expect("a load has it").series = Some(Series {
        window_ms: 100,
        counts: vec!["25 30".to_owned(), "20".to_owned()],
    });
    let page = render(&run);
    // Two windows, a gap, a window.
    let course = page
        .split("<svg class=\"course\"")
        .nth(1)
        .expect("it is drawn");
    let path = course
        .split("<path d=\"")
        .nth(1)
        .and_then(|path| path.split('"').next());
    let path = path.expect("it has a path");
    assert_eq!(path.matches('M').count(), 2, "{path}");
    assert_eq!(path.matches('l').count(), 1, "{path}");
    assert!(path.contains("M3 "), "{path}");
    assert!(page.contains("window by window"));
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    assert!(*PAGE == render(&fixture::run()));
}
