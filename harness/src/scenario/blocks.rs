//! How often the cells of an experiment are measured: so many times, or until ratios are narrow.

use anyhow::ensure;
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::statistics::{BLOCKS_OF_A_LOOK_MIN, Stopping};

/// Blocks of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Blocks {
    /// So many.
    Fixed(u32),
    /// As many as it takes.
    Automatic(Automatic),
}

/// Blocks go on until the interval of every ratio is narrow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Automatic {
    /// Never fewer.
    #[serde(default = "least")]
    pub(crate) least: u32,
    /// Never more.
    #[serde(default = "most")]
    pub(crate) most: u32,
    /// Half of an interval's width ÷ the ratio, at most.
    #[serde(default = "half_width_ratio")]
    pub(crate) half_width_ratio: f64,
    /// Whose ratios decide, by metric key; all ratios if it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) metrics: Vec<String>,
}

/// More blocks than that would take ages to narrow an interval once more.
const BLOCKS_MAX: u32 = 100;

fn least() -> u32 {
    BLOCKS_OF_A_LOOK_MIN
}

fn most() -> u32 {
    40
}

fn half_width_ratio() -> f64 {
    0.05
}

impl Blocks {
    /// So many at least.
    pub(crate) fn least(&self) -> u32 {
        match self {
            Self::Fixed(blocks) => *blocks,
            Self::Automatic(automatic) => automatic.least,
        }
    }

    /// So many at most.
    pub(crate) fn most(&self) -> u32 {
        match self {
            Self::Fixed(blocks) => *blocks,
            Self::Automatic(automatic) => automatic.most,
        }
    }

    /// When they end, if that is not known before.
    pub(crate) fn automatic(&self) -> Option<&Automatic> {
        match self {
            Self::Fixed(_) => None,
            Self::Automatic(automatic) => Some(automatic),
        }
    }

    /// How it is decided how many there are.
    pub(crate) fn stopping(&self) -> Stopping {
        match self {
            Self::Fixed(_) => Stopping::Fixed,
            Self::Automatic(_) => Stopping::ByWidth,
        }
    }

    /// As a cell records it: a number, or the rule.
    pub(crate) fn recorded(&self) -> Value {
        match self {
            Self::Fixed(blocks) => json!(blocks),
            Self::Automatic(automatic) => json!(automatic),
        }
    }

    /// The same, but until ratios are narrow if it was so many times.
    pub(crate) fn until_narrow(&self) -> Self {
        match self {
            Self::Fixed(blocks) => Self::Automatic(Automatic {
                least: *blocks,
                most: BLOCKS_MAX.max(*blocks),
                half_width_ratio: half_width_ratio(),
                metrics: Vec::new(),
            }),
            Self::Automatic(_) => self.clone(),
        }
    }

    /// # Errors
    /// When they make no sense; `place` is where they stand.
    pub(super) fn check(&self, place: &str) -> anyhow::Result<()> {
        ensure!(
            self.most() > 0,
            "`{place}.blocks` is 0: a figure needs at least one block"
        );
        let Self::Automatic(automatic) = self else {
            return Ok(());
        };
        let Automatic {
            least,
            most,
            half_width_ratio,
            metrics,
        } = automatic;
        ensure!(
            (BLOCKS_OF_A_LOOK_MIN..=BLOCKS_MAX).contains(least),
            "`{place}.blocks.least` is {least}; allowed is {BLOCKS_OF_A_LOOK_MIN}, with which an interval can \
             first tell when to stop, to {BLOCKS_MAX}"
        );
        ensure!(
            (*least..=BLOCKS_MAX).contains(most),
            "`{place}.blocks.most` is {most}; allowed is `least`, {least}, to {BLOCKS_MAX}"
        );
        ensure!(
            (0.001..=1.0).contains(half_width_ratio),
            "`{place}.blocks.half_width_ratio` is {half_width_ratio}; allowed is 0.001 to 1 (0.05 is ±5 %)"
        );
        for key in metrics {
            ensure!(
                hopbench::record::metric::known(key).is_some(),
                "`{place}.blocks.metrics` names `{key}`, which is no metric; `hopbench list metrics` shows all"
            );
        }
        Ok(())
    }
}

impl From<u32> for Blocks {
    fn from(blocks: u32) -> Self {
        Self::Fixed(blocks)
    }
}

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherWay)
    }
}

struct EitherWay;

impl<'de> Visitor<'de> for EitherWay {
    type Value = Blocks;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number of blocks, or { least = …, most = …, half_width_ratio = … }")
    }

    fn visit_i64<E: de::Error>(self, blocks: i64) -> Result<Blocks, E> {
        let number = u32::try_from(blocks);
        number
            .map(Blocks::Fixed)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(blocks), &self))
    }

    fn visit_u64<E: de::Error>(self, blocks: u64) -> Result<Blocks, E> {
        let number = u32::try_from(blocks);
        number
            .map(Blocks::Fixed)
            .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(blocks), &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Blocks, A::Error> {
        Automatic::deserialize(MapAccessDeserializer::new(map)).map(Blocks::Automatic)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Holder {
        blocks: Blocks,
    }

    fn read(text: &str) -> Result<Blocks, String> {
        let holder: Holder = toml::from_str(text).map_err(|error| error.to_string())?;
        let checked = holder.blocks.check("setup");
        checked.map_err(|error| error.to_string())?;
        Ok(holder.blocks)
    }

    #[test]
    fn a_number_or_a_rule() {
        assert_eq!(read("blocks = 6").unwrap(), Blocks::Fixed(6));
        let rule = read("blocks = { most = 30 }").unwrap();
        assert_eq!((rule.least(), rule.most()), (7, 30));
        assert_eq!(
            rule.recorded(),
            json!({"least": 7, "most": 30, "half_width_ratio": 0.05})
        );
        assert_eq!(rule.until_narrow(), rule);
        let narrow = Blocks::Fixed(3).until_narrow();
        assert_eq!((narrow.least(), narrow.most()), (3, 100));
    }

    #[test]
    fn errors_say_what_is_allowed() {
        let cases = [
            ("blocks = 0", "at least one block"),
            ("blocks = -1", "expected a number of blocks, or {"),
            ("blocks = \"many\"", "expected a number of blocks, or {"),
            ("blocks = { least = 3 }", "allowed is 7"),
            (
                "blocks = { least = 10, most = 9 }",
                "allowed is `least`, 10, to 100",
            ),
            ("blocks = { half_width_ratio = 5 }", "0.001 to 1"),
            ("blocks = { widest = 1 }", "unknown field `widest`"),
            (
                "blocks = { metrics = [\"cpu\"] }",
                "names `cpu`, which is no metric",
            ),
        ];
        for (text, expected) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
