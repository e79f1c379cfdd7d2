//! Contexts against maps: set, reset, scope, enter, leave, copy, attach, spawn.
//!
//! The model of a context is who it is (tokens work at home only) and a map from variables to
//! values. After every step the running context and all others must say what their maps say; at
//! the end no value may be left alive.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use portage::context::{InContext, ScopeGuard, Token};
use portage::{Context, ContextVar, Job, JoinHandle, copy_context};

use super::{Bytes, must};

/// Of a stored program; `run_with` takes any number up to `VARS_MAX`.
const VARS: usize = 6;
const VARS_MAX: usize = 40;
const DEPTH_MAX: usize = 6;
const KEPT_MAX: usize = 24;

static VARIABLES: [ContextVar<Counted>; VARS_MAX] =
    [const { ContextVar::new("one of many") }; VARS_MAX];

/// A value that is counted while it lives.
struct Counted(u64, Arc<AtomicUsize>);

impl Counted {
    fn new(value: u64, live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::SeqCst);
        Self(value, live.clone())
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::new(self.0, &self.1)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

type Values = HashMap<usize, u64>;

/// What a context should be.
struct Model {
    who: u64,
    values: Values,
}

struct Out {
    token: Token<Counted>,
    var: usize,
    home: u64,
    old: Option<u64>,
}

/// A future that is polled inside its own context, and sets a variable in each poll.
struct Attached {
    future: InContext<Pin<Box<dyn Future<Output = ()>>>>,
    sets: Rc<Cell<Option<(usize, u64)>>>,
    model: Model,
}

/// A job that says what it sees, with what it should.
type Looker = (Job, JoinHandle<Vec<Option<u64>>>, Values);

struct World<'a, 'b> {
    bytes: &'a mut Bytes<'b>,
    vars: &'static [ContextVar<Counted>],
    live: Arc<AtomicUsize>,
    resting: Vec<(Context, Model)>,
    out: Vec<Out>,
    attached: Vec<Attached>,
    jobs: Vec<Looker>,
    contexts: u64,
    values: u64,
}

/// Runs the program in `data`.
pub fn run(data: &[u8]) {
    run_with(VARS, data);
}

/// The same with so many variables.
pub fn run_with(vars: usize, data: &[u8]) {
    let live = Arc::new(AtomicUsize::new(0));
    let mine = live.clone();
    // A thread of its own begins in an empty context and ends one.
    std::thread::scope(|scope| {
        let player = scope.spawn(move || {
            let mut bytes = Bytes::new(data);
            let mut world = World {
                bytes: &mut bytes,
                vars: &VARIABLES[..vars],
                live: mine,
                resting: Vec::new(),
                out: Vec::new(),
                attached: Vec::new(),
                jobs: Vec::new(),
                contexts: 0,
                values: 0,
            };
            let mut here = world.copy_of(&Values::new());
            world.play(&mut here, usize::MAX, 0);
            world.run_jobs();
        });
        if let Err(payload) = player.join() {
            std::panic::resume_unwind(payload);
        }
    });
    assert_eq!(live.load(Ordering::SeqCst), 0, "values left alive");
}

fn seen() -> Vec<Option<u64>> {
    let look = |var: &ContextVar<Counted>| var.with(|value| value.map(|value| value.0));
    VARIABLES.iter().map(look).collect()
}

fn expected(values: &Values) -> Vec<Option<u64>> {
    let all = 0..VARIABLES.len();
    all.map(|var| values.get(&var).copied()).collect()
}

impl World<'_, '_> {
    fn copy_of(&mut self, values: &Values) -> Model {
        self.contexts += 1;
        Model {
            who: self.contexts,
            values: values.clone(),
        }
    }

    fn value(&mut self) -> Counted {
        self.values += 1;
        Counted::new(self.values, &self.live)
    }

