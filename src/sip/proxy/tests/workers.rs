//! Several workers of one node: whoever comes to one of them is reached by all of them, and to the
//! outside they are one hop.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;

/// Where the workers are to users; a real node's have one address, which a test could not tell apart.
const EDGES: [&str; 3] = ["192.0.2.1:5060", "192.0.2.2:5060", "192.0.2.3:5060"];
const INTERNALS: [&str; 3] = ["127.0.0.1:6001", "127.0.0.1:6002", "127.0.0.1:6003"];
/// User 2 is Bob.
const USER: usize = 2;

/// Who holds each user, shared by the workers of a test.
type Shared = Rc<RefCell<Vec<Option<u16>>>>;

#[derive(Debug)]
struct Entries {
    shared: Shared,
    own: u16,
}

impl Directory for Entries {
    fn arrived(&self, user: u32) {
        self.shared.borrow_mut()[user as usize] = Some(self.own);
    }

    fn ended(&self, user: u32) {
        let entry = &mut self.shared.borrow_mut()[user as usize];
        entry.take_if(|holder| *holder == self.own);
    }

    fn removed(&self, user: u32) {
        self.shared.borrow_mut()[user as usize] = None;
    }

    fn sibling_of(&self, user: u32) -> Option<u16> {
        self.shared.borrow()[user as usize].filter(|holder| *holder != self.own)
    }

    fn users(&self) -> u64 {
        let entries = self.shared.borrow();
        let own = entries.iter().filter(|holder| **holder == Some(self.own));
        own.count() as u64
    }
}

fn workers_with(transport: &'static str, change: impl Fn(&mut ServerConfig)) -> (World, Shared) {
    let shared = Shared::new(RefCell::new(vec![None; 100]));
    let worker = |place: usize| {
        let mut config = proxy(transport, EDGES[place], None);
        config.interfaces.push(Interface {
            is_internal: true,
            ..interface("UDP", INTERNALS[place])
        });
        let own = place as u16;
        config.worker = Some(Worker {
            place: own,
            interface: 1,
            siblings: INTERNALS.map(address).to_vec(),
            secret: [9; 32],
            directory: Rc::new(Entries {
                shared: Rc::clone(&shared),
                own,
            }),
        });
        change(&mut config);
        config
    };
    let world = World::new((0..EDGES.len()).map(worker).collect());
    (world, shared)
}

fn workers() -> (World, Shared) {
    workers_with("UDP", |_| {})
}

fn forwarded(world: &World) -> [u64; 3] {
    [0, 1, 2].map(|place| world.servers[place].1.counters().forwarded)
}

/// Alice's call by the first worker; what Bob got.
fn invite(world: &mut World, second: u64) -> String {
    world.send(ALICE, EDGES[0], &request("INVITE", CALL, ""));
    world.run(second);
    assert_eq!(start_lines(&world.mail(ALICE)), ["SIP/2.0 100 Trying"]);
    world.mail(BOB).remove(0)
}

/// Routes of the caller's side of a dialog, and of the callee's.
fn routes(invite: &str) -> (String, String) {
    let recorded = values(invite, "Record-Route");
    let line = |routes: Vec<&str>| format!("Route: {}\r\n", routes.join(", "));
    let reversed = recorded.iter().rev().copied().collect();
    (line(reversed), line(recorded))
}

fn bye_of_bob(routes: &str) -> String {
    let headers = format!(
        "Via: SIP/2.0/UDP {BOB};branch=z9hG4bKbye\r\nFrom: <sip:u00000002@hopbench.test>;tag=b\r\n\
         To: <sip:u00000001@hopbench.test>;tag=a\r\n{routes}"
    );
    request("BYE", &format!("sip:u00000001@{ALICE}"), &headers)
}

