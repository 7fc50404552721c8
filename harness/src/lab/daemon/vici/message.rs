//! Messages of vici, strongSwan's control protocol, sans-IO: nested sections of keys, values and lists, and
//! the packets that carry them (`src/libcharon/plugins/vici/README.md` of strongSwan, version 1).

/// Packet types.
const COMMAND_REQUEST: u8 = 0;
const COMMAND_RESPONSE: u8 = 1;
const COMMAND_UNKNOWN: u8 = 2;
const EVENT_REGISTER: u8 = 3;
const EVENT_CONFIRM: u8 = 5;
const EVENT_UNKNOWN: u8 = 6;
const EVENT: u8 = 7;

/// Message elements.
const SECTION_START: u8 = 1;
const SECTION_END: u8 = 2;
const KEY_VALUE: u8 = 3;
const LIST_START: u8 = 4;
const LIST_ITEM: u8 = 5;
const LIST_END: u8 = 6;

/// Sections in sections that are read; strongSwan's own have four.
const DEPTH_MAX: usize = 16;

/// A section: what its keys stand for, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section(Vec<(String, Node)>);

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Value(Vec<u8>),
    List(Vec<Vec<u8>>),
    Section(Section),
}

impl Section {
    /// An empty one, as most requests have.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a value.
    #[must_use]
    pub(crate) fn value(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        let value = Node::Value(value.as_ref().to_vec());
        self.0.push((key.to_owned(), value));
        self
    }

    /// Adds a list of values.
    #[must_use]
    pub(crate) fn list(mut self, key: &str, items: &[&str]) -> Self {
        let items = items.iter().map(|item| item.as_bytes().to_vec()).collect();
        self.0.push((key.to_owned(), Node::List(items)));
        self
    }

    /// Adds a section.
    #[must_use]
    pub(crate) fn section(mut self, key: &str, section: Self) -> Self {
        self.0.push((key.to_owned(), Node::Section(section)));
        self
    }

    /// The value of a key, as text.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        match self.find(key)? {
            Node::Value(value) => Some(String::from_utf8_lossy(value).into_owned()),
            Node::List(_) | Node::Section(_) => None,
        }
    }

    /// The sections in it, with their keys.
    #[cfg(test)]
    pub(crate) fn sections(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.0.iter().filter_map(|(key, node)| match node {
            Node::Section(section) => Some((key.as_str(), section)),
            Node::Value(_) | Node::List(_) => None,
        })
    }

    fn find(&self, key: &str) -> Option<&Node> {
        let mut pairs = self.0.iter();
        pairs.find(|(found, _)| found == key).map(|(_, node)| node)
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), MessageError> {
        for (key, node) in &self.0 {
            match node {
                Node::Value(value) => {
                    put_name(KEY_VALUE, key, out)?;
                    put_value(value, out)?;
                }
                Node::List(items) => {
                    put_name(LIST_START, key, out)?;
                    for item in items {
                        out.push(LIST_ITEM);
                        put_value(item, out)?;
                    }
                    out.push(LIST_END);
                }
                Node::Section(section) => {
                    put_name(SECTION_START, key, out)?;
                    section.encode(out)?;
                    out.push(SECTION_END);
                }
            }
        }
        Ok(())
    }

    /// Reads elements up to the end of the section, which is the end of the message if it is the outermost.
    fn decode(input: &mut Input<'_>, depth: usize) -> Result<Self, MessageError> {
        if depth > DEPTH_MAX {
            return Err(MessageError::Deep);
        }
        let mut section = Self::new();
        while let Some(element) = input.next_unless_at_end() {
            match element {
                KEY_VALUE => {
                    let key = input.name()?;
                    section.0.push((key, Node::Value(input.value()?)));
                }
                LIST_START => {
                    let key = input.name()?;
                    section.0.push((key, Node::List(input.items()?)));
                }
                SECTION_START => {
                    let key = input.name()?;
                    let inner = Self::decode(input, depth + 1)?;
                    section.0.push((key, Node::Section(inner)));
                }
                SECTION_END if depth > 0 => return Ok(section),
                other => return Err(MessageError::Element(other)),
            }
        }
        match depth {
            0 => Ok(section),
            _ => Err(MessageError::Short),
        }
    }
}

