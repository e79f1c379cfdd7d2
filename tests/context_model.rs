//! Random use of contexts, against a model made of hash maps.
#![cfg(not(loom))]

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use portage::context::Token;
use portage::{Context, ContextVar, copy_context};

/// A thread of its own, so that each test begins in an empty context and ends one.
fn apart<R: Send>(test: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| match scope.spawn(test).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn panics(f: impl FnOnce()) {
    assert!(
        catch_unwind(AssertUnwindSafe(f)).is_err(),
        "it should have panicked"
    );
}

/// Sebastiano Vigna's splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// A value that is counted while it lives.
struct Counted(u64, Arc<AtomicUsize>);

impl Counted {
    fn new(value: u64, live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::Relaxed);
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
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a context should be: who it is, and its values by the place of the variable.
#[derive(Default)]
struct Model {
    who: u64,
    values: HashMap<usize, u64>,
}

struct Out {
    token: Token<Counted>,
    var: usize,
    home: u64,
    old: Option<u64>,
}

struct World<'a> {
    dice: Dice,
    vars: &'a [ContextVar<Counted>],
    live: Arc<AtomicUsize>,
    resting: Vec<(Context, Model)>,
    out: Vec<Out>,
    contexts: u64,
    values: u64,
}

impl World<'_> {
    fn copy_of(&mut self, values: HashMap<usize, u64>) -> Model {
        self.contexts += 1;
        let who = self.contexts;
        Model { who, values }
    }

    /// Random steps inside the running context, which should be as `here` says.
    fn play(&mut self, here: &mut Model, steps: usize, depth: usize) {
        for _ in 0..steps {
            match self.dice.below(14) {
                0..=4 => self.set(here),
                5..=7 => self.reset(here),
                8 => {
                    let model = self.copy_of(here.values.clone());
                    self.resting.push((copy_context(), model));
                }
                9 if !self.resting.is_empty() => {
                    let at = self.dice.below(self.resting.len());
                    let copy = self.resting[at].0.clone();
                    let model = self.copy_of(self.resting[at].1.values.clone());
                    self.resting.push((copy, model));
                }
                10 if self.resting.len() > 8 => {
                    let at = self.dice.below(self.resting.len());
                    drop(self.resting.swap_remove(at));
                }
                11..=12 if depth < 6 && !self.resting.is_empty() => self.enter(depth),
                13 if depth < 3 => {
                    let mut model = self.copy_of(here.values.clone());
                    let mut context = copy_context();
                    apart(|| context.run(|| self.play(&mut model, 5, depth + 1)));
                    self.resting.push((context, model));
                }
                _ => self.out.truncate(60),
            }
            self.agree(here);
        }
    }

    fn enter(&mut self, depth: usize) {
        let at = self.dice.below(self.resting.len());
        let (mut context, mut model) = self.resting.swap_remove(at);
        if self.dice.below(4) == 0 {
            panics(|| {
                context.run(|| {
                    self.set(&mut model);
                    std::panic::resume_unwind(Box::new("quietly"));
                });
            });
        } else {
            context.run(|| self.play(&mut model, 8, depth + 1));
        }
        self.resting.push((context, model));
    }

    fn set(&mut self, here: &mut Model) {
        let var = self.dice.below(self.vars.len());
        self.values += 1;
        let token = self.vars[var].set(Counted::new(self.values, &self.live));
        let old = here.values.insert(var, self.values);
        assert_eq!(token.old_value().map(|value| value.0), old);
        let home = here.who;
        self.out.push(Out {
            token,
            var,
            home,
            old,
        });
    }

    fn reset(&mut self, here: &mut Model) {
        if self.out.is_empty() {
            return;
        }
        let at = self.dice.below(self.out.len());
        let Out {
            token,
            var,
            home,
            old,
        } = self.out.swap_remove(at);
        let asked = if self.dice.below(8) == 0 { 0 } else { var };
        match self.vars[asked].reset(token) {
            Ok(()) => {
                assert_eq!((asked, home), (var, here.who));
                match old {
                    Some(old) => here.values.insert(var, old),
                    None => here.values.remove(&var),
                };
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

    fn agree(&self, here: &Model) {
        for (n, var) in self.vars.iter().enumerate() {
            let expected = here.values.get(&n);
            assert_eq!(
                var.with(|value| value.map(|value| value.0)).as_ref(),
                expected
            );
        }
        assert_eq!(Context::current().len(), here.values.len());
        for (context, model) in &self.resting {
            assert_eq!(context.len(), model.values.len());
            for (n, value) in &model.values {
                assert_eq!(
                    context.get(&self.vars[*n]).map(|value| value.0),
                    Some(*value)
                );
            }
        }
    }
}

#[test]
fn random_use_agrees_with_a_model_and_drops_every_value() {
    for seed in 0..if cfg!(miri) { 2 } else { 15 } {
        let count = [3, 9, 40][seed as usize % 3];
        let vars: Vec<_> = (0..count).map(|_| ContextVar::new("random")).collect();
        let live = Arc::new(AtomicUsize::new(0));
        apart(|| {
            let mut world = World {
                dice: Dice(seed),
                vars: &vars,
                live: live.clone(),
                resting: Vec::new(),
                out: Vec::new(),
                contexts: 0,
                values: 0,
            };
            let steps = if cfg!(miri) { 20 } else { 120 };
            world.play(&mut Model::default(), steps, 0);
        });
        assert_eq!(
            live.load(Ordering::Relaxed),
            0,
            "seed {seed}: values leaked"
        );
    }
}
