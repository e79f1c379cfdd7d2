//! The transitions, one by one, without any thread.

#![forbid(unsafe_code)]

use super::{
    ASSIGNED, CANCEL, Claim, DONE, DRIVER, DRIVERS, DRIVERS_MAX, FAMILY, FUTURE, Finish, HANDLE,
    HELPED, HOLDER, HOLDERS, HOLDERS_MAX, LATE, LENT, Leave, ORPHAN, OUTPUT, PREVENTED, REPORTED,
    RUNNING, Release, SCHEDULED, SOURCE, STALE, STARTED, SUSPENDED, Snapshot, Stop, Suspend, TAKEN,
    Take, WAITS, WATCHED, WORK, Wake, Watch,
};
use crate::join_error::Family;

const JOB: u64 = WORK;
const TASK: u64 = WORK | FUTURE | SCHEDULED;

fn after<D>(step: (D, Option<Snapshot>)) -> Snapshot {
    step.1.expect("the transition moves")
}

#[test]
fn the_fields_of_the_word_are_disjoint_and_fill_it() {
    let fields = [
        STARTED, PREVENTED, RUNNING, SCHEDULED, DONE, CANCEL, WATCHED, HANDLE, TAKEN, REPORTED,
        SUSPENDED, OUTPUT, WORK, ORPHAN, FUTURE, LATE, SOURCE, HELPED, WAITS, LENT, STALE,
        ASSIGNED, FAMILY, DRIVERS, HOLDERS,
    ];
    let sum = fields.iter().fold(0_u64, |all, field| {
        assert_eq!(all & field, 0, "{field:#x} overlaps");
        all | field
    });
    assert_eq!(sum, u64::MAX);
}

#[test]
fn a_job_is_claimed_once() {
    let born = Snapshot::born(JOB);
    assert_eq!(born.claim().0, Claim::Start);
    let running = after(born.claim());
    assert_eq!(running.claim(), (Claim::Nothing, None));
    assert!(!running.claim_unstarted(0).0);
    assert_eq!(running.stop(true).0, Stop::Notify);
}

#[test]
fn an_executor_is_assigned_to_what_is_late_and_unclaimed() {
    let born = Snapshot::born(JOB | LATE);
    let (assigned, next) = born.assign();
    assert!(assigned && next.unwrap().has(ASSIGNED));
    assert!(!after(born.claim()).assign().0);
    assert!(!after(born.stop(true)).assign().0);
    assert!(!Snapshot::born(JOB).assign().0, "it has one from its birth");
}

#[test]
fn cancel_before_the_start_wins_against_every_claim() {
    let prevented = after(Snapshot::born(JOB).stop(true));
    assert_eq!(prevented.claim(), (Claim::Nothing, None));
    assert_eq!(prevented.stop(true).0, Stop::Prevented);
    let done = prevented.publish(Some(Family::Cancelled), false, false);
    assert_eq!(done.stop(true).0, Stop::Prevented);
    assert_eq!(done.claim(), (Claim::Nothing, None));
}

#[test]
fn a_far_canceller_leaves_the_work_to_the_next_claim() {
    let far = Snapshot::born(TASK).stop(false);
    assert_eq!(far.0, Stop::PreventFar);
    let claimed = after(far).claim();
    assert_eq!(claimed.0, Claim::DropWork);
    assert_eq!(after(claimed).claim(), (Claim::Nothing, None));
}

#[test]
fn a_wake_while_running_means_one_more_poll() {
    let running = after(Snapshot::born(TASK).claim());
    let woken = running.wake(false, false);
    assert_eq!(woken.0, Wake::Nothing);
    let twice = after(after(woken).wake(false, false));
    assert_eq!(twice.suspend().0, Suspend::Again);
    let again = after(twice.suspend()).claim();
    assert_eq!(again.0, Claim::Poll);
    assert_eq!(after(again).suspend().0, Suspend::Idle);
}

