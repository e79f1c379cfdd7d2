//! The pool's queues by themselves, beside those that it could have been made of.
//!
//! They are private, and stay so: their files are compiled here once more, on a ground floor of
//! this program's own (`base` in `main`).

#[allow(
    dead_code,
    unused_imports,
    reason = "what is not measured is there too"
)]
#[path = "../../src/queue/injector.rs"]
pub(crate) mod injector;
#[allow(
    dead_code,
    unused_imports,
    reason = "what is not measured is there too"
)]
#[path = "../../src/queue/local.rs"]
pub(crate) mod local;

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_deque::Steal;
use divan::{Bencher, counter::ItemsCount};

use self::injector::Injector;
use self::local::{Local, Thief};

/// What an item of the pool's queues is: a pointer.
type Item = usize;

/// Enough that the shares of a burst's first and last item do not show.
const BURST: usize = 1_000;

/// A queue that everybody fills and every worker empties.
trait Shared: Sync {
    /// What a worker has for itself.
    type Own;

    fn new() -> Self;
    fn own() -> Self::Own;
    fn push(&self, item: Item);
    fn take(&self, own: &Self::Own) -> Option<Item>;
}

/// portage's, of which a worker takes one at a time, as it does when its jobs are long.
struct OneAtATime(Injector<Item>);

impl Shared for OneAtATime {
    type Own = ();

    fn new() -> Self {
        Self(Injector::new())
    }

    fn own() {}

    fn push(&self, item: Item) {
        self.0.push(item);
    }

    fn take(&self, (): &()) -> Option<Item> {
        self.0.take()
    }
}

/// portage's, of which a worker takes up to 16 into its own queue, as it does when its jobs are
/// short.
struct SeveralAtATime(Injector<Item>);

impl Shared for SeveralAtATime {
    type Own = Local<Item>;

    fn new() -> Self {
        Self(Injector::new())
    }

    fn own() -> Self::Own {
        Local::new()
    }

    fn push(&self, item: Item) {
        self.0.push(item);
    }

    fn take(&self, own: &Self::Own) -> Option<Item> {
        own.pop().or_else(|| self.0.take_several(own))
    }
}

/// crossbeam's injector, one at a time.
struct Crossbeam(crossbeam_deque::Injector<Item>);

impl Shared for Crossbeam {
    type Own = ();

    fn new() -> Self {
        Self(crossbeam_deque::Injector::new())
    }

    fn own() {}

    fn push(&self, item: Item) {
        self.0.push(item);
    }

    fn take(&self, (): &()) -> Option<Item> {
        settled(|| self.0.steal())
    }
}

/// crossbeam's injector, of which a worker takes a batch into its own queue.
struct CrossbeamBatch(crossbeam_deque::Injector<Item>);

impl Shared for CrossbeamBatch {
    type Own = crossbeam_deque::Worker<Item>;

    fn new() -> Self {
        Self(crossbeam_deque::Injector::new())
    }

    fn own() -> Self::Own {
        crossbeam_deque::Worker::new_lifo()
    }

    fn push(&self, item: Item) {
        self.0.push(item);
    }

    fn take(&self, own: &Self::Own) -> Option<Item> {
        own.pop()
            .or_else(|| settled(|| self.0.steal_batch_and_pop(own)))
    }
}

/// What everybody writes first.
struct LockedRing(Mutex<VecDeque<Item>>);

impl Shared for LockedRing {
    type Own = ();

    fn new() -> Self {
        Self(Mutex::default())
    }

    fn own() {}

    fn push(&self, item: Item) {
        self.0.lock().expect("nobody panics").push_back(item);
    }

    fn take(&self, (): &()) -> Option<Item> {
        self.0.lock().expect("nobody panics").pop_front()
    }
}

struct Channel(
    crossbeam_channel::Sender<Item>,
    crossbeam_channel::Receiver<Item>,
);

impl Shared for Channel {
    type Own = ();

    fn new() -> Self {
        let (sender, receiver) = crossbeam_channel::unbounded();
        Self(sender, receiver)
    }

    fn own() {}

    fn push(&self, item: Item) {
        self.0.send(item).expect("the other end is here");
    }

    fn take(&self, (): &()) -> Option<Item> {
        self.1.try_recv().ok()
    }
}

