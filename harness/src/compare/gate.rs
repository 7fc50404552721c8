//! Gates: what must not have become of a metric from BASE to HEAD, as a line of text.
//!
//! ```text
//! gate     = [ cells ":" ] metric relation factor
//! cells    = pattern of cell ids; without it, all
//! metric   = pattern of metric keys
//! relation = ">" | ">=" | "<" | "<="
//! factor   = HEAD ÷ BASE, a positive number
//! ```
//!
//! In a pattern `*` stands for any text; everything else is itself. The gate fails where the relation
//! holds: `server_heap_*>1.03` fails on growth of more than 3 %, `memory/*/tls/*:server_rss_*>=1.1` on
//! growth of 10 % and more of TLS. It also fails where BASE has a figure and HEAD has none, and where
//! it finds nothing to compare: a gate that is not looked through is not closed.

use std::fmt;
use std::str::FromStr;

use hopbench::record::metric;

use super::{Comparison, Missing, Pair};

/// What must not be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gate {
    cells: Pattern,
    metric: Pattern,
    relation: Relation,
    factor: f64,
    /// As it was written.
    text: String,
}

/// What came of a gate.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    /// Figures that were compared.
    pub(crate) compared: usize,
    /// The one that is nearest to failing, or fails by most.
    pub(crate) worst: Option<Pair<'a>>,
    /// Those of which the relation holds, the worst first.
    pub(crate) failed: Vec<Pair<'a>>,
    /// Those that HEAD lacks.
    pub(crate) missing: Vec<Missing<'a>>,
}

/// How HEAD ÷ BASE must not stand to the factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// Why a text is no gate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum GateError {
    /// There is nothing to compare by.
    #[error("expected METRIC>FACTOR, with `>`, `>=`, `<` or `<=`, found `{0}`")]
    Relation(String),
    /// The right side is no ratio.
    #[error("expected a positive number such as 1.03 behind the relation, found `{0}`")]
    Factor(String),
    /// No metric has such a name.
    #[error(
        "there is no metric `{pattern}`; did you mean `{nearest}`? `hopbench list metrics` has all"
    )]
    UnknownMetric {
        /// What was asked for.
        pattern: String,
        /// The most similar key.
        nearest: &'static str,
    },
}

impl Gate {
    /// Looks at everything that the gate is about.
    pub(crate) fn apply<'a>(&self, comparison: &Comparison<'a>) -> Outcome<'a> {
        let is_about =
            |cell: &str, metric: &str| self.cells.matches(cell) && self.metric.matches(metric);
        let mut pairs: Vec<Pair<'a>> = comparison.pairs.clone();
        pairs.retain(|pair| is_about(pair.cell_id, pair.metric));
        pairs.sort_by(|a, b| match self.relation {
            Relation::Above | Relation::AtLeast => b.ratio().total_cmp(&a.ratio()),
            Relation::Below | Relation::AtMost => a.ratio().total_cmp(&b.ratio()),
        });
        let missing = comparison.missing.iter().copied();
        let failed = pairs.iter().copied();
        Outcome {
            compared: pairs.len(),
            worst: pairs.first().copied(),
            failed: failed.filter(|pair| self.holds(pair.ratio())).collect(),
            missing: missing
                .filter(|missing| is_about(missing.cell_id, missing.metric))
                .collect(),
        }
    }

    fn holds(&self, ratio: f64) -> bool {
        match self.relation {
            Relation::Above => ratio > self.factor,
            Relation::AtLeast => ratio >= self.factor,
            Relation::Below => ratio < self.factor,
            Relation::AtMost => ratio <= self.factor,
        }
    }
}

impl Outcome<'_> {
    /// Whether nothing is wrong, and something was looked at.
    pub(crate) fn passes(&self) -> bool {
        self.compared > 0 && self.failed.is_empty() && self.missing.is_empty()
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Gate {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        let no_relation = || GateError::Relation(text.to_owned());
        let at = text.find(['<', '>']).ok_or_else(no_relation)?;
        let (left, right) = text.split_at(at);
        let (relation, right) = Relation::take(right).ok_or_else(no_relation)?;
        let (cells, metric) = left.split_once(':').unwrap_or(("*", left));
        let (cells, metric) = (Pattern::of(cells.trim()), Pattern::of(metric.trim()));
        if !metric::KNOWN.iter().any(|known| metric.matches(known.key)) {
            return Err(GateError::UnknownMetric {
                nearest: nearest_key(&metric.0),
                pattern: metric.0,
            });
        }
        let right = right.trim();
        let factor = right.parse().ok();
        let factor = factor.filter(|factor: &f64| factor.is_finite() && *factor > 0.0);
        Ok(Self {
            cells,
            metric,
            relation,
            factor: factor.ok_or_else(|| GateError::Factor(right.to_owned()))?,
            text: text.trim().to_owned(),
        })
    }
}

