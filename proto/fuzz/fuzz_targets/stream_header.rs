//! Any bytes as a frame of [`StreamHeader`](cattle_proto::stream::StreamHeader).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = cattle_proto::testing::check::<cattle_proto::stream::StreamHeader>(bytes);
});
