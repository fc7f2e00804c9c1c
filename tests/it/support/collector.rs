//! [`FakeCollector`]: takes spans as an OpenTelemetry collector does, over HTTP and in protobuf.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use gateway::config::HttpTarget;
use prost::Message;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::soon;

#[derive(Clone, PartialEq, Message)]
struct OtlpRequest {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OtlpResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct OtlpResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<OtlpResource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<OtlpScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct OtlpResource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<OtlpKeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct OtlpScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<OtlpKeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct OtlpKeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<OtlpAnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct OtlpAnyValue {
    #[prost(oneof = "OtlpValue", tags = "1, 3, 4")]
    value: Option<OtlpValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum OtlpValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Double(f64),
}

/// A span as it came.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedSpan {
    /// In hexadecimal digits.
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty for the first of a trace.
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) kind: i32,
    /// Nanoseconds.
    pub(crate) lasted: u64,
    /// Texts and numbers as text.
    pub(crate) attributes: BTreeMap<String, String>,
    /// The instance id of the gateway it came from.
    pub(crate) gateway: String,
}

/// See the module. Dropping it closes its listener and all connections.
pub(crate) struct FakeCollector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<ReceivedSpan>>>,
    changed: watch::Receiver<()>,
    _tasks: JoinSet<()>,
}

impl FakeCollector {
    /// Listens on a free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, changed) = watch::channel(());
        let spans = Arc::<Mutex<Vec<_>>>::default();
        let mut tasks = JoinSet::new();
        let kept = Arc::clone(&spans);
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let received = receive(stream).await;
                kept.lock().unwrap().extend(received);
                sender.send_replace(());
            }
        });
        Self { address, spans, changed, _tasks: tasks }
    }

    /// How a gateway is told about it.
    pub(crate) fn target(&self) -> (HttpTarget, String) {
        (HttpTarget::plain("127.0.0.1", self.address.port()), "/v1/traces".to_owned())
    }

    /// Awaits a span of this name for which `is_it` holds.
    pub(crate) async fn span(&self, name: &str, is_it: impl Fn(&ReceivedSpan) -> bool) -> ReceivedSpan {
        let mut changed = self.changed.clone();
        soon(format!("a span {name}"), async {
            loop {
                changed.borrow_and_update();
                let found = self.spans().into_iter().find(|span| span.name == name && is_it(span));
                if let Some(found) = found {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        })
        .await
    }

    /// All so far.
    pub(crate) fn spans(&self) -> Vec<ReceivedSpan> {
        self.spans.lock().unwrap().clone()
    }
}

/// One request of a connection.
async fn receive(stream: TcpStream) -> Vec<ReceivedSpan> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head += &line;
    }
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/x-protobuf"), "{head}");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let request = OtlpRequest::decode(&*body).unwrap();
    request.resources.into_iter().flat_map(read).collect()
}

fn read(resource: OtlpResourceSpans) -> Vec<ReceivedSpan> {
    let of_gateway = texts(resource.resource.unwrap().attributes);
    assert_eq!(of_gateway["service.name"], "gateway");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let spans = resource.scopes.into_iter().flat_map(|scope| scope.spans);
    spans
        .map(|span| ReceivedSpan {
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            name: span.name,
            kind: span.kind,
            lasted: span.end.checked_sub(span.start).expect("a span ends behind its start"),
            attributes: texts(span.attributes),
            gateway: of_gateway["service.instance.id"].clone(),
        })
        .collect()
}

fn texts(attributes: Vec<OtlpKeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<OtlpAnyValue>| match value.and_then(|value| value.value).expect("a value") {
        OtlpValue::Text(text) => text,
        OtlpValue::Integer(number) => number.to_string(),
        OtlpValue::Double(number) => number.to_string(),
    };
    attributes.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}
