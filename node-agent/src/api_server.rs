//! Where this node's agent looks for its cluster's API server.

use cattle_agent::Address;

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
}
