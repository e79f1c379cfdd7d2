//! The service as its clients and its supervisor see it: sockets, standard error, a signal.
//!
//! A request is slow here because it reads a pipe whose other end the test holds, so everything
//! goes by order of events.

#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// What hangs fails.
const LIMIT: Duration = Duration::from_secs(30);

/// SHA-256 of `hello\n`.
const HELLO: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

struct Running {
    child: Child,
    address: String,
    /// What it writes to standard error, line by line.
    notes: Receiver<String>,
    root: PathBuf,
}

impl Running {
    fn start(test: &str) -> Self {
        let root =
            std::env::temp_dir().join(format!("tokio_service-{}-{test}", std::process::id()));
        fs::create_dir_all(&root).expect("a folder for the test");
        fs::write(root.join("hello"), "hello\n").expect("a file to hash");
        let mut child = Command::new(env!("CARGO_BIN_EXE_tokio_service"))
            .arg(&root)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the service starts");
        let mut first = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut first)
            .expect("its address");
        let address = first
            .trim()
            .strip_prefix("http://")
            .expect("an address")
            .to_owned();
        let (told, notes) = channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = told.send(line);
            }
        });
        Self {
            child,
            address,
            notes,
            root,
        }
    }

    /// The next line of diagnostics.
    fn note(&self) -> String {
        self.notes
            .recv_timeout(LIMIT)
            .expect("the service says something")
    }

    /// A file that ends when the test lets it.
    fn pipe(&self, name: &str) -> PathBuf {
        let path = self.root.join(name);
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        path
    }

    fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        let sent = Command::new("sh").arg("-c").arg(kill).status().expect("sh");
        assert!(sent.success());
    }

    /// Its exit status, within the limit.
    fn ended(&mut self) -> ExitStatus {
        // standard error ends with the process
        while self.notes.recv_timeout(LIMIT).is_ok() {}
        self.child.wait().expect("a child of ours")
    }

    fn ask(&self, path: &str, id: Option<&str>) -> Asked {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a legal limit");
        let id = id
            .map(|id| format!("x-request-id: {id}\r\n"))
            .unwrap_or_default();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{id}\r\n"
        )
        .expect("it takes the request");
        Asked(stream)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// A request that is on its way.
struct Asked(TcpStream);

impl Asked {
    /// Status, request id and body of the answer.
    fn answer(mut self) -> (u16, String, String) {
        let mut whole = String::new();
        self.0
            .read_to_string(&mut whole)
            .expect("an answer in time");
        let (head, body) = whole.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let id = head
            .lines()
            .find_map(|line| line.strip_prefix("x-request-id: "));
        (
            status.expect("a status"),
            id.unwrap_or_default().to_owned(),
            body.to_owned(),
        )
    }
}

#[test]
fn the_request_id_is_in_the_jobs_diagnostics_and_in_the_response() {
    let service = Running::start("id");
    let (status, id, body) = service.ask("/digest/hello", Some("mine")).answer();
    assert_eq!((status, id.as_str(), body.trim_end()), (200, "mine", HELLO));
    assert_eq!(service.note(), "[mine] hashing");
    assert_eq!(service.note(), "[mine] hashed");
    assert_eq!(service.note(), "[mine] given out: 1");
}

#[test]
fn requests_at_the_same_time_keep_their_ids_apart() {
    let service = Running::start("apart");
    let pipe = service.pipe("slow");
    let slow = service.ask("/digest/slow", Some("slow"));
    assert_eq!(service.note(), "[slow] hashing");
    // a whole request while the first one's thread is asleep
    let (status, id, _) = service.ask("/digest/hello", None).answer();
    assert_eq!((status, id.as_str()), (200, "r1"));
    assert_eq!(service.note(), "[r1] hashing");
    assert_eq!(service.note(), "[r1] hashed");
    assert_eq!(service.note(), "[r1] given out: 1");
    fs::write(pipe, "hello\n").expect("the job reads");
    let (status, id, body) = slow.answer();
    assert_eq!((status, id.as_str(), body.trim_end()), (200, "slow", HELLO));
    assert_eq!(service.note(), "[slow] hashed");
}

#[test]
fn what_cannot_be_read_is_not_found_and_keeps_its_id() {
    let service = Running::start("missing");
    for path in ["/digest/none", "/digest/../hello", "/digest/a/%2e%2e/hello"] {
        let (status, id, _) = service.ask(path, Some("odd")).answer();
        assert_eq!((status, id.as_str()), (404, "odd"), "{path}");
    }
}

#[test]
fn a_sigterm_lets_the_request_in_flight_finish_and_exits_with_zero() {
    let mut service = Running::start("term");
    let pipe = service.pipe("slow");
    let slow = service.ask("/digest/slow", Some("last"));
    assert_eq!(service.note(), "[last] hashing");
    service.terminate();
    // it has the signal, and the job has not ended
    assert_eq!(service.note(), "[-] stopping");
    fs::write(pipe, "hello\n").expect("the job reads");
    let (status, id, body) = slow.answer();
    assert_eq!((status, id.as_str(), body.trim_end()), (200, "last", HELLO));
    assert_eq!(service.note(), "[last] hashed");
    // what outlives its response is done before the end
    assert_eq!(service.note(), "[last] given out: 1");
    assert_eq!(service.note(), "[-] drained, 1 digests given out");
    assert!(service.ended().success());
}

#[test]
fn a_sigterm_to_an_idle_service_ends_it_at_once() {
    let mut service = Running::start("idle");
    service.terminate();
    assert_eq!(service.note(), "[-] stopping");
    assert_eq!(service.note(), "[-] drained, 0 digests given out");
    assert!(service.ended().success());
}
