//! What many cells lack, in a line for each limit: the greatest need is the one to meet.

use std::fmt;

use super::{Asker, Shortfall, Unmet};

/// A limit that some cells exceed.
struct Line<'a> {
    asker: Asker,
    /// The greatest of them.
    shortfall: Shortfall,
    /// Whose that is.
    cell: &'a str,
    /// How many others exceed it as well.
    others: usize,
}

/// What cells lack, by limit: each is a cell's name and what it lacks.
pub(crate) fn lines(unmet: &[(String, Unmet)]) -> Vec<String> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (cell, unmet) in unmet {
        for shortfall in &unmet.shortfalls {
            let known = lines
                .iter_mut()
                .find(|line| line.shortfall.limit == shortfall.limit);
            match known {
                None => lines.push(Line {
                    asker: unmet.asker,
                    shortfall: *shortfall,
                    cell,
                    others: 0,
                }),
                Some(line) => {
                    line.others += 1;
                    if shortfall.needs > line.shortfall.needs {
                        (line.shortfall, line.cell) = (*shortfall, cell);
                    }
                }
            }
        }
    }
    lines.iter().map(ToString::to_string).collect()
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.others {
            0 => write!(f, "{}: ", self.cell)?,
            others => write!(f, "{} and {others} more: ", self.cell)?,
        }
        self.shortfall.write(self.asker, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::find;

    use super::super::{Demand, Readings, Spread};
    use super::*;

    #[test]
    fn the_greatest_need_of_each_limit_is_told_once() {
        let has = Readings {
            descriptors: Some(256),
            memory_bytes: Some(80 << 20),
            ..Readings::default()
        };
        let of = |users: u32| {
            let demand = Demand::of_cell(find("tcp").unwrap(), users, Spread::PAIR);
            (format!("users={users}"), demand.unmet(&has).unwrap())
        };
        let told = lines(&[of(300), of(9_000), of(400)]);
        let starts = [
            "users=9000 and 2 more: a node process needs 9064 descriptors, and the hard limit is 256",
            "users=9000 and 2 more: a generator process needs 9064 descriptors",
            "users=9000: about 173 MiB of memory are needed, and 80 MiB are available",
        ];
        assert_eq!(told.len(), starts.len(), "{told:?}");
        for (line, start) in told.iter().zip(starts) {
            assert!(line.starts_with(start), "{line}");
        }
    }
}
