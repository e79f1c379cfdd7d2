//! The unhandled hook of a test process, shared by tests that run at the same time.
//!
//! Every report is kept under its task's id, so that a test sees its own only.

use std::sync::{Mutex, Once};

use portage::promise::{TaskId, set_unhandled_hook};

use super::lock;

/// One call of the hook.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) task: TaskId,
    pub(crate) name: Option<String>,
    pub(crate) file: &'static str,
    pub(crate) line: u32,
    pub(crate) message: String,
}

static REPORTS: Mutex<Vec<Report>> = Mutex::new(Vec::new());

/// From here on reports are kept instead of printed.
pub(crate) fn listen() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        set_unhandled_hook(Box::new(|unhandled| {
            let at = unhandled.spawned_at();
            lock(&REPORTS).push(Report {
                task: unhandled.task(),
                name: unhandled.name().map(str::to_owned),
                file: at.file(),
                line: at.line(),
                message: unhandled.message().into_owned(),
            });
        }));
    });
}

/// The reports about this task so far.
pub(crate) fn of(task: TaskId) -> Vec<Report> {
    lock(&REPORTS)
        .iter()
        .filter(|report| report.task == task)
        .cloned()
        .collect()
}

/// The messages about this task so far.
pub(crate) fn messages(task: TaskId) -> Vec<String> {
    of(task).into_iter().map(|report| report.message).collect()
}

/// All reports whose message holds `part`, whatever task they name.
pub(crate) fn with_text(part: &str) -> Vec<Report> {
    lock(&REPORTS)
        .iter()
        .filter(|report| report.message.contains(part))
        .cloned()
        .collect()
}
