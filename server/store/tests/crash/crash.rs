//! A process that writes is killed, its power is cut, its disk fails: what was acknowledged is there.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cattle_api::resource;
use cattle_matrix::Matrix;
use cattle_store::sqlite::{OpenError, Options};
use cattle_store::{Page, Secret, SqliteStore, Store, StoreError, Transaction, Write};
use serde_json::json;

use crate::fixture::{create, key, name, put, unsealed, user};
use crate::power::{Trace, must_trace};

/// Where the child writes.
const DIRECTORY: &str = "CATTLE_TEST_WRITER_DIRECTORY";
/// Present when the child answers before its writes are durable.
const UNSAFE: &str = "CATTLE_TEST_WRITER_WITHOUT_SYNC";
/// Writers in the child, so that commits are grouped.
const TASKS: usize = 4;
/// Transactions of each of them.
const WRITES: usize = 250;

/// For each writer, how many of its transactions were acknowledged.
pub(crate) type Acknowledged = BTreeMap<usize, usize>;

/// `-9` at twenty random moments of a thousand writes, one after the other on one data directory.
///
/// The short tier has five of the moments.
#[tokio::test]
async fn killed_at_any_moment() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut total = Acknowledged::new();
    let matrix = Matrix::of_this_run("kill -9 of a writing store");
    let rounds = matrix.slice(20, 5);
    for round in &rounds {
        prepare(directory.path()).await;
        let mut child = start(Command::new(this()), directory.path());
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let already = total.values().sum::<usize>();
        // Most moments are among the writes, some before the first acknowledgement and some near the end.
        let kill_after = already + matrix.random_at(*round).usize(0..=WRITES * TASKS * 9 / 10);
        let mut seen = already;
        while seen < kill_after {
            let Some(line) = lines.next() else { break };
            seen += usize::from(acknowledge(&mut total, &line.expect("text")));
        }
        child.kill().expect("it runs");
        // What it said before it died counts as well.
        for line in lines.map_while(Result::ok) {
            acknowledge(&mut total, &line);
        }
        child.wait().expect("it ended");
        check(directory.path(), &total).await.unwrap_or_else(|lost| panic!("round {round}: {lost}"));
    }
    assert!(total.values().sum::<usize>() > rounds.len(), "it wrote: {total:?}");
}

/// Moments of a run at which its power is cut, in the long tier.
const CUTS: usize = 200;

/// Writes that were not fsynced are dropped or torn at 200 points of a run; at 40 of them in the short tier.
#[tokio::test]
async fn power_is_cut_at_any_point() {
    must_trace();
    let directory = tempfile::tempdir().expect("a directory");
    let trace = recorded(directory.path(), false).await;
    let matrix = Matrix::of_this_run("power cuts");
    for point in matrix.slice(CUTS, 40) {
        let (image, acknowledged) = trace.image_at(point, CUTS, &mut matrix.random_at(point));
        check(image.path(), &acknowledged).await.unwrap_or_else(|lost| panic!("point {point}: {lost}"));
    }
}

/// The test above can fail: without fsync the same cuts lose what was acknowledged.
#[tokio::test]
async fn without_sync_a_power_cut_is_found() {
    must_trace();
    let directory = tempfile::tempdir().expect("a directory");
    let trace = recorded(directory.path(), true).await;
    let matrix = Matrix::of_this_run("power cuts without sync");
    let points = matrix.slice(CUTS, 40);
    let mut lost = 0;
    for point in &points {
        let (image, acknowledged) = trace.image_at(*point, CUTS, &mut matrix.random_at(*point));
        lost += usize::from(check(image.path(), &acknowledged).await.is_err());
    }
    assert!(lost > points.len() / 2, "only {lost} of {} cuts lost anything: they do not cut", points.len());
}

/// A disk that fails an fsync is not trusted again, and nothing that was acknowledged is lost.
#[tokio::test]
async fn a_failed_fsync_stops_all_changes() {
    must_trace();
    let directory = tempfile::tempdir().expect("a directory");
    prepare(directory.path()).await;
    let mut command = Command::new("strace");
    let inject = "inject=fsync,fdatasync:error=EIO:when=20";
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", inject]).arg(this());
    let mut child = start(command, directory.path());
    let mut acknowledged = Acknowledged::new();
    let mut errors = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line.expect("text");
        if let Some(error) = line.strip_prefix("error ") {
            errors.push(error.to_owned());
        } else {
            let after_error = acknowledge(&mut acknowledged, &line) && !errors.is_empty();
            assert!(!after_error, "acknowledged after {errors:?}");
        }
    }
    child.wait().expect("it ended");
    assert_eq!(errors.iter().filter(|error| *error == "poisoned").count(), TASKS, "{errors:?}");
    assert!(errors.iter().any(|error| error == "io"), "{errors:?}");
    check(directory.path(), &acknowledged).await.unwrap_or_else(|lost| panic!("{lost}"));
}

