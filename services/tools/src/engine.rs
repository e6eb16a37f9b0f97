//! The load engine that all front ends share.
//!
//! A run is a number of connections, each of which sends one request at a time when its
//! [`Pace`] says so: closed loop when there is no rate, open loop when there is one. Connections
//! are spread over a few threads, each with a runtime of its own, and meet only at the start.
//! What is kept of a call is the front end's choice: it gives a [`Recorder`] for each thread.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connection::{CallError, Connection, Reply, Target};
use crate::schedule::{Budget, Pace, Rhythm};

/// One call that was made.
#[derive(Debug)]
pub struct Sample<'a> {
    /// When it should have been sent: with a rate this may be long before it was.
    pub due: Instant,
    /// When it was sent.
    pub sent: Instant,
    /// When its answer was complete.
    pub done: Instant,
    /// Its answer.
    pub outcome: &'a Result<Reply, CallError>,
}

/// Keeps what a front end wants to know of each call. Called on the request path: it must be quick.
pub trait Recorder: Send + 'static {
    /// Takes note of a call.
    fn record(&mut self, sample: &Sample<'_>);
}

/// What the engine needs of a connection.
pub trait Caller: Send + 'static {
    /// Sends the request and waits for the whole answer.
    fn call(&mut self) -> impl Future<Output = Result<Reply, CallError>> + Send;
    /// Makes the next call open a new connection.
    fn close(&mut self);
}

impl Caller for Connection {
    fn call(&mut self) -> impl Future<Output = Result<Reply, CallError>> + Send {
        Self::call(self)
    }

    fn close(&mut self) {
        Self::close(self);
    }
}

/// When a run ends, apart from its budget being used up.
#[derive(Clone, Debug)]
pub struct End {
    /// No request is begun after this time of the run.
    pub after: Option<Duration>,
    /// Give up the requests that are on their way then, instead of waiting for their answers.
    pub abrupt: bool,
    /// Ends the run early.
    pub stop: CancellationToken,
}

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many connections, 1 or more.
    pub connections: usize,
    /// How many threads, 1 or more.
    pub threads: usize,
    /// Each connection's budget; one for each, or a single shared one.
    pub budgets: Vec<Budget>,
    /// What lies between requests.
    pub rhythm: Rhythm,
    /// How long a call may take.
    pub timeout: Duration,
    /// One call on each connection before the run, not recorded.
    pub warm_up: bool,
    /// Close a connection after an answer that is not 2xx.
    pub close_after_error: bool,
    /// When it ends.
    pub end: End,
    /// Decides jitter and rests.
    pub seed: u64,
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// Its number, from 0.
    pub index: usize,
    /// How many sockets it used.
    pub sockets: u64,
    /// How long opening each took; the first thousand.
    pub openings: Vec<Duration>,
    /// Whom it was connected to last.
    pub peer: Option<std::net::SocketAddr>,
}

/// A finished run.
#[derive(Debug)]
pub struct Finished<R> {
    /// From the start to the last answer.
    pub elapsed: Duration,
    /// One for each thread.
    pub recorders: Vec<R>,
    /// In order.
    pub connections: Vec<Used>,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system gives no threads.
    #[error("no thread for the load: {0}")]
    Thread(std::io::Error),
    /// A thread ended early.
    #[error("a thread of the load ended early")]
    Lost,
    /// A warm-up call did not succeed, and the front end did not allow that.
    #[error("{0}")]
    WarmUp(WarmUpError),
}

/// A warm-up call without success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WarmUpError {
    /// An answer with a status that is none of success.
    #[error("status {status}")]
    Status {
        /// The status.
        status: u16,
        /// Bytes of headers and body.
        bytes: u64,
    },
    /// No answer.
    #[error("{0}")]
    Failed(String),
}

/// How many threads to use for connections: all cores where there is no limit to the rate.
#[must_use]
pub fn threads(connections: usize, rate: Option<f64>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match rate {
        Some(rate) if rate <= 5000.0 => 1,
        _ => cores.min(connections).max(1),
    }
}

