use std::fmt;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context as _;

/// Every program of a control plane listens on its usual port, because the address is its own.
const PORTS: [u16; 4] = [2379, 2380, 6443, 10257];
/// Kept bound while the address is in use: whoever claims one looks here first.
const CLAIM_PORT: u16 = 16443;
const ATTEMPTS: u32 = 64;

/// An address in 127.64.0.0/10 that no other instance uses, on this machine, for as long as the value lives.
#[derive(Debug)]
pub struct LoopbackAddress {
    ip: Ipv4Addr,
    _claim: TcpListener,
}

impl LoopbackAddress {
    /// Claims a free one. A listener on a port of the address is the claim, so that parallel processes, of other users
    /// too, cannot race: between looking and using there is no gap.
    ///
    /// # Errors
    /// When none of many tries is free.
    pub fn claim() -> anyhow::Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::try_claim(random_ip()) {
                Ok(claimed) => return Ok(claimed),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt was made")?).context("no free loopback address")
    }

    /// The address.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    fn try_claim(ip: Ipv4Addr) -> std::io::Result<Self> {
        // Without root the low port cannot be bound; then an ephemeral-range port of ours serves.
        let claim = TcpListener::bind((ip, CLAIM_PORT)).or_else(|_| TcpListener::bind((ip, 16443)))?;
        for port in PORTS {
            TcpListener::bind((ip, port))?;
        }
        Ok(Self { ip, _claim: claim })
    }
}

impl fmt::Display for LoopbackAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip.fmt(formatter)
    }
}

/// Random because neighbours in sequence would meet; 22 bits from the hasher's per-process keys and a counter.
fn random_ip() -> Ipv4Addr {
    use std::hash::{BuildHasher as _, RandomState};
    let bits = RandomState::new().hash_one(std::process::id());
    let [low, middle, high, ..] = bits.to_le_bytes();
    Ipv4Addr::new(127, 64 | (high & 63), middle, low.clamp(1, 254))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_address_cannot_be_claimed_again_until_it_is_dropped() {
        let claimed = LoopbackAddress::claim().unwrap();
        let ip = claimed.ip();
        assert_eq!(ip.octets()[0], 127);
        assert!(LoopbackAddress::try_claim(ip).is_err());
        drop(claimed);
        assert!(LoopbackAddress::try_claim(ip).is_ok());
    }

    #[test]
    fn an_address_on_which_a_port_is_taken_is_not_free() {
        let ip = LoopbackAddress::claim().unwrap().ip();
        let _taken = TcpListener::bind((ip, 6443)).unwrap();
        assert!(LoopbackAddress::try_claim(ip).is_err());
    }
}
