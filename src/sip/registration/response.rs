//! What a registrar's response tells (RFC 3261 §10.2.4, §10.2.7).

use super::RegistrationFailure;
use crate::sip::account::host_label;
use crate::sip::agent::Agent;
use crate::sip::header::Header;
use crate::sip::message::Message;
use crate::sip::parse::{Contact, Uri, delta_seconds};

/// The lifetime that a 200 grants to this agent's contact (RFC 3261 §10.2.4).
pub(super) fn granted_seconds(agent: &Agent<'_>, message: &Message<'_>) -> Option<u32> {
    let username = agent.accounts.username(agent.user);
    let is_ours = |uri: &str| {
        Uri::parse(uri).is_ok_and(|uri| {
            let host = uri.host.strip_suffix(".invalid");
            uri.user == Some(&username) && host == Some(&host_label(agent.user))
        })
    };
    let of_contact = message
        .contacts()
        .flatten()
        .find_map(|contact| match contact {
            Contact::Address(address) if is_ours(address.uri) => {
                address.params.value("expires").and_then(delta_seconds)
            }
            Contact::Address(_) | Contact::Any => None,
        });
    of_contact.or(message.expires().ok().flatten())
}

/// What a final response that ends the registration means.
pub(super) fn failure(status: u16, message: &Message<'_>) -> RegistrationFailure {
    match status {
        300..400 => RegistrationFailure::Redirected { status },
        439 => RegistrationFailure::FirstHopLacksOutbound,
        503 => RegistrationFailure::Unavailable {
            retry_after_seconds: retry_after_seconds(message),
        },
        _ => RegistrationFailure::Rejected { status },
    }
}

/// `Retry-After` without the comment and parameters that may follow (RFC 3261 §20.33).
fn retry_after_seconds(message: &Message<'_>) -> Option<u32> {
    let value = message.header(Header::RetryAfter)?;
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    delta_seconds(&value[..digits])
}