#[test]
fn a_redundant_wake_is_still_a_write() {
    let born = Snapshot::born(TASK);
    assert_eq!(born.wake(false, false), (Wake::Nothing, Some(born)));
}

#[test]
fn a_wake_of_a_suspended_future_pushes_once() {
    let idle = after(after(Snapshot::born(TASK).claim()).suspend());
    let pushed = idle.wake(false, false);
    assert_eq!(pushed.0, Wake::Push);
    assert_eq!(after(pushed).wake(false, false).0, Wake::Nothing);
    assert_eq!(after(pushed).drivers(), idle.drivers() + 1);
    assert_eq!(after(idle.wake(true, false)).drivers(), idle.drivers());
    let hosted = idle.wake(true, true);
    assert_eq!(
        (hosted.0, after(hosted).holders()),
        (Wake::PushOnly, idle.holders())
    );
    assert_eq!(idle.with(HELPED).wake(true, true).0, Wake::Push);
}

#[test]
fn a_cancelled_suspended_future_is_pushed_and_dropped_by_its_executor() {
    let idle = after(after(Snapshot::born(TASK).claim()).suspend());
    let stopped = idle.stop(true);
    assert_eq!(stopped.0, Stop::Push);
    assert_eq!(after(stopped).stop(true).0, Stop::Requested);
    assert_eq!(after(stopped).claim().0, Claim::Abort(Family::Cancelled));
}

#[test]
fn a_wake_stands_for_the_entry_that_a_helper_has_left() {
    let idle = after(after(Snapshot::born(TASK).claim()).suspend());
    let helped = after(after(idle.wake(false, false)).claim_again());
    assert!(helped.has(STALE));
    let left = after(helped.suspend());
    assert_eq!(helped.suspend().0, Suspend::Gone, "the entry drives it");
    // The next wake, or cancel, queues nothing and adds nobody.
    for (revived, duty) in [left.wake(false, false), left.wake(true, true)].map(|(d, n)| (n, d)) {
        assert_eq!(duty, Wake::Revive);
        let revived = revived.unwrap();
        assert_eq!(revived, left.with(SCHEDULED).without(STALE));
        assert_eq!(revived.claim().0, Claim::Poll);
    }
    assert_eq!(left.stop(true).0, Stop::Revive);
    assert_eq!(
        after(left.stop(true)).claim().0,
        Claim::Abort(Family::Cancelled)
    );
    // Woken while the helper polls it.
    let woken = after(helped.wake(false, false)).suspend();
    assert_eq!(woken.0, Suspend::Queued);
    assert_eq!(after(woken).claim_again().0, Claim::Poll);
    // Once the entry has been taken, or refused, meanwhile or after that, the next is due.
    for now in [helped, left] {
        assert_eq!(now.claim(), (Claim::Nothing, Some(now.without(STALE))));
    }
    assert_eq!(helped.refuse(true).1, Some(helped.without(STALE)));
    assert_eq!(helped.without(STALE).wake(false, false).0, Wake::Nothing);
    assert_eq!(left.without(STALE).wake(false, false).0, Wake::Push);
}

#[test]
fn what_only_the_entry_drives_that_a_helper_has_left_is_lost() {
    let running = after(Snapshot::born(TASK).claim_unstarted(STALE));
    assert_eq!(
        running.suspend(),
        (Suspend::Abort(Family::Lost), Some(running))
    );
    // With a waker, which then goes.
    let idle = after(running.driver_added().suspend());
    assert!(idle.is_idle_future() && idle.has(STALE));
    let (duty, orphan) = idle.driver_gone();
    assert_eq!((duty, orphan.unwrap().drivers()), (Release::Orphan, 2));
    let (claim, lost) = orphan.unwrap().claim_again();
    assert_eq!(claim, Claim::Abort(Family::Lost));
    assert_eq!(lost.unwrap().drivers(), 3);
    // The entry was taken before.
    let alone = after(idle.claim()).driver_gone();
    assert_eq!(alone.0, Release::Nothing);
    assert_eq!(after(alone).driver_gone().0, Release::Orphan);
}

