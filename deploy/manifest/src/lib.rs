//! The import manifest.
