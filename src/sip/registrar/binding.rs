//! Where a user can be reached, in as few bytes as a million of them deserve.

use std::num::NonZeroU32;
use std::time::Instant;

use crate::sip::parse::{NameAddr, Params};

/// Longest contact and path, together, that are kept.
pub(super) const TEXT_BYTES_MAX: usize = 2_048;

/// `q` in thousandths when a contact names none.
pub(super) const Q_DEFAULT_THOUSANDTHS: u16 = 1_000;

/// One registration of one binding: differs after every refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindingId(pub(super) u64);

/// Where a user can be reached.
#[derive(Clone, Debug)]
pub struct Binding<F> {
    /// `<uri>` with the parameters of the contact, then the path: one allocation for all.
    text: Box<str>,
    uri_end: u16,
    contact_end: u16,
    interface: u16,
    q_thousandths: u16,
    /// Only if outbound processing applies.
    reg_id: Option<NonZeroU32>,
    pub(super) cseq: u32,
    /// Hash of the Call-ID that `cseq` belongs to.
    pub(super) call_id: u64,
    id: BindingId,
    expires_at: Instant,
    flow: F,
}

/// What a binding is made of.
pub(super) struct Parts<'a, F> {
    pub(super) contact: NameAddr<'a>,
    pub(super) path: &'a str,
    pub(super) interface: u16,
    pub(super) q_thousandths: u16,
    pub(super) reg_id: Option<NonZeroU32>,
    pub(super) cseq: u32,
    pub(super) call_id: u64,
    pub(super) id: BindingId,
    pub(super) expires_at: Instant,
    pub(super) flow: F,
}

impl<F> Binding<F> {
    /// `None` if contact and path are longer than [`TEXT_BYTES_MAX`].
    pub(super) fn new(parts: Parts<'_, F>) -> Option<Self> {
        let params = || {
            let all = parts.contact.params.iter();
            all.filter(|(name, _)| !name.eq_ignore_ascii_case("expires"))
        };
        let value_bytes = |value: Option<&str>| value.map_or(0, |value| 1 + value.len());
        let param_bytes = |(name, value): (&str, _)| 1 + name.len() + value_bytes(value);
        let uri_bytes = parts.contact.uri.len() + 2;
        let contact_bytes = uri_bytes + params().map(param_bytes).sum::<usize>();
        if contact_bytes + parts.path.len() > TEXT_BYTES_MAX {
            return None;
        }
        let mut text = String::with_capacity(contact_bytes + parts.path.len());
        for part in ["<", parts.contact.uri, ">"] {
            text.push_str(part);
        }
        for (name, value) in params() {
            text.push(';');
            text.push_str(name);
            if let Some(value) = value {
                text.push('=');
                text.push_str(value);
            }
        }
        text.push_str(parts.path);
        let offset = |bytes: usize| u16::try_from(bytes).expect("the text is short");
        Some(Self {
            text: text.into_boxed_str(),
            uri_end: offset(uri_bytes - 1),
            contact_end: offset(contact_bytes),
            interface: parts.interface,
            q_thousandths: parts.q_thousandths,
            reg_id: parts.reg_id,
            cseq: parts.cseq,
            call_id: parts.call_id,
            id: parts.id,
            expires_at: parts.expires_at,
            flow: parts.flow,
        })
    }

    /// URI of the `Contact`: the Request-URI of what is sent there.
    #[must_use]
    pub fn contact(&self) -> &str {
        &self.text[1..usize::from(self.uri_end)]
    }

    /// The `Contact` as it was registered, `<uri>;params`, without `expires`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.text[..usize::from(self.contact_end)]
    }

    /// The path vector (RFC 3327): values of `Route` for what is sent there, in their order and
    /// separated by commas. `None` if the user agent is the next hop.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        Some(&self.text[usize::from(self.contact_end)..]).filter(|path| !path.is_empty())
    }

    /// The flow that it was registered over. Without a path it leads to the user agent, with one
    /// to the first proxy of the path.
    #[must_use]
    pub fn flow(&self) -> &F {
        &self.flow
    }

    /// Where that flow is: the place of the interface in the server's configuration.
    #[must_use]
    pub fn interface(&self) -> usize {
        self.interface.into()
    }

    /// Preference among the user's bindings, 0 to 1000 (RFC 3261 §20.10).
    #[must_use]
    pub fn q_thousandths(&self) -> u16 {
        self.q_thousandths
    }

    /// `+sip.instance` with its quotes: which user agent it is.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.params().value("+sip.instance")
    }

    /// Which of that user agent's flows it is, if outbound processing applies (RFC 5626 §6).
    #[must_use]
    pub fn reg_id(&self) -> Option<NonZeroU32> {
        self.reg_id
    }

    /// End of its lifetime.
    #[must_use]
    pub fn expires_at(&self) -> Instant {
        self.expires_at
    }

    /// Tells this registration from those that refresh it; later ones are greater.
    #[must_use]
    pub fn id(&self) -> BindingId {
        self.id
    }

    /// Whether both lead to the same user agent, so that a request goes to one of them at a time
    /// (RFC 5626 §7).
    #[must_use]
    pub fn is_same_instance(&self, other: &Self) -> bool {
        match (self.instance(), other.instance()) {
            (Some(own), Some(others)) => same_instance(own, others),
            (Some(_) | None, Some(_) | None) => false,
        }
    }

    /// Whether it is the binding of that instance and reg-id.
    pub(super) fn is_flow_of(&self, instance: &str, reg_id: NonZeroU32) -> bool {
        let own = self.instance().filter(|_| self.reg_id == Some(reg_id));
        own.is_some_and(|own| same_instance(own, instance))
    }

    /// Greater is tried first: preferred, then refreshed later.
    pub(super) fn rank(&self) -> (u16, BindingId) {
        (self.q_thousandths, self.id)
    }

    fn params(&self) -> Params<'_> {
        NameAddr::parse(self.address()).map_or(Params::default(), |address| address.params)
    }
}

/// Whether two instance identifiers are equivalent URNs (RFC 5626 §4.1, RFC 2141): UUIDs are so in any
/// case, of other namespaces nothing is known.
fn same_instance(left: &str, right: &str) -> bool {
    const UUID: &str = "\"<urn:uuid:";
    let is_uuid = |text: &str| {
        text.get(..UUID.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(UUID))
    };
    left == right || (is_uuid(left) && left.eq_ignore_ascii_case(right))
}