#[test]
fn the_last_driver_of_a_pending_cell_has_a_duty() {
    assert_eq!(Snapshot::born(JOB).driver_gone().0, Release::Lose);
    assert_eq!(
        Snapshot::born(0).driver_gone().0,
        Release::Lose,
        "a promise"
    );
    let idle = after(after(Snapshot::born(TASK).claim()).suspend());
    let orphan = idle.driver_gone();
    assert_eq!(orphan.0, Release::Orphan);
    assert_eq!(after(orphan).claim().0, Claim::Abort(Family::Lost));
    let done = after(Snapshot::born(JOB).claim()).publish(None, true, false);
    assert_eq!(
        done.driver_gone().0,
        Release::Nothing,
        "the handle holds it"
    );
    let taken = after(done.take());
    let (left, gone) = taken.leave();
    assert_eq!(left, Leave::Gone(Release::Nothing), "the driver holds it");
    let last = gone.unwrap();
    assert_eq!(last.driver_gone(), (Release::Free, None), "without a move");
}

#[test]
fn a_count_that_reaches_its_end_stays_there_and_nothing_is_freed() {
    let mut many = after(after(Snapshot::born(TASK).claim()).suspend());
    for _ in 0..DRIVERS_MAX + 10 {
        many = many.driver_added();
    }
    assert_eq!((many.drivers(), many.holders()), (DRIVERS_MAX, 2));
    assert_eq!(many.driver_gone(), (Release::Nothing, None));
    let running = after(after(many.wake(false, false)).claim());
    let (duty, idle) = running.suspend();
    assert_eq!(duty, Suspend::Gone);
    assert_eq!(idle.unwrap().drivers(), DRIVERS_MAX);
    let ((_, duty), ended) = running.finish(None, true, true);
    assert_eq!(duty, Finish::Gone(Release::Nothing));
    let ended = ended.unwrap();
    assert!(ended.has(DONE) && ended.has(OUTPUT) && !ended.has(RUNNING));
    assert_eq!(ended.drivers(), DRIVERS_MAX);

    let mut held = Snapshot::born(JOB);
    for _ in 0..HOLDERS_MAX + 10 {
        held = held.holder_added();
    }
    assert_eq!((held.drivers(), held.holders()), (1, HOLDERS_MAX));
    assert_eq!(after(held.holder_gone()), held);
    let done = after(held.claim()).publish(None, true, false);
    let (release, gone) = done.driver_gone();
    let gone = gone.unwrap();
    assert_eq!(release, Release::Nothing);
    assert_eq!((gone.drivers(), gone.holders()), (0, HOLDERS_MAX));
}

#[test]
fn an_end_gives_up_its_driver_unless_something_is_left_to_do() {
    let running = after(Snapshot::born(JOB).claim());
    let ((_, duty), ended) = running.finish(None, true, true);
    assert_eq!(duty, Finish::Gone(Release::Nothing));
    let ended = ended.unwrap();
    assert!(ended.has(DONE) && ended.has(OUTPUT) && !ended.has(TAKEN));
    let taken = after(ended.take());
    assert_eq!(taken.leave(), (Leave::Gone(Release::Free), None));

    let watched = running.with(WATCHED);
    let ((old, duty), ended) = watched.finish(None, true, true);
    assert_eq!((old, duty), (watched, Finish::Stay));
    assert!(ended.unwrap().has(DONE) && ended.unwrap().drivers() == 1);

    let (left, alone) = running.leave();
    assert_eq!(left, Leave::Gone(Release::Nothing));
    let ((_, duty), ended) = alone.unwrap().finish(None, true, true);
    assert_eq!(duty, Finish::Stay, "also where nobody can see it");
    assert!(ended.unwrap().is_alone());
    let held = alone.unwrap().holder_added();
    let ((_, duty), ended) = held.finish(None, true, true);
    assert_eq!(duty, Finish::Stay, "the outcome is dropped by the runner");
    assert!(ended.unwrap().has(TAKEN));
    let ((_, duty), _) = alone.unwrap().finish(Some(Family::Lost), false, false);
    assert_eq!(duty, Finish::Gone(Release::Free));
}

