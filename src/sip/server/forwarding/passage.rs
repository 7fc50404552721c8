//! What of a forwarded request is the proxy's own: `Via`, `Record-Route`, `Path` (RFC 3261 §16.6).

use std::net::SocketAddr;

use super::super::Server;
use crate::sip::emit::{Value, Writer};
use crate::sip::header::{Header, Method};
use crate::sip::message::Message;
use crate::sip::parse::Uri;
use crate::sip::proxy::branch::ProxyBranch;
use crate::sip::proxy::context::Destination;
use crate::sip::proxy::rewrite::{self, Forwarded};
use crate::sip::proxy::route;
use crate::sip::proxy::token::FlowToken;
use crate::sip::transaction::Reliability;

/// Methods whose requests can create a dialog, which needs a recorded route.
const fn creates_dialog(method: Method) -> bool {
    matches!(
        method,
        Method::Invite | Method::Subscribe | Method::Refer | Method::Notify
    )
}

/// A request on its way out: what of it is ours.
pub(super) struct Passage<'a, F> {
    pub(super) uri: &'a str,
    pub(super) path: Option<&'a str>,
    pub(super) routes_popped: usize,
    pub(super) last_route: Option<&'a str>,
    pub(super) destination: &'a Destination<F>,
    pub(super) upstream: SocketAddr,
    pub(super) upstream_interface: usize,
    pub(super) branch: ProxyBranch,
}

impl<F: Clone> Server<F> {
    /// Writes a request as it leaves.
    pub(super) fn write_passage(
        &self,
        sent: &mut Vec<u8>,
        bytes: &[u8],
        request: &Message<'_>,
        max_forwards: u32,
        passage: &Passage<'_, F>,
    ) {
        let method = request.method().unwrap_or(Method::Other);
        let change = Forwarded {
            uri: passage.uri,
            source: passage.upstream,
            routes_popped: passage.routes_popped,
            max_forwards,
            last_route: passage.last_route,
        };
        rewrite::forward(sent, bytes, request, &change, |out| {
            let mut writer = Writer::further(out);
            let own = &self.config.interfaces[passage.destination.interface()];
            writer.header_with(Header::Via.name(), |line| {
                line.text("SIP/2.0/");
                line.text(own.transport);
                line.text(" ");
                line.address(own.address);
                line.text(";branch=");
                passage.branch.write(line);
                if own.reliability == Reliability::Datagram {
                    line.text(";rport");
                }
                if own.is_mutual && own.reliability == Reliability::Stream {
                    line.text(";alias");
                }
            });
            if creates_dialog(method) {
                self.write_record_routes(&mut writer, request, passage);
            } else if method == Method::Register && supports(request, "path") {
                self.write_path(&mut writer, request, passage);
            }
            if let Some(path) = passage.path {
                writer.header(Header::Route.name(), path);
            }
        });
    }

    /// `Record-Route`, twice unless both sides are one (RFC 5658): the way out is on top.
    fn write_record_routes(
        &self,
        writer: &mut Writer<'_>,
        request: &Message<'_>,
        passage: &Passage<'_, F>,
    ) {
        let way_out = FlowToken {
            interface: passage.destination.interface(),
            peer: passage.destination.peer(),
        };
        let way_back = self.way_back(request, passage);
        let is_sips = Uri::parse(passage.uri).is_ok_and(|uri| route::is_sips(&uri));
        if way_out != way_back {
            writer.header_with(Header::RecordRoute.name(), |line| {
                self.write_own_uri(line, way_out, way_out.interface, is_sips, ";lr>");
            });
        }
        writer.header_with(Header::RecordRoute.name(), |line| {
            self.write_own_uri(line, way_back, way_back.interface, is_sips, ";lr>");
        });
    }

    /// `Path` (RFC 3327): what comes from the registrar finds its way to who registers.
    fn write_path(&self, writer: &mut Writer<'_>, request: &Message<'_>, passage: &Passage<'_, F>) {
        let way_back = self.way_back(request, passage);
        let facing = passage.destination.interface();
        writer.header_with(Header::Path.name(), |line| {
            // Its first hop keeps the flow of who registers (RFC 5626 §5.1).
            let end = if way_back.peer.is_some() {
                ";lr;ob>"
            } else {
                ";lr>"
            };
            self.write_own_uri(line, way_back, facing, false, end);
        });
    }

    /// The side that a request came by. A user agent, whose request has no other `Via` than its own,
    /// can be reached over its flow only.
    fn way_back(&self, request: &Message<'_>, passage: &Passage<'_, F>) -> FlowToken {
        let is_from_agent = request.elements(Header::Via).nth(1).is_none();
        FlowToken {
            interface: passage.upstream_interface,
            peer: is_from_agent.then_some(passage.upstream),
        }
    }

    fn write_own_uri(
        &self,
        line: &mut Value<'_>,
        token: FlowToken,
        facing: usize,
        is_sips: bool,
        end: &str,
    ) {
        let interface = &self.config.interfaces[facing];
        line.text(if is_sips { "<sips:" } else { "<sip:" });
        token.write(self.seal, line);
        line.text("@");
        line.address(interface.address);
        if interface.transport == "TCP" {
            line.text(";transport=tcp");
        }
        line.text(end);
    }
}

/// Whether `Supported` lists an option tag.
fn supports(request: &Message<'_>, option: &str) -> bool {
    let mut options = request.elements(Header::Supported);
    options.any(|supported| supported.eq_ignore_ascii_case(option))
}
