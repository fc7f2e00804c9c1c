//! [`Balancer`]: what a balancer on layer 4 does with UDP. It reads the server id in a connection id, by the text of
//! draft-ietf-quic-load-balancers-21 and not by the gateway's code, and sends what it cannot read where the client's address
//! leads.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};
use gateway::config::{QuicLb, QuicLbKey};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// How packets find their gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routing {
    /// By the server id; where there is none of a gateway, by the address.
    ServerId,
    /// By the client's address alone.
    Address,
}

/// Until it is dropped.
pub(crate) struct Balancer {
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Packets by how they were routed: by a server id, by the address.
    pub(crate) routed: Arc<Mutex<(usize, usize)>>,
    _task: JoinSet<()>,
}

/// Where a gateway listens, and what its ids say.
pub(crate) type Server = (SocketAddr, QuicLb);

impl Balancer {
    pub(crate) async fn start(routing: Routing, servers: Vec<Server>) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = near.local_addr().unwrap();
        let routed = Arc::new(Mutex::new((0, 0)));
        let mut task = JoinSet::new();
        task.spawn(relay(near, routing, servers, Arc::clone(&routed)));
        Self { address, routed, _task: task }
    }
}

/// Whom a client's address leads to.
pub(crate) fn by_address(client: SocketAddr, servers: usize) -> usize {
    usize::from(client.port()) % servers
}

async fn relay(
    near: Arc<UdpSocket>,
    routing: Routing,
    servers: Vec<Server>,
    routed: Arc<Mutex<(usize, usize)>>,
) {
    let mut ways: HashMap<(SocketAddr, usize), Arc<UdpSocket>> = HashMap::new();
    let mut ways_back = JoinSet::new();
    let mut buffer = vec![0; 1 << 16];
    while let Ok((read, client)) = near.recv_from(&mut buffer).await {
        let named = match routing {
            Routing::ServerId => named_server(&buffer[..read], &servers),
            Routing::Address => None,
        };
        {
            let mut routed = routed.lock().unwrap();
            if named.is_some() { routed.0 += 1 } else { routed.1 += 1 }
        }
        let server = named.unwrap_or_else(|| by_address(client, servers.len()));
        if let Entry::Vacant(way) = ways.entry((client, server)) {
            let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
            far.connect(servers[server].0).await.unwrap();
            ways_back.spawn(back(Arc::clone(&far), Arc::clone(&near), client));
            way.insert(far);
        }
        let _lost = ways[&(client, server)].send(&buffer[..read]).await;
    }
}

/// What a gateway sends to one address of a client.
async fn back(far: Arc<UdpSocket>, near: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        if let Ok(read) = far.recv(&mut buffer).await {
            let _lost = near.send_to(&buffer[..read], client).await;
        }
    }
}

/// The server whose id stands in the destination of a packet (RFC 8999 section 5).
fn named_server(packet: &[u8], servers: &[Server]) -> Option<usize> {
    let id = match packet {
        [flags, ..] if flags & 0x80 == 0 => &packet[1..],
        [_, _, _, _, _, len, rest @ ..] => rest.get(..usize::from(*len))?,
        _ => return None,
    };
    servers.iter().position(|(_, lb)| server_id(id, lb).is_some_and(|found| found == lb.server_id))
}

/// What stands in the place of the server id, of an id that has at least the length of this configuration.
fn server_id(id: &[u8], lb: &QuicLb) -> Option<Vec<u8>> {
    let length = lb.server_id.len() + lb.nonce_length;
    let text = id.get(1..=length)?;
    if id[0] >> 5 != lb.config_id {
        return None;
    }
    let mut text = match &lb.key {
        None => text.to_vec(),
        Some(key) if length == 16 => {
            let mut block = text.to_vec();
            let key = DecryptingKey::ecb(UnboundCipherKey::new(&AES_128, &key.0).unwrap()).unwrap();
            key.decrypt(&mut block, DecryptionContext::None).unwrap();
            block
        }
        Some(key) => four_passes_back(text, key),
    };
    text.truncate(lb.server_id.len());
    Some(text)
}

/// The halves as numbers of four bits for each byte of the text.
fn four_passes_back(text: &[u8], key: &QuicLbKey) -> Vec<u8> {
    let key = EncryptingKey::ecb(UnboundCipherKey::new(&AES_128, &key.0).unwrap()).unwrap();
    let aes = |block: u128| {
        let mut block = block.to_be_bytes();
        key.encrypt(&mut block).unwrap();
        u128::from_be_bytes(block)
    };
    let length = text.len();
    let nibbles: Vec<_> = text.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect();
    let number = |nibbles: &[u8]| nibbles.iter().fold(0, |number, nibble| number << 4 | u128::from(*nibble));
    let (mut left, mut right) = (number(&nibbles[..length]), number(&nibbles[length..]));
    // The left one begins with its first four bits, the right one ends with its last: they share an odd byte.
    let (left_at, right_at) = (128 - 4 * length, 128 - 8 * length.div_ceil(2));
    let tail = |pass: u128| (length as u128) << 8 | pass;
    let only = (1 << (4 * length)) - 1;
    left ^= aes(right << right_at | tail(4)) >> left_at;
    right ^= aes(left << left_at | tail(3)) >> right_at & only;
    left ^= aes(right << right_at | tail(2)) >> left_at;
    right ^= aes(left << left_at | tail(1)) >> right_at & only;
    let nibble = |at: usize| match at < length {
        true => left >> (4 * (length - 1 - at)),
        false => right >> (4 * (2 * length - 1 - at)),
    };
    (0..length).map(|at| ((nibble(2 * at) & 15) << 4 | nibble(2 * at + 1) & 15) as u8).collect()
}
