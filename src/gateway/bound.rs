//! What a gateway listens on, bound before anything else starts.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use super::addresses::Addresses;
use super::sockets::{self, SocketGroups};
use super::start_error::StartError;
use crate::config::Config;
use crate::monitor::http::MonitorServer;
use crate::monitor::metrics::Metrics;
use crate::monitor::readiness::Readiness;
use crate::server::steering::{self, SteeringByte};

/// Every listening socket.
pub(super) struct BoundSockets {
    pub(super) udp: SocketGroups<UdpSocket>,
    pub(super) quic_workers: usize,
    pub(super) tcp: SocketGroups<TcpListener>,
    pub(super) tls: SocketGroups<TcpListener>,
    pub(super) ws: SocketGroups<TcpListener>,
    pub(super) wss: SocketGroups<TcpListener>,
    monitor: SocketGroups<TcpListener>,
    pub(super) admin: SocketGroups<TcpListener>,
}

impl BoundSockets {
    pub(super) fn bind(config: &Config) -> Result<Self, StartError> {
        let workers = config.workers;
        let quic = config.quic.as_ref().map_or(&[][..], |quic| &quic.listen);
        let lb = config.quic.as_ref().and_then(|quic| quic.lb.as_ref());
        let byte = SteeringByte::of(lb);
        let steer = |first: &UdpSocket, workers| steering::steer(first, workers, byte);
        let (udp, quic_workers) = sockets::bind_udp("quic.listen", quic, workers, steer)?;
        sockets::warn_of_small_buffers(&udp);
        let tcp = SocketGroups::bind("tcp.listen", &config.tcp, workers)?;
        let tls = config.tls.as_ref().map_or(&[][..], |tls| &tls.listen);
        let tls = SocketGroups::bind("tcp.tls_listen", tls, workers)?;
        let websocket = config.websocket.as_ref();
        let ws = websocket.map_or(&[][..], |websocket| &websocket.listen);
        let ws = SocketGroups::bind("websocket.listen", ws, workers)?;
        let wss = websocket.and_then(|websocket| websocket.tls.as_ref()).map_or(&[][..], |tls| &tls.listen);
        let wss = SocketGroups::bind("websocket.tls_listen", wss, workers)?;
        let monitor = SocketGroups::bind("monitor.listen", config.monitor.as_slice(), 1)?;
        let admin = config.admin.listen.as_ref().map(|(address, _)| *address);
        let admin = SocketGroups::bind("admin.listen", admin.as_slice(), 1)?;
        Ok(Self { udp, quic_workers, tcp, tls, ws, wss, monitor, admin })
    }

    pub(super) fn serve_monitor(
        &mut self,
        metrics: &Metrics,
        readiness: &Arc<Readiness>,
    ) -> Result<Option<MonitorServer>, StartError> {
        let listener = self.monitor.next_worker().pop();
        let serve = |listener| MonitorServer::start(listener, metrics.clone(), Arc::clone(readiness));
        Ok(listener.map(serve).transpose()?)
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses {
            quic: self.udp.addresses(),
            tcp: self.tcp.addresses(),
            tls: self.tls.addresses(),
            ws: self.ws.addresses(),
            wss: self.wss.addresses(),
            monitor: self.monitor.addresses().pop(),
            admin: self.admin.addresses().pop(),
        }
    }
}
