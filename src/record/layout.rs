//! How the JSON of a run is laid out: a key a line down to the metrics of a cell, of which each is a line, so
//! that people and `diff` can read it. Deeper than that, indentation would be a third of the file.

use std::io::{self, Write};

use serde_json::ser::Formatter;

/// How many arrays and objects are around a metric: run, cells, cell, metrics.
const AROUND_A_METRIC: usize = 4;

/// Objects over lines of their own, two spaces deeper each; on one line what is as deep as a metric, and
/// arrays unless they hold objects of more lines.
#[derive(Debug, Default)]
pub(super) struct Layout {
    open: Vec<Open>,
}

/// An array or object whose end has not come yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// Nothing but numbers, texts and arrays of them so far.
    Line,
    /// It holds objects, and so ends on a line of its own.
    Block,
    /// An object, empty so far.
    Empty,
    /// An object.
    Members,
    /// An object on one line.
    Metric,
}

impl Layout {
    fn line(&self, writer: &mut (impl ?Sized + Write)) -> io::Result<()> {
        writer.write_all(b"\n")?;
        (0..self.open.len()).try_for_each(|_| writer.write_all(b"  "))
    }

    fn end(&mut self, writer: &mut (impl ?Sized + Write), end: &[u8]) -> io::Result<()> {
        if let Some(Open::Block | Open::Members) = self.open.pop() {
            self.line(writer)?;
        }
        writer.write_all(end)
    }
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open.push(Open::Line);
        writer.write_all(b"[")
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            return Ok(());
        }
        writer.write_all(b",")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.open.len() >= AROUND_A_METRIC {
            self.open.push(Open::Metric);
            return writer.write_all(b"{");
        }
        if let Some(array @ (Open::Line | Open::Block)) = self.open.last_mut() {
            *array = Open::Block;
            self.line(writer)?;
        }
        self.open.push(Open::Empty);
        writer.write_all(b"{")
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        let separator: &[u8] = match (self.open.last_mut(), first) {
            (Some(Open::Metric), true) => return Ok(()),
            (Some(Open::Metric), false) => return writer.write_all(b", "),
            (Some(object), _) => {
                *object = Open::Members;
                if first { b"" } else { b"," }
            }
            (None, _) => b"",
        };
        writer.write_all(separator)?;
        self.line(writer)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde::Serialize;
    use serde_json::{Value, json};

    fn laid_out(value: &Value) -> String {
        let mut bytes = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Layout::default());
        value.serialize(&mut serializer).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_metric_is_a_line() {
        let value = json!({
            "at": [1, 2.5, null],
            "cells": [{"id": "a", "none": []}, {
                "metrics": {"x_ns": {"fit": {"at": [1, 2]}, "value": 3}, "y_ns": {}},
                "readings": [[1, 2], [3]],
            }],
            "empty": {},
        });
        let expected = r#"{
  "at": [1,2.5,null],
  "cells": [
    {
      "id": "a",
      "none": []
    },
    {
      "metrics": {
        "x_ns": {"fit": {"at": [1,2]}, "value": 3},
        "y_ns": {}
      },
      "readings": [[1,2],[3]]
    }
  ],
  "empty": {}
}"#;
        assert_eq!(laid_out(&value), expected);
    }

    #[test]
    fn what_is_laid_out_is_what_was_meant() {
        for value in [
            json!([]),
            json!({}),
            json!([[], {}, [{"a": [{}]}], "a\n\"b"]),
            json!([[[[[{"a": {"b": [{}, {"c": 1, "d": 2}]}}, {}], 1]]]]),
            json!(3),
        ] {
            let read: Value = serde_json::from_str(&laid_out(&value)).unwrap();
            assert_eq!(read, value);
        }
    }
}
