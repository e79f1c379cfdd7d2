//! Models of a timer and the agenda it stands in, on two threads.

#![forbid(unsafe_code)]

use std::task::{Wake, Waker};
use std::time::Instant;

use crate::base::sync::Arc;
use crate::base::sync::atomic::{AtomicUsize, Ordering};
use crate::timer::agenda::Agenda;
use crate::timer::entry::{Keeper, Polled, Renewal};
use crate::timer::heap::Due;

struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn wakes() -> (Arc<Wakes>, Waker) {
    let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
    (wakes.clone(), Waker::from(wakes))
}

/// Question: does exactly one side get the waker when the drop of a timer races its firing,
/// and is the count of released entries exact? Every interleaving.
///
/// Must fail when: the release of a fired entry is counted.
#[test]
fn loom_timer_release_races_fire() {
    loom::model(|| {
        let now = Instant::now();
        let mut agenda = Agenda::new(Keeper::Thread);
        let (wakes, waker) = wakes();
        let entry = agenda.add(Due::At(now), waker, false);
        let other = loom::thread::spawn(move || {
            let waker = entry.release();
            waker.is_some()
        });
        let mut due = Vec::new();
        agenda.take_due(now, 8, &mut due);
        let fired = !due.is_empty();
        due.into_iter().for_each(Waker::wake);
        let released = other.join().unwrap();
        assert!(fired != released, "one side, and only one, has the waker");
        assert_eq!(wakes.0.load(Ordering::Relaxed), usize::from(fired));
        assert!(agenda.is_empty());
        assert_eq!(agenda.home().released(), 0);
        assert_eq!(Arc::strong_count(&wakes), 1, "nobody keeps the waker");
    });
}

/// Question: is a timer that is dropped while its agenda is handed over counted where it is?
/// Every interleaving.
///
/// Must fail when: a released entry is moved as if somebody waited for it.
#[test]
fn loom_timer_release_races_hand_over() {
    loom::model(|| {
        let (mut from, mut to) = (Agenda::new(Keeper::Thread), Agenda::new(Keeper::Thread));
        let (wakes, waker) = wakes();
        let entry = from.add(Due::Never, waker, false);
        let other = loom::thread::spawn(move || drop(entry.release()));
        from.move_to(&mut to);
        other.join().unwrap();
        assert_eq!(from.home().released(), 0);
        assert_eq!(to.home().released(), to.len());
        assert_eq!(to.next(), None);
        assert_eq!(to.home().released(), 0);
        assert_eq!(Arc::strong_count(&wakes), 1);
    });
}

/// Question: when another waker is given while the timer fires, is the new one woken, or its
/// owner told? Every interleaving.
///
/// Must fail when: a waker given after the firing is reported as waiting; a firing in time
/// looks like an early one.
#[test]
fn loom_timer_renew_races_fire() {
    loom::model(|| {
        let now = Instant::now();
        let mut agenda = Agenda::new(Keeper::Thread);
        let (_, first) = wakes();
        let (second, waker) = wakes();
        let entry = agenda.add(Due::At(now), first, false);
        let home = agenda.home().clone();
        let other = loom::thread::spawn(move || entry.renew(Polled::InFrame(&home), &waker));
        let mut due = Vec::new();
        agenda.take_due(now, 8, &mut due);
        due.into_iter().for_each(Waker::wake);
        let renewal = other.join().unwrap();
        let woken = second.0.load(Ordering::Relaxed) == 1;
        assert_eq!(woken, renewal == Renewal::Done);
        assert!(renewal != Renewal::Astray);
    });
}
