//! The names in a message: methods and well-known header fields.

/// Method of a request (RFC 3261 §7.1 and its extensions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Register,
    Options,
    Prack,
    Subscribe,
    Notify,
    Publish,
    Info,
    Refer,
    Message,
    Update,
    /// Any other token; the message holds its text.
    Other,
}

impl Method {
    /// Methods are case-sensitive.
    #[must_use]
    pub fn from_token(token: &str) -> Self {
        match token {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "REGISTER" => Self::Register,
            "OPTIONS" => Self::Options,
            "PRACK" => Self::Prack,
            "SUBSCRIBE" => Self::Subscribe,
            "NOTIFY" => Self::Notify,
            "PUBLISH" => Self::Publish,
            "INFO" => Self::Info,
            "REFER" => Self::Refer,
            "MESSAGE" => Self::Message,
            "UPDATE" => Self::Update,
            _ => Self::Other,
        }
    }

    /// The token, empty for [`Method::Other`].
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Register => "REGISTER",
            Self::Options => "OPTIONS",
            Self::Prack => "PRACK",
            Self::Subscribe => "SUBSCRIBE",
            Self::Notify => "NOTIFY",
            Self::Publish => "PUBLISH",
            Self::Info => "INFO",
            Self::Refer => "REFER",
            Self::Message => "MESSAGE",
            Self::Update => "UPDATE",
            Self::Other => "",
        }
    }
}

macro_rules! headers {
    ($($variant:ident $name:literal $($compact:literal)?;)*) => {
        /// Header fields that the parser recognises, in any case and in compact form.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Header { $($variant,)* }

        impl Header {
            const ALL: &'static [Header] = &[$(Header::$variant,)*];

            /// The name in full.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Header::$variant => $name,)* }
            }

            const fn compact(self) -> Option<u8> {
                match self { $(Header::$variant => headers!(@compact $($compact)?),)* }
            }
        }
    };
    (@compact) => { None };
    (@compact $letter:literal) => { Some($letter) };
}

headers! {
    Via "Via" b'v';
    From "From" b'f';
    To "To" b't';
    CallId "Call-ID" b'i';
    CSeq "CSeq";
    MaxForwards "Max-Forwards";
    ContentLength "Content-Length" b'l';
    Contact "Contact" b'm';
    ContentType "Content-Type" b'c';
    Authorization "Authorization";
    WwwAuthenticate "WWW-Authenticate";
    ProxyAuthorization "Proxy-Authorization";
    ProxyAuthenticate "Proxy-Authenticate";
    Expires "Expires";
    MinExpires "Min-Expires";
    Route "Route";
    RecordRoute "Record-Route";
    Require "Require";
    ProxyRequire "Proxy-Require";
    Supported "Supported" b'k';
    RetryAfter "Retry-After";
    Timestamp "Timestamp";
    Path "Path";
    FlowTimer "Flow-Timer";
    Accept "Accept";
    Allow "Allow";
    Unsupported "Unsupported";
    ContentEncoding "Content-Encoding" b'e';
    Subject "Subject" b's';
    Event "Event" b'o';
}

/// How many headers are recognised.
pub(crate) const HEADERS: usize = Header::ALL.len();

/// For each length of a name and each first letter the header that it can be, so that a name is
/// compared at most twice. Compact forms have a length of their own.
static BY_SHAPE: [[Option<Header>; 2]; 32 * 20] = {
    let mut table = [[None; 2]; 32 * 20];
    let mut next = 0;
    while next < Header::ALL.len() {
        let header = Header::ALL[next];
        let name = header.name().as_bytes();
        let cell = shape(name[0], name.len());
        let free = if table[cell][0].is_none() { 0 } else { 1 };
        assert!(table[cell][free].is_none(), "three names of one shape");
        table[cell][free] = Some(header);
        if let Some(letter) = header.compact() {
            assert!(
                table[shape(letter, 1)][0].is_none(),
                "two names of one letter"
            );
            table[shape(letter, 1)][0] = Some(header);
        }
        next += 1;
    }
    table
};

const fn shape(first: u8, length: usize) -> usize {
    ((first & 0x1f) as usize) * 20 + length
}

/// Each name in lower case, zeros behind it, as far as it is no longer than that: two words are compared with two
/// instructions.
static WORDS: [Words; HEADERS] = {
    let mut words = [[0; 2]; HEADERS];
    let mut next = 0;
    while next < Header::ALL.len() {
        let header = Header::ALL[next];
        let name = header.name().as_bytes();
        let mut at = 0;
        while at < name.len() && name.len() <= WORDS_BYTES {
            words[header as usize][at / 8] |= ((name[at] | 0x20) as u64) << (8 * (at % 8));
            at += 1;
        }
        next += 1;
    }
    words
};

