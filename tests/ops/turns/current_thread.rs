//! Lanes: submit, run, nest, finish, migrate, drop, owner gone.
//!
//! Jobs run once at most, on the thread of a lane's owner; those of one submitter in order; every
//! handle resolves; refusals say why.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread::{ThreadId, current};

use portage::promise::CancelHandle;
use portage::simulation::switch;
use portage::sync::ThreadWithException;
use portage::time::sleep;
use portage::{CurrentThreadExecutor, JoinError, JoinHandle, block_on, promise};

use super::{Account, Bytes, must, nap, short};

const DEPTH_MAX: usize = 4;
const THREADS_MAX: usize = 8;
const LANES_MAX: usize = 24;

/// What all threads of a program share.
#[derive(Clone, Default)]
struct World {
    account: Account,
    lanes: Arc<Mutex<Vec<CurrentThreadExecutor>>>,
    /// Lanes have belonged to more than one thread: then the order of one submitter may differ.
    is_mixed: Arc<AtomicUsize>,
}

impl World {
    fn add(&self, lane: &CurrentThreadExecutor) {
        let mut lanes = self.lanes.lock().expect("nobody panics with it");
        if lanes.len() < LANES_MAX {
            lanes.push(lane.clone());
        }
    }

    fn lane(&self, at: usize) -> Option<CurrentThreadExecutor> {
        let lanes = self.lanes.lock().expect("nobody panics with it");
        (!lanes.is_empty()).then(|| lanes[at % lanes.len()].clone())
    }

    fn forget(&self, at: usize) {
        let mut lanes = self.lanes.lock().expect("nobody panics with it");
        if !lanes.is_empty() {
            let at = at % lanes.len();
            let lane = lanes.swap_remove(at);
            drop(lanes);
            drop(lane);
        }
    }

    fn is_mixed(&self) -> bool {
        self.is_mixed.load(Ordering::SeqCst) > 0
    }
}

/// Runs the program in `data`.
pub fn run(data: &[u8]) {
    super::in_turns(data, play);
}

fn play(bytes: &mut Bytes<'_>) {
    let world = World::default();
    let mut threads = Vec::new();
    let mut results = Vec::new();
    while let Some(operation) = bytes.operation() {
        match operation % 8 {
            0 | 1 => owner_runs(&world, bytes, 0),
            2 => world.add(&CurrentThreadExecutor::new(
                world.lane(bytes.operand()).as_ref(),
            )),
            3 | 4 if threads.len() < THREADS_MAX => threads.push(submitter(&world, bytes)),
            5 if threads.len() < THREADS_MAX => threads.push(second_owner(&world, bytes)),
            6 => {
                // the owner may not submit, whoever of its lanes is asked
                if let Some(lane) = world.lane(bytes.operand()) {
                    let ticket = world.account.ticket();
                    let own = lane.thread_id() == current().id();
                    match lane.submit(move || drop(ticket)) {
                        Ok(handle) => {
                            must(!own, "an owner is refused");
                            results.push(handle);
                        }
                        Err(error) => {
                            must(error.is_own_thread() || error.is_finished(), "a reason");
                            must(!own || error.is_own_thread(), "own thread comes first");
                            must(error.into_job().is_some(), "the job comes back");
                        }
                    }
                }
            }
            _ => world.forget(bytes.operand()),
        }
    }
    let all = std::mem::take(&mut *world.lanes.lock().expect("nobody panics with it"));
    drop(all);
    for thread in threads {
        must(
            thread.try_join().is_ok(),
            "threads end: see the panic above",
        );
    }
    for handle in results {
        must(
            handle.wait().err().is_none_or(|e| is_expected(&e)),
            "it resolves",
        );
    }
    world.account.settle();
}

fn is_expected(error: &JoinError) -> bool {
    error.is_lost() || error.is_cancelled() || error.is_panic()
}