#[test]
fn a_call_finds_who_registered_at_another_worker_and_its_dialog_follows() {
    for transport in ["UDP", "TCP"] {
        let (mut world, _) = workers_with(transport, |_| {});
        world.register_bob_at(EDGES[1], &format!("<sip:u00000002@{BOB}>"), 0);
        let invite = invite(&mut world, 3);
        assert!(
            invite.starts_with(&format!("INVITE sip:u00000002@{BOB} ")),
            "{invite}"
        );
        // To the outside it was one hop.
        assert_eq!(values(&invite, "Max-Forwards"), ["69"]);
        assert_eq!(values(&invite, "Via").len(), 3);
        assert_eq!(values(&invite, "Record-Route").len(), 4);
        world.send(BOB, EDGES[1], &answer(&invite, 200));
        world.run(4);
        assert_eq!(start_lines(&world.mail(ALICE)), ["SIP/2.0 200 OK"]);
        let (of_alice, of_bob) = routes(&invite);
        let contact = format!("sip:u00000002@{BOB}");
        let dialog = "To: <sip:u00000002@hopbench.test>;tag=b\r\nMax-Forwards: 1\r\n";
        let ack = request(
            "ACK",
            &contact,
            &format!("{dialog}{of_alice}CSeq: 1 ACK\r\n"),
        );
        world.send(ALICE, EDGES[0], &ack);
        world.run(5);
        let got = world.mail(BOB);
        assert_eq!(start_lines(&got), [format!("ACK {contact} SIP/2.0")]);
        assert_eq!(values(&got[0], "Max-Forwards"), ["0"]);
        world.send(BOB, EDGES[1], &bye_of_bob(&of_bob));
        world.run(6);
        let got = world.mail(ALICE);
        assert!(start_lines(&got)[0].starts_with("BYE "));
        world.send(ALICE, EDGES[0], &answer(&got[0], 200));
        world.run(7);
        assert_eq!(start_lines(&world.mail(BOB)), ["SIP/2.0 200 OK"]);
        assert_eq!(forwarded(&world), [3, 3, 0]);
        world.run(60);
        for (_, server) in &world.servers {
            let counters = server.counters();
            assert_eq!(server.forwards(), 0);
            assert_eq!((counters.stray_responses, counters.ignored), (0, 0));
        }
    }
}

#[test]
fn the_latest_registration_counts_whichever_worker_it_came_to() {
    const OLD: &str = "192.0.2.109:4009";
    const NEW: &str = "192.0.2.110:4010";
    let (mut world, _) = workers();
    // The first worker still has a binding, and it must not win.
    world.register_bob_from(OLD, EDGES[0], &format!("<sip:u00000002@{OLD}>"), 0);
    world.register_bob_at(EDGES[2], &format!("<sip:u00000002@{BOB}>"), 2);
    let users =
        |world: &World| [0, 1, 2].map(|place| world.servers[place].1.registrar().registered());
    assert_eq!(users(&world), [0, 0, 1]);
    let invite = invite(&mut world, 5);
    assert!(world.mail(OLD).is_empty());
    assert!(
        invite.starts_with(&format!("INVITE sip:u00000002@{BOB} ")),
        "{invite}"
    );
    world.send(BOB, EDGES[2], &answer(&invite, 486));
    world.run(6);
    assert_eq!(start_lines(&world.mail(ALICE))[0], "SIP/2.0 486 Busy Here");
    // It comes back to the first worker.
    world.register_bob_from(NEW, EDGES[0], &format!("<sip:u00000002@{NEW}>"), 40);
    assert_eq!(users(&world), [1, 0, 0]);
    let again = request("INVITE", CALL, "Call-ID: again\r\n");
    world.send(ALICE, EDGES[1], &again.replace("z9hG4bKa", "z9hG4bKagain"));
    world.run(43);
    assert_eq!(
        world.mail(NEW).len(),
        2,
        "once, and again after half a second"
    );
}

#[test]
fn who_has_gone_is_reached_by_no_worker() {
    // How Bob goes → what callers are told.
    for way in ["expired", "removed elsewhere", "flow failed"] {
        let (mut world, shared) = workers_with("TCP", |_| {});
        world.register_bob_at(EDGES[1], &format!("<sip:u00000002@{BOB}>"), 0);
        assert_eq!(shared.borrow()[USER], Some(1));
        let at = match way {
            "expired" => 700,
            "removed elsewhere" => {
                // Over a new connection, which led to another worker.
                world.register_bob_at(EDGES[2], &format!("<sip:u00000002@{BOB}>;expires=0"), 2);
                10
            }
            _ => {
                world.dead.insert(address(BOB));
                10
            }
        };
        world.run(at);
        world.send(ALICE, EDGES[0], &request("INVITE", CALL, ""));
        world.run(at + 1);
        let told = world.mail(ALICE).pop().unwrap();
        assert!(told.starts_with("SIP/2.0 480 "), "{way}: {told}");
        assert_eq!(shared.borrow()[USER], None, "{way}");
    }
}