/// What the daemon sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// The answer to a command.
    Response(Section),
    /// The daemon does not know the command.
    UnknownCommand,
    /// The events that were asked for will come.
    EventConfirmed,
    /// The daemon does not know the events.
    UnknownEvent,
    /// Something has happened, or is listed.
    Event(String, Section),
}

impl Packet {
    /// Reads a packet without the length in front of it.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut input = Input(bytes);
        match input.byte()? {
            COMMAND_RESPONSE => Ok(Self::Response(Section::decode(&mut input, 0)?)),
            COMMAND_UNKNOWN => Ok(Self::UnknownCommand),
            EVENT_CONFIRM => Ok(Self::EventConfirmed),
            EVENT_UNKNOWN => Ok(Self::UnknownEvent),
            EVENT => {
                let name = input.name()?;
                Ok(Self::Event(name, Section::decode(&mut input, 0)?))
            }
            other => Err(MessageError::Packet(other)),
        }
    }
}

/// The packet of a command, with its length in front.
///
/// # Errors
/// When a name or value is too long to be said.
pub(crate) fn command(name: &str, message: &Section) -> Result<Vec<u8>, MessageError> {
    let mut packet = Vec::new();
    put_name(COMMAND_REQUEST, name, &mut packet)?;
    message.encode(&mut packet)?;
    framed(&packet)
}

/// The packet that asks for events of a name, with its length in front.
///
/// # Errors
/// When the name is too long.
pub(crate) fn registration(event: &str) -> Result<Vec<u8>, MessageError> {
    let mut packet = Vec::new();
    put_name(EVENT_REGISTER, event, &mut packet)?;
    framed(&packet)
}

fn framed(packet: &[u8]) -> Result<Vec<u8>, MessageError> {
    let length = u32::try_from(packet.len()).map_err(|_| MessageError::Long)?;
    Ok([&length.to_be_bytes(), packet].concat())
}

fn put_name(kind: u8, name: &str, out: &mut Vec<u8>) -> Result<(), MessageError> {
    let length = u8::try_from(name.len()).map_err(|_| MessageError::Long)?;
    out.extend([kind, length]);
    out.extend(name.as_bytes());
    Ok(())
}

