//! How often what is handed over is copied on its way: the second table of `docs/cost.md`.
//!
//! What has a thousand bytes goes through no register: each of its moves that the optimizer leaves
//! is a call of `memcpy` or `memmove`. This program has its own, which know the work and its
//! outcome by what is in them. They stand in for libc's in all of the program, std included.

// their instructions are x86's, and who finds them is ELF's linker
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use portage::bridge::exec_in_executor;
use portage::{CurrentThreadExecutor, EventLoop, ThreadPool, block_on, copy_context, promise};

#[allow(dead_code, reason = "it is the guard's")]
#[path = "../src/baseline.rs"]
mod baseline;

use baseline::Baseline;

mod memory {
    use std::arch::asm;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Of the work and of the outcome.
    pub(crate) const SIZE: usize = 1_016;

    /// What is all over the work, and all over the outcome.
    pub(crate) const MARKS: [u64; 2] = [0xa7a7_a7a7_a7a7_a7a7, 0x5c5c_5c5c_5c5c_5c5c];

    static COPIES: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

    pub(crate) fn copies() -> [usize; 2] {
        [0, 1].map(|at| COPIES[at].load(Ordering::SeqCst))
    }

    /// # Safety
    ///
    /// 1. `len` bytes may be read from `from` on.
    unsafe fn note(from: *const u8, len: usize) {
        // The middle of a block that holds it, and what stands around it, is its own.
        if !(SIZE..2 * SIZE).contains(&len) {
            return;
        }
        // SAFETY: duty 1, and eight bytes from the middle on are within.
        let middle = unsafe { from.add((len / 2) & !7).cast::<u64>().read_unaligned() };
        for (mark, count) in MARKS.iter().zip(&COPIES) {
            if middle == *mark {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// # Safety
    ///
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        // SAFETY: the caller's duty.
        unsafe { note(from, len) };
        // Not a loop, which the compiler would make a call of this very function.
        // SAFETY: the caller's duty; the direction is forward at a call.
        unsafe {
            asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
                 options(nostack, preserves_flags));
        }
        to
    }

    /// # Safety
    ///
    /// As C's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
        let ahead = to.addr().wrapping_sub(from.addr());
        if len == 0 || ahead >= len {
            // SAFETY: the caller's duty; forward nothing is overwritten before it is read.
            return unsafe { memcpy(to, from, len) };
        }
        // SAFETY: the caller's duty.
        unsafe { note(from, len) };
        let (to_last, from_last) = (to.wrapping_add(len - 1), from.wrapping_add(len - 1));
        // SAFETY: the caller's duty; the direction is forward again at the end.
        unsafe {
            asm!("std", "rep movsb", "cld", inout("rcx") len => _, inout("rdi") to_last => _,
                 inout("rsi") from_last => _, options(nostack));
        }
        to
    }
}

/// So much of one mark.
struct Load<const MARK: usize>([u64; memory::SIZE / 8]);

type Work = Load<0>;
type Outcome = Load<1>;

impl<const MARK: usize> Load<MARK> {
    fn new() -> Self {
        Self([black_box(memory::MARKS[MARK]); memory::SIZE / 8])
    }

    /// It is needed here, and where it lies does not matter.
    fn look(&self) {
        black_box(&self.0);
    }
}

/// Nothing but a call, to see what is not of portage's making.
#[inline(never)]
fn call<T>(work: impl FnOnce() -> T) -> T {
    work()
}

fn work() -> impl FnOnce() -> Outcome + Send + 'static {
    let load = Work::new();
    move || {
        load.look();
        Outcome::new()
    }
}

/// The same, of which nothing comes back.
fn errand() -> impl FnOnce() + Send + 'static {
    let load = Work::new();
    move || load.look()
}

/// The same as a future.
struct Waiting(Work);

impl Future for Waiting {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Outcome> {
        self.0.look();
        Poll::Ready(Outcome::new())
    }
}

/// A way to hand something over, as `docs/cost.md` calls it, and how to go it once.
type Door<'a> = (&'static str, Box<dyn FnMut() + 'a>);

