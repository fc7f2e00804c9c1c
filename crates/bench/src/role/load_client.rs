//! One client of the load.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_wire::frame::Opcode;

use crate::error::{BenchError, Trying as _};
use crate::role::load_socket::{LoadSocket, OpeningSocket};
use crate::role::quic_client;
use crate::role::speech::{AnswerKind, Cut, Speech, kind_of};
use crate::role::work::{LoadWork, Speaks, TcpLoad};

/// Connections and logins under way at once.
const CONNECTING: usize = 64;

/// How long these take at least: a gateway admits 2,500 connections a second.
const PAUSE: Duration = Duration::from_millis(30);

/// A connected client that is signed in, where there is something to sign in to.
pub(crate) struct LoadClient {
    pub(crate) socket: LoadSocket,
    speech: Speech,
    speaks: Speaks,
    work: LoadWork,
    /// Bytes of an answer, once the first was looked at.
    answer: Option<usize>,
    /// The beginning of an answer whose end has not come.
    partial: Vec<u8>,
    /// Messages without an answer.
    pub(crate) in_flight: usize,
    /// Pushes it got, in an open loop.
    pub(crate) pushes: usize,
    /// When those of an open loop were due, the oldest first.
    pub(crate) due: VecDeque<Instant>,
    /// Answers that were none.
    pub(crate) wrong: u64,
}

impl LoadClient {
    /// Connects them all and signs them in; behind them, where it must be another, the one that publishes.
    pub(crate) fn connect_all(config: &TcpLoad) -> Result<Vec<Self>, BenchError> {
        let tls = config.tls_ca.as_deref().map(quic_client::tls).transpose()?.map(Arc::new);
        let publisher = config.speaks == Speaks::Redis;
        let mut clients = Vec::with_capacity(config.clients + 1);
        let numbers: Vec<usize> = (0..config.clients + usize::from(publisher)).collect();
        for some in numbers.chunks(CONNECTING) {
            let began = Instant::now();
            let open = |number: &usize| Opening::begin(config, *number, tls.as_ref());
            let connecting: Result<Vec<_>, _> = some.iter().map(open).collect();
            for opening in connecting? {
                clients.push(opening.finish(config)?);
            }
            std::thread::sleep(PAUSE.saturating_sub(began.elapsed()));
        }
        Ok(clients)
    }

    /// Sends one message. It is far smaller than the buffer of a socket that has room for more.
    pub(crate) fn send(&mut self) -> Result<(), BenchError> {
        self.socket.write(&self.speech.message).doing(|| "a message cannot be written".to_owned())?;
        self.in_flight += 1;
        Ok(())
    }

