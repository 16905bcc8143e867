//! Any bytes as a frame of [`OpenReply`](cattle_proto::stream::OpenReply).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = cattle_proto::testing::check::<cattle_proto::stream::OpenReply>(bytes);
});
