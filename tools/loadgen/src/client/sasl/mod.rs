//! Authentication at the beginning of a connection: PLAIN and SCRAM, in Kafka's SaslHandshake and
//! SaslAuthenticate.
//!
//! Not here: where the password comes from (`security`). Lives on: load cores, while they connect.
//! Invariant: no password is ever printed or put into an error.
//! Callers: `dial`.

pub mod scram;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use clap::ValueEnum;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use thalweg::protocol::codec::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};

use super::call::call;
use super::error_name;
use super::features::{Offer, SASL_AUTHENTICATE, SASL_HANDSHAKE};
use super::frames::{Broken, FrameReader};
use super::stream::Stream;
use scram::{Exchange, Hash, Salted};

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub enum Mechanism {
    /// The password as it is: under TLS only, outside of tests.
    #[value(name = "PLAIN")]
    #[serde(rename = "PLAIN")]
    Plain,
    /// SCRAM with SHA-256.
    #[value(name = "SCRAM-SHA-256")]
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[value(name = "SCRAM-SHA-512")]
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    /// Its registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Who connects, and the proof.
#[derive(Clone)]
pub struct Credentials {
    /// How it is proved.
    pub mechanism: Mechanism,
    /// The name.
    pub user: String,
    password: Arc<str>,
    /// What the last connection computed from the password; looked at while connecting only.
    salted: Arc<Mutex<Option<Salted>>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} by {})", self.user, self.mechanism.name())
    }
}

impl Credentials {
    /// Credentials of `user`.
    #[must_use]
    pub fn new(mechanism: Mechanism, user: String, password: &str) -> Credentials {
        Credentials { mechanism, user, password: password.into(), salted: Arc::default() }
    }

    /// Proves to the broker at `addr` who connects. Returns after how many ms the broker wants the
    /// proof again (KIP-368); 0 if never.
    ///
    /// # Errors
    /// [`Broken::Refused`] says what the broker said.
    pub async fn authenticate(
        &self,
        addr: SocketAddr,
        stream: &Stream,
        reader: &mut FrameReader,
        offer: &Offer,
    ) -> Result<i64, Broken> {
        let mut round =
            Round { addr, credentials: self, stream, reader, version: 0, lifetime_ms: 0 };
        round.shake_hands(offer).await?;
        let hash = match self.mechanism {
            Mechanism::Plain => {
                let message = format!("\0{}\0{}", self.user, self.password);
                round.send(message.into_bytes()).await?;
                return Ok(round.lifetime_ms);
            }
            Mechanism::ScramSha256 => Hash::Sha256,
            Mechanism::ScramSha512 => Hash::Sha512,
        };
        let exchange = Exchange::new(hash, &self.user, nonce()?);
        let server_first = round.send(exchange.first().into_bytes()).await?;
        let refused = |why: String| round_refused(addr, self, &why);
        let mut known = self.salted().clone();
        let (message, end) = exchange
            .answer(&server_first, self.password.as_bytes(), &mut known)
            .map_err(refused)?;
        *self.salted() = known;
        let server_final = round.send(message.into_bytes()).await?;
        end.check(&server_final).map_err(refused)?;
        Ok(round.lifetime_ms)
    }

    fn salted(&self) -> std::sync::MutexGuard<'_, Option<Salted>> {
        self.salted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn round_refused(addr: SocketAddr, credentials: &Credentials, why: &str) -> Broken {
    let Credentials { user, mechanism, .. } = credentials;
    Broken::Refused(format!("{addr} does not let {user} in ({}): {why}", mechanism.name()))
}

fn nonce() -> Result<String, Broken> {
    let mut bytes = [0; 18];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Broken::Nonsense("the operating system gives no random bytes"))?;
    Ok(STANDARD_NO_PAD.encode(bytes))
}

/// One authentication under way.
struct Round<'a> {
    addr: SocketAddr,
    credentials: &'a Credentials,
    stream: &'a Stream,
    reader: &'a mut FrameReader,
    version: i16,
    lifetime_ms: i64,
}

impl Round<'_> {
    async fn shake_hands(&mut self, offer: &Offer) -> Result<(), Broken> {
        let lacks = |what| Broken::Refused(format!("SASL: {} does not offer {what}", self.addr));
        let handshake = offer.version(&SASL_HANDSHAKE).map_err(lacks)?;
        self.version = offer.version(&SASL_AUTHENTICATE).map_err(lacks)?;
        let mut request = SaslHandshakeRequest::default();
        request.mechanism = self.credentials.mechanism.name().into();
        let answer = call(self.stream, self.reader, handshake, &request).await?;
        let offered: Vec<&str> = answer.mechanisms.iter().map(|it| it.as_str()).collect();
        let why = match answer.error_code {
            0 => return Ok(()),
            33 => format!("this listener takes {}", offered.join(", ")),
            34 => "this listener wants no SASL".to_owned(),
            code => error_name(code),
        };
        Err(round_refused(self.addr, self.credentials, &why))
    }

    async fn send(&mut self, message: Vec<u8>) -> Result<Vec<u8>, Broken> {
        let mut request = SaslAuthenticateRequest::default();
        request.auth_bytes = message.into();
        let answer = match call(self.stream, self.reader, self.version, &request).await {
            Err(Broken::Closed) => Err("the broker closed the connection".to_owned()),
            Err(broken) => return Err(broken),
            Ok(answer) if answer.error_code != 0 => {
                let text = answer.error_message.as_ref().map_or("", |text| text.as_str());
                Err(format!("{}: {text}", error_name(answer.error_code)))
            }
            Ok(answer) => Ok(answer),
        };
        let answer = answer.map_err(|why| round_refused(self.addr, self.credentials, &why))?;
        self.lifetime_ms = answer.session_lifetime_ms;
        Ok(answer.auth_bytes.to_vec())
    }
}
