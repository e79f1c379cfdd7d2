//! The owner's end of a thread's inbox.
//!
//! A thread has one inbox, made with its first lane and closed when the thread ends. It is
//! registered with [`entered`], so that every wait on this thread pumps it,
//! whichever frame waits and for whatever; frames only add a condition to stop at. A job that
//! an inner future needs is therefore run although it was sent to an outer lane.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::rc::Rc;

use crate::base::sync::{Arc, local};
use crate::current_thread::lane::{Inbox, Lane};
use crate::entered::{self, Lanes, Parking};
use crate::task::TaskRef;

local! {
    static MAILBOX: RefCell<Option<Mailbox>> = RefCell::new(None);
}

/// Lives as long as its thread; its drop ends every lane of the thread.
struct Mailbox(Arc<Inbox<TaskRef>>);

impl Drop for Mailbox {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

struct Pump(Arc<Inbox<TaskRef>>);

impl Lanes for Pump {
    fn run_one(&self) -> bool {
        let task = self.0.take();
        task.map(TaskRef::run).is_some()
    }
}

/// A new lane of this thread; of a thread that is ending, one that refuses everything.
pub(crate) fn new_lane() -> Lane<TaskRef> {
    Lane::new(&inbox())
}

fn inbox() -> Arc<Inbox<TaskRef>> {
    let known = MAILBOX.try_with(|slot| slot.borrow().as_ref().map(|mailbox| mailbox.0.clone()));
    if let Ok(Some(inbox)) = known {
        return inbox;
    }
    let inbox = Arc::new(Inbox::new(Parking::current().waker().clone()));
    let mailbox = Mailbox(inbox.clone());
    let kept = MAILBOX.try_with(|slot| slot.borrow_mut().replace(mailbox));
    // Where the locals are gone, the mailbox was dropped with the closure: the inbox is closed.
    if kept.is_ok() {
        entered::register_lanes(Rc::new(Pump(inbox.clone())));
    }
    inbox
}
