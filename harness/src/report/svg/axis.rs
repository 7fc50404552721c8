//! Scales of the axes: from values to pixels, and where the ticks stand.

/// A linear scale from zero, in the unit that is drawn.
pub(in crate::report) struct Linear {
    from: f64,
    to: f64,
    start: f64,
    length: f64,
    step: f64,
}

impl Linear {
    /// From zero to at least `highest`, over `length` pixels from `start`, in about five round steps.
    pub(in crate::report) fn from_zero(highest: f64, start: f64, length: f64) -> Self {
        Self::between(0.0, highest, start, length)
    }

    /// From at most `lowest` to at least `highest`, likewise.
    pub(in crate::report) fn between(lowest: f64, highest: f64, start: f64, length: f64) -> Self {
        let span = if highest > lowest {
            highest - lowest
        } else {
            lowest.abs().max(1.0)
        };
        let step = round_step(span / 5.0);
        let from = (lowest / step + 1e-9).floor() * step;
        let to = ((lowest + span) / step - 1e-9).ceil() * step;
        Self {
            from,
            to,
            start,
            length,
            step,
        }
    }

    /// Where `value` lies, in pixels.
    pub(in crate::report) fn position(&self, value: f64) -> f64 {
        self.start + (value - self.from) / (self.to - self.from) * self.length
    }

    /// Values of the ticks with their labels.
    pub(in crate::report) fn ticks(&self) -> Vec<(f64, String)> {
        let whole = |scaled: f64| (scaled - scaled.round()).abs() < 1e-6;
        let decimals = (0..9)
            .find(|n| whole(self.step * 10f64.powi(*n)))
            .unwrap_or(9) as usize;
        let count = ((self.to - self.from) / self.step).round() as u32;
        let value = |index| self.from + f64::from(index) * self.step;
        (0..=count)
            .map(|index| (value(index), format!("{:.decimals$}", value(index))))
            .collect()
    }
}

/// The next of 1, 2, 2.5 and 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let rounded = [1.0, 2.0, 2.5, 5.0]
        .into_iter()
        .find(|round| step <= round * power * 1.000_001);
    rounded.unwrap_or(10.0) * power
}

/// A logarithmic scale that grows upwards.
pub(in crate::report) struct Logarithmic {
    low: f64,
    high: f64,
    bottom: f64,
    height: f64,
}

impl Logarithmic {
    /// From 1, 2 or 5 times a power of ten beneath `lowest` to one above `highest`, both positive.
    pub(in crate::report) fn new(lowest: f64, highest: f64, bottom: f64, height: f64) -> Self {
        let below = round_values(lowest).rfind(|value| *value <= lowest);
        let above = round_values(highest).find(|value| *value >= highest * 1.000_001);
        let (low, high) = (below.unwrap_or(lowest), above.unwrap_or(highest * 2.0));
        Self {
            low,
            high,
            bottom,
            height,
        }
    }

    /// Where `value` lies, in pixels.
    pub(in crate::report) fn position(&self, value: f64) -> f64 {
        let share = (value.max(self.low) / self.low).log10() / (self.high / self.low).log10();
        self.bottom - share * self.height
    }

    /// Values of the ticks with their labels.
    pub(in crate::report) fn ticks(&self) -> Vec<(f64, String)> {
        let decades = (self.high / self.low).log10().ceil().max(0.0) as i32;
        let within =
            |value: &f64| *value >= self.low * 0.999_999 && *value <= self.high * 1.000_001;
        let all = (0..=decades).flat_map(|decade| {
            let power = 10f64.powi(self.low.log10().floor() as i32 + decade);
            [power, 2.0 * power, 5.0 * power]
        });
        let label = |value: f64| {
            let decimals = (-value.log10().floor()).clamp(0.0, 9.0) as usize;
            (value, format!("{value:.decimals$}"))
        };
        all.filter(within).map(label).collect()
    }
}

/// Round values from a decade beneath `around` to a decade above.
fn round_values(around: f64) -> impl DoubleEndedIterator<Item = f64> {
    let power = around.log10().floor() as i32;
    (power - 1..=power + 1).flat_map(|power| [1.0, 2.0, 5.0].map(|round| round * 10f64.powi(power)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: Vec<(f64, String)>) -> Vec<String> {
        ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        assert_eq!(
            labels(Linear::from_zero(1.69, 0.0, 1.0).ticks()),
            ["0.0", "0.5", "1.0", "1.5", "2.0"]
        );
        assert_eq!(
            labels(Linear::from_zero(18.0, 0.0, 1.0).ticks()),
            ["0", "5", "10", "15", "20"]
        );
        assert_eq!(
            labels(Linear::between(213.0, 287.0, 0.0, 1.0).ticks()),
            ["200", "220", "240", "260", "280", "300"]
        );
        assert_eq!(
            labels(Logarithmic::new(0.23, 4.1, 0.0, 1.0).ticks()),
            ["0.2", "0.5", "1", "2", "5"]
        );
    }

    #[test]
    fn labels_have_the_decimals_of_their_step() {
        let ticks = labels(Linear::from_zero(10.8, 0.0, 1.0).ticks());
        assert_eq!(ticks, ["0.0", "2.5", "5.0", "7.5", "10.0", "12.5"]);
    }

    #[test]
    fn scales_survive_values_that_do_not_differ() {
        for value in [0.0, 1.0, 250.0] {
            let scale = Linear::between(value, value, 10.0, 100.0);
            assert!((10.0..=110.0).contains(&scale.position(value)), "{value}");
        }
    }

    #[test]
    fn positions_follow_the_scale() {
        let linear = Linear::from_zero(10.0, 100.0, 200.0);
        assert_eq!((linear.position(0.0), linear.position(5.0)), (100.0, 200.0));
        let log = Logarithmic::new(1.0, 99.0, 300.0, 200.0);
        assert!((log.position(10.0) - 200.0).abs() < 1e-9);
    }
}
