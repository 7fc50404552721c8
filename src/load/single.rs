//! One user, step by step, in the caller's own runtime: for benches and tests of a whole stack in one
//! process. It generates no load and keeps no schedule.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::sip::{
    Accounts, Agent, CallEvent, Caller, Method, Outbox, Registration, RegistrationEvent,
    Reliability, Response, Stationery, Timing,
};
use crate::transport::{
    CloseReason, Connected, Flow, Handler, Phases, Stack, Transport, TransportError, User,
};

/// A user with an open hop.
pub struct SingleUser {
    flow: Flow,
    phases: Phases,
    dialogue: Rc<Dialogue>,
    calls: Cell<u32>,
}

struct Dialogue {
    stack: &'static Stack,
    user: u32,
    accounts: Accounts,
    timing: Timing,
    stationery: Stationery,
    /// Random: a user who comes again within nanoseconds of its last life must not repeat its Call-ID.
    seed: u64,
    epoch: Instant,
    state: RefCell<State>,
    progressed: Notify,
}

struct State {
    registration: Registration,
    caller: Option<Caller>,
    outbox: Outbox,
    /// How the step under way ended.
    end: Option<Result<(), String>>,
}

impl SingleUser {
    /// Opens a hop for `user`.
    ///
    /// # Errors
    /// See [`Transport::connect`].
    pub async fn open(
        stack: &'static Stack,
        transport: &dyn Transport,
        target: SocketAddr,
        accounts: Accounts,
        user: u32,
    ) -> Result<Self, TransportError> {
        let dialogue = Rc::new(Dialogue {
            stack,
            user,
            accounts,
            timing: Timing::default(),
            stationery: Stationery::default(),
            seed: rand::random(),
            epoch: Instant::now(),
            state: RefCell::new(State {
                registration: Registration::new(user),
                caller: None,
                outbox: Outbox::new(),
                end: None,
            }),
            progressed: Notify::new(),
        });
        let handler = Rc::new(DialogueHandler(Rc::clone(&dialogue)));
        let Connected { flow, phases } = transport.connect(User(user), target, handler).await?;
        Ok(Self {
            flow,
            phases,
            dialogue,
            calls: Cell::new(0),
        })
    }

    /// How long opening took.
    #[must_use]
    pub fn phases(&self) -> Phases {
        self.phases
    }

    /// REGISTER, 401, REGISTER with credentials, 200; once registered, a refresh.
    ///
    /// # Errors
    /// Why the registration failed.
    pub async fn register(&self) -> Result<(), String> {
        self.dialogue
            .step(&self.flow, Instant::now(), |state, agent, now| {
                state.registration.start(agent, now, &mut state.outbox);
            });
        self.dialogue.finish(&self.flow).await
    }

    /// INVITE, 100, 180, 200, ACK, BYE, 200.
    ///
    /// # Errors
    /// Why the call failed.
    pub async fn call(&self) -> Result<(), String> {
        let key = self.calls.get();
        self.calls.set(key.wrapping_add(1));
        self.dialogue
            .step(&self.flow, Instant::now(), |state, agent, now| {
                let mut caller = Caller::new(key, Duration::ZERO);
                caller.start(agent, now, &mut state.outbox);
                state.caller = Some(caller);
            });
        self.dialogue.finish(&self.flow).await
    }

    /// Closes the hop.
    pub fn close(&self) {
        self.flow.close();
    }
}

impl Dialogue {
    fn step(&self, flow: &Flow, now: Instant, step: impl FnOnce(&mut State, &Agent<'_>, Instant)) {
        let agent = Agent {
            accounts: &self.accounts,
            user: self.user,
            transport: self.stack.via_transport,
            reliability: Reliability::of(self.stack.is_stream()),
            sent_by: flow.local(),
            timing: &self.timing,
            seed: self.seed,
            epoch: self.epoch,
            expires_seconds: 3600,
            stationery: &self.stationery,
        };
        let mut state = self.state.borrow_mut();
        step(&mut state, &agent, now);
        for message in state.outbox.iter() {
            // A closed flow is reported by `closed`.
            let _ = flow.send(message);
        }
        state.outbox.clear();
        if state.end.is_some() {
            self.progressed.notify_one();
        }
    }

    async fn finish(&self, flow: &Flow) -> Result<(), String> {
        loop {
            let deadline = {
                let mut state = self.state.borrow_mut();
                if let Some(end) = state.end.take() {
                    return end;
                }
                let caller = state.caller.as_ref().and_then(Caller::deadline);
                caller
                    .into_iter()
                    .chain(state.registration.deadline())
                    .min()
            };
            let deadline = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            tokio::select! {
                () = self.progressed.notified() => {}
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.step(flow, Instant::now(), State::timeout);
                }
            }
        }
    }
}

impl State {
    fn receive(&mut self, agent: &Agent<'_>, now: Instant, response: &Response<'_>) {
        if response.method() == Method::Register {
            let Some(message) = &response.whole() else {
                return;
            };
            let event = self
                .registration
                .receive(agent, now, message, &mut self.outbox);
            self.on_registration(event);
        } else if let Some(caller) = &mut self.caller {
            let event = caller.receive(agent, now, response, &mut self.outbox);
            self.on_call(event);
        }
    }

    fn timeout(&mut self, agent: &Agent<'_>, now: Instant) {
        let event = self.registration.timeout(agent, now, &mut self.outbox);
        self.on_registration(event);
        if let Some(caller) = &mut self.caller {
            let event = caller.timeout(agent, now, &mut self.outbox);
            self.on_call(event);
        }
    }

    fn on_registration(&mut self, event: RegistrationEvent) {
        match event {
            RegistrationEvent::Nothing | RegistrationEvent::Challenged => {}
            RegistrationEvent::Registered { .. } | RegistrationEvent::Unregistered => {
                self.end = Some(Ok(()));
            }
            RegistrationEvent::Failed(failure) => self.end = Some(Err(failure.to_string())),
        }
    }

    fn on_call(&mut self, event: CallEvent) {
        match event {
            CallEvent::Nothing
            | CallEvent::Progress { .. }
            | CallEvent::Challenged
            | CallEvent::Answered { .. }
            | CallEvent::HopNeeded
            | CallEvent::ByeSent => {}
            CallEvent::Completed | CallEvent::Cancelled => {
                self.caller = None;
                self.end = Some(Ok(()));
            }
            CallEvent::Failed(failure) => {
                self.caller = None;
                self.end = Some(Err(failure.to_string()));
            }
        }
    }
}

struct DialogueHandler(Rc<Dialogue>);

impl Handler for DialogueHandler {
    fn message(&self, flow: &Flow, message: &[u8], now: Instant) {
        if let Some(response) = Response::parse(message) {
            self.0.step(flow, now, |state, agent, now| {
                state.receive(agent, now, &response)
            });
        }
    }

    fn closed(&self, _flow: &Flow, reason: &CloseReason) {
        match reason {
            CloseReason::Local => {}
            CloseReason::Peer
            | CloseReason::NoPong
            | CloseReason::Broken(_)
            | CloseReason::Garbage(_) => {
                self.0.state.borrow_mut().end = Some(Err(format!("the hop was lost: {reason}")));
                self.0.progressed.notify_one();
            }
        }
    }
}
