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

impl Header {
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
