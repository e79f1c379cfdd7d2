//! How long a parker looks for its token before it sleeps: no longer than looking has earned it.
//!
//! A sleep and its wake are two calls of the kernel and the wake of an idle CPU. Who looks instead,
//! for the moment that a short wait takes, spares itself and its waker both. But nobody knows
//! beforehand how long a wait will be, and to look in vain is to burn a CPU. So each parker keeps
//! an account: a look costs what it took, a token that was found saves [`SLEEP`], and a sleep
//! without a look pays in a [`SHARE`]th of that. However the waits of a thread fall, looking costs
//! it no more than that share on top of its sleeps. It has nothing to begin with: a pool may start
//! threads by the hundred that sleep only once or twice.
//!
//! * **Keen**: it looks before each sleep, [`LONGEST`] at most, until the account is empty.
//! * **Weary**: it sleeps, and saves until it can pay for one look of [`LONGEST`]. Before each
//!   [`GLANCE_EVERY`]th sleep it [glances](GLANCE); a token that is found makes it keen again.
//!
//! Two threads that hand each other work stay awake only if both look, and the first look has to
//! last for as long as the kernel takes to wake the other one, which on an idle CPU may be
//! several times what a sleep costs: hence [`LONGEST`]. The glances are for that other one: whoever
//! looks already answers it at once.
//!
//! # Who looks
//!
//! Only who has handed a token to another thread since its last wait: it may be answered. A worker
//! that nobody waited for sleeps at once: if it looked, who fires jobs would have to tell
//! it of each one by itself, where a sleeper finds some dozens when it comes.
//!
//! A rule that nobody looks who has woken another, because the kernel may have put that one on this
//! very CPU, would keep any two from ever beginning. The account sees to it that they
//! go on only where it pays. With one usable CPU it never does, and nobody looks.
//!
//! A look never gives its CPU away (`yield_now`): who yields goes behind all who compute there,
//! for milliseconds; who sleeps is put before them when it is woken.

#![forbid(unsafe_code)]

use std::time::Duration;

/// What a sleep and its wake cost the two threads.
const SLEEP: Duration = Duration::from_micros(5);
/// Which part of that a sleep gives to looking.
const SHARE: u32 = 32;
/// No look takes longer.
const LONGEST: Duration = Duration::from_micros(30);
/// No account has more.
const MOST: Duration = Duration::from_micros(120);
const GLANCE: Duration = Duration::from_nanos(800);
const GLANCE_EVERY: u8 = 12;

/// The account of one parker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    has: Duration,
    is_keen: bool,
    /// Sleeps since the last look.
    sleeps: u8,
}

impl Patience {
    pub(super) const fn new() -> Self {
        Self {
            has: Duration::ZERO,
            is_keen: false,
            sleeps: 0,
        }
    }

    /// For how long may it look now?
    pub(super) fn span(self) -> Duration {
        if self.is_keen {
            self.has.min(LONGEST)
        } else if self.sleeps >= GLANCE_EVERY {
            self.has.min(GLANCE)
        } else {
            Duration::ZERO
        }
    }

    /// It sleeps without a look.
    pub(super) fn slept(self) -> Self {
        // What it earned beyond a look stays, but sleeping adds nothing to it.
        let has = (self.has + SLEEP / SHARE).min(LONGEST.max(self.has));
        Self {
            has,
            is_keen: has >= LONGEST,
            sleeps: self.sleeps.saturating_add(1),
        }
    }

    /// It has looked, and found the token or sleeps now.
    pub(super) fn looked(self, spent: Duration, found: bool) -> Self {
        // It may have lost its CPU meanwhile: to others, not to looking.
        let spent = spent.min(self.span());
        let saved = if found { SLEEP } else { Duration::ZERO };
        let has = (self.has + saved).saturating_sub(spent).min(MOST);
        Self {
            has,
            is_keen: has >= GLANCE && (self.is_keen || found),
            sleeps: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{GLANCE, GLANCE_EVERY, LONGEST, MOST, Patience, SHARE, SLEEP};
    use std::time::Duration;

    const FULL: Duration = Duration::from_micros(60);
    const SOON: Duration = Duration::from_nanos(400);

    fn weary(has: Duration, sleeps: u8) -> Patience {
        Patience {
            has,
            is_keen: false,
            sleeps,
        }
    }

    fn keen(has: Duration) -> Patience {
        Patience {
            has,
            is_keen: true,
            sleeps: 0,
        }
    }

    #[test]
    fn looks_are_as_long_as_the_account_allows() {
        let half = LONGEST / 2;
        for (patience, span) in [
            (Patience::new(), Duration::ZERO),
            (keen(MOST), LONGEST),
            (keen(half), half),
            (weary(half, 0), Duration::ZERO),
            (weary(half, GLANCE_EVERY - 1), Duration::ZERO),
            (weary(half, GLANCE_EVERY), GLANCE),
            (weary(GLANCE / 2, u8::MAX), GLANCE / 2),
        ] {
            assert_eq!(patience.span(), span, "{patience:?}");
        }
    }

    #[test]
    fn what_was_seen_changes_the_account() {
        let saved = SLEEP - SOON;
        for (before, spent, found, after) in [
            (keen(FULL), SOON, true, keen(FULL + saved)),
            (keen(MOST), SOON, true, keen(MOST)),
            (keen(FULL), LONGEST, true, keen(FULL + SLEEP - LONGEST)),
            (keen(FULL), LONGEST, false, keen(FULL - LONGEST)),
            // a second without the CPU is not a second of looking
            (
                keen(FULL),
                Duration::from_secs(1),
                false,
                keen(FULL - LONGEST),
            ),
            (keen(LONGEST), LONGEST, false, weary(Duration::ZERO, 0)),
            (
                weary(SLEEP, GLANCE_EVERY),
                GLANCE,
                false,
                weary(SLEEP - GLANCE, 0),
            ),
            (weary(SLEEP, GLANCE_EVERY), SOON, true, keen(SLEEP + saved)),
        ] {
            assert_eq!(
                before.looked(spent, found),
                after,
                "{before:?} {spent:?} {found}"
            );
        }
    }

    #[test]
    fn sleeps_save_for_one_look_and_keep_what_was_earned() {
        let little = SLEEP / SHARE;
        assert_eq!(weary(SLEEP, 3).slept(), weary(SLEEP + little, 4));
        let last = weary(LONGEST - little / 2, 9).slept();
        assert_eq!((last.has, last.is_keen), (LONGEST, true));
        assert_eq!(keen(MOST).slept().has, MOST);
    }

    #[test]
    fn who_never_finds_anything_looks_for_no_more_than_the_share_of_its_sleeps() {
        let mut patience = Patience::new();
        let mut looked = Duration::ZERO;
        let waits = 100_000;
        for _ in 0..waits {
            let span = patience.span();
            looked += span;
            patience = if span.is_zero() {
                patience.slept()
            } else {
                patience.looked(span, false)
            };
        }
        assert!(looked <= SLEEP / SHARE * waits, "{looked:?}");
        assert!(looked > LONGEST * 100, "it tries again, now and then");
    }

    #[test]
    fn who_is_answered_at_once_looks_each_time_after_a_glance() {
        let mut patience = weary(SLEEP, GLANCE_EVERY);
        for _ in 0..1_000 {
            assert!(patience.span() > SOON);
            patience = patience.looked(SOON, true);
        }
        assert_eq!(patience, keen(MOST));
    }
}
