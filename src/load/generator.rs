//! The generator as its callers see it: worker threads behind blocking calls.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::outcome::{LoadReport, Standing};
use super::pacer::{self, Pacer};
use super::plan::{Called, GeneratorConfig, LoadPlan, PlanError, Stage};
use super::population::Population;
use super::worker::Worker;
use crate::measure::handicap;
use crate::measure::snapshot::ProcessSnapshot;
use crate::transport::{Stack, find};

/// Between the order to run and time zero of the load: all workers are ready by then.
const HEAD_START: Duration = Duration::from_millis(20);

/// A load generator: worker threads with their users and hops, which live until it is dropped.
pub struct Generator {
    /// Those of this process.
    workers: Vec<WorkerThread>,
    /// Workers of all processes.
    workers_in_all: u32,
    /// Users that have an account, in either role.
    accounts: u32,
    has_callees: bool,
}

struct WorkerThread {
    orders: Option<tokio::sync::mpsc::UnboundedSender<Order>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Told while a load runs, from a worker's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The warm-up is over.
    MeasurementBegins,
    /// The measurement is over; what began in it may still end.
    MeasurementEnds,
}

/// Why a generator could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GeneratorError {
    /// The stack does not exist, or its credentials do not suffice.
    #[error("{0}")]
    Stack(String),
    /// Users could not be brought to the stage that was asked for.
    #[error("could not bring {users} users to the stage `{stage}`: {cause}", stage = stage.name())]
    Populate {
        /// How many.
        users: u32,
        /// Which stage.
        stage: Stage,
        /// The first failure.
        cause: String,
    },
    /// The workers of this process are none of the generator's.
    #[error("expected own workers within 0..{workers}, found {own:?}")]
    OwnWorkers {
        /// Workers of the generator.
        workers: u32,
        /// Those that this process was to run.
        own: Range<u32>,
    },
    /// Users were to answer, and callees of the generator's own as well.
    #[error(
        "calls are answered by the users themselves or by callees of the generator's own, not by both"
    )]
    AnsweredTwice,
    /// Nobody can be drawn to be called.
    #[error("expected callees within the {count} accounts, found those from {} on, {} of them", .called.first, .called.count)]
    Called {
        /// Who was to be called.
        called: Called,
        /// Accounts that exist.
        count: u32,
    },
    /// Calls that stay up were wanted of a generator that has callees of its own.
    #[error("calls that stay up need a node that answers, but this generator is to answer them")]
    CallsToCallees,
    /// The plan makes no sense.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// More users than accounts.
    #[error(
        "{wanted} users were asked for, but only {count} accounts exist: raise the account count"
    )]
    TooFewAccounts {
        /// Users asked for.
        wanted: u32,
        /// Accounts that exist.
        count: u32,
    },
    /// A worker without users could start nothing that arrives at it.
    #[error("{users} users cannot take turns in {workers} workers: each needs one of its own")]
    TooFewUsers {
        /// Users of the plan.
        users: u32,
        /// Workers of the generator.
        workers: u32,
    },
    /// A worker ended for a reason of its own.
    #[error("a worker of the generator failed: {0}")]
    Worker(String),
}

enum Order {
    Populate {
        population: Population,
        reply: mpsc::Sender<Result<(), String>>,
    },
    Run {
        plan: Arc<LoadPlan>,
        epoch: Instant,
        running: Arc<AtomicU32>,
        on_progress: Arc<dyn Fn(Progress) + Send + Sync>,
        reply: mpsc::Sender<Result<LoadReport, String>>,
    },
    Standing {
        reply: mpsc::Sender<Standing>,
    },
}

impl Generator {
    /// Starts the workers.
    ///
    /// # Errors
    /// When the stack is unknown or cannot be opened with the credentials given, or the configuration
    /// contradicts itself.
    pub fn start(config: &GeneratorConfig) -> Result<Self, GeneratorError> {
        let stack =
            find(&config.stack).map_err(|unknown| GeneratorError::Stack(unknown.to_string()))?;
        let config = GeneratorConfig {
            workers: config.workers.max(1),
            ..config.clone()
        };
        let own = own_workers(&config)?;
        check_calls(&config)?;
        let mut workers = Vec::new();
        for index in own {
            workers.push(WorkerThread::start(config.clone(), stack, index)?);
        }
        let callees = config
            .callees
            .as_ref()
            .map(|callees| callees.accounts.count());
        let accounts = config.users_max();
        Ok(Self {
            workers,
            workers_in_all: config.workers,
            accounts: callees.map_or(accounts, |callees| callees.min(accounts)),
            has_callees: callees.is_some(),
        })
    }

