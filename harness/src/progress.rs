//! What a run shows while it works, on standard error: on a terminal what is measured now, what the
//! blocks before have yielded and how long it will take; in pipes and logs a plain line a step.
//!
//! Nothing here asks the processes that are measured: figures are those of blocks that are over.

mod pace;
mod step;

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::interrupt;

use pace::Pace;
pub(crate) use step::{CellStep, Step};

/// How often the time that is left is told anew.
const TICK: Duration = Duration::from_millis(500);
/// A step that takes longer has a line of its own in a log, and so have its phases.
const LONG_SECONDS: f64 = 10.0;

/// Said when the user asks to stop.
const STOPPING: &str = "stopping: what was measured is kept; Ctrl-C again ends at once";

/// What the user sees of a run at work.
pub(crate) struct Progress {
    pace: Arc<Mutex<Pace>>,
    display: Display,
}

enum Display {
    Quiet,
    /// A terminal: the step, and beneath it the pace.
    Bars {
        all: MultiProgress,
        step: ProgressBar,
        pace: ProgressBar,
    },
    /// Anything else.
    Lines(Mutex<Log>),
}

/// What a log has been told.
#[derive(Default)]
struct Log {
    /// What the last line was about.
    told: Option<String>,
    /// Whether the step has a line of its own.
    is_long: bool,
}

impl Progress {
    /// For a run that is expected to take `seconds`.
    pub(crate) fn new(seconds: f64, is_quiet: bool) -> Self {
        let pace = Arc::new(Mutex::new(Pace::new(seconds, Instant::now())));
        let display = if is_quiet {
            Display::Quiet
        } else if can_draw() {
            bars(Arc::clone(&pace))
        } else {
            interrupt::on_first(|| eprintln!("{STOPPING}"));
            Display::Lines(Mutex::default())
        };
        Self { pace, display }
    }

    /// A step begins, which is expected to take `seconds`.
    pub(crate) fn begin(&self, step: Step, seconds: f64) {
        let now = Instant::now();
        self.pace().begin(seconds, now);
        match &self.display {
            Display::Quiet => {}
            Display::Bars {
                step: head, pace, ..
            } => {
                head.set_message(step.words);
                pace.set_message(step.so_far);
            }
            Display::Lines(log) => {
                let mut log = lock(log);
                log.is_long = seconds >= LONG_SECONDS;
                let line = if log.is_long { step.words } else { step.round };
                if log.told.as_ref() != Some(&line) {
                    let pace = self.pace();
                    eprintln!(
                        "[{}] {line}; {}",
                        pace.elapsed_words(now),
                        pace.left_words(now)
                    );
                    log.told = Some(line);
                }
            }
        }
    }

    /// What goes on in a block that takes long, such as `calling`.
    pub(crate) fn phase(&self, what: &str) {
        match &self.display {
            Display::Quiet => {}
            Display::Bars { pace, .. } => pace.set_message(what.to_owned()),
            Display::Lines(log) => {
                if lock(log).is_long {
                    eprintln!("[{}]   {what}", self.pace().elapsed_words(Instant::now()));
                }
            }
        }
    }

    /// The step is over.
    pub(crate) fn end(&self) {
        self.pace().end(Instant::now());
    }

    /// A block that was expected to take `seconds` is left out.
    pub(crate) fn skip(&self, seconds: f64) {
        self.pace().skip(seconds);
    }

    /// Something the user should know at once.
    pub(crate) fn note(&self, text: &str) {
        match &self.display {
            Display::Bars { all, .. } => all.suspend(|| eprintln!("{text}")),
            Display::Quiet | Display::Lines(_) => eprintln!("{text}"),
        }
    }

    /// The run is over.
    pub(crate) fn finish(&self) {
        if let Display::Bars { step, pace, .. } = &self.display {
            pace.finish_and_clear();
            step.finish_and_clear();
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        lock(&self.pace)
    }
}

/// Nobody panics while holding it in a way that would spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether standard error can take back what it shows.
fn can_draw() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|name| name == "dumb");
    std::io::stderr().is_terminal() && !is_dumb
}

fn bars(pace: Arc<Mutex<Pace>>) -> Display {
    let all = MultiProgress::new();
    let style =
        |template: &str| ProgressStyle::with_template(template).expect("the template is valid");
    let step = all.add(ProgressBar::no_length().with_style(style("{wide_msg}")));
    let gauge = Arc::clone(&pace);
    let words = Arc::clone(&pace);
    let below = style("{gauge:.cyan} {pace}  {wide_msg:.dim}")
        .with_key(
            "gauge",
            move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = out.write_str(&lock(&gauge).gauge(Instant::now()));
            },
        )
        .with_key(
            "pace",
            move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                let (pace, now) = (lock(&words), Instant::now());
                let percent = pace.fraction(now) * 100.0;
                let (elapsed, left) = (pace.elapsed_words(now), pace.left_words(now));
                let _ = write!(out, "{percent:3.0} %  {elapsed}, {left}");
            },
        );
    let pace = all.add(ProgressBar::no_length().with_style(below));
    // The terminal shows ^C beneath: what is drawn from then on would be a line too low.
    let still = all.clone();
    interrupt::on_first(move || {
        still.set_draw_target(ProgressDrawTarget::hidden());
        eprintln!("\n{STOPPING}");
    });
    pace.enable_steady_tick(TICK);
    Display::Bars { all, step, pace }
}
