//! One random thing at a time, with what must hold whatever comes of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Cx, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use portage::bridge::{
    async_to_sync, exec_in_executor, exec_in_executor_async, sync_to_async,
    thread_sensitive_context,
};
use portage::context::Context;
use portage::event_loop::{ensure_thread_event_loop, with_thread_event_loop};
use portage::executors::{AsyncExecutorExt, RunMultiple};
use portage::pool::Shutdown;
use portage::promise::chain_future_results;
use portage::sync::{
    Event, Polling, ThreadWithException, async_lock, await_event_with_stop, await_threading_event,
};
use portage::time::{sleep, timeout, yield_now};
use portage::{
    EventLoop, Executor, Job, JoinError, JoinHandle, SubmitError, ThreadPool, block_on, promise,
};

use crate::ledger::{Random, Token, boom};
use crate::world::{REQUEST, World, check_books, new_pool};

type Op = fn(&Arc<World>, &mut Random);

const OPS: [Op; 21] = [
    jobs, jobs, tasks, tasks, pinned, batches, executors, promises, chains, queues, lanes, loops,
    own_loops, bridges, timers, events, locks, many, streams, threads, pools,
];

/// Does one thing, inside a request of its own.
pub(crate) fn step(world: &Arc<World>, random: &mut Random) {
    let request = random.next();
    let op = *random.pick(&OPS);
    let _scope = REQUEST.scope(request);
    // a panic of the program's own has no business on this thread
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| op(world, random)));
    if let Err(payload) = outcome {
        let number = OPS
            .iter()
            .position(|other| std::ptr::fn_addr_eq(*other, op));
        let text = payload.downcast_ref::<String>().map_or("?", String::as_str);
        panic!("operation {number:?} lets a panic out: {text}");
    }
    assert_eq!(REQUEST.get(), Some(request), "another context shows here");
    world.stepped();
}

// --- what is submitted ----------------------------------------------------------------------------

/// The closure of a job: it belongs to its request, takes its time, fails now and then.
fn work(random: &mut Random, value: u64) -> impl FnOnce() -> u64 + Send + use<> {
    let token = Token::moody(random);
    let (nap, fails) = (random.moment(), random.one_in(12));
    let request = REQUEST.get();
    move || {
        let _token = token;
        assert_eq!(REQUEST.get(), request, "another request's context");
        let _mine = REQUEST.set(value);
        if !nap.is_zero() {
            std::thread::sleep(nap);
        }
        if fails {
            boom("a job");
        }
        value
    }
}

/// The same as a future, which is suspended a few times, or for ever.
fn task(random: &mut Random, value: u64) -> impl Future<Output = u64> + Send + use<> {
    let is_lost = random.one_in(20);
    driven(random, value, is_lost)
}

/// `is_lost` only where a task runs it: whoever drives a future himself waits for it.
fn driven(
    random: &mut Random,
    value: u64,
    is_lost: bool,
) -> impl Future<Output = u64> + Send + use<> {
    let token = Token::moody(random);
    let (nap, fails) = (random.moment(), random.one_in(12));
    let turns = random.below(4);
    let request = REQUEST.get();
    async move {
        let _token = token;
        for _ in 0..turns {
            assert_eq!(REQUEST.get(), request, "another request's context");
            yield_now().await;
        }
        if !nap.is_zero() {
            sleep(nap).await;
        }
        if is_lost {
            Forgotten.await;
        }
        if fails {
            boom("a task");
        }
        value
    }
}

/// Keeps no waker.
struct Forgotten;

impl Future for Forgotten {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Cx<'_>) -> Poll<()> {
        Poll::Pending
    }
}

// --- what becomes of a handle ---------------------------------------------------------------------

fn is_legal(outcome: Result<u64, JoinError>, value: u64) {
    match outcome {
        Ok(got) => assert_eq!(got, value, "the value of another"),
        Err(error) => {
            let known = error.is_cancelled()
                || error.is_panic()
                || error.is_lost()
                || error.is_shut_down()
                || error.is_would_deadlock();
            assert!(known, "ended with {error}");
        }
    }
}