/// The process that the tests above start and kill. Alone it does nothing.
#[test]
#[ignore = "started by the other tests of this module"]
fn writer() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let options = Options::default();
    let options = if std::env::var_os(UNSAFE).is_some() { options.without_sync() } else { options };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Arc::new(open_when_free(Path::new(&directory), &options).expect("opens"));
        futures_util::future::join_all((0..TASKS).map(|task| write_all(Arc::clone(&store), task))).await;
    });
}

async fn write_all(store: Arc<SqliteStore>, task: usize) {
    let start = counter(&*store, task).await;
    for number in start + 1..=start + WRITES {
        let result = write_one(&*store, task, number).await;
        let line = match &result {
            Ok(()) => format!("ack {task} {number}"),
            Err(StoreError::Poisoned) => "error poisoned".to_owned(),
            Err(StoreError::Io(_)) => "error io".to_owned(),
            Err(other) => format!("error {other:?}"),
        };
        // One write of a whole line: what the trace shows is what was said.
        std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).expect("somebody listens");
        if matches!(result, Err(StoreError::Poisoned)) {
            return;
        }
    }
}

/// A new object with a sealed value, and the counter: together or not at all.
async fn write_one(store: &dyn Store, task: usize, number: usize) -> Result<(), StoreError> {
    let mut counter = store.get(&key(&format!("counter-{task}"))).await?.expect("prepared");
    counter.data["username"] = json!(number.to_string());
    let sealed = vec![("password-hash".to_owned(), Secret::from(format!("{task}-{number}")))];
    let writes = vec![
        Write::Create { object: user(&format!("w-{task}-{number}")), sealed },
        Write::Update { object: counter, sealed: Vec::new() },
    ];
    store.commit(Transaction::new(writes)).await.map(drop)
}

async fn counter(store: &dyn Store, task: usize) -> usize {
    let object = store.get(&key(&format!("counter-{task}"))).await.expect("readable").expect("prepared");
    object.data["username"].as_str().and_then(|text| text.parse().ok()).expect("a number")
}

/// Makes the counters, when they are not there.
async fn prepare(directory: &Path) {
    let store = open_when_free(directory, &Options::default()).expect("opens");
    for task in 0..TASKS {
        let name = format!("counter-{task}");
        if store.get(&key(&name)).await.expect("readable").is_none() {
            let mut object = user(&name);
            object.data["username"] = json!("0");
            put(&store, create(object)).await;
        }
    }
}

/// A process that another test starts right now has this one's lock until it runs its own program.
fn open_when_free(directory: &Path, options: &Options) -> Result<SqliteStore, OpenError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match SqliteStore::open_with(directory, options) {
            Err(OpenError::InUse { .. }) if Instant::now() < deadline => std::thread::yield_now(),
            other => return other,
        }
    }
}

/// Whether everything that was acknowledged is there, and nothing by halves. The error says what is not.
async fn check(directory: &Path, acknowledged: &Acknowledged) -> Result<(), String> {
    let store = open_when_free(directory, &Options::default().without_sync()).map_err(|error| format!("{error}"))?;
    let listing = store.list(&resource::USER, None, Page::ALL).await.map_err(|error| format!("{error}"))?;
    let found = listing.items.iter().filter(|item| name(item).starts_with("w-")).count();
    let mut expected = 0;
    for task in 0..TASKS {
        let reached = counter(&store, task).await;
        let said = acknowledged.get(&task).copied().unwrap_or_default();
        if reached < said {
            return Err(format!("writer {task} was told {said}, there are {reached}"));
        }
        for number in 1..=reached {
            let value = unsealed(&store, &format!("w-{task}-{number}"), "password-hash").await;
            if value.map_err(|error| format!("{error}"))? != Some(format!("{task}-{number}")) {
                return Err(format!("write {number} of {task} has no value"));
            }
        }
        expected += reached;
    }
    if found == expected { Ok(()) } else { Err(format!("{found} objects, {expected} counted")) }
}

/// Notes an acknowledgement; whether the line was one.
pub(crate) fn acknowledge(acknowledged: &mut Acknowledged, line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| *word != "ack").skip(1).map(str::parse::<usize>);
    let (Some(Ok(task)), Some(Ok(number))) = (words.next(), words.next()) else { return false };
    acknowledged.insert(task, number);
    true
}

/// A whole run of the writer, as the operating system saw it.
async fn recorded(directory: &Path, without_sync: bool) -> Trace {
    prepare(directory).await;
    let trace = Trace::begin(directory);
    let mut command = trace.command();
    command.arg(this());
    if without_sync {
        command.env(UNSAFE, "1");
    }
    let mut child = start(command, directory);
    let said = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let mut acknowledged = Acknowledged::new();
    for line in said {
        acknowledge(&mut acknowledged, &line);
    }
    assert!(child.wait().expect("it ended").success());
    assert_eq!(acknowledged.values().sum::<usize>(), TASKS * WRITES);
    let trace = trace.end();
    assert_eq!(trace.acknowledged(), acknowledged, "the trace has all that was said");
    trace
}

fn start(mut command: Command, directory: &Path) -> Child {
    command
        .args(["--ignored", "--exact", "crash::writer", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts")
}

fn this() -> std::path::PathBuf {
    std::env::current_exe().expect("this program")
}
