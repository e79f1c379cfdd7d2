//! Graphs of promises and handles against a plain model.
//!
//! A program makes promises, derives handles from handles, chains, resolves, fails, cancels,
//! takes and drops in any order, each step on this thread or on another one. After every step
//! the model says what each handle must say; at the end every callback must have been called
//! once, and nothing may be left alive.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use portage::promise::{Cancel, Completion, FutureWrapper, chain_future_results};
use portage::{JoinError, JoinHandle, Promise, promise};

use super::Bytes;

/// A program has at most this many nodes.
const NODES_MAX: usize = 48;

/// A value that counts how many of its kind are alive.
struct Value {
    number: u32,
    live: Arc<AtomicUsize>,
}

impl Value {
    fn new(number: u32, live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::SeqCst);
        Self {
            number,
            live: live.clone(),
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Value(u32),
    Failed,
    Cancelled,
    Lost,
}

impl Outcome {
    fn completion(self) -> Completion {
        match self {
            Self::Value(_) => Completion::Value,
            Self::Cancelled => Completion::Cancelled,
            Self::Failed | Self::Lost => Completion::Failed,
        }
    }
}

/// What a node makes of its source's outcome.
#[derive(Clone, Copy, Debug)]
enum Link {
    /// Adds one to a value, passes errors on.
    Map,
    /// Adds two to a value, makes a thousand of an error.
    Then,
    /// Passes all on.
    Chain,
}

/// One promise or derived handle, as the model sees it.
#[derive(Debug)]
struct Node {
    is_promise: bool,
    is_started: bool,
    is_told: bool,
    was_prevented: bool,
    outcome: Option<Outcome>,
    is_taken: bool,
    source: Option<usize>,
    next: Option<(Link, usize)>,
    callbacks: usize,
}

impl Node {
    fn new(is_promise: bool, source: Option<usize>) -> Self {
        Self {
            is_promise,
            is_started: false,
            is_told: false,
            was_prevented: false,
            outcome: None,
            is_taken: false,
            source,
            next: None,
            callbacks: 0,
        }
    }
}

#[derive(Default)]
struct Model {
    nodes: Vec<Node>,
}

impl Model {
    fn complete(&mut self, mut node: usize, mut outcome: Outcome) {
        loop {
            if self.nodes[node].outcome.is_some() {
                return;
            }
            self.nodes[node].outcome = Some(outcome);
            let Some((link, next)) = self.nodes[node].next else {
                return;
            };
            self.nodes[node].is_taken = true;
            outcome = Self::passed_on(link, outcome);
            node = next;
        }
    }

    fn passed_on(link: Link, outcome: Outcome) -> Outcome {
        match (link, outcome) {
            (Link::Map, Outcome::Value(number)) => Outcome::Value(number.wrapping_add(1)),
            (Link::Then, Outcome::Value(number)) => Outcome::Value(number.wrapping_add(2)),
            (Link::Then, _) => Outcome::Value(1_000),
            (_, outcome) => outcome,
        }
    }

    fn cancel(&mut self, node: usize) -> Cancel {
        let one = &mut self.nodes[node];
        if one.outcome.is_some() {
            return if one.was_prevented {
                Cancel::Prevented
            } else {
                Cancel::TooLate
            };
        }
        let source = one.source;
        let answer = if one.is_promise && one.is_started {
            if std::mem::replace(&mut one.is_told, true) {
                return Cancel::Requested;
            }
            Cancel::Requested
        } else {
            one.was_prevented = true;
            one.is_told = true;
            self.complete(node, Outcome::Cancelled);
            Cancel::Prevented
        };
        if let Some(source) = source {
            self.cancel(source);
        }
        answer
    }

