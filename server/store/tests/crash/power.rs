//! A power cut, simulated: what a process did to its files is recorded (`strace`), and images are made in which writes that
//! were not fsynced at that moment are there, gone or torn.
//!
//! Stricter than most file systems: every write may be lost alone and out of order, in parts of 512 bytes, and a new name
//! may be lost until its directory was fsynced.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fastrand::Rng;
use tempfile::TempDir;

use crate::crash::{Acknowledged, acknowledge};

const SECTOR: usize = 512;

/// Fails where programs cannot be traced: a power cut that is not tried is no proof.
pub(crate) fn must_trace() {
    let result = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    assert!(
        result.is_ok_and(|status| status.success()),
        "strace cannot trace here: install it (`make packages`), and allow ptrace in this container"
    );
}

/// What the process did, in order.
#[derive(Debug)]
enum Step {
    Write { file: PathBuf, offset: usize, bytes: Vec<u8> },
    Truncate { file: PathBuf, length: usize },
    Create { file: PathBuf },
    Remove { file: PathBuf },
    Sync { path: PathBuf },
    Said { line: String },
}

pub(crate) struct Trace {
    directory: PathBuf,
    output: PathBuf,
    /// The files when the process started.
    before: BTreeMap<PathBuf, Vec<u8>>,
    steps: Vec<Step>,
    _output: TempDir,
}

impl Trace {
    pub(crate) fn begin(directory: &Path) -> Self {
        let temporary = tempfile::tempdir().expect("a directory");
        let read = |entry: fs::DirEntry| (entry.path(), fs::read(entry.path()).expect("a file"));
        let before = fs::read_dir(directory).expect("there").map(|entry| read(entry.expect("readable"))).collect();
        Self {
            directory: directory.to_owned(),
            output: temporary.path().join("trace"),
            before,
            steps: Vec::new(),
            _output: temporary,
        }
    }

    /// The start of the command line that records; the program follows.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("strace");
        let calls = "trace=openat,lseek,write,pwrite64,ftruncate,unlink,fsync,fdatasync";
        command
            .args(["-f", "-qq", "-y", "-xx", "-s", "1000000", "-e", "signal=none", "-e", calls, "-o"])
            .arg(&self.output);
        command
    }

    /// Reads what was recorded.
    pub(crate) fn end(mut self) -> Self {
        let text = fs::read_to_string(&self.output).expect("recorded");
        self.steps = parse(&text, &self.directory);
        let count = |wanted: fn(&Step) -> bool| self.steps.iter().filter(|step| wanted(step)).count();
        assert!(count(|step| matches!(step, Step::Write { .. })) > 1000, "the writes were recorded");
        self
    }

    /// All that the process said.
    pub(crate) fn acknowledged(&self) -> Acknowledged {
        said(&self.steps)
    }

    /// The files after a cut at the `point`th of `points` moments, and what had been said by then.
    pub(crate) fn image_at(&self, point: usize, points: usize, dice: &mut Rng) -> (TempDir, Acknowledged) {
        let share = self.steps.len() / points;
        let cut = (point * share + dice.usize(..share.max(1))).min(self.steps.len());
        let mut disk = Disk::new(&self.before);
        for step in &self.steps[..cut] {
            disk.apply(step);
        }
        let image = crate::fixture::private_directory();
        for (path, bytes) in disk.cut(dice) {
            let name = path.file_name().expect("a name");
            // Shared memory is gone with the power.
            if !name.to_string_lossy().ends_with("-shm") {
                let target = image.path().join(name);
                fs::write(&target, bytes).expect("written");
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                fs::set_permissions(&target, mode).expect("ours");
            }
        }
        (image, said(&self.steps[..cut]))
    }
}

fn said(steps: &[Step]) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    for step in steps {
        if let Step::Said { line } = step {
            acknowledge(&mut acknowledged, line);
        }
    }
    acknowledged
}

/// The files of one directory, on a disk with a cache.
struct Disk {
    files: BTreeMap<PathBuf, File>,
}

#[derive(Clone, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Pending>,
    /// Whether the name is, and whether it was at the last fsync of the directory.
    there: bool,
    durably_there: bool,
}

