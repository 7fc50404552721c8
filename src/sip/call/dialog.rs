//! What the caller keeps of a dialog (RFC 3261 §12.1.2), and of those that a forking proxy made besides
//! (§13.2.2.4).

use std::time::Instant;

use crate::sip::header::Header;
use crate::sip::message::Message;
use crate::sip::parse::Contact;
use crate::sip::response::Response;
use crate::sip::text::Text;
use crate::sip::transaction::ClientTransaction;

/// A dialog as its caller sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Dialog {
    /// The callee's tag.
    pub(super) remote_tag: Text<32>,
    /// The callee's `Contact`.
    pub(super) remote_target: Text<64>,
    /// Value of `Route`: `Record-Route` of the 200 in reverse; `None` without proxies. Routers are
    /// loose (§16.12): a strict one of RFC 2543 is not served.
    pub(super) route_set: Option<Box<str>>,
}

impl Dialog {
    /// The dialog that a 200 to INVITE makes; `None` if it lacks what a dialog needs.
    pub(super) fn of(response: &Response<'_>) -> Option<Self> {
        let usual = || {
            let ends = response.dialog_ends()?;
            Some(Self {
                remote_tag: Text::from(ends.remote_tag),
                remote_target: Text::from(ends.remote_target),
                route_set: None,
            })
        };
        usual().or_else(|| Self::of_message(&response.whole()?))
    }

    fn of_message(message: &Message<'_>) -> Option<Self> {
        let tag = message.to().ok().and_then(|to| to.tag())?;
        match message.contacts().next() {
            Some(Ok(Contact::Address(target))) => Some(Self {
                remote_tag: Text::from(tag),
                remote_target: Text::from(target.uri),
                route_set: route_set(message),
            }),
            Some(Ok(Contact::Any) | Err(_)) | None => None,
        }
    }
}

/// `Record-Route` in reverse order, as a caller uses it.
fn route_set(message: &Message<'_>) -> Option<Box<str>> {
    message.header(Header::RecordRoute)?;
    let mut routes: Vec<&str> = message.elements(Header::RecordRoute).collect();
    routes.reverse();
    Some(routes.join(", ").into())
}

/// A dialog that nobody wants: another callee of a forked INVITE answered it too. It is acknowledged
/// and ended.
#[derive(Clone, Debug)]
pub(super) struct Fork {
    pub(super) dialog: Dialog,
    /// That of the BYE, until it is answered.
    pub(super) bye: Option<ClientTransaction>,
}

impl Fork {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.bye.as_ref()?.deadline()
    }
}
