//! The generator as its callers see it: worker threads behind blocking calls.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::outcome::LoadReport;
use super::plan::{GeneratorConfig, LoadPlan, PlanError, Stage};
use super::population::Population;
use super::worker::Worker;
use crate::measure::snapshot::ProcessSnapshot;
use crate::transport::{Stack, find};

/// Between the order to run and time zero of the load: all workers are ready by then.
const HEAD_START: Duration = Duration::from_millis(20);

/// A load generator: worker threads with their users and hops, which live until it is dropped.
pub struct Generator {
    workers: Vec<WorkerThread>,
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
}

impl Generator {
    /// Starts the workers.
    ///
    /// # Errors
    /// When the stack is unknown or cannot be opened with the credentials given.
    pub fn start(config: &GeneratorConfig) -> Result<Self, GeneratorError> {
        let stack =
            find(&config.stack).map_err(|unknown| GeneratorError::Stack(unknown.to_string()))?;
        let config = GeneratorConfig {
            workers: config.workers.max(1),
            ..config.clone()
        };
        let mut workers = Vec::new();
        for index in 0..config.workers {
            workers.push(WorkerThread::start(config.clone(), stack, index)?);
        }
        let callees = config
            .callees
            .as_ref()
            .map(|callees| callees.accounts.count());
        let accounts = config.accounts.count();
        Ok(Self {
            workers,
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
    /// by [`Generator::prepare`]. The first worker tells `on_progress`.
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
        plan.check()?;
        self.check_accounts(plan.users)?;
        let workers = u32::try_from(self.workers.len()).expect("workers were counted in 32 bits");
        if plan.users < workers {
            let users = plan.users;
            return Err(GeneratorError::TooFewUsers { users, workers });
        }
        self.prepare(plan)?;
        let plan = Arc::new(plan.clone());
        let on_progress: Arc<dyn Fn(Progress) + Send + Sync> = Arc::new(on_progress);
        let running = Arc::new(AtomicU32::new(workers));
        let epoch = Instant::now() + HEAD_START;
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
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| format!("no runtime: {error}"));
            let worker = runtime.and_then(|runtime| {
                let worker = {
                    let _context = runtime.enter();
                    Worker::new(&config, stack, index).map_err(|error| error.to_string())?
                };
                Ok((runtime, std::rc::Rc::new(worker)))
            });
            let (runtime, worker) = match worker {
                Ok(started) => started,
                Err(reason) => return drop(ready.send(Err(reason))),
            };
            let _ = ready.send(Ok(()));
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                while let Some(order) = inbox.recv().await {
                    carry_out(&worker, order).await;
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

async fn carry_out(worker: &std::rc::Rc<Worker>, order: Order) {
    match order {
        Order::Populate { population, reply } => {
            let outcome = worker.populate(population).await;
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
            let outcome = worker.run(&plan, epoch, &running, on_edge).await;
            let _ = reply.send(outcome);
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
