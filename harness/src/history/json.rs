//! JSON as the store writes it: indented, but an array is one line, so that a figure is a line of a diff.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// `value`, whose arrays hold no objects, with a line feed behind it.
pub(super) fn pretty(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    let formatter = Lines(PrettyFormatter::new());
    let mut serializer = Serializer::with_formatter(&mut out, formatter);
    value.serialize(&mut serializer).expect("keys are strings");
    out.push(b'\n');
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// Objects as [`PrettyFormatter`] writes them, arrays on one line.
struct Lines(PrettyFormatter<'static>);

impl Formatter for Lines {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_a_line() {
        let value = serde_json::json!({"a": {"b": [1.5, null, 2]}, "c": [], "d": {}});
        let expected =
            "{\n  \"a\": {\n    \"b\": [1.5, null, 2]\n  },\n  \"c\": [],\n  \"d\": {}\n}\n";
        assert_eq!(pretty(&value), expected);
    }
}