/// Waits, cancels, drops, chains, awaits: whatever one can do with a handle, in the end.
fn settle(random: &mut Random, mut handle: JoinHandle<u64>, value: u64) {
    match random.below(10) {
        0 => handle.detach(),
        1 => {
            let cancel = handle.cancel_handle();
            let _ = cancel.cancel();
            is_legal(handle.wait(), value);
        }
        2 => {
            let limit = random.moment();
            match handle.wait_timeout(limit) {
                Some(outcome) => is_legal(outcome, value),
                None => {
                    let _ = handle.cancel();
                }
            }
        }
        3 => {
            let token = Token::moody(random);
            let mapped = handle.map(move |got| {
                let _token = token;
                got.wrapping_add(1)
            });
            is_legal(mapped.wait(), value.wrapping_add(1));
        }
        4 => {
            let fails = random.one_in(8);
            handle.on_complete(move |_| {
                if fails {
                    boom("a callback");
                }
            });
            is_legal(block_on(handle), value);
        }
        5 => {
            // looked at by somebody who then loses interest
            let _ = Pin::new(&mut handle).poll(&mut Cx::from_waker(Waker::noop()));
            let _ = (
                handle.is_finished(),
                handle.is_running(),
                handle.is_cancelled(),
            );
            drop(handle);
        }
        6 => is_legal(handle.wait_helping(), value),
        7 => {
            let limit = random.moment();
            match block_on(timeout(limit, &mut handle)) {
                Ok(outcome) => is_legal(outcome, value),
                Err(_) => drop(handle),
            }
        }
        8 => {
            if let Some(outcome) = handle.try_take() {
                is_legal(outcome, value);
            }
        }
        _ => is_legal(handle.wait(), value),
    }
}

fn settle_or_refused(
    random: &mut Random,
    submitted: Result<JoinHandle<u64>, SubmitError>,
    value: u64,
) {
    match submitted {
        Ok(handle) => settle(random, handle, value),
        Err(error) => {
            let known = error.is_broken() || error.is_shut_down() || error.is_full();
            let known = known || error.is_finished() || error.is_own_thread();
            assert!(known || error.is_would_deadlock(), "refused: {error}");
            let job = error.into_job();
            if random.one_in(2) {
                job.into_iter().for_each(Job::run);
            }
        }
    }
}

// --- operations -------------------------------------------------------------------------------

fn jobs(world: &Arc<World>, random: &mut Random) {
    let pool = random.pick(&world.pools).clone();
    let value = random.next();
    if random.one_in(3) {
        // a job that submits and waits
        let (inner, outer) = (pool.clone(), Token::new());
        let mut own = Random::new(random.next());
        let handle = pool.spawn_blocking(move || {
            let _outer = outer;
            let closure = work(&mut own, value);
            settle(&mut own, inner.spawn_blocking(closure), value);
            value
        });
        return settle(random, handle, value);
    }
    let closure = work(random, value);
    if random.one_in(2) {
        settle(random, pool.spawn_blocking(closure), value);
    } else {
        settle_or_refused(random, pool.submit(closure), value);
    }
}

fn tasks(world: &Arc<World>, random: &mut Random) {
    let pool = random.pick(&world.pools).clone();
    let value = random.next();
    let handle = if random.one_in(3) {
        let inner = pool.clone();
        let (future, token) = (task(random, value), Token::new());
        pool.spawn(async move {
            let _token = token;
            inner.spawn(future).await.unwrap_or(value)
        })
    } else {
        pool.spawn(task(random, value))
    };
    settle(random, handle, value);
}

fn pinned(world: &Arc<World>, random: &mut Random) {
    let value = random.next();
    let future = task(random, value);
    let fails = random.one_in(10);
    let handle = random.pick(&world.pools).spawn_pinned(move || {
        if fails {
            boom("the making of a task");
        }
        future
    });
    settle(random, handle, value);
}

