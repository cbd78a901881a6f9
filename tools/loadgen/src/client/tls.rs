//! TLS over the load core's own connections: rustls knows the protocol and does no I/O, the ring
//! moves the bytes.
//!
//! One task receives and one sends, on one core. Neither holds the session while it waits. What the
//! session wants to say by itself (an answer to a key update) leaves with the next send.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_lite::future;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, Error};
use thalweg::io::tcp::TcpStream;

use super::frames::Broken;

/// Most that one receive takes of the encrypted bytes.
const RECEIVE_BYTES_MAX: usize = 256 * 1024;
/// A broker that takes the first message for the length of a frame waits for the rest of it.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// Plain bytes that the session takes at once: three records of the largest size, below its bound.
const PLAIN_BYTES_MAX: usize = 3 * 16 * 1024;

/// A connection under TLS.
#[derive(Clone)]
pub struct TlsStream(Rc<Shared>);

struct Shared {
    tcp: TcpStream,
    session: RefCell<ClientConnection>,
    /// Encrypted bytes come here; out of its place while the kernel has it.
    incoming: Cell<BytesMut>,
    /// The memory of the last send.
    outgoing: Cell<BytesMut>,
}

impl TlsStream {
    /// Shakes hands over `tcp` with the server that `name` names, at `addr`.
    ///
    /// # Errors
    /// [`Broken::Refused`] says why one side does not accept the other.
    pub async fn connect(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        addr: SocketAddr,
    ) -> Result<TlsStream, Broken> {
        let session = ClientConnection::new(config, name)
            .map_err(|error| Broken::Refused(format!("TLS with {addr}: {error}")))?;
        let stream = TlsStream(Rc::new(Shared {
            tcp,
            session: RefCell::new(session),
            incoming: Cell::new(BytesMut::with_capacity(RECEIVE_BYTES_MAX)),
            outgoing: Cell::default(),
        }));
        let late = async {
            glommio::timer::sleep(HANDSHAKE_WAIT).await;
            Err(Broken::Refused(format!(
                "{addr} says nothing in the TLS handshake: does this listener speak TLS?"
            )))
        };
        future::or(stream.shake_hands(addr), late).await?;
        Ok(stream)
    }

    /// Protocol version and cipher suite, as agreed.
    #[must_use]
    pub fn agreed(&self) -> Option<String> {
        let session = self.0.session.borrow();
        let suite = session.negotiated_cipher_suite()?.suite();
        Some(format!("{:?} {suite:?}", session.protocol_version()?))
    }

    async fn shake_hands(&self, addr: SocketAddr) -> Result<(), Broken> {
        loop {
            self.send_slices(&[]).await?;
            if !self.0.session.borrow().is_handshaking() {
                return Ok(());
            }
            let mut nothing = BytesMut::new();
            match self.receive(&mut nothing, RECEIVE_BYTES_MAX).await {
                Ok(true) => {}
                // What rustls says has words inside, what the kernel says has not.
                Err(error) if error.get_ref().is_some() => {
                    // The broker's log should tell, too; it may be gone already.
                    let _ = self.send_slices(&[]).await;
                    return Err(Broken::Refused(format!("TLS with {addr}: {error}")));
                }
                Ok(false) | Err(_) => {
                    return Err(Broken::Refused(format!(
                        "{addr} closed the connection in the TLS handshake: does this listener \
                         speak TLS?"
                    )));
                }
            }
        }
    }

    /// See [`super::stream::Stream::recv`].
    ///
    /// # Errors
    /// What the kernel says, or what is wrong with the peer's TLS.
    pub async fn recv(&self, mut buf: BytesMut, len_max: usize) -> (io::Result<usize>, BytesMut) {
        let before = buf.len();
        loop {
            match self.receive(&mut buf, len_max.min(RECEIVE_BYTES_MAX)).await {
                Ok(true) if buf.len() == before => {} // not a whole record yet
                Ok(_) => return (Ok(buf.len() - before), buf),
                Err(error) => return (Err(error), buf),
            }
        }
    }

    /// Receives once and appends what could be decrypted; false at the end of the stream.
    async fn receive(&self, plain: &mut BytesMut, len_max: usize) -> io::Result<bool> {
        let incoming = self.0.incoming.take();
        let (result, mut incoming) = self.0.tcp.recv(incoming, len_max).await;
        let result = match result {
            Ok(0) => Ok(false),
            Ok(_) => self.decrypt(&incoming, plain),
            Err(error) => Err(error),
        };
        incoming.clear();
        self.0.incoming.set(incoming);
        result
    }

    fn decrypt(&self, mut incoming: &[u8], plain: &mut BytesMut) -> io::Result<bool> {
        let mut session = self.0.session.borrow_mut();
        let mut open = true;
        while !incoming.is_empty() {
            if session.read_tls(&mut incoming)? == 0 {
                break;
            }
            let state = session.process_new_packets().map_err(explained)?;
            open &= !state.peer_has_closed();
            // The session holds 16 KiB of plain bytes at most.
            let mut left = state.plaintext_bytes_to_read();
            let mut reader = session.reader();
            while left > 0 {
                let chunk = reader.fill_buf()?;
                let len = chunk.len();
                plain.extend_from_slice(chunk);
                reader.consume(len);
                left = left.saturating_sub(len.max(1));
            }
        }
        // What came before the end comes first; the end is seen again by the next receive.
        Ok(open || !plain.is_empty())
    }

    /// See [`super::stream::Stream::send_slices`].
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn send_slices(&self, slices: &[Bytes]) -> io::Result<()> {
        let mut out = self.0.outgoing.take();
        {
            let mut session = self.0.session.borrow_mut();
            for chunk in slices.iter().flat_map(|slice| slice.chunks(PLAIN_BYTES_MAX)) {
                session.writer().write_all(chunk)?;
                flush(&mut session, &mut out)?;
            }
            flush(&mut session, &mut out)?;
        }
        if out.is_empty() {
            self.0.outgoing.set(out);
            return Ok(());
        }
        let frame = out.freeze();
        self.0.tcp.send_slices(vec![frame.clone()]).await?;
        if let Ok(mut out) = frame.try_into_mut() {
            out.clear();
            self.0.outgoing.set(out);
        }
        Ok(())
    }
}

fn flush(session: &mut ClientConnection, out: &mut BytesMut) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(&mut out.writer())?;
    }
    Ok(())
}

/// The error with what to do about it.
fn explained(error: Error) -> io::Error {
    let hint = match &error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "; it is signed by none of the trusted authorities (--tls-ca)"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "; --tls-server-name expects another name",
        Error::InvalidMessage(_) => "; does this listener speak TLS?",
        Error::AlertReceived(_) => "; the broker's log says more (--tls-cert, --tls-key?)",
        _ => "",
    };
    io::Error::new(io::ErrorKind::InvalidData, format!("{error}{hint}"))
}
