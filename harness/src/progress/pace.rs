//! How far a run is, and how long it will take: what was expected, corrected by what was seen. It reads no
//! clock.

use std::time::Instant;

/// Columns of the gauge.
const COLUMNS: usize = 20;
/// From so much expected time on, what was seen counts.
const ENOUGH_SECONDS: f64 = 1.0;

/// Expected seconds and the real ones.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    /// What is still to come was expected to take so long; without the step that goes on.
    expected_ahead: f64,
    /// Steps that are over were expected to take so long …
    expected_behind: f64,
    /// … and took so long.
    behind: f64,
    /// The step that goes on: how long it was expected to take, and since when it does.
    step: Option<(f64, Instant)>,
}

impl Pace {
    /// Of steps that are expected to take `seconds` together.
    pub(super) fn new(seconds: f64, now: Instant) -> Self {
        Self {
            began: now,
            expected_ahead: seconds,
            expected_behind: 0.0,
            behind: 0.0,
            step: None,
        }
    }

    pub(super) fn begin(&mut self, seconds: f64, now: Instant) {
        self.end(now);
        self.skip(seconds);
        self.step = Some((seconds, now));
    }

    pub(super) fn end(&mut self, now: Instant) {
        if let Some((expected, began)) = self.step.take() {
            self.expected_behind += expected;
            self.behind += (now - began).as_secs_f64();
        }
    }

    /// Something is not to come any more.
    pub(super) fn skip(&mut self, seconds: f64) {
        self.expected_ahead = (self.expected_ahead - seconds).max(0.0);
    }

    fn left_seconds(&self, now: Instant) -> f64 {
        let slowness = if self.expected_behind >= ENOUGH_SECONDS {
            self.behind / self.expected_behind
        } else {
            1.0
        };
        let of_step = self.step.map_or(0.0, |(expected, began)| {
            (expected * slowness - (now - began).as_secs_f64()).max(0.0)
        });
        of_step + self.expected_ahead * slowness
    }

    /// How much of the time is over, 0 to 1.
    pub(super) fn fraction(&self, now: Instant) -> f64 {
        let elapsed = (now - self.began).as_secs_f64();
        let all = elapsed + self.left_seconds(now);
        if all > 0.0 { elapsed / all } else { 0.0 }
    }

    /// That as a bar.
    pub(super) fn gauge(&self, now: Instant) -> String {
        let full = (self.fraction(now) * COLUMNS as f64).floor() as usize;
        let full = full.min(COLUMNS);
        "━".repeat(full) + &"─".repeat(COLUMNS - full)
    }

    pub(super) fn elapsed_words(&self, now: Instant) -> String {
        clock((now - self.began).as_secs_f64())
    }

    pub(super) fn left_words(&self, now: Instant) -> String {
        format!("{} left", clock(self.left_seconds(now)))
    }
}

/// `0:07`, `12:30`, `1:02:03`
fn clock(seconds: f64) -> String {
    // Durations of a scenario are bounded to a day each.
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_left_follows_from_how_slow_it_was() {
        let began = Instant::now();
        let at = |seconds: f64| began + Duration::from_secs_f64(seconds);
        let mut pace = Pace::new(100.0, began);
        assert_eq!(pace.left_words(began), "1:40 left");
        assert_eq!(pace.fraction(began), 0.0);
        pace.begin(10.0, began);
        assert_eq!(pace.left_words(at(4.0)), "1:36 left");
        // It takes twice as long as was expected, and so will the rest.
        assert_eq!(pace.left_words(at(20.0)), "1:30 left");
        pace.end(at(20.0));
        assert_eq!(pace.left_words(at(20.0)), "3:00 left");
        assert!((pace.fraction(at(20.0)) - 0.1).abs() < 1e-9);
        pace.skip(80.0);
        assert_eq!(pace.left_words(at(20.0)), "0:20 left");
        assert_eq!(pace.gauge(at(20.0)), "━━━━━━━━━━──────────");
        pace.begin(10.0, at(20.0));
        pace.end(at(30.0));
        assert_eq!(pace.left_words(at(30.0)), "0:00 left");
        assert_eq!(pace.fraction(at(30.0)), 1.0);
    }

    #[test]
    fn time_is_told_as_on_a_clock() {
        for (seconds, expected) in [
            (0.4, "0:00"),
            (59.6, "1:00"),
            (754.0, "12:34"),
            (3723.0, "1:02:03"),
        ] {
            assert_eq!(clock(seconds), expected);
        }
    }
}
