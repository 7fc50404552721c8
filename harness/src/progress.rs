//! What a run shows while it works: a bar on terminals, nothing in pipes and CI logs.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over the expected time of all cells.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// For a run that is expected to take `seconds`; hidden unless standard error is a terminal.
    pub(crate) fn new(seconds: f64, is_quiet: bool) -> Self {
        let target = if is_quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(milliseconds(seconds)), target);
        let style = ProgressStyle::with_template(
            "{bar:24.cyan/blue} {percent:>3} %  {elapsed_precise}, {eta} left  {prefix}{msg}",
        );
        bar.set_style(style.expect("the template is valid"));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// A cell's block begins.
    pub(crate) fn begin(&self, cell_id: &str, block: u32, blocks: u32) {
        self.0
            .set_prefix(format!("{cell_id}, block {block} of {blocks}"));
        self.0.set_message("");
    }

    /// What goes on in a block that takes long, such as `calling`.
    pub(crate) fn phase(&self, what: &str) {
        self.0.set_message(format!(": {what}"));
    }

    /// It took about this long.
    pub(crate) fn end(&self, seconds: f64) {
        self.0.inc(milliseconds(seconds));
    }

    /// It was left out.
    pub(crate) fn skip(&self, seconds: f64) {
        self.end(seconds);
    }

    /// Something the user should know at once.
    pub(crate) fn note(&self, text: &str) {
        self.0.suspend(|| eprintln!("{text}"));
    }

    /// The run is over.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn milliseconds(seconds: f64) -> u64 {
    // Durations of a scenario are bounded to a day.
    (seconds * 1e3) as u64
}
