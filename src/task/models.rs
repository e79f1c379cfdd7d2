//! Models of the word. Run: `just loom task`.
//!
//! Every model runs all interleavings of its threads, without a bound unless it says so. Values
//! are loom's own `Arc`s, so that a leak fails, and a second drop too.

#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::task::{Poll, Waker};

use loom::sync::Arc as Tracked;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::{
    Callback, Cancel, Ended, Home, Place, Reader, Runner, Schedule, Spawned, TaskRef, WakeKind,
    future, job, jobs, late_job, promise,
};
use crate::base::sync::{Arc, Mutex};
use crate::entered::Parking;
use crate::join_error::JoinError;

struct Queue(Mutex<Vec<TaskRef>>);

impl Queue {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Vec::new())))
    }

    fn run_all(&self) -> usize {
        let mut ran = 0;
        loop {
            let Some(task) = self.0.lock().pop() else {
                return ran;
            };
            ran += 1;
            task.run();
        }
    }
}

impl Schedule for Queue {
    fn schedule(&self, task: TaskRef, _kind: WakeKind) {
        self.0.lock().push(task);
    }
    fn home(&self) -> Home {
        Home::Pool(1)
    }
}

impl Runner for Queue {
    fn home(&self) -> Home {
        Schedule::home(self)
    }
    fn started(&self) {}
    fn ended(&self, _end: &Ended) {}
    fn let_go(&self, home: Arc<dyn Schedule>) {
        drop(home);
    }
    fn woken(&self, task: TaskRef) {
        self.schedule(task, WakeKind::Woken);
    }
}

/// A queue that has one entry at most.
struct Lone(Arc<Queue>);

impl Schedule for Lone {
    fn schedule(&self, task: TaskRef, kind: WakeKind) {
        assert!(self.0.0.lock().is_empty(), "a second entry");
        self.0.schedule(task, kind);
    }
    fn home(&self) -> Home {
        Schedule::home(&*self.0)
    }
}

#[track_caller]
fn pair<T>() -> (super::Writer<T>, Reader<T>) {
    promise(std::panic::Location::caller())
}

fn wait<T>(reader: &mut Reader<T>) -> Result<T, JoinError> {
    let parking = Parking::current();
    parking.wait_until(|| reader.watch(parking.waker()), None);
    reader.take().expect("the wait ends with an outcome")
}

fn bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(model);
}

/// Question: does a waiting thread always see the value, and never miss the wake?
///
/// Must fail when: a turn is not Release, or not Acquire; the publisher does not look at `WAITS`;
/// `watch` says that it waits although the end was first.
#[test]
fn loom_task_resolve_races_wait() {
    loom::model(|| {
        let (writer, mut reader) = pair();
        let other = thread::spawn(move || writer.resolve(Ok(Tracked::new(7))).is_ok());
        assert_eq!(*wait(&mut reader).unwrap(), 7);
        assert!(other.join().unwrap());
    });
}

/// Question: the reader puts another waker into the place of its first while the promise is
/// resolved; is the place ever used by both sides, and is the one that stands there called?
///
/// Must fail when: `watch` does not move to have the place back; the publisher does not look at
/// `WAITS`.
#[test]
fn loom_task_resolve_races_another_waker() {
    loom::model(|| {
        let (writer, mut reader) = pair();
        assert!(!reader.watch(Waker::noop()));
        let other = thread::spawn(move || writer.resolve(Ok(Tracked::new(7))).is_ok());
        assert_eq!(*wait(&mut reader).unwrap(), 7);
        assert!(other.join().unwrap());
    });
}

/// Question: two wakers are all that is left of a detached future, and both wake it; is it
/// polled again, and freed once?
///
/// Must fail when: a party that is not alone takes itself to be.
#[test]
fn loom_task_two_are_not_alone() {
    bounded(3, || {
        let queue = Queue::new();
        let slot: Arc<Mutex<Vec<Waker>>> = Arc::new(Mutex::new(Vec::new()));
        let polls = Tracked::new(AtomicUsize::new(0));
        let (kept, counted) = (slot.clone(), polls.clone());
        let (task, reader) = future(
            Spawned::here(),
            queue.clone(),
            poll_fn(move |cx| {
                if counted.fetch_add(1, Ordering::Relaxed) > 0 {
                    return Poll::Ready(());
                }
                kept.lock().push(cx.waker().clone());
                kept.lock().push(cx.waker().clone());
                Poll::Pending
            }),
        );
        drop(reader);
        task.run();
        let mut wakers = std::mem::take(&mut *slot.lock());
        let (one, two) = (wakers.pop().unwrap(), wakers.pop().unwrap());
        let other = thread::spawn(move || one.wake());
        two.wake();
        other.join().unwrap();
        assert_eq!(queue.run_all(), 1);
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    });
}

