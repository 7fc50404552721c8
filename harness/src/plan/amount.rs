//! Figures as text: one unit for all stacks of a line. Beneath [`super::text`].

use hopbench::record::Unit;

use super::capacity::Quantity;
use super::figure::Figure;
use crate::report::significant;

/// What stands for a figure that nobody knows. Never a zero.
pub(super) const UNKNOWN: &str = "–";

/// A unit, and how many of the quantity's own it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) symbol: &'static str,
    size: f64,
}

const fn scale(symbol: &'static str, size: f64) -> Scale {
    Scale { symbol, size }
}

const BYTES: [Scale; 4] = [
    scale("GiB", 1_073_741_824.0),
    scale("MiB", 1_048_576.0),
    scale("KiB", 1024.0),
    scale("B", 1.0),
];
const BITS: [Scale; 4] = [
    scale("Gbit/s", 1e9),
    scale("Mbit/s", 1e6),
    scale("kbit/s", 1e3),
    scale("bit/s", 1.0),
];
const TIME: [Scale; 4] = [
    scale("s", 1e9),
    scale("ms", 1e6),
    scale("µs", 1e3),
    scale("ns", 1.0),
];
const SECONDS: [Scale; 1] = [scale("s", 1.0)];
const RATE: [Scale; 1] = [scale("/s", 1.0)];
const CORES: [Scale; 1] = [scale("cores", 1.0)];
const PLAIN: [Scale; 1] = [scale("", 1.0)];

impl Scale {
    /// The largest unit in which the smallest of `values` is at least one tenth; zeros do not count.
    fn fitting(scales: &[Self], values: impl Iterator<Item = f64>) -> Self {
        let values = values.map(f64::abs).filter(|value| *value > 0.0);
        let smallest = values.fold(f64::INFINITY, f64::min);
        let fits = |scale: &&Self| smallest.is_finite() && smallest >= 0.1 * scale.size;
        let last = scales[scales.len() - 1];
        scales.iter().find(fits).copied().unwrap_or(last)
    }

    /// For a line of a plan.
    pub(super) fn of_line(quantity: Quantity, values: impl Iterator<Item = f64>) -> Self {
        let scales: &[Self] = match quantity {
            Quantity::Bytes => &BYTES,
            Quantity::BitsPerSecond => &BITS,
            Quantity::Seconds => &SECONDS,
            Quantity::PerSecond => &RATE,
            Quantity::Cores => &CORES,
            Quantity::Count => &PLAIN,
        };
        Self::fitting(scales, values)
    }

    /// For figures of a metric.
    pub(super) fn of_metric(unit: Unit, values: impl Iterator<Item = f64>) -> Self {
        let scales: &[Self] = match unit {
            Unit::Bytes => &BYTES,
            Unit::Ns => &TIME,
            Unit::PerSecond => &RATE,
            Unit::Ratio | Unit::Count => &PLAIN,
        };
        Self::fitting(scales, values)
    }

    /// `8.35 [8.34, 8.36]`; without brackets what is exact, `[?]` behind what has no interval.
    pub(super) fn figure(self, figure: Figure) -> String {
        let number = |value: f64| match self.symbol {
            // What is counted is not measured: no digits behind the point.
            "" | "cores" if value.fract() == 0.0 => count(value),
            _ => grouped(&significant(value / self.size)),
        };
        let value = number(figure.value);
        match figure.ci95 {
            None => format!("{value} [?]"),
            Some(ci95) if ci95.low == ci95.high => value,
            Some(ci95) => format!("{value} [{}, {}]", number(ci95.low), number(ci95.high)),
        }
    }

    /// The same with the unit behind it.
    pub(super) fn quantity(self, figure: Figure) -> String {
        let figure = self.figure(figure);
        let space = if self.symbol.is_empty() { "" } else { " " };
        format!("{figure}{space}{}", self.symbol)
    }
}

/// A whole number, its digits in threes.
pub(super) fn count(value: f64) -> String {
    grouped(&format!("{value:.0}"))
}

/// Digits before the point in threes.
fn grouped(number: &str) -> String {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", number),
    };
    let (whole, fraction) = match digits.find('.') {
        Some(point) => digits.split_at(point),
        None => (digits, ""),
    };
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Interval;

    #[test]
    fn digits_stand_in_threes() {
        for (number, expected) in [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1,000"),
            ("-1234567", "-1,234,567"),
            ("12.3456", "12.3456"),
        ] {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn a_figure_tells_what_is_known_of_its_interval() {
        let gib = 1_073_741_824.0;
        let bytes = Scale::of_line(Quantity::Bytes, [8.0 * gib, 0.0].into_iter());
        assert_eq!(bytes.quantity(Figure::exact(8.0 * gib)), "8.00 GiB");
        assert_eq!(bytes.figure(Figure::measured(8.0 * gib, None)), "8.00 [?]");
        let ci95 = Interval {
            low: 7.5 * gib,
            high: 9.0 * gib,
        };
        let figure = Figure::measured(8.0 * gib, Some(ci95));
        assert_eq!(bytes.figure(figure), "8.00 [7.50, 9.00]");
        let cores = Scale::of_line(Quantity::Cores, std::iter::once(51.0));
        assert_eq!(cores.quantity(Figure::exact(51.0)), "51 cores");
        let bits = Scale::of_line(Quantity::BitsPerSecond, [20_000.0].into_iter());
        assert_eq!(bits.quantity(Figure::exact(20_000.0)), "20.0 kbit/s");
    }
}