    /// Opens hops until the first `users` users, and as many callees if there are any, have reached
    /// `stage`. Hops stay open.
    ///
    /// # Errors
    /// With the first failure, once nothing is under way any more; or with fewer accounts than users;
    /// or when calls are to stay up that would need callees of the generator's own, who answer only
    /// while a load runs.
    pub fn populate(&self, users: u32, stage: Stage) -> Result<(), GeneratorError> {
        match stage {
            Stage::InCall if self.has_callees => return Err(GeneratorError::CallsToCallees),
            Stage::Handshaken | Stage::Registered | Stage::Idle | Stage::InCall => {}
        }
        self.bring(Population {
            users,
            callers: Some(stage),
            callees: self.has_callees.then_some(stage),
        })
    }

    /// Brings users where `plan` wants them before it starts: callers as [`LoadPlan::population`]
    /// says, callees to their registration. Those who are there already stay.
    ///
    /// # Errors
    /// As [`Generator::populate`].
    pub fn prepare(&self, plan: &LoadPlan) -> Result<(), GeneratorError> {
        self.bring(Population {
            users: plan.users,
            callers: plan.population(),
            callees: self.has_callees.then_some(Stage::Registered),
        })
    }

    fn bring(&self, population: Population) -> Result<(), GeneratorError> {
        let users = population.users;
        self.check_accounts(users)?;
        let Some(stage) = population.callers.or(population.callees) else {
            return Ok(());
        };
        let replies = self.order(|reply| Order::Populate { population, reply });
        for outcome in outcomes(&replies) {
            outcome?.map_err(|cause| GeneratorError::Populate {
                users,
                stage,
                cause,
            })?;
        }
        Ok(())
    }

    fn check_plan(&self, plan: &LoadPlan) -> Result<(), GeneratorError> {
        plan.check()?;
        self.check_accounts(plan.users)?;
        let (users, workers) = (plan.users, self.workers_in_all);
        if users < workers {
            return Err(GeneratorError::TooFewUsers { users, workers });
        }
        Ok(())
    }

    fn check_accounts(&self, users: u32) -> Result<(), GeneratorError> {
        let count = self.accounts;
        let each = if self.has_callees { 2 } else { 1 };
        let wanted = users.saturating_mul(each);
        if wanted > count {
            return Err(GeneratorError::TooFewAccounts { wanted, count });
        }
        Ok(())
    }