fn batches(world: &Arc<World>, random: &mut Random) {
    let count = random.below(20);
    let jobs: Vec<_> = (0..count).map(|value| work(random, value)).collect();
    let handles = random.pick(&world.pools).spawn_batch(jobs);
    for (value, handle) in handles.into_iter().enumerate() {
        settle(random, handle, value as u64);
    }
}

fn executors(world: &Arc<World>, random: &mut Random) {
    let executor: Arc<dyn Executor> = match random.below(3) {
        0 => Arc::new(random.pick(&world.pools).clone()),
        1 => Arc::new(world.background.handle()),
        _ => Arc::new(random.pick(&world.lanes).clone()),
    };
    let value = random.next();
    if random.one_in(2) {
        let closure = work(random, value);
        settle_or_refused(random, exec_in_executor(Some(&*executor), closure), value);
    } else {
        let future = driven(random, value, false);
        let submitted = exec_in_executor_async(Some(&*executor), move || future);
        settle_or_refused(random, submitted, value);
    }
}

fn promises(world: &Arc<World>, random: &mut Random) {
    let value = random.next();
    let (mut writer, reader) = promise();
    let token = Token::moody(random);
    let how = random.below(6);
    let resolver = random.pick(&world.pools).submit(move || {
        let _token = token;
        match how {
            0 => drop(writer),
            1 => {
                let _ = writer.fail(JoinError::cancelled());
            }
            2 => {
                let _ = writer.start();
                let _ = writer.resolve(value);
            }
            3 => {
                let told = block_on(timeout(Duration::from_micros(200), writer.cancelled()));
                if told.is_err() {
                    let _ = writer.resolve(value);
                }
            }
            _ => {
                let _ = writer.resolve(value);
            }
        }
    });
    drop(resolver.map(JoinHandle::detach));
    settle(random, reader, value);
}

fn chains(world: &Arc<World>, random: &mut Random) {
    let value = random.next();
    let mut handle = random
        .pick(&world.pools)
        .spawn_blocking(work(random, value));
    let mut expected = value;
    for _ in 0..random.below(6) {
        handle = match random.below(4) {
            0 => {
                expected = expected.wrapping_add(1);
                handle.map(|value| value.wrapping_add(1))
            }
            1 => {
                let (target, next) = promise();
                chain_future_results(handle, target);
                next
            }
            2 => {
                let fails = random.one_in(6);
                handle.map(move |value| if fails { boom("a step") } else { value })
            }
            _ => {
                let pool = random.pick(&world.pools).clone();
                handle
                    .map(move |value| pool.spawn_blocking(move || value))
                    .flatten()
            }
        };
    }
    settle(random, handle, expected);
}

fn queues(world: &Arc<World>, random: &mut Random) {
    let queue = random.pick(&world.queues);
    let value = random.next();
    let submitted = match random.below(4) {
        0 => queue.add_task(work(random, value)),
        1 => queue.try_add_task(work(random, value)),
        2 => {
            let adding = queue.aadd_task(work(random, value));
            match block_on(timeout(random.moment(), adding)) {
                Ok(submitted) => submitted,
                // gave up waiting for room
                Err(_) => return,
            }
        }
        _ => {
            let future = task(random, value);
            block_on(queue.aadd_task_async(move || future))
        }
    };
    settle_or_refused(random, submitted, value);
}

fn lanes(world: &Arc<World>, random: &mut Random) {
    let value = random.next();
    let closure = work(random, value);
    let submitted = random.pick(&world.lanes).submit(closure);
    settle_or_refused(random, submitted, value);
}

fn loops(world: &Arc<World>, random: &mut Random) {
    let value = random.next();
    let future = task(random, value);
    let handle = match random.below(4) {
        0 => world.background.handle().spawn(future),
        1 => world.background.handle().spawn_with(move || future),
        2 => world.loops.submit(future),
        _ => match world.loops.get_event_loop() {
            Ok((handle, _)) => handle.spawn(future),
            Err(_) => return,
        },
    };
    let _ = (world.loops.loads(), world.loops.tasks().len());
    settle(random, handle, value);
}