#[test]
fn the_slot_goes_to_exactly_one_of_reader_and_publisher() {
    let running = after(Snapshot::born(JOB).claim());
    let done = running.publish(None, true, false);
    assert_eq!(done.leave().0, Leave::Slot);
    assert_eq!(done.take().0, Take::Slot);
    let after_take = after(done.take()).leave().0;
    assert_eq!(after_take, Leave::Gone(Release::Nothing));
    let left = after(running.leave());
    assert!(left.publish(None, true, false).has(TAKEN));
}

#[test]
fn a_failure_is_reported_once_and_not_after_it_was_taken() {
    let held = Snapshot::born(0).holder_added();
    let failed = after(held.resolve(Some(Family::Failed), true));
    assert!(failed.report().0);
    assert!(!after(failed.report()).report().0);
    assert!(!after(failed.take()).report().0);
}

#[test]
fn a_promise_that_was_cancelled_before_its_start_refuses_the_value() {
    let prevented = after(Snapshot::born(0).stop(true));
    assert!(!prevented.start().0);
    assert_eq!(prevented.resolve(None, true).0, None);
    let started = after(Snapshot::born(0).start());
    let stopped = started.stop(true);
    assert_eq!(stopped.0, Stop::Notify);
    assert!(
        after(stopped).resolve(None, true).0.is_some(),
        "it delivers"
    );
}

#[test]
fn the_debug_form_decodes_the_word() {
    let text = format!("{:?}", Snapshot::born(TASK));
    assert!(
        text.contains("scheduled") && text.contains("1 drivers"),
        "{text}"
    );
}

#[test]
fn a_helping_reader_polls_what_is_scheduled_and_nothing_else() {
    let born = Snapshot::born(TASK);
    assert_eq!(
        born.claim_again().0,
        Claim::Nothing,
        "its start is the queue's"
    );
    let running = after(born.claim());
    assert_eq!(running.claim_again().0, Claim::Nothing);
    let idle = after(running.suspend());
    assert_eq!(idle.claim_again().0, Claim::Nothing);
    let woken = after(idle.wake(false, false));
    let claimed = woken.claim_again();
    assert_eq!(claimed.0, Claim::Poll);
    assert_eq!(after(claimed).drivers(), woken.drivers() + 1);
    assert_eq!(
        after(claimed).claim().0,
        Claim::Nothing,
        "the queue's entry is stale"
    );
}

#[test]
fn a_waker_in_its_place_is_given_back_before_the_end_and_called_after_it() {
    let running = after(Snapshot::born(JOB).claim());
    let (found, waits) = running.watch();
    assert_eq!(found, Watch::Pending);
    let waits = waits.unwrap();
    assert!(waits.has(WAITS));
    assert_eq!(waits.unwatch(), (Watch::Pending, Some(running)));
    let ((old, duty), done) = waits.finish(None, true, true);
    assert!(old.has(WAITS), "the publisher learns that it is to call it");
    assert_eq!(duty, Finish::Stay);
    let done = done.unwrap();
    assert_eq!(done.watch(), (Watch::Done, None));
    assert_eq!(done.unwatch(), (Watch::Done, None));
    assert_eq!(
        running.unwatch(),
        (Watch::Pending, None),
        "it is the reader's"
    );
}

#[test]
fn a_waker_that_is_called_before_the_end_is_taken_by_one() {
    let waits = after(after(Snapshot::born(JOB).claim()).watch());
    let (ours, lent) = waits.lend();
    let lent = lent.unwrap();
    assert!(ours && lent.has(LENT) && !lent.has(WAITS));
    assert_eq!(lent.lend(), (false, None));
    assert_eq!(lent.unwatch(), (Watch::Lent, None));
    let ((old, _), done) = lent.finish(None, true, true);
    assert!(!old.has(WAITS), "who has it calls it");
    assert_eq!(done.unwrap().lend(), (false, None));
}