type Words = [u64; 2];
const WORDS_BYTES: usize = 16;
/// The same byte in each place of a word.
const EACH: u64 = 0x0101_0101_0101_0101;

/// Place of the first colon among eight bytes, 8 if there is none.
fn colon_in(word: u64) -> usize {
    let other = word ^ (EACH * b':' as u64);
    // The highest bit of each byte that is zero; above the first one, perhaps of others.
    let zeros = other.wrapping_sub(EACH) & !other & (EACH << 7);
    zeros.trailing_zeros() as usize / 8
}

impl Header {
    /// The header whose line `text` starts with, and the place of its colon, if it is a well-known one that is written
    /// in a usual way: with up to fifteen letters, and a colon right behind it. It is quicker than
    /// [`Header::from_name`], since no name is looked at a byte at a time. Only for lines without a CR on its own.
    pub(crate) fn of_line(text: &[u8]) -> Option<(Self, usize)> {
        let (words, _) = text.first_chunk::<WORDS_BYTES>()?.as_chunks();
        let [low, high] = [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])];
        let mut colon = colon_in(low);
        if colon == 8 {
            colon += colon_in(high);
        }
        if colon == 0 || colon == WORDS_BYTES {
            return None;
        }
        let candidates = BY_SHAPE[shape(low as u8, colon)];
        if colon == 1 {
            // The shape has told the letter apart from all but what is no letter.
            let header = candidates[0].filter(|_| (low as u8).is_ascii_alphabetic())?;
            return Some((header, colon));
        }
        // Besides a letter's, only a CR's other case is what a name may hold: a hyphen.
        let name = match colon.checked_sub(8) {
            None | Some(0) => [first_bytes(low, colon), 0],
            Some(more) => [low | EACH << 5, first_bytes(high, more)],
        };
        let is_named = |header: &Self| WORDS[*header as usize] == name;
        let [likely, other] = candidates;
        let header = likely.filter(is_named);
        let header = header.or_else(|| other.filter(is_named))?;
        Some((header, colon))
    }

    /// The header of that name, if it is a well-known one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let bytes = name.as_bytes();
        let first = *bytes.first().filter(|_| bytes.len() < 20)?;
        let [likely, other] = BY_SHAPE[shape(first, bytes.len())];
        let is_named = |header: &Header| {
            let known = header.name().as_bytes();
            match bytes {
                // The shape has told the letter apart from all but what is no letter.
                [letter] => letter.is_ascii_alphabetic(),
                // Most write names as the RFCs do.
                _ => bytes == known || bytes.eq_ignore_ascii_case(known),
            }
        };
        likely.filter(is_named).or_else(|| other.filter(is_named))
    }
}

/// The first bytes of a word, from 1 to 8 of them, with the bit that makes letters lower case.
fn first_bytes(word: u64, count: usize) -> u64 {
    (word | EACH << 5) & (u64::MAX >> (64 - 8 * count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_all_well_known_headers_are_recognised() {
        for &header in Header::ALL {
            let name = header.name();
            for name in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                let line = format!("{name}: some value that is long enough");
                let found = (name.len() < WORDS_BYTES).then_some((header, name.len()));
                assert_eq!(Header::of_line(line.as_bytes()), found, "{line}");
            }
            if let Some(letter) = header.compact() {
                let line = format!("{}:some value that is long enough", char::from(letter));
                assert_eq!(
                    Header::of_line(line.as_bytes()),
                    Some((header, 1)),
                    "{line}"
                );
            }
        }
    }

    proptest! {
        /// Whatever it recognises, the grammar does as well.
        #[test]
        fn what_is_recognised_is_the_header_of_that_name(
            header in 0..HEADERS, flips in any::<u64>(), place in 0..24_usize, byte in any::<u8>(),
        ) {
            let name = Header::ALL[header].name();
            let mut line = format!("{name}: sip:value that is long enough").into_bytes();
            for (at, byte) in line.iter_mut().take(name.len()).enumerate() {
                *byte ^= (flips >> at & 1) as u8 * 0x20;
            }
            if place < name.len() {
                line[place] = byte;
            }
            prop_assume!(!line.contains(&b'\r'));
            if let Some((found, colon)) = Header::of_line(&line) {
                let name = std::str::from_utf8(&line[..colon]).expect("names are ASCII");
                prop_assert_eq!(Header::from_name(name), Some(found));
            }
        }
    }
}
