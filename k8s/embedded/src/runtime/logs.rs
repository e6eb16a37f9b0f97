//! Container logs: written as the processes write, kept in bounded files, read by `kubectl logs`.
//!
//! Each run of a container has a file of lines in the form that container runtimes use: time,
//! stream, `F` for a whole line or `P` for a piece of one that is too long, text. A file that has
//! grown to [`ROTATE_AT`] is put aside once, so a run keeps at most twice as much. The runs before
//! the last one are deleted.

use crate::node::{LogOptions, LogStream, NodeError};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncRead};
use tokio::sync::watch;

/// Size at which a log file is put aside, in bytes.
pub const ROTATE_AT: u64 = 4 << 20;
/// Longest line that is kept in one piece, in bytes.
const LONGEST_LINE: usize = 16 << 10;
/// About how much a reader hands over at once, in bytes.
const CHUNK: usize = 32 << 10;

/// How far a run's log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Progress {
    /// Counts writes.
    writes: u64,
    /// How often the file was put aside.
    rotations: u64,
    /// Nothing more will come.
    ended: bool,
}

/// The log of one run, as a reader sees it.
#[derive(Clone)]
struct RunLog {
    path: PathBuf,
    progress: watch::Receiver<Progress>,
}

/// Writes the log of one run. Clones write to the same file (standard output and error).
#[derive(Clone)]
pub struct LogWriter {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    path: PathBuf,
    file: File,
    size: u64,
    progress: watch::Sender<Progress>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // what is guarded stays usable whatever a panicking holder did
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

impl LogWriter {
    fn create(path: PathBuf) -> io::Result<(Self, RunLog)> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let size = file.metadata()?.len();
        let (progress, receiver) = watch::channel(Progress::default());
        let log = RunLog {
            path: path.clone(),
            progress: receiver,
        };
        let inner = Inner {
            path,
            file,
            size,
            progress,
        };
        Ok((
            Self {
                inner: Arc::new(Mutex::new(inner)),
            },
            log,
        ))
    }

    /// Writes one line or piece of a line.
    fn write(&self, stream: &str, whole: bool, text: &[u8]) -> io::Result<()> {
        let mut record = Vec::with_capacity(text.len() + 48);
        let tag = if whole { 'F' } else { 'P' };
        let now = jiff::Timestamp::now();
        write!(record, "{now:.9} {stream} {tag} ")?;
        record.extend_from_slice(text);
        record.push(b'\n');
        let mut inner = lock(&self.inner);
        let rotate = inner.size > 0 && inner.size + record.len() as u64 > ROTATE_AT;
        if rotate {
            std::fs::rename(&inner.path, rotated(&inner.path))?;
            inner.file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&inner.path)?;
            inner.size = 0;
        }
        inner.file.write_all(&record)?;
        inner.size += record.len() as u64;
        inner.progress.send_modify(|p| {
            p.writes += 1;
            p.rotations += u64::from(rotate);
        });
        Ok(())
    }

    /// Copies what a process writes until its end of the pipe is closed; `seen` is shown each piece.
    pub async fn copy(
        &self,
        stream: &'static str,
        pipe: impl AsyncRead + Unpin,
        seen: impl Fn(&[u8]),
    ) {
        let mut pipe = tokio::io::BufReader::with_capacity(4 << 10, pipe);
        let mut line: Vec<u8> = Vec::new();
        loop {
            let (used, ended_line) = match pipe.fill_buf().await {
                Ok([]) | Err(_) => break,
                Ok(buffer) => {
                    let room = LONGEST_LINE - line.len();
                    let at = buffer.iter().take(room).position(|b| *b == b'\n');
                    let take = at.unwrap_or(buffer.len().min(room));
                    line.extend_from_slice(&buffer[..take]);
                    (take + usize::from(at.is_some()), at.is_some())
                }
            };
            seen(&pipe.buffer()[..used]);
            pipe.consume(used);
            if ended_line || line.len() >= LONGEST_LINE {
                self.write_or_warn(stream, ended_line, &line);
                line.clear();
            }
        }
        if !line.is_empty() {
            self.write_or_warn(stream, true, &line);
        }
    }

    fn write_or_warn(&self, stream: &str, whole: bool, line: &[u8]) {
        if let Err(error) = self.write(stream, whole, line) {
            let path = lock(&self.inner).path.clone();
            tracing::warn!(path = %path.display(), %error, "log line lost");
        }
    }

    /// The end of the log: at most 80 lines and 2 KiB, as a termination message may have.
    pub fn last_words(&self) -> Option<String> {
        const BYTES: usize = 2048;
        const LINES: usize = 80;
        let path = lock(&self.inner).path.clone();
        let mut file = File::open(path).ok()?;
        let size = file.metadata().ok()?.len();
        // a record is at most a line and its head
        let start = size.saturating_sub((BYTES + LINES * 64) as u64);
        file.seek(SeekFrom::Start(start)).ok()?;
        let mut records = Vec::new();
        io::Read::read_to_end(&mut file, &mut records).ok()?;
        let mut lines: Vec<_> = records
            .split(|b| *b == b'\n')
            .filter_map(parse)
            .map(|record| String::from_utf8_lossy(record.text).into_owned())
            .collect();
        let mut words = lines
            .split_off(lines.len().saturating_sub(LINES))
            .join("\n");
        let mut cut = words.len().saturating_sub(BYTES);
        while !words.is_char_boundary(cut) {
            cut += 1;
        }
        words.drain(..cut);
        (!words.is_empty()).then(|| words + "\n")
    }

    /// Says that nothing more will come.
    pub fn end(&self) {
        lock(&self.inner).progress.send_modify(|p| p.ended = true);
    }
}