impl Relation {
    /// The relation that `text` begins with, and what follows it.
    fn take(text: &str) -> Option<(Self, &str)> {
        // The longer ones first.
        const ALL: [(&str, Relation); 4] = [
            (">=", Relation::AtLeast),
            ("<=", Relation::AtMost),
            (">", Relation::Above),
            ("<", Relation::Below),
        ];
        let find = |(sign, relation): &(&str, Self)| Some((*relation, text.strip_prefix(sign)?));
        ALL.iter().find_map(find)
    }
}

fn nearest_key(pattern: &str) -> &'static str {
    let likeness = |key: &str| strsim::jaro_winkler(pattern, key);
    let keys = metric::KNOWN.iter().map(|known| known.key);
    keys.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .expect("there are metrics")
}

/// Text in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(String);

impl Pattern {
    fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn matches(&self, text: &str) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().expect("a split has a piece");
        let Some(mut rest) = text.strip_prefix(first) else {
            return false;
        };
        let Some(last) = pieces.next_back() else {
            return rest.is_empty();
        };
        // As early as possible leaves most for those that follow.
        for piece in pieces {
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Absence;
    use super::*;

    fn gate(text: &str) -> Gate {
        text.parse().unwrap()
    }

    #[test]
    fn patterns() {
        let cases = [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "acb", false),
            ("aba*aba", "aba", false),
            ("*", "", true),
            ("*b*b*", "abab", true),
            ("*b*b*", "ab", false),
            ("abc", "abc", true),
            ("ab", "abc", false),
            ("*bc", "abcbc", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(
                Pattern::of(pattern).matches(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn a_gate_is_read_with_or_without_spaces() {
        let spaced = gate(" memory/*/tls/* : server_heap_bytes_per_connection >= 1.03 ");
        let dense = gate("memory/*/tls/*:server_heap_bytes_per_connection>=1.03");
        assert_eq!(
            (&spaced.cells, spaced.relation),
            (&dense.cells, Relation::AtLeast)
        );
        assert_eq!((&spaced.metric, spaced.factor), (&dense.metric, 1.03));
        assert_eq!(gate("server_*<0.9").cells, Pattern::of("*"));
    }

    #[test]
    fn errors_say_what_there_is() {
        let error = |text: &str| text.parse::<Gate>().unwrap_err().to_string();
        let unknown = error("server_heep_bytes_per_connection>1.03");
        assert!(
            unknown.contains("did you mean `server_heap_bytes_per_connection`"),
            "{unknown}"
        );
        assert!(error("server_heap_*").contains("`>`, `>=`, `<` or `<=`"));
        for factor in ["", "much", "-1", "0", "inf"] {
            let error = error(&format!("server_heap_*>{factor}"));
            assert!(error.contains("such as 1.03"), "{factor}: {error}");
        }
    }

    fn pair<'a>(cell_id: &'a str, metric: &'a str, head: f64) -> Pair<'a> {
        Pair {
            cell_id,
            metric,
            base: 100.0,
            head,
        }
    }

    fn comparison() -> Comparison<'static> {
        Comparison {
            differences: Vec::new(),
            pairs: vec![
                pair("memory/tcp", "server_heap_bytes_per_connection", 103.0),
                pair("memory/tls", "server_heap_bytes_per_connection", 103.5),
                pair("memory/tls", "server_rss_bytes_per_connection", 150.0),
                pair("memory/udp", "server_heap_bytes_per_connection", 90.0),
            ],
            missing: vec![Missing {
                cell_id: "memory/mtls",
                metric: "client_heap_bytes_per_connection",
                absence: Absence::Cell,
            }],
            new_cells: Vec::new(),
        }
    }

    #[test]
    fn a_gate_fails_where_its_relation_holds_and_names_the_worst() {
        let comparison = comparison();
        let heap = gate("server_heap_*>1.03").apply(&comparison);
        assert_eq!(
            (heap.compared, heap.failed.len(), heap.passes()),
            (3, 1, false)
        );
        assert_eq!(heap.worst.unwrap().cell_id, "memory/tls");
        let all = gate("server_*>=1.03").apply(&comparison);
        let failed: Vec<f64> = all.failed.iter().map(|pair| pair.head).collect();
        assert_eq!(failed, [150.0, 103.5, 103.0]);
        assert!(
            gate("memory/tcp:server_heap_*>1.03")
                .apply(&comparison)
                .passes()
        );
        let shrunk = gate("server_heap_*<0.95").apply(&comparison);
        assert_eq!(shrunk.failed[0].cell_id, "memory/udp");
    }

    #[test]
    fn what_cannot_be_compared_does_not_pass() {
        let comparison = comparison();
        let lacking = gate("client_heap_*>1.03").apply(&comparison);
        assert_eq!((lacking.missing.len(), lacking.passes()), (1, false));
        let idle = gate("memory/none:server_heap_*>1.03").apply(&comparison);
        assert_eq!((idle.compared, idle.passes()), (0, false));
    }
}