fn settled(mut attempt: impl FnMut() -> Steal<Item>) -> Option<Item> {
    loop {
        match attempt() {
            Steal::Success(item) => return Some(item),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}

#[divan::bench(types = [OneAtATime, SeveralAtATime, Crossbeam, CrossbeamBatch, LockedRing, Channel])]
fn one_in_one_out<Q: Shared>(bencher: Bencher<'_, '_>) {
    let (queue, own) = (Q::new(), Q::own());
    bencher.bench_local(|| {
        queue.push(black_box(1));
        black_box(queue.take(&own))
    });
}

#[divan::bench(types = [OneAtATime, SeveralAtATime, Crossbeam, CrossbeamBatch, LockedRing, Channel])]
fn a_burst_in_then_out<Q: Shared>(bencher: Bencher<'_, '_>) {
    let (queue, own) = (Q::new(), Q::own());
    bencher.counter(ItemsCount::new(BURST)).bench_local(|| {
        (1..=BURST).for_each(|item| queue.push(item));
        while let Some(item) = queue.take(&own) {
            black_box(item);
        }
    });
}

/// With what two threads cost to start and to join, the same for all.
#[divan::bench(types = [OneAtATime, SeveralAtATime, Crossbeam, CrossbeamBatch, LockedRing, Channel])]
fn two_fill_two_empty<Q: Shared>(bencher: Bencher<'_, '_>) {
    const EACH: usize = 10 * BURST;
    let queue = Q::new();
    bencher.counter(ItemsCount::new(2 * EACH)).bench_local(|| {
        let left = AtomicUsize::new(2 * EACH);
        let fill = || (1..=EACH).for_each(|item| queue.push(item));
        let empty = || {
            let own = Q::own();
            while left.load(Ordering::Relaxed) > 0 {
                match queue.take(&own) {
                    Some(item) => {
                        black_box(item);
                        left.fetch_sub(1, Ordering::Relaxed);
                    }
                    None => std::thread::yield_now(),
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(fill);
            scope.spawn(fill);
            scope.spawn(empty);
            empty();
        });
    });
}

/// A worker's own queue and its other end.
trait Own {
    type Other;

    fn new() -> (Self, Self::Other)
    where
        Self: Sized;
    fn push(&self, item: Item);
    fn pop(&self) -> Option<Item>;
    /// Half of what is there, at most 16: one of them, the rest into `own`.
    fn rob(other: &Self::Other, own: &Self) -> Option<Item>;
}

/// portage's: two lanes, so that what was woken does not starve.
impl Own for Local<Item> {
    type Other = Thief<Item>;

    fn new() -> (Self, Thief<Item>) {
        let own = Self::new();
        let thief = own.thief();
        (own, thief)
    }

    fn push(&self, item: Item) {
        Self::push(self, item);
    }

    fn pop(&self) -> Option<Item> {
        Self::pop(self)
    }

    fn rob(other: &Thief<Item>, own: &Self) -> Option<Item> {
        other.take_half(own)
    }
}

/// crossbeam's, which is behind each of the two lanes.
impl Own for crossbeam_deque::Worker<Item> {
    type Other = crossbeam_deque::Stealer<Item>;

    fn new() -> (Self, Self::Other) {
        let own = Self::new_lifo();
        let stealer = own.stealer();
        (own, stealer)
    }

    fn push(&self, item: Item) {
        Self::push(self, item);
    }

    fn pop(&self) -> Option<Item> {
        Self::pop(self)
    }

    fn rob(other: &Self::Other, own: &Self) -> Option<Item> {
        settled(|| other.steal_batch_with_limit_and_pop(own, 16))
    }
}

#[divan::bench(types = [Local<Item>, crossbeam_deque::Worker<Item>])]
fn own_pushed_and_popped<O: Own>(bencher: Bencher<'_, '_>) {
    let (own, _other) = O::new();
    bencher.bench_local(|| {
        own.push(black_box(1));
        black_box(own.pop())
    });
}

#[divan::bench(types = [Local<Item>, crossbeam_deque::Worker<Item>])]
fn robbed_until_empty<O: Own>(bencher: Bencher<'_, '_>) {
    let ((rich, other), (poor, _)) = (O::new(), O::new());
    bencher.counter(ItemsCount::new(BURST)).bench_local(|| {
        (1..=BURST).for_each(|item| rich.push(item));
        while let Some(item) = O::rob(&other, &poor) {
            black_box(item);
            while let Some(item) = poor.pop() {
                black_box(item);
            }
        }
    });
}
