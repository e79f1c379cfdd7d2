//! What Linux tells about a thread, in text files.
//!
//! `stat` has the state letter. `syscall` says where a sleeper sleeps: on a futex it may want a
//! lock (or a message: one cannot tell), in a page fault or where memory is mapped it may want the
//! lock of the address space; anywhere else it sleeps because its job asked for it. Both stay open
//! per thread.

#![forbid(unsafe_code)]

use std::fs::File;

use crate::base::cpus;

/// Threads whose files are kept open. Beyond it they are opened for the look, so that a pool
/// of five hundred threads does not take a thousand descriptors from its program.
const OPEN_MAX: usize = 16;

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// On a CPU or waiting for one; stopped by a debugger, too: a further thread would be.
    Running,
    /// Asleep in the kernel.
    Asleep,
    /// Ended.
    Gone,
    /// There is no telling.
    Unknown,
}

/// The files of some threads.
#[derive(Debug, Default)]
pub(super) struct Files {
    open: Vec<Open>,
    /// The usable CPUs, once asked for.
    cpus: Option<usize>,
    /// Where the next thread goes once all places are taken.
    turn: usize,
    /// Pretend that there are no files, in tests.
    blind: bool,
}

#[derive(Debug)]
struct Open {
    thread: usize,
    stat: File,
    syscall: Option<File>,
}

impl Files {
    #[cfg(all(not(loom), any(test, feature = "test-util")))]
    pub(super) fn blind() -> Self {
        Self {
            blind: true,
            ..Self::default()
        }
    }

    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(super) fn open_files(&self) -> usize {
        self.open.len()
    }

    /// What `thread` of this process is doing; zero stands for an unknown one.
    pub(super) fn doing(&mut self, thread: usize) -> Doing {
        if self.blind || thread == 0 || !is_linux() {
            return Doing::Unknown;
        }
        let index = match self.find(thread) {
            Some(index) => index,
            None => match File::open(format!("/proc/self/task/{thread}/stat")) {
                Ok(stat) => self.keep(Open {
                    thread,
                    stat,
                    syscall: None,
                }),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Doing::Gone,
                Err(_) => return Doing::Unknown,
            },
        };
        // The number, a name of at most 64 bytes, the letter: all in the first hundred bytes.
        let mut text = [0; 128];
        match read(&self.open[index].stat, &mut text).and_then(state_letter) {
            Some(b'S' | b'D') => Doing::Asleep,
            Some(b'Z' | b'X' | b'x') | None => {
                // Its files never come back to life.
                self.open.swap_remove(index);
                Doing::Gone
            }
            Some(_) => Doing::Running,
        }
    }

    /// Does the sleeper want a lock, as far as one can tell?
    pub(super) fn may_want_a_lock(&mut self, thread: usize) -> bool {
        let Some(index) = self.find(thread) else {
            return true;
        };
        let open = &mut self.open[index];
        if open.syscall.is_none() {
            open.syscall = File::open(format!("/proc/self/task/{thread}/syscall")).ok();
        }
        let mut text = [0; 32];
        let call = open.syscall.as_ref().and_then(|file| read(file, &mut text));
        call.is_none_or(|call| is_lock(call).unwrap_or(true))
    }

    /// Are more threads runnable than this process has CPUs, besides the one that asks?
    pub(super) fn is_crowded(&mut self) -> bool {
        let cpus = *self.cpus.get_or_insert_with(cpus::usable);
        let load = std::fs::read_to_string("/proc/loadavg");
        let runnable = load.ok().and_then(|load| runnable(&load));
        runnable.is_some_and(|count| count.saturating_sub(1) > cpus)
    }

    fn find(&self, thread: usize) -> Option<usize> {
        self.open.iter().position(|open| open.thread == thread)
    }

    fn keep(&mut self, open: Open) -> usize {
        if self.open.len() < OPEN_MAX {
            self.open.push(open);
            return self.open.len() - 1;
        }
        self.turn = (self.turn + 1) % OPEN_MAX;
        self.open[self.turn] = open;
        self.turn
    }
}

fn is_linux() -> bool {
    cfg!(any(target_os = "linux", target_os = "android"))
}

/// The beginning of a file that is written anew at each read.
#[cfg(unix)]
fn read<'a>(file: &File, text: &'a mut [u8]) -> Option<&'a [u8]> {
    use std::os::unix::fs::FileExt;
    let length = file.read_at(text, 0).ok()?;
    Some(&text[..length])
}

#[cfg(not(unix))]
fn read<'a>(_file: &File, _text: &'a mut [u8]) -> Option<&'a [u8]> {
    None
}

/// The state in `number (name) letter ...`. The name may hold anything, also parentheses.
fn state_letter(stat: &[u8]) -> Option<u8> {
    let end_of_name = stat.iter().rposition(|&byte| byte == b')')?;
    match stat.get(end_of_name + 1..end_of_name + 3)? {
        [b' ', letter] if letter.is_ascii_alphabetic() => Some(*letter),
        _ => None,
    }
}

