//! Which executor a queue without one uses. One process, one test: the configuration is global.

#![cfg(not(loom))]

mod kit;

use std::sync::Arc;

use kit::{Gate, watchdog};
use portage::bridge::{Config, init_config};
use portage::execution_queue::AsyncExecutionQueue;
use portage::{EventLoop, ThreadPool};

fn named_pool(name: &str) -> Arc<ThreadPool> {
    let pool = ThreadPool::builder().thread_name(name).build();
    Arc::new(pool.expect("the name is valid"))
}

fn my_pool() -> String {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    name.trim_end_matches(|c: char| c.is_ascii_digit())
        .to_owned()
}

#[test]
fn a_queue_without_an_executor_follows_the_bridge_and_no_job_moves_afterwards() {
    let _watchdog = watchdog(30);
    let event_loop = EventLoop::new();
    let configured = |name: &str| {
        Config::new()
            .executor(named_pool(name))
            .main_loop(event_loop.handle())
    };
    let queue = AsyncExecutionQueue::new();
    let ran_on = |queue: &AsyncExecutionQueue| queue.add_task(my_pool).unwrap().wait().unwrap();
    assert_eq!(ran_on(&queue), "portage-");
    init_config(configured("first")).unwrap();
    assert_eq!(ran_on(&queue), "first-");
    let gate = Gate::new();
    let inside = gate.clone();
    queue.add_task(move || inside.pass()).unwrap().detach();
    let late = queue.add_task(my_pool).unwrap();
    let late_async = portage::block_on(queue.aadd_task_async(|| async { my_pool() })).unwrap();
    init_config(configured("second")).unwrap();
    let later = queue.add_task(my_pool).unwrap();
    gate.open();
    assert_eq!(late.wait().unwrap(), "first-");
    assert_eq!(late_async.wait().unwrap(), "first-");
    assert_eq!(later.wait().unwrap(), "second-");
    init_config(Config::new().main_loop(event_loop.handle())).unwrap();
    assert_eq!(ran_on(&queue), "portage-");
}