#[test]
fn who_has_the_only_reference_is_alone() {
    let born = Snapshot::born(TASK);
    assert!(!born.is_alone(), "a driver and the reading half");
    let detached = after(born.leave());
    assert!(detached.is_alone());
    assert!(!detached.driver_added().is_alone());
    assert!(!detached.holder_added().is_alone());
    let ended = after(after(born.claim()).finish(None, true, true));
    assert!(ended.is_alone(), "the reading half");
}

#[test]
fn a_promise_without_a_reader_says_that_it_is_over() {
    let alone = after(Snapshot::born(0).leave());
    let (found, over) = alone.resolve(None, true);
    assert_eq!(found.map(|(_, duty)| duty), Some(Finish::Stay));
    assert!(over.unwrap().has(DONE));
    assert_eq!(over.unwrap().driver_gone(), (Release::Free, None));
}

#[test]
fn a_suspended_future_is_let_go_of_in_one_move_where_others_can_wake_it() {
    let running = after(Snapshot::born(TASK).claim());
    assert_eq!(running.suspend().0, Suspend::Idle, "nobody can");
    let (duty, gone) = running.driver_added().suspend();
    assert_eq!(duty, Suspend::Gone);
    assert_eq!(gone, running.suspend().1, "one driver less");
}

/// Words of a promise: every mixture of the flags that one may have, and a few references.
fn promises() -> impl Iterator<Item = Snapshot> {
    const FLAGS: [u64; 11] = [
        HANDLE, STARTED, PREVENTED, DONE, OUTPUT, TAKEN, CANCEL, WATCHED, WAITS, SOURCE, LENT,
    ];
    (0_u64..1 << FLAGS.len()).flat_map(|mix| {
        let flags = (0..FLAGS.len()).filter(|at| mix >> at & 1 != 0);
        let word = flags.fold(0, |all, at| all | FLAGS[at]);
        let counts = [(0, 1), (0, 2), (1, 1), (1, 2), (2, 2), (1, 3)];
        let failed = Snapshot(0).with_family(Some(Family::Failed)).0;
        counts.into_iter().flat_map(move |(drivers, holders)| {
            [word, word | failed]
                .map(|word| Snapshot(word | (drivers * DRIVER) | (holders * HOLDER)))
        })
    })
}

#[test]
fn the_short_way_of_a_promise_is_the_long_one() {
    let mut seen = [0; 4];
    for now in promises() {
        if let Some(next) = now.deliver() {
            let (duty, long) = now.resolve(None, true);
            assert_eq!(Some(next), long, "{now:?}");
            let gone = !now.has(WAITS);
            let told = duty.map(|(_, duty)| duty == Finish::Gone(Release::Nothing));
            assert_eq!(told, Some(gone), "{now:?}");
            seen[0] += 1;
        }
        if let Some(next) = now.deliverer_gone() {
            assert_eq!(now.driver_gone(), (Release::Nothing, Some(next)), "{now:?}");
            seen[1] += 1;
        }
        if let Some(next) = now.take_own() {
            assert!(now.is_alone() && now.family().is_none(), "{now:?}");
            assert_eq!(now.take(), (Take::Slot, Some(next)), "{now:?}");
            seen[2] += 1;
        }
        if now.is_read_out() {
            assert!(now.is_alone(), "{now:?}");
            assert_eq!(now.leave().0, Leave::Gone(Release::Free), "{now:?}");
            assert_eq!(now.unwatch(), (Watch::Done, None), "{now:?}");
            seen[3] += 1;
        }
    }
    assert_eq!(seen[..2], [2, 1], "the waker's place apart, one word each");
    assert!(seen[2] > 0 && seen[3] > 0);
}
