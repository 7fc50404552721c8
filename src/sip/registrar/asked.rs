//! What a REGISTER asks for, checked as far as that is possible without knowing what is bound.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::binding::{Binding, BindingId, Parts, Q_DEFAULT_THOUSANDTHS};
use super::{Lifetimes, MAX_BINDINGS, Registered};
use crate::sip::header::Header;
use crate::sip::message::{Message, ParseError};
use crate::sip::parse::{Contact, NameAddr, Uri, delta_seconds};

/// What a malformed lifetime counts as (RFC 3261 §10.2, §20.10).
const MALFORMED_SECONDS: u32 = 3_600;

/// Lifetimes from here on are never too brief (RFC 3261 §10.3, step 7).
const NEVER_BRIEF_SECONDS: u32 = 3_600;

/// What a REGISTER asks for.
pub(super) struct Asked<'a> {
    pub(super) updates: Vec<Update<'a>>,
    /// `Contact: *`
    pub(super) removes_all: bool,
    /// Hash of the Call-ID.
    pub(super) call_id: u64,
    pub(super) cseq: u32,
    /// Values of `Path`, separated by commas.
    pub(super) path: String,
    /// A contact is to be bound by instance and reg-id, and the user agent knows what that means.
    pub(super) is_outbound: bool,
}

/// One `Contact`.
pub(super) struct Update<'a> {
    pub(super) address: NameAddr<'a>,
    /// 0 removes the binding.
    pub(super) seconds: u32,
    pub(super) q_thousandths: u16,
    /// Instance and reg-id if they, not the URI, identify the binding.
    pub(super) flow_id: Option<(&'a str, NonZeroU32)>,
}

impl<'a> Asked<'a> {
    pub(super) fn of(request: &Message<'a>, lifetimes: &Lifetimes) -> Result<Self, Registered> {
        let bad = |_: ParseError| Registered::Refused { status: 400 };
        let (cseq, _) = request.cseq().map_err(bad)?;
        let call_id = hash(request.call_id().map_err(bad)?);
        let header_seconds = request.expires().unwrap_or(Some(MALFORMED_SECONDS));
        let path = path(request)?;
        let (mut updates, removes_all) = updates(request, header_seconds, lifetimes)?;
        let has_reg_id = |updates: &[Update<'_>]| updates.iter().any(|u| u.flow_id.is_some());
        let supports_outbound = supports(request, "outbound");
        if has_reg_id(&updates) && !first_hop_keeps_flow(request) {
            if supports_outbound {
                return Err(Registered::Refused { status: 439 });
            }
            for update in &mut updates {
                update.flow_id = None;
            }
        }
        let has_reg_id = has_reg_id(&updates);
        if has_reg_id && updates.iter().filter(|update| update.seconds > 0).count() > 1 {
            // A flow is registered alone (RFC 5626 §6).
            return Err(Registered::Refused { status: 400 });
        }
        Ok(Self {
            updates,
            removes_all,
            call_id,
            cseq,
            path,
            is_outbound: has_reg_id && supports_outbound,
        })
    }
}

impl Asked<'_> {
    /// Whether it removes bindings, or would if they were here.
    pub(super) fn removes_any(&self) -> bool {
        self.removes_all || self.updates.iter().any(|update| update.seconds == 0)
    }

    /// Whether it changes a binding, or removes it.
    pub(super) fn concerns<F>(&self, binding: &Binding<F>) -> bool {
        self.removes_all || self.updates.iter().any(|update| update.names(binding))
    }

    /// The bindings that there are to be. `serial` is the number of the last one made so far.
    pub(super) fn bindings<F: Clone>(
        &self,
        now: Instant,
        flow: &F,
        interface: usize,
        serial: &mut u64,
    ) -> Result<Vec<Binding<F>>, Registered> {
        let mut bindings: Vec<Binding<F>> = Vec::new();
        for update in &self.updates {
            // Of two that name the same binding the later one counts.
            bindings.retain(|binding| !update.names(binding));
            if update.seconds == 0 {
                continue;
            }
            *serial += 1;
            let binding = Binding::new(Parts {
                contact: update.address,
                path: &self.path,
                interface: u16::try_from(interface).expect("a server has few interfaces"),
                q_thousandths: update.q_thousandths,
                reg_id: update.flow_id.map(|(_, reg_id)| reg_id),
                cseq: self.cseq,
                call_id: self.call_id,
                id: BindingId(*serial),
                expires_at: now + Duration::from_secs(update.seconds.into()),
                flow: flow.clone(),
            });
            bindings.push(binding.ok_or(Registered::Refused { status: 513 })?);
        }
        Ok(bindings)
    }
}

/// The `Contact`s, and whether all bindings are to be removed.
fn updates<'a>(
    request: &Message<'a>,
    header_seconds: Option<u32>,
    lifetimes: &Lifetimes,
) -> Result<(Vec<Update<'a>>, bool), Registered> {
    let bad = Registered::Refused { status: 400 };
    let mut updates = Vec::new();
    let mut removes_all = false;
    for contact in request.contacts() {
        let address = match contact.map_err(|_| bad)? {
            Contact::Any => {
                removes_all = true;
                continue;
            }
            Contact::Address(address) => address,
        };
        if updates.len() == MAX_BINDINGS {
            return Err(Registered::Refused { status: 403 });
        }
        updates.push(Update::of(address, header_seconds, lifetimes)?);
    }
    if removes_all && (!updates.is_empty() || header_seconds != Some(0)) {
        return Err(bad);
    }
    Ok((updates, removes_all))
}

