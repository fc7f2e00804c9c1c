//! A TCP connection, plain or under TLS, as a transport with one stream.

use std::cell::RefCell;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::{LINGER, LINGER_BYTES, READ_CHUNK, SLICES_PER_WRITE};
use crate::monitor::metrics;
use crate::server::tcp_stream::TcpBased;
use crate::server::transport::{CloseDetails, Flushed, Read, Transport, Wrote};
use crate::session::outgoing::StreamId;
use crate::wire::close::CloseReason;
use crate::wire::frame::{self, Opcode};
use crate::wire::packet::Encoded;
use gateway_net::gather::{gather, poll_write_gathered};

thread_local! {
    /// Where sockets are read into: one buffer for all connections of a worker, so that an idle one has none.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_CHUNK].into_boxed_slice());
}

/// Bytes read at once from a connection that is closing.
const SINK: usize = 4096;

/// A TCP connection; `S` is the socket or TLS over it.
#[derive(Debug)]
pub(crate) struct TcpTransport<S> {
    stream: S,
    announced: bool,
    /// What [`TcpBased::taken`] said at the last look.
    taken: u64,
}

impl<S: TcpBased> TcpTransport<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { stream, announced: false, taken: 0 }
    }

    #[cfg(test)]
    pub(super) const fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// True when nothing is held back between the caller and the socket.
    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Result<bool, CloseReason> {
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(error)) => Err(end_of(&error)),
        }
    }
}

impl<S: TcpBased> TcpTransport<S> {
    /// Writes some of what the slices hold; returns how many bytes, at least one.
    pub(super) fn poll_write_slices(
        &mut self,
        slices: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, CloseReason>> {
        // What TLS holds back goes first: more is taken only once the socket took that, so it holds one write at most.
        let holds_back = self.stream.taken().is_some();
        if holds_back && !self.poll_flushed(cx)? {
            return Poll::Pending;
        }
        let stream = Pin::new(&mut self.stream);
        // A plain write of TLS takes one record after the other, a vectored one no more than it holds back.
        let polled = if holds_back {
            stream.poll_write_vectored(cx, slices)
        } else {
            poll_write_gathered(stream, slices, cx)
        };
        match polled {
            Poll::Pending => Poll::Pending,
            // Something was offered, so this is no empty write: the socket takes nothing any more.
            Poll::Ready(Ok(0)) => Poll::Ready(Err(CloseReason::PeerClosed)),
            Poll::Ready(Ok(written)) => Poll::Ready(Ok(written)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(end_of(&error))),
        }
    }

    /// Ends the connection behind these words.
    pub(super) async fn close_with(mut self, words: Bytes, details: CloseDetails) {
        if details.reason == CloseReason::SlowConsumer {
            // A peer that takes nothing would hold the socket until the kernel gives up (row D4).
            let _best_effort =
                socket2::SockRef::from(&*self.stream.socket()).set_linger(Some(Duration::ZERO));
            return;
        }
        let last_words = async {
            // Behind all that was queued: `say_why` holds only if no frame was cut off.
            self.stream.write_all(&words).await?;
            // Under TLS this is its own details first, then the FIN.
            self.stream.shutdown().await?;
            if details.lingers {
                linger(self.stream.socket()).await;
            }
            io::Result::Ok(())
        };
        // Whatever fails here, the peer is gone or does not listen.
        let _best_effort = timeout(LINGER, last_words).await;
    }
}

/// Row D9: without reading what is still coming, closing would send a reset that destroys what was written.
pub(crate) async fn linger(socket: &mut TcpStream) {
    let mut sink = vec![0; SINK];
    let mut left = LINGER_BYTES;
    while left > 0 {
        match socket.read(&mut sink).await {
            Ok(0) | Err(_) => return,
            Ok(read) => left = left.saturating_sub(read),
        }
    }
}

/// A broken connection, in the words of protocol §8.
fn end_of(error: &io::Error) -> CloseReason {
    match error.kind() {
        // The last is a FIN without TLS's own details: the session ends as with a FIN on plain TCP.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            CloseReason::PeerClosed
        }
        _ => CloseReason::PeerLost,
    }
}

impl<S: TcpBased> Transport for TcpTransport<S> {
    fn kind(&self) -> metrics::Transport {
        S::KIND
    }

    fn poll_accept(&mut self, _cx: &mut Context<'_>) -> Poll<Result<StreamId, CloseReason>> {
        if std::mem::replace(&mut self.announced, true) {
            Poll::Pending
        } else {
            Poll::Ready(Ok(StreamId::LOGIN))
        }
    }