/// Question: resolve, cancel and the drop of the reading half meet; is the value dropped
/// once, does exactly one of writer and canceller win, and does a canceller that is too late
/// see what was written before the end?
///
/// Must fail when: the publisher does not drop the outcome that has no reader; `leave` does
/// not take the slot; the load, or the failure of a turn, is not Acquire.
#[test]
fn loom_task_resolve_races_cancel_and_drop() {
    bounded(3, || {
        let (writer, reader) = pair();
        let hold = reader.hold();
        let value = Tracked::new(7);
        let before = Tracked::new(AtomicUsize::new(0));
        let written = before.clone();
        let resolver = thread::spawn(move || {
            written.store(1, Ordering::Relaxed);
            writer.resolve(Ok(value)).is_ok()
        });
        let canceller = thread::spawn(move || {
            let cancel = hold.cancel();
            if cancel == Cancel::TooLate {
                assert_eq!(before.load(Ordering::Relaxed), 1);
            }
            cancel
        });
        drop(reader);
        let resolved = resolver.join().unwrap();
        let cancelled = canceller.join().unwrap();
        let expected = if resolved {
            Cancel::TooLate
        } else {
            Cancel::Prevented
        };
        assert_eq!(cancelled, expected);
    });
}

/// Question: does a callback that is added around the end run exactly once, after the end?
///
/// Bound: three preemptions; without one it takes minutes.
///
/// Must fail when: registering does not look at `DONE` after it has set `WATCHED`.
#[test]
fn loom_task_resolve_races_callback() {
    bounded(3, || {
        let (writer, reader) = pair();
        let calls = Tracked::new(AtomicUsize::new(0));
        let other = thread::spawn(move || writer.resolve(Ok(7)).is_ok());
        let (counted, hold) = (calls.clone(), reader.hold());
        reader.hold().on_complete(Callback::Call(Box::new(move |_| {
            assert!(hold.is_finished());
            counted.fetch_add(1, Ordering::Relaxed);
        })));
        other.join().unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    });
}

/// Question: a value is given and taken while somebody lets go of the cell; is it freed once, and
/// the value neither torn nor lost?
///
/// Must fail when: a reader, or a reading half that goes, takes itself to be alone.
#[test]
fn loom_task_delivery_races_another_holder() {
    bounded(3, || {
        let (writer, mut reader) = pair();
        let hold = reader.hold();
        let other = thread::spawn(move || drop(hold));
        assert!(writer.resolve(Ok(Tracked::new(7))).is_ok());
        assert_eq!(*reader.take().unwrap().unwrap(), 7);
        drop(reader);
        other.join().unwrap();
    });
}

/// Question: a delayed report and a taker meet at a failure; is it torn, leaked or taken twice?
///
/// Must fail when: the taker of a failure does not pass through the watchers' lock. That the
/// reporter looks at `TAKEN` is tested with the transitions.
#[test]
fn loom_task_report_races_take() {
    loom::model(|| {
        let (writer, mut reader) = pair::<()>();
        let _ = writer.resolve(Err(JoinError::failed("disk full")));
        let hold = reader.hold();
        super::set_unhandled_hook(Box::new(|_| ()));
        let reporter = thread::spawn(move || hold.report_untaken());
        let error = reader.take().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "disk full");
        reporter.join().unwrap();
    });
}

