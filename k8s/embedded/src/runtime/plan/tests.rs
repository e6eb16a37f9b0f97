use super::*;

fn container(name: &str, role: Role) -> Container {
    Container::new(name, role, role != Role::App)
}

fn run(container: &mut Container) {
    container.state = State::Running {
        since: jiff::Timestamp::UNIX_EPOCH,
    };
    container.started = true;
}

fn end(container: &mut Container, policy: RestartPolicy, code: i32, now: Instant) {
    let termination = Termination {
        exit_code: code,
        reason: "Error".into(),
        message: None,
        started_at: jiff::Timestamp::UNIX_EPOCH,
        finished_at: jiff::Timestamp::UNIX_EPOCH,
        container_id: None,
    };
    book_end(container, policy, termination, Duration::from_secs(1), now);
}

fn steps(policy: RestartPolicy, containers: &[Container], now: Instant) -> Vec<Step> {
    plan(policy, false, containers, now).steps
}

#[test]
fn init_then_sidecar_then_apps() {
    use RestartPolicy::Always;
    let now = Instant::now();
    let mut all = [
        container("i", Role::Init),
        container("proxy", Role::Sidecar),
        container("a", Role::App),
        container("b", Role::App),
    ];
    assert_eq!(steps(Always, &all, now), [Step::Start(0)]);
    run(&mut all[0]);
    assert_eq!(steps(Always, &all, now), []);
    end(&mut all[0], Always, 0, now);
    assert_eq!(steps(Always, &all, now), [Step::Start(1)]);
    run(&mut all[1]);
    all[1].started = false;
    assert_eq!(steps(Always, &all, now), []);
    all[1].started = true;
    assert_eq!(steps(Always, &all, now), [Step::Start(2), Step::Start(3)]);
}

#[test]
fn a_crash_restarts_at_once_then_waits() {
    use RestartPolicy::Always;
    let now = Instant::now();
    let mut all = [container("a", Role::App)];
    run(&mut all[0]);
    end(&mut all[0], Always, 1, now);
    assert_eq!(steps(Always, &all, now), [Step::Start(0)]);
    run(&mut all[0]);
    end(&mut all[0], Always, 1, now);
    let waiting = plan(Always, false, &all, now);
    assert_eq!(waiting.steps, []);
    assert_eq!(waiting.wake, Some(now + SHOWN));
    let later = plan(Always, false, &all, now + SHOWN);
    assert_eq!(later.steps, [Step::BackOff(0)]);
    assert_eq!(later.wake, Some(now + Duration::from_secs(10)));
    assert_eq!(
        steps(Always, &all, now + Duration::from_secs(10)),
        [Step::Start(0)]
    );
}

#[test]
fn never_ends_the_pod() {
    use RestartPolicy::Never;
    let now = Instant::now();
    let mut all = [container("a", Role::App), container("b", Role::App)];
    run(&mut all[0]);
    run(&mut all[1]);
    end(&mut all[0], Never, 0, now);
    assert_eq!(steps(Never, &all, now), []);
    end(&mut all[1], Never, 0, now);
    assert_eq!(steps(Never, &all, now), [Step::End(Outcome::Succeeded)]);
    end(&mut all[1], Never, 2, now);
    assert_eq!(steps(Never, &all, now), [Step::End(Outcome::Failed)]);
}

#[test]
fn on_failure_restarts_failures_only() {
    use RestartPolicy::OnFailure;
    let now = Instant::now();
    let mut all = [container("a", Role::App)];
    run(&mut all[0]);
    end(&mut all[0], OnFailure, 1, now);
    assert_eq!(steps(OnFailure, &all, now), [Step::Start(0)]);
    run(&mut all[0]);
    end(&mut all[0], OnFailure, 0, now);
    assert_eq!(steps(OnFailure, &all, now), [Step::End(Outcome::Succeeded)]);
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    use RestartPolicy::Never;
    let now = Instant::now();
    let mut all = [container("i", Role::Init), container("a", Role::App)];
    run(&mut all[0]);
    end(&mut all[0], Never, 3, now);
    assert_eq!(steps(Never, &all, now), [Step::End(Outcome::Failed)]);
}

#[test]
fn sidecars_stop_last() {
    let now = Instant::now();
    let mut all = [container("proxy", Role::Sidecar), container("a", Role::App)];
    run(&mut all[0]);
    run(&mut all[1]);
    let stop = |all: &[Container]| plan(RestartPolicy::Always, true, all, now).steps;
    assert_eq!(stop(&all), [Step::Stop(1)]);
    all[1].stopping = true;
    assert_eq!(stop(&all), []);
    end(&mut all[1], RestartPolicy::Always, 0, now);
    assert_eq!(stop(&all), [Step::Stop(0)]);
    end(&mut all[0], RestartPolicy::Always, 0, now);
    assert_eq!(stop(&all), [Step::Gone]);
}

#[test]
fn a_finished_job_takes_its_sidecar_along() {
    let now = Instant::now();
    let never = RestartPolicy::Never;
    let mut all = [container("proxy", Role::Sidecar), container("a", Role::App)];
    run(&mut all[0]);
    run(&mut all[1]);
    end(&mut all[1], never, 0, now);
    assert_eq!(steps(never, &all, now), [Step::Stop(0)]);
    end(&mut all[0], never, 137, now);
    assert_eq!(steps(never, &all, now), [Step::End(Outcome::Succeeded)]);
}

#[test]
fn a_crashed_sidecar_comes_back_without_touching_the_app() {
    let now = Instant::now();
    let always = RestartPolicy::Always;
    let mut all = [container("proxy", Role::Sidecar), container("a", Role::App)];
    run(&mut all[0]);
    run(&mut all[1]);
    end(&mut all[0], always, 137, now);
    assert_eq!(steps(always, &all, now), [Step::Start(0)]);
}
