//! Any bytes as a frame of [`Hello`](cattle_proto::handshake::Hello).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = cattle_proto::testing::check::<cattle_proto::handshake::Hello>(bytes);
});