/// Reads `number arguments..`, or `running`; -1 stands for a sleep outside any system call.
fn is_lock(call: &[u8]) -> Option<bool> {
    let number = std::str::from_utf8(call)
        .ok()?
        .split_ascii_whitespace()
        .next()?;
    let number = number.parse::<Call>().ok()?;
    Some(number == -1 || is_lock_call(number))
}

/// The number of a system call.
#[cfg(any(target_os = "linux", target_os = "android"))]
type Call = libc::c_long;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
type Call = i64;

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    target_pointer_width = "64"
))]
const MAP: Call = libc::SYS_mmap;
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(target_pointer_width = "64")
))]
const MAP: Call = libc::SYS_mmap2;

#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_lock_call(number: Call) -> bool {
    // Futexes with 64-bit time, several at once, and the one without operations: the same
    // numbers on all machines.
    const LATER: [Call; 3] = [422, 449, 455];
    // What an allocator calls: all of a process' threads share one lock there.
    const SPACE: [Call; 5] = [
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_mprotect,
        libc::SYS_mremap,
        libc::SYS_munmap,
    ];
    number == libc::SYS_futex || number == MAP || LATER.contains(&number) || SPACE.contains(&number)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_lock_call(_number: Call) -> bool {
    true
}

/// The count in `average average average runnable/all last`.
fn runnable(load: &str) -> Option<usize> {
    let (runnable, _) = load.split_ascii_whitespace().nth(3)?.split_once('/')?;
    runnable.parse().ok()
}

/// The kernel's number of the calling thread, where it tells.
pub(super) fn thread_number() -> Option<usize> {
    if !is_linux() {
        return None;
    }
    // Points to `process/task/thread`.
    let link = std::fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

/// Has the kernel wake this thread within microseconds of its deadlines, which else come up to
/// fifty too late, so that several threads may be woken at once.
pub(in crate::pool) fn sharpen_deadlines() {
    if let Some(thread) = thread_number() {
        // Errors: an old kernel; deadlines are late there.
        let _ = std::fs::write(format!("/proc/{thread}/timerslack_ns"), "1000");
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Doing, Files, is_lock, runnable, state_letter};

    #[test]
    fn the_letter_is_found_behind_any_name() {
        for (text, letter) in [
            ("4676 (cat) R 4674 4674", Some(b'R')),
            ("1 (a b) S 1", Some(b'S')),
            ("1 (a) R (b)) D 1", Some(b'D')),
            ("1 (:-) ) (x) Z 1", Some(b'Z')),
            ("1 () t 1", Some(b't')),
            ("1 (portage-0", None),
            ("1 (portage-0)", None),
            ("1 (portage-0) ", None),
            ("1 (portage-0) 7", None),
            ("", None),
        ] {
            assert_eq!(state_letter(text.as_bytes()), letter, "{text:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn calls_that_want_locks_are_told_from_others() {
        let futex = format!("{} 0x7f0c98011200 0x89 0x2", libc::SYS_futex);
        let protect = format!("{} 0x7fdd 0x1000", libc::SYS_mprotect);
        let nap = format!("{} 0x0 0x0", libc::SYS_clock_nanosleep);
        for (text, expected) in [
            (futex.as_str(), Some(true)),
            (nap.as_str(), Some(false)),
            ("455 0x1", Some(true)),
            (protect.as_str(), Some(true)),
            ("-1 0x7ffe 0x7f0c", Some(true)),
            ("running", None),
            ("", None),
        ] {
            assert_eq!(is_lock(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn runnable_threads_are_read_from_the_load() {
        assert_eq!(runnable("7.59 4.77 2.36 6/312 12345\n"), Some(6));
        assert_eq!(runnable("7.59 4.77 2.36\n"), None);
        assert_eq!(runnable("1 1 1 x/3 4"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn few_files_stay_open_however_many_threads_there_are() {
        let mut files = Files::default();
        let own = super::thread_number().unwrap();
        assert_eq!(files.doing(own), Doing::Running);
        assert_eq!(files.doing(0), Doing::Unknown);
        assert_eq!(files.doing(usize::MAX), Doing::Gone, "no such thread");
        std::thread::scope(|scope| {
            let (number, numbers) = std::sync::mpsc::channel();
            let closes: Vec<_> = (0..2 * super::OPEN_MAX)
                .map(|_| {
                    let (close, closed) = std::sync::mpsc::channel::<()>();
                    let number = number.clone();
                    scope.spawn(move || {
                        number.send(super::thread_number().unwrap()).unwrap();
                        let _ = closed.recv();
                    });
                    close
                })
                .collect();
            for thread in numbers.iter().take(closes.len()) {
                assert_ne!(files.doing(thread), Doing::Unknown);
                let _ = files.may_want_a_lock(thread);
                assert!(files.open_files() <= super::OPEN_MAX);
            }
        });
        assert_eq!(files.doing(own), Doing::Running);
    }
}
