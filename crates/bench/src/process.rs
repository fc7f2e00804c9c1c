//! Processes of a run: this program again in one of its roles, and the programs that are measured beside it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cores::on_core;
use crate::error::{BenchError, Trying as _};

/// Lines that wait for the run to read them: each answers a question, so there is one.
const LINES: usize = 16;

/// How much of what a process complained is shown, bytes.
const COMPLAINT: usize = 2000;

/// Between two looks whether one has ended.
const LOOK: Duration = Duration::from_millis(10);

/// A process that ends with its handle.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    complaints: PathBuf,
}

impl Process {
    /// Starts a program on a core. What it prints as errors goes to a file in `scratch`, which must be there.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        core: Option<usize>,
        scratch: &Path,
    ) -> Result<Self, BenchError> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let complaints = scratch.join(format!("{name}-{number}.err"));
        let file = File::create(&complaints).doing(|| format!("cannot write {}", complaints.display()))?;
        command.stderr(file);
        let child = on_core(core, || command.spawn()).doing(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, complaints })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed as errors so far.
    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(&self.complaints).unwrap_or_default()
    }

    /// An error that says what it said last.
    pub(crate) fn blame(&self, what: &str) -> BenchError {
        let errors = self.errors();
        let tail = errors.char_indices().rev().map(|(at, _)| at).take(COMPLAINT).last().unwrap_or(0);
        BenchError::failed(format!("{} {what}. It says:\n{}", self.name, &errors[tail..]))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It failed, or took too long.
    pub(crate) fn finish(mut self, patience: Duration) -> Result<(), BenchError> {
        let by = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(None) if Instant::now() < by => thread::sleep(LOOK),
                Ok(None) => {
                    return Err(self.blame(&format!("did not end within {} s", patience.as_secs())));
                }
                _ => return self.must_run(),
            }
        }
    }

    /// An error if it has ended.
    pub(crate) fn must_run(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.blame(&format!("ended with {status}"))),
            Err(error) => Err(self.blame(&format!("cannot be asked whether it runs: {error}"))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// This program in one of its roles: it answers each line of JSON with one, and ends when there are no more.
#[derive(Debug)]
pub(crate) struct RoleProcess {
    process: Process,
    questions: ChildStdin,
    answers: Receiver<String>,
}

impl RoleProcess {
    /// Starts `program bench role NAME ARGUMENT` on a core. Its first line says that it is ready.
    pub(crate) fn start<A: Serialize, R: DeserializeOwned>(
        program: &Path,
        role: &str,
        argument: &A,
        core: Option<usize>,
        scratch: &Path,
        patience: Duration,
    ) -> Result<(Self, R), BenchError> {
        let argument = serde_json::to_string(argument).doing(|| "cannot write an argument".to_owned())?;
        let mut command = Command::new(program);
        command.args(["bench", "role", role, &argument]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(role, command, core, scratch)?;
        let questions = process.child.stdin.take().expect("its standard input is a pipe");
        let output = process.child.stdout.take().expect("its standard output is a pipe");
        let (sender, answers) = sync_channel(LINES);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut role = Self { process, questions, answers };
        let ready = role.answer(patience)?;
        Ok((role, ready))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask<Q: Serialize, R: DeserializeOwned>(
        &mut self,
        question: &Q,
        patience: Duration,
    ) -> Result<R, BenchError> {
        let mut line = serde_json::to_string(question).doing(|| "cannot write a question".to_owned())?;
        line.push('\n');
        if self.questions.write_all(line.as_bytes()).is_err() {
            return Err(self.process.blame("ended"));
        }
        self.answer(patience)
    }

    fn answer<R: DeserializeOwned>(&mut self, patience: Duration) -> Result<R, BenchError> {
        match self.answers.recv_timeout(patience) {
            Ok(line) => serde_json::from_str(&line)
                .map_err(|error| self.process.blame(&format!("answered {line:?} ({error})"))),
            Err(RecvTimeoutError::Timeout) => {
                Err(self.process.blame(&format!("gave no answer within {} s", patience.as_secs())))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.process.blame("ended")),
        }
    }
}
