//! The sockets that the process listens on: bound by it, or inherited from the process before it or from its supervisor.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

/// A listening socket that another process has bound.
#[derive(Debug)]
pub struct InheritedSocket {
    /// Name of its listener; `None` if only its address is known.
    pub name: Option<String>,
    /// The socket.
    pub socket: TcpListener,
}

impl InheritedSocket {
    /// Whether it can serve a listener. A configured port of zero matches the port that was chosen for it.
    fn serves(&self, name: &str, address: SocketAddr) -> bool {
        let Ok(bound) = self.socket.local_addr() else { return false };
        let is_named = self.name.as_deref().is_some_and(|own| own == name);
        let has_address = bound == address || (is_named && address.port() == 0 && bound.ip() == address.ip());
        has_address && (is_named || self.name.is_none())
    }
}

/// The listening sockets of the process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ListeningSockets(Arc<Mutex<Sockets>>);

#[derive(Debug, Default)]
struct Sockets {
    inherited: Vec<InheritedSocket>,
    open: Vec<(&'static str, TcpListener)>,
}

impl ListeningSockets {
    /// Creates the sockets of a process that inherits these.
    pub fn inherit(inherited: Vec<InheritedSocket>) -> Self {
        Self(Arc::new(Mutex::new(Sockets { inherited, open: Vec::new() })))
    }

    /// Returns the inherited socket of a listener, or binds one. Keeps a duplicate to pass on.
    pub(super) fn open(&self, name: &'static str, address: SocketAddr) -> io::Result<TcpListener> {
        let mut sockets = self.0.lock();
        let inherited = sockets.inherited.iter().position(|socket| socket.serves(name, address));
        let socket = match inherited {
            Some(at) => sockets.inherited.swap_remove(at).socket,
            None => TcpListener::bind(address)?,
        };
        sockets.open.push((name, socket.try_clone()?));
        Ok(socket)
    }

    /// Closes the inherited sockets that no listener needs.
    pub(super) fn close_unused(&self) {
        for unused in std::mem::take(&mut self.0.lock().inherited) {
            let address = unused.socket.local_addr().map_or_else(|error| error.to_string(), |a| a.to_string());
            tracing::warn!(address, "closed an inherited socket that is not configured");
        }
    }

    /// Closes the duplicates, so that a listener that stops closes its socket.
    pub(super) fn close(&self) {
        self.0.lock().open.clear();
    }

    /// Returns duplicates to pass on to another process, with the names of their listeners.
    ///
    /// # Errors
    /// If the process has no file left.
    pub fn duplicate(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let sockets = self.0.lock();
        sockets.open.iter().map(|(name, socket)| Ok(((*name).to_owned(), socket.try_clone()?.into()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn a_listener_gets_the_inherited_socket_of_its_name_and_address() {
        let socket = || TcpListener::bind(any_port()).expect("a port");
        let (http, admin, activated) = (socket(), socket(), socket());
        let address = |socket: &TcpListener| socket.local_addr().expect("an address");
        let bound = [address(&http), address(&admin), address(&activated)];
        let named = |name: &str, socket| InheritedSocket { name: Some(name.to_owned()), socket };
        let sockets = ListeningSockets::inherit(vec![
            named("http", http),
            named("admin", admin),
            InheritedSocket { name: None, socket: activated },
        ]);
        let open = |name, address| sockets.open(name, address).expect("a socket").local_addr().expect("an address");
        assert_eq!(open("admin", any_port()), bound[1], "a port of zero is the port of the process before");
        assert_eq!(open("https", bound[2]), bound[2], "a supervisor's socket has no name");
        assert_ne!(open("https", any_port()), bound[0], "another name");
        assert_eq!(open("http", bound[0]), bound[0]);
        let passed_on = sockets.duplicate().expect("files");
        assert_eq!(passed_on.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["admin", "https", "https", "http"]);
    }

    #[test]
    fn a_closed_socket_frees_its_address() {
        let sockets = ListeningSockets::default();
        let socket = sockets.open("http", any_port()).expect("a socket");
        let address = socket.local_addr().expect("an address");
        drop(socket);
        assert!(TcpListener::bind(address).is_err(), "the duplicate listens");
        sockets.close();
        assert!(TcpListener::bind(address).is_ok());
    }
}
