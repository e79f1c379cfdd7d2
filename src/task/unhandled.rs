//! Failures that nobody collected are reported, loudly by default.

#![forbid(unsafe_code)]

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::panic::Location;

use super::cell::Header;
use super::id::TaskId;
use crate::base::contain::{contain, discard, message};
use crate::base::sync::{Arc, StaticMutex};
use crate::join_error::JoinError;

/// Receives every failure that nobody collected; see [`set_unhandled_hook`].
pub type UnhandledHook = Box<dyn Fn(&Unhandled<'_>) + Send + Sync>;

static HOOK: StaticMutex<Option<Arc<UnhandledHook>>> = StaticMutex::new(None);

/// A failure that nobody collected.
///
/// It is a panic, an error given to [`Promise::fail`](crate::Promise::fail), an `Err` in a
/// [`FutureWrapper`](crate::promise::FutureWrapper), or a panic in a callback, destructor, waker or
/// hook of a pool's thread, which has no handle to go to.
pub struct Unhandled<'a> {
    task: TaskId,
    name: Option<&'a str>,
    spawned_at: &'static Location<'static>,
    message: &'a str,
}

impl Unhandled<'_> {
    /// The task that failed.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// The task's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name
    }

    /// Where the task was spawned, or its promise made.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.spawned_at
    }

    /// The text of the panic or of the error.
    pub fn message(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.message)
    }
}

impl fmt::Display for Unhandled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unhandled failure of task {}", self.task)?;
        if let Some(name) = self.name {
            write!(f, " `{name}`")?;
        }
        write!(f, ", spawned at {}: {}", self.spawned_at, self.message)
    }
}

impl fmt::Debug for Unhandled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unhandled")
            .field("task", &self.task)
            .field("name", &self.name)
            .field("spawned_at", &self.spawned_at)
            .field("message", &self.message)
            .finish()
    }
}

/// Replaces what is done with failures that nobody collected.
///
/// Gives back the hook that was set before; `None` stands for the default, which writes one
/// line with [`log::error!`], or to stderr where no logger is installed. The hook runs on the
/// thread that found the failure; a panic in it is contained.
///
/// # Reentrancy
///
/// The hook may use the crate, also set another hook. It runs under no lock.
///
/// # Examples
///
/// ```
/// use portage::promise::set_unhandled_hook;
/// use std::sync::mpsc;
///
/// let (seen, reports) = mpsc::channel();
/// set_unhandled_hook(Box::new(move |unhandled| {
///     let _ = seen.send(unhandled.message().into_owned());
/// }));
/// let (promise, handle) = portage::promise::<()>();
/// drop(handle);
/// let _ = promise.fail(portage::JoinError::failed("disk full"));
/// assert_eq!(reports.recv().unwrap(), "disk full");
/// ```
pub fn set_unhandled_hook(hook: UnhandledHook) -> Option<UnhandledHook> {
    let old = HOOK.lock().replace(Arc::new(hook))?;
    Some(match Arc::try_unwrap(old) {
        Ok(hook) => hook,
        // Another thread is calling it just now.
        Err(shared) => Box::new(move |unhandled| (**shared)(unhandled)),
    })
}

/// Reports what went wrong in the task of `header`.
fn report(header: &Header, message: Cow<'_, str>) {
    report_failure(header.id, header.side().name(), header.spawned_at, &message);
}

/// A failure that nobody has taken.
pub(super) struct Untaken {
    error: JoinError,
    /// Read at once: whoever takes the error may take the panic's payload out of it.
    panic: Option<Cow<'static, str>>,
}

impl Untaken {
    pub(super) fn new(error: JoinError) -> Self {
        let panic = error.panic_report();
        Self { error, panic }
    }

    /// Reports it, once for all tasks that pass it on. Runs code of a user.
    pub(super) fn report(self, header: &Header) {
        if self.error.claim_report() {
            let text = || Cow::Owned(text_of(&self.error));
            report(header, self.panic.unwrap_or_else(text));
        }
    }
}

/// What an error of a user says. If it panics instead, that is what is said.
pub(crate) fn text_of(error: &impl fmt::Display) -> String {
    contain(|| error.to_string()).unwrap_or_else(|payload| {
        let text = message(&*payload).unwrap_or("no text");
        let text = format!("panic in the text of an error: {text}");
        discard(payload);
        text
    })
}

/// Reports a panic that has no outcome to go into, and contains the payload.
pub(super) fn report_panic(header: &Header, place: &str, payload: Box<dyn Any + Send>) {
    let text = message(&*payload).unwrap_or("no text");
    report(header, Cow::Owned(format!("panic in {place}: {text}")));
    discard(payload);
}

/// Reports a panic of user code that belongs to no task, and contains the payload.
pub(crate) fn report_stray_panic(
    place: &str,
    at: &'static Location<'static>,
    payload: Box<dyn Any + Send>,
) {
    report_panic_of(TaskId::fresh(), place, at, payload);
}

/// The same of a task whose cell is out of reach.
pub(crate) fn report_panic_of(
    task: TaskId,
    place: &str,
    at: &'static Location<'static>,
    payload: Box<dyn Any + Send>,
) {
    let text = message(&*payload).unwrap_or("no text");
    let text = format!("panic in {place}: {text}");
    report_failure(task, None, at, &text);
    discard(payload);
}

/// Reports a failure of the task with this id.
pub(crate) fn report_failure(
    task: TaskId,
    name: Option<&str>,
    spawned_at: &'static Location<'static>,
    message: &str,
) {
    let unhandled = Unhandled {
        task,
        name,
        spawned_at,
        message,
    };
    let hook = HOOK.lock().clone();
    let called = contain(|| match &hook {
        Some(hook) => (**hook)(&unhandled),
        None => log_or_print(&unhandled),
    });
    if let Err(payload) = called {
        discard(payload);
    }
    // The last clone of a replaced hook is a user's value too.
    crate::base::contain::contained_drop(hook);
}

fn log_or_print(unhandled: &Unhandled<'_>) {
    if log::max_level() == log::LevelFilter::Off {
        let _ = writeln!(std::io::stderr(), "portage: {unhandled}");
    } else {
        log::error!("{unhandled}");
    }
}