fn put_value(value: &[u8], out: &mut Vec<u8>) -> Result<(), MessageError> {
    let length = u16::try_from(value.len()).map_err(|_| MessageError::Long)?;
    out.extend(length.to_be_bytes());
    out.extend(value);
    Ok(())
}

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn next_unless_at_end(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn byte(&mut self) -> Result<u8, MessageError> {
        self.next_unless_at_end().ok_or(MessageError::Short)
    }

    fn take(&mut self, length: usize) -> Result<&[u8], MessageError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(MessageError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn name(&mut self) -> Result<String, MessageError> {
        let length = usize::from(self.byte()?);
        let name = self.take(length)?;
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    fn value(&mut self) -> Result<Vec<u8>, MessageError> {
        let length = u16::from_be_bytes([self.byte()?, self.byte()?]);
        Ok(self.take(length.into())?.to_vec())
    }

    fn items(&mut self) -> Result<Vec<Vec<u8>>, MessageError> {
        let mut items = Vec::new();
        loop {
            match self.byte()? {
                LIST_ITEM => items.push(self.value()?),
                LIST_END => return Ok(items),
                other => return Err(MessageError::Element(other)),
            }
        }
    }
}

/// What is no message of vici.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    /// A length leads beyond the end, or a section does not end.
    #[error("the message ends in the middle")]
    Short,
    /// An element where it has no place.
    #[error("expected the next element of a section or list, found type {0}")]
    Element(u8),
    /// A type that only clients send, or that does not exist.
    #[error("expected a response or an event, found a packet of type {0}")]
    Packet(u8),
    /// Sections in sections without end.
    #[error("expected at most {DEPTH_MAX} sections inside each other, found more")]
    Deep,
    /// Lengths are of one byte for names and of two for values.
    #[error(
        "expected a name of at most 255 bytes and a value of at most 65,535, found a longer one"
    )]
    Long,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example in strongSwan's description of the protocol.
    fn described() -> (Section, &'static [u8]) {
        let sub = Section::new().value("key2", "value2");
        let section = Section::new()
            .value("key1", "value1")
            .section("section1", Section::new().section("sub-section", sub))
            .list("list1", &["item1", "item2"]);
        let bytes = b"\x03\x04key1\x00\x06value1\
            \x01\x08section1\x01\x0bsub-section\x03\x04key2\x00\x06value2\x02\x02\
            \x04\x05list1\x05\x00\x05item1\x05\x00\x05item2\x06";
        (section, bytes)
    }

    #[test]
    fn the_described_example_is_written_byte_for_byte() {
        let (section, bytes) = described();
        let packet = command("load-conn", &section).unwrap();
        let head = b"\x00\x09load-conn";
        let length = u32::try_from(head.len() + bytes.len()).unwrap();
        assert_eq!(
            packet,
            [&length.to_be_bytes(), head.as_slice(), bytes].concat()
        );
        assert_eq!(
            registration("list-sa").unwrap(),
            b"\0\0\0\x09\x03\x07list-sa"
        );
    }

    #[test]
    fn the_described_example_is_read() {
        let (section, bytes) = described();
        let response = Packet::decode(&[b"\x01", bytes].concat()).unwrap();
        assert_eq!(response, Packet::Response(section.clone()));
        let event = Packet::decode(&[b"\x07\x07list-sa", bytes].concat()).unwrap();
        assert_eq!(event, Packet::Event("list-sa".to_owned(), section.clone()));
        assert_eq!(section.text("key1").unwrap(), "value1");
        assert_eq!(section.text("list1"), None);
        let (name, inner) = section.sections().next().unwrap();
        assert_eq!(name, "section1");
        let (_, sub) = inner.sections().next().unwrap();
        assert_eq!(sub.text("key2").unwrap(), "value2");
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_reason() {
        let cases: [(&[u8], MessageError); 8] = [
            (b"", MessageError::Short),
            (b"\x00\x03abc", MessageError::Packet(0)),
            (b"\x01\x03\x09key", MessageError::Short),
            (b"\x01\x03\x01k\x00\x05abc", MessageError::Short),
            (b"\x01\x01\x01s", MessageError::Short),
            (b"\x01\x02", MessageError::Element(2)),
            (b"\x01\x04\x01l\x03", MessageError::Element(3)),
            (b"\x01\x09", MessageError::Element(9)),
        ];
        for (bytes, error) in cases {
            assert_eq!(Packet::decode(bytes), Err(error), "{bytes:?}");
        }
        let deep = [b"\x01".to_vec(), b"\x01\x01s".repeat(100)].concat();
        assert_eq!(Packet::decode(&deep), Err(MessageError::Deep));
        let long = Section::new().value("key", vec![0; 65_536]);
        assert_eq!(command("load-key", &long), Err(MessageError::Long));
    }

    fn any_section() -> impl Strategy<Value = Section> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        let leaf = prop_oneof![
            bytes().prop_map(Node::Value),
            prop::collection::vec(bytes(), 0..4).prop_map(Node::List),
        ];
        let node = leaf.prop_recursive(4, 20, 4, |inner| {
            prop::collection::vec(("[a-z0-9-]{0,20}", inner), 0..4)
                .prop_map(|pairs| Node::Section(Section(pairs)))
        });
        prop::collection::vec(("[a-z0-9-]{0,20}", node), 0..4).prop_map(Section)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(section in any_section()) {
            let packet = command("c", &section).unwrap();
            let message = [&[COMMAND_RESPONSE], &packet[4 + 3..]].concat();
            prop_assert_eq!(Packet::decode(&message).unwrap(), Packet::Response(section));
        }

        #[test]
        fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Packet::decode(&bytes);
        }
    }
}
