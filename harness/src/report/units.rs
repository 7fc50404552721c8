//! Figures as text: one unit for a whole column, three significant digits. Beneath the renderers.

use hopbench::record::{Ratio, Unit};

/// What stands for a figure that is missing. Never a zero.
pub(super) const MISSING: &str = "–";

/// The unit that a column or an axis is written in, with its size in the metric's own unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    /// As printed: `µs`, `KiB`, `/s`. Empty for plain numbers.
    pub(crate) symbol: &'static str,
    size: f64,
}

const TIME: [Scale; 4] = [
    Scale {
        symbol: "s",
        size: 1e9,
    },
    Scale {
        symbol: "ms",
        size: 1e6,
    },
    Scale {
        symbol: "µs",
        size: 1e3,
    },
    Scale {
        symbol: "ns",
        size: 1.0,
    },
];
const MEMORY: [Scale; 4] = [
    Scale {
        symbol: "GiB",
        size: 1_073_741_824.0,
    },
    Scale {
        symbol: "MiB",
        size: 1_048_576.0,
    },
    Scale {
        symbol: "KiB",
        size: 1024.0,
    },
    Scale {
        symbol: "B",
        size: 1.0,
    },
];
const RATE: [Scale; 1] = [Scale {
    symbol: "/s",
    size: 1.0,
}];
const PLAIN: [Scale; 1] = [Scale {
    symbol: "",
    size: 1.0,
}];

impl Scale {
    /// The largest unit in which the smallest of `values` is still at least 0.1. Zeros do not count.
    pub(crate) fn fitting(unit: Unit, values: impl IntoIterator<Item = f64>) -> Self {
        let scales: &'static [Scale] = match unit {
            Unit::Ns => &TIME,
            Unit::Bytes => &MEMORY,
            Unit::PerSecond => &RATE,
            Unit::Ratio | Unit::Count => &PLAIN,
        };
        let smallest = values
            .into_iter()
            .map(f64::abs)
            .filter(|v| *v > 0.0)
            .fold(f64::INFINITY, f64::min);
        let fits = |scale: &&Scale| smallest.is_finite() && smallest >= 0.1 * scale.size;
        *scales
            .iter()
            .find(fits)
            .unwrap_or(&scales[scales.len() - 1])
    }

    /// `value`, which is in the metric's own unit, as a bare number in this one.
    pub(crate) fn number(self, value: f64) -> String {
        significant(value / self.size)
    }

    /// `value` with its unit: `1.90 ms`, `250/s`.
    pub(crate) fn quantity(self, value: f64) -> String {
        let separator = if self.symbol.is_empty() || self.symbol.starts_with('/') {
            ""
        } else {
            " "
        };
        format!("{}{separator}{}", self.number(value), self.symbol)
    }

    /// A value in this unit, for drawing.
    pub(crate) fn convert(self, value: f64) -> f64 {
        value / self.size
    }
}

/// `value` in the unit that suits it alone, for prose.
pub(crate) fn quantity(unit: Unit, value: f64) -> String {
    Scale::fitting(unit, [value]).quantity(value)
}

/// Three significant digits, without an exponent; whole numbers from 100 on.
pub(crate) fn significant(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 {
        return "0".to_owned();
    }
    // Rounding first, so that 9.996 is counted as 10.0 and not given a fourth digit.
    let mut exponent = magnitude.log10().floor() as i32;
    if magnitude >= 9.995 * 10f64.powi(exponent) {
        exponent += 1;
    }
    let decimals = (2 - exponent).clamp(0, 9) as usize;
    format!("{value:.decimals$}")
}

/// `3.10× [2.90, 3.40]`; without the interval when the run has none.
pub(super) fn ratio(ratio: &Ratio) -> String {
    let figure = significant(ratio.ratio);
    match (ratio.ci95_low, ratio.ci95_high) {
        (Some(low), Some(high)) => {
            format!("{figure}× [{}, {}]", significant(low), significant(high))
        }
        _ => format!("{figure}×"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_significant_digits() {
        let table = [
            (0.0, "0"),
            (0.04567, "0.0457"),
            (0.4567, "0.457"),
            (4.567, "4.57"),
            (9.996, "10.0"),
            (45.67, "45.7"),
            (99.96, "100"),
            (456.7, "457"),
            (4567.0, "4567"),
            (-1.234, "-1.23"),
        ];
        for (value, expected) in table {
            assert_eq!(significant(value), expected, "{value}");
        }
    }

    #[test]
    fn a_column_has_the_unit_of_its_smallest_figure() {
        let table = [
            (Unit::Ns, vec![460_000.0, 4_100_000.0], "0.460 ms"),
            (Unit::Ns, vec![31_000.0, 4_100_000.0], "31.0 µs"),
            (Unit::Ns, vec![99.0], "99.0 ns"),
            (Unit::Bytes, vec![2048.0, 9000.0], "2.00 KiB"),
            (Unit::Bytes, vec![0.0, 60.0], "0 B"),
            (Unit::PerSecond, vec![250.0], "250/s"),
            (Unit::Ratio, vec![0.5], "0.500"),
        ];
        for (unit, values, expected) in table {
            let scale = Scale::fitting(unit, values.iter().copied());
            assert_eq!(scale.quantity(values[0]), expected);
        }
    }
}
