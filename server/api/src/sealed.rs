//! Names of the sealed values that stand beside objects, one constant per use.
//!
//! A sealed value belongs to one object and is deleted with it. Its name is bound into the encryption, so a value cannot be
//! moved to another field.

/// `User`: the password hash, a PHC string.
pub const PASSWORD_HASH: &str = "password-hash";

/// `Token`: the hash of the token's secret half.
pub const TOKEN_HASH: &str = "token-hash";

/// `ClusterRegistrationToken`: the hash of the token.
pub const REGISTRATION_TOKEN_HASH: &str = "registration-token-hash";

/// `Cluster`: the server's own credential for the cluster, a ServiceAccount token with its expiry.
pub const SERVER_CREDENTIAL: &str = "server-credential";
