//! HdrHistogram's log format, version 1.3. An exporter, and lossless: the histograms are those of `run.json`.
//!
//! A file is one metric of one question, its lines are the stacks, told apart by tags. There is one interval,
//! the whole run, since a histogram holds all blocks of its cell. `Interval_Max` is in the metric's unit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use hopbench::record::{Histogram, Run};

use super::{ExportError, Exporter, File, file_stem};
use crate::figures::{self, unit_word, without_stack};

/// The exporter.
pub(super) struct Hlog;

const LEGEND: &str =
    r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#;

impl Exporter for Hlog {
    fn export(&self, run: &Run) -> Result<Vec<File>, ExportError> {
        let head = head(run)?;
        let seconds = run_seconds(run)?;
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        for figure in figures::sound(run) {
            let cell = figure.cell;
            let histogram = cell
                .metrics
                .get(figure.metric)
                .and_then(|m| m.histogram.as_ref());
            let (None, Some(histogram)) = (figure.control, histogram) else {
                continue;
            };
            let question = without_stack(&cell.id);
            let name = format!("{}.{}.hlog", file_stem(&question), figure.metric);
            let text = files.entry(name).or_insert_with(|| {
                let unit = unit_word(figure.unit);
                format!(
                    "#[{} of {question}, in {unit}; tags are stacks]\n{head}{LEGEND}\n",
                    figure.metric
                )
            });
            interval(text, &cell.stack, seconds, histogram);
        }
        let files = files.into_iter().map(|(name, text)| File { name, text });
        Ok(files.collect())
    }
}

fn head(run: &Run) -> Result<String, ExportError> {
    let start = seconds("started_at", &run.started_at)?;
    let date = date(start);
    Ok(format!(
        "#[Logged with hopbench {}, run {}]\n\
         #[Histogram log format version 1.3]\n\
         #[BaseTime: {start}.000 (seconds since epoch)]\n\
         #[StartTime: {start}.000 (seconds since epoch), {date}]\n",
        run.build.version, run.run_id
    ))
}

/// How long the run took, as far as is known: of one that was interrupted, nothing is.
fn run_seconds(run: &Run) -> Result<u64, ExportError> {
    let start = seconds("started_at", &run.started_at)?;
    let end = match &run.finished_at {
        Some(end) => seconds("finished_at", end)?,
        None => start,
    };
    Ok(end.saturating_sub(start))
}

/// A tag holds no comma, space or line break, and no stack does.
fn interval(text: &mut String, stack: &str, seconds: u64, histogram: &Histogram) {
    let Histogram {
        max, hdr_v2_base64, ..
    } = histogram;
    let _ = writeln!(
        text,
        "Tag={stack},0.000,{seconds}.000,{max}.000,{hdr_v2_base64}"
    );
}

/// A time of the run, in seconds since 1970.
pub(super) fn seconds(key: &'static str, time: &str) -> Result<u64, ExportError> {
    let none = || ExportError::Time {
        key,
        found: time.to_owned(),
    };
    let parsed = humantime::parse_rfc3339(time).map_err(|_| none())?;
    let since = parsed.duration_since(UNIX_EPOCH).map_err(|_| none())?;
    Ok(since.as_secs())
}

/// As Java writes a date, in UTC: `Thu Jan 01 00:00:00 UTC 1970`.
fn date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let time = UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    let text = humantime::format_rfc3339_seconds(time).to_string(); // 1970-01-01T00:00:00Z
    let month = text[5..7]
        .parse::<usize>()
        .map_or("", |month| MONTHS[month - 1]);
    let day = DAYS[usize::try_from(seconds / 86_400 % 7).expect("less than seven")];
    format!(
        "{day} {month} {} {} UTC {}",
        &text[8..10],
        &text[11..19],
        &text[..4]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn dates_are_written_as_java_writes_them() {
        let table = [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (1_441_812_279, "Wed Sep 09 15:24:39 UTC 2015"),
            (1_709_251_199, "Thu Feb 29 23:59:59 UTC 2024"),
        ];
        for (seconds, expected) in table {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn a_log_has_version_legend_and_a_tag_for_each_stack() {
        let run = fixture::run();
        let files = Hlog.export(&run).expect("nothing to decode");
        let name = "setup-register-direct-per-registration-loopback.setup_latency_ns.hlog";
        let log = files.iter().find(|file| file.name == name).expect(name);
        assert!(log.text.contains("\n#[Histogram log format version 1.3]\n"));
        let (_, lines) = log.text.split_once(LEGEND).expect("a legend");
        let tags: Vec<&str> = lines
            .split("Tag=")
            .skip(1)
            .filter_map(|line| line.split(',').next())
            .collect();
        assert!(
            tags.contains(&"tcp") && tags.contains(&"udp@wireguard"),
            "{tags:?}"
        );
    }

    #[test]
    fn a_time_that_is_none_is_told_with_its_place() {
        let mut run = fixture::run();
        run.started_at = "yesterday".to_owned();
        let error = Hlog.export(&run).expect_err("no time").to_string();
        assert_eq!(
            error,
            r#"started_at: expected a time of RFC 3339, found "yesterday""#
        );
    }
}