fn own_loops(_: &Arc<World>, random: &mut Random) {
    let value = random.next();
    let events = EventLoop::new();
    let future = task(random, value);
    let handle = if random.one_in(2) {
        events.spawn_local(future)
    } else {
        events.handle().spawn_with(move || future)
    };
    let left = events.spawn_local(task(random, value));
    match random.below(3) {
        0 => is_legal(
            events.run_until_complete(handle).expect("it is idle"),
            value,
        ),
        1 => {
            let remote = events.handle();
            let stopper = std::thread::spawn(move || remote.stop());
            events.run_until_stopped().expect("it is idle");
            stopper.join().expect("no panic");
            drop(handle);
        }
        _ => drop(handle),
    }
    if random.one_in(2) {
        events.close();
    }
    drop(events);
    is_legal(left.wait(), value);
    // and the one of this thread
    let own = ensure_thread_event_loop().spawn(async move { value });
    let outcome = with_thread_event_loop(|own_loop| own_loop.run_until_complete(own));
    is_legal(outcome.expect("it is idle"), value);
}

fn bridges(world: &Arc<World>, random: &mut Random) {
    // what a bridged call sets flows back to its caller
    Context::current().run(|| bridge(world, random));
}

fn bridge(world: &Arc<World>, random: &mut Random) {
    let value = random.next();
    if random.one_in(4) {
        return nested_bridges(random, value);
    }
    let call = sync_to_async(work(random, value));
    let call = match random.below(3) {
        0 => call,
        1 => call.thread_sensitive(false),
        _ => call.executor(Arc::new(random.pick(&world.pools).clone())),
    };
    let limit = Duration::from_micros(random.below(3_000));
    // dropped on the way, at times
    let outcome = block_on(timeout(limit, async { call.await }));
    if let Ok(Ok(got)) = outcome {
        assert_eq!(got, value);
    }
}

/// Blocking code inside async code inside blocking code inside async code.
fn nested_bridges(random: &mut Random, value: u64) {
    let closure = work(random, value);
    let nested = sync_to_async(move || {
        async_to_sync(move || async move {
            yield_now().await;
            sync_to_async(closure).await
        })
        .call()
    });
    let nested = async { nested.await };
    let outcome = match random.below(2) {
        0 => block_on(nested),
        _ => block_on(thread_sensitive_context(nested)),
    };
    if let Ok(Ok(Ok(got))) = outcome {
        assert_eq!(got, value);
    }
}

fn timers(world: &Arc<World>, random: &mut Random) {
    let (nap, limit) = (random.moment(), random.moment());
    let waiting = async move {
        let since = std::time::Instant::now();
        let late = timeout(limit, sleep(nap)).await.is_err();
        assert!(late || since.elapsed() >= nap, "early");
        u64::from(late)
    };
    if random.one_in(2) {
        block_on(waiting);
    } else {
        let handle = random.pick(&world.pools).spawn(waiting);
        let _ = handle.wait().inspect(|late| assert!(*late < 2));
    }
}

fn events(world: &Arc<World>, random: &mut Random) {
    match random.below(5) {
        0 => world.event.set(),
        1 => world.event.clear(),
        2 => {
            let _ = world.event.wait_timeout(random.moment());
        }
        3 => {
            let limit = Some(random.moment());
            let waiting = await_threading_event(&world.event, "event", limit, Polling::default());
            let _ = block_on(waiting);
        }
        _ => {
            let (one, other) = (Arc::new(Event::new()), world.stop.clone());
            let setter = one.clone();
            let closure = Token::new();
            let set = random.pick(&world.pools).submit(move || {
                let _token = closure;
                setter.set();
            });
            if set.is_ok() {
                let waiting = await_event_with_stop(&one, &other, "event", Polling::default());
                assert!(block_on(waiting), "nobody stops it in a round");
            }
        }
    }
}