impl<'a> Update<'a> {
    fn of(
        address: NameAddr<'a>,
        header_seconds: Option<u32>,
        lifetimes: &Lifetimes,
    ) -> Result<Self, Registered> {
        let own = address.params.value("expires");
        let own_seconds = own.map(|text| delta_seconds(text).unwrap_or(MALFORMED_SECONDS));
        let seconds = own_seconds
            .or(header_seconds)
            .unwrap_or(lifetimes.default_seconds);
        let min_seconds = lifetimes.min_seconds;
        if (1..min_seconds.min(NEVER_BRIEF_SECONDS)).contains(&seconds) {
            return Err(Registered::TooBrief { min_seconds });
        }
        let q_thousandths = match address.params.value("q") {
            Some(text) => q_thousandths(text).ok_or(Registered::Refused { status: 400 })?,
            None => Q_DEFAULT_THOUSANDTHS,
        };
        let reg_id = address.params.value("reg-id");
        let reg_id = reg_id.and_then(|text| text.parse::<NonZeroU32>().ok());
        // Without an instance a reg-id says nothing (RFC 5626 §6).
        let flow_id = address.params.value("+sip.instance").zip(reg_id);
        Ok(Self {
            address,
            seconds: seconds.min(lifetimes.max_seconds),
            q_thousandths,
            flow_id,
        })
    }

    /// Whether this is the binding that it is about: that of the same flow of the same user agent,
    /// or without that notion that of an equivalent URI (RFC 3261 §10.3, RFC 5626 §6).
    fn names<F>(&self, binding: &Binding<F>) -> bool {
        match self.flow_id {
            Some((instance, reg_id)) => binding.is_flow_of(instance, reg_id),
            None => same_uri(binding.contact(), self.address.uri),
        }
    }
}

/// The values of `Path`. A user agent that does not say that it knows them would not learn who inserted
/// itself between it and its registrar: as RFC 3327 §5.3 recommends, that is refused.
fn path(request: &Message<'_>) -> Result<String, Registered> {
    let mut path = String::new();
    for element in request.elements(Header::Path) {
        let is_uri = NameAddr::parse(element).is_some_and(|hop| Uri::parse(hop.uri).is_ok());
        if !is_uri {
            return Err(Registered::Refused { status: 400 });
        }
        if !path.is_empty() {
            path.push_str(", ");
        }
        path.push_str(element);
    }
    if !path.is_empty() && !supports(request, "path") {
        return Err(Registered::PathUnsupported);
    }
    Ok(path)
}

/// Whether the user agent's first hop can find its flow again: that hop is this server, or says so with
/// `;ob` (RFC 5626 §5.1). Proxies put their values in front of those that are there (RFC 3327
/// §5.2), so that of the first hop is the last.
fn first_hop_keeps_flow(request: &Message<'_>) -> bool {
    if is_first_hop(request) {
        return true;
    }
    let last = request.elements(Header::Path).last();
    last.and_then(NameAddr::parse)
        .and_then(|hop| Uri::parse(hop.uri).ok())
        .is_some_and(|uri| uri.params.has("ob"))
}

/// Whether a request came from its user agent without a proxy in between.
pub(in crate::sip) fn is_first_hop(request: &Message<'_>) -> bool {
    request.elements(Header::Via).nth(1).is_none()
}

fn supports(request: &Message<'_>, extension: &str) -> bool {
    let mut supported = request.elements(Header::Supported);
    supported.any(|tag| tag.eq_ignore_ascii_case(extension))
}

/// `qvalue` (RFC 3261 §25.1): 0 to 1 with at most three decimals.
fn q_thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = decimals.bytes().all(|byte| byte.is_ascii_digit());
    if !["0", "1"].contains(&whole) || decimals.len() > 3 || !digits {
        return None;
    }
    let decimals: u16 = format!("{decimals:0<3}").parse().ok()?;
    let q = if whole == "1" { 1_000 } else { 0 } + decimals;
    (q <= 1_000).then_some(q)
}

fn same_uri(left: &str, right: &str) -> bool {
    left == right
        || match (Uri::parse(left), Uri::parse(right)) {
            (Ok(left), Ok(right)) => left.equivalent(&right),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
        }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::q_thousandths;

    #[test]
    fn q_has_three_decimals_and_ends_at_one() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1_000)),
            ("0.", Some(0)),
            ("0.7", Some(700)),
            ("0.25", Some(250)),
            ("0.001", Some(1)),
            ("1.000", Some(1_000)),
            ("1.001", None),
            ("0.0001", None),
            ("2", None),
            ("", None),
            (".5", None),
            ("0.+1", None),
            ("-0", None),
        ] {
            assert_eq!(q_thousandths(text), expected, "{text}");
        }
    }
}