    /// Steps inside the running context, which should be as `here` says.
    fn play(&mut self, here: &mut Model, steps: usize, depth: usize) {
        let mut guards: Vec<(ScopeGuard<'static, Counted>, usize, Option<u64>)> = Vec::new();
        for _ in 0..steps {
            let Some(operation) = self.bytes.operation() else {
                break;
            };
            match operation % 16 {
                0..=2 => self.set(here),
                3 | 4 => self.reset(here),
                5 => {
                    let var = self.bytes.operand() % self.vars.len();
                    let value = self.value();
                    let number = value.0;
                    let old = here.values.insert(var, number);
                    guards.push((VARIABLES[var].scope(value), var, old));
                }
                6 => {
                    // in any order: each puts back what it has replaced
                    if let Some(at) = self.bytes.index(guards.len()) {
                        let (guard, var, old) = guards.remove(at);
                        drop(guard);
                        put_back(here, var, old);
                    }
                }
                7 => {
                    let model = self.copy_of(&here.values);
                    self.keep(copy_context(), model);
                }
                8 => {
                    if let Some(at) = self.bytes.index(self.resting.len()) {
                        let copy = self.resting[at].0.clone();
                        let model = self.copy_of(&self.resting[at].1.values.clone());
                        self.keep(copy, model);
                    }
                }
                9 => {
                    if let Some(at) = self.bytes.index(self.resting.len()) {
                        drop(self.resting.swap_remove(at));
                    }
                }
                10 | 11 if depth < DEPTH_MAX => self.enter(depth, operation >= 128),
                12 if depth < DEPTH_MAX => {
                    // a copy goes on elsewhere
                    let mut model = self.copy_of(&here.values);
                    let mut context = copy_context();
                    std::thread::scope(|scope| {
                        let there = scope.spawn(move || {
                            let read = context.run(seen);
                            (context, read)
                        });
                        let (mut back, read) = there.join().expect("it only looks");
                        must(read == expected(&model.values), "a copy on a thread");
                        back.run(|| self.play(&mut model, 4, depth + 1));
                        self.keep(back, model);
                    });
                }
                13 => self.attach(here),
                14 => self.poll(),
                _ => {
                    if self.jobs.len() < KEPT_MAX {
                        let (job, handle) = Job::new(seen);
                        self.jobs.push((job, handle, here.values.clone()));
                    }
                }
            }
            self.agree(here);
        }
        while let Some((guard, var, old)) = guards.pop() {
            drop(guard);
            put_back(here, var, old);
        }
        self.agree(here);
    }

    fn keep(&mut self, context: Context, model: Model) {
        if self.resting.len() < KEPT_MAX {
            self.resting.push((context, model));
        }
    }

    fn enter(&mut self, depth: usize, panics: bool) {
        let Some(at) = self.bytes.index(self.resting.len()) else {
            return;
        };
        let (mut context, mut model) = self.resting.swap_remove(at);
        if panics {
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                context.run(|| {
                    self.set(&mut model);
                    std::panic::resume_unwind(Box::new("as told"));
                });
            }));
            must(unwound.is_err(), "the panic comes through");
        } else {
            context.run(|| self.play(&mut model, 8, depth + 1));
        }
        self.resting.push((context, model));
    }

    fn set(&mut self, here: &mut Model) {
        let var = self.bytes.operand() % self.vars.len();
        let value = self.value();
        let number = value.0;
        let token = VARIABLES[var].set(value);
        let old = here.values.insert(var, number);
        assert_eq!(token.old_value().map(|value| value.0), old);
        if self.out.len() < KEPT_MAX {
            let home = here.who;
            self.out.push(Out {
                token,
                var,
                home,
                old,
            });
        }
    }

    fn reset(&mut self, here: &mut Model) {
        let Some(at) = self.bytes.index(self.out.len()) else {
            return;
        };
        let asked = self.bytes.operand();
        let Out {
            token,
            var,
            home,
            old,
        } = self.out.swap_remove(at);
        let asked = if asked >= 192 {
            asked % self.vars.len()
        } else {
            var
        };
        match VARIABLES[asked].reset(token) {
            Ok(()) => {
                assert_eq!((asked, home), (var, here.who));
                put_back(here, var, old);
            }
            Err(error) => {
                assert_eq!(error.is_different_variable(), asked != var);
                assert_eq!(error.is_different_context(), asked == var);
                assert!(asked != var || home != here.who);
                let token = error.into_token();
                self.out.push(Out {
                    token,
                    var,
                    home,
                    old,
                });
            }
        }
    }

    fn attach(&mut self, here: &Model) {
        if self.attached.len() >= KEPT_MAX {
            return;
        }
        let sets = Rc::new(Cell::new(None));
        let told: Rc<Cell<Option<(usize, u64)>>> = sets.clone();
        let live = self.live.clone();
        let future = poll_fn(move |_| {
            if let Some((var, number)) = told.take() {
                let _ = VARIABLES[var].set(Counted::new(number, &live));
            }
            Poll::Pending
        });
        let model = self.copy_of(&here.values);
        self.attached.push(Attached {
            future: copy_context().attach(Box::pin(future)),
            sets,
            model,
        });
    }

    fn poll(&mut self) {
        let Some(at) = self.bytes.index(self.attached.len()) else {
            return;
        };
        let operand = self.bytes.operand();
        if operand >= 224 {
            drop(self.attached.swap_remove(at));
            return;
        }
        self.values += 1;
        let (var, number) = (operand % self.vars.len(), self.values);
        let one = &mut self.attached[at];
        one.sets.set(Some((var, number)));
        let mut cx = std::task::Context::from_waker(Waker::noop());
        must(
            Pin::new(&mut one.future).poll(&mut cx).is_pending(),
            "it goes on",
        );
        one.model.values.insert(var, number);
    }

    /// Jobs run, elsewhere, in the context of the call that made them.
    fn run_jobs(&mut self) {
        for (job, handle, values) in self.jobs.drain(..) {
            std::thread::scope(|scope| {
                let there = scope.spawn(move || job.run());
                // As in `chain`: to the end of the thread.
                there
                    .join()
                    .unwrap_or_else(|payload| std::panic::resume_unwind(payload));
            });
            let read = handle.wait().expect("it only looks");
            must(read == expected(&values), "a job in its context");
        }
    }

    fn agree(&self, here: &Model) {
        assert_eq!(seen(), expected(&here.values));
        assert_eq!(Context::current().len(), here.values.len());
        for (context, model) in &self.resting {
            says(context, model);
        }
        for one in &self.attached {
            says(one.future.context(), &one.model);
        }
    }
}

fn says(context: &Context, model: &Model) {
    assert_eq!(context.len(), model.values.len());
    for (var, value) in &model.values {
        let read = context.get(&VARIABLES[*var]).map(|value| value.0);
        assert_eq!(read, Some(*value));
    }
}

fn put_back(here: &mut Model, var: usize, old: Option<u64>) {
    match old {
        Some(old) => here.values.insert(var, old),
        None => here.values.remove(&var),
    };
}
