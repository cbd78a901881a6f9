//! Texts that mean more than a number: CPU lists and addresses.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::base::limits::SHARDS_MAX;

/// Reads a list of CPU ids: `0`, `0,1`, `0-3`, `0-1,4`. The order is kept.
pub(super) fn parse_cpu_list(text: &str) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let parse = |id: &str| {
            id.trim().parse::<usize>().map_err(|_| format!("{part:?} is no CPU id or range"))
        };
        let (first, last) = (parse(first)?, parse(last)?);
        if first > last {
            return Err(format!("{part:?} runs backwards"));
        }
        if last - first >= SHARDS_MAX || cpus.len() >= SHARDS_MAX {
            return Err(format!("more than {SHARDS_MAX} CPUs"));
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(format!("CPU {cpu} is listed twice"));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListenAddress {
    /// The host as it was written, without brackets.
    pub(super) host: String,
    /// The address that it means.
    pub(super) address: SocketAddr,
    /// Whether only this machine can reach it.
    pub(super) is_loopback: bool,
}

/// Reads HOST:PORT; a host name is looked up.
pub(super) fn parse_listen(text: &str) -> Result<ListenAddress, String> {
    let text = text.trim();
    let (host, port) = text.rsplit_once(':').ok_or("Expected HOST:PORT")?;
    let port: u16 = port.parse().map_err(|_| format!("{port:?} is no port"))?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err("Expected HOST:PORT; 0.0.0.0 is every IPv4 address, [::] every address".into());
    }
    let found: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?.collect();
    // A name such as localhost may have both kinds; the older one is what clients try as well.
    let address = found.iter().find(|a| a.is_ipv4()).or(found.first());
    let address = *address.ok_or_else(|| format!("{host} has no address"))?;
    let is_loopback = is_loopback(address.ip());
    Ok(ListenAddress { host: host.to_owned(), address, is_loopback })
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The host that clients are told: the one that is listened on, or this machine's name where that
/// is every address.
pub(super) fn host_for_clients(listen: &ListenAddress) -> String {
    if !listen.address.ip().is_unspecified() {
        return listen.host.clone();
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_hold_ids_and_ranges() {
        assert_eq!(parse_cpu_list("0").unwrap(), [0]);
        assert_eq!(parse_cpu_list("3, 0-1").unwrap(), [3, 0, 1]);
        for bad in ["", "a", "1-", "-1", "3-1", "0,0", "0-1,1", "0-99999999", "1,,2"] {
            assert!(parse_cpu_list(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn loopback_is_told_from_what_others_reach() {
        for (text, is_loopback) in [
            ("127.0.0.1:9092", true),
            ("127.8.8.8:0", true),
            ("[::1]:9092", true),
            ("localhost:9092", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:9092", false),
            ("[::]:9092", false),
            ("10.0.0.1:9092", false),
        ] {
            assert_eq!(parse_listen(text).unwrap().is_loopback, is_loopback, "{text}");
        }
        for bad in ["9092", ":9092", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "[]:1"] {
            assert!(parse_listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn clients_are_never_told_to_connect_to_every_address() {
        let wide = parse_listen("0.0.0.0:9092").unwrap();
        assert_ne!(host_for_clients(&wide), "0.0.0.0");
        assert_eq!(host_for_clients(&parse_listen("[::1]:1").unwrap()), "::1");
    }
}
