//! Which thread a `sync_to_async` call runs on: the one documented order.
//!
//! | # | thread-sensitive                              | route           |
//! |---|-----------------------------------------------|-----------------|
//! | 1 | a sync frame further up waits and takes work  | [`Route::CallingThread`] |
//! | 2 | inside a `thread_sensitive_context`           | [`Route::ContextThread`] |
//! | 3 | a sync frame waits for the loop that runs here | [`Route::LoopThread`] |
//! | 4 | else                                          | [`Route::SharedThread`] |
//!
//! | # | insensitive                                   | route           |
//! |---|-----------------------------------------------|-----------------|
//! | 1 | the call names an executor                    | [`Route::Executor`] |
//! | 2 | `init_config` named one                       | [`Route::Executor`] |
//! | 3 | else                                          | [`Route::Pool`] |
//!
//! Rules 1 and 2 follow the context, so they hold wherever the work wanders. Rule 3 is for
//! tasks on a loop that came without a context. A call that names an executor is insensitive.

#![forbid(unsafe_code)]

use crate::base::sync::{Arc, StaticMutex};
use crate::bridge::affinity::{Affinity, Place, loop_lane};
use crate::bridge::config::configured_executor;
use crate::bridge::lone_thread::{self, LoneThread};
use crate::current_thread::CurrentThreadExecutor;
use crate::entered::is_in_loop;
use crate::executor::Executor;

/// Where a [`sync_to_async`](fn@crate::bridge::sync_to_async) call runs; the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// The thread of the nearest sync frame that waits, in
    /// [`async_to_sync`](fn@crate::bridge::async_to_sync), for the work that calls.
    CallingThread,
    /// The thread of the [`thread_sensitive_context`](crate::bridge::thread_sensitive_context).
    ContextThread,
    /// The thread of the sync frame that waits for the loop that runs here.
    LoopThread,
    /// The one thread of the process for sync code without a thread of its own.
    SharedThread,
    /// The executor that the call or the configuration names.
    Executor,
    /// The global pool.
    Pool,
}

/// What decides about the route.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    /// The call belongs to a thread; it names no executor.
    sensitive: bool,
    /// The call names an executor, or is insensitive and the configuration names one.
    executor: bool,
    /// A sync frame further up takes work.
    frame: bool,
    /// The call is inside a `thread_sensitive_context`.
    block: bool,
    /// A sync frame takes work for the loop that runs here.
    registered: bool,
}

/// The order of the tables above.
fn choose(facts: &Facts) -> Route {
    match *facts {
        Facts {
            sensitive: false,
            executor: true,
            ..
        } => Route::Executor,
        Facts {
            sensitive: false, ..
        } => Route::Pool,
        Facts { frame: true, .. } => Route::CallingThread,
        Facts { block: true, .. } => Route::ContextThread,
        Facts {
            registered: true, ..
        } => Route::LoopThread,
        _ => Route::SharedThread,
    }
}

/// A route with the means to take it.
pub(crate) enum Target {
    Lane(Route, CurrentThreadExecutor),
    Block(Arc<Place>),
    Shared,
    Executor(Arc<dyn Executor>),
    Pool,
}

impl Target {
    /// Looks for the target of a call that is made here and now.
    pub(crate) fn find(
        sensitive: bool,
        named: Option<&Arc<dyn Executor>>,
        affinity: &Affinity,
    ) -> Self {
        let executor = match named {
            Some(named) => Some(named.clone()),
            None if sensitive => None,
            None => configured_executor(),
        };
        let frame = open(affinity.frame.as_ref());
        let registered = if is_in_loop() { loop_lane() } else { None };
        let registered = open(registered.as_ref());
        let block = affinity.block.clone();
        let route = choose(&Facts {
            sensitive: sensitive && named.is_none(),
            executor: executor.is_some(),
            frame: frame.is_some(),
            block: block.is_some(),
            registered: registered.is_some(),
        });
        let target = match route {
            Route::CallingThread => frame.map(|lane| Self::Lane(route, lane)),
            Route::LoopThread => registered.map(|lane| Self::Lane(route, lane)),
            Route::ContextThread => block.map(Self::Block),
            Route::Executor => executor.map(Self::Executor),
            Route::SharedThread => Some(Self::Shared),
            Route::Pool => Some(Self::Pool),
        };
        target.expect("a route is chosen only where there is the means to take it")
    }

    pub(crate) fn route(&self) -> Route {
        match self {
            Self::Lane(route, _) => *route,
            Self::Block(_) => Route::ContextThread,
            Self::Shared => Route::SharedThread,
            Self::Executor(_) => Route::Executor,
            Self::Pool => Route::Pool,
        }
    }

    /// Is this the lone thread that work of `affinity` occupies already?
    pub(crate) fn is_occupied(&self, affinity: &Affinity) -> bool {
        let number = match self {
            Self::Block(block) => block.number(),
            Self::Shared => with_shared(|shared| shared.as_ref().map(LoneThread::number)),
            _ => None,
        };
        let taken_by = |number| {
            let call = affinity.call.as_ref();
            lone_thread::here() == number || call.is_some_and(|call| call.occupies(number))
        };
        number.is_some_and(taken_by)
    }
}

/// The lane, or the nearest older one, that still takes work.
fn open(lane: Option<&CurrentThreadExecutor>) -> Option<CurrentThreadExecutor> {
    lane.and_then(CurrentThreadExecutor::nearest_unfinished)
        .cloned()
}

fn with_shared<R>(f: impl FnOnce(&mut Option<LoneThread>) -> R) -> R {
    struct Shared(StaticMutex<Option<LoneThread>>);
    #[cfg(all(not(loom), any(test, feature = "test-util")))]
    if let Some(own) = crate::base::simulated::shared(|| Shared(StaticMutex::new(None))) {
        return f(&mut own.0.lock());
    }
    static SHARED: Shared = Shared(StaticMutex::new(None));
    f(&mut SHARED.0.lock())
}

/// The one thread of the process, started on first use; it stays.
pub(crate) fn shared_thread() -> std::io::Result<LoneThread> {
    with_shared(|shared| {
        if let Some(thread) = shared {
            return Ok(thread.clone());
        }
        let thread = LoneThread::start("portage-shared")?;
        *shared = Some(thread.clone());
        Ok(thread)
    })
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Facts, Route, choose};

    #[test]
    fn the_first_rule_that_applies_wins() {
        const NONE: Facts = Facts {
            sensitive: false,
            executor: false,
            frame: false,
            block: false,
            registered: false,
        };
        const ALL: Facts = Facts {
            sensitive: true,
            executor: false,
            frame: true,
            block: true,
            registered: true,
        };
        let sensitive = true;
        let table = [
            (ALL, Route::CallingThread),
            (
                Facts {
                    frame: false,
                    ..ALL
                },
                Route::ContextThread,
            ),
            (
                Facts {
                    frame: false,
                    block: false,
                    ..ALL
                },
                Route::LoopThread,
            ),
            (
                Facts {
                    sensitive,
                    frame: true,
                    ..NONE
                },
                Route::CallingThread,
            ),
            (Facts { sensitive, ..NONE }, Route::SharedThread),
            (NONE, Route::Pool),
            (
                Facts {
                    executor: true,
                    ..NONE
                },
                Route::Executor,
            ),
            (
                Facts {
                    sensitive: false,
                    ..ALL
                },
                Route::Pool,
            ),
            (
                Facts {
                    sensitive: false,
                    executor: true,
                    ..ALL
                },
                Route::Executor,
            ),
        ];
        for (facts, route) in table {
            assert_eq!(choose(&facts), route, "{facts:?}");
        }
    }
}