/// Question: worker, joiner and canceller want the same job; does exactly one get it?
///
/// Must fail when: `claim`, `claim_unstarted` or `stop` does not look at what the others set.
#[test]
fn loom_task_claim_is_exclusive() {
    bounded(2, || {
        let runs = Tracked::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let (task, mut reader) = job(Spawned::here(), Queue::new(), None, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        let hold = reader.hold();
        let worker = thread::spawn(move || task.run());
        let canceller = thread::spawn(move || hold.cancel());
        reader.hold().run_here();
        let outcome = wait(&mut reader);
        worker.join().unwrap();
        match canceller.join().unwrap() {
            Cancel::Prevented => {
                assert_eq!(runs.load(Ordering::Relaxed), 0);
                assert!(outcome.unwrap_err().is_cancelled());
            }
            _ => {
                assert_eq!(runs.load(Ordering::Relaxed), 1);
                outcome.unwrap();
            }
        }
    });
}

/// Question: is a wake that falls into a poll followed by exactly one more poll, which sees
/// what the waker wrote, although it was not the first to wake?
///
/// Must fail when: a redundant wake is no write; `suspend` does not look at `SCHEDULED`; a turn
/// is not Release, or not Acquire.
#[test]
fn loom_task_redundant_wake_publishes() {
    bounded(3, || {
        let queue = Queue::new();
        let data = Tracked::new(AtomicUsize::new(0));
        let slot: Arc<Mutex<Option<Waker>>> = Arc::new(Mutex::new(None));
        let (theirs, kept) = (data.clone(), slot.clone());
        let (task, mut reader) = future(
            Spawned::here(),
            queue.clone(),
            poll_fn(move |cx| {
                if theirs.load(Ordering::Relaxed) == 2 {
                    return Poll::Ready(());
                }
                *kept.lock() = Some(cx.waker().clone());
                Poll::Pending
            }),
        );
        task.run();
        let waker = slot.lock().take().unwrap();
        let second = waker.clone();
        let (one, two) = (data.clone(), data);
        let first = thread::spawn(move || {
            one.fetch_add(1, Ordering::Relaxed);
            waker.wake();
        });
        let other = thread::spawn(move || {
            two.fetch_add(1, Ordering::Relaxed);
            second.wake();
        });
        queue.run_all();
        first.join().unwrap();
        other.join().unwrap();
        queue.run_all();
        drop(slot.lock().take());
        queue.run_all();
        reader.take().expect("both wakes were seen").unwrap();
    });
}

/// A future that was polled once, and ends at its next poll; where its wakers are put.
fn suspended<V: Send + 'static>(
    queue: &Arc<Queue>,
    value: V,
) -> (Reader<()>, Arc<Mutex<Option<Waker>>>) {
    let slot: Arc<Mutex<Option<Waker>>> = Arc::new(Mutex::new(None));
    let kept = slot.clone();
    let work = poll_fn(move |cx| {
        let _value = &value;
        let first = kept.lock().replace(cx.waker().clone()).is_none();
        if first {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    });
    let (task, reader) = future(Spawned::here(), queue.clone(), work);
    task.run();
    (reader, slot)
}

/// Question: a wake, a cancel and the drop of the last waker meet at a suspended future; does
/// it end, and is it dropped exactly once?
///
/// Must fail when: the last driver does not look whether the future is suspended; `stop` does
/// not push a suspended one.
#[test]
fn loom_task_wake_races_cancel() {
    bounded(3, || {
        let queue = Queue::new();
        let (mut reader, slot) = suspended(&queue, Tracked::new(7));
        let waker = slot.lock().as_ref().expect("it was polled").clone();
        let waking = thread::spawn(move || waker.wake());
        let hold = reader.hold();
        let canceller = thread::spawn(move || hold.cancel());
        queue.run_all();
        waking.join().unwrap();
        canceller.join().unwrap();
        queue.run_all();
        let outcome = reader.take().expect("it has ended");
        assert!(outcome.is_ok() || outcome.unwrap_err().is_cancelled());
        drop(slot.lock().take());
        assert_eq!(queue.run_all(), 0);
    });
}

/// Question: the last two wakers of a suspended future are dropped at once; is it lost once?
///
/// Must fail when: the last driver does not go along into the queue.
#[test]
fn loom_task_last_wakers_race() {
    loom::model(|| {
        let queue = Queue::new();
        let value = Tracked::new(7);
        let slot: Arc<Mutex<Vec<Waker>>> = Arc::new(Mutex::new(Vec::new()));
        let kept = slot.clone();
        let (task, mut reader) = future(
            Spawned::here(),
            queue.clone(),
            poll_fn(move |cx| {
                let _value = &value;
                kept.lock().push(cx.waker().clone());
                kept.lock().push(cx.waker().clone());
                Poll::<()>::Pending
            }),
        );
        task.run();
        let mut wakers = std::mem::take(&mut *slot.lock());
        let (one, two) = (wakers.pop(), wakers.pop());
        let other = thread::spawn(move || drop(one));
        drop(two);
        other.join().unwrap();
        assert_eq!(queue.run_all(), 1);
        assert!(reader.take().unwrap().unwrap_err().is_lost());
    });
}

/// Question: the reading half goes while the work completes; who drops the value?
///
/// Must fail when: as in `loom_task_resolve_races_cancel_and_drop`; when a holder's last move
/// is not AcqRel.
#[test]
fn loom_task_handle_dropped_while_completing() {
    loom::model(|| {
        let (task, reader) = job(Spawned::here(), Queue::new(), None, || Ok(Tracked::new(7)));
        let worker = thread::spawn(move || task.run());
        drop(reader);
        worker.join().unwrap();
    });
}

/// Question: a reader offers help while another thread wakes the future, and no worker ever
/// looks at the queue; is the wake always seen by one of the two?
///
/// Must fail when: `schedule` does not wake a reader that helps; the reader does not ask for
/// the future after it has offered help.
#[test]
fn loom_task_wake_reaches_the_helping_reader() {
    a_wake_reaches_the_helping_reader(|waker, _| waker.wake());
}

/// Question: the same, where the waker runs in a job of the same executor, whose worker keeps that
/// executor for both.
///
/// Must fail when: the move that needs no holder does not look for a helper.
#[test]
fn loom_task_wake_from_a_task_beside_reaches_the_helping_reader() {
    a_wake_reaches_the_helping_reader(|waker, queue| {
        let (job, reader) = job(Spawned::here(), queue.clone(), None, move || {
            waker.wake();
            Ok(())
        });
        drop(reader);
        let again = job.run_by(&*queue);
        assert!(again.is_none());
    });
}

fn a_wake_reaches_the_helping_reader(wake: fn(Waker, Arc<Queue>)) {
    bounded(2, move || {
        let queue = Queue::new();
        let (mut reader, slot) = suspended(&queue, ());
        let waker = slot.lock().clone().expect("it was polled");
        let theirs = queue.clone();
        let waking = thread::spawn(move || wake(waker, theirs));
        let parking = Parking::current();
        reader.watch(parking.waker());
        let helper = reader.hold();
        helper.offer_help();
        parking.wait_until(
            || reader.watch(parking.waker()) || helper.help() && reader.is_finished(),
            None,
        );
        helper.withdraw_help();
        let outcome = reader.take().expect("it has ended");
        outcome.expect("it does not panic");
        waking.join().expect("it does not panic");
        drop(slot.lock().take());
        queue.0.lock().clear();
    });
}

/// Question: a helper has polled a future in place, whose entry is still in a queue. Does the next
/// wake reach the reader, whoever takes that entry meanwhile, and is there never a second one?
///
/// Bound: one wake, one worker that empties the queue, one reader that helps; one preemption.
///
/// Must fail when: a wake for which an entry is left does not tell the helper; who takes such an
/// entry leaves the flag; a wake does not look for the flag.
#[test]
fn loom_task_a_wake_finds_the_entry_that_a_helper_left() {
    bounded(1, || {
        let queue = Queue::new();
        let slot: Arc<Mutex<Option<Waker>>> = Arc::new(Mutex::new(None));
        let (kept, polls) = (slot.clone(), AtomicUsize::new(0));
        let work = poll_fn(move |cx| {
            if polls.fetch_add(1, Ordering::Relaxed) == 2 {
                return Poll::Ready(());
            }
            *kept.lock() = Some(cx.waker().clone());
            Poll::Pending
        });
        let home = Arc::new(Lone(queue.clone()));
        let (task, mut reader) = future(Spawned::here(), home, work);
        task.run();
        let take = || slot.lock().take().expect("it was polled");
        take().wake();
        let helper = reader.hold();
        helper.offer_help();
        assert!(helper.help() && queue.0.lock().len() == 1, "it is left");
        let waker = take();
        let waking = thread::spawn(move || waker.wake());
        let theirs = queue.clone();
        let worker = thread::spawn(move || {
            let _ = theirs.run_all();
        });
        let parking = Parking::current();
        parking.wait_until(
            || reader.watch(parking.waker()) || helper.help() && reader.is_finished(),
            None,
        );
        helper.withdraw_help();
        let outcome = reader.take().expect("it has ended");
        outcome.expect("it does not panic");
        waking.join().expect("it does not panic");
        worker.join().expect("it does not panic");
        queue.0.lock().clear();
    });
}

/// An executor that counts.
struct Account {
    started: AtomicUsize,
    ended: AtomicUsize,
}

impl Schedule for Account {
    fn schedule(&self, _task: TaskRef, _kind: WakeKind) {}
    fn home(&self) -> Home {
        Home::Anywhere
    }
    fn started(&self, _task: &TaskRef) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }
    fn ended(&self, _end: Ended) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Question: a late job gets its executor while a joiner claims it; does the executor hear of the
/// start and of the end if it was told that it has the job, and of neither if not?
///
/// Must fail when: the executor is written before the move that says so, or that move does not
/// ask whether the job is claimed; who asks for it does not take the lock.
#[test]
fn loom_task_assign_races_claim() {
    loom::model(|| {
        let account = Arc::new(Account {
            started: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
        });
        let (task, reader) = late_job(Spawned::here(), None, || Ok(()));
        let home = account.clone();
        let executor = thread::spawn(move || {
            let assigned = task.assign(Some(home));
            task.run();
            assigned
        });
        let joined = reader.hold().run_here();
        let assigned = executor.join().unwrap();
        assert!(joined || assigned, "nobody else claims it");
        let counts = [&account.started, &account.ended].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [usize::from(assigned); 2]);
    });
}

