//! Connections over loopback, made before the threads begin.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};

use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// One side's connections. They are shut down when this goes, also those that a ring still holds.
#[derive(Debug, Default)]
pub struct Sockets(Vec<TcpStream>);

impl Sockets {
    pub fn iter(&self) -> impl Iterator<Item = &TcpStream> {
        self.0.iter()
    }

    pub fn get(&self, index: usize) -> &TcpStream {
        &self.0[index]
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells the other side that nothing more comes.
    pub fn finish(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|socket| socket.shutdown(Shutdown::Write))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for socket in &self.0 {
            // The other side may have been first.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Makes `count` connections to itself: what the server accepted, what the client connected; with
/// send and receive buffers of `buffer` bytes, if it is given.
pub fn pairs(count: usize, buffer: Option<usize>) -> io::Result<(Sockets, Sockets)> {
    allow_descriptors(count * 2 + 64)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (mut accepted, mut connected) = (Sockets::default(), Sockets::default());
    for _ in 0..count {
        let client = TcpStream::connect(address)?;
        let (server, _) = listener.accept()?;
        for socket in [&client, &server] {
            socket.set_nodelay(true)?;
            if let Some(bytes) = buffer {
                // The kernel doubles it for its own needs.
                sockopt::set_socket_send_buffer_size(socket, bytes / 2)?;
                sockopt::set_socket_recv_buffer_size(socket, bytes / 2)?;
            }
        }
        connected.0.push(client);
        accepted.0.push(server);
    }
    Ok((accepted, connected))
}

/// Raises the limit of open files, which is for both sides here.
fn allow_descriptors(wanted: usize) -> io::Result<()> {
    let wanted = wanted as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if maximum.is_some_and(|maximum| maximum < wanted) {
        let most = maximum.unwrap_or_default();
        let what = format!(
            "{wanted} open files are needed (two for each connection), and {most} are allowed: \
             raise the hard limit (ulimit -Hn)"
        );
        return Err(io::Error::other(what));
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?)
}