    /// Reads what is there and returns how many answers it held: of pushes, the pushes.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, BenchError> {
        let mut answers = 0;
        loop {
            match self.socket.read(buffer) {
                Ok(0) => return Err(BenchError::failed("the server closed a connection")),
                Ok(read) => {
                    answers += self.count(&buffer[..read])?;
                    if read < buffer.len() && !self.socket.holds_more() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).doing(|| "a connection broke".to_owned()),
            }
        }
        self.in_flight = self.in_flight.saturating_sub(answers);
        Ok(answers)
    }

    /// Whole answers among these bytes and those before them.
    fn count(&mut self, bytes: &[u8]) -> Result<usize, BenchError> {
        let joined;
        let mut rest = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            &joined
        };
        let mut answers = 0;
        while let Some(len) = self.speech.cut.len(rest).filter(|len| *len <= rest.len()) {
            let (answer, behind) = rest.split_at(len);
            answers += usize::from(self.check(answer)?);
            rest = behind;
        }
        self.partial.extend_from_slice(rest);
        Ok(answers)
    }

    /// Whether it counts. The first is looked at; the others must have its length: a refusal has another.
    fn check(&mut self, answer: &[u8]) -> Result<bool, BenchError> {
        if self.answer == Some(answer.len()) {
            return Ok(true);
        }
        let (counts, is_right) = match (self.speech.cut, self.speaks) {
            (Cut::Never, _) => (false, true),
            (Cut::Nats, _) => (answer.starts_with(b"MSG "), true),
            (Cut::Frame | Cut::WebSocket, Speaks::Gateway) => self.of_gateway(answer)?,
            (Cut::Frame, _) if self.work == LoadWork::Echo => (true, answer == self.speech.message),
            _ => (true, true),
        };
        let is_first = self.answer.is_none();
        if counts && is_right && is_first {
            self.answer = Some(answer.len());
        } else if counts || !is_right {
            self.wrong += 1;
        }
        Ok(counts)
    }

    /// Whether a frame counts, and whether it is what may come.
    fn of_gateway(&self, answer: &[u8]) -> Result<(bool, bool), BenchError> {
        if answer[0] & 0xF == Opcode::Close as u8 {
            return Err(BenchError::failed(format!("the gateway closed: {answer:?}")));
        }
        if self.work == LoadWork::Beat {
            return Ok((true, answer[0] == Opcode::Pong as u8));
        }
        Ok(match (kind_of(self.speech.cut.payload(answer)), self.work) {
            (AnswerKind::Success, LoadWork::Echo) | (AnswerKind::Push, LoadWork::Push { .. }) => (true, true),
            // To what asked for pushes.
            (AnswerKind::Success, LoadWork::Push { .. }) => (false, true),
            // A closed loop goes on behind a refusal, which the run then reports.
            _ => (self.work == LoadWork::Echo, false),
        })
    }
}

/// A connection that has sent its login and not looked for the answer.
struct Opening {
    socket: OpeningSocket,
    speech: Speech,
}

impl Opening {
    fn begin(
        config: &TcpLoad,
        number: usize,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Result<Self, BenchError> {
        let speech = Speech::new(config, number, number == config.clients)?;
        let mut socket = OpeningSocket::connect(config.target, number, number < config.stalled, tls)?;
        socket.write(&speech.upgrade).doing(|| "an upgrade cannot be written".to_owned())?;
        let mut opening = Self { socket, speech };
        if !opening.speech.upgrade.is_empty() {
            opening.await_text(b"\r\n\r\n")?;
        }
        opening.socket.write(&opening.speech.hello).doing(|| "a login cannot be written".to_owned())?;
        Ok(opening)
    }

    fn finish(mut self, config: &TcpLoad) -> Result<LoadClient, BenchError> {
        if config.speaks == Speaks::Gateway {
            self.await_login()?;
        } else {
            self.await_text(self.speech.welcome)?;
        }
        Ok(LoadClient {
            socket: self.socket.opened()?,
            speech: self.speech,
            speaks: config.speaks,
            work: config.work,
            answer: None,
            partial: Vec::new(),
            in_flight: 0,
            pushes: 0,
            due: VecDeque::new(),
            wrong: 0,
        })
    }

    /// Waits for the answer to the login.
    fn await_login(&mut self) -> Result<(), BenchError> {
        let mut seen = Vec::new();
        while self.speech.cut.len(&seen).is_none_or(|len| seen.len() < len) {
            self.read(&mut seen)?;
        }
        match kind_of(self.speech.cut.payload(&seen)) {
            AnswerKind::Success => Ok(()),
            _ => Err(BenchError::failed(format!("a login was refused: {seen:?}"))),
        }
    }

    /// Waits for what ends with a text, if with any.
    fn await_text(&mut self, text: &[u8]) -> Result<(), BenchError> {
        let mut seen = Vec::new();
        while !text.is_empty() && !seen.windows(text.len()).any(|window| window == text) {
            self.read(&mut seen)?;
        }
        Ok(())
    }

    fn read(&mut self, seen: &mut Vec<u8>) -> Result<(), BenchError> {
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer).doing(|| "no answer to a login".to_owned())? {
            0 => {
                let said = String::from_utf8_lossy(seen).into_owned();
                Err(BenchError::failed(format!("the server closed at login and had said {said:?}")))
            }
            read => {
                seen.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }
}
