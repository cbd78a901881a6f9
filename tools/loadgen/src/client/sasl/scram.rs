//! SCRAM (RFC 5802, RFC 7677), the client's side, without channel binding, as Kafka's clients
//! speak it. Pure: messages in, messages out.
//!
//! Names and passwords go as they are (no SASLprep): Kafka's brokers compare them so.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

/// More iterations would let a broker keep a load core busy for minutes.
const ITERATIONS_MAX: u32 = 1_000_000;

/// One of the two hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl Hash {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        self.hmac().digest_algorithm()
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Hash::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// The salted password and what it was made with: the costly part, the same for every connection
/// to a broker.
#[derive(Clone)]
pub struct Salted {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    password: Vec<u8>,
}

impl Salted {
    fn derive(hash: Hash, password: &[u8], salt: Vec<u8>, iterations: NonZeroU32) -> Salted {
        let mut salted = vec![0; hash.digest().output_len()];
        pbkdf2::derive(hash.pbkdf2(), iterations, &salt, password, &mut salted);
        Salted { salt, iterations, password: salted }
    }
}

/// An exchange whose first message is out.
pub struct Exchange {
    hash: Hash,
    nonce: String,
    first_bare: String,
}

/// An exchange that waits for the server's signature.
pub struct Final {
    server_key: hmac::Key,
    auth_message: String,
}

/// What a server said that ends the exchange.
pub type Refusal = String;

impl Exchange {
    /// Begins for `user` with a fresh `nonce` (printable ASCII without commas).
    #[must_use]
    pub fn new(hash: Hash, user: &str, nonce: String) -> Exchange {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Exchange { hash, first_bare: format!("n={user},r={nonce}"), nonce }
    }

    /// The first message.
    #[must_use]
    pub fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// Answers the server's first message. `known` is used if it fits, else replaced.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn answer(
        self,
        server_first: &[u8],
        password: &[u8],
        known: &mut Option<Salted>,
    ) -> Result<(String, Final), Refusal> {
        let server_first = text(server_first)?;
        if let Some(error) = field(server_first, "e") {
            return Err(format!("the broker ends the exchange: {error}"));
        }
        let odd = || "the broker's first SCRAM message cannot be read".to_owned();
        let nonce = field(server_first, "r").ok_or_else(odd)?;
        let salt = field(server_first, "s").and_then(|it| BASE64.decode(it).ok());
        let salt = salt.filter(|salt| !salt.is_empty()).ok_or_else(odd)?;
        let iterations = field(server_first, "i").and_then(|it| it.parse().ok());
        let iterations: NonZeroU32 = iterations.ok_or_else(odd)?;
        if iterations.get() > ITERATIONS_MAX {
            return Err(format!("the broker asks for {iterations} SCRAM iterations"));
        }
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the broker answers another SCRAM exchange".to_owned());
        }
        let salted = match known.take() {
            Some(known) if known.salt == salt && known.iterations == iterations => known,
            _ => Salted::derive(self.hash, password, salt, iterations),
        };
        let salted = &known.insert(salted).password;

        let key =
            |name: &str| hmac::sign(&hmac::Key::new(self.hash.hmac(), salted), name.as_bytes());
        let client_key = key("Client Key");
        let stored_key = digest::digest(self.hash.digest(), client_key.as_ref());
        // "biws" is "n,,": no channel binding.
        let without_proof = format!("c=biws,r={nonce}");
        let auth_message = format!("{},{server_first},{without_proof}", self.first_bare);
        let stored_key = hmac::Key::new(self.hash.hmac(), stored_key.as_ref());
        let signature = hmac::sign(&stored_key, auth_message.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let message = format!("{without_proof},p={}", BASE64.encode(proof));
        let server_key = hmac::Key::new(self.hash.hmac(), key("Server Key").as_ref());
        Ok((message, Final { server_key, auth_message }))
    }
}

impl Final {
    /// Whether the server knows the password, too.
    ///
    /// # Errors
    /// That it does not.
    pub fn check(&self, server_final: &[u8]) -> Result<(), Refusal> {
        let server_final = text(server_final)?;
        if let Some(error) = field(server_final, "e") {
            return Err(format!("the broker ends the exchange: {error}"));
        }
        let signature = field(server_final, "v").and_then(|it| BASE64.decode(it).ok());
        signature
            .filter(|it| hmac::verify(&self.server_key, self.auth_message.as_bytes(), it).is_ok())
            .map(|_| ())
            .ok_or_else(|| "the broker does not prove that it knows the password".to_owned())
    }
}

fn text(message: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(message).map_err(|_| "a SCRAM message that is not text".to_owned())
}

/// The value of the first field `name`.
fn field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn exchange() -> Exchange {
        Exchange::new(Hash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO".to_owned())
    }

    #[test]
    fn the_exchange_of_rfc_7677_is_spoken() {
        assert_eq!(exchange().first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let mut known = None;
        // The second time with the salted password of the first.
        for _ in 0..2 {
            let (message, end) =
                exchange().answer(SERVER_FIRST, b"pencil", &mut known).expect("answers");
            assert_eq!(
                message,
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
            );
            end.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").expect("it is the server");
            assert!(end.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=").is_err());
            let refused = end.check(b"e=invalid-proof").expect_err("refused");
            assert!(refused.contains("invalid-proof"));
        }
    }

    #[test]
    fn a_salted_password_of_another_salt_is_not_used() {
        let mut known = Some(Salted::derive(
            Hash::Sha256,
            b"pencil",
            b"other".to_vec(),
            NonZeroU32::new(4096).expect("not zero"),
        ));
        let (message, _) = exchange().answer(SERVER_FIRST, b"pencil", &mut known).expect("answers");
        assert!(message.ends_with("p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
    }

    #[test]
    fn a_server_that_answers_somebody_else_or_asks_too_much_is_refused() {
        for bad in [
            &b"r=somebodyelse,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"[..],
            b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=2000000000",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
            b"e=unknown-user",
            b"\xff",
            b"",
        ] {
            assert!(exchange().answer(bad, b"pencil", &mut None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_with_reserved_characters_is_escaped() {
        let exchange = Exchange::new(Hash::Sha512, "a=b,c", "n".to_owned());
        assert_eq!(exchange.first(), "n,,n=a=3Db=2Cc,r=n");
    }
}
