//! [`Nat`]: stands between a client and the gateway, and gives the client another address whenever it is told to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often a thread that waits for datagrams looks whether its work is over.
const LOOK: Duration = Duration::from_millis(200);

/// Largest datagram; loopback has no smaller bound.
const DATAGRAM: usize = 65_536;

/// What one mapping, the client behind one port, has seen.
struct Mapping {
    outside: Arc<UdpSocket>,
    /// When the first datagram left from this port.
    first_out: Option<Instant>,
    /// When the first one came back to it.
    first_in: Option<Instant>,
}

struct Shared {
    inside: UdpSocket,
    gateway: SocketAddr,
    mapping: Mutex<Mapping>,
    client: Mutex<Option<SocketAddr>>,
    last: Mutex<Instant>,
    over: AtomicBool,
}

/// See the module.
pub(crate) struct Nat {
    shared: Arc<Shared>,
}

impl Nat {
    /// Between whoever sends to [`Nat::address`] and the gateway.
    pub(crate) fn start(gateway: SocketAddr) -> io::Result<Self> {
        let inside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        inside.set_read_timeout(Some(LOOK))?;
        let shared = Arc::new(Shared {
            inside,
            gateway,
            mapping: Mutex::new(new_mapping(gateway)?),
            client: Mutex::new(None),
            last: Mutex::new(Instant::now()),
            over: AtomicBool::new(false),
        });
        let (out, back) = (shared.clone(), shared.clone());
        std::thread::spawn(move || carry_out(&out));
        let outside = held(&shared.mapping).outside.clone();
        std::thread::spawn(move || carry_back(&back, &outside));
        Ok(Self { shared })
    }

    /// Where the client finds the gateway.
    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.inside.local_addr().expect("it is bound")
    }

    /// From now on the client has another port. What the gateway sends to the old one is dropped.
    pub(crate) fn rebind(&self) -> io::Result<()> {
        let mapping = new_mapping(self.shared.gateway)?;
        let outside = mapping.outside.clone();
        *held(&self.shared.mapping) = mapping;
        let back = self.shared.clone();
        std::thread::spawn(move || carry_back(&back, &outside));
        Ok(())
    }

    /// When the client first used its present port, and when the gateway first answered there.
    pub(crate) fn first(&self) -> (Option<Instant>, Option<Instant>) {
        let mapping = held(&self.shared.mapping);
        (mapping.first_out, mapping.first_in)
    }

    /// Waits until nothing was carried for so long: no late acknowledgement is to be taken for the first packet of
    /// a new path.
    pub(crate) fn wait_for_silence(&self, length: Duration) {
        loop {
            let silent = held(&self.shared.last).elapsed();
            let Some(rest) = length.checked_sub(silent).filter(|rest| !rest.is_zero()) else { return };
            std::thread::sleep(rest);
        }
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

/// No thread panics while it holds one of these.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panicked with it")
}

fn new_mapping(gateway: SocketAddr) -> io::Result<Mapping> {
    let outside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    outside.set_read_timeout(Some(LOOK))?;
    outside.connect(gateway)?;
    Ok(Mapping { outside: Arc::new(outside), first_out: None, first_in: None })
}

fn carry_out(shared: &Shared) {
    let mut datagram = vec![0; DATAGRAM];
    while !shared.over.load(Ordering::Relaxed) {
        let Ok((length, from)) = shared.inside.recv_from(&mut datagram) else { continue };
        *held(&shared.client) = Some(from);
        *held(&shared.last) = Instant::now();
        let mut mapping = held(&shared.mapping);
        mapping.first_out.get_or_insert_with(Instant::now);
        // A gateway that is gone shows as silence.
        let _refused = mapping.outside.send(&datagram[..length]);
    }
}

/// Carries what the gateway sends to one port, and drops it once the client has another.
fn carry_back(shared: &Shared, outside: &Arc<UdpSocket>) {
    let mut datagram = vec![0; DATAGRAM];
    while !shared.over.load(Ordering::Relaxed) {
        let Ok(length) = outside.recv(&mut datagram) else { continue };
        {
            let mut mapping = held(&shared.mapping);
            if !Arc::ptr_eq(&mapping.outside, outside) {
                continue;
            }
            mapping.first_in.get_or_insert_with(Instant::now);
        }
        *held(&shared.last) = Instant::now();
        let client = *held(&shared.client);
        if let Some(client) = client {
            let _gone = shared.inside.send_to(&datagram[..length], client);
        }
    }
}