/// Question: an executor gives a late job back and another one takes it, while somebody cancels;
/// does that one hear of the end who was told, at the last, that it has the job, and nobody else?
///
/// Bound: two executors, one canceller; two switches of threads against their will.
///
/// Must fail when: who asks for the executor of a job that was assigned sees none, or does not
/// take the lock; a job that was cancelled may still be assigned.
#[test]
fn loom_task_assign_again_races_cancel() {
    bounded(2, || {
        let accounts = [0, 1].map(|_| {
            Arc::new(Account {
                started: AtomicUsize::new(0),
                ended: AtomicUsize::new(0),
            })
        });
        let (task, reader) = late_job(Spawned::here(), None, || Ok(()));
        let cancelled = thread::spawn(move || reader.hold().cancel() == Cancel::Prevented);
        let [one, other] = accounts.clone();
        let executor = thread::spawn(move || {
            let first = task.assign(Some(one));
            let back = first && task.assign(None);
            let second = back && task.assign(Some(other));
            task.run();
            (first && !back, second)
        });
        let cancelled = cancelled.join().unwrap();
        let (first, second) = executor.join().unwrap();
        let counts = |account: &Account| {
            [&account.started, &account.ended].map(|count| count.load(Ordering::Relaxed))
        };
        let ran = usize::from(second && !cancelled);
        assert_eq!(counts(&accounts[0]), [0, usize::from(first)]);
        assert_eq!(counts(&accounts[1]), [ran, usize::from(second)]);
    });
}