/// This thread runs a lane until something happens, and maybe another one inside of it.
fn owner_runs(world: &World, bytes: &mut Bytes<'_>, depth: usize) {
    let older = bytes.operand();
    let older = if older % 3 == 0 {
        None
    } else {
        world.lane(older)
    };
    let lane = CurrentThreadExecutor::new(older.as_ref());
    world.add(&lane);
    let (resolve, done) = promise::<()>();
    let remote = lane.clone();
    let (account, owners, time) = (world.account.clone(), world.clone(), short(bytes));
    let kind = bytes.operand();
    let nested = (kind % 5 == 4 && depth < DEPTH_MAX).then(|| {
        (
            world.clone(),
            [bytes.operand() as u8, bytes.operand() as u8],
        )
    });
    let helper = ThreadWithException::spawn(move || {
        let here = remote.thread_id();
        let mut ticket = account.ticket();
        let job = remote.submit(move || {
            ticket.stamp();
            // A late one may have gone on to an older lane, which may be another thread's.
            let at_home = current().id() == here || owners.is_mixed();
            must(at_home, "on the owner's thread");
            if let Some((world, script)) = nested {
                owner_runs(&world, &mut Bytes::new(&script), depth + 1);
            }
            switch();
            1
        });
        nap(time);
        if let (Ok(job), true) = (job, kind % 2 == 0) {
            must(
                job.wait().err().is_none_or(|e| is_expected(&e)),
                "it resolves",
            );
        }
        let _ = resolve.resolve(());
    });
    let helper = helper.expect("a thread more");
    let outcome = match kind % 5 {
        0 => lane.run_until_future(async { drop(done.await) }),
        1 => lane.run_until_future(sleep(time)),
        2 => {
            let mut polls = 0;
            lane.run_until_future(poll_fn(move |cx| {
                polls += 1;
                if polls > 3 {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }))
        }
        3 => {
            let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                lane.run_until_future(async { std::panic::resume_unwind(Box::new("as told")) })
            }));
            must(unwound.is_err(), "the panic of the future comes through");
            Ok(())
        }
        _ => {
            // any other wait of this thread serves the lanes too
            let _ = block_on(done);
            lane.run_until_future(async {})
        }
    };
    must(outcome.is_ok(), "a fresh lane runs");
    must(lane.is_finished(), "it finishes for good");
    must(lane.queued() == 0, "a run leaves nothing");
    let again = lane.run_until_future(async {});
    must(again.is_err_and(|error| error.is_finished()), "only once");
    must(helper.try_join().is_ok(), "the helper ends");
}

/// A thread that submits to whatever lane there is.
fn submitter(world: &World, bytes: &mut Bytes<'_>) -> ThreadWithException<()> {
    let world = world.clone();
    let script: Vec<u8> = (0..2 + bytes.operand() % 8)
        .map(|_| bytes.operand() as u8)
        .collect();
    let thread = ThreadWithException::spawn(move || {
        let mut bytes = Bytes::new(&script);
        // number of the last job of ours that each lane has run
        let ran: Arc<Mutex<Vec<(ThreadId, usize)>>> = Arc::default();
        let mut number = 0;
        let mut cancels: Vec<CancelHandle> = Vec::new();
        let mut handles: Vec<JoinHandle<()>> = Vec::new();
        while let Some(operation) = bytes.operation() {
            let Some(lane) = world.lane(bytes.operand()) else {
                nap(short(&mut bytes));
                continue;
            };
            number += 1;
            let (mut ticket, ran, mine) = (world.account.ticket(), ran.clone(), number);
            let owner = world.clone();
            let submitted = lane.submit(move || {
                ticket.stamp();
                let mut ran = ran.lock().expect("nobody panics with it");
                let here = current().id();
                match ran.iter_mut().find(|(thread, _)| *thread == here) {
                    Some((_, last)) => {
                        must(*last < mine || owner.is_mixed(), "in order of submission");
                        *last = mine;
                    }
                    None => ran.push((here, mine)),
                }
            });
            match submitted {
                Ok(handle) => {
                    cancels.push(handle.cancel_handle());
                    match operation % 4 {
                        0 => handle.detach(),
                        1 => drop(handles.pop().map(JoinHandle::wait)),
                        _ => handles.push(handle),
                    }
                }
                Err(error) => must(
                    error.is_finished() || error.is_own_thread(),
                    &error.to_string(),
                ),
            }
            if operation % 16 == 7 && !cancels.is_empty() {
                let at = usize::from(operation) % cancels.len();
                let _ = cancels.swap_remove(at).cancel();
            }
            let wrong = operation % 16 == 3 && lane.thread_id() != current().id();
            if wrong {
                let answer = lane.run_until_future(async {});
                must(answer.is_err_and(|e| e.is_wrong_thread()), "a stranger");
            }
        }
        drop(ran);
        for handle in handles {
            let ended = handle.wait();
            must(ended.err().is_none_or(|e| is_expected(&e)), "it resolves");
        }
    });
    thread.expect("a thread more")
}

/// Another owner: runs a lane of its own, or ends without having run it.
fn second_owner(world: &World, bytes: &mut Bytes<'_>) -> ThreadWithException<()> {
    world.is_mixed.fetch_add(1, Ordering::SeqCst);
    let world = world.clone();
    let kind = bytes.operand();
    let script = [
        bytes.operand() as u8,
        bytes.operand() as u8,
        bytes.operand() as u8,
    ];
    let thread = ThreadWithException::spawn(move || {
        let mut bytes = Bytes::new(&script);
        if kind % 3 == 0 {
            owner_runs(&world, &mut bytes, 0);
        } else {
            let older = world.lane(bytes.operand());
            world.add(&CurrentThreadExecutor::new(older.as_ref()));
            nap(short(&mut bytes));
        }
    });
    thread.expect("a thread more")
}