    /// `node` goes on to `next`.
    fn link(&mut self, node: usize, link: Link, next: usize) {
        self.nodes[node].next = Some((link, next));
        self.nodes[next].source = Some(node);
        if let Some(outcome) = self.nodes[node].outcome {
            self.nodes[node].is_taken = true;
            self.complete(next, Self::passed_on(link, outcome));
        } else if self.nodes[next].is_told {
            self.cancel(node);
        }
    }
}

/// The real thing beside the model; index by index the same nodes.
struct Real {
    model: Model,
    promises: Vec<Option<Promise<Value>>>,
    handles: Vec<Option<JoinHandle<Value>>>,
    called: Vec<Arc<AtomicUsize>>,
    live: Arc<AtomicUsize>,
}

/// Runs the program in `data`.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let mut real = Real {
        model: Model::default(),
        promises: Vec::new(),
        handles: Vec::new(),
        called: Vec::new(),
        live: Arc::new(AtomicUsize::new(0)),
    };
    while let Some(operation) = bytes.operation() {
        let elsewhere = operation & 0x80 != 0;
        if elsewhere {
            std::thread::scope(|scope| {
                let there = scope.spawn(|| real.step(operation & 0x7f, &mut bytes));
                // A scope waits for what its threads do, and not for their ends: what an ending
                // thread still has would be a leak to who looks for some.
                there
                    .join()
                    .unwrap_or_else(|payload| std::panic::resume_unwind(payload));
            });
        } else {
            real.step(operation, &mut bytes);
        }
        real.check();
    }
    real.end();
}

impl Real {
    fn add(
        &mut self,
        node: Node,
        promise: Option<Promise<Value>>,
        handle: JoinHandle<Value>,
    ) -> usize {
        self.model.nodes.push(node);
        self.promises.push(promise);
        self.handles.push(Some(handle));
        self.called.push(Arc::new(AtomicUsize::new(0)));
        self.handles.len() - 1
    }

    fn step(&mut self, operation: u8, bytes: &mut Bytes<'_>) {
        if self.handles.is_empty() || operation % 19 == 0 && self.handles.len() < NODES_MAX {
            let (promise, handle) = promise();
            self.add(Node::new(true, None), Some(promise), handle);
            return;
        }
        let Some(at) = bytes.index(self.handles.len()) else {
            return;
        };
        match operation % 19 {
            1 | 2 => self.resolve(at, bytes.operand() as u32),
            3 => self.fail(at),
            4 => self.drop_promise(at),
            5 => self.start(at),
            6 | 7 => self.cancel(at),
            8 => self.derive(at, Link::Map),
            9 => self.derive(at, Link::Then),
            10 => self.chain(at, bytes),
            11 => self.take(at),
            12 => self.call_back(at, bytes.operand()),
            13 => self.flatten(at, bytes.operand() % 2 == 0),
            14 => self.look(at),
            15 => self.listen(at),
            16 => self.wait(at, bytes.operand()),
            17 => self.wrap(at),
            _ => self.handles[at] = None,
        }
    }

    fn resolve(&mut self, at: usize, number: u32) {
        if let Some(promise) = self.promises[at].take() {
            let delivered = promise.resolve(Value::new(number, &self.live)).is_ok();
            assert_eq!(delivered, self.model.nodes[at].outcome.is_none());
            self.model.complete(at, Outcome::Value(number));
        }
    }

    fn fail(&mut self, at: usize) {
        if let Some(promise) = self.promises[at].take() {
            let delivered = promise.fail(JoinError::failed("as told")).is_ok();
            assert_eq!(delivered, self.model.nodes[at].outcome.is_none());
            self.model.complete(at, Outcome::Failed);
        }
    }

    fn drop_promise(&mut self, at: usize) {
        if self.promises[at].take().is_some() {
            self.model.complete(at, Outcome::Lost);
        }
    }

    fn start(&mut self, at: usize) {
        if let Some(promise) = &self.promises[at] {
            let started = promise.start();
            assert_eq!(started, self.model.nodes[at].outcome.is_none());
            self.model.nodes[at].is_started |= started;
        }
    }

    fn cancel(&mut self, at: usize) {
        if let Some(handle) = &self.handles[at] {
            assert_eq!(handle.cancel(), self.model.cancel(at));
        }
    }