/// Question: two cells of a block are freed by two threads; is the block freed once, after both?
///
/// Bound: two jobs; each is run by one thread and read by another.
///
/// Must fail when: the count of a block is moved without Release, or without Acquire; the block
/// goes with the first of its cells, or never.
#[test]
fn loom_task_the_last_of_a_block_frees_it() {
    bounded(3, || {
        let queue = Queue::new();
        let home: Arc<dyn Schedule> = queue.clone();
        let value = Tracked::new(7);
        let works = (0..2).map(|_| value.clone()).map(|value| move || *value);
        let works: Vec<_> = works.collect();
        let mut made = Vec::new();
        jobs(
            &Spawned::here(),
            &home,
            works.into_iter(),
            |task, reader| {
                made.push((task, reader));
            },
        );
        drop(home);
        let threads = made.into_iter().map(|(task, reader)| {
            thread::spawn(move || {
                drop(reader);
                task.run();
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().unwrap();
        }
        assert_eq!(Arc::strong_count(&queue), 1, "the block is gone");
    });
}

/// Question: a worker fills its place, and fills it again, while others look into it; is each task
/// run once, by somebody who sees what its waker wrote?
///
/// Bound: two jobs, one worker, one that takes once; every interleaving.
///
/// Must fail when: `put` or `replace` is not Release; `take` is not Acquire, or leaves what it
/// takes.
#[test]
fn loom_task_a_place_hands_each_task_to_one() {
    loom::model(|| {
        let (place, runs) = (Arc::new(Place::new()), Tracked::new(AtomicUsize::new(0)));
        let make = || {
            let data = Tracked::new(AtomicUsize::new(0));
            let (runs, written) = (runs.clone(), data.clone());
            let (task, reader) = job(Spawned::here(), Queue::new(), None, move || {
                assert_eq!(
                    written.load(Ordering::Relaxed),
                    1,
                    "run before it was woken"
                );
                runs.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
            drop(reader);
            (task, data)
        };
        let ((first, one), (second, two)) = (make(), make());
        let at = place.clone();
        let taker = thread::spawn(move || at.take().map(TaskRef::run));
        one.store(1, Ordering::Relaxed);
        place.put(first);
        two.store(1, Ordering::Relaxed);
        if let Some(displaced) = place.replace(second) {
            displaced.run();
        }
        taker.join().unwrap();
        if let Some(left) = place.take() {
            left.run();
        }
        assert_eq!(runs.load(Ordering::Relaxed), 2);
    });
}
