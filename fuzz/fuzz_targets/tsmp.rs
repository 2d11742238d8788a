#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wgengine_fuzz::tsmp::run(data));
