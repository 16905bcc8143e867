//! Any bytes as a frame of [`AgentMessage`](cattle_proto::control::AgentMessage).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = cattle_proto::testing::check::<cattle_proto::control::AgentMessage>(bytes);
});