    fn derive(&mut self, at: usize, link: Link) {
        if self.handles.len() >= NODES_MAX || self.model.nodes[at].is_taken {
            return;
        }
        let Some(source) = self.handles[at].take() else {
            return;
        };
        let live = self.live.clone();
        let handle = match link {
            Link::Map => source.map(move |value| Value::new(value.number.wrapping_add(1), &live)),
            _ => source.then(move |outcome| {
                let number = outcome.map_or(1_000, |value| value.number.wrapping_add(2));
                Value::new(number, &live)
            }),
        };
        let next = self.add(Node::new(false, Some(at)), None, handle);
        self.model.link(at, link, next);
    }

    fn chain(&mut self, at: usize, bytes: &mut Bytes<'_>) {
        let Some(to) = bytes.index(self.promises.len()) else {
            return;
        };
        if self.model.nodes[at].is_taken || self.comes_from(at, to) {
            return;
        }
        if self.handles[at].is_none() {
            return;
        }
        if let (Some(target), Some(source)) = (self.promises[to].take(), self.handles[at].take()) {
            chain_future_results(source, target);
            self.model.link(at, Link::Chain, to);
        }
    }

    /// The handle goes through a promise of handles, which has it before it is flattened or after.
    fn flatten(&mut self, at: usize, early: bool) {
        if self.handles.len() >= NODES_MAX || self.model.nodes[at].is_taken {
            return;
        }
        let Some(inner) = self.handles[at].take() else {
            return;
        };
        let (outer, handles) = promise();
        let handle = if early {
            assert!(outer.resolve(inner).is_ok());
            handles.flatten()
        } else {
            let handle = handles.flatten();
            assert!(outer.resolve(inner).is_ok());
            handle
        };
        let next = self.add(Node::new(false, Some(at)), None, handle);
        self.model.link(at, Link::Chain, next);
    }

    /// A chain that ends in itself has no outcome; programs do not build it.
    fn comes_from(&self, mut node: usize, root: usize) -> bool {
        loop {
            if node == root {
                return true;
            }
            match self.model.nodes[node].source {
                Some(source) => node = source,
                None => return false,
            }
        }
    }

    fn take(&mut self, at: usize) {
        let Some(handle) = &mut self.handles[at] else {
            return;
        };
        let node = &mut self.model.nodes[at];
        match (handle.try_take(), node.outcome) {
            (None, None) => {}
            (Some(Err(error)), Some(_)) if node.is_taken => assert!(error.is_consumed()),
            (Some(Ok(value)), Some(Outcome::Value(number))) => assert_eq!(value.number, number),
            (Some(Err(error)), Some(outcome)) => assert_eq!(family(&error), outcome),
            (got, expected) => panic!("{at}: {:?} for {expected:?}", got.map(|got| got.is_ok())),
        }
        node.is_taken |= node.outcome.is_some();
    }

    /// What does not change anything.
    fn look(&self, at: usize) {
        let Some(handle) = &self.handles[at] else {
            return;
        };
        let node = &self.model.nodes[at];
        let canceller = handle.cancel_handle();
        assert_eq!(canceller.is_cancelled(), handle.is_cancelled());
        let runs = node.is_promise && node.is_started && node.outcome.is_none();
        assert_eq!(handle.is_running(), runs);
        assert!(handle.name().is_none() && format!("{handle:?}").contains("JoinHandle"));
        assert!(format!("{canceller:?}").contains(&handle.id().to_string()));
    }

    /// The writing half hears of a cancel, and only of that.
    fn listen(&mut self, at: usize) {
        let node = &self.model.nodes[at];
        if let Some(promise) = &mut self.promises[at] {
            assert_eq!(promise.is_cancelled(), node.is_told);
            let mut cx = Context::from_waker(Waker::noop());
            let heard = pin!(promise.cancelled()).poll(&mut cx).is_ready();
            assert_eq!(heard, node.is_told);
        }
    }