    /// Runs a load and blocks until its drain is over. Users are brought where it wants them first, as
    /// by [`Generator::prepare`]. The first worker of this process tells `on_progress`.
    ///
    /// # Errors
    /// When a worker fails as such, the plan makes no sense ([`LoadPlan::check`]), has more users than
    /// there are accounts or fewer than there are workers, or users cannot be brought where it wants
    /// them. Failed operations are counted in the report instead.
    pub fn run(
        &self,
        plan: &LoadPlan,
        on_progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<LoadReport, GeneratorError> {
        self.check_plan(plan)?;
        self.prepare(plan)?;
        self.run_at(plan, Instant::now() + HEAD_START, on_progress)
    }

    /// Runs a load whose time zero is `epoch`, so that several processes run theirs at the same time.
    /// Its users are where [`Generator::prepare`] brought them.
    ///
    /// # Errors
    /// As [`Generator::run`].
    pub fn run_at(
        &self,
        plan: &LoadPlan,
        epoch: Instant,
        on_progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<LoadReport, GeneratorError> {
        self.check_plan(plan)?;
        let plan = Arc::new(plan.clone());
        let own = u32::try_from(self.workers.len()).expect("workers were counted in 32 bits");
        let on_progress: Arc<dyn Fn(Progress) + Send + Sync> = Arc::new(on_progress);
        let running = Arc::new(AtomicU32::new(own));
        let replies = self.order(|reply| Order::Run {
            plan: Arc::clone(&plan),
            epoch,
            running: Arc::clone(&running),
            on_progress: Arc::clone(&on_progress),
            reply,
        });
        let mut merged: Option<LoadReport> = None;
        for outcome in outcomes(&replies) {
            let report = outcome?.map_err(GeneratorError::Worker)?;
            match &mut merged {
                None => merged = Some(report),
                Some(merged) => merged.merge(report),
            }
        }
        Ok(merged.expect("a generator has at least one worker"))
    }

    /// How the users stand, and what they have done without an order.
    ///
    /// # Errors
    /// When a worker has ended early.
    pub fn standing(&self) -> Result<Standing, GeneratorError> {
        let replies = self.order(|reply| Order::Standing { reply });
        let mut standings = outcomes(&replies).into_iter();
        standings.try_fold(Standing::default(), |sum, worker| Ok(sum.plus(worker?)))
    }

    fn order<T>(&self, order: impl Fn(mpsc::Sender<T>) -> Order) -> Vec<mpsc::Receiver<T>> {
        self.workers
            .iter()
            .map(|worker| {
                let (reply, replies) = mpsc::channel();
                if let Some(orders) = &worker.orders {
                    // A worker that has ended drops the order, and with it the sender of the reply.
                    let _ = orders.send(order(reply));
                }
                replies
            })
            .collect()
    }
}

/// The workers that this process runs.
fn own_workers(config: &GeneratorConfig) -> Result<Range<u32>, GeneratorError> {
    let all = 0..config.workers;
    match &config.own_workers {
        None => Ok(all),
        Some(own) if !own.is_empty() && own.end <= all.end => Ok(own.clone()),
        Some(own) => Err(GeneratorError::OwnWorkers {
            workers: config.workers,
            own: own.clone(),
        }),
    }
}

/// Whether it is clear who calls whom.
fn check_calls(config: &GeneratorConfig) -> Result<(), GeneratorError> {
    if config.answers && config.callees.is_some() {
        return Err(GeneratorError::AnsweredTwice);
    }
    let count = config.accounts.count();
    match config.called {
        Some(called)
            if called.count == 0
                || called
                    .first
                    .checked_add(called.count)
                    .is_none_or(|end| end > count) =>
        {
            Err(GeneratorError::Called { called, count })
        }
        Some(_) | None => Ok(()),
    }
}

/// Waits for every worker, also when one of them has failed.
fn outcomes<T>(replies: &[mpsc::Receiver<T>]) -> Vec<Result<T, GeneratorError>> {
    let ended = |_| GeneratorError::Worker("it ended early".into());
    replies
        .iter()
        .map(|reply| reply.recv().map_err(ended))
        .collect()
}

impl WorkerThread {
    fn start(
        config: GeneratorConfig,
        stack: &'static Stack,
        index: u32,
    ) -> Result<Self, GeneratorError> {
        let (orders, mut inbox) = tokio::sync::mpsc::unbounded_channel();
        let (ready, readiness) = mpsc::channel();
        let body = move || {
            let burn = handicap::before_sleep(config.handicap_ratio);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_park(move || {
                    if let Some(burn) = &burn {
                        burn();
                    }
                    pacer::before_park();
                })
                .build()
                .map_err(|error| format!("no runtime: {error}"));
            let worker = runtime.and_then(|runtime| {
                let worker = {
                    let _context = runtime.enter();
                    let worker = Worker::new(&config, stack, index);
                    let worker = worker.map_err(|error| error.to_string())?;
                    let pacer = Pacer::new(config.gather, stack.is_stream());
                    let pacer = pacer.map_err(|error| format!("no timer: {error}"))?;
                    (Rc::new(worker), pacer)
                };
                Ok((runtime, worker))
            });
            let (runtime, (worker, mut pacer)) = match worker {
                Ok(started) => started,
                Err(reason) => return drop(ready.send(Err(reason))),
            };
            let _ = ready.send(Ok(()));
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                loop {
                    let order = tokio::select! {
                        order = inbox.recv() => order,
                        reason = worker.rest(&mut pacer) => {
                            eprintln!("a worker of the generator ends: {reason}");
                            None
                        }
                    };
                    let Some(order) = order else { return };
                    carry_out(&worker, order, &mut pacer).await;
                }
            });
        };
        let thread = thread::Builder::new()
            .name(format!("load-{index}"))
            .spawn(body)
            .map_err(|error| GeneratorError::Worker(error.to_string()))?;
        match readiness.recv() {
            Ok(Ok(())) => Ok(Self {
                orders: Some(orders),
                thread: Some(thread),
            }),
            Ok(Err(reason)) => Err(GeneratorError::Stack(reason)),
            Err(_) => Err(GeneratorError::Worker(
                "it ended before it was ready".into(),
            )),
        }
    }
}

async fn carry_out(worker: &Rc<Worker>, order: Order, pacer: &mut Pacer) {
    match order {
        Order::Populate { population, reply } => {
            let outcome = worker.populate(population, pacer).await;
            let _ = reply.send(outcome);
        }
        Order::Run {
            plan,
            epoch,
            running,
            on_progress,
            reply,
        } => {
            let on_edge = |progress| {
                if worker.is_first() {
                    on_progress(progress);
                }
                // Walking the page tables for resident memory would delay the load.
                ProcessSnapshot::take_without_rss()
            };
            let outcome = worker.run(&plan, epoch, &running, on_edge, pacer).await;
            let _ = reply.send(outcome);
        }
        Order::Standing { reply } => {
            let _ = reply.send(worker.standing());
        }
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A worker that panicked has already said so on stderr.
            let _ = thread.join();
        }
    }
}
