//! An idle pool, loop or lane uses no CPU. Alone in its process, as CPU time is counted there.

#![cfg(not(loom))]

mod kit;

use std::time::Duration;

use portage::sync::Event;
use portage::time::sleep;
use portage::{CurrentThreadExecutor, EventLoop, ThreadPool, promise};

#[test]
fn who_waits_uses_no_cpu() {
    let _watch = kit::watchdog(60);
    if kit::cpu_time().is_none() {
        return;
    }
    let pool = ThreadPool::builder()
        .core_threads(2)
        .max_threads(8)
        .keep_alive(Duration::MAX)
        .build()
        .expect("legal sizes");
    // a burst, so that all parts have started and grown: workers, watchdog, timers
    let gate = kit::Gate::new();
    for _ in 0..6 {
        let at = gate.clone();
        pool.spawn_blocking(move || at.pass()).detach();
    }
    gate.wait_entered(6);
    gate.open();
    let far = pool.spawn(sleep(Duration::from_secs(3600)));
    let event = Event::new();
    let (writer, reader) = promise::<u8>();
    let (blocked, in_worker) = promise::<u8>();
    let waiting = pool.spawn_blocking(move || in_worker.wait());
    std::thread::scope(|scope| {
        let (loop_end, loop_waits) = promise::<u8>();
        let (lane_end, lane_waits) = promise::<u8>();
        scope.spawn(|| {
            let events = EventLoop::new();
            events.spawn_local(sleep(Duration::MAX)).detach();
            events.run_until_complete(loop_waits).expect("it is idle")
        });
        scope.spawn(|| {
            let lane = CurrentThreadExecutor::new(None);
            lane.run_until_future(lane_waits).expect("its owner")
        });
        scope.spawn(|| reader.wait());
        scope.spawn(|| event.wait());
        scope.spawn(|| portage::block_on(event.wait_async()));
        // What spins a little before it sleeps gets through with that when it has a CPU: the least
        // of some seconds counts, and whoever looks around for ever does so in each of them.
        std::thread::sleep(Duration::from_millis(200));
        let quiet = Duration::from_millis(20);
        let used = kit::shortest(quiet + Duration::from_nanos(1), || {
            let before = kit::cpu_time().expect("read above");
            std::thread::sleep(Duration::from_millis(1000));
            kit::cpu_time().expect("read above") - before
        });
        for writer in [loop_end, lane_end, writer, blocked] {
            writer.resolve(1).expect("nobody cancelled");
        }
        event.set();
        assert!(used <= quiet, "{used:?} in one second");
    });
    waiting.wait().expect("a value").expect("a value");
    let _ = far.cancel();
}
