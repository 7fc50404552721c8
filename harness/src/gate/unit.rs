//! Quantities of a gate: numbers with what they measure, so that a time is not held against bytes.

use std::fmt;

use hopbench::record::Unit;

/// Powers of the base units nanosecond, byte and per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dimension {
    time: i8,
    bytes: i8,
    rate: i8,
}

const TIME: Dimension = Dimension {
    time: 1,
    ..Dimension::PLAIN
};
const BYTES: Dimension = Dimension {
    bytes: 1,
    ..Dimension::PLAIN
};
const RATE: Dimension = Dimension {
    rate: 1,
    ..Dimension::PLAIN
};

/// Units as they are written, with their size in the base unit.
const UNITS: [(&str, f64, Dimension); 14] = [
    ("ns", 1.0, TIME),
    ("µs", 1e3, TIME),
    ("us", 1e3, TIME),
    ("ms", 1e6, TIME),
    ("s", 1e9, TIME),
    ("B", 1.0, BYTES),
    ("kB", 1e3, BYTES),
    ("MB", 1e6, BYTES),
    ("GB", 1e9, BYTES),
    ("KiB", 1024.0, BYTES),
    ("MiB", 1_048_576.0, BYTES),
    ("GiB", 1_073_741_824.0, BYTES),
    ("/s", 1.0, RATE),
    ("%", 0.01, Dimension::PLAIN),
];

/// For error texts.
pub(super) const NAMES: [&str; 13] = [
    "ns", "µs", "ms", "s", "B", "kB", "MB", "GB", "KiB", "MiB", "GiB", "/s", "%",
];

/// The size and the dimension of a unit.
pub(super) fn unit(name: &str) -> Option<(f64, Dimension)> {
    let mut units = UNITS.into_iter();
    units.find_map(|(known, size, dimension)| (known == name).then_some((size, dimension)))
}

impl Dimension {
    /// A mere number.
    pub(crate) const PLAIN: Self = Self {
        time: 0,
        bytes: 0,
        rate: 0,
    };

    pub(super) fn of(unit: Unit) -> Self {
        match unit {
            Unit::Ns => TIME,
            Unit::Bytes => BYTES,
            Unit::PerSecond => RATE,
            Unit::Ratio | Unit::Count => Self::PLAIN,
        }
    }

    /// Of a product; with `sign` −1, of a quotient.
    pub(super) fn times(self, other: Self, sign: i8) -> Self {
        let power = |own: i8, other: i8| own.saturating_add(sign.saturating_mul(other));
        Self {
            time: power(self.time, other.time),
            bytes: power(self.bytes, other.bytes),
            rate: power(self.rate, other.rate),
        }
    }

    /// The unit that a figure of this dimension is shown in; `None` for what has no name.
    pub(crate) fn unit(self) -> Option<Unit> {
        match self {
            TIME => Some(Unit::Ns),
            BYTES => Some(Unit::Bytes),
            RATE => Some(Unit::PerSecond),
            Self::PLAIN => Some(Unit::Ratio),
            _ => None,
        }
    }

    pub(super) fn example(self) -> Option<&'static str> {
        match self {
            TIME => Some("`5 ms`"),
            BYTES => Some("`20 KiB`"),
            RATE => Some("`200 /s`"),
            _ => None,
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            TIME => "a time",
            BYTES => "a number of bytes",
            RATE => "a rate",
            Self::PLAIN => "a bare number",
            _ => "a product of quantities",
        })
    }
}
