//! A port of this machine without a listener.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port on which connections are refused. It is bound, so no other program gets it before this is dropped. The test itself may open a
/// listener on it.
pub struct ClosedPort(TcpSocket);

impl ClosedPort {
    pub fn new() -> ClosedPort {
        let socket = TcpSocket::new_v4().unwrap();
        // Without this, a listener of the test could not share the port.
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        ClosedPort(socket)
    }

    pub fn number(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}