#[derive(Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Disk {
    fn new(before: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let file =
            |bytes: &Vec<u8>| File { durable: bytes.clone(), there: true, durably_there: true, ..File::default() };
        Self { files: before.iter().map(|(path, bytes)| (path.clone(), file(bytes))).collect() }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Write { file, offset, bytes } => {
                self.file(file).pending.push(Pending::Write(*offset, bytes.clone()));
            }
            Step::Truncate { file, length } => self.file(file).pending.push(Pending::Truncate(*length)),
            Step::Create { file } => self.file(file).there = true,
            Step::Remove { file } => self.file(file).there = false,
            Step::Sync { path } => self.sync(path),
            Step::Said { .. } => {}
        }
    }

    fn file(&mut self, path: &Path) -> &mut File {
        self.files.entry(path.to_owned()).or_default()
    }

    fn sync(&mut self, path: &Path) {
        if let Some(file) = self.files.get_mut(path) {
            for change in std::mem::take(&mut file.pending) {
                change.apply(&mut file.durable);
            }
        } else {
            for file in self.files.values_mut() {
                file.durably_there = file.there;
                if !file.there {
                    *file = File::default();
                }
            }
        }
    }

    /// What is found after the cut.
    fn cut(self, dice: &mut Rng) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for (path, mut file) in self.files {
            let there = if file.there == file.durably_there { file.there } else { dice.bool() };
            if !there {
                continue;
            }
            for change in std::mem::take(&mut file.pending) {
                change.survive(&mut file.durable, dice);
            }
            found.push((path, file.durable));
        }
        found
    }
}

impl Pending {
    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Truncate(length) => bytes.resize(length, 0),
            Self::Write(offset, new) => {
                bytes.resize(bytes.len().max(offset + new.len()), 0);
                bytes[offset..offset + new.len()].copy_from_slice(&new);
            }
        }
    }

    /// Whole, not at all, or in parts.
    fn survive(self, bytes: &mut Vec<u8>, dice: &mut Rng) {
        match (dice.u8(..3), self) {
            (0, change) => change.apply(bytes),
            (1, Self::Write(offset, new)) => {
                for (index, sector) in new.chunks(SECTOR).enumerate() {
                    if dice.bool() {
                        Self::Write(offset + index * SECTOR, sector.to_vec()).apply(bytes);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Reads strace's output: `pid call(arguments) = result`, calls of several threads interleaved.
fn parse(text: &str, directory: &Path) -> Vec<Step> {
    let mut unfinished = BTreeMap::new();
    let mut positions = BTreeMap::new();
    let mut known: Vec<PathBuf> = Vec::new();
    let mut steps = Vec::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let call = if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(pid.to_owned(), start.to_owned());
            continue;
        } else if rest.starts_with("<... ") {
            let end = rest.split_once("resumed>").map_or("", |(_, end)| end);
            unfinished.remove(pid).unwrap_or_default() + end
        } else {
            rest.to_owned()
        };
        steps.extend(step(&call, directory, &mut positions, &mut known));
    }
    steps
}

fn step(
    call: &str,
    directory: &Path,
    positions: &mut BTreeMap<String, usize>,
    known: &mut Vec<PathBuf>,
) -> Option<Step> {
    let (name, rest) = call.split_once('(')?;
    // Results are aligned: there are spaces before the sign.
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    if result.starts_with('-') {
        return None;
    }
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let parts: Vec<&str> = arguments.split(", ").collect();
    if name == "unlink" {
        let file = PathBuf::from(String::from_utf8(unescape(parts[0].trim_matches('"'))).ok()?);
        return file.starts_with(directory).then_some(Step::Remove { file });
    }
    let descriptor = if name == "openat" { result } else { parts[0] };
    let (fd, path) = descriptor.split_once('<')?;
    let path = PathBuf::from(String::from_utf8(unescape(path.split_once('>')?.0)).ok()?);
    if name == "write" && fd == "1" {
        let line = String::from_utf8(unescape(parts[1].trim_matches('"'))).ok()?;
        return Some(Step::Said { line });
    }
    if !path.starts_with(directory) {
        return None;
    }
    match name {
        "openat" => {
            positions.insert(descriptor.to_owned(), 0);
            let created = arguments.contains("O_CREAT") && !known.contains(&path);
            known.push(path.clone());
            created.then_some(Step::Create { file: path })
        }
        "lseek" => {
            positions.insert(descriptor.to_owned(), number(result)?);
            None
        }
        "write" => {
            let bytes = unescape(parts[1].trim_matches('"'));
            let position = positions.entry(descriptor.to_owned()).or_default();
            let offset = *position;
            *position += number(result)?;
            Some(Step::Write { file: path, offset, bytes: bytes[..number(result)?].to_vec() })
        }
        "pwrite64" => {
            let bytes = unescape(parts[1].trim_matches('"'));
            Some(Step::Write { file: path, offset: number(parts[3])?, bytes: bytes[..number(result)?].to_vec() })
        }
        "ftruncate" => Some(Step::Truncate { file: path, length: number(parts[1])? }),
        "fsync" | "fdatasync" => Some(Step::Sync { path }),
        _ => None,
    }
}

/// `\x41b` to `Ab`.
fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |byte: u8| (byte as char).to_digit(16).map_or(0, |digit| digit as u8);
    let mut out = Vec::with_capacity(bytes.len() / 4);
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'\\' && bytes.get(at + 1) == Some(&b'x') && at + 3 < bytes.len() {
            out.push(digit(bytes[at + 2]) << 4 | digit(bytes[at + 3]));
            at += 4;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}
