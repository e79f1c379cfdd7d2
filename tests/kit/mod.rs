//! What the black-box tests share: they see the public API only.
//!
//! Nothing here sleeps to make a race likely. A [`Gate`] stops a job where the test wants it,
//! [`watchdog`] and [`guarded`] turn a hang into a message, [`Drops`] counts what lives and what was dropped.

#![allow(dead_code, reason = "every test binary uses its own part of the kit")]

use std::future::Future;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, Once};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use portage::{EventLoop, JoinHandle};

pub(crate) mod reports;

/// Locks also what a panicking test left behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

// --- a hang becomes a message -----------------------------------------------------------------

static WATCHED: Mutex<Vec<(usize, Instant, String)>> = Mutex::new(Vec::new());

/// Fails the whole process when it is not dropped in time.
#[derive(Debug)]
pub(crate) struct Watchdog(usize);

/// What every watchdog gives on top: a test that needs a second alone needs many beside others, and
/// a hang is one after a minute, too.
const PATIENCE: u64 = 60;

/// At most `seconds` and [`PATIENCE`] until the guard is dropped; else the process ends with a
/// message.
/// `PORTAGE_WATCHDOG` makes it less, where a hang is expected.
#[must_use]
pub(crate) fn watchdog(seconds: u64) -> Watchdog {
    static WATCHING: Once = Once::new();
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    WATCHING.call_once(|| {
        // It has all that a thread allocates at its start before the test goes on, which may be
        // about to take the memory away.
        let started = Arc::new(Barrier::new(2));
        let here = started.clone();
        let body = move || {
            here.wait();
            watch();
        };
        std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(body)
            .expect("the test process may start one more thread");
        started.wait();
    });
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let most = std::env::var("PORTAGE_WATCHDOG").ok();
    let most = most.and_then(|text| text.parse().ok());
    let seconds = (seconds + PATIENCE).min(most.unwrap_or(u64::MAX));
    let deadline = Instant::now() + Duration::from_secs(seconds);
    lock(&WATCHED).push((id, deadline, name));
    Watchdog(id)
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        lock(&WATCHED).retain(|(id, _, _)| *id != self.0);
    }
}

/// Runs `test` on a thread of its own; panics with it, or if it hangs.
pub(crate) fn guarded<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = channel();
    let runner = std::thread::spawn(move || {
        let _ = done.send(catch_unwind(AssertUnwindSafe(test)));
    });
    let outcome = end
        .recv_timeout(Duration::from_secs(PATIENCE + 30))
        .expect("the test hangs");
    runner.join().expect("what unwinds was caught");
    outcome.unwrap_or_else(|payload| resume_unwind(payload))
}

fn watch() {
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = Instant::now();
        let late = lock(&WATCHED).iter().find(|(_, at, _)| *at <= now).cloned();
        if let Some((_, _, name)) = late {
            // straight to the descriptor: the harness captures what print macros write
            let _ = writeln!(
                std::io::stderr(),
                "\nwatchdog: the test `{name}` hangs. For backtraces of all threads run it alone \
                 under a debugger: gdb -batch -ex run -ex 'thread apply all bt' --args BINARY --exact {name}\n"
            );
            std::process::abort();
        }
    }
}

/// Waits until `ready`, which some other thread is about to make true; panics after a minute.
///
/// Only for effects that the API lets nobody wait for; yields, then naps, so that it does not
/// take the CPU from those it waits for.
#[track_caller]
pub(crate) fn eventually(what: &str, ready: impl FnMut() -> bool) {
    let limit = Duration::from_secs(PATIENCE);
    assert!(within(limit, ready), "never came: {what}");
}

/// True as soon as `ready`, false after `limit`.
pub(crate) fn within(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    for round in 0u32.. {
        if ready() {
            return true;
        }
        if Instant::now() >= deadline {
            break;
        }
        if round < 100 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    false
}

/// What `round` proves that ends before its own time is over; each has twice the time of the one
/// before.
///
/// For what must happen before a deadline that passes on its own: a thread that gets no CPU for so
/// long comes too late to see anything, which says nothing about what it was to see. `None` is such a
/// round; a round that sees something wrong fails on the spot.
pub(crate) fn in_time<T>(round: impl FnMut(Duration) -> Option<T>) -> T {
    (0..10)
        .map(|doubled| Duration::from_millis(20 << doubled))
        .find_map(round)
        .expect("none of the rounds, not even one of ten seconds, came before its own end")
}

/// The shortest of a few measures, at most until one is shorter than `enough`. A machine that is busy
/// makes every measure longer and none shorter.
pub(crate) fn shortest(enough: Duration, mut measure: impl FnMut() -> Duration) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..10 {
        shortest = shortest.min(measure());
        if shortest < enough {
            break;
        }
    }
    shortest
}

// --- counting drops ---------------------------------------------------------------------------

#[derive(Debug, Default)]
struct Counts {
    made: AtomicUsize,
    dropped: AtomicUsize,
}

/// Counts its tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drops(Arc<Counts>);

/// Dropped exactly once, or a test finds out.
#[derive(Debug)]
pub(crate) struct Token(Arc<Counts>);

impl Drops {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn token(&self) -> Token {
        self.0.made.fetch_add(1, Ordering::Relaxed);
        Token(self.0.clone())
    }

    pub(crate) fn dropped(&self) -> usize {
        self.0.dropped.load(Ordering::Acquire)
    }

    pub(crate) fn live(&self) -> usize {
        let dropped = self.dropped();
        self.0.made.load(Ordering::Relaxed) - dropped
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Release);
    }
}

