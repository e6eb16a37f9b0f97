use std::collections::VecDeque;

use http::{StatusCode, Version};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Answers after set times, the last of them again and again.
struct Timed {
    times: VecDeque<Duration>,
    status: StatusCode,
    closed: u32,
}

impl Timed {
    fn new(times: impl IntoIterator<Item = Duration>, status: StatusCode) -> Self {
        Self {
            times: times.into_iter().collect(),
            status,
            closed: 0,
        }
    }
}

impl Caller for Timed {
    async fn call(&mut self) -> Result<Reply, CallError> {
        let time = match self.times.len() {
            1 => self.times[0],
            _ => self.times.pop_front().expect("a time"),
        };
        tokio::time::sleep(time).await;
        Ok(Reply {
            status: self.status,
            version: Version::HTTP_11,
            header_bytes: 0,
            body_bytes: 0,
        })
    }

    fn close(&mut self) {
        self.closed += 1;
    }
}

/// When calls were due, sent and done, in milliseconds of the run.
#[derive(Default)]
struct Times(Vec<(Instant, Instant, Instant)>);

impl Recorder for Times {
    fn record(&mut self, sample: &Sample<'_>) {
        self.0.push((sample.due, sample.sent, sample.done));
    }
}

fn plan(after: Option<Duration>, abrupt: bool) -> Plan {
    Plan {
        connections: 1,
        threads: 1,
        budgets: vec![Budget::Own(None)],
        rhythm: Rhythm::FlatOut,
        timeout: SECOND * 3,
        warm_up: false,
        close_after_error: true,
        end: End {
            after,
            abrupt,
            stop: CancellationToken::new(),
        },
        seed: 1,
    }
}

async fn worked(caller: &mut Timed, budget: Budget, rhythm: Rhythm, plan: &Plan) -> Times {
    let started = Instant::now();
    let recorder = Mutex::new(Times::default());
    let pace = Pace::new(started, budget, rhythm, 1);
    work(caller, pace, started, plan, &recorder).await;
    recorder.into_inner().expect("no panic")
}

fn every(milliseconds: u64) -> Rhythm {
    Rhythm::Every {
        interval: Duration::from_millis(milliseconds),
        jitter: 0.0,
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_keeps_up_makes_all_its_calls() {
    let mut caller = Timed::new([Duration::from_millis(1024)], StatusCode::OK);
    let plan = plan(Some(SECOND * 30), false);
    let times = worked(&mut caller, Budget::Own(Some(30)), every(1034), &plan).await;
    assert_eq!((times.0.len(), caller.closed), (30, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_falls_behind_makes_fewer_calls() {
    // The queue of the resilience lab: answers of 1.85 s where one per second was planned.
    let mut caller = Timed::new([Duration::from_millis(1847)], StatusCode::OK);
    let plan = plan(Some(SECOND * 30), false);
    let times = worked(&mut caller, Budget::Own(Some(30)), every(1034), &plan).await;
    assert_eq!(times.0.len(), 17);
    let (_, _, done) = times.0[16];
    assert!(
        done > times.0[0].0 + SECOND * 30,
        "the last answer is waited for"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_holds_others_up_shows_in_when_they_were_due() {
    let slow_then_quick = [SECOND, Duration::from_millis(10)];
    let mut caller = Timed::new(slow_then_quick, StatusCode::OK);
    let times = worked(
        &mut caller,
        Budget::Own(Some(3)),
        every(100),
        &plan(None, false),
    )
    .await;
    let waits: Vec<_> = times
        .0
        .iter()
        .map(|(due, sent, _)| (*sent - *due).as_millis())
        .collect();
    assert_eq!(waits, [0, 900, 810]);
}

#[tokio::test(start_paused = true)]
async fn an_abrupt_end_gives_calls_up_and_is_on_time() {
    let started = Instant::now();
    let mut caller = Timed::new([SECOND * 4], StatusCode::OK);
    let plan = plan(Some(SECOND * 10), true);
    let times = worked(&mut caller, Budget::Own(None), Rhythm::FlatOut, &plan).await;
    assert_eq!((times.0.len(), started.elapsed().as_secs()), (2, 10));
    let mut caller = Timed::new([Duration::ZERO], StatusCode::OK);
    let started = Instant::now();
    worked(
        &mut caller,
        Budget::Own(None),
        Rhythm::Rest(SECOND * 60),
        &plan,
    )
    .await;
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn errors_close_the_connection_and_a_stop_ends_the_run() {
    let mut caller = Timed::new([SECOND], StatusCode::SERVICE_UNAVAILABLE);
    let plan = plan(None, false);
    let stop = plan.end.stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        stop.cancel();
    });
    let times = worked(&mut caller, Budget::Own(None), Rhythm::FlatOut, &plan).await;
    assert_eq!((times.0.len(), caller.closed), (3, 3));
}