#[derive(Default)]
struct ContainerLogs {
    current: Option<RunLog>,
    previous: Option<RunLog>,
    waiting: String,
}

type PodKey = (String, String);

/// Where the logs of all pods of the node are. Clones share it.
#[derive(Clone, Default)]
pub struct Logs {
    pods: Arc<Mutex<HashMap<PodKey, BTreeMap<String, ContainerLogs>>>>,
}

impl Logs {
    /// Opens the log of a new run of a container; the log of the run before becomes the previous.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn start_run(
        &self,
        (namespace, pod): (&str, &str),
        container: &str,
        folder: &Path,
        restarts: i32,
    ) -> io::Result<LogWriter> {
        let (writer, log) = LogWriter::create(folder.join(format!("{restarts}.log")))?;
        let mut pods = lock(&self.pods);
        let logs = pods
            .entry((namespace.to_owned(), pod.to_owned()))
            .or_default()
            .entry(container.to_owned())
            .or_default();
        if let Some(oldest) = logs.previous.take() {
            // the file may never have been put aside
            let _ = std::fs::remove_file(rotated(&oldest.path));
            let _ = std::fs::remove_file(&oldest.path);
        }
        logs.previous = logs.current.replace(log).or_else(|| {
            // the run before was another cluster process's
            let path = folder.join(format!("{}.log", restarts - 1));
            path.exists().then(|| {
                let (_, progress) = watch::channel(Progress {
                    ended: true,
                    ..Progress::default()
                });
                RunLog { path, progress }
            })
        });
        Ok(writer)
    }

    /// Notes why a container that has no log yet waits.
    pub fn note_waiting(&self, (namespace, pod): (&str, &str), container: &str, reason: &str) {
        lock(&self.pods)
            .entry((namespace.to_owned(), pod.to_owned()))
            .or_default()
            .entry(container.to_owned())
            .or_default()
            .waiting = reason.to_owned();
    }

    /// Forgets a pod's logs.
    pub fn forget(&self, (namespace, pod): (&str, &str)) {
        lock(&self.pods).remove(&(namespace.to_owned(), pod.to_owned()));
    }

    fn find(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        previous: bool,
    ) -> Result<RunLog, NodeError> {
        let pods = lock(&self.pods);
        let logs = pods
            .get(&(namespace.to_owned(), pod.to_owned()))
            .and_then(|p| p.get(container));
        let found = logs.and_then(|l| if previous { &l.previous } else { &l.current }.clone());
        found.ok_or_else(|| {
            NodeError::BadRequest(if previous {
                format!("previous terminated container \"{container}\" in pod \"{pod}\" not found")
            } else {
                let reason = logs
                    .map(|l| l.waiting.as_str())
                    .filter(|r| !r.is_empty())
                    .unwrap_or("ContainerCreating");
                let verb = match reason {
                    "ImagePullBackOff" => "image can't be pulled",
                    "ErrImagePull" => "trying and failing to pull image",
                    other => other,
                };
                format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {verb}")
            })
        })
    }
}

impl Logs {
    /// The log of a container, see [`Node::logs`](crate::node::Node::logs).
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn read(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        options: &LogOptions,
    ) -> Result<LogStream, NodeError> {
        let log = self.find(namespace, pod, container, options.previous)?;
        let reader = Reader::open(log, options)
            .map_err(|error| NodeError::Internal(format!("reading the log: {error}")))?;
        Ok(Box::pin(futures::stream::try_unfold(reader, Reader::next)))
    }
}

/// One record of a log file.
struct Record<'a> {
    time: &'a [u8],
    whole: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = parts.next()?;
    let _stream = parts.next()?;
    let whole = parts.next()? == b"F";
    let text = parts.next()?;
    Some(Record { time, whole, text })
}

struct Reader {
    log: RunLog,
    file: BufReader<File>,
    /// What was put aside is read first.
    then: Option<BufReader<File>>,
    since: Option<jiff::Timestamp>,
    timestamps: bool,
    follow: bool,
    left: Option<u64>,
    rotations: u64,
    line: Vec<u8>,
    mid_line: bool,
}

