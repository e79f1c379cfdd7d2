//! What bitfount's `concurrency_utils` does: locks and events of threads, awaited; a thread
//! whose panic comes back.
//!
//! Prints:
//!
//! ```text
//! the lock was free again: 1
//! no lock at all is also a lock
//! the event came: true
//! stopped first: false
//! the thread panicked: out of paper
//! ```

#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use portage::block_on;
use portage::sync::{
    Event, Polling, ThreadWithException, async_lock, async_null_context, await_event_with_stop,
    await_threading_event,
};

fn main() -> Result<(), Box<dyn Error>> {
    let lock = Arc::new(Mutex::new(0));
    let (holds, held) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let holder = thread::spawn({
        let lock = lock.clone();
        move || {
            let mut number = lock.lock();
            let _ = holds.send(());
            let _ = released.recv();
            *number += 1;
        }
    });
    held.recv()?;
    release.send(())?;
    let number = *block_on(async_lock(&lock, "number", Polling::default()));
    holder.join().expect("the holder does not panic");
    println!("the lock was free again: {number}");

    block_on(async {
        let _nothing = async_null_context().await;
        println!("no lock at all is also a lock");
    });

    let event = Arc::new(Event::new());
    let setter = thread::spawn({
        let event = event.clone();
        move || event.set()
    });
    let patience = Some(Duration::from_secs(30));
    let came = block_on(await_threading_event(
        &event,
        "event",
        patience,
        Polling::NoPolling,
    ));
    setter.join().expect("the setter does not panic");
    println!("the event came: {came}");

    let never = Arc::new(Event::new());
    let stop = Arc::new(Event::new());
    stop.set();
    let came = block_on(await_event_with_stop(
        &never,
        &stop,
        "never",
        Polling::NoPolling,
    ));
    println!("stopped first: {came}");

    let printer = ThreadWithException::spawn_named("printer", || {
        std::panic::resume_unwind(Box::new("out of paper"));
    })?;
    let outcome: Result<(), _> = printer.try_join();
    let payload = outcome.expect_err("it panics").into_panic()?;
    let text = payload.downcast_ref::<&str>().unwrap_or(&"no text");
    println!("the thread panicked: {text}");
    Ok(())
}
