//! CRC-32C (Castagnoli), the checksum of record batches and of every structure on disk.

/// CRC-32C of `bytes`.
#[inline]
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
}

/// Continues `crc` over `bytes`: `crc32c_append(crc32c(a), b)` equals the CRC of `a` then `b`.
#[inline]
#[must_use]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    ::crc32c::crc32c_append(crc, bytes)
}

/// The CRC of `a` then `b` from the CRCs of both and the length of `b`, without reading them.
///
/// Appending n bytes multiplies a CRC by x^8n modulo the polynomial; by squaring that is one
/// multiplication for each bit set in n (the method of zlib's `crc32_combine`; the `crc32c` crate's
/// own squares whole matrices and takes 20 us).
#[must_use]
pub fn crc32c_combine(crc_a: u32, crc_b: u32, b_len: usize) -> u32 {
    let mut moved = crc_a;
    let mut left = b_len;
    // The table begins at x^(2^0); a byte is x^(2^3).
    for power in POWERS.iter().skip(3) {
        if left == 0 {
            break;
        }
        if left & 1 == 1 {
            moved = multiply(*power, moved);
        }
        left >>= 1;
    }
    moved ^ crc_b
}

/// Castagnoli's polynomial, reflected: bit 31 is x^0.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// x^(2^k) modulo the polynomial; enough of them for any length of memory.
const POWERS: [u32; 67] = {
    let mut powers = [1 << 30; 67];
    let mut k = 1;
    while k < powers.len() {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

/// The product of two polynomials modulo the polynomial, all reflected.
const fn multiply(a: u32, b: u32) -> u32 {
    let mut product = 0;
    let mut term = b;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        // Masks instead of branches: the bits are as good as random.
        product ^= term & ((a >> bit) & 1).wrapping_neg();
        term = (term >> 1) ^ (POLYNOMIAL & (term & 1).wrapping_neg());
    }
    product
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_of_rfc_3720_holds() {
        assert_eq!(super::crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(super::crc32c_append(super::crc32c(b"1234"), b"56789"), 0xE306_9283);
    }

    #[test]
    fn combining_gives_the_crc_of_the_whole() {
        let bytes: Vec<u8> =
            (0..100_000u32).map(|idx| (idx.wrapping_mul(idx) >> 3) as u8).collect();
        for at in [0, 1, 7, 40, 4096, 65_537, 99_999, 100_000] {
            let (a, b) = bytes.split_at(at);
            let combined = super::crc32c_combine(super::crc32c(a), super::crc32c(b), b.len());
            assert_eq!(combined, super::crc32c(&bytes), "{at}");
        }
    }
}
