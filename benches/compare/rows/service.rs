//! Row 20: an axum service on tokio that hands a blocking call of 200 us per request to a pool.
//!
//! The clients speak as much HTTP/1.1 over loopback as they need. They keep a fixed rate: a request
//! is due whether or not the last one was answered in time, and its latency counts from when it
//! was due or, if that is later, from when the client's alarm went off: how late an alarm is, the
//! machine decides, for both sides alike. The first requests of a connection do not count, for the
//! service sets it up meanwhile; the rest are so many that twenty lie above the 99th of 100.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;

use super::{bounds, histogram, percentiles};
use crate::pools::{Pool, Portage, Threads, sized, tokio_runtime_with};
use crate::{Check, Contender, Effort, Scenario, system};

const CLIENTS: u32 = 8;
/// Requests per second and client.
const RATE: u32 = 150;

/// Requests of a client that are not counted, and requests that are.
const WARM_UP: u32 = 25;
const COUNTED: u32 = 250;

/// The blocking call: a driver, a file, a lock.
const CALL: Duration = Duration::from_micros(200);

const TOKIO: &[&str] = &["tokio"];

pub const OFFLOADING: Scenario = Scenario {
    name: "service",
    contenders: &["portage", "tokio"],
    enter,
    checks: &[Check::ratio(
        20,
        "a service that offloads 200 us per request",
        "p99_us",
        TOKIO,
        0.9,
    )],
};

/// What anybody could gain: `inline` makes the call on the spot, and hands over nothing.
pub const BOUNDS: Scenario = bounds!(20, "service-bounds", 0.9, "inline": "the call on the spot");

/// Who makes the blocking call.
#[derive(Clone)]
enum Way {
    Portage(portage::ThreadPool),
    Tokio,
    Threads(Threads),
    Inline,
}

fn enter(name: &str, effort: Effort) -> Box<dyn Contender> {
    let (name, size) = sized(name);
    let way = match name {
        "portage" => Way::Portage(Portage::with_core(size).0),
        "tokio" => Way::Tokio,
        "threads" => Way::Threads(Threads::new(CLIENTS as usize)),
        _ => Way::Inline,
    };
    let blocking = size.filter(|_| name == "tokio");
    let runtime = tokio_runtime_with(None, blocking);
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let answer = move || answer(way.clone());
    let service = Router::new().route("/", get(answer));
    runtime.spawn(async move { axum::serve(NoDelay(listener), service).await });
    let requests = WARM_UP + COUNTED * effort.scale as u32;
    Box::new(move || {
        // It lives as long as its server is asked.
        let _runtime = &runtime;
        let start = Instant::now() + Duration::from_millis(2);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let first = start + Duration::from_secs(1) / (RATE * CLIENTS) * client;
                std::thread::spawn(move || ask(address, first, requests))
            })
            .collect();
        let (mut all, mut late) = (histogram(), histogram());
        for client in clients {
            for asked in client.join().expect("a client ends") {
                all.saturating_record(asked.latency.as_nanos() as u64);
                late.saturating_record(asked.late.as_nanos() as u64);
            }
        }
        percentiles(&all).and("late_p99_us", late.value_at_quantile(0.99) as f64 / 1e3)
    })
}

fn call() {
    system::sharpen_deadlines();
    std::thread::sleep(CALL);
}

async fn answer(way: Way) -> &'static str {
    match way {
        Way::Portage(pool) => pool.spawn_blocking(call).await.expect("it runs"),
        Way::Tokio => tokio::task::spawn_blocking(call).await.expect("it runs"),
        Way::Threads(threads) => {
            let (done, wait) = tokio::sync::oneshot::channel();
            threads.execute(move || {
                call();
                let _ = done.send(());
            });
            wait.await.expect("it runs");
        }
        Way::Inline => call(),
    }
    "ok"
}

/// Answers go out at once.
struct NoDelay(tokio::net::TcpListener);

impl axum::serve::Listener for NoDelay {
    type Io = tokio::net::TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, from)) = self.0.accept().await {
                let _ = stream.set_nodelay(true);
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// One request.
struct Asked {
    /// Until it was answered.
    latency: Duration,
    /// How late the client's alarm was.
    late: Duration,
}

fn ask(address: SocketAddr, first: Instant, requests: u32) -> Vec<Asked> {
    system::sharpen_deadlines();
    let mut stream = TcpStream::connect(address).expect("the service listens");
    stream.set_nodelay(true).expect("a socket option");
    let mut all = Vec::new();
    let mut answer = [0; 256];
    let mut alarm = first;
    for n in 0..requests {
        let due = first + Duration::from_secs(1) / RATE * n;
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            std::thread::sleep(left);
            alarm = Instant::now();
        }
        let begins = due.max(alarm);
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: portage\r\n\r\n")
            .expect("the service reads");
        let mut got = 0;
        while !answer[..got].ends_with(b"ok") {
            got += stream
                .read(&mut answer[got..])
                .expect("the service answers");
        }
        if n >= WARM_UP {
            all.push(Asked {
                latency: begins.elapsed(),
                late: begins - due,
            });
        }
    }
    all
}