fn locks(world: &Arc<World>, random: &mut Random) {
    let polling = *random.pick(&[Polling::Every(Duration::from_millis(1)), Polling::NoPolling]);
    let (lock, limit) = (world.lock.clone(), Duration::from_micros(random.below(500)));
    let taking = async move {
        let mut guard = async_lock(&lock, "lock", polling).await;
        *guard += 1;
        yield_now().await;
    };
    // given up on the way, at times
    let _ = block_on(timeout(limit, taking));
    *world.lock.lock() += 1;
}

fn many(world: &Arc<World>, random: &mut Random) {
    let count = random.below(8);
    let tasks: Vec<_> = (0..count).map(|value| task(random, value)).collect();
    let options = RunMultiple {
        max_workers: random.below(4) as usize,
        timeout: random.one_in(2).then(|| random.moment()),
    };
    let results = match random.below(2) {
        0 => world.loops.run_multiple(tasks, options),
        _ => world.background.run_multiple(tasks, options),
    };
    let take = if random.one_in(3) { count / 2 } else { count };
    for result in results.take(take as usize) {
        if let Ok(got) = result.output {
            assert_eq!(got, result.index as u64);
        }
    }
}

/// Counts down, then ends or panics.
struct Countdown(
    u64,
    bool,
    #[allow(dead_code, reason = "it is only dropped")] Token,
);

impl Stream for Countdown {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<u64>> {
        if self.0 == 0 {
            return if self.1 {
                boom("a stream")
            } else {
                Poll::Ready(None)
            };
        }
        self.0 -= 1;
        if self.0 % 3 == 1 {
            cx.waker().wake_by_ref();
            self.0 += 1;
            self.0 -= 1;
        }
        Poll::Ready(Some(self.0))
    }
}

fn streams(world: &Arc<World>, random: &mut Random) {
    let (length, fails) = (random.below(10), random.one_in(4));
    let stream = Countdown(length, fails, Token::new());
    let items = world.background.wrap_async_iterable(stream);
    let items = items.prefetch(random.below(4) as usize);
    if random.one_in(3) {
        items.take(2).for_each(drop);
        return;
    }
    let items: Vec<_> = items.collect();
    let values = items.iter().filter(|item| item.is_ok()).count() as u64;
    assert_eq!(values, length);
    assert_eq!(items.len() as u64, length + u64::from(fails));
}

fn threads(_: &Arc<World>, random: &mut Random) {
    let value = random.next();
    let thread = ThreadWithException::spawn(work(random, value)).expect("a thread");
    is_legal(thread.try_join(), value);
    // a context that is carried by hand
    let mut context = Context::current();
    let other = random.next();
    context.run(|| drop(REQUEST.set(other)));
    let seen = block_on(context.attach(async { REQUEST.get() }));
    assert_eq!(seen, Some(other));
}

/// A pool that lives and ends here.
fn pools(world: &Arc<World>, random: &mut Random) {
    let pool = new_pool(random, &world.dice);
    let mut handles = Vec::new();
    for value in 0..random.below(12) {
        let handle = match random.below(3) {
            0 => pool.spawn(task(random, value)),
            1 => {
                let future = task(random, value);
                pool.spawn_pinned(move || future)
            }
            _ => pool.spawn_blocking(work(random, value)),
        };
        handles.push((value, handle));
    }
    match random.below(4) {
        // the last handle goes while it works
        0 => drop(pool),
        1 => {
            let _ = pool.shutdown_timeout(Shutdown::Drain, random.moment());
            let report = pool.shutdown(Shutdown::CancelQueued);
            assert!(report.completed);
            check_books(&pool);
        }
        2 => {
            let inside = pool.clone();
            let ending = pool.spawn_blocking(move || drop(inside.shutdown(Shutdown::Drain)));
            drop(ending);
            assert!(pool.shutdown(Shutdown::CancelQueued).completed);
            check_books(&pool);
        }
        _ => {
            assert!(pool.shutdown(Shutdown::Drain).completed);
            check_books(&pool);
        }
    }
    for (value, handle) in handles {
        settle(random, handle, value);
    }
    let global = ThreadPool::global().spawn_blocking(|| 1);
    assert_eq!(global.wait().expect("it is never shut down"), 1);
}
