//! Container images from static binaries.
