//! Row 20: an axum service on tokio that hands a blocking call of 200 us per request to a pool.
//!
//! The clients speak as much HTTP/1.1 over loopback as they need. They keep a fixed rate: a request
//! is due whether or not the last one was answered in time, and its latency counts from when it
//! was due.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;

use super::{histogram, percentiles};
use crate::pools::{Portage, tokio_runtime};
use crate::{Check, Contender, Effort, Scenario};

const CLIENTS: u32 = 8;
/// Requests per second and client.
const RATE: u32 = 150;

pub const OFFLOADING: Scenario = Scenario {
    name: "service",
    contenders: &["portage", "tokio"],
    enter,
    checks: &[Check::ratio(
        20,
        "a service that offloads 200 us per request",
        "p99_us",
        &["tokio"],
        0.9,
    )],
};

fn enter(name: &str, effort: Effort) -> Box<dyn Contender> {
    let pool = (name == "portage").then(|| Portage::new(None).0);
    let runtime = tokio_runtime(None);
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let answer = move || answer(pool.clone());
    let service = Router::new().route("/", get(answer));
    runtime.spawn(async move { axum::serve(NoDelay(listener), service).await });
    let requests = 60 * effort.scale as u32;
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
        let mut all = histogram();
        for client in clients {
            let latencies = client.join().expect("a client ends");
            latencies
                .into_iter()
                .for_each(|latency| all.saturating_record(latency));
        }
        percentiles(&all)
    })
}

/// The blocking call: a driver, a file, a lock.
fn call() {
    std::thread::sleep(Duration::from_micros(200));
}

async fn answer(pool: Option<portage::ThreadPool>) -> &'static str {
    match pool {
        Some(pool) => pool.spawn_blocking(call).await.expect("it runs"),
        None => tokio::task::spawn_blocking(call).await.expect("it runs"),
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

fn ask(address: SocketAddr, first: Instant, requests: u32) -> Vec<u64> {
    let mut stream = TcpStream::connect(address).expect("the service listens");
    stream.set_nodelay(true).expect("a socket option");
    let mut latencies = Vec::new();
    let mut answer = [0; 256];
    for n in 0..requests {
        let due = first + Duration::from_secs(1) / RATE * n;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: portage\r\n\r\n")
            .expect("the service reads");
        let mut got = 0;
        while !answer[..got].ends_with(b"ok") {
            got += stream
                .read(&mut answer[got..])
                .expect("the service answers");
        }
        latencies.push(due.elapsed().as_nanos() as u64);
    }
    latencies
}
