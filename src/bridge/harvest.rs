//! Brings changed context variables back over the bridge.

#![forbid(unsafe_code)]

use crate::base::sync::{Arc, Mutex};
use crate::context::Context;

/// Which context a bridged call runs in, and whether its changes come back.
///
/// # Examples
///
/// ```
/// use portage::ContextVar;
/// use portage::bridge::{ContextMode, async_to_sync};
///
/// static STEPS: ContextVar<u32> = ContextVar::new("steps");
/// STEPS.set(1);
/// let step = || async {
///     let steps = STEPS.get();
///     STEPS.set(steps.unwrap_or(0) + 1);
///     steps
/// };
/// let call = |mode| async_to_sync(step).context(mode).call();
/// assert_eq!((call(ContextMode::Empty)?, STEPS.get()), (None, Some(1)));
/// assert_eq!((call(ContextMode::In)?, STEPS.get()), (Some(1), Some(1)));
/// assert_eq!((call(ContextMode::InOut)?, STEPS.get()), (Some(1), Some(2)));
/// # Ok::<(), portage::error::BridgeError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ContextMode {
    /// In an empty context; nothing comes back.
    Empty,
    /// In a copy of the caller's context; nothing comes back.
    In,
    /// In a copy of the caller's context; variables that the call set or un-set are set or
    /// un-set in the caller's context too, whether it succeeded, failed or was cancelled.
    #[default]
    InOut,
}

impl ContextMode {
    /// The context that the call starts from.
    pub(crate) fn outset(self) -> Context {
        match self {
            Self::Empty => Context::new(),
            Self::In | Self::InOut => Context::current(),
        }
    }
}

/// The caller's end: knows where the call started from, and finds where it ended.
#[derive(Debug)]
pub(crate) struct Harvest {
    before: Context,
    after: Arc<Mutex<Option<Context>>>,
}

impl Harvest {
    /// `None` where nothing comes back.
    pub(crate) fn new(before: Context, mode: ContextMode) -> Option<Self> {
        (mode == ContextMode::InOut).then(|| Self {
            before,
            after: Arc::default(),
        })
    }

    /// The call's end, to be dropped in the call's context when it ends, however it ends.
    pub(crate) fn gather(&self) -> Gather {
        Gather(self.after.clone())
    }

    /// Sets in the running context what the call has changed.
    pub(crate) fn flow_back(self) {
        let after = self.after.lock().take();
        if let Some(after) = after {
            after.flow_back(&self.before);
        }
    }
}

/// Keeps the running context for the [`Harvest`] when it is dropped.
#[derive(Debug)]
pub(crate) struct Gather(Arc<Mutex<Option<Context>>>);

impl Drop for Gather {
    fn drop(&mut self) {
        let replaced = self.0.lock().replace(Context::current());
        drop(replaced);
    }
}
