//! With the `tracing` feature, the span that is current at submit follows the work.
#![cfg(not(loom))]

mod kit;

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use kit::watchdog;
use portage::time::yield_now;
use portage::{EventLoop, Job, ThreadPool};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, info, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Notes each event with the spans it happens in, outermost first.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").expect("a string takes it");
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Notes {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut note = String::new();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            write!(note, "{}:", span.name()).expect("a string takes it");
        }
        event.record(&mut Message(&mut note));
        kit::lock(&self.0).push(note);
    }
}

/// One subscriber for the whole process: workers are threads of their own.
fn notes() -> Notes {
    static NOTES: std::sync::OnceLock<Notes> = std::sync::OnceLock::new();
    NOTES
        .get_or_init(|| {
            let notes = Notes::default();
            let subscriber = tracing_subscriber::registry().with(notes.clone());
            tracing::subscriber::set_global_default(subscriber).expect("the first one");
            notes
        })
        .clone()
}

fn seen(note: &str) -> bool {
    kit::lock(&notes().0).iter().any(|seen| seen == note)
}

struct SaysSo(&'static str);

impl Drop for SaysSo {
    fn drop(&mut self) {
        info!("{}", self.0);
    }
}

#[test]
fn a_job_runs_and_is_dropped_in_the_span_of_its_submit() {
    let _dog = watchdog(60);
    let _notes = notes();
    let (job, handle) = info_span!("request").in_scope(|| {
        let says = SaysSo("job dropped");
        Job::new(move || {
            let _keep = &says;
            info!("job ran");
        })
    });
    std::thread::spawn(move || job.run());
    handle.wait().unwrap();
    assert!(seen("request:job ran") && seen("request:job dropped"));
}

#[test]
fn a_cancelled_job_is_dropped_in_the_span_of_its_submit() {
    let _notes = notes();
    let (_job, handle) = info_span!("gone").in_scope(|| {
        let says = SaysSo("cancelled");
        Job::new(move || drop(says))
    });
    let _ = handle.cancel();
    assert!(seen("gone:cancelled"));
}

#[test]
fn every_poll_of_a_task_is_in_its_span_and_the_thread_is_left_as_it_was() {
    let _dog = watchdog(60);
    let _notes = notes();
    let event_loop = EventLoop::new();
    let task = info_span!("task").in_scope(|| {
        event_loop.spawn_local(async {
            info!("first poll");
            yield_now().await;
            info!("second poll");
        })
    });
    event_loop.run_until_complete(task).unwrap().unwrap();
    info!("afterwards");
    assert!(seen("task:first poll") && seen("task:second poll") && seen("afterwards"));
}

#[test]
fn a_pool_carries_the_span_to_its_workers() {
    let _dog = watchdog(60);
    let _notes = notes();
    let pool = ThreadPool::builder().core_threads(1).build().unwrap();
    let outer = info_span!("outer");
    let job = outer.in_scope(|| pool.spawn_blocking(|| info!("on a worker")));
    let task = outer.in_scope(|| pool.spawn(async { info!("in a pool task") }));
    job.wait().unwrap();
    task.wait().unwrap();
    assert!(seen("outer:on a worker") && seen("outer:in a pool task"));
}
