//! How a connection begins: TCP, TLS where asked for, who we are, and what the broker speaks.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::ServerName;
use thalweg::io::tcp::TcpStream;
use thalweg::protocol::codec::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::call::{CLIENT_ID, call};
use super::features::Offer;
use super::frames::{Broken, FrameReader};
use super::security::Security;
use super::stream::Stream;
use super::tls::TlsStream;

/// The ApiVersions version that is tried first: the first that names the client.
pub const GREETING: i16 = 3;

/// On loopback what the kernel holds is in nobody's flight, only in memory: grown to its 4 MiB, it
/// leaves the caches, and is memory that a host may have taken back (decision 0009).
const LOOPBACK_SEND_BUFFER_BYTES: i32 = 512 << 10;

/// Connects to brokers, all in the same way. Clones share the names that were resolved.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    security: Security,
    /// Brokers' names by address: certificates are for names. Looked at while connecting only.
    names: Arc<Mutex<BTreeMap<SocketAddr, String>>>,
}

/// A connection that is ready for requests.
pub struct Connected {
    /// Both directions.
    pub stream: Stream,
    /// The receiving half, cut into frames.
    pub reader: FrameReader,
    /// What the broker says that it speaks, to whom it is now.
    pub answer: ApiVersionsResponse,
    /// After how many ms the broker wants to know again who we are; 0 if never.
    pub session_lifetime_ms: i64,
}

impl Dialer {
    /// Connects as `security` says.
    #[must_use]
    pub fn new(security: Security) -> Dialer {
        Dialer { security, names: Arc::default() }
    }

    /// Whether connections go under TLS, and whether they authenticate.
    #[must_use]
    pub fn secures(&self) -> (bool, bool) {
        (self.security.tls.is_some(), self.security.credentials.is_some())
    }

    /// Resolves a broker's address and remembers its name. May block: before a run.
    ///
    /// # Errors
    /// What the resolver says.
    pub fn resolve(&self, host: &str, port: u16) -> io::Result<SocketAddr> {
        let known = |(addr, name): (&SocketAddr, &String)| {
            (addr.port() == port && name == host).then_some(*addr)
        };
        if let Some(addr) = self.names().iter().find_map(known) {
            return Ok(addr);
        }
        let mut found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
        // Brokers mostly listen on IPv4; a name with both is tried there first.
        found.sort_by_key(SocketAddr::is_ipv6);
        let addr = found.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
        self.names().insert(addr, host.to_owned());
        Ok(addr)
    }

    /// Connects to `addr`, beginning with ApiVersions in version `greeting`. An answer with an
    /// error code comes back as it is, before any authentication.
    ///
    /// # Errors
    /// [`Broken::Refused`] where one side does not accept the other.
    pub async fn connect(&self, addr: SocketAddr, greeting: i16) -> Result<Connected, Broken> {
        self.greet(self.open(addr).await?, addr, greeting).await
    }

    /// The first part of [`Dialer::connect`]: a connection, under TLS where asked for, on which
    /// nothing was said.
    ///
    /// # Errors
    /// As there.
    pub async fn open(&self, addr: SocketAddr) -> Result<Stream, Broken> {
        let tcp = TcpStream::connect(addr).await?;
        if addr.ip().is_loopback() {
            tcp.set_send_buffer_bytes(LOOPBACK_SEND_BUFFER_BYTES)?;
        }
        Ok(match &self.security.tls {
            None => Stream::Plain(tcp),
            Some(config) => {
                let name = self.server_name(addr)?;
                Stream::Tls(TlsStream::connect(tcp, config.clone(), name, addr).await?)
            }
        })
    }

    /// The other part: ApiVersions, and who we are.
    ///
    /// # Errors
    /// As there.
    pub async fn greet(
        &self,
        stream: Stream,
        addr: SocketAddr,
        greeting: i16,
    ) -> Result<Connected, Broken> {
        let mut reader = FrameReader::new(stream.clone());
        let mut answer = greet(&stream, &mut reader, greeting).await?;
        let mut session_lifetime_ms = 0;
        if let Some(credentials) = &self.security.credentials
            && answer.error_code == 0
        {
            let offer = Offer::from(&answer);
            session_lifetime_ms =
                credentials.authenticate(addr, &stream, &mut reader, &offer).await?;
            // What a broker offers may depend on who asks.
            answer = greet(&stream, &mut reader, greeting).await?;
        }
        Ok(Connected { stream, reader, answer, session_lifetime_ms })
    }

    fn server_name(&self, addr: SocketAddr) -> Result<ServerName<'static>, Broken> {
        if let Some(name) = &self.security.server_name {
            return Ok(name.clone());
        }
        let Some(name) = self.names().get(&addr).cloned() else {
            return Ok(ServerName::from(addr.ip()));
        };
        let refused = |_| Broken::Refused(format!("no certificate can be for `{name}`"));
        ServerName::try_from(name.clone()).map_err(refused)
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins as Kafka's clients do; a broker may bound a connection's first frame tightly.
async fn greet(
    stream: &Stream,
    reader: &mut FrameReader,
    version: i16,
) -> Result<ApiVersionsResponse, Broken> {
    let mut request = ApiVersionsRequest::default();
    if version >= GREETING {
        request.client_software_name = CLIENT_ID.into();
        request.client_software_version = env!("CARGO_PKG_VERSION").into();
    }
    call(stream, reader, version, &request).await
}
