//! Group `ext.cattle.io/v1`: tokens and kubeconfigs.

pub mod kubeconfig;
pub mod token;

pub use kubeconfig::{Kubeconfig, KubeconfigSpec, KubeconfigStatus};
pub use token::{Token, TokenSpec, TokenStatus};