#[test]
fn only_the_worker_that_a_call_enters_by_asks_who_calls() {
    let (mut world, _) = workers_with("UDP", |config| config.authenticate_calls = true);
    world.register_bob_at(EDGES[1], &format!("<sip:u00000002@{BOB}>"), 0);
    let challenges = |world: &World, place: usize| world.servers[place].1.counters().challenges;
    let registering = challenges(&world, 1);
    world.send(ALICE, EDGES[0], &request("INVITE", CALL, ""));
    world.run(3);
    let refusal = world.mail(ALICE).remove(0);
    assert!(refusal.starts_with("SIP/2.0 407 "), "{refusal}");
    let challenge = Message::parse(refusal.as_bytes()).unwrap();
    let challenge = digest::Challenge::choose(&challenge, Header::ProxyAuthenticate).unwrap();
    let identity = digest::Identity {
        username: "u00000001",
        password: &accounts().password(1),
        method: "INVITE",
        uri: CALL,
    };
    let mut line = b"Proxy-Authorization: ".to_vec();
    identity.write_credentials(&mut emit::Value::new(&mut line), &challenge, 1, "c");
    let line = format!("CSeq: 2 INVITE\r\n{}\r\n", String::from_utf8(line).unwrap());
    let proven = request("INVITE", CALL, &line).replace("z9hG4bKa", "z9hG4bKproven");
    world.send(ALICE, EDGES[0], &proven);
    world.run(4);
    assert!(start_lines(&world.mail(BOB))[0].starts_with("INVITE "));
    assert_eq!(
        (challenges(&world, 0), challenges(&world, 1)),
        (1, registering)
    );
}

#[test]
fn a_route_that_a_sibling_recorded_leads_to_the_flow_that_it_names() {
    let (mut world, _) = workers();
    world.register_bob_at(EDGES[1], &format!("<sip:u00000002@{BOB}>"), 0);
    let invite = invite(&mut world, 3);
    world.send(BOB, EDGES[1], &answer(&invite, 200));
    world.run(4);
    world.mail(ALICE);
    // Bob's next connection leads to the third worker.
    let (_, of_bob) = routes(&invite);
    world.send(BOB, EDGES[2], &bye_of_bob(&of_bob));
    world.run(5);
    let got = world.mail(ALICE);
    let bye = got.first().expect("it finds Alice");
    assert!(bye.starts_with("BYE "), "{bye}");
    // By the internal interfaces of all three, and not by the addresses in the routes.
    let vias = values(bye, "Via");
    let by = |via: &str, own: &str| via.contains(&format!(" {own};"));
    assert!(by(vias[0], EDGES[0]) && by(vias[1], INTERNALS[1]) && by(vias[2], INTERNALS[2]));
    world.send(ALICE, EDGES[0], &answer(bye, 200));
    world.run(6);
    assert_eq!(start_lines(&world.mail(BOB)), ["SIP/2.0 200 OK"]);
}

#[test]
fn a_directory_that_is_wrong_costs_one_crossing_and_strangers_none() {
    const NEXT_DOOR: &str = "127.0.0.1:7000";
    let (mut world, shared) = workers();
    shared.borrow_mut()[USER] = Some(1);
    world.send(ALICE, EDGES[0], &request("INVITE", CALL, ""));
    world.run(1);
    assert!(world.mail(ALICE).pop().unwrap().starts_with("SIP/2.0 480 "));
    assert_eq!(forwarded(&world), [1, 0, 0]);
    // What the third worker is handed is not handed on, whatever the directory says.
    let handed = request("INVITE", CALL, "Call-ID: handed\r\n").replace("z9hG4bKa", "z9hG4bKh");
    world.send(INTERNALS[0], INTERNALS[2], &handed);
    world.run(2);
    assert_eq!(forwarded(&world), [1, 0, 0]);
    assert_eq!(world.servers[2].1.counters().rejected, 1);
    // Only siblings are heard on the internal interface.
    let intruding = request("INVITE", CALL, "Call-ID: in\r\n").replace("z9hG4bKa", "z9hG4bKi");
    world.send(NEXT_DOOR, INTERNALS[2], &intruding);
    world.run(3);
    assert!(world.mail(NEXT_DOOR).is_empty());
    assert_eq!(world.servers[2].1.counters().ignored, 1);
    // And requests of users never leave by it, not even where it is the only one over UDP.
    let (mut world, _) = workers_with("TCP", |_| {});
    world.send(ALICE, EDGES[0], &request("OPTIONS", "sip:198.51.100.7", ""));
    world.run(1);
    let got = world.mail("198.51.100.7:5060");
    assert!(
        values(&got[0], "Via")[0].starts_with("SIP/2.0/TCP "),
        "{}",
        got[0]
    );
}
