//! Any bytes as a frame of [`HelloReply`](cattle_proto::handshake::HelloReply).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = cattle_proto::testing::check::<cattle_proto::handshake::HelloReply>(bytes);
});
