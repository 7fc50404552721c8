//! How searches of rates went: each step of each, in a line. A part of [`super::markdown`].

use std::fmt::Write;

use hopbench::record::{Cell, Run, Step, StepOutcome};

use super::question::Question;
use super::summary::stack_rank;

/// How the figures of `search` are formed.
const SEARCH_METHOD: &str = "Highest is the rate of RFC 7502 §4.10; it is missing where the search ran out of steps or time. Held is the \
     highest rate at which nothing failed, a lower bound. Failed from is the lowest higher rate at which something failed although \
     the generator kept up. An attempt that takes longer than the threshold (`establishment_threshold_seconds`) has failed; a queue that is \
     shorter goes unnoticed, so rates may be too high by the threshold ÷ the length of a step: 10 % for 0.05 s in 0.5 s. \
     `hopbench report RUN --format rfc7502` prints the RFC's own form.";
/// How the figures of `knee` are formed.
const KNEE_METHOD: &str = "The knee is the highest offered rate with a success of at least 99.9 % and a 99th percentile of latency of \
     at most five times that of the lowest rate; it is missing where the sweep ran out of steps or time. Held is the highest such rate \
     that was tried, a lower bound. Past from is the lowest rate above it. Lag p99, at half is how late the generator started operations at the lowest rate \
     from half of what was held on.";

/// What stands below the tables of a question that is answered by trying rates.
pub(super) fn section(out: &mut String, run: &Run, question: Question) {
    let method = match question {
        Question::Search => SEARCH_METHOD,
        Question::Knee => KNEE_METHOD,
        Question::Setup
        | Question::Memory
        | Question::Throughput
        | Question::Chain
        | Question::Link
        | Question::Rate
        | Question::Scale => return,
    };
    let cells = run.cells.iter();
    let cells = cells.filter(|cell| question.is_asked_by(cell) && !cell.steps.is_empty());
    let mut cells: Vec<&Cell> = cells.collect();
    if cells.is_empty() {
        return;
    }
    cells.sort_by_key(|cell| {
        (
            cell.workload.as_str(),
            stack_rank(&cell.stack),
            cell.id.as_str(),
        )
    });
    let _ = writeln!(
        out,
        "{method} ✓ nothing failed, ✗ something did, ○ the generator was the limit:\n\n\
         | cell | rates a second, as they were tried | ended |\n|---|---|---|"
    );
    for cell in cells {
        let steps: Vec<String> = cell.steps.iter().map(mark).collect();
        let end = cell.parameters.get("search_end");
        let end = match end.and_then(|end| end.as_str()) {
            Some("seconds") => "out of time",
            Some("steps") => "out of steps",
            Some("exhausted") => "no lower rate is left",
            Some(end) => end,
            None => "interrupted",
        };
        let _ = writeln!(out, "| `{}` | {} | {end} |", cell.id, steps.join(" "));
    }
    out.push('\n');
}

fn mark(step: &Step) -> String {
    let mark = match step.outcome {
        StepOutcome::Held => '✓',
        StepOutcome::Failed => '✗',
        StepOutcome::GeneratorBound => '○',
    };
    format!("{:.0}{mark}", step.offered_per_second)
}
