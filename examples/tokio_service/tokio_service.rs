//! An axum service on tokio whose blocking work is portage's.
//!
//! ```sh
//! cargo run -p portage-tokio-service -- src        # prints its address
//! curl -i -H 'x-request-id: mine' http://ADDRESS/digest/lib.rs
//! kill -TERM PID
//! ```
//!
//! * A handler hands reading and hashing to a pool that grows when its threads are asleep in a
//!   disk, and awaits the handle; tokio's own threads stay with the sockets.
//! * The request id is a `ContextVar`. A middleware attaches it to the request's future; the job
//!   inherits it without being told, so its diagnostics carry it, and so does the response.
//! * On SIGTERM no new connection is taken, requests in flight are answered, then the pool is
//!   drained: what outlives its response (here: the books) is done too. The exit code says so.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::{Router, routing::get};
use portage::pool::Shutdown;
use portage::{Context, ContextVar, JoinError, ThreadPool};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Shared by all clones of it: a copy of a context is one pointer, whatever is in it.
static REQUEST_ID: ContextVar<Arc<str>> = ContextVar::new("request id");

const HEADER: &str = "x-request-id";

/// How long the pool may go on after the last response.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Service {
    pool: ThreadPool,
    root: PathBuf,
    /// Digests that were given out; the job that counts outlives its response.
    books: AtomicU64,
}

/// One line of diagnostics, from whatever thread works for the request.
fn note(message: &str) {
    let id = REQUEST_ID.get().unwrap_or_else(|| "-".into());
    eprintln!("[{id}] {message}");
}

// --- requests ------------------------------------------------------------------------------------

/// The id that the client chose, or a new one: in the context of all that the request does.
async fn with_request_id(request: Request, next: Next) -> Response {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let chosen = request
        .headers()
        .get(HEADER)
        .and_then(|id| id.to_str().ok());
    let id: Arc<str> = match chosen {
        Some(id) => id.into(),
        None => format!("r{}", NEXT.fetch_add(1, Ordering::Relaxed)).into(),
    };
    let mut context = Context::current();
    context.run(|| REQUEST_ID.set(id.clone()));
    // entered around every poll: the future may wander between tokio's threads
    let mut response = context.attach(next.run(request)).await;
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, id);
    }
    response
}

type Failure = (StatusCode, String);

async fn digest(
    State(service): State<Arc<Service>>,
    UrlPath(file): UrlPath<String>,
) -> Result<String, Failure> {
    let path = below(&service.root, &file).ok_or_else(|| missing("no path below the root"))?;
    let handle = service.pool.submit(move || hash(&path));
    let handle =
        handle.map_err(|refusal| (StatusCode::SERVICE_UNAVAILABLE, refusal.to_string()))?;
    let digest = handle.await.map_err(broken)?.map_err(missing)?;
    let keep = service.clone();
    let books = move || {
        note(&format!(
            "given out: {}",
            keep.books.fetch_add(1, Ordering::Relaxed) + 1
        ))
    };
    service.pool.spawn_blocking(books).detach();
    Ok(format!("{digest}\n"))
}

/// Only plain names: nothing leads out of the root.
fn below(root: &Path, file: &str) -> Option<PathBuf> {
    let file = Path::new(file);
    let plain = file
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| root.join(file))
}

/// Blocks as long as the disk likes.
fn hash(path: &Path) -> io::Result<String> {
    note("hashing");
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut chunk = vec![0; 64 << 10];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => hasher.update(&chunk[..read]),
        }
    }
    note("hashed");
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn missing(error: impl ToString) -> Failure {
    (StatusCode::NOT_FOUND, error.to_string())
}

/// The job panicked: this request has failed, the pool goes on.
fn broken(error: JoinError) -> Failure {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

// --- life ----------------------------------------------------------------------------------------

async fn serve(service: Arc<Service>, address: &str) -> io::Result<()> {
    let app = Router::new()
        .route("/digest/{*file}", get(digest))
        .layer(from_fn(with_request_id))
        .with_state(service);
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
            note("stopping");
        })
        .await
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().unwrap_or_else(|| ".".into());
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let run = || -> Result<bool, Box<dyn std::error::Error>> {
        let pool = ThreadPool::builder().thread_name("hasher").build()?;
        let service = Arc::new(Service {
            pool: pool.clone(),
            root: root.into(),
            books: AtomicU64::new(0),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(serve(service.clone(), &address))?;
        // every response is out; what the pool still has to do may block, and so may this thread
        let report = pool.shutdown_timeout(Shutdown::Drain, GRACE);
        for task in &report.stuck {
            note(&format!(
                "still running after {:?}: {}",
                task.running_for, task.spawned_at
            ));
        }
        let given_out = service.books.load(Ordering::Relaxed);
        note(&format!("drained, {given_out} digests given out"));
        Ok(report.completed)
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tokio_service: {error}");
            ExitCode::FAILURE
        }
    }
}
