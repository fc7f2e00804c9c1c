//! From options to a connection whose tasks run.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::byte_stream::{ByteSink, ByteSource};
use crate::connect_error::ConnectError;
#[cfg(feature = "quic")]
use crate::driver::Arrived;
use crate::driver::{Driver, Heart, Source};
use crate::handle::{Client, ClientInner, StreamQueues};
use crate::handshake::{Established, establish, resolve};
use crate::options::{ConnectOptions, Transport};
use crate::pushes::{self, PushSender, Pushes};
#[cfg(feature = "quic")]
use crate::quic::QuicConnection;
use crate::state::ConnectionState;
use crate::stream::{self, FrameSink, FrameSource, WRITE_QUEUE};
#[cfg(feature = "websocket")]
use crate::websocket::WebSocketHalves;
use crate::wire::Wire;

impl Client {
    /// Connects; the login comes next. Addresses of the name are tried side by side, each a little later than the one before. Dropped halfway, nothing
    /// is left behind. `Auto` chooses the transport by itself.
    ///
    /// # Errors
    /// [`ConnectError`], which says what to try.
    pub async fn connect(options: ConnectOptions) -> Result<(Self, Pushes), ConnectError> {
        let deadline = Instant::now() + options.connect_timeout;
        let addresses = resolve(&options, deadline).await?;
        Ok(start(&options, establish(&options, &addresses, deadline).await?))
    }
}

/// Starts the tasks of a connection. Must be called on a tokio runtime.
pub(super) fn start(options: &ConnectOptions, established: Established) -> (Client, Pushes) {
    let transport = established.transport();
    match established {
        #[cfg(feature = "quic")]
        Established::Quic(QuicConnection { connection, own, streams }) => {
            let mut assembly = Assembly::new(options, Wire::Quic { connection: connection.clone(), own });
            assembly.connection = Some(connection);
            for (to, from) in streams {
                let stopped = to.stopped();
                let arrived: Arrived = Box::pin(async move { drop(stopped.await) });
                assembly.driver.arrived.push(arrived);
                assembly.add_stream(ByteSource::new(from), ByteSink::new(to));
            }
            assembly.start(options, transport)
        }
        Established::Tcp(socket) => {
            let (from, to) = socket.into_split();
            let mut assembly = Assembly::new(options, Wire::Tcp);
            assembly.add_stream(ByteSource::new(from), ByteSink::new(to));
            assembly.start(options, transport)
        }
        #[cfg(feature = "tls")]
        Established::Tls(stream) => {
            let (from, to) = tokio::io::split(*stream);
            let mut assembly = Assembly::new(options, Wire::Tcp);
            assembly.add_stream(ByteSource::new(from), ByteSink::new(to));
            assembly.start(options, transport)
        }
        #[cfg(feature = "websocket")]
        Established::WebSocket(socket) => {
            let WebSocketHalves { from, to, .. } = *socket;
            let mut assembly = Assembly::new(options, Wire::WebSocket);
            assembly.add_stream(from, to);
            assembly.start(options, transport)
        }
    }
}

/// A connection while its tasks are put together.
struct Assembly {
    state: Arc<ConnectionState>,
    pushes: Pushes,
    push_sender: PushSender,
    queues: StreamQueues,
    driver: Driver,
    #[cfg(feature = "quic")]
    connection: Option<quinn::Connection>,
}

impl Assembly {
    fn new(options: &ConnectOptions, wire: Wire) -> Self {
        let state = Arc::new(ConnectionState::new(options.dialect));
        let (push_sender, pushes) = pushes::channel(Arc::clone(&state));
        let accepts = !wire.is_one_stream() && options.push_stream;
        let driver = Driver {
            wire,
            state: Arc::clone(&state),
            queues: StreamQueues(Vec::new()),
            readers: JoinSet::new(),
            writers: JoinSet::new(),
            arrived: Vec::new(),
            signs: VecDeque::new(),
            stop: Arc::new(Notify::new()),
            pushes: accepts.then(|| push_sender.clone()),
            push_room: push_sender.room(),
        };
        Self {
            state,
            pushes,
            push_sender,
            queues: StreamQueues(Vec::new()),
            driver,
            #[cfg(feature = "quic")]
            connection: None,
        }
    }

    fn add_stream(&mut self, from: impl FrameSource + 'static, to: impl FrameSink + 'static) {
        let index = self.queues.0.len();
        let (sender, queue) = mpsc::channel(WRITE_QUEUE);
        let reader =
            stream::read(from, Arc::clone(&self.state), Some(sender.clone()), self.push_sender.clone());
        self.driver.readers.spawn(async move { (Source::Stream(index), reader.await) });
        self.driver.writers.spawn(stream::write(to, queue));
        self.queues.0.push(sender);
    }

    fn start(self, options: &ConnectOptions, transport: Transport) -> (Client, Pushes) {
        let Self { state, pushes, queues, mut driver, .. } = self;
        driver.queues = queues.clone();
        let stop = Arc::clone(&driver.stop);
        let heart = Heart { interval: options.heartbeat, kind: options.heartbeat_kind };
        let driver = AbortOnDropHandle::new(tokio::spawn(driver.run(heart)));
        let client = Client::new(ClientInner {
            state,
            queues,
            login_timeout: options.login_timeout,
            request_timeout: options.request_timeout,
            stop,
            transport,
            is_auto: AtomicBool::new(false),
            #[cfg(feature = "quic")]
            connection: self.connection,
            _driver: driver,
        });
        (client, pushes)
    }
}