    /// A wait that finds what is there; one that finds nothing would be for ever.
    fn wait(&mut self, at: usize, kind: usize) {
        let Some(handle) = &mut self.handles[at] else {
            return;
        };
        if self.model.nodes[at].outcome.is_none() {
            let time = Duration::from_nanos(kind as u64 % 2);
            assert!(handle.wait_timeout(time).is_none());
            return;
        }
        let Some(handle) = self.handles[at].take() else {
            return;
        };
        let got = if kind % 2 == 0 {
            handle.wait()
        } else {
            handle.wait_helping()
        };
        self.taken(at, got);
    }

    /// A result of results, as a wrapper gives it.
    fn wrap(&mut self, at: usize) {
        if self.model.nodes[at].outcome.is_none() || self.model.nodes[at].is_taken {
            return;
        }
        let Some(handle) = self.handles[at].take() else {
            return;
        };
        let wrapper = FutureWrapper::new(handle.map(Ok::<Value, String>));
        assert!(wrapper.is_finished() && !wrapper.is_consumed());
        let got = wrapper.wait();
        self.taken(at, got.map(|inner| inner.expect("it was made of a value")));
    }

    fn taken(&mut self, at: usize, got: Result<Value, JoinError>) {
        let node = &mut self.model.nodes[at];
        match (got, node.outcome) {
            (Err(error), Some(_)) if node.is_taken => assert!(error.is_consumed()),
            (Ok(value), Some(Outcome::Value(number))) => assert_eq!(value.number, number),
            (Err(error), Some(outcome)) => assert_eq!(family(&error), outcome),
            (got, expected) => panic!("{at}: {:?} for {expected:?}", got.is_ok()),
        }
        node.is_taken = true;
    }

    fn call_back(&mut self, at: usize, kind: usize) {
        let Some(handle) = &self.handles[at] else {
            return;
        };
        let called = self.called[at].clone();
        let expected = self.model.nodes[at].outcome;
        handle.on_complete(move |how| {
            called.fetch_add(1, Ordering::SeqCst);
            if let Some(expected) = expected {
                assert_eq!(how, expected.completion());
            }
            match kind % 3 {
                0 => {}
                1 => std::panic::resume_unwind(Box::new("as told")),
                _ => reenter(),
            }
        });
        self.model.nodes[at].callbacks += 1;
    }

    fn check(&self) {
        for (at, handle) in self.handles.iter().enumerate() {
            let node = &self.model.nodes[at];
            if let Some(handle) = handle {
                assert_eq!(handle.is_finished(), node.outcome.is_some(), "node {at}");
                assert_eq!(handle.is_consumed(), node.is_taken, "node {at}");
                let cancelled = node.is_told || node.outcome == Some(Outcome::Cancelled);
                assert_eq!(handle.is_cancelled(), cancelled, "node {at}");
            }
            let called = self.called[at].load(Ordering::SeqCst);
            let expected = if node.outcome.is_some() {
                node.callbacks
            } else {
                0
            };
            assert_eq!(called, expected, "callbacks of node {at}");
        }
    }

    /// Whatever is left resolves, and nothing stays alive.
    fn end(mut self) {
        for at in 0..self.promises.len() {
            self.drop_promise(at);
        }
        self.check();
        for node in &self.model.nodes {
            assert!(node.outcome.is_some(), "every handle resolves");
        }
        self.handles.clear();
        assert_eq!(self.live.load(Ordering::SeqCst), 0, "values left alive");
    }
}

/// A callback that uses the crate while it is called by it.
fn reenter() {
    let (promise, handle) = promise();
    let doubled = handle.map(|number: u32| number * 2);
    promise.resolve(21).expect("nobody has cancelled it");
    assert_eq!(doubled.wait().ok(), Some(42));
}

fn family(error: &JoinError) -> Outcome {
    if error.is_cancelled() {
        Outcome::Cancelled
    } else if error.is_lost() {
        Outcome::Lost
    } else {
        Outcome::Failed
    }
}