impl Clone for Token {
    fn clone(&self) -> Self {
        self.0.made.fetch_add(1, Ordering::Relaxed);
        Token(self.0.clone())
    }
}

/// Panics when it is dropped, unless the thread already panics.
#[derive(Debug)]
pub(crate) struct PanicOnDrop(pub(crate) &'static str);

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("{}", self.0);
        }
    }
}

/// Calls its closure when it is dropped.
pub(crate) struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    pub(crate) fn new(f: F) -> Self {
        Self(Some(f))
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

// --- gates ------------------------------------------------------------------------------------

#[derive(Debug, Default)]
struct GateState {
    entered: usize,
    open: bool,
}

/// Holds whoever passes until the test opens it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<GateState>, Condvar)>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// For the job: tells that it is here, and waits until the gate is open.
    pub(crate) fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = lock(state);
        state.entered += 1;
        changed.notify_all();
        while !state.open {
            state = changed
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// For the test: waits until `count` are at the gate or through.
    pub(crate) fn wait_entered(&self, count: usize) {
        let (state, changed) = &*self.0;
        let mut state = lock(state);
        while state.entered < count {
            state = changed
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    pub(crate) fn open(&self) {
        let (state, changed) = &*self.0;
        lock(state).open = true;
        changed.notify_all();
    }

    pub(crate) fn entered(&self) -> usize {
        lock(&self.0.0).entered
    }
}

/// Opens its gate when the test ends, also by a panic, so that no thread is left behind.
#[derive(Debug)]
pub(crate) struct OpenAtEnd(pub(crate) Gate);

impl Drop for OpenAtEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

// --- wakers and polls -------------------------------------------------------------------------

/// How often a waker was woken.
#[derive(Debug, Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

pub(crate) fn counting_waker() -> (Waker, Arc<Wakes>) {
    let wakes = Arc::new(Wakes::default());
    (Waker::from(wakes.clone()), wakes)
}

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

pub(crate) fn panicking_waker() -> Waker {
    Waker::from(Arc::new(PanickingWaker))
}

/// Calls its closure at every wake.
pub(crate) struct WakeFn<F>(pub(crate) F);

impl<F: Fn() + Send + Sync + 'static> Wake for WakeFn<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

pub(crate) fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// One poll whose wakes nobody hears.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}

struct Unpark(Thread, AtomicBool);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.store(true, Ordering::Release);
        self.0.unpark();
    }
}

/// Runs the loop until these tasks have ended, each with a value.
pub(crate) fn run_all<T>(event_loop: &EventLoop, tasks: Vec<JoinHandle<T>>) {
    let all = async {
        for task in tasks {
            task.await.expect("a value");
        }
    };
    event_loop.run_until_complete(all).expect("it is idle");
}

/// A runtime that knows nothing of ours: polls on this thread, parks it in between.
pub(crate) fn foreign_block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let unpark = Arc::new(Unpark(std::thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(unpark.clone());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        while !unpark.1.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
    }
}

#[derive(Debug)]
struct Script<T> {
    value: Option<T>,
    waker: Option<Waker>,
    polls: usize,
}

/// A future that the test completes from outside.
#[derive(Debug)]
pub(crate) struct Scripted<T>(Arc<Mutex<Script<T>>>);

/// The hand of the test on a [`Scripted`] future.
#[derive(Debug)]
pub(crate) struct Conductor<T>(Arc<Mutex<Script<T>>>);

pub(crate) fn scripted<T>() -> (Conductor<T>, Scripted<T>) {
    let script = Arc::new(Mutex::new(Script {
        value: None,
        waker: None,
        polls: 0,
    }));
    (Conductor(script.clone()), Scripted(script))
}

impl<T> Conductor<T> {
    /// Completes the future and wakes who polled it last.
    pub(crate) fn complete(&self, value: T) {
        let waker = {
            let mut script = lock(&self.0);
            script.value = Some(value);
            script.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes it for nothing.
    pub(crate) fn wake(&self) {
        let waker = lock(&self.0).waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The waker of the last poll, taken out.
    pub(crate) fn take_waker(&self) -> Option<Waker> {
        lock(&self.0).waker.take()
    }

    pub(crate) fn polls(&self) -> usize {
        lock(&self.0).polls
    }
}

impl<T> Future for Scripted<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut script = lock(&self.0);
        script.polls += 1;
        match script.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                script.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A future that keeps no waker: whoever polls it is lost.
#[derive(Debug)]
pub(crate) struct Forgotten;

impl Future for Forgotten {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

// --- things to look at ------------------------------------------------------------------------

/// An ordered list of what happened.
#[derive(Clone, Debug)]
pub(crate) struct Diary<T>(Arc<Mutex<Vec<T>>>);

impl<T: Clone> Diary<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Vec::new())))
    }

    pub(crate) fn note(&self, entry: T) {
        lock(&self.0).push(entry);
    }

    pub(crate) fn read(&self) -> Vec<T> {
        lock(&self.0).clone()
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

/// Runs `f` on a thread of its own and gives back what it returned; a panic goes on here.
pub(crate) fn on_new_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(f).join() {
        Ok(value) => value,
        Err(payload) => resume_unwind(payload),
    })
}

/// What a panic said.
pub(crate) fn text_of(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

/// CPU time of the whole process so far; `None` where the system does not tell.
pub(crate) fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Threads of this process whose name starts with `prefix`; `None` where nobody tells.
pub(crate) fn threads_named(prefix: &str) -> Option<usize> {
    let folder = std::fs::read_dir("/proc/self/task").ok()?;
    Some(
        folder
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok())
            .filter(|name| name.starts_with(prefix))
            .count(),
    )
}