fn doors<'a>(pool: &'a ThreadPool, events: &'a EventLoop) -> Vec<Door<'a>> {
    fn door<'a>(name: &'static str, once: impl FnMut() + 'a) -> Door<'a> {
        (name, Box::new(once))
    }
    vec![
        door("a call", || call(work()).look()),
        door("`Box<dyn FnOnce>`, called", || {
            let boxed: Box<dyn FnOnce() -> Outcome + Send> = Box::new(work());
            call(boxed).look();
        }),
        door("`Context::run`", || copy_context().run(work()).look()),
        door("`Promise::resolve`, `wait`", || {
            let (promise, handle) = promise();
            assert!(promise.resolve(Outcome::new()).is_ok());
            handle.wait().as_ref().expect("it is resolved").look();
        }),
        door("`Promise::resolve`, `poll`", || {
            let (promise, handle) = promise();
            let mut handle = pin!(handle);
            let mut cx = Context::from_waker(Waker::noop());
            assert!(handle.as_mut().poll(&mut cx).is_pending());
            assert!(promise.resolve(Outcome::new()).is_ok());
            match &handle.poll(&mut cx) {
                Poll::Ready(Ok(outcome)) => outcome.look(),
                _ => panic!("it is resolved"),
            }
        }),
        door("`spawn_blocking`, `detach`", || {
            pool.spawn_blocking(errand()).detach();
            // One after the other: it has run.
            pool.spawn_blocking(|| ()).wait().expect("it runs");
        }),
        door("`spawn_blocking`, `wait`", || {
            let outcome = pool.spawn_blocking(work()).wait();
            outcome.as_ref().expect("it runs").look();
        }),
        door("`spawn_blocking`, `block_on`", || {
            let outcome = block_on(pool.spawn_blocking(work()));
            outcome.as_ref().expect("it runs").look();
        }),
        door("`spawn_batch`, `wait`", || {
            for handle in pool.spawn_batch(std::iter::repeat_with(work).take(1)) {
                handle.wait().as_ref().expect("it runs").look();
            }
        }),
        door("`ThreadPool::spawn`, `.await`", || {
            let inner = pool.clone();
            let task = pool.spawn(async move {
                let outcome = inner.spawn(Waiting(Work::new())).await;
                outcome.as_ref().expect("it runs").look();
            });
            task.wait().expect("it runs");
        }),
        door("`spawn_local`, `run_until_complete`", || {
            let task = events.spawn_local(Waiting(Work::new()));
            let ran = events.run_until_complete(task);
            let outcome = ran.as_ref().expect("no loop runs here").as_ref();
            outcome.expect("it runs").look();
        }),
        door("`CurrentThreadExecutor::submit`", || {
            let lane = CurrentThreadExecutor::new(None);
            let theirs = lane.clone();
            let submit = move || theirs.submit(errand()).expect("the lane is open");
            let job = std::thread::spawn(submit).join().expect("it ends");
            let ended = lane.run_until_future(job);
            ended.expect("this is the lane's thread").expect("it runs");
        }),
        door("`exec_in_executor`, `wait`", || {
            let handle = exec_in_executor(Some(pool), work()).expect("the pool is open");
            handle.wait().as_ref().expect("it runs").look();
        }),
    ]
}

/// The most copies of the work and of the outcome, of so many times.
fn copies(once: &mut dyn FnMut()) -> [usize; 2] {
    const TIMES: usize = 20;
    let mut most = [0; 2];
    for _ in 0..TIMES {
        let before = memory::copies();
        once();
        let after = memory::copies();
        most = [0, 1].map(|at| most[at].max(after[at] - before[at]));
    }
    most
}

/// What the table says of it; `-` where nothing is handed over.
fn told(name: &str) -> [usize; 2] {
    let table = include_str!("../../../docs/cost.md").lines();
    let mut rows = table.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let row = rows.find(|cells| cells.get(1) == Some(&name));
    let row = row.unwrap_or_else(|| panic!("{name} is not in docs/cost.md"));
    [2, 3].map(|at| match row[at] {
        "-" => 0,
        count => count.parse().expect("a number"),
    })
}

/// One test, because it counts what all threads of the process do.
#[test]
#[cfg_attr(debug_assertions, ignore = "it counts what the optimizer leaves")]
fn what_is_handed_over_is_copied_as_often_as_the_table_says() {
    // Another compiler leaves others.
    let slack = usize::from(!Baseline::read().is_of_this_compiler());
    let pool = ThreadPool::builder().core_threads(1).max_threads(1).build();
    let (pool, events) = (pool.expect("legal sizes"), EventLoop::new());
    let mut dearer = Vec::new();
    for (name, mut once) in doors(&pool, &events) {
        let (now, told) = (copies(&mut once), told(name));
        let line = format!("{name}: {now:?} copies in and out, docs/cost.md says {told:?}");
        println!("{line}");
        if now.iter().zip(told).any(|(now, told)| *now > told + slack) {
            dearer.push(line);
        }
    }
    assert!(dearer.is_empty(), "{dearer:#?}");
}