impl Reader {
    fn open(log: RunLog, options: &LogOptions) -> io::Result<Self> {
        let rotations = log.progress.borrow().rotations;
        let newest = BufReader::new(File::open(&log.path)?);
        let (file, then) = match File::open(rotated(&log.path)) {
            Ok(older) => (BufReader::new(older), Some(newest)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (newest, None),
            Err(error) => return Err(error),
        };
        let since = options.since_time.or_else(|| {
            let seconds = options.since_seconds?;
            jiff::Timestamp::now()
                .checked_sub(jiff::SignedDuration::from_secs(seconds))
                .ok()
        });
        let mut reader = Self {
            log,
            file,
            then,
            since,
            timestamps: options.timestamps,
            follow: options.follow,
            left: options.limit_bytes,
            rotations,
            line: Vec::new(),
            mid_line: false,
        };
        if let Some(lines) = options.tail_lines {
            reader.seek_tail(lines)?;
        }
        Ok(reader)
    }

    /// Moves to the last `lines` lines.
    fn seek_tail(&mut self, lines: u64) -> io::Result<()> {
        let newest = self.then.as_mut().unwrap_or(&mut self.file);
        let (total, start) = tail_start(newest, lines)?;
        match (start, self.then.take()) {
            // enough in the newest file: leave the older one out
            (_, Some(mut newest)) if total >= lines => {
                newest.seek(SeekFrom::Start(start))?;
                self.file = newest;
            }
            (_, Some(mut newest)) => {
                newest.seek(SeekFrom::Start(0))?;
                let (_, start) = tail_start(&mut self.file, lines - total)?;
                self.file.seek(SeekFrom::Start(start))?;
                self.then = Some(newest);
            }
            (start, None) => {
                self.file.seek(SeekFrom::Start(start))?;
            }
        }
        Ok(())
    }

    /// The next chunk; waits for one when following.
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            // taken before reading, so that a write during it wakes the wait below
            let seen = *self.log.progress.borrow_and_update();
            let chunk = self.read_chunk()?;
            if !chunk.is_empty() {
                return Ok(Some((Bytes::from(chunk), self)));
            }
            if self.left == Some(0) || !self.follow {
                return Ok(None);
            }
            if seen.rotations > self.rotations {
                self.rotations = seen.rotations;
                self.file = BufReader::new(File::open(&self.log.path)?);
                continue;
            }
            if seen.ended {
                return Ok(None);
            }
            if self.log.progress.changed().await.is_err() {
                // the writer is gone: read what it wrote last, then end
                self.follow = false;
            }
        }
    }

    fn read_chunk(&mut self) -> io::Result<Vec<u8>> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK && self.left != Some(0) {
            let n = self.file.read_until(b'\n', &mut self.line)?;
            if n == 0 || self.line.last() != Some(&b'\n') {
                match self.then.take() {
                    Some(next) => {
                        self.file = next;
                        continue;
                    }
                    None => break,
                }
            }
            self.line.pop();
            let before = chunk.len();
            self.render(&mut chunk);
            self.line.clear();
            if let Some(left) = &mut self.left {
                let wrote = (chunk.len() - before) as u64;
                if wrote >= *left {
                    chunk.truncate(before + usize::try_from(*left).unwrap_or(usize::MAX));
                    *left = 0;
                } else {
                    *left -= wrote;
                }
            }
        }
        Ok(chunk)
    }

    fn render(&mut self, chunk: &mut Vec<u8>) {
        let Some(record) = parse(&self.line) else {
            return;
        };
        if let Some(since) = self.since {
            let time = std::str::from_utf8(record.time)
                .ok()
                .and_then(|t| t.parse::<jiff::Timestamp>().ok());
            if time.is_some_and(|t| t < since) {
                return;
            }
        }
        if self.timestamps && !self.mid_line {
            chunk.extend_from_slice(record.time);
            chunk.push(b' ');
        }
        chunk.extend_from_slice(record.text);
        self.mid_line = !record.whole;
        if record.whole {
            chunk.push(b'\n');
        }
    }
}

/// How many whole lines a file has, and where the last `lines` of them start.
fn tail_start(file: &mut BufReader<File>, lines: u64) -> io::Result<(u64, u64)> {
    let keep = usize::try_from(lines).unwrap_or(usize::MAX);
    let mut starts = std::collections::VecDeque::new();
    let (mut total, mut offset, mut start) = (0, 0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = file.read_until(b'\n', &mut line)?;
        if n == 0 {
            break;
        }
        offset += n as u64;
        if parse(&line).is_none_or(|r| r.whole) {
            total += 1;
            starts.push_back(start);
            if starts.len() > keep {
                starts.pop_front();
            }
            start = offset;
        }
    }
    Ok((total, starts.front().copied().unwrap_or(offset)))
}

#[cfg(test)]
#[path = "logs/tests.rs"]
mod tests;
