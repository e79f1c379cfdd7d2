//! What the machine says about this process.

use std::time::{Duration, Instant};

/// CPU time and context switches of this process so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub cpu: Duration,
    pub switches: u64,
}

impl Usage {
    pub fn now() -> Self {
        // SAFETY: all zeroes is a valid rusage.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a rusage of our own.
        let rc = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
        assert_eq!(rc, 0, "getrusage cannot fail for oneself");
        let time = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec.unsigned_abs())
                + Duration::from_micros(time.tv_usec.unsigned_abs())
        };
        Self {
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            switches: (usage.ru_nvcsw + usage.ru_nivcsw).unsigned_abs(),
        }
    }
}

/// What a thread of ours gets of a CPU where as many as there are CPUs are busy: one, unless others
/// use them too.
pub fn share() -> f64 {
    const WATCHED: Duration = Duration::from_millis(100);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let (cpu, start) = (Usage::now().cpu, Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..cpus {
            scope.spawn(|| while start.elapsed() < WATCHED {});
        }
    });
    let used = (Usage::now().cpu - cpu).as_secs_f64();
    used / start.elapsed().as_secs_f64() / cpus as f64
}

/// Threads of this process.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Has the kernel wake this thread within microseconds of its deadlines, which else come up to
/// fifty too late: a sleep of 200 us would take 275.
pub fn sharpen_deadlines() {
    // SAFETY: sets a number of the calling thread; where it is refused, deadlines come late.
    #[cfg(target_os = "linux")]
    let _ = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000_usize) };
}
