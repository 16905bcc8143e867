//! Where this node's agent looks for its cluster's API server.

use std::io;
use std::path::Path;

use cattle_agent::{Address, InvalidAddress};

/// Where the agent is told to look, each of them optional.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Places {
    /// An API server on this node.
    pub local: Option<Address>,
    /// Where this node's kubelet finds it.
    pub kubelet: Option<Address>,
    /// The service address, which needs the cluster's own network.
    pub service: Option<Address>,
}

impl Places {
    /// The addresses to try, nearest first, each once.
    #[must_use]
    pub fn addresses(self) -> Vec<Address> {
        let Self { local, kubelet, service } = self;
        let mut addresses = Vec::new();
        for address in [local, kubelet, service].into_iter().flatten() {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }
}

/// Reads the address that the init container has left; `None` when it found none.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn read_address(file: &Path) -> Result<Option<Address>, AddressFileError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AddressFileError::Read(error)),
    };
    let text = text.trim();
    if text.is_empty() { Ok(None) } else { Ok(Some(text.parse()?)) }
}

/// The file with the kubelet's API server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressFileError {
    /// It cannot be read.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    /// It holds no address.
    #[error("the file's text is {0}")]
    Address(#[from] InvalidAddress),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_comes_first_and_none_twice() {
        let address = |text: &str| Some(text.parse().unwrap());
        let shown = |places: Places| places.addresses().iter().map(Address::to_string).collect::<Vec<_>>();
        let all = Places {
            local: address("127.0.0.1:6443"),
            kubelet: address("10.0.0.1:6443"),
            service: address("10.96.0.1:443"),
        };
        assert_eq!(shown(all.clone()), ["127.0.0.1:6443", "10.0.0.1:6443", "10.96.0.1:443"]);
        let balancer = Places { kubelet: all.local.clone(), ..all };
        assert_eq!(shown(balancer), ["127.0.0.1:6443", "10.96.0.1:443"]);
        assert!(Places::default().addresses().is_empty());
    }

    #[test]
    fn a_file_holds_an_address_or_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("api-server");
        assert_eq!(read_address(&file).unwrap(), None);
        for (text, read) in [("", None), ("10.0.0.1:6443\n", Some("10.0.0.1:6443"))] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read_address(&file).unwrap(), read.map(|text| text.parse().unwrap()));
        }
        std::fs::write(&file, "https://10.0.0.1:6443").unwrap();
        assert!(read_address(&file).is_err());
    }
}
