//! The length prefix before every request and response.

/// Bytes of the length prefix.
pub const FRAME_PREFIX_BYTES: usize = 4;

/// The shortest request: api key, version, correlation id. Shorter frames are no requests.
const REQUEST_BYTES_MIN: i32 = 8;

/// Why no frame follows a prefix. The connection closes; the text is for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Negative, or too short for a request header.
    #[error("frame length {0} is too small for a request")]
    TooSmall(i32),
    /// Longer than this connection may send now.
    #[error("frame length {len} is over the limit of {max} bytes")]
    TooLarge {
        /// The length announced, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The peer starts a TLS handshake on a listener without TLS.
    #[error("a TLS handshake on a plaintext listener: is the client set to SSL?")]
    Tls,
    /// The peer speaks HTTP.
    #[error("an HTTP request on a Kafka listener")]
    Http,
}

/// The length of the frame that `prefix` announces, in bytes, without the prefix. At most `max`:
/// nothing is allocated or awaited for a longer one.
///
/// # Errors
/// [`FrameError`]; TLS and HTTP are recognised by their first bytes, which read as lengths over
/// 350 MB.
pub fn frame_len(prefix: [u8; FRAME_PREFIX_BYTES], max: usize) -> Result<usize, FrameError> {
    let announced = i32::from_be_bytes(prefix);
    let len = match usize::try_from(announced) {
        Ok(len) if announced >= REQUEST_BYTES_MIN => len,
        _ => return Err(FrameError::TooSmall(announced)),
    };
    if len <= max {
        return Ok(len);
    }
    Err(match &prefix {
        // A TLS record of type handshake (22), version 3.x.
        [0x16, 0x03, 0x00..=0x04, _] => FrameError::Tls,
        b"GET " | b"POST" | b"HEAD" | b"PUT " | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"TRAC"
        | b"PRI " => FrameError::Http,
        _ => FrameError::TooLarge { len, max },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100 * 1024 * 1024;

    fn len(announced: i32) -> Result<usize, FrameError> {
        frame_len(announced.to_be_bytes(), MAX)
    }

    #[test]
    fn cases_1_to_6_lengths_that_no_request_has_are_refused_at_once() {
        for announced in [-1, i32::MIN, 0, 1, 7] {
            assert_eq!(len(announced), Err(FrameError::TooSmall(announced)));
        }
        assert!(matches!(len(i32::MAX), Err(FrameError::TooLarge { .. })));
        assert!(matches!(len(MAX as i32 + 1), Err(FrameError::TooLarge { .. })));
        assert_eq!(len(MAX as i32), Ok(MAX));
        assert_eq!(len(8), Ok(8));
    }

    #[test]
    fn cases_10_and_11_tls_and_http_are_named() {
        assert_eq!(frame_len([0x16, 3, 1, 2], MAX), Err(FrameError::Tls));
        assert_eq!(frame_len(*b"GET ", MAX), Err(FrameError::Http));
        assert_eq!(frame_len(*b"POST", MAX), Err(FrameError::Http));
    }
}
