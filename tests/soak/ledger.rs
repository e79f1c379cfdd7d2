//! The books: bytes, threads, tokens, panics; and the dice.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Counts the bytes that are there.
pub(crate) struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: everything is passed on to `System` unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: `block` came from `System` with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

pub(crate) fn live_bytes() -> isize {
    LIVE.load(Ordering::Relaxed)
}

/// Threads of this process, where the system tells; but for those of the whole process, which come
/// when they are needed: the workers of the global pool and its watchdog, the one that keeps time,
/// the shared one, and the few that are kept for the next nested call of a bridge.
pub(crate) fn threads() -> usize {
    thread_names().len()
}

pub(crate) fn thread_names() -> Vec<String> {
    let Ok(folder) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let comm = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("comm")).ok();
    let names = folder.flatten().filter_map(comm);
    let names = names.map(|name| name.trim().to_owned());
    let mut watchdogs = 0;
    let is_ours = |name: &String| {
        let rest = name.strip_prefix("portage-").unwrap_or_default();
        watchdogs += usize::from(rest.starts_with("watchdo"));
        let is_kept = match rest {
            "timer" | "shared" | "bridge" => true,
            _ if rest.starts_with("watchdo") => watchdogs == 1,
            _ => rest.starts_with(|first: char| first.is_ascii_digit()),
        };
        !is_kept
    };
    names.filter(is_ours).collect()
}

// --- tokens -----------------------------------------------------------------------------------

static MADE: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// Travels with a closure or a future; to be dropped once.
#[derive(Debug)]
pub(crate) struct Token {
    panics: bool,
}

impl Token {
    pub(crate) fn new() -> Self {
        MADE.fetch_add(1, Ordering::Relaxed);
        Self { panics: false }
    }

    /// One whose destructor panics now and then.
    pub(crate) fn moody(random: &mut Random) -> Self {
        let mut token = Self::new();
        token.panics = random.one_in(50);
        token
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Release);
        if self.panics && !std::thread::panicking() {
            boom("a destructor");
        }
    }
}

pub(crate) fn tokens() -> usize {
    MADE.load(Ordering::Relaxed)
}

/// Waits for those that are dropped by threads that nobody waits for.
pub(crate) fn every_token_was_dropped() {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let (dropped, made) = (
            DROPPED.load(Ordering::Acquire),
            MADE.load(Ordering::Relaxed),
        );
        assert!(dropped <= made, "dropped {dropped} of {made} tokens");
        if dropped == made {
            return;
        }
        assert!(Instant::now() < end, "dropped {dropped} of {made} tokens");
        std::thread::sleep(Duration::from_millis(1));
    }
}

// --- panics -----------------------------------------------------------------------------------

static PANICS: AtomicUsize = AtomicUsize::new(0);

const OURS: &str = "on purpose: ";

/// A panic that belongs to the program.
pub(crate) fn boom(what: &str) -> ! {
    PANICS.fetch_add(1, Ordering::Relaxed);
    panic!("{OURS}{what}")
}

pub(crate) fn panics() -> usize {
    PANICS.load(Ordering::Relaxed)
}

/// Panics on purpose and their reports are not printed; any other one ends the program.
pub(crate) fn be_quiet() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<String>();
        let text = text.map_or("", String::as_str);
        if !text.starts_with(OURS) {
            usual(info);
            std::process::abort();
        }
    }));
    portage::promise::set_unhandled_hook(Box::new(|unhandled| {
        let text = unhandled.message();
        assert!(
            text.contains(OURS) || text.contains("failed"),
            "reported: {text}"
        );
    }));
}

// --- a hang -----------------------------------------------------------------------------------

static ROUND: AtomicU64 = AtomicU64::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);
static IN_ROUND: AtomicBool = AtomicBool::new(false);

/// How long a round may take.
const ROUND_MAX: Duration = Duration::from_secs(120);

pub(crate) struct Round;

pub(crate) fn begin_round(seed: u64, round: usize) -> Round {
    SEED.store(seed, Ordering::Relaxed);
    ROUND.store(round as u64, Ordering::Relaxed);
    IN_ROUND.store(true, Ordering::Relaxed);
    Round
}

impl Drop for Round {
    fn drop(&mut self) {
        IN_ROUND.store(false, Ordering::Relaxed);
    }
}

/// Ends the program when a round does not end.
pub(crate) fn watch() {
    let watching = std::thread::Builder::new().name("soak-watch".into());
    let watching = watching.spawn(|| {
        let (mut round, mut since) = (u64::MAX, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = ROUND.load(Ordering::Relaxed);
            if now != round || !IN_ROUND.load(Ordering::Relaxed) {
                (round, since) = (now, Instant::now());
            } else if since.elapsed() > ROUND_MAX {
                eprintln!(
                    "soak: round {round} hangs; PORTAGE_SOAK_SEED={}; threads {:?}",
                    SEED.load(Ordering::Relaxed),
                    thread_names()
                );
                std::process::abort();
            }
        }
    });
    watching.expect("one more thread");
}

// --- dice -------------------------------------------------------------------------------------

/// A sequence that its seed determines (splitmix).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// Mostly nothing, at times two milliseconds.
    pub(crate) fn moment(&mut self) -> Duration {
        match self.below(8) {
            0 => Duration::from_micros(self.below(2_000)),
            1 => Duration::from_micros(self.below(100)),
            _ => Duration::ZERO,
        }
    }
}

pub(crate) fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |since| since.as_nanos() as u64) % 1_000_000_007
}

/// Shared dice, for those who are asked from many threads.
#[derive(Debug)]
pub(crate) struct Dice(AtomicU64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(seed)))
    }

    pub(crate) fn throw(&self) -> Random {
        Random::new(self.0.fetch_add(0x9e37_79b9, Ordering::Relaxed))
    }
}