    fn poll_read(&mut self, _stream: StreamId, cx: &mut Context<'_>) -> Poll<Result<Read, CloseReason>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) => Poll::Ready(Err(end_of(&error))),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Ok(Read::Finished)),
                Poll::Ready(Ok(())) => Poll::Ready(Ok(Read::Data(Bytes::copy_from_slice(buffer.filled())))),
            }
        })
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        match pin!(self.stream.socket().ready(Interest::READABLE)).poll(cx) {
            Poll::Ready(Ok(ready)) if ready.is_read_closed() => Poll::Ready(CloseReason::PeerClosed),
            Poll::Ready(Err(error)) => Poll::Ready(end_of(&error)),
            _ => Poll::Pending,
        }
    }

    fn poll_write(
        &mut self,
        _stream: StreamId,
        frames: &mut dyn Iterator<Item = &Encoded>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Wrote, CloseReason>> {
        // On the stack: a write allocates nothing.
        let mut slots = [IoSlice::new(&[]); SLICES_PER_WRITE];
        let slices = gather(&mut slots, frames.flat_map(Encoded::pieces));
        self.poll_write_slices(slices, cx).map_ok(Wrote::Bytes)
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Result<Flushed, CloseReason> {
        if self.stream.taken().is_none() || self.poll_flushed(cx)? {
            return Ok(Flushed::All);
        }
        let taken = self.stream.taken().unwrap_or(0);
        let before = std::mem::replace(&mut self.taken, taken);
        Ok(if taken == before { Flushed::Nothing } else { Flushed::Part })
    }

    fn open_push_stream(&mut self, _cx: &mut Context<'_>) -> StreamId {
        StreamId::LOGIN
    }

    fn finish(&mut self, _stream: StreamId) {}

    fn reset(&mut self, _stream: StreamId, _reason: CloseReason) {}

    async fn close(self, details: CloseDetails) {
        let says = details.say_why && !details.reason.payload().is_empty();
        let words = says.then(|| frame::encode(Opcode::Close, &details.reason.payload()));
        self.close_with(words.unwrap_or_default(), details).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use tokio_rustls::{TlsAcceptor, TlsConnector, client};

    use super::*;
    use crate::config::TlsIdentity;
    use crate::limits::TLS_BUFFER;
    use crate::server::tcp_stream::{CountedSocket, TlsOverTcp};
    use crate::server::tickets::Tickets;
    use crate::server::tls::{ALPN, TlsParts};

    type Ours = TcpTransport<TlsOverTcp>;

    async fn connected() -> (Ours, client::TlsStream<TcpStream>) {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let identity = TlsIdentity { chain: vec![cert.der().clone()], key };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = async {
            let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let name = "localhost".try_into().unwrap();
            TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
        };
        let tickets = Arc::new(Tickets::new(None, std::time::Instant::now()).unwrap());
        let ours = async {
            let socket = CountedSocket::new(listener.accept().await.unwrap().0);
            let certificate = rustls::sign::SingleCertAndKey::from(identity.certified_key().unwrap());
            let parts = TlsParts { certificate: Arc::new(certificate), tickets };
            TlsAcceptor::from(Arc::new(parts.config(ALPN).unwrap()))
                .accept_with(socket, |tls| tls.set_buffer_limit(Some(TLS_BUFFER)))
                .await
                .unwrap()
        };
        let (theirs, ours) = tokio::join!(theirs, ours);
        (TcpTransport::new(Box::new(ours)), theirs)
    }

    fn write<S: TcpBased>(ours: &mut TcpTransport<S>, frame: &Encoded, cx: &mut Context<'_>) -> Poll<usize> {
        ours.poll_write(StreamId::LOGIN, &mut std::iter::once(frame), cx).map(|wrote| match wrote.unwrap() {
            Wrote::Bytes(bytes) => bytes,
            Wrote::Stopped => panic!("TCP has no streams to stop"),
        })
    }

    /// Writes until nothing more is taken; returns what was.
    async fn fill<S: TcpBased>(ours: &mut TcpTransport<S>, frame: &Encoded) -> usize {
        poll_fn(|cx| {
            let mut taken = 0;
            while let Poll::Ready(wrote) = write(ours, frame, cx) {
                let held_back = ours.stream.taken().is_some();
                assert!(wrote <= TLS_BUFFER || !held_back, "one record at most is held back");
                taken += wrote;
            }
            Poll::Ready(taken)
        })
        .await
    }

    async fn flush(ours: &mut Ours) -> Flushed {
        poll_fn(|cx| Poll::Ready(ours.flush(cx).unwrap())).await
    }

    #[tokio::test]
    async fn g6_d4_tls_holds_back_one_write_at_most_and_says_when_the_socket_takes_nothing() {
        let (mut ours, mut theirs) = connected().await;
        assert_eq!(flush(&mut ours).await, Flushed::All);
        let frame = Encoded::whole(Bytes::from(vec![b'x'; 100_000]));
        let taken = fill(&mut ours, &frame).await;
        assert_eq!(flush(&mut ours).await, Flushed::Part, "since the last look");
        assert_eq!(flush(&mut ours).await, Flushed::Nothing);
        assert_eq!(flush(&mut ours).await, Flushed::Nothing);

        // What the client takes makes room, and all of it arrives without another write.
        let mut got = vec![0; taken];
        let (read, ()) = tokio::join!(theirs.read_exact(&mut got), async {
            poll_fn(|cx| match ours.flush(cx).unwrap() {
                Flushed::All => Poll::Ready(()),
                Flushed::Part | Flushed::Nothing => Poll::Pending,
            })
            .await;
        });
        assert_eq!(read.unwrap(), taken);
        assert!(got.iter().all(|byte| *byte == b'x'));
    }

    #[tokio::test]
    async fn g6_tls_is_given_no_more_while_it_holds_anything_back() {
        let (mut ours, _theirs) = connected().await;
        let frame = Encoded::whole(Bytes::from(vec![b'x'; 1000]));
        poll_fn(|cx| {
            while ours.flush(cx).unwrap() == Flushed::All {
                assert!(write(&mut ours, &frame, cx).is_ready(), "it holds back nothing");
            }
            // It would take more: a stalled client would look alive with every message that is queued for it.
            assert!(write(&mut ours, &frame, cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn d9_the_close_frame_is_followed_by_the_farewell_of_tls_and_a_fin() {
        let (ours, mut theirs) = connected().await;
        // Unread input would turn a careless close into a reset.
        theirs.write_all(b"not read by anybody").await.unwrap();
        theirs.flush().await.unwrap();
        let details = CloseDetails {
            reason: CloseReason::Draining,
            flushed: true,
            flush_by: std::time::Instant::now(),
            say_why: true,
            lingers: true,
        };
        let mut closing = pin!(ours.close(details));
        let mut got = Vec::new();
        tokio::select! {
            biased;
            () = &mut closing => panic!("it must wait for the client's end, or a reset follows"),
            // Without the details of TLS this would be an error.
            read = theirs.read_to_end(&mut got) => read.unwrap(),
        };
        assert_eq!(got, frame::encode(Opcode::Close, &CloseReason::Draining.payload()));
        let since = std::time::Instant::now();
        drop(theirs);
        closing.await;
        assert!(since.elapsed() < LINGER / 2, "the client's end is seen");
    }

    /// A pair of sockets: the gateway's and its client's.
    async fn plain() -> (TcpTransport<TcpStream>, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (TcpTransport::new(listener.accept().await.unwrap().0), theirs)
    }

    /// With a FIN the kernel would keep the unsent bytes, and the socket, for a peer that takes nothing.
    #[tokio::test]
    async fn d4_a_slow_consumer_is_reset_and_what_it_did_not_take_is_thrown_away() {
        let frame = Encoded::whole(Bytes::from(vec![b'x'; 100_000]));
        let slow = CloseDetails {
            reason: CloseReason::SlowConsumer,
            flushed: false,
            flush_by: std::time::Instant::now(),
            say_why: false,
            lingers: true,
        };
        let mut sink = Vec::new();

        let (mut ours, mut theirs) = plain().await;
        fill(&mut ours, &frame).await;
        ours.close(slow).await;
        let error = theirs.read_to_end(&mut sink).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

        let (mut ours, theirs) = connected().await;
        fill(&mut ours, &frame).await;
        ours.close(slow).await;
        let (mut theirs, _) = theirs.into_inner();
        let error = theirs.read_to_end(&mut sink).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn d9_a_peer_that_does_not_close_is_waited_for_in_time_and_in_bytes() {
        let details = CloseDetails {
            reason: CloseReason::Draining,
            flushed: true,
            flush_by: std::time::Instant::now(),
            say_why: true,
            lingers: true,
        };
        // Silent, with its side open.
        let (ours, mut theirs) = plain().await;
        let since = std::time::Instant::now();
        ours.close(details).await;
        assert!(since.elapsed() >= LINGER && since.elapsed() < LINGER * 3, "{:?}", since.elapsed());
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, frame::encode(Opcode::Close, &CloseReason::Draining.payload()));

        // Talking without an end.
        let (ours, mut theirs) = plain().await;
        let since = std::time::Instant::now();
        let talking = async {
            while theirs.write_all(&[b'x'; SINK]).await.is_ok() {}
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = ours.close(details) => {}
            () = talking => unreachable!(),
        }
        assert!(since.elapsed() < LINGER / 2, "64 KiB are enough: {:?}", since.elapsed());
    }

    #[tokio::test]
    async fn a_fin_without_the_farewell_of_tls_is_a_closed_peer_and_so_is_one_with_it() {
        for orderly in [true, false] {
            let (mut ours, mut theirs) = connected().await;
            if orderly {
                theirs.shutdown().await.unwrap();
            }
            drop(theirs);
            let read = poll_fn(|cx| ours.poll_read(StreamId::LOGIN, cx)).await;
            match read {
                Ok(Read::Finished) => assert!(orderly),
                Err(CloseReason::PeerClosed) => assert!(!orderly),
                other => panic!("{other:?}"),
            }
        }
    }
}
