//! Runs code in a forked child.

use std::time::{Duration, Instant};

/// Runs `code` in a forked child; its panic or a hang fails the test.
#[track_caller]
pub(crate) fn in_child(what: &str, code: impl FnOnce()) {
    // SAFETY: the child runs `code`, which uses the allocator (glibc and the BSDs make that
    // legal after a fork) and this crate (which is what the test is about), and then leaves
    // without unwinding into the parent's frames.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no fork");
    if child == 0 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(code));
        let code = match outcome {
            Ok(()) => 0,
            Err(payload) => {
                let text = format!("in the child: {}\n", crate::kit::text_of(&*payload));
                // SAFETY: the buffer is as long as it is said to be.
                unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
                1
            }
        };
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(code) };
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours for the call.
        let ended = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if ended == child {
            assert!(
                libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
                "{what}: the child ended with status {status:#x}"
            );
            return;
        }
        if Instant::now() >= deadline {
            // SAFETY: the child was not waited for, so its number is still its own.
            unsafe { libc::kill(child, libc::SIGKILL) };
            panic!("{what}: the child hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