/// Runs a plan against a target. `allow` is asked about each warm-up call that did not succeed.
///
/// # Errors
/// When the threads cannot be had, or a warm-up call failed that `allow` does not forgive.
pub async fn run<R: Recorder>(
    target: Arc<Target>,
    plan: Plan,
    recorder: impl Fn() -> R,
    allow: impl Fn(&WarmUpError) -> bool,
) -> Result<Finished<R>, RunError> {
    let (go, start) = watch::channel(None);
    let (warm, mut warmed) = mpsc::channel(plan.connections);
    let mut threads = Vec::new();
    for thread in 0..plan.threads {
        let (done, result) = oneshot::channel();
        let (target, plan, recorder) = (Arc::clone(&target), plan.clone(), recorder());
        let (start, warm) = (start.clone(), warm.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(RunError::Thread)?;
        std::thread::Builder::new()
            .name(format!("load-{thread}"))
            .spawn(move || {
                let part = part(thread, target, plan, recorder, warm, start);
                // A caller that has gone away no longer wants the result.
                let _ = done.send(runtime.block_on(part));
            })
            .map_err(RunError::Thread)?;
        threads.push(result);
    }
    drop(warm);
    while let Some(outcome) = warmed.recv().await {
        if let Err(error) = outcome
            && !allow(&error)
        {
            return Err(RunError::WarmUp(error));
        }
    }
    let started = Instant::now();
    // Nobody listens when all threads are lost, which the next lines tell.
    let _ = go.send(Some(started));
    let mut finished = Finished {
        elapsed: Duration::ZERO,
        recorders: Vec::new(),
        connections: Vec::new(),
    };
    for thread in threads {
        let (recorder, used) = thread.await.ok().flatten().ok_or(RunError::Lost)?;
        finished.recorders.push(recorder);
        finished.connections.extend(used);
    }
    finished.elapsed = started.elapsed();
    finished.connections.sort_by_key(|used| used.index);
    Ok(finished)
}

/// One thread's part: every connection whose number leaves `thread` when divided by the number of threads.
async fn part<R: Recorder>(
    thread: usize,
    target: Arc<Target>,
    plan: Plan,
    recorder: R,
    warm: mpsc::Sender<Result<(), WarmUpError>>,
    start: watch::Receiver<Option<Instant>>,
) -> Option<(R, Vec<Used>)> {
    let recorder = Arc::new(Mutex::new(recorder));
    let mut tasks = JoinSet::new();
    for index in (thread..plan.connections).step_by(plan.threads) {
        let mut connection = Connection::new(Arc::clone(&target), plan.timeout);
        let (plan, recorder) = (plan.clone(), Arc::clone(&recorder));
        let (warm, mut start) = (warm.clone(), start.clone());
        tasks.spawn(async move {
            if plan.warm_up {
                // The engine hangs up when it gives the run up.
                let _ = warm
                    .send(warm_up(&mut connection, plan.close_after_error).await)
                    .await;
            }
            drop(warm);
            let started = match start.wait_for(Option::is_some).await {
                Ok(started) => (*started)?,
                Err(_) => return None,
            };
            let budget = plan.budgets[index % plan.budgets.len()].clone();
            let seed = plan.seed.wrapping_add(index as u64);
            let pace = Pace::new(started, budget, plan.rhythm, seed);
            work(&mut connection, pace, started, &plan, &recorder).await;
            Some(Used {
                index,
                sockets: connection.sockets,
                openings: connection.openings,
                peer: connection.peer,
            })
        });
    }
    drop(warm);
    let mut used = Vec::new();
    while let Some(task) = tasks.join_next().await {
        used.push(task.ok()??);
    }
    let recorder = Arc::into_inner(recorder)?.into_inner();
    Some((recorder.unwrap_or_else(PoisonError::into_inner), used))
}

async fn warm_up<C: Caller>(caller: &mut C, close_after_error: bool) -> Result<(), WarmUpError> {
    match caller.call().await {
        Ok(reply) if succeeded(&reply) => Ok(()),
        Ok(reply) => {
            if close_after_error {
                caller.close();
            }
            Err(WarmUpError::Status {
                status: reply.status.as_u16(),
                bytes: reply.header_bytes + reply.body_bytes,
            })
        }
        Err(error) => Err(WarmUpError::Failed(error.to_string())),
    }
}

/// 2xx, or 418, which is what services say that are alive and do nothing.
#[must_use]
pub fn succeeded(reply: &Reply) -> bool {
    reply.status.is_success() || reply.status == http::StatusCode::IM_A_TEAPOT
}

/// Sends one connection's requests until its budget or the run ends.
pub async fn work<C: Caller, R: Recorder>(
    caller: &mut C,
    mut pace: Pace,
    started: Instant,
    plan: &Plan,
    recorder: &Mutex<R>,
) {
    let end = &plan.end;
    let last = end.after.map(|after| started + after);
    loop {
        let now = Instant::now();
        if end.stop.is_cancelled() || last.is_some_and(|last| now >= last) {
            return;
        }
        let Some(due) = pace.next(now) else { return };
        if due > now {
            // A request that is due after the end is never begun.
            if let Some(last) = last.filter(|last| due > *last) {
                if end.abrupt {
                    // Such a run lasts as long as was asked for, not as long as there is work.
                    tokio::select! {
                        () = tokio::time::sleep_until(last) => {}
                        () = end.stop.cancelled() => {}
                    }
                }
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = end.stop.cancelled() => return,
            }
        }
        let sent = Instant::now();
        let outcome = if end.abrupt {
            let over = async {
                match last {
                    Some(last) => tokio::time::sleep_until(last).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                outcome = caller.call() => outcome,
                () = over => return,
                () = end.stop.cancelled() => return,
            }
        } else {
            caller.call().await
        };
        let done = Instant::now();
        if plan.close_after_error && !outcome.as_ref().is_ok_and(succeeded) {
            caller.close();
        }
        let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
        recorder.record(&Sample {
            due,
            sent,
            done,
            outcome: &outcome,
        });
    }
}

#[cfg(test)]
mod tests;
