//! Whole pools in orders that a seed decides. Run: `just shuttle`.
#![forbid(unsafe_code)]

use std::time::Duration;
use crate::base::shuttled::explore::{TimePasses, elapsed, explore};
use crate::pool::{Shutdown, ThreadPool};

#[test]
fn shuttle_smoke() {
    explore(1000, TimePasses::InIdleness, || {
        let pool = ThreadPool::builder().core_threads(2).max_threads(3).build().unwrap();
        let a = pool.spawn_blocking(|| 1);
        let b = pool.spawn_blocking(|| 2);
        assert_eq!(a.wait().unwrap() + b.wait().unwrap(), 3);
        assert_eq!(elapsed(), Duration::ZERO);
        assert!(pool.shutdown(Shutdown::Drain).completed);
    });
}
