//! Any bytes as a frame of [`ServerMessage`](cattle_proto::control::ServerMessage).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = cattle_proto::testing::check::<cattle_proto::control::ServerMessage>(bytes);
});
